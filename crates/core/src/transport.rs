//! The transport: a cheap handle on one driver, shared by all clients and servers of a process.
//!
//! Owns the transport's one reply listener, which the first call starts. Knows nothing of methods.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::config::{DefaultConfig, MetricsConfig, TracingConfig};
use crate::driver::{Capabilities, Driver, Health, Retry};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Events;
use crate::layer::Layer;
use crate::layer::metrics::Metrics;
use crate::lock::lock;
use crate::replies::Replies;
use crate::two_part::TwoPartReplies;

pub use crate::config::ReplyStyle;

/// Options that concern all clients and servers of a transport, whatever the bus.
///
/// Field names are the reference's option names.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::transport::TransportOptions;
///
/// let mut options = TransportOptions::default();
/// options.rpc_response_timeout = Duration::from_secs(10);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// How long a call waits if it says nothing itself; also how long a cast waits for the bus, and how
    /// long a server that stops waits for its handlers. Default 60 s.
    pub rpc_response_timeout: Duration,
    /// How many requests a server runs at once if it says nothing itself. Default 64.
    pub executor_thread_pool_size: NonZeroUsize,
    /// Whether servers answer `oslo_rpc_server_ping`. Default false.
    pub rpc_ping_enabled: bool,
    /// Ours: in how many messages servers write their replies. Default [`ReplyStyle::Whole`].
    pub reply_style: ReplyStyle,
    /// Figures of calls for oslo.metrics. Off by default.
    pub metrics: MetricsConfig,
    /// Spans of calls. Off by default.
    pub tracing: TracingConfig,
}

impl Default for TransportOptions {
    fn default() -> Self {
        const POOL_SIZE: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
        Self {
            rpc_response_timeout: Duration::from_secs(60),
            executor_thread_pool_size: POOL_SIZE,
            rpc_ping_enabled: false,
            reply_style: ReplyStyle::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
        }
    }
}

/// What the options of `[DEFAULT]` say; a pool of no thread is one of one.
///
/// ```
/// use oslo_messaging_core::config::DefaultConfig;
/// use oslo_messaging_core::transport::TransportOptions;
///
/// let mut config = DefaultConfig::default();
/// config.executor_thread_pool_size = 8;
/// assert_eq!(TransportOptions::from(&config).executor_thread_pool_size.get(), 8);
/// ```
impl From<&DefaultConfig> for TransportOptions {
    fn from(config: &DefaultConfig) -> Self {
        let pool = usize::try_from(config.executor_thread_pool_size).unwrap_or(usize::MAX);
        Self {
            rpc_response_timeout: *config.rpc_response_timeout,
            executor_thread_pool_size: NonZeroUsize::new(pool).unwrap_or(NonZeroUsize::MIN),
            rpc_ping_enabled: config.rpc_ping_enabled,
            reply_style: config.reply_style,
            ..Self::default()
        }
    }
}

/// A way to the bus. Clones are handles on the same connections.
///
/// Making one does not connect; the first operation does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// use oslo_messaging_core::transport::{Transport, TransportOptions};
///
/// let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
/// let transport = Transport::new(driver, TransportOptions::default());
/// assert!(transport.capabilities().rpc && transport.driver().capabilities().rpc);
/// assert_eq!(transport.options().executor_thread_pool_size.get(), 64);
/// assert!(transport.health().connected);
/// assert_eq!(transport.calls_in_flight(), 0);
/// transport.close().await;
/// # }
/// ```
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Arc<dyn Driver>,
    capabilities: Capabilities,
    options: TransportOptions,
    /// Where figures go, if they are wanted.
    metrics: Option<Arc<Metrics>>,
    /// The reply listener: started by one call while the others wait. Replaced after it died.
    replies: Mutex<Arc<OnceCell<Arc<Replies>>>>,
    /// The first that was started, for calls not to lock anything. Not kept once it died: the driver would go on listening for it.
    first_replies: OnceLock<Weak<Replies>>,
    closed: AtomicBool,
}

impl Transport {
    /// A transport over `driver`.
    pub fn new(driver: Arc<dyn Driver>, options: TransportOptions) -> Self {
        let driver = match options.reply_style {
            ReplyStyle::Whole => driver,
            ReplyStyle::TwoPart => Arc::new(TwoPartReplies(driver)),
        };
        Self::over(driver, options)
    }

    fn over(driver: Arc<dyn Driver>, options: TransportOptions) -> Self {
        let capabilities = driver.capabilities();
        let metrics = &options.metrics;
        let metrics = metrics
            .metrics_enabled
            .then(|| Arc::new(Metrics::new(metrics)));
        Self {
            inner: Arc::new(Inner {
                driver,
                capabilities,
                options,
                metrics,
                replies: Mutex::default(),
                first_replies: OnceLock::new(),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// The same transport with a layer around its driver: a transport of its own, with its own reply queue. Clients and servers
    /// of the one before go past the layer.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use oslo_messaging_core::driver::Driver;
    /// # use oslo_messaging_core::layer::Layer;
    /// # use oslo_messaging_core::transport::Transport;
    /// # fn doc(transport: Transport, log: impl Layer) {
    /// let transport = transport.layer(&log);
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self, layer: &dyn Layer) -> Self {
        let driver = layer.wrap(Arc::clone(&self.inner.driver));
        Self::over(driver, self.inner.options.clone())
    }

    /// Where figures of calls go.
    pub(crate) fn metrics(&self) -> Option<&Arc<Metrics>> {
        self.inner.metrics.as_ref()
    }

    /// The driver underneath.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.inner.driver
    }

    /// What the driver can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities
    }

    /// The options it was made with.
    pub fn options(&self) -> &TransportOptions {
        &self.inner.options
    }

    /// How the driver and the calls are doing, without waiting for anything.
    pub fn health(&self) -> Health {
        let mut health = self.inner.driver.health();
        if let Some(replies) = self.started_replies() {
            health.reply_queue = Some(replies.address().to_string());
            health.calls_in_flight = replies.len();
        }
        health
    }

    /// News of connections and consumers, from now on; see [`Event`](crate::events::Event).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
    /// use oslo_messaging_core::transport::{Transport, TransportOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let driver = MemoryDriver::new(MemoryBroker::new());
    /// let transport = Transport::new(Arc::new(driver), TransportOptions::default());
    /// let mut events = transport.events();
    /// // A bus within the process has no connections to lose.
    /// assert_eq!(events.next().await, None);
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.inner.driver.events()
    }

    /// How many calls of this transport wait for a reply.
    pub fn calls_in_flight(&self) -> usize {
        self.started_replies().map_or(0, |replies| replies.len())
    }

    /// Ends everything: calls in flight fail with [`Closed`](ErrorKind::Closed), and so does what is
    /// tried later. Servers should be stopped before, since closing takes their subscriptions away.
    ///
    /// Closing twice does nothing more. Cancelling the future leaves the rest of the work to the drop
    /// of the last handle.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        if let Some(replies) = self.started_replies() {
            replies.close().await;
        }
        self.inner.driver.close().await;
        if let Some(metrics) = &self.inner.metrics {
            metrics.close().await;
        }
    }

    /// Refuses what needs RPC on a driver without it, and everything after `close`.
    pub(crate) fn check_rpc(&self) -> Result<()> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        if !self.inner.capabilities.rpc {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the driver of this transport URL carries no RPC",
            ));
        }
        Ok(())
    }

    /// Refuses what needs notifications on a driver without them, and everything after `close`.
    pub(crate) fn check_notifications(&self) -> Result<()> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        if !self.inner.capabilities.notifications {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the driver of this transport URL carries no notifications",
            ));
        }
        Ok(())
    }

    /// The reply listener, started if need be; connecting for it is tried as often as `retry` allows.
    pub(crate) async fn replies(&self, deadline: Instant, retry: Retry) -> Result<Arc<Replies>> {
        let cell = self.replies_cell();
        if let Some(replies) = cell.get() {
            return Ok(Arc::clone(replies));
        }
        let start = async {
            if retry != Retry::Forever {
                self.inner.driver.reach(retry).await?;
            }
            cell.get_or_try_init(|| Replies::start(Arc::clone(&self.inner.driver)))
                .await
        };
        // Once for a transport, and large: on the heap it makes no call larger.
        let replies = match timeout_at(deadline, Box::pin(start)).await {
            Ok(started) => Arc::clone(started?),
            Err(_) => return Err(self.no_reply_queue()),
        };
        if self.inner.closed.load(Ordering::Acquire) {
            replies.close().await;
            return Err(Error::closed());
        }
        self.inner
            .first_replies
            .get_or_init(|| Arc::downgrade(&replies));
        Ok(replies)
    }

    /// The reply listener, if it is started and lives.
    pub(crate) fn replies_at_hand(&self) -> Option<Arc<Replies>> {
        let first = self.inner.first_replies.get().and_then(Weak::upgrade);
        if let Some(first) = first.filter(|first| !first.is_dead()) {
            return Some(first);
        }
        let cell = lock(&self.inner.replies);
        let replies = cell.get().filter(|replies| !replies.is_dead());
        replies.map(Arc::clone)
    }

    fn no_reply_queue(&self) -> Error {
        let error = Error::new(
            ErrorKind::Timeout,
            "Timed out waiting for the reply queue to be set up",
        );
        let health = self.health();
        let error = match health.host {
            Some(host) => error.with_host(host),
            None => error,
        };
        match health.last_error {
            Some(last) => error.with("last error", last),
            None => error,
        }
    }

    /// The cell in force; a fresh one if the listener in it died.
    fn replies_cell(&self) -> Arc<OnceCell<Arc<Replies>>> {
        let mut cell = lock(&self.inner.replies);
        if cell.get().is_some_and(|replies| replies.is_dead()) {
            *cell = Arc::default();
        }
        Arc::clone(&cell)
    }

    fn started_replies(&self) -> Option<Arc<Replies>> {
        lock(&self.inner.replies).get().cloned()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("capabilities", &self.inner.capabilities)
            .field("options", &self.inner.options)
            .field("calls_in_flight", &self.calls_in_flight())
            .finish_non_exhaustive()
    }
}
