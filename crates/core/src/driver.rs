//! The seam between what oslo.messaging means and what a bus can carry.
//!
//! A [`Driver`] moves encoded messages to named destinations and hands deliveries to an [`Inbox`].
//! It knows nothing of calls, replies, deadlines of methods or dispatch: those live once, above it.
//!
//! Outgoing: an [`Outgoing`] borrows its names, owns its bytes, and is sent by [`Driver::send`], which
//! resolves when the bus took it. Incoming: the driver's reading task calls [`Inbox::deliver`] in
//! place; whoever holds the [`Delivery`] settles it exactly once.

use std::future::Future;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::wire::notification::ContextForm;

use crate::error::Result;
use crate::events::Events;

mod incoming;
mod outgoing;
mod subscription;

pub use self::incoming::{Delivery, Inbox, ListenerEvent, Settlement, Settler};
pub use self::outgoing::{Destination, Outgoing, Retry, deadline_after};
pub use self::subscription::{Notifications, Pool, Prefetch, Subscription};

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
    /// requests and replies are sent open ([`Body`](oslo_messaging_proto::wire::body::Body)). Whoever asks such a message for its bytes gets them.
    pub open: bool,
    /// What it took it delivers, or gives it back, as long as the process lives: nobody ever has to ask for a reply again, and
    /// servers keep none for that.
    pub lossless: bool,
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
        lossless: false,
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
