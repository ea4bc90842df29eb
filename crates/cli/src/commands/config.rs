//! `omsg config`: prints the options in force and who set them, or checks them, or prints a sample of all.

use oslo_messaging::config::{Entry, reference, sample};
use serde::Serialize;

use crate::args::ConfigTask;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Config;
use crate::values::clean_line;

/// Columns that values are padded to, so that most origins stand below each other.
const VALUE_WIDTH: usize = 32;

/// The value of an option as programs read it.
#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    One(Option<&'a str>),
    Many(&'a [String]),
}

/// One option.
#[derive(Serialize)]
struct Line<'a> {
    group: &'static str,
    option: &'static str,
    value: Value<'a>,
    from: String,
    default: bool,
    #[serde(skip)]
    shown: String,
    /// First of its group.
    #[serde(skip)]
    first: bool,
    /// Columns of the longest name.
    #[serde(skip)]
    width: usize,
}

impl Record for Line<'_> {
    fn describe(&self, text: &mut Text) {
        if self.first {
            text.bold(format!("[{}]", self.group)).plain("\n");
        }
        let (width, value) = (self.width, &self.shown);
        let line = format!("{:width$}  {value:VALUE_WIDTH$}  ", self.option);
        if self.default {
            text.plain(line).dim(&self.from);
        } else {
            text.plain(line).good(&self.from);
        }
    }
}

/// Something to know that is no error.
#[derive(Serialize)]
struct Warned {
    event: &'static str,
    message: String,
}

impl Record for Warned {
    fn describe(&self, text: &mut Text) {
        text.bold("warning").plain(format!(": {}", self.message));
    }
}

/// All is well.
#[derive(Serialize)]
struct Checked {
    event: &'static str,
    files: Vec<String>,
    url: String,
}

impl Record for Checked {
    fn describe(&self, text: &mut Text) {
        text.good("ok").plain(format!(
            ": {} files, transport URL {}",
            self.files.len(),
            self.url
        ));
    }
}

/// A whole text.
#[derive(Serialize)]
struct Document {
    text: String,
}

impl Record for Document {
    fn describe(&self, text: &mut Text) {
        text.plain(self.text.trim_end());
    }
}

/// Runs the command. Wrong usage if the configuration has errors.
///
/// # Errors
/// None; what is wrong is printed.
pub(crate) fn run(settings: Config, output: &Output) -> Result<Exit, Problem> {
    match settings.task {
        ConfigTask::Sample => return Ok(print(sample(), output)),
        ConfigTask::Reference => return Ok(print(reference(), output)),
        ConfigTask::Show => show(&settings, output),
        ConfigTask::Check => {}
    }
    for warning in settings.config.warnings() {
        output.record(&Warned {
            event: "warning",
            message: warning.to_string(),
        });
    }
    let errors = settings.config.errors();
    if errors.is_empty() {
        if settings.task == ConfigTask::Check {
            let files = settings.config.files().iter();
            output.record(&Checked {
                event: "checked",
                files: files.map(|file| file.display().to_string()).collect(),
                url: settings.config.transport_url().to_string(),
            });
        }
        return Ok(Exit::Done);
    }
    for error in errors {
        let mut problem = Problem::config(error);
        problem.details.hint = None;
        output.problem(&problem);
    }
    Ok(Exit::Usage)
}

fn print(text: String, output: &Output) -> Exit {
    output.record(&Document { text });
    Exit::Done
}

fn show(settings: &Config, output: &Output) {
    let mut entries = settings.config.entries();
    if settings.diff_defaults {
        entries.retain(|entry| !entry.is_default());
    }
    let width = entries.iter().map(|entry| entry.info.name.len()).max();
    let mut group = "";
    for entry in &entries {
        output.record(&line(entry, entry.group != group, width.unwrap_or(0)));
        group = entry.group;
    }
}

fn line<'a>(entry: &'a Entry<'_>, first: bool, width: usize) -> Line<'a> {
    Line {
        group: entry.group,
        option: entry.info.name,
        value: if entry.info.multi {
            Value::Many(&entry.texts)
        } else {
            Value::One(entry.texts.first().map(String::as_str))
        },
        from: entry.origin.to_string(),
        default: !entry.origin.is_set(),
        shown: clean_line(&entry.value()),
        first,
        width,
    }
}
