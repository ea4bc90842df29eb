//! The life of one subscription: declare, consume, wait for the end of its channel, begin again.
//!
//! Only this subscription is repaired when the broker closes its channel or cancels a consumer; after
//! a lost connection it waits for the next one. The task ends when its owner wants it to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Consume, Error as AmqpError};
use oslo_messaging_core::driver::{Inbox, ListenerEvent, Retry};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::connection::{Link, Patience, Session};
use crate::declare::{SetupFault, any_missing, declare_all, table};
use crate::delivery::{End, Sink};
use crate::error::{Place, is_final_for_listener, listen_error};
use crate::topology::{ConsumerSpec, SubscriptionSpec};

/// Longest an orderly end of a subscription may take.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A subscription that held this long was no failure; the waits before repairs begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// What the owner of a subscription wants of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Deliveries.
    Run,
    /// No more deliveries; those handed out are still settled.
    Pause,
    /// The end.
    End,
}

/// What all subscriptions of a driver have in common, for its health.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Consumers in force.
    pub(crate) consumers: AtomicUsize,
    /// Why subscriptions are not in force that are not, by the name of their first queue.
    faults: Mutex<BTreeMap<String, String>>,
}

impl Census {
    /// One of the faults.
    pub(crate) fn fault(&self) -> Option<String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (queue, fault) = faults.first_key_value()?;
        Some(format!("subscription to {queue}: {fault}"))
    }

    fn note(&self, queue: &str, fault: Option<&End>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => drop(faults.insert(queue.to_owned(), fault.to_string())),
            None => drop(faults.remove(queue)),
        }
    }
}

/// Keeps one subscription in force.
pub(crate) struct SubscriptionTask {
    /// The consuming connection.
    pub(crate) link: Arc<Link>,
    /// What to declare and consume.
    pub(crate) spec: SubscriptionSpec,
    /// Where deliveries go.
    pub(crate) inbox: Arc<dyn Inbox>,
    /// What the owner wants.
    pub(crate) wishes: watch::Receiver<Wish>,
    /// Says that nothing is delivered any more.
    pub(crate) paused: watch::Sender<bool>,
    /// Told of the first success or final failure, and gone then.
    pub(crate) ready: Option<oneshot::Sender<Result<()>>>,
    /// Shared with the driver's other subscriptions.
    pub(crate) census: Arc<Census>,
    /// Longest the broker may take over the declarations.
    pub(crate) patience: Duration,
}

/// A subscription in force, counted as such while it lives.
struct Active {
    channel: Channel,
    ends: watch::Receiver<Option<End>>,
    since: Instant,
    count: usize,
    census: Arc<Census>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.census
            .consumers
            .fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl SubscriptionTask {
    /// Keeps the subscription in force until its owner wants the end.
    pub(crate) async fn run(mut self) {
        let mut keeper = None;
        let mut after = 0;
        let mut failures = 0;
        let mut recreated = false;
        loop {
            let session = match self.session(after).await {
                Some(Ok(session)) => session,
                Some(Err(error)) => {
                    self.give_up(error);
                    break;
                }
                None => break,
            };
            let lost = match self.set_up(&session, &mut recreated).await {
                Some(Ok(active)) => {
                    keeper.get_or_insert_with(|| self.link.keep());
                    self.announce(std::mem::take(&mut recreated));
                    let Some(end) = self.hold(&active).await else {
                        return self.end(&active.channel).await;
                    };
                    // A lost connection is nothing the subscription did; the link has waits of its own.
                    if active.since.elapsed() > STEADY || !session.connection.is_open() {
                        failures = 0;
                    }
                    self.lose(active, end).await
                }
                Some(Err(fault)) => match self.judge(fault, &session) {
                    Some(end) => end,
                    None => break,
                },
                None => break,
            };
            tracing::warn!(error = %lost, queue = self.name(), "subscription is not in force, setting it up again");
            self.census.note(self.name(), Some(&lost));
            if !session.connection.is_open() {
                after = session.generation;
            }
            failures += 1;
            tokio::select! {
                () = sleep(repair_pause(failures)) => {}
                () = until_not_running(self.wishes.clone()) => break,
            }
        }
        self.census.note(self.name(), None);
        self.wait_for_end().await;
    }

    /// A connection; `None` if it is not wanted any more.
    async fn session(&self, after: u64) -> Option<Result<Arc<Session>>> {
        let mut patience = match self.ready {
            Some(_) => Patience::new(Retry::Forever),
            // A refused login must not end a service that ran, nor make it knock without a pause.
            None => Patience::endless(),
        };
        tokio::select! {
            session = self.link.session(after, &mut patience) => Some(session),
            () = until_not_running(self.wishes.clone()) => None,
        }
    }

    /// Declares and consumes. Notes it if a queue of our own had vanished meanwhile, also when the rest
    /// fails: the next attempt will find what this one declared. `None` if it is not wanted any more.
    async fn set_up(
        &self,
        session: &Session,
        recreated: &mut bool,
    ) -> Option<Result<Active, SetupFault>> {
        let declared = async {
            let again = self.ready.is_none();
            if again && any_missing(&session.connection, &self.spec).await? {
                *recreated = true;
            }
            declare_all(&session.connection, &self.spec).await
        };
        let channel = match self.bounded(declared).await? {
            Ok(done) => done,
            Err(fault) => return Some(Err(fault)),
        };
        let (sink, ends) = Sink::attach(Arc::clone(&self.inbox), &channel);
        let consumed = async {
            for consumer in &self.spec.consumers {
                let consume = Consume {
                    queue: &consumer.queue.name,
                    tag: consumer.tag,
                    arguments: table(&consumer.arguments),
                    ..Consume::default()
                };
                let consumed = channel.consume_with(&consume, Arc::clone(&sink)).await;
                consumed.map_err(|error| SetupFault::queue(error, &consumer.queue.name))?;
            }
            Ok(())
        };
        // Not given up half-way: RabbitMQ lets the answer to a consume be overtaken by the answer to the close.
        let consumed = timeout(self.patience, consumed).await;
        let wanted = *self.wishes.borrow() == Wish::Run;
        if !wanted || !matches!(consumed, Ok(Ok(()))) {
            // Consumers in force hold their channel, so it has to be told.
            close(&channel).await;
        }
        match consumed {
            _ if !wanted => return None,
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Some(Err(fault)),
            Err(_) => return Some(Err(SetupFault::silent())),
        }
        let count = self.spec.consumers.len();
        self.census.consumers.fetch_add(count, Ordering::Relaxed);
        let census = Arc::clone(&self.census);
        let since = Instant::now();
        Some(Ok(Active {
            channel,
            ends,
            since,
            count,
            census,
        }))
    }

    /// The outcome of a part of the set-up in time; `None` if it is not wanted any more.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, SetupFault>>,
    ) -> Option<Result<T, SetupFault>> {
        tokio::select! {
            done = timeout(self.patience, work) => Some(done.unwrap_or_else(|_| Err(SetupFault::silent()))),
            () = until_not_running(self.wishes.clone()) => None,
        }
    }

    fn announce(&mut self, recreated: bool) {
        self.census.note(self.name(), None);
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
                end = told(&mut ends) => return Some(end),
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
        self.inbox.handle_event(ListenerEvent::Interrupted);
        // After a cancel the other consumers of the channel end with it; what they held goes back.
        close(&active.channel).await;
        end
    }

    /// Stops deliveries; those handed out can still be settled.
    async fn cancel(&self, channel: &Channel) {
        let cancelled = async {
            for consumer in &self.spec.consumers {
                channel.cancel(consumer.tag).await?;
            }
            Ok::<(), AmqpError>(())
        };
        // A consumer that cannot be cancelled is on a dead channel and delivers nothing.
        if timeout(CLOSE_LIMIT, cancelled).await.is_err() {
            tracing::warn!(
                queue = self.name(),
                "the broker did not confirm the cancel of a consumer"
            );
        }
    }

    /// Ends a subscription in force: own fanout queue first, then the channel (spec 4.7).
    async fn end(&self, channel: &Channel) {
        let own = |consumer: &&ConsumerSpec| consumer.delete_on_close;
        let orderly = async {
            for consumer in self.spec.consumers.iter().filter(own) {
                let queue = &consumer.queue.name;
                channel.queue_delete(queue, false, false).await?;
            }
            channel.close().await
        };
        match timeout(CLOSE_LIMIT, orderly).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, queue = self.name(), "subscription ended without the broker");
            }
            Err(_) => tracing::warn!(
                queue = self.name(),
                "the broker did not confirm the end of a subscription"
            ),
        }
    }

    /// Nothing is delivered any more; the task lives until its owner lets go.
    async fn wait_for_end(&mut self) {
        self.paused.send_replace(true);
        // An error means that all owners are gone, which is the end as well.
        let _ = self.wishes.wait_for(|wish| *wish == Wish::End).await;
    }

    /// Decides about a failed set-up: `None` if the one who started was told that it is final.
    fn judge(&mut self, fault: SetupFault, session: &Session) -> Option<End> {
        if let End::Closed(error) = &fault.end
            && self.ready.is_some()
            && is_final_for_listener(error)
        {
            let vhost = self.link.brokers().vhost();
            let place = Place {
                host: &session.host,
                vhost,
                entity: &fault.entity,
            };
            self.give_up(listen_error(error.clone(), place));
            return None;
        }
        tracing::debug!(error = %fault.end, entity = fault.entity, "set-up of a subscription failed");
        Some(fault.end)
    }

    /// Tells the one who started; one who runs has nobody to tell but the inbox.
    fn give_up(&mut self, error: Error) {
        match self.ready.take() {
            // Whoever asked may have gone; the task ends all the same.
            Some(ready) => drop(ready.send(Err(error))),
            None if error.kind() == ErrorKind::Closed => {}
            None => self.inbox.handle_event(ListenerEvent::Failed(error)),
        }
    }

    fn name(&self) -> &str {
        let first = self.spec.consumers.first();
        first.map_or("", |consumer| &consumer.queue.name)
    }
}

/// Closes a channel that may be closed already.
async fn close(channel: &Channel) {
    if channel.closed_reason().is_none() {
        // Without an answer the channel is as good as gone; its connection's heartbeat decides.
        let _ = timeout(CLOSE_LIMIT, channel.close()).await;
    }
}

/// Why the engine will deliver nothing more.
async fn told(ends: &mut watch::Receiver<Option<End>>) -> End {
    // An error means that the engine let go of the sink, which it does after telling why.
    let told = ends.wait_for(Option::is_some).await;
    told.ok()
        .and_then(|end| (*end).clone())
        .unwrap_or(End::Cancelled)
}

/// Resolves when the subscription is to pause or end.
async fn until_not_running(mut wishes: watch::Receiver<Wish>) {
    // An error means that all owners are gone, which is the end as well.
    let _ = wishes.wait_for(|wish| *wish != Wish::Run).await;
}

/// At once the first time, then slower, always jittered.
fn repair_pause(failures: u32) -> Duration {
    let most = match failures {
        0 | 1 => 0.05,
        _ => (0.25 * 2_f64.powi(failures.min(8) as i32 - 1)).min(15.0),
    };
    Duration::from_secs_f64(most * (0.5 + 0.5 * fastrand::f64()))
}
