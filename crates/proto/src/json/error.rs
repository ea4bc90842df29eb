//! What can be wrong with a JSON text or with a value read from it.
//!
//! Errors never show the text of a string they stumbled over: it may be a credential.

use std::fmt;

use serde::de;

/// A JSON text could not be read, or did not have the shape the wanted type needs.
///
/// Kept behind one pointer, since it travels in every `Result` of the reader.
///
/// ```
/// use oslo_messaging_proto::{JsonErrorKind, RawJson};
///
/// let error = RawJson::from_text("[1, 2").unwrap_err();
/// assert_eq!(error.offset(), Some(5));
/// assert!(!matches!(error.kind(), JsonErrorKind::TooDeep), "{error}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct JsonError(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: JsonErrorKind,
    offset: Option<usize>,
}

/// The ways in which reading JSON fails.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text ended inside a value.
    UnexpectedEnd,
    /// A character that cannot stand here.
    UnexpectedCharacter,
    /// More text follows after the value.
    TrailingText,
    /// A control character stands unescaped in a string.
    ControlCharacter,
    /// A backslash is followed by something that is no escape.
    InvalidEscape,
    /// A number is not written as JSON wants it.
    InvalidNumber,
    /// Lists and objects are nested too deeply.
    TooDeep,
    /// A field of the wanted type occurs twice.
    ///
    /// Only seen by code that drives the reader itself; the entry points of this crate read again, last one wins.
    DuplicateField(&'static str),
    /// The text is JSON, but not of the wanted type.
    Shape(String),
}

impl JsonError {
    pub(crate) fn at(kind: JsonErrorKind, offset: usize) -> Self {
        Self(Box::new(Inner {
            kind,
            offset: Some(offset),
        }))
    }

    pub(crate) fn shape(text: impl fmt::Display) -> Self {
        Self(Box::new(Inner {
            kind: JsonErrorKind::Shape(text.to_string()),
            offset: None,
        }))
    }

    /// Notes where reading stopped, unless that is known already.
    pub(crate) fn or_at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The same error in a text of which the one that was read is a part, from `start` on.
    pub(crate) fn moved_by(mut self, start: usize) -> Self {
        if let Some(offset) = &mut self.0.offset {
            *offset += start;
        }
        self
    }

    /// What is wrong.
    pub fn kind(&self) -> &JsonErrorKind {
        &self.0.kind
    }

    /// Where reading stopped, in bytes from the start of the text, if known.
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }
}

impl fmt::Display for JsonErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("the JSON text ends too early"),
            Self::UnexpectedCharacter => f.write_str("unexpected character in JSON"),
            Self::TrailingText => f.write_str("text follows after the JSON value"),
            Self::ControlCharacter => f.write_str("unescaped control character in a JSON string"),
            Self::InvalidEscape => f.write_str("invalid escape in a JSON string"),
            Self::InvalidNumber => f.write_str("invalid JSON number"),
            Self::TooDeep => f.write_str("JSON nested too deeply"),
            Self::DuplicateField(name) => write!(f, "duplicate field `{name}`"),
            Self::Shape(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.offset {
            Some(offset) => write!(f, "{} at byte {offset}", self.0.kind),
            None => write!(f, "{}", self.0.kind),
        }
    }
}

impl fmt::Debug for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonError")
            .field("kind", &self.0.kind)
            .field("offset", &self.0.offset)
            .finish()
    }
}

impl std::error::Error for JsonError {}

/// The name of what was found, without its content where that may be secret.
fn name_of(unexpected: &de::Unexpected<'_>) -> String {
    match unexpected {
        de::Unexpected::Str(_) => "a string".to_owned(),
        de::Unexpected::Bytes(_) => "bytes".to_owned(),
        de::Unexpected::Char(_) => "a character".to_owned(),
        de::Unexpected::Unit => "null".to_owned(),
        de::Unexpected::Seq => "a list".to_owned(),
        de::Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

impl de::Error for JsonError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self::shape(msg)
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::shape(format_args!(
            "found {}, expected {expected}",
            name_of(&unexpected)
        ))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::shape(format_args!(
            "{} does not fit, expected {expected}",
            name_of(&unexpected)
        ))
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        if expected.is_empty() {
            return Self::shape("unknown variant, there are none");
        }
        Self::shape(format_args!(
            "unknown variant, expected one of `{}`",
            expected.join("`, `")
        ))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(Box::new(Inner {
            kind: JsonErrorKind::DuplicateField(field),
            offset: None,
        }))
    }
}
