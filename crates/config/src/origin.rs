//! Where a value came from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A line of a file.
///
/// ```
/// use oslo_messaging_config::origin::Place;
///
/// assert_eq!(Place::new("/etc/nova/nova.conf", 12).to_string(), "/etc/nova/nova.conf:12");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    file: Arc<Path>,
    line: u32,
}

impl Place {
    /// Line `line` (from 1) of `file`.
    ///
    /// ```
    /// use oslo_messaging_config::origin::Place;
    ///
    /// assert_eq!(Place::new("a.conf", 1).line(), 1);
    /// ```
    pub fn new(file: impl Into<PathBuf>, line: u32) -> Self {
        Self {
            file: file.into().into(),
            line,
        }
    }

    pub(crate) fn of(file: &Arc<Path>, line: u32) -> Self {
        Self {
            file: Arc::clone(file),
            line,
        }
    }

    /// The file.
    ///
    /// ```
    /// use std::path::Path;
    /// use oslo_messaging_config::origin::Place;
    ///
    /// assert_eq!(Place::new("a.conf", 1).file(), Path::new("a.conf"));
    /// ```
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line, from 1.
    ///
    /// ```
    /// use oslo_messaging_config::origin::Place;
    ///
    /// assert_eq!(Place::new("a.conf", 7).line(), 7);
    /// ```
    pub fn line(&self) -> u32 {
        self.line
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Where the value of an option came from.
///
/// ```
/// use oslo_messaging_config::origin::{Origin, Place};
///
/// assert_eq!(Origin::File(Place::new("nova.conf", 3)).to_string(), "nova.conf:3");
/// assert_eq!(Origin::Environment("OS_DEFAULT__DEBUG".into()).to_string(), "environment variable OS_DEFAULT__DEBUG");
/// assert!(!Origin::Default.is_set());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The program that reads the configuration has a default of its own.
    Program,
    /// A line of a file.
    File(Place),
    /// The environment variable of this name.
    Environment(String),
    /// The query of the transport URL.
    Url,
    /// The flag of this name on the command line.
    Argument(&'static str),
}

impl Origin {
    /// Whether somebody outside the program set the value.
    ///
    /// ```
    /// use oslo_messaging_config::origin::Origin;
    ///
    /// assert!(Origin::Url.is_set());
    /// assert!(!Origin::Program.is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Default | Self::Program)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Program => f.write_str("default of the program"),
            Self::File(place) => place.fmt(f),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Url => f.write_str("transport URL"),
            Self::Argument(flag) => write!(f, "command line, {flag}"),
        }
    }
}
