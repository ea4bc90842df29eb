//! The seam between what oslo.messaging means and what a bus can carry.
//!
//! A [`Driver`] moves encoded messages to named destinations and hands deliveries to an [`Inbox`].
//! It knows nothing of calls, replies, deadlines of methods or dispatch: those live once, above it.
//!
//! Outgoing: an [`Outgoing`] borrows its names, owns its bytes, and is sent by [`Driver::send`], which
//! resolves when the bus took it. Incoming: the driver's reading task calls [`Inbox::deliver`] in
//! place; whoever holds the [`Delivery`] settles it exactly once.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oslo_messaging_proto::wire::body::Body;
use oslo_messaging_proto::wire::notification::ContextForm;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::events::Events;

/// A boxed future, as the object-safe methods of the seam return it.
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
///
/// fn answer<'a>(name: &'a str) -> BoxFuture<'a, String> {
///     Box::pin(async move { format!("hello {name}") })
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(answer("node-1").await, "hello node-1");
/// # }
/// ```
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A bus: moves bytes to named destinations.
///
/// Making a driver must be cheap and must not connect; connections are made by the first
/// operation that needs one.
///
/// ```
/// use std::sync::Arc;
/// use oslo_messaging_core::driver::{
///     BoxFuture, Capabilities, Driver, Health, Inbox, Listener, Outgoing, Retry, Subscription,
/// };
/// use oslo_messaging_core::error::{Error, ErrorKind, Result};
/// use oslo_messaging_core::events::Events;
///
/// /// A bus that takes every message and delivers none.
/// struct Abyss;
///
/// impl Driver for Abyss {
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::rpc()
///     }
///
///     fn send<'a>(&'a self, _message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
///         Box::pin(async { Ok(()) })
///     }
///
///     fn listen(&self, _what: Subscription, _inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
///         Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "nothing ever comes out")) })
///     }
///
///     fn health(&self) -> Health {
///         Health::default()
///     }
///
///     fn close(&self) -> BoxFuture<'_, ()> {
///         Box::pin(async {})
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let abyss: Arc<dyn Driver> = Arc::new(Abyss);
/// assert!(abyss.capabilities().rpc && !abyss.health().connected);
/// assert_eq!(abyss.events().next().await, None);
/// // A bus that has no connections is reached at once.
/// assert!(abyss.reach(Retry::Never).await.is_ok());
/// abyss.close().await;
/// # }
/// ```
pub trait Driver: Send + Sync + 'static {
    /// What this bus can do. Asked when a client or server is built, not per message.
    fn capabilities(&self) -> Capabilities;

    /// Sends one message; resolves when the bus took it.
    ///
    /// Connecting and publishing are tried as often as [`Outgoing::retry`] allows, and until
    /// [`Outgoing::deadline`]; the same bytes are sent again after a lost connection.
    ///
    /// # Errors
    /// [`Undeliverable`](crate::error::ErrorKind::Undeliverable) if the message is mandatory and nobody
    /// would get it, [`DeliveryFailure`](crate::error::ErrorKind::DeliveryFailure) when the attempts are used up,
    /// [`Timeout`](crate::error::ErrorKind::Timeout) at the deadline, and the faults of the broker.
    ///
    /// # Cancellation
    /// Dropping the future frees its place; the message may or may not have gone out.
    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>>;

    /// Subscribes; resolves when the subscription exists on the bus, so that a message sent after
    /// that is delivered.
    ///
    /// # Errors
    /// The faults of the broker; [`Unsupported`](crate::error::ErrorKind::Unsupported) for a subscription that
    /// [`Driver::capabilities`] rules out.
    ///
    /// # Cancellation
    /// Dropping the future ends the subscription.
    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>>;

    /// Resolves when the bus can be reached to subscribe, which is tried as often as `retry` allows, so that a subscription
    /// which is to fail soon need not wait for its own deadline. A bus without connections is always reached.
    ///
    /// # Errors
    /// Why the bus cannot be reached.
    ///
    /// # Cancellation
    /// Safe: nothing is lost.
    fn reach(&self, retry: Retry) -> BoxFuture<'_, Result<()>> {
        let _ = retry;
        Box::pin(std::future::ready(Ok(())))
    }

    /// How the driver is doing, without waiting for anything.
    fn health(&self) -> Health;

    /// News of connections and consumers, from now on. A bus that has none says nothing.
    fn events(&self) -> Events {
        Events::none()
    }

    /// Ends all subscriptions and connections and joins the driver's tasks. Later operations fail
    /// with [`Closed`](crate::error::ErrorKind::Closed). Bounded in time by the driver itself.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a bus can do.
///
/// ```
/// use oslo_messaging_core::driver::Capabilities;
///
/// let mut able = Capabilities::rpc();
/// able.mandatory = true;
/// assert!(able.rpc && !able.notifications);
/// assert!(!Capabilities::NONE.rpc);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Calls and casts.
    pub rpc: bool,
    /// Notifications.
    pub notifications: bool,
    /// A delivery can be given back for another try.
    pub requeue: bool,
    /// The sender can learn that nobody would get a message.
    pub mandatory: bool,
    /// A listener can ask for messages from before it began ([`Notifications::since`]).
    pub history: bool,
    /// Messages stay inside of this process and are handed over as they are, so that they need not be written as bytes:
    /// requests and replies are sent open ([`Body`]). Whoever asks such a message for its bytes gets them.
    pub open: bool,
    /// Where a notification has its context on this bus.
    pub context: ContextForm,
    /// The prefetch that an option of the driver sets, whatever a [`Subscription`] asks for.
    pub prefetch: Option<NonZeroU16>,
    /// How long a server goes on offering a reply to a reply queue that is missing; zero for a bus
    /// where a missing reply queue cannot come back (option `kombu_missing_consumer_retry_timeout`).
    pub reply_retry: Duration,
}

impl Capabilities {
    /// A bus that can do nothing yet; fields are set one by one.
    pub const NONE: Self = Self {
        rpc: false,
        notifications: false,
        requeue: false,
        mandatory: false,
        history: false,
        open: false,
        context: ContextForm::Flat,
        prefetch: None,
        reply_retry: Duration::ZERO,
    };

    /// A bus for RPC and nothing else.
    pub const fn rpc() -> Self {
        let mut this = Self::NONE;
        this.rpc = true;
        this
    }

    /// A bus for notifications and nothing else, without requeue.
    ///
    /// ```
    /// use oslo_messaging_core::driver::Capabilities;
    ///
    /// let capabilities = Capabilities::notifications();
    /// assert!(capabilities.notifications && !capabilities.rpc && !capabilities.requeue);
    /// ```
    pub const fn notifications() -> Self {
        let mut this = Self::NONE;
        this.notifications = true;
        this
    }
}

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
    /// Whether the bus must still have the message after it was restarted; true unless set otherwise. A message whose sender
    /// has it as well, or of which another one comes soon, need not be written to a disk: it may be gone after a restart,
    /// even though the bus had taken it. A bus that makes no such difference takes no notice.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use oslo_messaging_core::driver::{Destination, Outgoing};
    ///
    /// let mut sign = Outgoing::new(Destination::Reply { queue: "reply_1" }, Bytes::from_static(b"{}"));
    /// assert!(sign.persistent);
    /// sign.persistent = false;
    /// ```
    pub persistent: bool,
}

impl<'a> Outgoing<'a> {
    /// A message without deadline and expiry, not mandatory, retried for ever, to be kept over a restart of the bus.
    pub fn new(destination: Destination<'a>, body: impl Into<Body>) -> Self {
        Self {
            destination,
            body: body.into(),
            deadline: None,
            expires: None,
            mandatory: false,
            retry: Retry::Forever,
            tell_unconfirmed: false,
            persistent: true,
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

/// What a subscription is for.
///
/// ```
/// use oslo_messaging_core::driver::{Prefetch, Subscription};
///
/// let serve = Subscription::Rpc {
///     exchange: None,
///     topic: "conductor".to_owned(),
///     server: "node-1".to_owned(),
///     prefetch: Prefetch::Unlimited,
/// };
/// assert_ne!(serve, Subscription::Replies);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscription {
    /// What an RPC server takes: its topic, itself by name, and the topic's fanouts.
    Rpc {
        /// Exchange; the driver's control exchange if absent.
        exchange: Option<String>,
        /// Topic.
        topic: String,
        /// The server's name.
        server: String,
        /// How many unsettled deliveries the bus may hand out.
        prefetch: Prefetch,
    },
    /// A reply queue of one's own; [`Listener::address`] tells its name.
    Replies,
    /// What a notification listener takes.
    Notifications(Notifications),
}

/// What a notification listener takes, and with whom it shares it.
///
/// ```
/// use oslo_messaging_core::driver::{Notifications, Pool};
///
/// let mut what = Notifications::new([(None, "notifications.info".to_owned())]);
/// what.pool = Some(Pool::shared("audit"));
/// assert_eq!(what.sources.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notifications {
    /// Exchange (the driver's control exchange if absent) and topic with priority, `notifications.info`; each once.
    pub sources: Vec<(Option<String>, String)>,
    /// The pool whose members share one copy of everything; without one, all listeners without a pool do.
    pub pool: Option<Pool>,
    /// How many unsettled deliveries the bus may hand out; for a batch at least its size.
    pub prefetch: Prefetch,
    /// Begin with what was sent then, on a bus with [`Capabilities::history`]; others refuse.
    pub since: Option<SystemTime>,
}

impl Notifications {
    /// Everything from these sources, without a pool.
    ///
    /// ```
    /// use oslo_messaging_core::driver::{Notifications, Prefetch};
    ///
    /// let what = Notifications::new([(Some("nova".to_owned()), "notifications.error".to_owned())]);
    /// assert_eq!((what.pool, what.prefetch), (None, Prefetch::Unlimited));
    /// ```
    pub fn new(sources: impl IntoIterator<Item = (Option<String>, String)>) -> Self {
        Self {
            sources: sources.into_iter().collect(),
            pool: None,
            prefetch: Prefetch::Unlimited,
            since: None,
        }
    }
}

/// Listeners that share one copy of the notifications they ask for (parity NL10).
///
/// ```
/// use oslo_messaging_core::driver::Pool;
///
/// assert!(!Pool::shared("audit").temporary);
/// assert!(Pool::temporary("omsg-7").temporary);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pool {
    /// Its name: the queue's on RabbitMQ, the consumer group's on Kafka.
    pub name: String,
    /// It ends with its listener, with what it has not taken, and has only one.
    pub temporary: bool,
}

impl Pool {
    /// A pool that outlives its listeners.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::driver::Pool::shared("audit").name, "audit");
    /// ```
    pub fn shared(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            temporary: false,
        }
    }

    /// A pool of one listener's own.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::driver::Pool::temporary("look-1").name, "look-1");
    /// ```
    pub fn temporary(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            temporary: true,
        }
    }
}

/// How many unsettled deliveries the bus hands out on each queue of a subscription.
///
/// ```
/// use std::num::NonZeroU16;
/// use oslo_messaging_core::driver::Prefetch;
///
/// let at_most_eight = Prefetch::Limited(NonZeroU16::new(8).unwrap());
/// assert_ne!(at_most_eight, Prefetch::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefetch {
    /// The driver's own option decides, else no limit.
    #[default]
    Unlimited,
    /// This many, unless the driver's own option asks for another number.
    Limited(NonZeroU16),
}

/// Where the driver puts what arrives.
///
/// Both methods are called from the driver's reading task, in place: they must not block. They may
/// settle deliveries and start sends.
///
/// ```
/// use std::sync::Mutex;
/// use oslo_messaging_core::driver::{Delivery, Inbox, ListenerEvent};
///
/// /// Keeps what arrives.
/// #[derive(Default)]
/// struct Tray(Mutex<Vec<bytes::Bytes>>);
///
/// impl Inbox for Tray {
///     fn deliver(&self, delivery: Delivery) {
///         self.0.lock().unwrap().push(delivery.body().clone());
///         delivery.ack();
///     }
///
///     fn handle_event(&self, event: ListenerEvent) {
///         if let ListenerEvent::Failed(error) = event {
///             eprintln!("no more deliveries: {error}");
///         }
///     }
/// }
/// # let tray = Tray::default();
/// # tray.handle_event(ListenerEvent::Interrupted);
/// ```
pub trait Inbox: Send + Sync + 'static {
    /// Takes one delivery.
    fn deliver(&self, delivery: Delivery);

    /// Takes news of the subscription.
    fn handle_event(&self, event: ListenerEvent);
}

/// News of a subscription.
///
/// ```
/// use oslo_messaging_core::driver::ListenerEvent;
///
/// fn may_have_lost_messages(event: &ListenerEvent) -> bool {
///     matches!(event, ListenerEvent::Restored { recreated: true } | ListenerEvent::Emptied)
/// }
/// assert!(!may_have_lost_messages(&ListenerEvent::Restored { recreated: false }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// Deliveries have stopped: the connection or the consumer was lost. The driver is repairing it.
    Interrupted,
    /// The old queue cannot be had any more, and another one takes its place: from now on this is the
    /// subscription's address. What was sent to the old one does not arrive. Comes before the `Restored` that follows.
    Renamed {
        /// What [`Listener::address`] would say of a new subscription.
        address: String,
    },
    /// Of all queues only the subscription's own was lost, with what stood in it, and is there again under its name.
    /// Comes before the `Restored` that follows.
    Emptied,
    /// What was to be delivered lately may come late or not at all: it went to a connection that was dead without anybody
    /// knowing, and comes again only when the bus has given that up, or it was not [persistent](Outgoing::persistent), and
    /// nothing tells whether the bus was restarted meanwhile. What was persistent is where it was. Comes before the
    /// `Restored` that follows.
    Astray,
    /// Deliveries flow again.
    Restored {
        /// Messages that the bus had taken may be lost: those in the subscription's own queue, or, for
        /// [`Subscription::Replies`], requests in the queues of servers.
        recreated: bool,
    },
    /// The driver gave up; there will be no more deliveries.
    Failed(Error),
}

/// A message that arrived, to be settled exactly once.
///
/// Dropped without a word, it goes back to the bus for another consumer.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use bytes::Bytes;
/// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
///
/// /// Notes what became of each delivery.
/// #[derive(Default)]
/// struct Ledger(Mutex<Vec<(u64, Settlement)>>);
///
/// impl Settler for Ledger {
///     fn settle(&self, tag: u64, how: Settlement) {
///         self.0.lock().unwrap().push((tag, how));
///     }
/// }
///
/// let ledger = Arc::new(Ledger::default());
/// let delivery = |tag| Delivery::new(Bytes::from_static(b"{}"), tag, ledger.clone());
/// let first = delivery(1).redelivered(true).expires(Some(Duration::from_secs(60)));
/// assert_eq!(first.body(), "{}");
/// assert!(first.is_redelivered());
/// assert_eq!(first.expiry(), Some(Duration::from_secs(60)));
/// first.ack();
/// delivery(2).reject();
/// delivery(3).requeue();
/// drop(delivery(4));
/// let settled = ledger.0.lock().unwrap().clone();
/// let requeue = Settlement::Requeue;
/// assert_eq!(settled, [(1, Settlement::Ack), (2, Settlement::Reject), (3, requeue), (4, requeue)]);
/// ```
pub struct Delivery {
    body: Body,
    redelivered: bool,
    expires: Option<Duration>,
    tag: u64,
    settler: Option<Arc<dyn Settler>>,
}

impl Delivery {
    /// A delivery with this body, settled through `settler` under `tag`.
    pub fn new(body: Bytes, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self::of(body.into(), tag, settler)
    }

    /// The same of a message that need not be bytes.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
    /// use oslo_messaging_proto::Body;
    ///
    /// struct Nobody;
    /// impl Settler for Nobody {
    ///     fn settle(&self, _tag: u64, _how: Settlement) {}
    /// }
    ///
    /// let delivery = Delivery::of(Body::from("{}"), 1, Arc::new(Nobody));
    /// assert_eq!(delivery.body(), "{}");
    /// ```
    pub fn of(body: Body, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self {
            body,
            redelivered: false,
            expires: None,
            tag,
            settler: Some(settler),
        }
    }

    /// Marks it as delivered before.
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Notes the expiry the sender gave it.
    #[must_use]
    pub fn expires(mut self, expires: Option<Duration>) -> Self {
        self.expires = expires;
        self
    }

    /// Puts another message in its place, which is settled as the one that came: for a driver whose bus carries another form.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
    ///
    /// struct Nobody;
    /// impl Settler for Nobody {
    ///     fn settle(&self, _tag: u64, _how: Settlement) {}
    /// }
    ///
    /// let delivery = Delivery::new("plain".into(), 1, Arc::new(Nobody)).with_body("ours".into());
    /// assert_eq!(delivery.body(), "ours");
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.body = body.into();
        self
    }

    /// The encoded message; one that came open is written for it.
    pub fn body(&self) -> &Bytes {
        self.body.bytes()
    }

    /// The message in the form in which it came.
    ///
    /// ```
    /// use oslo_messaging_core::driver::Delivery;
    ///
    /// fn method(delivery: &Delivery) -> Option<String> {
    ///     let request = delivery.message().request().ok()?;
    ///     request.method().ok().map(str::to_owned)
    /// }
    /// ```
    pub fn message(&self) -> &Body {
        &self.body
    }

    /// Whether the bus says that it handed it out before.
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// How long after its sending nobody waits for it any more, if the sender said so.
    pub fn expiry(&self) -> Option<Duration> {
        self.expires
    }

    /// Done with: the bus forgets it.
    pub fn ack(mut self) {
        self.settle(Settlement::Ack);
    }

    /// Cannot be read: the bus drops it.
    pub fn reject(mut self) {
        self.settle(Settlement::Reject);
    }

    /// Not now, or not here: the bus hands it out again.
    pub fn requeue(mut self) {
        self.settle(Settlement::Requeue);
    }

    fn settle(&mut self, how: Settlement) {
        if let Some(settler) = self.settler.take() {
            settler.settle(self.tag, how);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Requeue);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag)
            .field("bytes", &self.body.size())
            .field("redelivered", &self.redelivered)
            .field("expires", &self.expires)
            .finish()
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The bus forgets it.
    Ack,
    /// The bus drops it (or dead-letters it, if a policy says so).
    Reject,
    /// The bus hands it out again.
    Requeue,
}

/// The driver's side of a [`Delivery`].
pub trait Settler: Send + Sync + 'static {
    /// Settles the delivery of this tag. Cheap, never blocks; the driver may gather settlements into
    /// one write. A tag of a connection that is gone is ignored: the bus has taken it back already.
    fn settle(&self, tag: u64, how: Settlement);
}

/// A subscription in force.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use std::sync::Arc;
/// use oslo_messaging_core::driver::{Delivery, Driver, Inbox, ListenerEvent, Subscription};
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
///
/// struct Deaf;
/// impl Inbox for Deaf {
///     fn deliver(&self, delivery: Delivery) {
///         delivery.reject();
///     }
///     fn handle_event(&self, _event: ListenerEvent) {}
/// }
///
/// let driver = MemoryDriver::new(MemoryBroker::new());
/// let listener = driver.listen(Subscription::Replies, Arc::new(Deaf)).await?;
/// assert!(listener.address().is_some_and(|name| name.starts_with("reply_")));
/// listener.pause().await;
/// listener.close().await;
/// driver.close().await;
/// # Ok(())
/// # }
/// ```
pub trait Listener: Send + Sync + 'static {
    /// The name others reach it by, for [`Subscription::Replies`], as it was when the subscription began.
    fn address(&self) -> Option<&str>;

    /// Stops new deliveries; those handed out can still be settled. Resolves when none will come.
    fn pause(&self) -> BoxFuture<'_, ()>;

    /// Ends the subscription; unsettled deliveries go back to the bus.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// How a driver is doing.
///
/// ```
/// use oslo_messaging_core::driver::Driver;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
///
/// let health = MemoryDriver::new(MemoryBroker::new()).health();
/// assert!(health.connected && !health.blocked);
/// assert_eq!(health.last_error, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Health {
    /// All connections that are wanted are up (a bus without connections: always).
    pub connected: bool,
    /// The broker in use, as `host:port`.
    pub host: Option<String>,
    /// The broker asks publishers to wait (`connection.blocked`).
    pub blocked: bool,
    /// The last fault, in words without secrets.
    pub last_error: Option<String>,
    /// Consumers in force.
    pub consumers: usize,
    /// The reply queue calls wait at, once there was a call. Filled in by the transport.
    pub reply_queue: Option<String>,
    /// Calls that wait for a reply. Filled in by the transport.
    pub calls_in_flight: usize,
}
