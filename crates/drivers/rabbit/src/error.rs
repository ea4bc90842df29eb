//! The one place where faults of the AMQP engine become errors of this library.
//!
//! Decides by kind and reply code, never by text, whether a fault passes by itself ([`Hope`]) and what
//! the user can do about it. Refuses to let credentials through: faults carry host, virtual host and
//! the name of what was asked for.

use std::io;
use std::sync::Arc;

use oslo_messaging_amqp::{Error as AmqpError, ErrorKind as AmqpKind, TlsFault};
use oslo_messaging_core::error::{Error, ErrorKind};

/// Reply codes of AMQP 0-9-1 and RabbitMQ that are told apart.
mod code {
    pub(super) const ACCESS_REFUSED: u16 = 403;
    pub(super) const NOT_FOUND: u16 = 404;
    pub(super) const RESOURCE_LOCKED: u16 = 405;
    pub(super) const PRECONDITION_FAILED: u16 = 406;
    pub(super) const NOT_ALLOWED: u16 = 530;
    pub(super) const NOT_IMPLEMENTED: u16 = 540;
    pub(super) const INTERNAL_ERROR: u16 = 541;
}

/// `connection.start`, in which a broker offers login methods.
const START: (u16, u16) = (10, 10);

/// Whether trying again can help, and how soon. Of several faults in a round the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hope {
    /// It may pass.
    Later,
    /// The broker closes handshakes, as one that is just starting does.
    Starting,
    /// Nobody listens: asking again costs nobody anything.
    Soon,
    /// Not before somebody changes something: login, virtual host, configuration.
    None,
}

/// Why no broker of a round could be reached; shared by all who wait for a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectFault {
    cause: AmqpError,
    host: Arc<str>,
    vhost: Arc<str>,
}

impl ConnectFault {
    /// A failed attempt at this `host:port` and virtual host.
    pub(crate) fn new(cause: AmqpError, host: &Arc<str>, vhost: &Arc<str>) -> Self {
        Self {
            cause,
            host: Arc::clone(host),
            vhost: Arc::clone(vhost),
        }
    }

    /// Whether trying again can help.
    pub(crate) fn hope(&self) -> Hope {
        match (self.cause.kind(), self.cause.code()) {
            // A virtual host that is not started yet answers with an internal error.
            (_, Some(code::INTERNAL_ERROR)) => Hope::Starting,
            // It said so before it heard anything: none of its login methods is ours.
            (AmqpKind::AccessRefused, None) if self.cause.method() == Some(START) => Hope::None,
            // Without a code the broker only closed the socket, as one that is starting may.
            (AmqpKind::AccessRefused, None) => Hope::Later,
            (AmqpKind::AccessRefused | AmqpKind::VhostRefused, _) => Hope::None,
            (AmqpKind::VersionMismatch | AmqpKind::InvalidArgument, _) => Hope::None,
            (AmqpKind::ConnectionClosed, Some(code::ACCESS_REFUSED | code::NOT_ALLOWED)) => {
                Hope::None
            }
            (AmqpKind::ConnectionClosed, _) => Hope::Starting,
            (AmqpKind::Tls, _) if self.cause.tls_fault() == Some(TlsFault::Broken) => Hope::Later,
            // A broker on its way down or up does the same.
            (AmqpKind::Tls, _) if self.cause.tls_fault() == Some(TlsFault::HungUp) => {
                Hope::Starting
            }
            // Certificates and options have to be changed by somebody.
            (AmqpKind::Tls, _) => Hope::None,
            (AmqpKind::Io, _) => hope_of_socket(&self.cause),
            _ => Hope::Later,
        }
    }

    /// Whether the broker fell silent, which says more against it than a lost connection.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(
            self.cause.kind(),
            AmqpKind::Timeout | AmqpKind::HeartbeatLost
        )
    }

    /// What a waiter is told.
    pub(crate) fn to_error(&self) -> Error {
        let (kind, advice) = match (self.hope(), self.cause.kind()) {
            (Hope::None, AmqpKind::AccessRefused) => (
                ErrorKind::AccessRefused,
                "the broker refused the login; check user and password in the transport URL, and rabbit_login_method",
            ),
            (Hope::None, AmqpKind::VhostRefused | AmqpKind::ConnectionClosed) => (
                ErrorKind::AccessRefused,
                "the broker refused the virtual host; make it and let the user in (rabbitmqctl add_vhost, set_permissions), \
                 or correct the path of the transport URL",
            ),
            (Hope::None, AmqpKind::VersionMismatch) => (
                ErrorKind::Unsupported,
                "what listens there does not speak AMQP 0-9-1; check host and port of the transport URL",
            ),
            (_, AmqpKind::Tls) => advice_on_tls(self.cause.tls_fault()),
            (Hope::None, _) => (
                ErrorKind::Config,
                "the connection cannot be asked for with these values",
            ),
            _ => (
                ErrorKind::Unreachable,
                "no connection to the broker; check that it runs, and host and port of the transport URL",
            ),
        };
        Error::new(kind, advice)
            .with_host(&*self.host)
            .with("vhost", &*self.vhost)
            .with_source(self.cause.clone())
    }
}

/// What can be done about a TLS fault.
fn advice_on_tls(fault: Option<TlsFault>) -> (ErrorKind, &'static str) {
    match fault {
        Some(TlsFault::Files) => (
            ErrorKind::Config,
            "a file of certificates or a key cannot be used; check ssl_ca_file, ssl_cert_file and ssl_key_file",
        ),
        Some(TlsFault::UnknownIssuer) => (
            ErrorKind::AccessRefused,
            "the broker's certificate is signed by nobody who is trusted here; name its authority in ssl_ca_file, or let the \
             system trust it (ssl_verify=false encrypts without knowing with whom)",
        ),
        Some(TlsFault::WrongName) => (
            ErrorKind::AccessRefused,
            "the broker's certificate is for other names; write one of them into the transport URL, or issue it for this one \
             (as a subjectAltName)",
        ),
        Some(TlsFault::Expired) => (
            ErrorKind::AccessRefused,
            "the broker's certificate has expired; renew it on the broker",
        ),
        Some(TlsFault::NotYetValid) => (
            ErrorKind::AccessRefused,
            "the broker's certificate is not valid yet; check the clocks of both machines",
        ),
        Some(TlsFault::Unusable) => (
            ErrorKind::AccessRefused,
            "the broker's certificate is none a server may show; issue one that is no authority's own, version 3, with a \
             subjectAltName",
        ),
        Some(TlsFault::PeerRefused) => (
            ErrorKind::AccessRefused,
            "the broker refused the TLS connection; it may want a certificate signed by an authority that it trusts \
             (ssl_cert_file, ssl_key_file)",
        ),
        Some(TlsFault::HungUp) => (
            ErrorKind::Unreachable,
            "the broker asked for a certificate and hung up; if it goes on, it wants one signed by an authority that it trusts \
             (ssl_cert_file, ssl_key_file)",
        ),
        Some(TlsFault::NoCommonVersion) => (
            ErrorKind::Config,
            "the broker speaks no version of TLS in common with this side (1.2 and 1.3, or what ssl_version says)",
        ),
        Some(TlsFault::NotTls) => (
            ErrorKind::Config,
            "what listens there does not speak TLS; take the broker's TLS port (5671 by default), or unset ssl",
        ),
        Some(TlsFault::WantsTls) => (
            ErrorKind::Config,
            "the broker wants TLS on this port; set ssl=true, or take its port without TLS",
        ),
        _ => (
            ErrorKind::Unreachable,
            "TLS to the broker broke off; see the cause",
        ),
    }
}

fn hope_of_socket(error: &AmqpError) -> Hope {
    let source = std::error::Error::source(error);
    match source
        .and_then(|source| source.downcast_ref())
        .map(io::Error::kind)
    {
        Some(io::ErrorKind::ConnectionRefused) => Hope::Soon,
        // The engine says nothing more about a socket that was closed during the handshake.
        None
        | Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe,
        ) => Hope::Starting,
        Some(_) => Hope::Later,
    }
}

/// Where something failed, for the fields of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// `host:port`.
    pub(crate) host: &'a str,
    /// Virtual host.
    pub(crate) vhost: &'a str,
    /// Exchange, queue or destination, such as `queue topic-a`.
    pub(crate) entity: &'a str,
}

impl Place<'_> {
    fn fill(self, error: Error) -> Error {
        error
            .with_host(self.host)
            .with("vhost", self.vhost)
            .with("entity", self.entity)
    }
}

/// Whether the broker closed the channel because of a durability or another argument that differs.
pub(crate) fn is_mismatch(error: &AmqpError) -> bool {
    error.kind() == AmqpKind::ChannelClosed && error.code() == Some(code::PRECONDITION_FAILED)
}

/// Whether the broker says that the thing does not exist.
pub(crate) fn is_missing(error: &AmqpError) -> bool {
    error.kind() == AmqpKind::ChannelClosed && error.code() == Some(code::NOT_FOUND)
}

/// Whether the broker failed, or refuses something as a matter of policy: it says the same in both cases.
pub(crate) fn is_internal(error: &AmqpError) -> bool {
    error.code() == Some(code::INTERNAL_ERROR)
}

/// Whether the user may not do it.
pub(crate) fn is_refused(error: &AmqpError) -> bool {
    error.kind() == AmqpKind::ChannelClosed && error.code() == Some(code::ACCESS_REFUSED)
}

/// Whether the queue belongs to another connection.
pub(crate) fn is_locked(error: &AmqpError) -> bool {
    error.kind() == AmqpKind::ChannelClosed && error.code() == Some(code::RESOURCE_LOCKED)
}

/// Whether setting up a subscription again, unchanged, cannot help.
pub(crate) fn is_final_for_listener(error: &AmqpError) -> bool {
    match error.kind() {
        AmqpKind::ChannelClosed | AmqpKind::ConnectionClosed => matches!(
            error.code(),
            Some(
                code::ACCESS_REFUSED
                    | code::RESOURCE_LOCKED
                    | code::PRECONDITION_FAILED
                    | code::NOT_ALLOWED
                    | code::NOT_IMPLEMENTED
            )
        ),
        AmqpKind::InvalidArgument | AmqpKind::NoFreeChannel => true,
        _ => false,
    }
}

/// The error of a subscription that the broker does not grant.
pub(crate) fn listen_error(error: AmqpError, place: Place<'_>) -> Error {
    let (kind, advice) = match error.code() {
        Some(code::ACCESS_REFUSED) => (
            ErrorKind::AccessRefused,
            "the user may not do this; grant configure, write and read on exchanges and queues (rabbitmqctl set_permissions)",
        ),
        Some(code::PRECONDITION_FAILED) => (
            ErrorKind::Listen,
            "it exists with properties that cannot be used; make the options of all services on this virtual host alike, or \
             delete it while none of them runs",
        ),
        Some(code::NOT_FOUND) => (
            ErrorKind::Listen,
            "it is missing, or the node that holds it is down",
        ),
        Some(code::RESOURCE_LOCKED) => {
            (ErrorKind::Listen, "another connection holds it exclusively")
        }
        Some(code::INTERNAL_ERROR) => (
            ErrorKind::Listen,
            "the broker failed, or refuses this as a matter of policy; see its log (where transient queues are refused, set \
             rabbit_quorum_queue)",
        ),
        _ if error.kind() == AmqpKind::NoFreeChannel => (
            ErrorKind::Listen,
            "the connection has no channel left; raise channel_max of the broker, or start fewer servers",
        ),
        _ => (
            ErrorKind::Listen,
            "the broker does not let this subscription be",
        ),
    };
    place.fill(Error::new(kind, advice)).with_source(error)
}

/// Whether the broker refused a publish itself. Our properties are always valid, so size is all that can be wrong.
pub(crate) fn is_oversize(error: &AmqpError) -> bool {
    const PUBLISH: (u16, u16) = (60, 40);
    is_mismatch(error) && error.method() == Some(PUBLISH)
}

/// The error of a message that was not taken, after the last attempt.
pub(crate) fn publish_error(error: AmqpError, place: Place<'_>) -> Error {
    let (kind, advice) = match (error.kind(), error.code()) {
        (AmqpKind::ChannelClosed, Some(code::ACCESS_REFUSED)) => (
            ErrorKind::AccessRefused,
            "the user may not publish there; grant configure and write on the exchange (rabbitmqctl set_permissions)",
        ),
        _ if is_oversize(&error) => (
            ErrorKind::TooLarge,
            "the broker does not take a message of this size; send less, or raise its max_message_size",
        ),
        (AmqpKind::ChannelClosed, Some(code::PRECONDITION_FAILED)) => (
            ErrorKind::DeliveryFailure,
            "the exchange exists with other properties; make the options of all services on this virtual host alike, or delete it",
        ),
        (AmqpKind::InvalidArgument, _) => (
            ErrorKind::InvalidTarget,
            "the names cannot be put on the wire",
        ),
        (AmqpKind::ChannelClosed | AmqpKind::NoFreeChannel, _) => {
            (ErrorKind::DeliveryFailure, "the broker refused the message")
        }
        _ => (
            ErrorKind::DeliveryFailure,
            "the connection was lost before the broker confirmed the message",
        ),
    };
    let final_fault = matches!(
        error.kind(),
        AmqpKind::ChannelClosed | AmqpKind::InvalidArgument
    ) && !is_missing(&error);
    place
        .fill(Error::new(kind, advice))
        .retryable(!final_fault)
        .with_source(error)
}

/// The error of a message that may have arrived: the connection was lost before the broker said so.
pub(crate) fn unconfirmed_error(error: AmqpError, place: Place<'_>) -> Error {
    let text =
        "the connection was lost before the broker confirmed the message, which may have arrived";
    place
        .fill(Error::new(ErrorKind::Interrupted, text))
        .with_source(error)
}

/// Whether publishing the same again can help, by the answer to a publish that nothing else disturbed.
pub(crate) fn is_final_for_message(error: &AmqpError) -> bool {
    match error.kind() {
        AmqpKind::ChannelClosed => !is_missing(error),
        AmqpKind::InvalidArgument => true,
        _ => false,
    }
}

/// The error of a message the broker could not take and said so.
pub(crate) fn nacked_error(place: Place<'_>) -> Error {
    place.fill(Error::new(
        ErrorKind::DeliveryFailure,
        "the broker refused to keep the message (basic.nack); a queue may be full or its node down",
    ))
}

/// The error of a notification whose queue did not answer.
pub(crate) fn unanswered_error(why: &str, place: Place<'_>) -> Error {
    let why = format!("the broker did not make sure that the message has a queue ({why})");
    place.fill(Error::new(ErrorKind::DeliveryFailure, why))
}

/// The error of a mandatory message that no queue takes.
pub(crate) fn undeliverable_error(code: u16, text: &str, place: Place<'_>) -> Error {
    let why = format!("no queue takes the message, so nobody listens ({code} {text})");
    place.fill(Error::new(ErrorKind::Undeliverable, why))
}

/// The error of anything asked of a closed driver.
pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}
