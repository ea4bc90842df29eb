//! The words of the command line as clap takes them, and as the documents show them.

use clap::CommandFactory;

use super::*;

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Args::command().debug_assert();
}

/// The commands that a text shows, `$ ` and remarks left out; an ellipsis stands for more words.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().flat_map(|line| line.split('`'));
    let shown = lines.filter_map(|part| {
        let part = part.split(" #").next().unwrap_or_default();
        let part = part.rsplit("$ ").next().unwrap_or_default().trim();
        let words: Vec<&str> = part.split(' ').filter(|word| *word != "…").collect();
        (words.first() == Some(&"omsg") && words.len() > 1).then_some(words)
    });
    shown.collect()
}

#[test]
fn every_command_that_loads_a_bus_can_be_typed_as_it_is_documented() {
    let readme = include_str!("../../README.md");
    let (_, bench) = readme.split_once("## bench").expect("a chapter");
    let (bench, _) = bench.split_once("## config").expect("the next");
    for (text, least) in [(include_str!("../../../../docs/load.md"), 20), (bench, 12)] {
        let commands = commands(text);
        assert!(commands.len() >= least, "{}", commands.len());
        for words in commands.iter().filter(|words| words.len() > 2) {
            // Quotes are the shell's.
            let words = words.iter().filter(|word| !word.contains(['\'', '"']));
            let words: Vec<&&str> = words.collect();
            match Args::of(words.iter().copied()) {
                Ok(_) => {}
                Err(fault) if !fault.use_stderr() => {}
                Err(fault) => panic!("{words:?}: {fault}"),
            }
        }
    }
}

#[test]
fn the_load_guide_names_every_option_of_the_load_generator() {
    let guide = include_str!("../../../../docs/load.md");
    let command = Args::command();
    for name in ["bench", "bench-server"] {
        let command = command.find_subcommand(name).expect("it is a command");
        for option in command
            .get_arguments()
            .filter(|option| !option.is_hide_set())
        {
            let Some(long) = option.get_long() else {
                continue;
            };
            // What others have, too, needs no guide.
            let known = ["help", "exchange"].contains(&long);
            assert!(known || guide.contains(&format!("--{long}")), "--{long}");
        }
    }
}

#[test]
fn seconds_take_fractions_and_refuse_what_no_clock_can_hold() {
    assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
    for bad in ["0", "-1", "NaN", "inf", "1e300", "soon", ""] {
        assert!(seconds(bad).is_err(), "{bad}");
    }
    assert_eq!(seconds_or_zero("0"), Ok(Duration::ZERO));
}

#[test]
fn files_and_directories_keep_the_order_typed_wherever_they_stand() {
    let sources = |line: &str| match Args::of(line.split(' ')) {
        Ok(args) => args.global.sources,
        Err(fault) => panic!("{fault}"),
    };
    let (file, dir) = (
        |name: &str| Source::File(name.into()),
        |name: &str| Source::Dir(name.into()),
    );
    assert_eq!(
        sources("omsg --config-file a --config-dir b --config-file c config"),
        [file("a"), dir("b"), file("c")]
    );
    assert_eq!(
        sources("omsg call t m --config-dir b --json --config-file=c"),
        [dir("b"), file("c")]
    );
    assert!(sources("omsg config").is_empty());
}

#[test]
fn flags_of_all_commands_may_stand_before_and_after_the_command() {
    let parse = |line: &str| Args::try_parse_from(line.split(' ')).is_ok();
    assert!(parse(
        "omsg --json --url memory:// call t m a=1 b=-2 --retry -1"
    ));
    assert!(parse("omsg call t m --version 1.3 --json --url memory://"));
    assert!(!parse("omsg call t"));
    assert!(!parse("omsg -v -q demo"));
}
