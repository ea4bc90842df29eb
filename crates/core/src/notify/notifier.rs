//! The notifier: makes notifications and gives them to its sinks (parity N1 to N9).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::notification::Notification;
use oslo_messaging_proto::wire::timestamp::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use crate::driver::{Retry, deadline_after};
use crate::error::Result;
use crate::ids::notification_id;
use crate::notify::outbox::NotifierStats;
use crate::notify::redact::ContextPolicy;
use crate::notify::sink::{Posting, Sink};
use crate::serializer::Serializer;
use crate::transport::Transport;

mod builder;

pub use self::builder::NotifierBuilder;

/// Tells others what happened. Clones share the sinks and their buffers.
///
/// A notification is taken within the deadline: into the bounded buffer before each bus, from where it goes out when the
/// bus can take it. What is still there when the process dies is lost: [`Notifier::close`] it, or wait for the bus
/// with [`Notifier::confirmed`].
///
/// ```
/// # use oslo_messaging_core::memory::MemoryBroker;
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::notify::Notifier;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// let notifier = Notifier::builder(MemoryBroker::new().transport()).publisher_id("compute.node-1").build()?;
/// notifier.info(&Context::new(), "compute.instance.create.end", &[("disk", 20)]).await?;
/// assert_eq!(notifier.close(std::time::Duration::from_secs(5)).await.lost(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Notifier {
    inner: Arc<Inner>,
    publisher_id: Option<Arc<str>>,
    retry: Retry,
    patience: Duration,
    confirm: bool,
}

struct Inner {
    sinks: Vec<Arc<dyn Sink>>,
    topics: Vec<String>,
    serializer: Option<Arc<dyn Serializer>>,
    policy: ContextPolicy,
}

macro_rules! priorities {
    ($( $(#[doc = $doc:literal])* $name:ident => $priority:ident ),+ $(,)?) => { $(
        $(#[doc = $doc])*
        ///
        /// # Errors
        /// As [`Notifier::notify`].
        ///
        /// # Cancellation
        /// As [`Notifier::notify`].
        ///
        /// ```
        /// # use oslo_messaging_core::context::Context;
        /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> oslo_messaging_core::error::Result<()> {
        /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
        #[doc = concat!("notifier.", stringify!($name), "(&Context::new(), \"volume.usage\", &20).await?;")]
        /// # Ok(())
        /// # }
        /// ```
        pub async fn $name<T: Serialize + ?Sized>(&self, ctx: &Context, event_type: &str, payload: &T) -> Result<()> {
            self.notify(ctx, Priority::$priority, event_type, payload).await
        }
    )+ };
}

impl Notifier {
    /// A notifier on the bus of this transport.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn builder(transport: Transport) -> NotifierBuilder {
        NotifierBuilder::new(transport)
    }

    /// Tells something with this priority. `payload` is anything that has a JSON form.
    ///
    /// # Errors
    /// [`Encode`](crate::error::ErrorKind::Encode) if it has none, and what a sink says that did not take it in time:
    /// [`DeliveryFailure`](crate::error::ErrorKind::DeliveryFailure) for a full buffer. With several sinks the first error; the others
    /// have got it all the same. What happens after it was taken is only counted and logged, unless it was to be
    /// [`confirmed`](Notifier::confirmed).
    ///
    /// # Cancellation
    /// Dropped while it waits for room, some sinks or topics may have the notification and others not.
    ///
    /// ```
    /// # use oslo_messaging_core::context::Context;
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// use oslo_messaging_proto::Priority;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging_core::error::Result<()> {
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// notifier.notify(&Context::new(), Priority::Audit, "identity.login", &"alice").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn notify<T: Serialize + ?Sized>(
        &self,
        ctx: &Context,
        priority: Priority,
        event_type: &str,
        payload: &T,
    ) -> Result<()> {
        let deadline = deadline_after(Instant::now(), self.patience);
        let note = self.make(ctx, priority, event_type, payload)?;
        self.post(&note, priority, deadline).await
    }

    priorities! {
        /// Tells something that an audit has to see.
        audit => Audit,
        /// Tells something of use to whoever looks for a fault.
        debug => Debug,
        /// Tells something that happened.
        info => Info,
        /// Tells something to look at.
        warn => Warn,
        /// Tells that something failed.
        error => Error,
        /// Tells that something must be seen to now.
        critical => Critical,
        /// Tells a measurement.
        sample => Sample,
    }

    async fn post(&self, note: &Notification, priority: Priority, deadline: Instant) -> Result<()> {
        let posting = Posting {
            note,
            priority,
            topics: &self.inner.topics,
            retry: self.retry,
            deadline,
            confirm: self.confirm,
        };
        match &self.inner.sinks[..] {
            [] => Ok(()),
            [sink] => sink.post(posting).await,
            sinks => {
                let all = join_all(sinks.iter().map(|sink| sink.post(posting))).await;
                all.into_iter().collect()
            }
        }
    }

    fn make<T: Serialize + ?Sized>(
        &self,
        ctx: &Context,
        priority: Priority,
        event_type: &str,
        payload: &T,
    ) -> Result<Notification> {
        let serializer = self.inner.serializer.as_deref();
        let mut payload = RawJson::from_value(payload)?;
        if let Some(serializer) = serializer.filter(|serializer| serializer.wants_entities()) {
            let entity: Value = serializer.serialize_entity(ctx, payload.to_value()?)?;
            payload = RawJson::from_value(&entity)?;
        }
        // Wire: redacted first, serialised then (parity N7, spec section 18).
        let mut context = self.inner.policy.apply(ctx);
        if let Some(serializer) = serializer {
            context = serializer.serialize_context(&context)?;
        }
        let note = Notification::new(notification_id(), event_type, priority, now())
            .with_raw_payload(payload)
            .with_context(context);
        Ok(match &self.publisher_id {
            Some(publisher_id) => note.with_publisher_id(&**publisher_id),
            None => note,
        })
    }

    /// The same notifier, to be changed by the methods below (parity N3).
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// use oslo_messaging_core::driver::Retry;
    ///
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).publisher_id("api").build()?;
    /// let other = notifier.prepare().publisher_id("scheduler").retry(Retry::Never);
    /// assert_eq!((notifier.publisher(), other.publisher()), (Some("api"), Some("scheduler")));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn prepare(&self) -> Self {
        self.clone()
    }

    /// Publishes in this name.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// assert_eq!(notifier.prepare().publisher_id("me").publisher(), Some("me"));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    #[must_use]
    pub fn publisher_id(mut self, publisher_id: impl Into<Arc<str>>) -> Self {
        self.publisher_id = Some(publisher_id.into());
        self
    }

    /// Tries to send so often.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let once = notifier.prepare().retry(oslo_messaging_core::driver::Retry::Never);
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Lets callers wait so long at most.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let hasty = notifier.prepare().deadline(std::time::Duration::from_millis(10));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    #[must_use]
    pub fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Lets callers wait until the bus has the notification, and tells them if it will not. At the deadline they get a
    /// [`Timeout`](crate::error::ErrorKind::Timeout), and the notification stays in the buffer.
    ///
    /// ```
    /// # use oslo_messaging_core::context::Context;
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging_core::error::Result<()> {
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// notifier.prepare().confirmed().audit(&Context::new(), "identity.login", &"alice").await?;
    /// assert_eq!(notifier.stats().sent, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        self.confirm = true;
        self
    }

    /// Who publishes.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// assert_eq!(Notifier::builder(MemoryBroker::new().transport()).build()?.publisher(), None);
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn publisher(&self) -> Option<&str> {
        self.publisher_id.as_deref()
    }

    /// Whether there is a point in making payloads: false if `noop` is the only sink (parity N5).
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// assert!(!Notifier::builder(MemoryBroker::new().transport()).drivers(["noop"]).build()?.is_enabled());
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn is_enabled(&self) -> bool {
        !matches!(&self.inner.sinks[..], [only] if only.name() == "noop")
    }

    /// What became of the messages of all sinks.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// assert_eq!(Notifier::builder(MemoryBroker::new().transport()).build()?.stats().sent, 0);
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn stats(&self) -> NotifierStats {
        let all = self.inner.sinks.iter().map(|sink| sink.stats());
        all.fold(NotifierStats::default(), NotifierStats::plus)
    }

    /// Waits until all that was taken is on its bus; tells how many messages are not after `limit`.
    ///
    /// # Cancellation
    /// Safe.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging_core::error::Result<()> {
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// assert_eq!(notifier.flush(std::time::Duration::from_secs(1)).await, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn flush(&self, limit: Duration) -> usize {
        let deadline = deadline_after(Instant::now(), limit);
        let all = self.inner.sinks.iter().map(|sink| sink.flush(deadline));
        join_all(all).await.into_iter().sum()
    }

    /// Flushes within `limit`, gives up what is left, and ends the sinks, for all clones. The transport stays.
    ///
    /// Dropping all clones instead lets what is left go out for up to 30 s more, beside what else is done.
    ///
    /// # Cancellation
    /// Nothing more may be taken, and what is left may be given up later.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging_core::error::Result<()> {
    /// # let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let stats = notifier.close(std::time::Duration::from_secs(5)).await;
    /// assert_eq!((stats.lost(), stats.buffered), (0, 0));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self, limit: Duration) -> NotifierStats {
        let deadline = deadline_after(Instant::now(), limit);
        let all = self.inner.sinks.iter().map(|sink| sink.close(deadline));
        let left: usize = join_all(all).await.into_iter().sum();
        if left > 0 {
            tracing::warn!(left, "notifications were given up with their notifier");
        }
        self.stats()
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sinks = self.inner.sinks.iter().map(|sink| sink.name());
        f.debug_struct("Notifier")
            .field("publisher_id", &self.publisher_id)
            .field("topics", &self.inner.topics)
            .field("sinks", &sinks.collect::<Vec<_>>())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is as good as none.
    let micros = since.unwrap_or_default().as_micros();
    Timestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
