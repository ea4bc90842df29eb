//! What the environment of the process says, and what it and the flags of all commands mean for printing and logging.

use crate::args;
use crate::output::{Format, Manner};
use crate::settings::{LOG_VARIABLE, URL_VARIABLE};

/// What the environment says, read once.
#[derive(Default)]
pub(crate) struct Environment {
    pub(super) url: Option<String>,
    /// The variables `OS_<GROUP>__<OPTION>`.
    pub(super) options: Vec<(String, String)>,
    pub(super) log: Option<String>,
    pub(super) no_color: bool,
    /// Whether standard output and standard error are terminals.
    pub(super) terminals: (bool, bool),
}

impl Environment {
    /// The environment of this process.
    pub(crate) fn of_process(terminals: (bool, bool)) -> Self {
        let filled = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: filled(URL_VARIABLE),
            options: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .filter(|(name, _)| name.starts_with("OS_") && name.contains("__"))
                .collect(),
            log: filled(LOG_VARIABLE),
            no_color: filled("NO_COLOR").is_some()
                || filled("TERM").is_some_and(|term| term == "dumb"),
            terminals,
        }
    }
}

/// How to print.
pub(crate) fn manner(global: &args::Global, environment: &Environment) -> Manner {
    let wants = |is_terminal: bool| match global.color {
        args::Color::Always => true,
        args::Color::Never => false,
        args::Color::Auto => is_terminal && !environment.no_color,
    };
    Manner {
        format: if global.json {
            Format::Json
        } else {
            Format::Text
        },
        color: wants(environment.terminals.0),
        color_errors: wants(environment.terminals.1),
        spread: environment.terminals.0,
        quiet: global.quiet,
    }
}

/// Which log lines to print: `OMSG_LOG` if it is set, else by `-v` and `-q`.
///
/// A server runs unattended, so it warns unless told otherwise; the others report what went wrong as their result.
pub(crate) fn log_filter(
    global: &args::Global,
    environment: &Environment,
    is_server: bool,
) -> String {
    if let Some(filter) = &environment.log {
        return filter.clone();
    }
    let level = match (global.quiet, global.verbose) {
        (true, _) => "off",
        (_, 0) if is_server => "warn",
        (_, 0) => "error",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    level.to_owned()
}
