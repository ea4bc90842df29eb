//! Documents printed from the tables of options: a sample file, and the reference of them all.

use std::fmt::Write;

use oslo_messaging_config::table::{OptionInfo, Table};

use crate::config::TABLES;

/// What stands before the tables in the reference.
const INTRODUCTION: &str = include_str!("introduction.md");
/// Columns of text in a sample.
const WIDTH: usize = 100;

/// A sample file: every option with its meaning, as a comment with its default.
///
/// ```
/// let sample = oslo_messaging::config::sample();
/// assert!(sample.contains("\n#rpc_response_timeout = 60\n"));
/// ```
pub fn sample() -> String {
    let mut text = String::from(
        "# Every option of oslo-messaging, with its default. Written by `omsg config sample`.\n\
         # Options marked \"Rust only\" are unknown to Python's oslo.messaging, which leaves them alone.\n",
    );
    for table in TABLES {
        let _ = writeln!(text, "\n[{}]", table.group);
        for option in table.options {
            text.push('\n');
            for line in wrapped(&meaning(option)) {
                let _ = writeln!(text, "# {line}");
            }
            for line in notes(table, option).iter().flat_map(|note| wrapped(note)) {
                let _ = writeln!(text, "# {line}");
            }
            let mut defaults = option.default_texts();
            match option.sample {
                Some(sample) => defaults = vec![sample.to_owned()],
                None if defaults.is_empty() => defaults.push(String::new()),
                None => {}
            }
            for default in defaults {
                let line = format!("#{} = {default}", option.name);
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
    }
    text
}

/// The reference of all options, in Markdown; `docs/config.md` is this text.
///
/// ```
/// let reference = oslo_messaging::config::reference();
/// assert!(reference.contains("| `control_exchange` |"));
/// ```
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for table in TABLES {
        let _ = write!(
            text,
            "\n### [{}]\n\n| option | type | default | meaning |\n| --- | --- | --- | --- |\n",
            table.group
        );
        for option in table.options {
            let mut about = vec![meaning(option)];
            about.extend(notes(table, option).into_iter().skip(1));
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                option.name,
                takes(option).replace('|', "\\|"),
                default(option),
                about.join(" ").replace('|', "\\|"),
            );
        }
    }
    text
}

/// The documentation as one line.
fn meaning(option: &OptionInfo) -> String {
    let words: Vec<&str> = option.about.split_whitespace().collect();
    words.join(" ")
}

fn default(option: &OptionInfo) -> String {
    let texts = match option.sample {
        Some(_) => return "of the machine".to_owned(),
        None => option.default_texts(),
    };
    match texts.join(", ") {
        text if !text.is_empty() => format!("`{text}`"),
        _ if texts.is_empty() => "not set".to_owned(),
        _ => "empty".to_owned(),
    }
}

/// What it takes; the eight words of a boolean are told once.
fn takes(option: &OptionInfo) -> String {
    match option.kind {
        "boolean" => option.kind.to_owned(),
        _ => option.allowed(),
    }
}

/// What else is known of it: its kind and what it takes, then the rest.
fn notes(table: &Table, option: &OptionInfo) -> Vec<String> {
    let mut found = vec![match takes(option) {
        takes if takes == option.kind => format!("({takes})"),
        takes => format!("({}: {takes})", option.kind),
    }];
    let former = option.former.iter().map(|(group, name)| {
        let group = if group.is_empty() { table.group } else { group };
        format!("`{name}` in [{group}]")
    });
    let former: Vec<String> = former.collect();
    if !former.is_empty() {
        found.push(format!("Formerly {}.", former.join(", ")));
    }
    if let Some(reason) = option.retiring {
        found.push(format!("Deprecated: {reason}."));
    }
    if option.secret {
        found.push("Never shown with its secret.".to_owned());
    }
    if option.ours {
        found.push("Rust only.".to_owned());
    }
    found
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH - 2 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
