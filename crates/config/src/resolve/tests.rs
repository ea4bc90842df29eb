use super::*;
use crate::value::{Multi, Secret};

crate::options! {
    /// The group without a name.
    #[derive(Debug, Clone)]
    pub struct MainConfig in "DEFAULT" {
        /// Bus.
        url: Secret = Secret::new("rabbit://"), secret();
        /// Own address.
        host: String = "localhost".to_owned();
        /// Drivers.
        driver: Multi = Multi::default(), was(&[("", "notification_driver"), ("notify", "driver")]);
    }
}

crate::options! {
    /// A group.
    #[derive(Debug, Clone)]
    pub struct LampConfig in "lamp" {
        /// Level.
        level: u32 = 5, max(9.0), was(&[("", "brightness"), ("old_lamp", "level")]);
        /// On.
        on: bool = false, retiring("lamps are always on");
        /// Name.
        name: String = String::new();
        /// Delay.
        delay: f64 = 1.5;
        /// Topics.
        topics: Vec<String> = vec!["notifications".to_owned()];
    }
}

const TABLES: &[Table] = &[MainConfig::TABLE, LampConfig::TABLE];

struct Read {
    main: MainConfig,
    lamp: LampConfig,
    report: Report,
}

fn read_with(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Read {
    let mut sources = Sources::new();
    for (name, text) in files {
        sources.text(*name, text).unwrap();
    }
    sources.environment(
        variables
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
    );
    let mut resolver = Resolver::new(&sources, TABLES);
    Read {
        main: resolver.load(),
        lamp: resolver.load(),
        report: resolver.finish(),
    }
}

fn read(text: &str) -> Read {
    read_with(&[("a.conf", text)], &[])
}

fn lamp_name(text: &str) -> Result<String, String> {
    let read = read(text);
    match read.report.errors().first() {
        Some(error) => Err(error.to_string()),
        None => Ok(read.lamp.name),
    }
}

#[test]
fn the_last_file_wins_and_the_last_line_in_it() {
    let one = "[lamp]\nlevel = 1\nname = one\n";
    let two = "[lamp]\nlevel = 2\n[LAMP]\nlevel = 3\n";
    let read = read_with(&[("1.conf", one), ("2.conf", two)], &[]);
    assert_eq!((read.lamp.level, read.lamp.name.as_str()), (3, "one"));
    assert_eq!(read.report.origin("lamp", "level").to_string(), "2.conf:4");
    assert_eq!(read.report.origin("lamp", "name").to_string(), "1.conf:3");
    assert_eq!(*read.report.origin("lamp", "delay"), Origin::Default);
}

#[test]
fn the_environment_wins_over_files_and_is_named_in_errors() {
    let file = [("a.conf", "[lamp]\nlevel = 1\n")];
    let read = read_with(
        &file,
        &[("OS_LAMP__LEVEL", "2"), ("OS_DEFAULT__HOST", "$lamp.level")],
    );
    assert_eq!((read.lamp.level, read.main.host.as_str()), (2, "2"));
    assert_eq!(
        read.report.origin("lamp", "level").to_string(),
        "environment variable OS_LAMP__LEVEL"
    );
    let read = read_with(&file, &[("OS_LAMP__LEVEL", "10")]);
    let error = read.report.errors()[0].to_string();
    assert!(
        error.starts_with(
            "environment variable OS_LAMP__LEVEL: in [lamp] option level cannot be \"10\""
        ),
        "{error}"
    );
}

#[test]
fn a_multi_valued_option_has_the_values_of_all_files_in_their_order() {
    let one = "[DEFAULT]\ndriver = a\ndriver = b\n[notify]\ndriver = z\n";
    let two = "[DEFAULT]\nnotification_driver = c\ndriver = d\n";
    let read = read_with(&[("1.conf", one), ("2.conf", two)], &[]);
    assert_eq!(*read.main.driver, ["z", "a", "b", "c", "d"]);
    assert_eq!(read.report.warnings().len(), 2);
    let read = read_with(&[("1.conf", one)], &[("OS_DEFAULT__DRIVER", "log")]);
    assert_eq!(*read.main.driver, ["log"]);
}

#[test]
fn former_names_and_groups_count_and_are_warned_of_once() {
    for text in [
        "[lamp]\nbrightness = 7\nbrightness = 8\n",
        "[old_lamp]\nlevel = 8\n",
    ] {
        let read = read(text);
        assert_eq!(read.lamp.level, 8, "{text}");
        assert_eq!(read.report.warnings().len(), 1, "{text}");
        let warning = read.report.warnings()[0].to_string();
        assert!(
            warning.contains("deprecated; write level in [lamp]"),
            "{warning}"
        );
    }
    let both = read("[lamp]\nlevel = 1\nbrightness = 7\n");
    assert_eq!((both.lamp.level, both.report.warnings().len()), (1, 0));
    let later = read_with(
        &[
            ("1.conf", "[lamp]\nlevel = 1\n"),
            ("2.conf", "[lamp]\nbrightness = 7\n"),
        ],
        &[],
    );
    assert_eq!((later.lamp.level, later.report.warnings().len()), (7, 1));
}

#[test]
fn an_option_that_will_go_is_warned_of_when_set() {
    assert!(read("[lamp]\n").report.warnings().is_empty());
    let warned = read("[lamp]\non = yes\n");
    assert!(warned.lamp.on);
    assert!(
        warned.report.warnings()[0]
            .to_string()
            .contains("lamps are always on")
    );
}

#[test]
fn references_reach_the_own_group_then_the_default_one_then_any() {
    let text = "[lamp]\nname = $level-${y}-$other.z-$host\nlevel = 1\nhost = no option\n\
        [DEFAULT]\nx = 2\ny = $x\nhost = h\n[other]\nz = $x4\nx4 = 4\n";
    assert_eq!(lamp_name(text), Ok("1-2-4-h".into()));
    assert_eq!(
        lamp_name("[lamp]\nname = $$x \\$x $5\n"),
        Ok("$x $x $5".into())
    );
}

#[test]
fn references_to_typed_options_give_what_python_would_print() {
    let text = "[lamp]\nname = $on|$level|$delay|$topics|$host|$brightness\non = yes\nlevel = 07\ntopics = a, b\n";
    assert_eq!(
        lamp_name(text),
        Ok("True|7|1.5|['a', 'b']|localhost|7".into())
    );
}

#[test]
fn an_undefined_reference_is_an_error_with_its_place() {
    let error = lamp_name("[lamp]\nname = $nobody\n").unwrap_err();
    assert!(
        error.starts_with("a.conf:2: [lamp] name refers to $nobody"),
        "{error}"
    );
    let error = lamp_name("[lamp]\nname = $x\n[DEFAULT]\nx = $nobody\n").unwrap_err();
    assert!(
        error.starts_with("a.conf:4: [DEFAULT] x refers to $nobody"),
        "{error}"
    );
}

#[test]
fn a_circle_of_references_is_an_error_that_shows_the_way() {
    let error = lamp_name("[lamp]\nname = $x\n[DEFAULT]\nx = $y\ny = $x\n").unwrap_err();
    assert!(
        error.contains("DEFAULT.x → DEFAULT.y → DEFAULT.x"),
        "{error}"
    );
    let error = lamp_name("[lamp]\nname = <$name>\n").unwrap_err();
    assert!(error.contains("lamp.name → lamp.name"), "{error}");
}

#[test]
fn a_secret_is_not_in_errors_and_hides_what_it_is_put_into() {
    let bad = read("[DEFAULT]\nurl = rabbit://u:pa$word@h\n");
    let error = bad.report.errors()[0].to_string();
    assert!(
        !error.contains("word@") && !error.contains("$word"),
        "{error}"
    );
    let taken = read(
        "[DEFAULT]\nurl = hunter2\n[lamp]\nname = $url\nlevel = $url\ndelay = $admin_password\n[DEFAULT]\nadmin_password = x9\n",
    );
    assert_eq!(taken.lamp.name, "hunter2");
    assert!(taken.report.is_hidden("lamp", "name"));
    for error in taken.report.errors() {
        assert!(
            !error.to_string().contains("hunter2") && !error.to_string().contains("x9"),
            "{error}"
        );
    }
    assert_eq!(taken.report.errors().len(), 2);
    assert_eq!(taken.main.texts("url").unwrap(), ["***"]);
}

#[test]
fn nothing_behind_the_sign_leaves_a_number_at_its_default() {
    let empty = read("[lamp]\nlevel =\nname =\n[DEFAULT]\nhost = <$lamp.level>\n");
    assert_eq!(
        (
            empty.lamp.level,
            empty.lamp.name.as_str(),
            empty.main.host.as_str()
        ),
        (5, "", "<>")
    );
    assert!(
        empty.report.warnings()[0]
            .to_string()
            .contains("a.conf:2: [lamp] level is empty")
    );
    assert!(!read("[lamp]\non =\n").report.errors().is_empty());
}

#[test]
fn all_errors_are_reported_and_unknown_keys_are_left_alone() {
    let many = read("[lamp]\nlevel = x\non = x\nwhatever = $nobody\n[elsewhere]\ny = $nobody\n");
    assert_eq!(many.report.errors().len(), 2);
}

#[test]
fn what_the_program_sets_gives_way_to_everything() {
    let mut sources = Sources::new();
    sources
        .set_default("lamp", "level", "3")
        .set_default("lamp", "name", "p");
    sources.text("a.conf", "[lamp]\nname = f\n").unwrap();
    let mut resolver = Resolver::new(&sources, TABLES);
    let lamp: LampConfig = resolver.load();
    let report = resolver.finish();
    assert_eq!((lamp.level, lamp.name.as_str()), (3, "f"));
    assert_eq!(*report.origin("lamp", "level"), Origin::Program);
}

#[test]
fn a_name_that_no_option_has_is_refused_with_its_likeness() {
    let refusal = LampConfig::default()
        .set("levels", &["1".to_owned()])
        .unwrap_err();
    assert!(
        refusal.to_string().contains("did you mean level?"),
        "{refusal}"
    );
}

#[test]
fn references_beyond_all_measure_are_an_error_and_take_no_time() {
    let chain = |arms: &str| {
        let mut text = String::from("[lamp]\nname = $x0\n[DEFAULT]\n");
        for step in 0..60 {
            let next = arms.replace('#', &format!("${{x{}}}", step + 1));
            text.push_str(&format!("x{step} = {next}\n"));
        }
        text + "x60 =\n"
    };
    assert_eq!(lamp_name(&chain("#")), Ok(String::new()));
    assert!(
        lamp_name(&chain("##"))
            .unwrap_err()
            .contains("more options")
    );
    let deep: String = (0..50_000)
        .map(|step| format!("y{step} = $y{}\n", step + 1))
        .collect();
    let error = lamp_name(&format!("[lamp]\nname = $y0\n[DEFAULT]\n{deep}")).unwrap_err();
    assert!(error.contains("more options"), "{error}");
    let long = "a".repeat(600_000);
    let error = lamp_name(&format!("[lamp]\nname = $z$z\n[DEFAULT]\nz = {long}\n")).unwrap_err();
    assert!(error.contains("longer values"), "{error}");
}
