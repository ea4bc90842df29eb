//! The one public error of this crate: what went wrong on a connection, a channel or in an argument.
//!
//! An [`Error`] is cheap to clone, since the loss of a connection resolves everything that waits on it with the same reason.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Result of the operations of this crate.
///
/// ```
/// fn check(name: &str) -> oslo_messaging_amqp::Result<&str> {
///     Ok(name)
/// }
/// assert_eq!(check("q").ok(), Some("q"));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is. Decide by this and by [`Error::code`], never by the text.
///
/// ```
/// use oslo_messaging_amqp::ErrorKind;
///
/// fn is_ours_to_mend(kind: ErrorKind) -> bool {
///     matches!(kind, ErrorKind::InvalidArgument | ErrorKind::AccessRefused)
/// }
/// assert!(!is_ours_to_mend(ErrorKind::Io));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The socket failed or was closed by the peer without a word.
    Io,
    /// A deadline of this crate passed: connecting or closing took too long.
    Timeout,
    /// The peer speaks another protocol or protocol version.
    VersionMismatch,
    /// The broker refused the login (close 403 or a closed socket in place of `connection.tune`), or offers none of our mechanisms.
    AccessRefused,
    /// The broker does not know the virtual host, or does not let this user in.
    VhostRefused,
    /// The peer broke the protocol. [`Error::code`] is the code this side closed the connection with (501 for a bad frame …).
    Protocol,
    /// TLS failed: [`Error::tls_fault`] says why.
    Tls,
    /// Nothing was received for two heartbeat intervals.
    HeartbeatLost,
    /// The broker closed the connection: [`Error::code`], [`Error::text`] and [`Error::method`] say why.
    ConnectionClosed,
    /// The broker closed the channel: [`Error::code`], [`Error::text`] and [`Error::method`] say why. The connection goes on.
    ChannelClosed,
    /// This side closed the connection or the channel.
    Closed,
    /// Not now: too much output is unsent, or the broker stopped the flow. Wait with [`Channel::ready`](crate::Channel::ready).
    Full,
    /// An argument cannot be put on the wire (a name over 255 bytes, a table over the frame limit).
    InvalidArgument,
    /// All channel numbers of this connection are in use.
    NoFreeChannel,
    /// A publish that wants a confirm on a channel without [`Channel::confirm_select`](crate::Channel::confirm_select).
    NotConfirming,
    /// A delivery tag that is not outstanding on this channel (settled before, or never delivered).
    UnknownDelivery,
}

/// Why TLS failed.
///
/// ```
/// use oslo_messaging_amqp::{Error, TlsFault};
///
/// fn advice(error: &Error) -> Option<&'static str> {
///     match error.tls_fault()? {
///         TlsFault::UnknownIssuer => Some("name the authority that signed the broker's certificate"),
///         TlsFault::WrongName => Some("connect by a name that the certificate has"),
///         _ => None,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFault {
    /// A file of certificates or a key cannot be read or used, or the machine has no authorities to trust.
    Files,
    /// The peer's certificate is signed by nobody who is trusted.
    UnknownIssuer,
    /// The peer's certificate is for other names than the host's.
    WrongName,
    /// The peer's certificate, or one that it stands on, has expired.
    Expired,
    /// The peer's certificate is not valid yet; or this machine's clock is wrong.
    NotYetValid,
    /// The peer's certificate is none that a server may use: an authority's own, an outdated form, revoked …
    Unusable,
    /// The peer ended the handshake with an alert: it wants a certificate of this side, or another one than it got.
    PeerRefused,
    /// The peer asked for a certificate of this side and hung up without a word: it may have refused what it got, or be shutting down.
    HungUp,
    /// No version of TLS, or no cipher, that both sides speak.
    NoCommonVersion,
    /// The peer does not speak TLS on this port.
    NotTls,
    /// The peer wants TLS on this port, and was spoken to in the clear.
    WantsTls,
    /// Anything else that breaks the rules of TLS.
    Broken,
}

/// The error of this crate. Clones share one allocation.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use oslo_messaging_amqp::{ConnectOptions, Connection, ErrorKind};
///
/// let (stream, peer) = tokio::io::duplex(64);
/// drop(peer);
/// let error = Connection::handshake(stream, ConnectOptions::default()).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Io);
/// assert!(error.is_connection_loss());
/// assert_eq!((error.code(), error.method(), error.tls_fault()), (None, None, None));
/// println!("{}", error.text());
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    code: Option<u16>,
    method: Option<(u16, u16)>,
    text: Cow<'static, str>,
    tls: Option<TlsFault>,
    source: Option<io::Error>,
}

impl Error {
    /// An error of a kind with a text for people.
    pub(crate) fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            code: None,
            method: None,
            text: text.into(),
            tls: None,
            source: None,
        }))
    }

    /// An error that carries an AMQP reply code and the method (class, method) it is about.
    pub(crate) fn with_code(
        kind: ErrorKind,
        code: u16,
        text: impl Into<Cow<'static, str>>,
        method: (u16, u16),
    ) -> Self {
        let method = (method != (0, 0)).then_some(method);
        Self(Arc::new(Inner {
            kind,
            code: Some(code),
            method,
            text: text.into(),
            tls: None,
            source: None,
        }))
    }

    /// An error that is about a method (class, method) of the peer, which gave no code.
    pub(crate) fn about(
        kind: ErrorKind,
        text: impl Into<Cow<'static, str>>,
        method: (u16, u16),
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            code: None,
            method: Some(method),
            text: text.into(),
            tls: None,
            source: None,
        }))
    }

    /// A failure of the socket, or of TLS on it.
    pub(crate) fn io(text: &'static str, source: io::Error) -> Self {
        #[cfg(feature = "tls")]
        if let Some(fault) = crate::tls::fault_of(&source) {
            return Self::tls(fault, text, Some(source));
        }
        Self(Arc::new(Inner {
            kind: ErrorKind::Io,
            code: None,
            method: None,
            text: Cow::Borrowed(text),
            tls: None,
            source: Some(source),
        }))
    }

    /// A failure of TLS.
    pub(crate) fn tls(
        fault: TlsFault,
        text: impl Into<Cow<'static, str>>,
        source: Option<io::Error>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind: ErrorKind::Tls,
            code: None,
            method: None,
            text: text.into(),
            tls: Some(fault),
            source,
        }))
    }

    /// A name or a table that the wire cannot carry.
    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, text)
    }

    /// The same, when it happened right after the peer had asked for a certificate of this side: what looks like a fault of the socket is
    /// then often a refusal, whose alert the reset has overtaken.
    #[cfg(feature = "tls")]
    pub(crate) fn after_certificate_request(self) -> Self {
        if self.kind() != ErrorKind::Io {
            return self;
        }
        let text = format!("the peer asked for a certificate of this side and hung up: {self}");
        Self::tls(TlsFault::HungUp, text, None)
    }

    /// The kind, to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The AMQP reply code (404, 406, 320 …), if the peer gave one or this side closed with one.
    pub fn code(&self) -> Option<u16> {
        self.0.code
    }

    /// The text: the broker's own words for what it closed, ours otherwise. For people; never decide by it.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Class and method id of the method the broker blames, e.g. `(60, 40)` for `basic.publish`; `(10, 10)`, `connection.start`, when it offers
    /// none of our login mechanisms there.
    pub fn method(&self) -> Option<(u16, u16)> {
        self.0.method
    }

    /// Why TLS failed, for errors of kind [`ErrorKind::Tls`].
    pub fn tls_fault(&self) -> Option<TlsFault> {
        self.0.tls
    }

    /// Whether the whole connection is gone, as opposed to one channel or one argument.
    pub fn is_connection_loss(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Io
                | ErrorKind::Tls
                | ErrorKind::HeartbeatLost
                | ErrorKind::ConnectionClosed
                | ErrorKind::Protocol
        )
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind);
        if let Some(code) = self.0.code {
            debug.field("code", &code);
        }
        if let Some(method) = self.0.method {
            debug.field("method", &method);
        }
        if let Some(fault) = self.0.tls {
            debug.field("tls", &fault);
        }
        debug.field("text", &self.0.text);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0.kind {
            ErrorKind::AccessRefused => "login refused: ",
            ErrorKind::VhostRefused => "virtual host refused: ",
            ErrorKind::ConnectionClosed => "connection closed by the broker: ",
            ErrorKind::ChannelClosed => "channel closed by the broker: ",
            ErrorKind::Protocol => "protocol violated by the peer: ",
            _ => "",
        };
        f.write_str(what)?;
        if let Some(code) = self.0.code {
            write!(f, "{code} ")?;
        }
        f.write_str(&self.0.text)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_code_and_reason() {
        let error = Error::with_code(
            ErrorKind::ChannelClosed,
            404,
            "NOT_FOUND - no exchange 'x'",
            (60, 40),
        );
        assert_eq!(
            error.to_string(),
            "channel closed by the broker: 404 NOT_FOUND - no exchange 'x'"
        );
        assert_eq!(error.method(), Some((60, 40)));
        assert!(!error.is_connection_loss());
    }

    #[test]
    fn the_cause_of_a_socket_failure_is_kept() {
        let error = Error::io(
            "reading failed",
            io::Error::from(io::ErrorKind::ConnectionReset),
        );
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(std::error::Error::source(&error).is_some());
        assert!(error.is_connection_loss());
    }
}
