//! What can be wrong with a configuration, and what is merely worth a word.
//!
//! No text here ever repeats a line of a file, nor the value of a secret option: it may hold a password.

use std::fmt;
use std::path::PathBuf;

use crate::ini::SyntaxFault;
use crate::origin::{Origin, Place};

/// A configuration cannot be used. The text names the file and line, or the environment variable.
///
/// ```
/// use oslo_messaging_config::sources::Sources;
///
/// let error = Sources::new().text("nova.conf", "[DEFAULT]\nno assignment\n").unwrap_err();
/// assert_eq!(error.to_string(), "nova.conf:2: neither `=` nor `:` in an assignment");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A line is no line of the file language.
    #[error("{place}: {fault}")]
    Syntax {
        /// Which line.
        place: Place,
        /// What is wrong with it.
        fault: SyntaxFault,
    },
    /// An option does not take this value.
    #[error("{origin}: in [{group}] {refusal}")]
    Value {
        /// Who gave the value.
        origin: Origin,
        /// The option's group.
        group: &'static str,
        /// Which option, and what it takes.
        refusal: Refusal,
    },
    /// A value refers to an option that does not exist, or in a circle.
    #[error("{origin}: [{group}] {name} {fault}")]
    Reference {
        /// Where the reference stands.
        origin: Origin,
        /// Group of the option whose value was asked for.
        group: String,
        /// That option.
        name: String,
        /// What is wrong.
        fault: ReferenceFault,
    },
}

impl ConfigError {
    /// Who gave the value that is wrong; [`Origin::Default`] for what concerns no value.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// let error = Sources::new().text("nova.conf", "x = 1\n").unwrap_err();
    /// assert_eq!(error.origin().to_string(), "nova.conf:1");
    /// ```
    pub fn origin(&self) -> Origin {
        match self {
            Self::Unreadable { .. } => Origin::Default,
            Self::Syntax { place, .. } => Origin::File(place.clone()),
            Self::Value { origin, .. } | Self::Reference { origin, .. } => origin.clone(),
        }
    }
}

/// Why a reference such as `$my_ip` leads nowhere.
///
/// ```
/// use oslo_messaging_config::error::ReferenceFault;
///
/// let fault = ReferenceFault::Undefined { reference: Some("my_ip".into()) };
/// assert!(fault.to_string().contains("$my_ip"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceFault {
    /// No file, variable or known option has this name.
    Undefined {
        /// The name after the `$`; not known where it may be part of a password.
        reference: Option<String>,
    },
    /// The options' values refer to each other.
    Cycle {
        /// The names on the way, `group.option`.
        way: Vec<String>,
    },
    /// References within references beyond all measure.
    TooMuch,
}

impl fmt::Display for ReferenceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined { reference: Some(name) } => write!(
                f,
                "refers to ${name}, which no file and no environment variable sets; a plain `$` is written `$$`, and `${{name}}` ends a name before a dot"
            ),
            Self::Undefined { reference: None } => f.write_str(
                "has a `$` with a name after it that no file and no environment variable sets; a `$` of a password is written `$$`",
            ),
            Self::TooMuch => f.write_str("refers to more options, or to longer values, than anyone needs"),
            Self::Cycle { way } => write!(f, "refers to itself: {}", way.join(" → ")),
        }
    }
}

/// Why a value was not taken.
///
/// ```
/// use oslo_messaging_config::error::Refusal;
///
/// let refusal = Refusal::value("retry", Some("often"), "a whole number");
/// assert_eq!(refusal.to_string(), "option retry cannot be \"often\"; allowed: a whole number");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such option.
    Unknown {
        /// The name given.
        name: String,
        /// Names that look like it.
        near: Vec<&'static str>,
        /// The group that was looked through.
        group: &'static str,
    },
    /// The option does not take this value.
    Value {
        /// The option.
        name: &'static str,
        /// The value; not known for a secret option.
        value: Option<String>,
        /// What it takes.
        allowed: String,
    },
}

impl Refusal {
    /// A value that `name` does not take; pass none for a secret one.
    ///
    /// ```
    /// use oslo_messaging_config::error::Refusal;
    ///
    /// assert!(Refusal::value("pin", None, "four digits").to_string().contains("four digits"));
    /// ```
    pub fn value(name: &'static str, value: Option<&str>, allowed: impl Into<String>) -> Self {
        Self::Value {
            name,
            value: value.map(str::to_owned),
            allowed: allowed.into(),
        }
    }

    /// The option in question.
    ///
    /// ```
    /// use oslo_messaging_config::error::Refusal;
    ///
    /// assert_eq!(Refusal::value("pin", None, "four digits").name(), "pin");
    /// ```
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown { name, .. } => name,
            Self::Value { name, .. } => name,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, near, group } if near.is_empty() => {
                write!(f, "there is no option {name:?}; see the options of {group}")
            }
            Self::Unknown { name, near, .. } => {
                write!(
                    f,
                    "there is no option {name:?}; did you mean {}?",
                    near.join(" or ")
                )
            }
            Self::Value {
                name,
                value: Some(value),
                allowed,
            } => {
                write!(f, "option {name} cannot be {value:?}; allowed: {allowed}")
            }
            Self::Value {
                name,
                value: None,
                allowed,
            } => {
                write!(
                    f,
                    "option {name} cannot have this value; allowed: {allowed}"
                )
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// Something that works and that the operator should still know of.
///
/// ```
/// use oslo_messaging_config::error::Warning;
/// use oslo_messaging_config::origin::Origin;
///
/// let warning = Warning::Renamed {
///     origin: Origin::Url, group: "DEFAULT".into(), name: "rpc_thread_pool_size".into(),
///     now: ("DEFAULT", "executor_thread_pool_size"),
/// };
/// assert_eq!(warning.to_string(),
///     "transport URL: [DEFAULT] rpc_thread_pool_size is deprecated; write executor_thread_pool_size in [DEFAULT]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The option has another name now, and this one was written.
    Renamed {
        /// Who wrote it.
        origin: Origin,
        /// The group written.
        group: String,
        /// The name written.
        name: String,
        /// Group and name of today.
        now: (&'static str, &'static str),
    },
    /// The option will go.
    Retiring {
        /// Who set it.
        origin: Origin,
        /// Its group.
        group: &'static str,
        /// Its name.
        name: &'static str,
        /// Why it goes.
        reason: &'static str,
    },
    /// The option is no longer read.
    Gone {
        /// Who set it.
        origin: Origin,
        /// Its group.
        group: &'static str,
        /// Its name.
        name: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// The option was set to nothing, which its type does not know: its default counts.
    Empty {
        /// Who did it.
        origin: Origin,
        /// Its group.
        group: &'static str,
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renamed {
                origin,
                group,
                name,
                now,
            } => write!(
                f,
                "{origin}: [{group}] {name} is deprecated; write {} in [{}]",
                now.1, now.0
            ),
            Self::Retiring {
                origin,
                group,
                name,
                reason,
            } => {
                write!(
                    f,
                    "{origin}: [{group}] {name} is deprecated and will be removed: {reason}"
                )
            }
            Self::Gone {
                origin,
                group,
                name,
                instead,
            } => {
                write!(f, "{origin}: [{group}] {name} is no longer read; {instead}")
            }
            Self::Empty {
                origin,
                group,
                name,
            } => {
                write!(f, "{origin}: [{group}] {name} is empty; its default counts")
            }
        }
    }
}
