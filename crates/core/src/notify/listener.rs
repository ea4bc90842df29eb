//! The notification listener as its owner sees it: built, started, run, stopped (parity NL1, NL2, NL7 to NL12).

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oslo_messaging_proto::target::Target;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::driver::{Listener, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::notify::hall::Hall;
use crate::transport::Transport;

mod builder;

pub use self::builder::NotificationListenerBuilder;

/// How long a stop waits for the bus to pause or to end the subscription.
const LISTENER_LIMIT: Duration = Duration::from_secs(5);

/// A listener that listens.
///
/// Each notification is acknowledged after its endpoints handled it; one that came before is acknowledged unread.
/// Dropping the listener without a stop aborts what runs; the bus hands that out again.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::memory::MemoryBroker;
/// use oslo_messaging_core::notify::{NotificationEndpoint, NotificationListener, NotificationOutcome, Notifier};
/// use oslo_messaging_proto::{Notification, Priority, Target};
/// use tokio::sync::mpsc;
///
/// struct Collect(mpsc::UnboundedSender<String>);
///
/// impl NotificationEndpoint for Collect {
///     fn priorities(&self) -> Vec<Priority> {
///         vec![Priority::Info]
///     }
///
///     fn handle<'a>(&'a self, _: Priority, note: &'a Notification) -> BoxFuture<'a, NotificationOutcome> {
///         self.0.send(note.event_type().unwrap_or_default().to_owned()).ok();
///         Box::pin(async { NotificationOutcome::Handled })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// let broker = MemoryBroker::new();
/// let (told, mut heard) = mpsc::unbounded_channel();
/// let listener = NotificationListener::builder(broker.transport(), [Target::topic("notifications")])
///     .endpoint(Collect(told))
///     .start()
///     .await?;
/// let notifier = Notifier::builder(broker.transport()).build()?;
/// notifier.info(&Context::new(), "compute.create", &()).await?;
/// assert_eq!(heard.recv().await.as_deref(), Some("compute.create"));
/// listener.stop().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a listener ends it"]
pub struct NotificationListener {
    hall: Arc<Hall>,
    listener: Option<Box<dyn Listener>>,
    pump: Pump,
    end: watch::Sender<Option<Instant>>,
    topics: String,
    drain: Duration,
}

/// The task that owns the workers; it goes with its owner.
struct Pump(JoinHandle<usize>);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a listener has done since its start, and what it does now.
///
/// ```
/// assert_eq!(oslo_messaging_core::notify::ListenerStats::default().handled, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Handled by all endpoints that wanted them.
    pub handled: u64,
    /// Given back to the bus.
    pub requeued: u64,
    /// Tries after a first one that failed.
    pub retried: u64,
    /// Put where dead letters go.
    pub dead_lettered: u64,
    /// Not handled, and acknowledged all the same.
    pub lost: u64,
    /// Came before.
    pub duplicates: u64,
    /// Of a priority that is not known.
    pub ignored: u64,
    /// No notifications at all.
    pub rejected: u64,
    /// Here, and not begun.
    pub waiting: usize,
    /// Being handled.
    pub running: usize,
    /// Waiting for another try.
    pub pausing: usize,
}

/// What a stop found.
///
/// ```
/// assert_eq!(oslo_messaging_core::notify::StoppedListener::default().aborted, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoppedListener {
    /// Notifications that were still being handled at the deadline; the bus hands them out again.
    pub aborted: usize,
    /// Notifications that had not been begun and went back to the bus.
    pub requeued: usize,
}

impl NotificationListener {
    /// A listener for the topics of these targets, in the priorities its endpoints handle.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::NotificationListener};
    /// # use oslo_messaging_proto::Target;
    /// let targets = [Target::topic("notifications"), Target::topic("versioned_notifications").exchange("nova")];
    /// let builder = NotificationListener::builder(MemoryBroker::new().transport(), targets);
    /// ```
    pub fn builder(
        transport: Transport,
        targets: impl IntoIterator<Item = Target>,
    ) -> NotificationListenerBuilder {
        NotificationListenerBuilder::new(transport, targets.into_iter().collect())
    }

    /// What it has done and does.
    ///
    /// ```
    /// # fn example(listener: oslo_messaging_core::notify::NotificationListener) {
    /// println!("{} lost", listener.stats().lost);
    /// # }
    /// ```
    pub fn stats(&self) -> ListenerStats {
        let counters = &self.hall.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerStats {
            handled: count(&counters.handled),
            requeued: count(&counters.requeued),
            retried: count(&counters.retried),
            dead_lettered: count(&counters.dead_lettered),
            lost: count(&counters.lost),
            duplicates: count(&counters.duplicates),
            ignored: count(&counters.ignored),
            rejected: count(&counters.rejected),
            waiting: self.hall.waiting(),
            running: counters.running.load(Ordering::Relaxed),
            pausing: counters.pausing.load(Ordering::Relaxed),
        }
    }

    /// Listens until `end` resolves, then stops as [`stop`](Self::stop) does.
    ///
    /// # Errors
    /// [`Listen`](ErrorKind::Listen) if the driver gave the subscription up before.
    ///
    /// # Cancellation
    /// As dropping the listener.
    ///
    /// ```no_run
    /// # async fn example(listener: oslo_messaging_core::notify::NotificationListener) -> oslo_messaging_core::error::Result<()> {
    /// listener.run_until(tokio::time::sleep(std::time::Duration::from_secs(60))).await
    /// # }
    /// ```
    pub async fn run_until(self, end: impl Future) -> Result<()> {
        let failure = tokio::select! {
            _ = end => None,
            failure = self.hall.failure() => Some(failure),
        };
        let topics = self.topics.clone();
        self.stop().await;
        match failure {
            None => Ok(()),
            Some(cause) => {
                let text = "notifications are listened to no more";
                let error = Error::new(ErrorKind::Listen, text).with("topics", topics);
                Err(error.with_source(cause))
            }
        }
    }

    /// Stops: takes nothing new, gives back what was not begun or waits for another try, and waits for handlers, no
    /// longer than the transport's `rpc_response_timeout`.
    ///
    /// # Cancellation
    /// As dropping the listener.
    ///
    /// ```no_run
    /// # async fn example(listener: oslo_messaging_core::notify::NotificationListener) {
    /// assert_eq!(listener.stop().await.aborted, 0);
    /// # }
    /// ```
    pub async fn stop(self) -> StoppedListener {
        let drain = self.drain;
        self.stop_within(drain).await
    }

    /// Stops as [`stop`](Self::stop) does, but aborts what has not ended after `limit`.
    ///
    /// # Cancellation
    /// As dropping the listener.
    ///
    /// ```no_run
    /// # async fn example(listener: oslo_messaging_core::notify::NotificationListener) {
    /// listener.stop_within(std::time::Duration::from_secs(5)).await;
    /// # }
    /// ```
    pub async fn stop_within(mut self, limit: Duration) -> StoppedListener {
        let deadline = deadline_after(Instant::now(), limit);
        let Some(listener) = self.listener.take() else {
            return StoppedListener::default();
        };
        self.hall.close();
        if timeout(LISTENER_LIMIT, listener.pause()).await.is_err() {
            warn!("the bus did not confirm in time that deliveries have stopped");
        }
        let mut stopped = StoppedListener {
            requeued: self.hall.give_back(),
            ..StoppedListener::default()
        };
        self.end.send_replace(Some(deadline));
        // An error means that it panicked, and its workers went with it.
        stopped.aborted = (&mut self.pump.0).await.unwrap_or_default();
        if timeout(LISTENER_LIMIT, listener.close()).await.is_err() {
            warn!("the bus did not end the subscription in time");
        }
        // What came although the subscription was paused.
        stopped.requeued += self.hall.give_back();
        info!(topics = self.topics, ?stopped, "listening has stopped");
        stopped
    }
}

impl fmt::Debug for NotificationListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationListener")
            .field("topics", &self.topics)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
