//! A message on its way out: where it goes, how long, and how often it is tried.

use std::fmt;
use std::time::Duration;

use oslo_messaging_proto::wire::body::Body;
use tokio::time::Instant;

/// A message on its way out.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use oslo_messaging_core::driver::{Destination, Outgoing, Retry, deadline_after};
/// use tokio::time::Instant;
///
/// let topic = Destination::Topic { exchange: None, topic: "conductor" };
/// let mut message = Outgoing::new(topic, Bytes::from_static(b"{}"));
/// message.deadline = Some(deadline_after(Instant::now(), Duration::from_secs(60)));
/// message.retry = Retry::Times(2);
/// message.mandatory = true;
/// assert!(!format!("{message:?}").contains("{}"), "payloads stay out of logs");
/// ```
#[derive(Clone)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub destination: Destination<'a>,
    /// The message: bytes, or one that is written as soon as somebody looks at its bytes, which it can be used as. Sent again
    /// unchanged after a lost connection.
    pub body: Body,
    /// When the sender stops waiting; `None` waits as long as [`Outgoing::retry`] allows.
    pub deadline: Option<Instant>,
    /// When it was put together, if that was just now: a driver that hands it on without waiting need not read a clock.
    pub fresh: Option<Instant>,
    /// How long the bus keeps the message if nobody takes it (the AMQP `expiration` of a call).
    pub expires: Option<Duration>,
    /// Fail with `Undeliverable` if nobody would get it.
    pub mandatory: bool,
    /// How often connecting and publishing are tried.
    pub retry: Retry,
    /// If the connection is lost after the message was written and before the bus confirmed it, fail with
    /// [`Interrupted`](crate::error::ErrorKind::Interrupted) instead of sending it again: the sender has ways of its own to
    /// find out whether it arrived.
    pub tell_unconfirmed: bool,
    /// Whether the bus must still have the message after it was restarted; true unless set otherwise, but false for fanouts. A
    /// message whose sender has it as well, or of which another one comes soon, need not be written to a disk: it may be
    /// gone after a restart, even though the bus had taken it. Nor need one that each of many queues would write for
    /// itself. A bus that makes no such difference takes no notice.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use oslo_messaging_core::driver::{Destination, Outgoing};
    ///
    /// let mut sign = Outgoing::new(Destination::Reply { queue: "reply_1" }, Bytes::from_static(b"{}"));
    /// assert!(sign.persistent);
    /// sign.persistent = false;
    /// let fanout = Outgoing::new(Destination::Fanout { topic: "agents" }, Bytes::from_static(b"{}"));
    /// assert!(!fanout.persistent);
    /// ```
    pub persistent: bool,
    /// Small, of use only now, and sent again by whoever needs it, such as a sign of life or a question who is still there:
    /// false unless set otherwise. It goes ahead of what waits to be sent, if the bus has a way for that; the bus need not say
    /// that it took it; and it does not wait for receivers that may be on their way back.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use oslo_messaging_core::driver::{Destination, Outgoing};
    ///
    /// let mut sign = Outgoing::new(Destination::Reply { queue: "reply_1" }, Bytes::from_static(b"{}"));
    /// assert!(!sign.urgent);
    /// sign.urgent = true;
    /// ```
    pub urgent: bool,
}

impl<'a> Outgoing<'a> {
    /// A message without deadline and expiry, not mandatory, retried for ever, to be kept over a restart of the bus unless it is a
    /// fanout.
    pub fn new(destination: Destination<'a>, body: impl Into<Body>) -> Self {
        Self {
            destination,
            body: body.into(),
            deadline: None,
            fresh: None,
            expires: None,
            mandatory: false,
            retry: Retry::Forever,
            tell_unconfirmed: false,
            persistent: !matches!(destination, Destination::Fanout { .. }),
            urgent: false,
        }
    }
}

impl fmt::Debug for Outgoing<'_> {
    // The payload stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("destination", &self.destination)
            .field("bytes", &self.body.size())
            .field("deadline", &self.deadline)
            .field("expires", &self.expires)
            .field("mandatory", &self.mandatory)
            .field("retry", &self.retry)
            .field("tell_unconfirmed", &self.tell_unconfirmed)
            .field("persistent", &self.persistent)
            .field("urgent", &self.urgent)
            .finish()
    }
}

/// Where a message goes. Names are used as they are, unescaped (spec section 1).
///
/// ```
/// use oslo_messaging_core::driver::Destination;
///
/// let one = Destination::Server { exchange: Some("nova"), topic: "compute", server: "node-1" };
/// assert_eq!(one.to_string(), "topic compute server node-1");
/// assert_eq!(Destination::Fanout { topic: "compute" }.to_string(), "fanout compute");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Destination<'a> {
    /// One of the servers of a topic.
    Topic {
        /// Exchange; the driver's control exchange if absent.
        exchange: Option<&'a str>,
        /// Topic.
        topic: &'a str,
    },
    /// One server of a topic.
    Server {
        /// Exchange; the driver's control exchange if absent.
        exchange: Option<&'a str>,
        /// Topic.
        topic: &'a str,
        /// The server's name.
        server: &'a str,
    },
    /// All servers of a topic; not scoped by an exchange (parity 2.1).
    Fanout {
        /// Topic.
        topic: &'a str,
    },
    /// The queue a caller waits at.
    Reply {
        /// Its name, as the request gave it.
        queue: &'a str,
    },
    /// The listeners of a topic and priority: a copy for each pool of them, and one for those without a pool, kept
    /// until they come (parity N6, NL10, NL11).
    Notification {
        /// Exchange; the driver's control exchange if absent. A bus without exchanges has no use for it.
        exchange: Option<&'a str>,
        /// Topic and priority, `notifications.info`.
        topic: &'a str,
    },
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic { topic, .. } => write!(f, "topic {topic}"),
            Self::Server { topic, server, .. } => write!(f, "topic {topic} server {server}"),
            Self::Fanout { topic } => write!(f, "fanout {topic}"),
            Self::Reply { queue } => write!(f, "reply queue {queue}"),
            Self::Notification { topic, .. } => write!(f, "notification topic {topic}"),
        }
    }
}

/// How often connecting and publishing are tried (parity RC13).
///
/// ```
/// use oslo_messaging_core::driver::Retry;
///
/// assert!(Retry::Forever.allows(1_000));
/// assert!(!Retry::Never.allows(1));
/// assert!(Retry::Times(2).allows(2) && !Retry::Times(2).allows(3));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// Until the deadline, if there is one (`None` and −1 of the reference).
    #[default]
    Forever,
    /// One attempt (0).
    Never,
    /// This many attempts after the first.
    Times(u32),
}

impl Retry {
    /// Whether another attempt is allowed after `failed` failed ones.
    pub fn allows(self, failed: u32) -> bool {
        match self {
            Self::Forever => true,
            Self::Never => false,
            Self::Times(n) => failed <= n,
        }
    }
}

/// The point in time `wait` after `now`, or one as good as never (thirty years away) where the clock would
/// overflow: waits are the application's or a peer's to choose.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::driver::deadline_after;
/// use tokio::time::Instant;
///
/// let now = Instant::now();
/// assert_eq!(deadline_after(now, Duration::from_secs(5)), now + Duration::from_secs(5));
/// assert!(deadline_after(now, Duration::MAX) > now + Duration::from_secs(900_000_000));
/// ```
pub fn deadline_after(now: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now + wait.min(NEVER)
}
