//! Where notifications go: the [`Sink`] trait, and the two that send nothing (parity ND4, ND5).
//!
//! What the reference calls notification drivers.

use std::fmt;
use std::sync::{Arc, Mutex};

use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::notification::Notification;
use tokio::time::Instant;

use crate::driver::{BoxFuture, Retry};
use crate::error::Result;
use crate::lock::lock;
use crate::notify::outbox::NotifierStats;

/// A notification on its way into sinks, with what its notifier wants done.
///
/// ```
/// use oslo_messaging_core::notify::Posting;
///
/// fn describe(post: &Posting<'_>) -> String {
///     format!("{} to {}", post.priority, post.topics.join(", "))
/// }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Posting<'a> {
    /// The notification, with its context as it goes out.
    pub note: &'a Notification,
    /// Its priority.
    pub priority: Priority,
    /// Topics, each of which gets a copy.
    pub topics: &'a [String],
    /// How often sending is tried.
    pub retry: Retry,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whether the caller waits until the bus has it.
    pub confirm: bool,
}

/// A place notifications go to.
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::notify::{NotifierStats, Posting, Sink};
/// use tokio::time::Instant;
///
/// /// Prints the types of events.
/// struct Print;
///
/// impl Sink for Print {
///     fn name(&self) -> &str {
///         "print"
///     }
///
///     fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
///         Box::pin(async move {
///             println!("{:?}", post.note.event_type());
///             Ok(())
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // What a sink need not say itself: it keeps nothing back.
/// let now = Instant::now();
/// assert_eq!(Print.stats(), NotifierStats::default());
/// assert_eq!((Print.flush(now).await, Print.close(now).await), (0, 0));
/// # }
/// ```
pub trait Sink: Send + Sync + 'static {
    /// Its name, as the option `driver` and routing files have it.
    fn name(&self) -> &str;

    /// Takes one notification, no later than [`Posting::deadline`].
    ///
    /// # Errors
    /// Whatever keeps it from taking it. Other sinks get theirs all the same.
    ///
    /// # Cancellation
    /// Dropping the future may lose the notification, or keep it.
    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>>;

    /// What became of what it took.
    fn stats(&self) -> NotifierStats {
        NotifierStats::default()
    }

    /// Waits until all it took is on the bus; tells how many are not at the deadline.
    fn flush(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        let _ = deadline;
        Box::pin(async { 0 })
    }

    /// Flushes and ends; tells how many are lost.
    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        self.flush(deadline)
    }
}

/// One that others hold as well.
impl<S: Sink + ?Sized> Sink for Arc<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        (**self).post(post)
    }

    fn stats(&self) -> NotifierStats {
        (**self).stats()
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        (**self).flush(deadline)
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        (**self).close(deadline)
    }
}

/// Takes everything and does nothing (parity ND4). A notifier with only this one is not enabled.
///
/// ```
/// use oslo_messaging_core::notify::{NoopSink, Sink};
///
/// assert_eq!(NoopSink.name(), "noop");
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NoopSink;

impl Sink for NoopSink {
    fn name(&self) -> &str {
        "noop"
    }

    fn post<'a>(&'a self, _: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a [`TestSink`] took.
///
/// ```
/// use oslo_messaging_core::notify::TestSink;
///
/// assert!(TestSink::new().recorded().is_empty());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// The notification.
    pub note: Notification,
    /// Its priority.
    pub priority: Priority,
    /// Where it would have gone.
    pub topics: Vec<String>,
    /// How often sending would have been tried.
    pub retry: Retry,
}

/// Keeps everything for a test to look at (parity ND5). Clones are the same sink.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// use oslo_messaging_core::notify::{Notifier, TestSink};
/// use oslo_messaging_core::transport::{Transport, TransportOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// let sink = TestSink::new();
/// let driver = MemoryDriver::new(MemoryBroker::new());
/// let transport = Transport::new(std::sync::Arc::new(driver), TransportOptions::default());
/// let notifier = Notifier::builder(transport).sink(sink.clone()).build()?;
/// notifier.info(&Context::new(), "compute.create", &1).await?;
/// assert_eq!(sink.recorded()[0].note.event_type(), Some("compute.create"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct TestSink {
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

impl TestSink {
    /// An empty one.
    ///
    /// ```
    /// assert!(oslo_messaging_core::notify::TestSink::new().recorded().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// What it took, in order.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::notify::TestSink::new().recorded().len(), 0);
    /// ```
    pub fn recorded(&self) -> Vec<Recorded> {
        lock(&self.recorded).clone()
    }

    /// Forgets what it took.
    ///
    /// ```
    /// oslo_messaging_core::notify::TestSink::new().reset();
    /// ```
    pub fn reset(&self) {
        lock(&self.recorded).clear();
    }
}

impl Sink for TestSink {
    fn name(&self) -> &str {
        "test"
    }

    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            lock(&self.recorded).push(Recorded {
                note: post.note.clone(),
                priority: post.priority,
                topics: post.topics.to_vec(),
                retry: post.retry,
            });
            Ok(())
        })
    }
}

impl fmt::Debug for TestSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSink")
            .field("recorded", &lock(&self.recorded).len())
            .finish()
    }
}
