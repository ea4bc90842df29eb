//! What can go wrong when a message is written or read.

use std::fmt;

use crate::json::error::JsonError;

/// A value cannot be written as oslo.messaging's JSON.
///
/// ```
/// use oslo_messaging_proto::{EncodeError, RawJson};
///
/// assert_eq!(RawJson::from_value(&u32::MAX).unwrap().as_str(), "4294967295");
/// let no_names = oslo_messaging_proto::Args::from_value(&[1, 2]);
/// assert_eq!(no_names.unwrap_err(), EncodeError::ArgsNotObject);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A map key is neither text nor a number, a truth value or null.
    #[error("a map key must be text, a number, a boolean or null to be sent as JSON")]
    KeyNotText,
    /// Bytes that are no UTF-8 (wire spec 17.1).
    #[error("bytes can only be sent as JSON if they are UTF-8 text")]
    BytesNotText,
    /// Lists and objects nested beyond [`MAX_DEPTH`](crate::json::ser::MAX_DEPTH).
    #[error("the value is nested too deeply to be sent as JSON")]
    TooDeep,
    /// The arguments of a call are not a struct or map.
    #[error("the arguments of a call must serialise to an object: name to value")]
    ArgsNotObject,
    /// The value that shall be a context, a message or the keyword arguments of an exception is not a struct or map.
    #[error("the value must serialise to an object")]
    NotAnObject,
    /// The value that shall be the arguments of an exception is not a list.
    #[error("the value must serialise to a list")]
    NotAList,
    /// The value's own `Serialize` failed.
    #[error("{0}")]
    Custom(String),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self::Custom(msg.to_string())
    }
}

/// A body cannot be taken for a message (wire spec 6.3).
///
/// ```
/// use oslo_messaging_proto::{DecodeError, Request};
///
/// assert_eq!(Request::decode(b"").unwrap_err(), DecodeError::Empty);
/// assert_eq!(Request::decode(b"[]").unwrap_err(), DecodeError::BodyNotObject);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body has no bytes at all.
    #[error("the body is empty")]
    Empty,
    /// The body is not UTF-8.
    #[error("the body is not UTF-8 from byte {valid_up_to} on")]
    NotUtf8 {
        /// How many bytes at the start are.
        valid_up_to: usize,
    },
    /// The body begins with a byte order mark.
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// The body is no JSON.
    #[error("the body is not JSON: {0}")]
    Body(#[source] JsonError),
    /// The body is JSON but no object.
    #[error("the body is not a JSON object")]
    BodyNotObject,
    /// `oslo.version` is not a version acceptable to 2.0.
    #[error("envelope version {found} is not supported, only 2.0 is")]
    EnvelopeVersion {
        /// The version found, shortened.
        found: String,
    },
    /// `oslo.message` is not a string.
    #[error("the envelope's message is not a string")]
    MessageNotText,
    /// `oslo.message` holds no JSON.
    #[error("the envelope's message is not JSON: {0}")]
    Message(#[source] JsonError),
    /// `oslo.message` holds JSON but no object.
    #[error("the envelope's message is not a JSON object")]
    MessageNotObject,
    /// A body without envelope holds a tagged value that is not known or not well formed (wire spec 17.2).
    #[error("a tagged value of the body is of an unknown type or malformed")]
    TaggedValue,
}
