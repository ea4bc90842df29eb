//! How a listener is made: its options, what they mean together, and its start (parity NL1, NL7 to NL12).

use std::fmt;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oslo_messaging_proto::target::Target;
use tokio::sync::watch;
use tracing::info;

use super::{NotificationListener, Pump};
use crate::driver::{Inbox, Notifications, Pool, Prefetch, Subscription};
use crate::error::{Error, ErrorKind, Result};
use crate::notify::dispatcher::{Dispatcher, Handler};
use crate::notify::endpoint::{BatchNotificationEndpoint, NotificationEndpoint};
use crate::notify::hall::{Hall, Rules};
use crate::notify::repair::{DeadLetter, Morgue, RetryPolicy};
use crate::serializer::Serializer;
use crate::transport::Transport;

/// Prefetch never falls below this: small ones cost the broker and the rate most.
const SMALLEST_PREFETCH: usize = 32;

/// A listener to be.
#[must_use = "a listener listens only after `start`"]
pub struct NotificationListenerBuilder {
    transport: Transport,
    targets: Vec<Target>,
    handlers: Vec<Handler>,
    serializer: Option<Arc<dyn Serializer>>,
    allow_requeue: bool,
    pool: Option<Pool>,
    since: Option<SystemTime>,
    batch: Option<(NonZeroUsize, Option<Duration>)>,
    concurrency: Option<NonZeroUsize>,
    prefetch: Option<NonZeroU16>,
    retry: Option<RetryPolicy>,
    dead: Option<DeadLetter>,
}

impl NotificationListenerBuilder {
    /// With the defaults.
    pub(super) fn new(transport: Transport, targets: Vec<Target>) -> Self {
        Self {
            transport,
            targets,
            handlers: Vec::new(),
            serializer: None,
            allow_requeue: false,
            pool: None,
            since: None,
            batch: None,
            concurrency: None,
            prefetch: None,
            retry: None,
            dead: None,
        }
    }

    /// Adds an endpoint. All endpoints that handle a notification's priority are called in the order they were added,
    /// until one asks for another try or fails.
    ///
    /// ```
    /// # use oslo_messaging_core::memory::MemoryBroker;
    /// # use oslo_messaging_core::notify::{NotificationEndpoint, NotificationListener};
    /// # use oslo_messaging_proto::Target;
    /// # fn example(audit: impl NotificationEndpoint) {
    /// let builder = NotificationListener::builder(MemoryBroker::new().transport(), [Target::topic("notifications")])
    ///     .endpoint(audit);
    /// # }
    /// ```
    pub fn endpoint(mut self, endpoint: impl NotificationEndpoint) -> Self {
        self.handlers.push(Handler::One(Arc::new(endpoint)));
        self
    }

    /// Adds an endpoint that takes the notifications of a batch and priority together.
    ///
    /// ```
    /// # use oslo_messaging_core::notify::{BatchNotificationEndpoint, NotificationListenerBuilder};
    /// # fn example(builder: NotificationListenerBuilder, store: impl BatchNotificationEndpoint) {
    /// let builder = builder.batch_endpoint(store).batch(100, Some(std::time::Duration::from_secs(1)));
    /// # }
    /// ```
    pub fn batch_endpoint(mut self, endpoint: impl BatchNotificationEndpoint) -> Self {
        self.handlers.push(Handler::Batch(Arc::new(endpoint)));
        self
    }

    /// Handles up to `size` notifications together: when so many are here, or `timeout` after the first of them came, if
    /// that is given. A driver's prefetch option caps the size (parity NL9). One batch is handled at a time unless
    /// [`concurrency`](Self::concurrency) says otherwise.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.batch(100, Some(std::time::Duration::from_millis(500)));
    /// # }
    /// ```
    pub fn batch(mut self, size: usize, timeout: Option<Duration>) -> Self {
        self.batch = Some((
            NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN),
            timeout,
        ));
        self
    }

    /// Lets contexts and payloads pass through `serializer`. None by default.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.serializer(oslo_messaging_core::serializer::NoOpSerializer);
    /// # }
    /// ```
    pub fn serializer(mut self, serializer: impl Serializer) -> Self {
        self.serializer = Some(Arc::new(serializer));
        self
    }

    /// Gives back to the bus what an endpoint asks another try for or fails with. Default false: such a notification is
    /// acknowledged and lost, unless it is retried or dead-lettered (parity NL7).
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.allow_requeue(true);
    /// # }
    /// ```
    pub fn allow_requeue(mut self, allow: bool) -> Self {
        self.allow_requeue = allow;
        self
    }

    /// Joins a pool: its members share one copy of everything (parity NL10).
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.pool("audit");
    /// # }
    /// ```
    pub fn pool(mut self, name: impl Into<String>) -> Self {
        self.pool = Some(Pool::shared(name));
        self
    }

    /// Has a pool of its own that ends with it: to look on without taking anything from anybody.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.temporary_pool("look-42");
    /// # }
    /// ```
    pub fn temporary_pool(mut self, name: impl Into<String>) -> Self {
        self.pool = Some(Pool::temporary(name));
        self
    }

    /// Begins with what was sent then, on a bus that keeps it.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let hour = std::time::Duration::from_secs(3600);
    /// let builder = builder.since(std::time::SystemTime::now() - hour);
    /// # }
    /// ```
    pub fn since(mut self, since: SystemTime) -> Self {
        self.since = Some(since);
        self
    }

    /// How many notifications, or batches, are handled at once. Default the transport's `executor_thread_pool_size`, for
    /// batches 1. More than one means that the order among them is not kept.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.concurrency(1.try_into().unwrap());
    /// # }
    /// ```
    pub fn concurrency(mut self, concurrency: NonZeroUsize) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// How many unsettled notifications the bus may hand out for each queue. Default twice what is handled at once, at
    /// least 32.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.prefetch(1000.try_into().unwrap());
    /// # }
    /// ```
    pub fn prefetch(mut self, prefetch: NonZeroU16) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Tries again here what an endpoint asks another try for or fails with. Default not at all.
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.retry(oslo_messaging_core::notify::RetryPolicy::new(5));
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Puts there what was not handled in its last try, and what cannot be read. Comes before
    /// [`allow_requeue`](Self::allow_requeue).
    ///
    /// ```
    /// # fn example(builder: oslo_messaging_core::notify::NotificationListenerBuilder) {
    /// let builder = builder.dead_letter(oslo_messaging_core::notify::DeadLetter::topic("notifications_dead"));
    /// # }
    /// ```
    pub fn dead_letter(mut self, dead: DeadLetter) -> Self {
        self.dead = Some(dead);
        self
    }

    /// Subscribes and begins to listen: what is sent after it has resolved is taken.
    ///
    /// Must run within a Tokio runtime, which then runs the handlers.
    ///
    /// # Errors
    /// [`InvalidTarget`](ErrorKind::InvalidTarget) without targets or with one without a topic,
    /// [`Config`](ErrorKind::Config) without endpoints, or with a filter, pool or dead-letter topic that cannot work,
    /// [`Unsupported`](ErrorKind::Unsupported) for a bus without notifications, without requeue if that is allowed, or
    /// without history if that is asked for, and what the bus says.
    ///
    /// # Cancellation
    /// Dropping the future ends the subscription.
    ///
    /// ```
    /// # use oslo_messaging_core::error::ErrorKind;
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::NotificationListener};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let refused = NotificationListener::builder(MemoryBroker::new().transport(), []).start().await;
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidTarget);
    /// # }
    /// ```
    pub async fn start(self) -> Result<NotificationListener> {
        let transport = self.transport.clone();
        transport.check_notifications()?;
        let topics = self.check()?;
        let dispatcher = Dispatcher::new(self.handlers, self.serializer)?;
        let mut sources = Vec::new();
        for target in &self.targets {
            for priority in dispatcher.priorities() {
                let topic = target.topic_name().unwrap_or_default();
                let source = (
                    target.exchange_name().map(str::to_owned),
                    format!("{topic}.{priority}"),
                );
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        let (batch, batch_timeout) = match self.batch {
            None => (NonZeroUsize::MIN, None),
            Some((size, wait)) => (capped(size, &transport), wait),
        };
        let usual = match self.batch {
            Some(_) => NonZeroUsize::MIN,
            None => transport.options().executor_thread_pool_size,
        };
        let concurrency = self.concurrency.unwrap_or(usual);
        let pool_name = self.pool.as_ref().map(|pool| pool.name.clone());
        let morgue = match self.dead {
            None => None,
            Some(dead) => Some(Morgue::new(dead, &transport, topics.clone(), pool_name)?),
        };
        let mut what = Notifications::new(sources);
        what.pool = self.pool;
        what.since = self.since;
        let prefetch = self
            .prefetch
            .unwrap_or_else(|| default_prefetch(batch, concurrency));
        what.prefetch = Prefetch::Limited(prefetch);
        let hall = Arc::new(Hall::new(
            dispatcher,
            Rules {
                allow_requeue: self.allow_requeue,
                batch,
                batch_timeout,
                concurrency,
                retry: self.retry,
                morgue,
            },
        ));
        let inbox = Arc::clone(&hall) as Arc<dyn Inbox>;
        let name = topics.join(", ");
        let (end, ends) = watch::channel(None);
        let pump = Pump(tokio::spawn(Arc::clone(&hall).pump(ends)));
        let subscribed = transport
            .driver()
            .listen(Subscription::Notifications(what), inbox)
            .await;
        let listener = subscribed.map_err(|error| error.with("topics", &name))?;
        info!(topics = name, concurrency, prefetch, batch, "listening");
        Ok(NotificationListener {
            hall,
            listener: Some(listener),
            pump,
            end,
            topics: name,
            drain: transport.options().rpc_response_timeout,
        })
    }

    /// Refuses what cannot work; gives the topics.
    fn check(&self) -> Result<Vec<String>> {
        let mut topics = Vec::new();
        for target in &self.targets {
            let topic = target.require_topic().map_err(|fault| {
                Error::new(ErrorKind::InvalidTarget, format!("{fault}:{target}"))
            })?;
            topics.push(topic.to_owned());
        }
        if topics.is_empty() {
            let text = "a notification listener needs at least one target";
            return Err(Error::new(ErrorKind::InvalidTarget, text));
        }
        if self.pool.as_ref().is_some_and(|pool| pool.name.is_empty()) {
            let text = "the pool has no name; give it one, or leave it out";
            return Err(Error::new(ErrorKind::Config, text));
        }
        let can = self.transport.capabilities();
        if self.allow_requeue && !can.requeue {
            let text = "this bus cannot take notifications back; leave allow_requeue off, and let the listener retry, or \
                        dead-letter, what is not handled";
            return Err(Error::new(ErrorKind::Unsupported, text).with("option", "allow_requeue"));
        }
        if self.since.is_some() && !can.history {
            let text = "this bus keeps no history; leave out where to begin";
            return Err(Error::new(ErrorKind::Unsupported, text).with("option", "since"));
        }
        Ok(topics)
    }
}

impl fmt::Debug for NotificationListenerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationListenerBuilder")
            .field("targets", &self.targets)
            .field("endpoints", &self.handlers.len())
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

/// A batch must fit into what the bus hands out at once, or it would never be full.
fn capped(size: NonZeroUsize, transport: &Transport) -> NonZeroUsize {
    match transport.capabilities().prefetch {
        Some(limit) => size.min(limit.into()),
        None => size.min(NonZeroU16::MAX.into()),
    }
}

fn default_prefetch(batch: NonZeroUsize, concurrency: NonZeroUsize) -> NonZeroU16 {
    let wanted = batch
        .get()
        .saturating_mul(concurrency.get().saturating_add(1).max(2))
        .max(SMALLEST_PREFETCH);
    let wanted = u16::try_from(wanted).unwrap_or(u16::MAX);
    NonZeroU16::new(wanted).unwrap_or(NonZeroU16::MAX)
}
