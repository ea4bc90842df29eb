//! The priorities of notifications, and how they are written (wire spec 16.1, parity N4, NL4).

use std::fmt;
use std::str::FromStr;

/// How much a notification matters. Decides the queue it stands in.
///
/// The set is the wire's and closed, so that a match over it stays complete. The order is that of the names in the
/// alphabet, in which a batch is handled (wire spec 16.4).
///
/// ```
/// use oslo_messaging_proto::Priority;
///
/// let priority: Priority = "WARNING".parse()?;
/// assert_eq!(priority, Priority::Warn);
/// assert_eq!((priority.as_str(), priority.as_wire()), ("warn", "WARN"));
/// # Ok::<(), oslo_messaging_proto::PriorityError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// `audit`
    Audit,
    /// `critical`
    Critical,
    /// `debug`
    Debug,
    /// `error`
    Error,
    /// `info`
    Info,
    /// `sample`: measurements.
    Sample,
    /// `warn`; `warning` is read as the same.
    Warn,
}

impl Priority {
    /// All of them.
    ///
    /// ```
    /// use oslo_messaging_proto::Priority;
    ///
    /// assert_eq!(Priority::ALL.len(), 7);
    /// assert!(Priority::ALL.is_sorted());
    /// ```
    pub const ALL: [Self; 7] = [
        Self::Audit,
        Self::Critical,
        Self::Debug,
        Self::Error,
        Self::Info,
        Self::Sample,
        Self::Warn,
    ];

    /// The name in lower case, as topics end in it.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_proto::Priority::Info.as_str(), "info");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Critical => "critical",
            Self::Debug => "debug",
            Self::Error => "error",
            Self::Info => "info",
            Self::Sample => "sample",
            Self::Warn => "warn",
        }
    }

    /// The name in upper case, as a message holds it.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_proto::Priority::Info.as_wire(), "INFO");
    /// ```
    pub const fn as_wire(self) -> &'static str {
        match self {
            Self::Audit => "AUDIT",
            Self::Critical => "CRITICAL",
            Self::Debug => "DEBUG",
            Self::Error => "ERROR",
            Self::Info => "INFO",
            Self::Sample => "SAMPLE",
            Self::Warn => "WARN",
        }
    }

    /// The priority a received message names: any case, but no other spelling (parity NL4).
    ///
    /// ```
    /// use oslo_messaging_proto::Priority;
    ///
    /// assert_eq!(Priority::from_wire("Info"), Some(Priority::Info));
    /// assert_eq!(Priority::from_wire("warning"), None);
    /// ```
    pub fn from_wire(text: &str) -> Option<Self> {
        let same = |priority: &Self| text.eq_ignore_ascii_case(priority.as_str());
        Self::ALL.into_iter().find(same)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is the name of no priority.
///
/// ```
/// let error = "urgent".parse::<oslo_messaging_proto::Priority>().unwrap_err();
/// assert!(error.to_string().contains("urgent"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority; there are audit, critical, debug, error, info, sample and warn")]
pub struct PriorityError(String);

impl FromStr for Priority {
    type Err = PriorityError;

    /// Reads a name in any case; `warning` is `warn`.
    fn from_str(text: &str) -> Result<Self, PriorityError> {
        match Self::from_wire(text) {
            Some(priority) => Ok(priority),
            None if text.eq_ignore_ascii_case("warning") => Ok(Self::Warn),
            None => Err(PriorityError(text.chars().take(40).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_in_two() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_wire(), priority.as_str().to_uppercase());
            assert_eq!(priority.as_wire().parse(), Ok(priority));
            assert_eq!(Priority::from_wire(priority.as_str()), Some(priority));
        }
        assert!("".parse::<Priority>().is_err());
        assert!("in fo".parse::<Priority>().is_err());
    }
}
