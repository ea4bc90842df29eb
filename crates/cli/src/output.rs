//! The only file that prints: records, remarks, tables, progress, problems and log lines.
//!
//! A command hands over typed records; each becomes a line of text for people or one JSON object per line for programs.
//! Results go to standard output, problems and logs to standard error. A reader that goes away is no error: the
//! rest is dropped quietly, and [`Output::closed`] tells whoever would go on for ever.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use oslo_messaging::RawJson;
use serde::Serialize;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use crate::exit::Problem;
use crate::lock::lock;
use crate::values::{clean, clean_line, hide_credentials};

/// Width that all text fits into.
const WIDTH: u16 = 80;

/// Something a command tells: serialised for programs, described for people.
pub(crate) trait Record: Serialize {
    /// Writes it for people, without a newline at the end.
    fn describe(&self, text: &mut Text);
}

/// A record that people read as a row of a table.
pub(crate) trait Row: Serialize {
    /// Titles of the columns.
    const TITLES: &'static [&'static str];
    /// The fields, one per column.
    fn cells(&self) -> Vec<String>;
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the flags and the terminals ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Text or JSON.
    pub(crate) format: Format,
    /// Colours on standard output.
    pub(crate) color: bool,
    /// Colours on standard error.
    pub(crate) color_errors: bool,
    /// Standard output is a terminal: results may be spread over lines.
    pub(crate) spread: bool,
    /// No remarks and no progress.
    pub(crate) quiet: bool,
}

/// Where everything that is printed passes through.
pub(crate) struct Output {
    manner: Manner,
    out: Mutex<Box<dyn Write + Send>>,
    errors: Mutex<Box<dyn Write + Send>>,
    is_closed: AtomicBool,
    closing: Notify,
    fault: Mutex<Option<io::Error>>,
}

impl Output {
    /// Prints to standard output and standard error.
    pub(crate) fn new(manner: Manner) -> Self {
        Self::with(manner, Box::new(io::stdout()), Box::new(io::stderr()))
    }

    fn with(manner: Manner, out: Box<dyn Write + Send>, errors: Box<dyn Write + Send>) -> Self {
        Self {
            manner,
            out: Mutex::new(out),
            errors: Mutex::new(errors),
            is_closed: AtomicBool::new(false),
            closing: Notify::new(),
            fault: Mutex::new(None),
        }
    }

    /// Prints one record.
    pub(crate) fn record(&self, record: &impl Record) {
        match self.manner.format {
            Format::Json => self.json(record),
            Format::Text => {
                let mut text = self.text(self.manner.color);
                record.describe(&mut text);
                self.line(&text.into_string());
            }
        }
    }

    /// Prints a remark for people; programs do not get it.
    pub(crate) fn remark(&self, remark: &str) {
        if self.manner.format == Format::Text && !self.manner.quiet {
            self.line(remark);
        }
    }

    /// Prints rows: a table for people, one object per row for programs.
    pub(crate) fn rows<R: Row>(&self, rows: &[R]) {
        match self.manner.format {
            Format::Json => rows.iter().for_each(|row| self.json(row)),
            Format::Text => self.line(&table(R::TITLES, rows.iter().map(R::cells))),
        }
    }

    /// Prints a problem to standard error.
    pub(crate) fn problem(&self, problem: &Problem) {
        let line = match self.manner.format {
            Format::Json => match RawJson::from_value(&ProblemRecord::of(problem)) {
                Ok(json) => json.as_str().to_owned(),
                Err(fault) => format!(
                    "{{\"event\": \"error\", \"message\": \"unprintable problem: {fault}\"}}"
                ),
            },
            Format::Text => {
                let mut text = self.text(self.manner.color_errors);
                describe_problem(problem, &mut text);
                text.into_string()
            }
        };
        let mut errors = lock(&self.errors);
        // Nowhere is left to tell that standard error is gone.
        let _ = writeln!(errors, "{line}").and_then(|()| errors.flush());
    }

    /// A bar that shows how much of `total` has passed; hidden where nobody could see it.
    pub(crate) fn progress(&self, total: Duration) -> Progress {
        let target = match self.manner.format {
            Format::Text if !self.manner.quiet => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(millis(total)), target);
        if let Ok(style) = ProgressStyle::with_template("{msg:24} {bar:40} {percent:>3}%") {
            bar.set_style(style);
        }
        Progress { bar }
    }

    /// Whether results may be spread over several lines.
    pub(crate) fn spreads(&self) -> bool {
        self.manner.spread && self.manner.format == Format::Text
    }

    /// Resolves when nobody reads standard output any more.
    pub(crate) async fn closed(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        closing.as_mut().enable();
        if !self.is_closed.load(Ordering::Acquire) {
            closing.await;
        }
    }

    /// What kept results from being written, other than a reader that went away.
    pub(crate) fn fault(&self) -> Option<Problem> {
        let fault = lock(&self.fault).take()?;
        Some(Problem::local(format!(
            "standard output cannot be written: {fault}"
        )))
    }

    fn json(&self, record: &impl Serialize) {
        match RawJson::from_value(record) {
            Ok(json) => self.line(json.as_str()),
            Err(fault) => self.problem(&Problem::local(format!(
                "a record cannot be written as JSON: {fault}"
            ))),
        }
    }

    fn text(&self, color: bool) -> Text {
        Text {
            text: String::new(),
            color,
        }
    }

    fn line(&self, line: &str) {
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        let mut out = lock(&self.out);
        // One write per line: several threads and `tail -f` see whole lines.
        let written = out
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| out.flush());
        if let Err(fault) = written {
            if fault.kind() != io::ErrorKind::BrokenPipe {
                *lock(&self.fault) = Some(fault);
            }
            self.is_closed.store(true, Ordering::Release);
            self.closing.notify_waiters();
        }
    }
}

/// Text for people under construction, with colours if they are wanted.
pub(crate) struct Text {
    text: String,
    color: bool,
}

impl Text {
    /// As it is.
    pub(crate) fn plain(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.text.push_str(text.as_ref());
        self
    }

    /// Important.
    pub(crate) fn bold(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.paint("1", text.as_ref())
    }

    /// Unimportant.
    pub(crate) fn dim(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.paint("2", text.as_ref())
    }

    /// Good news.
    pub(crate) fn good(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.paint("32", text.as_ref())
    }

    /// Bad news.
    pub(crate) fn bad(&mut self, text: impl AsRef<str>) -> &mut Self {
        self.paint("31", text.as_ref())
    }

    fn paint(&mut self, code: &str, text: &str) -> &mut Self {
        if self.color {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "\x1b[{code}m{text}\x1b[0m");
            self
        } else {
            self.plain(text)
        }
    }

    fn into_string(self) -> String {
        self.text
    }
}

/// A bar that fills up; gone from the screen when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Says what is going on and how much of the total has passed.
    pub(crate) fn set(&self, what: &str, passed: Duration) {
        self.bar.set_message(what.to_owned());
        self.bar.set_position(millis(passed));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints what clap has to say: help and version to standard output, wrong usage to standard error.
pub(crate) fn print_usage(message: &clap::Error) {
    if message.use_stderr() {
        let text = hide_credentials(&message.render().to_string());
        let _ = io::stderr().write_all(text.as_bytes());
    } else {
        // A reader of the help who goes away has read enough.
        let _ = message.print();
    }
}

/// Sends log lines to standard error.
pub(crate) fn start_logs(filter: EnvFilter, color: bool) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(color)
        .init();
}

/// A problem as programs read it.
#[derive(Serialize)]
struct ProblemRecord<'a> {
    event: &'static str,
    kind: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<RemoteRecord<'a>>,
    exit: u8,
}

/// The exception of a peer as programs read it.
#[derive(Serialize)]
struct RemoteRecord<'a> {
    class: &'a str,
    module: &'a str,
    message: &'a str,
    args: &'a RawJson,
    kwargs: &'a RawJson,
    traceback: &'a [String],
}

impl<'a> ProblemRecord<'a> {
    fn of(problem: &'a Problem) -> Self {
        Self {
            event: "error",
            kind: problem.kind,
            message: hide_credentials(&problem.message),
            target: problem.details.target.as_deref(),
            broker: problem.details.broker.as_deref(),
            hint: problem.details.hint.as_deref(),
            remote: problem.details.remote.as_ref().map(|remote| RemoteRecord {
                class: remote.class(),
                module: remote.module(),
                message: remote.message(),
                args: remote.args(),
                kwargs: remote.kwargs(),
                traceback: remote.traceback(),
            }),
            exit: problem.exit as u8,
        }
    }
}

fn describe_problem(problem: &Problem, text: &mut Text) {
    text.bad("error").plain(": ");
    match &problem.details.remote {
        Some(remote) => {
            text.bold(clean_line(remote.class()));
            if !remote.module().is_empty() {
                text.plain(format!(" (module {})", clean_line(remote.module())));
            }
            text.plain(format!(": {}", clean(remote.message())));
            for line in remote.traceback().iter().flat_map(|part| part.lines()) {
                text.plain("\n  ").dim(clean(line));
            }
        }
        None => {
            text.plain(hide_credentials(&clean(&problem.message)));
        }
    }
    let details = &*problem.details;
    for (name, detail) in [
        ("target", &details.target),
        ("broker", &details.broker),
        ("hint", &details.hint),
    ] {
        if let Some(detail) = detail {
            text.plain("\n").dim(name).plain(format!(": {detail}"));
        }
    }
}

fn table(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(titles.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether standard output and standard error are terminals.
pub(crate) fn terminals() -> (bool, bool) {
    (io::stdout().is_terminal(), io::stderr().is_terminal())
}

#[cfg(test)]
mod tests;
