//! The one public error type: an opaque box with a kind, what it was about, and its cause.
//!
//! Refuses to carry credentials, and to be matched by text: callers look at [`Error::kind`],
//! [`Error::is_retryable`] and [`Error::remote`]. Drivers turn the errors of their libraries into
//! this type in one file of their own and decide there, by code, whether a fault passes by itself.

use std::error::Error as StdError;
use std::fmt;

use oslo_messaging_proto::error::{DecodeError, EncodeError};
use oslo_messaging_proto::json::error::JsonError;
use oslo_messaging_proto::wire::failure::Failure;

/// `Result` with this crate's [`Error`].
///
/// ```
/// use oslo_messaging_core::error::{Error, ErrorKind, Result};
///
/// fn check(topic: &str) -> Result<()> {
///     if topic.is_empty() {
///         return Err(Error::new(ErrorKind::InvalidTarget, "a topic is required"));
///     }
///     Ok(())
/// }
/// assert!(check("conductor").is_ok());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A remote exception as data: class, module, message, arguments and traceback of the peer's handler.
///
/// ```
/// use oslo_messaging_core::error::{Error, RemoteError};
///
/// fn is_missing_node(error: &Error) -> bool {
///     error.remote().is_some_and(|remote: &RemoteError| remote.class() == "NodeNotFound")
/// }
/// let remote = RemoteError::new("NodeNotFound", "nova.exception", "no such node");
/// assert!(is_missing_node(&Error::from_failure(remote)));
/// ```
pub type RemoteError = Failure;

type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as far as a caller can act on it.
///
/// Kinds follow the exceptions of the reference (parity rows E1 to E12) where it has one.
///
/// ```
/// use oslo_messaging_core::error::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unreachable, "nothing listens");
/// match error.kind() {
///     ErrorKind::Timeout | ErrorKind::Unreachable => assert_eq!(error.kind().as_str(), "broker unreachable"),
///     other => panic!("{other}"),
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No reply, heartbeat or confirm in time (`MessagingTimeout`).
    Timeout,
    /// The bus did not take the message within the allowed attempts (`MessageDeliveryFailure`).
    DeliveryFailure,
    /// Nobody would get the message: the broker returned it (`MessageUndeliverable`).
    Undeliverable,
    /// The target lacks what the operation needs (`InvalidTarget`).
    InvalidTarget,
    /// The peer's handler failed; see [`Error::remote`] (`RemoteError` and rebuilt exceptions).
    Remote,
    /// The version is above the client's cap (`RPCVersionCapError`).
    VersionCap,
    /// No endpoint has such a method (`NoSuchMethod`).
    NoSuchMethod,
    /// No endpoint takes this namespace and version (`UnsupportedVersion`).
    UnsupportedVersion,
    /// The transport URL cannot be read (`InvalidTransportURL`).
    InvalidUrl,
    /// The driver, or this build, lacks the feature (`NotImplementedError`, `DriverLoadFailure`).
    Unsupported,
    /// An option has a value that cannot work (`ConfigurationError`).
    Config,
    /// No broker could be reached.
    Unreachable,
    /// The broker refused the login, the virtual host, or an operation on an entity.
    AccessRefused,
    /// The value cannot be written as a message.
    Encode,
    /// The message, or the value in it, cannot be read as the type asked for.
    Decode,
    /// The message is larger than the bus takes.
    TooLarge,
    /// The connection was lost while the operation was under way.
    Interrupted,
    /// The transport, client or server was closed by its owner.
    Closed,
    /// The broker does not let this server or listener consume (`ServerListenError`).
    Listen,
}

impl ErrorKind {
    /// Short name in words, as it begins the text of an error.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timed out",
            Self::DeliveryFailure => "message not delivered",
            Self::Undeliverable => "message undeliverable",
            Self::InvalidTarget => "invalid target",
            Self::Remote => "remote error",
            Self::VersionCap => "version above the cap",
            Self::NoSuchMethod => "no such method",
            Self::UnsupportedVersion => "unsupported version",
            Self::InvalidUrl => "invalid transport URL",
            Self::Unsupported => "unsupported",
            Self::Config => "invalid configuration",
            Self::Unreachable => "broker unreachable",
            Self::AccessRefused => "access refused",
            Self::Encode => "value cannot be written",
            Self::Decode => "message cannot be read",
            Self::TooLarge => "message too large",
            Self::Interrupted => "connection lost",
            Self::Closed => "closed",
            Self::Listen => "cannot listen",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of everything in this library that can fail.
///
/// One pointer wide. Its text reads `kind: message (field value, …): cause`.
///
/// ```
/// use oslo_messaging_core::error::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Timeout, "no reply within 60 s").with_topic("conductor");
/// assert_eq!(error.kind(), ErrorKind::Timeout);
/// assert!(error.is_retryable());
/// assert_eq!(error.to_string(), "timed out: no reply within 60 s (topic conductor)");
///
/// let error = error.with_method("ping").with_host("broker:5672").with("server", "node-1")
///     .with_source(std::io::Error::other("reset")).retryable(false);
/// assert_eq!(error.message(), "no reply within 60 s");
/// assert_eq!(error.fields().nth(1), Some(("method", "ping")));
/// assert!(error.to_string().ends_with("server node-1): reset"), "{error}");
/// assert!(!error.is_retryable() && error.remote().is_none());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: Option<bool>,
    fields: Vec<(&'static str, String)>,
    failure: Option<RemoteError>,
    source: Option<Cause>,
}

impl Error {
    /// An error of this kind; `message` says what was tried and, if there is one, the way out.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retryable: None,
            fields: Vec::new(),
            failure: None,
            source: None,
        }))
    }

    /// The error of a call whose remote handler failed.
    ///
    /// Failures of the peer's dispatcher keep their own kinds, so that a caller can tell a missing
    /// method from a failing one: `NoSuchMethod` and `UnsupportedVersion` of module
    /// `oslo_messaging.rpc.dispatcher` (spec section 8.2).
    pub fn from_failure(failure: Failure) -> Self {
        let kind = match (failure.module(), failure.class()) {
            ("oslo_messaging.rpc.dispatcher", "NoSuchMethod") => ErrorKind::NoSuchMethod,
            ("oslo_messaging.rpc.dispatcher", "UnsupportedVersion") => {
                ErrorKind::UnsupportedVersion
            }
            _ => ErrorKind::Remote,
        };
        let mut error = Self::new(kind, format!("{}: {}", failure.class(), failure.message()));
        error.0.failure = Some(failure);
        error
    }

    /// The error of everything that is tried after a transport was closed.
    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the transport was closed")
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same operation may well succeed when it is tried again.
    ///
    /// True for time-outs, lost connections, unreachable brokers and undelivered messages, unless
    /// whoever made the error knew better ([`Error::retryable`]).
    pub fn is_retryable(&self) -> bool {
        self.0.retryable.unwrap_or(matches!(
            self.0.kind,
            ErrorKind::Timeout
                | ErrorKind::DeliveryFailure
                | ErrorKind::Undeliverable
                | ErrorKind::Unreachable
                | ErrorKind::Interrupted
        ))
    }

    /// The remote exception as data, if a peer's handler or dispatcher sent one.
    pub fn remote(&self) -> Option<&RemoteError> {
        self.0.failure.as_ref()
    }

    /// What the error is about: pairs such as `("topic", "conductor")`.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }

    /// The message alone, without kind, fields and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Says whether trying again can help, against the default of the kind.
    #[must_use]
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = Some(retryable);
        self
    }

    /// Keeps what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Cause>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds a field, or replaces the one of that name. The value must hold no secret.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        match self.0.fields.iter_mut().find(|(known, _)| *known == name) {
            Some(field) => field.1 = value,
            None => self.0.fields.push((name, value)),
        }
        self
    }

    /// Names the topic.
    #[must_use]
    pub fn with_topic(self, topic: impl Into<String>) -> Self {
        self.with("topic", topic)
    }

    /// Names the method.
    #[must_use]
    pub fn with_method(self, method: impl Into<String>) -> Self {
        self.with("method", method)
    }

    /// Names the broker, as `host:port`.
    #[must_use]
    pub fn with_host(self, host: impl Into<String>) -> Self {
        self.with("host", host)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)?;
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        for (n, (name, value)) in self.0.fields.iter().enumerate() {
            write!(f, "{}{name} {value}", if n == 0 { " (" } else { ", " })?;
        }
        if !self.0.fields.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("fields", &self.0.fields)
            .field("retryable", &self.is_retryable())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

/// A value that has no JSON form.
impl From<EncodeError> for Error {
    fn from(fault: EncodeError) -> Self {
        Self::new(ErrorKind::Encode, String::new()).with_source(fault)
    }
}

/// A value that is not of the type asked for.
impl From<JsonError> for Error {
    fn from(fault: JsonError) -> Self {
        Self::new(ErrorKind::Decode, String::new()).with_source(fault)
    }
}

/// A body that is no message.
impl From<DecodeError> for Error {
    fn from(fault: DecodeError) -> Self {
        Self::new(ErrorKind::Decode, String::new()).with_source(fault)
    }
}
