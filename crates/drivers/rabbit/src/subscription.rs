//! The life of one subscription: declare, consume, wait for the end of its channel, begin again.
//!
//! Only this subscription is repaired when the broker closes its channel or cancels a consumer; after
//! a lost connection it waits for the next one. Repairs wait longer each time, longest where they cost others their
//! connection. The task ends when its owner wants it to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Consume, Error as AmqpError};
use oslo_messaging_core::driver::{Inbox, ListenerEvent, Retry};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::events::{Event, EventSource};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::canary::Canary;
use crate::connection::{Link, Patience, Session};
use crate::declare::{Declared, SetupFault, declare_all, in_time, missing, table};
use crate::delivery::{End, Ends, Offsets};
use crate::error::{Place, is_final_for_listener, is_internal, listen_error};
use crate::facts::Facts;
use crate::inspect::inspect;
use crate::plan::{Losses, Plan};
use crate::pulse::Pulse;
use crate::topology::{Argument, Arguments, ConsumerSpec, SubscriptionSpec};

/// Longest an orderly end of a subscription may take.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A subscription that held this long was no failure; the waits before repairs begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// For about so long, or two heartbeats, a broker believes that a client is alive that is gone.
const BELIEF: Duration = Duration::from_secs(60);

/// While another queue is kept ready, the own one may take no longer to be had.
const HURRY: Duration = Duration::from_millis(1500);
/// Longest such a channel may then take to close.
const TELL: Duration = Duration::from_millis(100);
/// So soon after the subscription is in force the queue that is kept ready is declared: the connection that publishes comes
/// up with the first call;
const SPARE_SOON: Duration = Duration::from_millis(300);
/// so often it is seen to then, which also keeps it from expiring,
const SPARE_EVERY: Duration = Duration::from_secs(60);
/// and so often while it cannot be had.
const SPARE_AGAIN: Duration = Duration::from_secs(2);

/// So often a starting subscription may meet an internal error of the broker.
const INTERNAL_ERRORS: u32 = 3;

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

/// What all subscriptions of a driver share.
pub(crate) struct Common {
    /// Consumers in force.
    pub(crate) consumers: AtomicUsize,
    /// Why subscriptions are not in force that are not, by the name of their first queue.
    faults: Mutex<BTreeMap<String, String>>,
    /// What is known of the broker.
    pub(crate) facts: Arc<Facts>,
    /// Tells whether the broker lost its transient queues.
    pub(crate) canary: Canary,
    /// Where news goes.
    pub(crate) events: EventSource,
    /// What is known of the connections.
    pulse: Arc<Pulse>,
    /// The connection that publishes.
    publishing: Arc<Link>,
}

impl Common {
    /// For a driver without subscriptions.
    pub(crate) fn new(
        facts: Arc<Facts>,
        events: EventSource,
        pulse: Arc<Pulse>,
        publishing: Arc<Link>,
    ) -> Self {
        Self {
            consumers: AtomicUsize::new(0),
            faults: Mutex::default(),
            facts,
            canary: Canary::new(),
            events,
            pulse,
            publishing,
        }
    }

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

/// What whoever subscribes is told: the address, if others reach the subscription by one.
pub(crate) type Ready = oneshot::Sender<Result<Option<String>>>;

/// Keeps one subscription in force.
pub(crate) struct SubscriptionTask {
    /// The consuming connection.
    pub(crate) link: Arc<Link>,
    /// What it is for.
    pub(crate) plan: Plan,
    /// What to declare and consume, by the plan.
    pub(crate) spec: SubscriptionSpec,
    /// Where deliveries go.
    pub(crate) inbox: Arc<dyn Inbox>,
    /// What the owner wants.
    pub(crate) wishes: watch::Receiver<Wish>,
    /// Says that nothing is delivered any more.
    pub(crate) paused: watch::Sender<bool>,
    /// Told of the first success or final failure, and gone then.
    pub(crate) ready: Option<Ready>,
    /// Shared with the driver's other subscriptions.
    pub(crate) common: Arc<Common>,
    /// How far streams were read.
    pub(crate) offsets: Arc<Offsets>,
}

/// What a subscription remembers from one attempt to the next.
#[derive(Default)]
struct History {
    /// The connection it was last in force on.
    generation: u64,
    /// Failures since it held.
    failures: u32,
    /// Of those, connections the broker closed over it.
    offences: u32,
    losses: Losses,
    /// The address the owner knows.
    address: Option<String>,
    /// A queue that others use as well is transient.
    transient: bool,
    /// How often it was in force.
    times: u16,
    /// The broker may still believe that its former consumers are alive, and serve them.
    haunted: bool,
}

/// A subscription in force, counted as such while it lives.
struct Active {
    channel: Channel,
    ends: Ends,
    since: Instant,
    count: usize,
    common: Arc<Common>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.common
            .consumers
            .fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl SubscriptionTask {
    /// Keeps the subscription in force until its owner wants the end.
    pub(crate) async fn run(mut self) {
        let mut keeper = None;
        let mut after = 0;
        let mut history = History::default();
        loop {
            let session = match self.session(after).await {
                Some(Ok(session)) => session,
                Some(Err(error)) => {
                    self.give_up(error);
                    break;
                }
                None => break,
            };
            self.common.facts.meet(&session);
            match self.plan.spec(&self.common.facts) {
                Ok(spec) => self.spec = spec,
                Err(error) => {
                    self.give_up(error);
                    break;
                }
            }
            let lost = match self.set_up(&session, &mut history).await {
                Some(Ok(active)) => {
                    keeper.get_or_insert_with(|| self.link.keep());
                    self.announce(&mut history);
                    history.generation = session.generation;
                    history.times = history.times.saturating_add(1);
                    let Some(end) = self.hold(&active, &session, history.haunted).await else {
                        return self.end(&active.channel).await;
                    };
                    // A lost connection is nothing the subscription did; the link has waits of its own.
                    if active.since.elapsed() > STEADY || !session.connection.is_open() {
                        (history.failures, history.offences) = (0, 0);
                    }
                    self.lose(active, end, &mut history).await
                }
                Some(Err(fault)) => match self.judge(fault, &session, &mut history) {
                    Some(end) => end,
                    None => break,
                },
                None => break,
            };
            tracing::warn!(error = %lost, queue = self.name(), "subscription is not in force, setting it up again");
            self.common.note(self.name(), Some(&lost));
            if !session.connection.is_open() {
                after = session.generation;
            }
            history.failures += 1;
            tokio::select! {
                () = sleep(repair_pause(history.failures, history.offences)) => {}
                () = until_not_running(self.wishes.clone()) => break,
            }
        }
        self.common.note(self.name(), None);
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

    /// Declares and consumes. Notes what was lost meanwhile, also when the rest fails: the next attempt will find what
    /// this one declared. `None` if it is not wanted any more.
    async fn set_up(
        &self,
        session: &Session,
        history: &mut History,
    ) -> Option<Result<Active, SetupFault>> {
        let seen = tokio::select! {
            seen = self.look_for_canary(session) => seen,
            () = until_not_running(self.wishes.clone()) => return None,
        };
        if let Err(fault) = seen {
            return Some(Err(fault));
        }
        let declared = self.bounded(self.declare(session, history)).await?;
        let Declared { channel, .. } = match declared {
            Ok(declared) => declared,
            Err(fault) => return Some(Err(fault)),
        };
        let ends = Ends::new(Arc::clone(&self.inbox), &channel);
        history.haunted = self.common.pulse.left_dead_consumers(history.generation);
        let patience = self.patience();
        // Not given up half-way: RabbitMQ lets the answer to a consume be overtaken by the answer to the close.
        let consumed = timeout(patience, self.consume(&channel, &ends, history)).await;
        let wanted = *self.wishes.borrow() == Wish::Run;
        if !wanted || !matches!(consumed, Ok(Ok(()))) {
            // Consumers in force hold their channel, so it has to be told. One that waits for a queue that hangs does not
            // answer that either.
            let told = if self.plan.has_spare() {
                TELL
            } else {
                CLOSE_LIMIT
            };
            let _ = timeout(told, close(&channel)).await;
        }
        match consumed {
            _ if !wanted => return None,
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Some(Err(fault)),
            Err(_) => return Some(Err(self.silent())),
        }
        let count = self.spec.consumers.len();
        self.common.consumers.fetch_add(count, Ordering::Relaxed);
        Some(Ok(Active {
            ends,
            channel,
            since: Instant::now(),
            count,
            common: Arc::clone(&self.common),
        }))
    }

    async fn look_for_canary(&self, session: &Session) -> Result<(), SetupFault> {
        let common = &self.common;
        if self.plan.needs_canary(&common.facts) {
            common.canary.look(session, &common.facts).await?;
        }
        Ok(())
    }

    /// How long a part of the set-up may take.
    fn patience(&self) -> Duration {
        let patience = self.plan.config().listen_deadline();
        if self.plan.has_spare() {
            patience.min(HURRY)
        } else {
            patience
        }
    }

    /// The broker left a question unanswered: about the queue, if there is another one.
    fn silent(&self) -> SetupFault {
        match self.spec.consumers.first() {
            Some(consumer) if self.plan.has_spare() => SetupFault::stuck(consumer),
            _ => SetupFault::silent(),
        }
    }

    async fn declare(
        &self,
        session: &Session,
        history: &mut History,
    ) -> Result<Declared, SetupFault> {
        let (connection, common) = (&session.connection, &self.common);
        if self.ready.is_none() {
            if self.plan.is_replies() || history.transient {
                let missed = common.canary.missed_since(history.generation).await;
                history.losses.transient |= missed;
            }
            let same_connection = history.generation == session.generation;
            let missing = missing(connection, &self.spec).await?;
            // A new name has no queue yet.
            let renamed = history.losses.renamed;
            let all = self.spec.consumers.iter().zip(missing);
            for (consumer, _) in
                all.filter(|(consumer, missing)| *missing && !(consumer.private && renamed))
            {
                history.losses.note(consumer, same_connection);
            }
        }
        let declared = declare_all(connection, &self.spec, &common.facts).await?;
        history.transient = declared.transient;
        let starting = self.ready.is_some() && self.plan.may_clash();
        let taken = |(consumer, count): (&ConsumerSpec, u32)| consumer.private && count > 0;
        let counts = declared.consumers.iter().copied();
        if starting && self.spec.consumers.iter().zip(counts).any(taken) {
            close(&declared.channel).await;
            return Err(SetupFault::taken(self.name()));
        }
        Ok(declared)
    }

    async fn consume(
        &self,
        channel: &Channel,
        ends: &Ends,
        history: &History,
    ) -> Result<(), SetupFault> {
        for (number, consumer) in self.spec.consumers.iter().enumerate() {
            let prior = consumer.alone || history.haunted;
            let times = if prior { history.times } else { 0 };
            let is_stream = consumer.queue.is_stream();
            let offsets = is_stream.then_some(&self.offsets);
            let sink = ends.sink(number, offsets);
            let consume = Consume {
                queue: &consumer.queue.name,
                tag: &consumer.tag,
                arguments: table(&consumer_arguments(consumer, offsets, times)),
                ..Consume::default()
            };
            let consumed = in_time(consumer, channel.consume_with(&consume, sink)).await?;
            consumed.map_err(|error| SetupFault::queue(error, &consumer.queue.name))?;
        }
        Ok(())
    }

    /// The outcome of a part of the set-up in time; `None` if it is not wanted any more.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, SetupFault>>,
    ) -> Option<Result<T, SetupFault>> {
        tokio::select! {
            done = timeout(self.patience(), work) => Some(done.unwrap_or_else(|_| Err(self.silent()))),
            () = until_not_running(self.wishes.clone()) => None,
        }
    }

    fn announce(&mut self, history: &mut History) {
        self.common.note(self.name(), None);
        let losses = std::mem::take(&mut history.losses);
        let address = self.spec.address.clone();
        let old = std::mem::replace(&mut history.address, address.clone());
        if let Some(ready) = self.ready.take() {
            // Whoever asked may have gone; the wish to end says so.
            return drop(ready.send(Ok(address)));
        }
        if let Some((old, new)) = old.zip(address).filter(|(old, new)| old != new) {
            tracing::warn!(old, new, "the reply queue is replaced by another one");
            self.common.events.tell(Event::ReplyQueueReplaced {
                old,
                new: new.clone(),
            });
            self.inbox
                .handle_event(ListenerEvent::Renamed { address: new });
        }
        let recreated = losses.concern(self.plan.is_replies());
        let queue = self.name();
        tracing::info!(queue, recreated, ?losses, "subscription is in force again");
        self.common.events.tell(Event::ConsumerRestored {
            queue: queue.to_owned(),
            recreated,
        });
        if losses.emptied && self.plan.is_replies() && !recreated {
            self.inbox.handle_event(ListenerEvent::Emptied);
        } else if history.haunted {
            self.inbox.handle_event(ListenerEvent::Astray);
        }
        self.inbox
            .handle_event(ListenerEvent::Restored { recreated });
    }

    /// Waits until the subscription is lost, or `None`: not wanted any more.
    async fn hold(&mut self, active: &Active, session: &Session, haunted: bool) -> Option<End> {
        let mut ends = active.ends.watch();
        let interval = self.plan.config().check_interval();
        let mut counts = Vec::new();
        let heartbeat = session.connection.heartbeat().unwrap_or(BELIEF);
        let mut relax_at = haunted.then(|| Instant::now() + 2 * heartbeat + BELIEF / 4);
        let mut next_look = Instant::now() + jittered(interval.unwrap_or(Duration::ZERO));
        let wants_spare = self.plan.is_replies() && self.link.brokers().are_several();
        let mut next_spare = Instant::now() + SPARE_SOON;
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
                () = sleep_until(relax_at.unwrap_or(next_look)), if relax_at.is_some() => {
                    relax_at = None;
                    if let Err(fault) = self.relax(active).await {
                        return Some(fault.end);
                    }
                }
                () = sleep_until(next_spare), if wants_spare => {
                    let wishes = self.wishes.clone();
                    let ready = tokio::select! {
                        ready = self.keep_spare(session) => ready,
                        end = told(&mut ends) => return Some(end),
                        () = until_not_running(wishes) => continue,
                    };
                    next_spare = Instant::now() + if ready { jittered(SPARE_EVERY) } else { SPARE_AGAIN };
                }
                () = sleep_until(next_look), if interval.is_some() => {
                    let found = tokio::select! {
                        found = inspect(&session.connection, &self.spec, &self.common.facts, &mut counts) => found,
                        end = told(&mut ends) => Some(end),
                        () = until_not_running(self.wishes.clone()) => continue,
                    };
                    if found.is_some() {
                        return found;
                    }
                    next_look = Instant::now() + jittered(interval.unwrap_or(Duration::ZERO));
                }
            }
        }
    }

    /// Has a queue ready on another node than the one we consume at, whether that one hangs or dies: in a cluster of
    /// which a node hangs no queue can be declared. The connection that publishes is there, see [`Brokers::round`].
    ///
    /// [`Brokers::round`]: crate::brokers::Brokers::round
    async fn keep_spare(&mut self, session: &Session) -> bool {
        let publishing = &self.common.publishing;
        let Some(elsewhere) = publishing
            .with_status(|status| status.session().cloned())
            .filter(|elsewhere| elsewhere.host != session.host)
        else {
            return self.plan.has_spare();
        };
        let Ok(spec) = self.plan.spare_spec(&self.common.facts) else {
            return false;
        };
        let declare = async {
            let declared = declare_all(&elsewhere.connection, &spec, &self.common.facts).await?;
            close(&declared.channel).await;
            Ok::<_, SetupFault>(())
        };
        let ready = matches!(timeout(CLOSE_LIMIT, declare).await, Ok(Ok(())));
        if ready && !self.plan.has_spare() {
            tracing::debug!(
                queue = spec.address,
                host = &*elsewhere.host,
                "a spare reply queue is kept ready"
            );
        }
        self.plan.note_spare(ready);
        ready
    }

    /// Takes no more than its share of what several servers consume, now that the broker has given up its predecessors.
    async fn relax(&self, active: &Active) -> Result<(), SetupFault> {
        let shared =
            |(_, consumer): &(usize, &ConsumerSpec)| !consumer.alone && !consumer.queue.is_stream();
        for (number, consumer) in self.spec.consumers.iter().enumerate().filter(shared) {
            active.channel.cancel(&consumer.tag).await?;
            let consume = Consume {
                queue: &consumer.queue.name,
                tag: &consumer.tag,
                arguments: table(&consumer.arguments),
                ..Consume::default()
            };
            let sink = active.ends.sink(number, None);
            active.channel.consume_with(&consume, sink).await?;
        }
        Ok(())
    }

    /// Lets go of a subscription that was lost.
    async fn lose(&mut self, active: Active, end: End, history: &mut History) -> End {
        self.inbox.handle_event(ListenerEvent::Interrupted);
        self.common.events.tell(Event::ConsumerLost {
            queue: self.name().to_owned(),
            reason: end.to_string(),
        });
        // With that argument a consumer is cancelled also when its queue moves, and then nothing is lost.
        let moves = self.plan.config().enable_cancel_on_failover;
        if let End::Cancelled(number) = &end
            && let Some(consumer) = self.spec.consumers.get(*number)
            && !moves
        {
            history.losses.note(consumer, true);
        }
        // After a cancel the other consumers of the channel end with it; what they held goes back.
        close(&active.channel).await;
        end
    }

    /// Stops deliveries; those handed out can still be settled.
    async fn cancel(&self, channel: &Channel) {
        let cancelled = async {
            for consumer in &self.spec.consumers {
                channel.cancel(&consumer.tag).await?;
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

    /// Ends a subscription in force: own fanout queue first, then the channel (spec 4.7). A spare queue never held a message.
    async fn end(&mut self, channel: &Channel) {
        let spare = match self.plan.has_spare() {
            true => self.plan.spare_spec(&self.common.facts).ok(),
            false => None,
        };
        let own = |consumer: &&ConsumerSpec| consumer.delete_on_close;
        let orderly = async {
            for consumer in self.spec.consumers.iter().filter(own) {
                let queue = &consumer.queue.name;
                channel.queue_delete(queue, false, false).await?;
            }
            for consumer in spare.iter().flat_map(|spare| &spare.consumers) {
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
    fn judge(
        &mut self,
        fault: SetupFault,
        session: &Session,
        history: &mut History,
    ) -> Option<End> {
        if fault.name_is_taken {
            if let Err(error) = self.plan.rename() {
                self.give_up(error);
                return None;
            }
            history.losses.renamed = true;
            return Some(fault.end);
        }
        if let End::Closed(error) = &fault.end {
            let internal = is_internal(error);
            // The connection of all subscriptions went with it.
            history.offences += u32::from(internal);
            let worn_out = internal && history.offences >= INTERNAL_ERRORS;
            if self.ready.is_some() && (is_final_for_listener(error) || worn_out) {
                let mut told = listen_error(error.clone(), self.place(&fault, session))
                    .with("broker", &*self.common.facts.version());
                if let Some(asked) = fault.asked {
                    told = told.with("asked for", asked);
                }
                self.give_up(told);
                return None;
            }
        }
        tracing::debug!(error = %fault.end, entity = fault.entity, "set-up of a subscription failed");
        Some(fault.end)
    }

    fn place<'a>(&'a self, fault: &'a SetupFault, session: &'a Session) -> Place<'a> {
        Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &fault.entity,
        }
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

impl Losses {
    /// Notes that a queue is gone.
    fn note(&mut self, consumer: &ConsumerSpec, connection_stayed: bool) {
        match (consumer.private, connection_stayed) {
            // A stream that was deleted held nothing that was not settled.
            (false, _) => self.shared |= !consumer.queue.is_stream(),
            (true, true) => self.emptied = true,
            (true, false) => self.own = true,
        }
    }
}

/// The arguments of a consumer: from where its stream was read to, or before the predecessors it had, `times` above 0 of
/// them, which the broker may believe to be alive for minutes and would go on serving.
fn consumer_arguments(
    consumer: &ConsumerSpec,
    offsets: Option<&Arc<Offsets>>,
    times: u16,
) -> Arguments {
    let mut arguments = consumer.arguments.clone();
    if let Some(offsets) = offsets {
        if let Some(next) = offsets.attach() {
            let next = i64::try_from(next).unwrap_or(i64::MAX);
            arguments = vec![("x-stream-offset", Argument::Number(next))];
        }
    } else if times > 0 {
        arguments.push(("x-priority", Argument::Number(times.into())));
    }
    arguments
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
    // An error means that the engine let go of the sinks, which it does after telling why.
    let told = ends.wait_for(Option::is_some).await;
    told.ok()
        .and_then(|end| (*end).clone())
        .unwrap_or(End::Silent)
}

/// Resolves when the subscription is to pause or end.
async fn until_not_running(mut wishes: watch::Receiver<Wish>) {
    // An error means that all owners are gone, which is the end as well.
    let _ = wishes.wait_for(|wish| *wish != Wish::Run).await;
}

/// At once the first time, then slower, always jittered; slowest after internal errors of the broker, each of which
/// costs all subscriptions their connection.
fn repair_pause(failures: u32, offences: u32) -> Duration {
    let doubling =
        |first: f64, times: u32, cap: f64| (first * 2_f64.powi(times.min(16) as i32)).min(cap);
    let most = match (failures, offences) {
        (0 | 1, 0) => 0.05,
        (_, 0) => doubling(0.25, failures - 1, 15.0),
        (_, offences) => doubling(1.0, offences, 300.0),
    };
    jittered(Duration::from_secs_f64(most))
}

/// The second half of a wait at random.
fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_wait_longer_each_time_and_longest_where_they_cost_others_their_connection() {
        let between = |failures, offences, most: f64| {
            let pause = repair_pause(failures, offences).as_secs_f64();
            assert!(
                (most / 2.0..=most).contains(&pause),
                "{failures} {offences}: {pause}"
            );
        };
        between(1, 0, 0.05);
        between(2, 0, 0.5);
        between(3, 0, 1.0);
        between(u32::MAX, 0, 15.0);
        between(1, 1, 2.0);
        between(2, 2, 4.0);
        between(9, 9, 300.0);
    }
}
