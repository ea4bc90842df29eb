//! How a command ends: its exit status, and the problem that is reported when it is not done.
//!
//! The status is decided by the kind of an error, never by its text. A problem says what was tried, at which broker,
//! and what to do about it; it holds no credentials.

use std::process::ExitCode;

use oslo_messaging::{Error, ErrorKind, RemoteError, Target, TransportUrl};

/// Exit status, as documented in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The peer or the bus failed.
    Failed = 1,
    /// The command line, the URL or a file it names cannot be used.
    Usage = 2,
    /// A deadline ended it.
    TimedOut = 3,
}

impl Exit {
    /// What another process of this program meant by its status; none if a signal ended it.
    pub(crate) fn of_process(status: Option<i32>) -> Self {
        match status {
            Some(2) => Self::Usage,
            Some(3) => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// The status of an error of this kind.
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Timeout => Self::TimedOut,
            ErrorKind::InvalidTarget
            | ErrorKind::InvalidUrl
            | ErrorKind::Config
            | ErrorKind::Unsupported
            | ErrorKind::Encode => Self::Usage,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command is not done.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status to leave with.
    pub(crate) exit: Exit,
    /// Its kind in words, for programs that read it.
    pub(crate) kind: &'static str,
    /// What happened.
    pub(crate) message: String,
    /// What else is known.
    pub(crate) details: Box<Details>,
}

/// What may be known of a problem.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// Who was to be reached.
    pub(crate) target: Option<String>,
    /// The transport URL in use, without passwords.
    pub(crate) broker: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The exception of the peer's handler.
    pub(crate) remote: Option<RemoteError>,
}

impl Problem {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            kind: "wrong usage",
            message: message.into(),
            details: Box::default(),
        }
    }

    /// Something on this machine failed: a file, a signal handler.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            kind: "failed",
            ..Self::usage(message)
        }
    }

    /// A signal ended the work before it was done.
    pub(crate) fn interrupted(signal: &str, what: &str) -> Self {
        Self {
            kind: "interrupted",
            ..Self::local(format!("{signal}: {what}"))
        }
    }

    /// A wait that this program itself ended.
    pub(crate) fn timed_out(message: impl Into<String>, url: &TransportUrl) -> Self {
        Self {
            exit: Exit::TimedOut,
            kind: ErrorKind::Timeout.as_str(),
            details: Details::at(ErrorKind::Timeout, url),
            ..Self::usage(message)
        }
    }

    /// A configuration that cannot be used.
    pub(crate) fn config(error: Error) -> Self {
        Self {
            kind: error.kind().as_str(),
            details: Box::new(Details {
                hint: Some("`omsg config check` tells all that is wrong".to_owned()),
                ..Details::default()
            }),
            ..Self::usage(error.to_string())
        }
    }

    /// An error of the library, met on the bus of `url`.
    pub(crate) fn of(error: Error, url: &TransportUrl) -> Self {
        Self {
            exit: Exit::of(error.kind()),
            kind: error.kind().as_str(),
            details: Box::new(Details {
                remote: error.remote().cloned(),
                ..*Details::at(error.kind(), url)
            }),
            ..Self::usage(error.to_string())
        }
    }

    /// Names who was to be reached.
    #[must_use]
    pub(crate) fn to(mut self, target: &Target) -> Self {
        let mut text = match target.server_name() {
            Some(server) => format!("server {server} of topic "),
            None if target.is_fanout() => "all servers of topic ".to_owned(),
            None => "topic ".to_owned(),
        };
        text.push_str(target.topic_name().unwrap_or_default());
        if let Some(exchange) = target.exchange_name() {
            text.push_str(&format!(", exchange {exchange}"));
        }
        self.details.target = Some(text);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.details.hint = Some(hint.into());
        self
    }
}

impl Details {
    fn at(kind: ErrorKind, url: &TransportUrl) -> Box<Self> {
        Box::new(Self {
            broker: Some(url.to_string()),
            hint: hint(kind, url),
            ..Self::default()
        })
    }
}

/// How a transport URL is written.
pub(crate) const URL_FORM: &str = "write it as rabbit://user:password@host:5672/vhost, with special characters of user and password percent-encoded";

/// What a person may do about an error of this kind.
pub(crate) fn hint(kind: ErrorKind, url: &TransportUrl) -> Option<String> {
    let text = match kind {
        ErrorKind::Timeout | ErrorKind::Undeliverable if is_memory(url) => {
            "memory:// lives inside one process, no other process answers there: use the URL of a broker"
        }
        ErrorKind::Timeout => {
            "see with `omsg ping TOPIC` whether a server answers, and with -v what the connection does; --timeout waits longer"
        }
        ErrorKind::Undeliverable => {
            "no server of this topic has started on this virtual host: start one, or check names and exchange"
        }
        ErrorKind::Unreachable | ErrorKind::DeliveryFailure => {
            "check host and port of the URL, and that the broker runs; -v logs each attempt"
        }
        ErrorKind::AccessRefused => {
            "check user, password and virtual host of the URL, and the user's permissions"
        }
        ErrorKind::InvalidUrl => URL_FORM,
        ErrorKind::NoSuchMethod => "check the name of the method, and --namespace and --version",
        ErrorKind::UnsupportedVersion => "ask for another --version, or check --namespace",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether the bus of this URL is the one inside the process.
pub(crate) fn is_memory(url: &TransportUrl) -> bool {
    matches!(url.scheme(), "memory" | "fake")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: ErrorKind) -> Problem {
        let url = TransportUrl::parse("rabbit://joe:secret@broker:5672/").expect("a valid URL");
        Problem::of(Error::new(kind, "text"), &url)
    }

    #[test]
    fn the_status_follows_the_kind_of_the_error() {
        assert_eq!(problem(ErrorKind::Timeout).exit, Exit::TimedOut);
        assert_eq!(problem(ErrorKind::Unreachable).exit, Exit::Failed);
        assert_eq!(problem(ErrorKind::Remote).exit, Exit::Failed);
        assert_eq!(problem(ErrorKind::InvalidUrl).exit, Exit::Usage);
        assert_eq!(problem(ErrorKind::InvalidTarget).exit, Exit::Usage);
    }

    #[test]
    fn a_problem_names_target_and_broker_without_its_password() {
        let problem =
            problem(ErrorKind::AccessRefused).to(&Target::topic("t").server("s").exchange("e"));
        assert_eq!(
            problem.details.target.as_deref(),
            Some("server s of topic t, exchange e")
        );
        let broker = problem
            .details
            .broker
            .as_deref()
            .expect("a broker is named");
        assert!(broker.contains("broker:5672"), "{broker}");
        assert!(!format!("{problem:?}").contains("secret"));
    }
}
