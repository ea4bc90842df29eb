//! Versions of RPC interfaces and of the envelope, and the rule which of them fit together (wire spec 8.3, parity RC9).

use std::fmt;
use std::str::FromStr;

/// A version `major.minor`, or `major.minor.revision`.
///
/// ```
/// use oslo_messaging_proto::{Version, VersionError};
///
/// let implemented = Version::new(1, 3);
/// assert!(implemented.accepts(&"1.2".parse().unwrap()));
/// assert!(!implemented.accepts(&Version::new(2, 0)));
/// assert!(matches!("1".parse::<Version>(), Err(VersionError::TooFewParts { .. })));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Peers with different ones do not understand each other.
    pub major: u32,
    /// Grows with every addition.
    pub minor: u32,
    /// Counts mends; 0 where it is not written.
    pub revision: u32,
}

/// A text is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// There is no minor part.
    #[error("version must contain a major and minor integer, got {text:?}")]
    TooFewParts {
        /// The text, shortened.
        text: String,
    },
    /// A part is not a number.
    #[error("version must contain a major and minor integer, {part:?} is none")]
    NotANumber {
        /// The part, shortened.
        part: String,
    },
}

impl Version {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            revision: 0,
        }
    }

    /// Whether an implementation of this version serves a peer that asks for `asked`: same major, asked minor not above
    /// ours, and for equal minors the asked revision not above ours.
    pub const fn accepts(&self, asked: &Version) -> bool {
        self.major == asked.major
            && (asked.minor < self.minor
                || (asked.minor == self.minor && asked.revision <= self.revision))
    }
}

/// Whether an implementation of version `implemented` serves a peer that asks for `asked`.
///
/// Nothing implemented takes anything; else nothing asked is not acceptable (parity RC9).
///
/// # Errors
/// [`VersionError`] if both are given and one of them is no version.
///
/// ```
/// use oslo_messaging_proto::version::acceptable;
///
/// assert!(acceptable(Some("1.3"), Some("1.2")).unwrap());
/// assert!(!acceptable(Some("1.3"), Some("2.0")).unwrap());
/// assert!(!acceptable(Some("1.3"), None).unwrap());
/// ```
pub fn acceptable(implemented: Option<&str>, asked: Option<&str>) -> Result<bool, VersionError> {
    match (implemented, asked) {
        (None, _) => Ok(true),
        (Some(_), None) => Ok(false),
        (Some(implemented), Some(asked)) => Ok(implemented
            .parse::<Version>()?
            .accepts(&asked.parse::<Version>()?)),
    }
}

/// At most the first 40 characters, so that an error cannot grow with what a peer sent.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FromStr for Version {
    type Err = VersionError;

    /// Parts after the third are ignored, as by the reference.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = |part: &str| {
            let digits = part.trim();
            if digits.bytes().all(|byte| byte.is_ascii_digit())
                && let Ok(number) = digits.parse()
            {
                return Ok(number);
            }
            Err(VersionError::NotANumber {
                part: shorten(part),
            })
        };
        let mut parts = text.split('.');
        let major = number(parts.next().unwrap_or(""))?;
        let minor = parts.next().ok_or_else(|| VersionError::TooFewParts {
            text: shorten(text),
        })?;
        let minor = number(minor)?;
        let revision = parts.next().map_or(Ok(0), number)?;
        Ok(Self {
            major,
            minor,
            revision,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.revision != 0 {
            write!(f, ".{}", self.revision)?;
        }
        Ok(())
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_the_references() {
        let cases = [
            ("1.0", "1.0", true),
            ("1.3", "1.2", true),
            ("1.3", "1.3", true),
            ("1.3", "1.4", false),
            ("1.3", "2.0", false),
            ("2.0", "1.0", false),
            ("1.3.1", "1.3", true),
            ("1.3", "1.3.1", false),
            ("1.3.2", "1.3.1", true),
            ("1.3", "1.2.9", true),
            ("2.0", "2.0.0", true),
            ("1.0", "1.0.0.7", true),
            ("1.10", "1.9", true),
        ];
        for (implemented, asked, fits) in cases {
            assert_eq!(
                acceptable(Some(implemented), Some(asked)),
                Ok(fits),
                "{implemented} for {asked}"
            );
        }
        assert_eq!(acceptable(None, Some("x")), Ok(true));
        assert_eq!(acceptable(None, None), Ok(true));
        assert_eq!(acceptable(Some("1.0"), None), Ok(false));
    }

    #[test]
    fn what_is_no_version_is_an_error() {
        assert!(matches!(
            "1".parse::<Version>(),
            Err(VersionError::TooFewParts { .. })
        ));
        for text in [
            "",
            "x.y",
            "1.",
            ".1",
            "1.x",
            "1.2.x",
            "-1.0",
            "+1.0",
            "1.99999999999",
            "1,0",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let error = "é".repeat(100_000).parse::<Version>().unwrap_err();
        assert!(error.to_string().len() < 200);
    }

    #[test]
    fn a_version_prints_as_it_is_written() {
        for text in ["1.0", "1.23", "2.0.5"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        assert_eq!(String::from(Version::new(1, 3)), "1.3");
    }
}
