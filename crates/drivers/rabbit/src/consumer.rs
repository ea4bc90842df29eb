//! Subscriptions: one channel each on the shared consuming connection, set up again whenever it is lost.
//!
//! A task per subscription declares, consumes, waits for the end of its channel and begins again; only
//! that subscription is repaired when the broker closes its channel or cancels a consumer. Deliveries
//! do not pass through the task: the engine hands them to the [`Sink`] in place, which opens the
//! compression and passes them to the inbox.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp::{Channel, Consume, Consumer, Delivered, Error as AmqpError};
use oslo_messaging_core::driver::{
    BoxFuture, Delivery, Inbox, Listener, ListenerEvent, Retry, Settlement, Settler, Subscription,
};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::compress::Compression;
use crate::config::RabbitConfig;
use crate::connection::{Link, Patience, Session};
use crate::declare::{SetupFault, any_missing, declare_all, table};
use crate::error::{Place, closed_error, is_final_for_listener, listen_error};
use crate::topology::{SubscriptionSpec, subscription};

/// Longest an orderly end of a subscription may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A subscription that held this long was no failure; the waits before repairs begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// The consuming half of a driver.
pub(crate) struct Consumers {
    link: Arc<Link>,
    config: Arc<RabbitConfig>,
    control_exchange: String,
    tasks: Mutex<Vec<(watch::Sender<Wish>, JoinHandle<()>)>>,
    active: Arc<AtomicUsize>,
}

/// What the owner of a subscription wants of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Pause,
    End,
}

impl Consumers {
    /// A consuming half that has not connected yet.
    pub(crate) fn new(link: Link, config: Arc<RabbitConfig>, control_exchange: String) -> Self {
        Self {
            link: Arc::new(link),
            config,
            control_exchange,
            tasks: Mutex::default(),
            active: Arc::default(),
        }
    }

    /// The connection, for its news.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Consumers in force.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Subscribes; see `Driver::listen`.
    pub(crate) async fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> Result<Box<dyn Listener>> {
        let suffix = Uuid::new_v4().simple().to_string();
        let spec = subscription(&self.config, &self.control_exchange, &what, &suffix)?;
        let (wish, wishes) = watch::channel(Wish::Run);
        let (paused, pauses) = watch::channel(false);
        let (ready, first) = oneshot::channel();
        let handle = SubscriptionHandle {
            address: spec.address.clone(),
            wish: wish.clone(),
            paused: pauses,
        };
        let task = SubscriptionTask {
            link: Arc::clone(&self.link),
            spec,
            inbox,
            wishes,
            paused,
            ready: Some(ready),
            active: Arc::clone(&self.active),
            failures: 0,
        };
        {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.retain(|(_, task)| !task.is_finished());
            tasks.push((wish, tokio::spawn(task.run())));
        }
        // From here on, dropping this future drops the handle, which ends the subscription.
        match timeout(self.config.listen_deadline(), first).await {
            Ok(Ok(Ok(()))) => Ok(Box::new(handle)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(closed_error()),
            Err(_) => Err(self.link.last_error().unwrap_or_else(|| {
                let text = "the broker did not answer in time while the queues were declared";
                Error::new(ErrorKind::Timeout, text)
                    .with("seconds", self.config.listen_timeout.to_string())
            })),
        }
    }

    /// Ends all subscriptions and joins their tasks.
    pub(crate) async fn close(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for (wish, _) in &tasks {
            wish.send_replace(Wish::End);
        }
        for (_, mut task) in tasks {
            if timeout(CLOSE_LIMIT, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.link.close().await;
    }
}

/// The owner's end of a subscription.
struct SubscriptionHandle {
    address: Option<String>,
    wish: watch::Sender<Wish>,
    paused: watch::Receiver<bool>,
}

impl Listener for SubscriptionHandle {
    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        self.wish.send_if_modified(|wish| {
            let running = *wish == Wish::Run;
            if running {
                *wish = Wish::Pause;
            }
            running
        });
        let mut paused = self.paused.clone();
        Box::pin(async move {
            // An error means that the task ended: nothing will be delivered either way.
            let _ = paused.wait_for(|paused| *paused).await;
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.wish.send_replace(Wish::End);
            // The receiver goes with the task.
            let _ = timeout(CLOSE_LIMIT, self.wish.closed()).await;
        })
    }
}

impl Drop for SubscriptionHandle {
    fn drop(&mut self) {
        self.wish.send_replace(Wish::End);
    }
}

/// Keeps one subscription in force.
struct SubscriptionTask {
    link: Arc<Link>,
    spec: SubscriptionSpec,
    inbox: Arc<dyn Inbox>,
    wishes: watch::Receiver<Wish>,
    paused: watch::Sender<bool>,
    /// Taken by the first success or final failure.
    ready: Option<oneshot::Sender<Result<()>>>,
    active: Arc<AtomicUsize>,
    failures: u32,
}

/// A subscription in force, counted as such while it lives.
struct Active {
    channel: Channel,
    ends: watch::Receiver<Option<End>>,
    since: Instant,
    count: usize,
    counter: Arc<AtomicUsize>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// Why a subscription in force is none any more.
#[derive(Debug, Clone)]
enum End {
    /// The broker cancelled a consumer: its queue was deleted, or moved. The channel is still there.
    Cancelled,
    /// Channel or connection is gone.
    Closed(AmqpError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => {
                f.write_str("the broker cancelled a consumer; its queue was deleted or moved")
            }
            Self::Closed(error) => error.fmt(f),
        }
    }
}

impl SubscriptionTask {
    async fn run(mut self) {
        let mut keeper = None;
        let mut after = 0;
        loop {
            let mut patience = Patience::new(Retry::Forever);
            let session = tokio::select! {
                session = self.link.session(after, &mut patience) => session,
                () = until_not_running(self.wishes.clone()) => break,
            };
            let session = match session {
                Ok(session) => session,
                // The broker refuses the login. Whoever starts is told; whoever ran goes on hoping.
                Err(error) if error.kind() == ErrorKind::Closed => break,
                Err(error) => {
                    if self.give_up(error) {
                        break;
                    }
                    continue;
                }
            };
            let again = self.ready.is_none();
            let set_up = tokio::select! {
                set_up = self.set_up(&session, again) => set_up,
                () = until_not_running(self.wishes.clone()) => break,
            };
            let lost = match set_up {
                Ok((active, recreated)) => {
                    keeper.get_or_insert_with(|| self.link.keep());
                    self.announce(recreated);
                    match self.hold(&active).await {
                        None => return self.end(&active.channel).await,
                        Some(end) => self.lose(active, end).await,
                    }
                }
                Err(fault) => match self.judge(fault, &session) {
                    Some(error) => End::Closed(error),
                    None => break,
                },
            };
            tracing::warn!(error = %lost, queue = self.name(), "subscription is not in force, setting it up again");
            if !session.connection.is_open() {
                after = session.generation;
            }
            self.failures = self.failures.saturating_add(1);
            tokio::select! {
                () = sleep(repair_pause(self.failures)) => {}
                () = until_not_running(self.wishes.clone()) => break,
            }
        }
        self.wait_for_end().await;
    }

    /// Declares and consumes; says whether a queue of our own had vanished meanwhile.
    async fn set_up(
        &self,
        session: &Arc<Session>,
        again: bool,
    ) -> Result<(Active, bool), SetupFault> {
        let recreated = again && any_missing(&session.connection, &self.spec).await?;
        let channel = declare_all(&session.connection, &self.spec).await?;
        let (ended, ends) = watch::channel(None);
        let sink = Arc::new(Sink {
            inbox: Arc::clone(&self.inbox),
            settler: Arc::new(ChannelSettler(channel.clone())),
            ended,
        });
        for consumer in &self.spec.consumers {
            let consume = Consume {
                queue: &consumer.queue.name,
                tag: consumer.tag,
                arguments: table(&consumer.arguments),
                ..Consume::default()
            };
            channel
                .consume_with(&consume, Arc::clone(&sink) as Arc<dyn Consumer>)
                .await
                .map_err(|error| SetupFault::queue(error, &consumer.queue.name))?;
        }
        let count = self.spec.consumers.len();
        self.active.fetch_add(count, Ordering::Relaxed);
        let counter = Arc::clone(&self.active);
        Ok((
            Active {
                channel,
                ends,
                since: Instant::now(),
                count,
                counter,
            },
            recreated,
        ))
    }

    fn announce(&mut self, recreated: bool) {
        match self.ready.take() {
            // Whoever asked may have gone; the wish to end says so.
            Some(ready) => drop(ready.send(Ok(()))),
            None => {
                tracing::info!(
                    queue = self.name(),
                    recreated,
                    "subscription is in force again"
                );
                self.inbox
                    .handle_event(ListenerEvent::Restored { recreated });
            }
        }
    }

    /// Waits until the subscription is lost, or `None`: not wanted any more.
    async fn hold(&mut self, active: &Active) -> Option<End> {
        let mut ends = active.ends.clone();
        loop {
            tokio::select! {
                end = told(&mut ends) => return end,
                changed = self.wishes.changed() => {
                    let wish = *self.wishes.borrow_and_update();
                    if changed.is_err() || wish == Wish::End {
                        return None;
                    }
                    if wish == Wish::Pause {
                        self.cancel(&active.channel).await;
                        self.wait_for_end().await;
                        return None;
                    }
                }
            }
        }
    }

    /// Lets go of a subscription that was lost.
    async fn lose(&mut self, active: Active, end: End) -> End {
        if active.since.elapsed() > STEADY {
            self.failures = 0;
        }
        self.inbox.handle_event(ListenerEvent::Interrupted);
        if matches!(end, End::Cancelled) {
            // The other consumers of the channel end with it; what they had goes back to the broker.
            let _ = timeout(CLOSE_LIMIT, active.channel.close()).await;
        }
        end
    }

    /// Stops deliveries; those handed out can still be settled.
    async fn cancel(&self, channel: &Channel) {
        for consumer in &self.spec.consumers {
            // A consumer that cannot be cancelled is on a dead channel and delivers nothing.
            if timeout(CLOSE_LIMIT, channel.cancel(consumer.tag))
                .await
                .is_err()
            {
                tracing::warn!(
                    queue = consumer.queue.name,
                    "the broker did not confirm the cancel of a consumer"
                );
            }
        }
    }

    /// Ends a subscription in force: own fanout queue first, then the channel (spec 4.7).
    async fn end(&self, channel: &Channel) {
        let orderly = async {
            for consumer in self
                .spec
                .consumers
                .iter()
                .filter(|consumer| consumer.delete_on_close)
            {
                channel
                    .queue_delete(&consumer.queue.name, false, false)
                    .await?;
            }
            channel.close().await
        };
        match timeout(CLOSE_LIMIT, orderly).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, queue = self.name(), "subscription ended without the broker")
            }
            Err(_) => tracing::warn!(
                queue = self.name(),
                "the broker did not confirm the end of a subscription"
            ),
        }
    }

    /// Nothing is delivered any more; the handle lives until its owner lets go.
    async fn wait_for_end(&mut self) {
        self.paused.send_replace(true);
        // An error means that all owners are gone, which is the end as well.
        let _ = self.wishes.wait_for(|wish| *wish == Wish::End).await;
    }

    /// Decides about a failed set-up: `None` if the one who started was told that it is final.
    fn judge(&mut self, fault: SetupFault, session: &Session) -> Option<AmqpError> {
        if self.ready.is_some() && is_final_for_listener(&fault.error) {
            let place = Place {
                host: &session.host,
                vhost: self.link.brokers().vhost(),
                entity: &fault.entity,
            };
            self.give_up(listen_error(fault.error, place));
            return None;
        }
        tracing::debug!(error = %fault.error, entity = fault.entity, "set-up of a subscription failed");
        Some(fault.error)
    }

    /// Tells the one who started, if it is not running yet; whether there was one.
    fn give_up(&mut self, error: Error) -> bool {
        let ready = self.ready.take();
        // Whoever asked may have gone; the task ends all the same.
        ready.map(|ready| drop(ready.send(Err(error)))).is_some()
    }

    fn name(&self) -> &str {
        self.spec
            .consumers
            .first()
            .map_or("", |consumer| &consumer.queue.name)
    }
}

/// Why the engine will deliver nothing more.
async fn told(ends: &mut watch::Receiver<Option<End>>) -> Option<End> {
    // An error means that the engine dropped the sink, which it does after telling why.
    ends.wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|end| (*end).clone())
}

/// Resolves when the subscription is to pause or end.
async fn until_not_running(mut wishes: watch::Receiver<Wish>) {
    // An error means that all owners are gone, which is the end as well.
    let _ = wishes.wait_for(|wish| *wish != Wish::Run).await;
}

/// At once the first time, then slower, always jittered.
fn repair_pause(failures: u32) -> Duration {
    let most = if failures <= 1 {
        0.05
    } else {
        (0.25 * 2_f64.powi(failures.min(8) as i32 - 1)).min(15.0)
    };
    Duration::from_secs_f64(most * (0.5 + 0.5 * fastrand::f64()))
}

/// Settles deliveries on the channel they came from.
struct ChannelSettler(Channel);

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, how: Settlement) {
        let settled = match how {
            Settlement::Ack => self.0.ack(tag),
            Settlement::Reject => self.0.reject(tag, false),
            Settlement::Requeue => self.0.reject(tag, true),
        };
        // The channel is gone: the broker has taken the delivery back already.
        if let Err(error) = settled {
            tracing::trace!(%error, tag, "delivery settled too late");
        }
    }
}

/// Takes what the engine reads for one subscription.
struct Sink {
    inbox: Arc<dyn Inbox>,
    settler: Arc<dyn Settler>,
    ended: watch::Sender<Option<End>>,
}

impl Consumer for Sink {
    fn deliver(&self, delivered: Delivered) {
        let tag = delivered.delivery_tag;
        // Wire: anything but JSON is rejected before it is looked at (spec 6.3).
        if delivered.properties.content_type() != Some("application/json") {
            tracing::error!(
                content_type = delivered.properties.content_type().unwrap_or("none"),
                routing_key = &*delivered.routing_key,
                bytes = delivered.body.len(),
                "message is not JSON and was rejected"
            );
            self.settler.settle(tag, Settlement::Reject);
            return;
        }
        let expires = delivered
            .properties
            .expiration()
            .and_then(|text| text.parse().ok())
            .map(Duration::from_millis);
        let delivery = Delivery::new(expand(&delivered), tag, Arc::clone(&self.settler))
            .redelivered(delivered.redelivered)
            .expires(expires);
        self.inbox.deliver(delivery);
    }

    fn cancelled(&self) {
        self.finish(End::Cancelled);
    }

    fn closed(&self, error: &AmqpError) {
        self.finish(End::Closed(error.clone()));
    }
}

impl Sink {
    /// Tells the task; the first reason counts.
    fn finish(&self, end: End) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(end);
            }
            first
        });
    }
}

/// The body, out of the compression its headers name; as it came if that fails (spec section 5).
fn expand(delivered: &Delivered) -> Bytes {
    let Some(headers) = delivered.properties.headers() else {
        return delivered.body.clone();
    };
    let Some(name) = headers
        .field("compression")
        .and_then(|value| value.as_str())
    else {
        return delivered.body.clone();
    };
    let expanded =
        Compression::from_header(name).and_then(|compression| compression.unpack(&delivered.body));
    expanded.unwrap_or_else(|| {
        tracing::warn!(
            compression = name,
            "message cannot be expanded and is read as it came"
        );
        delivered.body.clone()
    })
}
