//! One listener: a task that joins the group, places what it is given, hands messages to the inbox, tells the broker what
//! was handled, and ends in order.
//!
//! The client library fetches ahead in threads of its own; its callbacks run while this task polls it, so the task polls
//! as long as it lives, whatever else it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::driver::{Delivery, Inbox, ListenerEvent};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::events::{Event, EventSource};
use rdkafka::Message;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{info, warn};

use crate::connection::{Reporter, client_config};
use crate::desk::{Desk, DeskContext, commit};
use crate::error::{
    Place as Where, client_error, is_final_for_listener, late_listener, listen_error, refused_error,
};
use crate::ledger::{Partition, Place};
use crate::places::{Found, QUESTION_LIMIT, Topics};
use crate::plan::Plan;
use crate::settings::Settings;

mod placing;

/// How long an ending listener may take: its last commit, its goodbye to the group.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(8);
/// How long messages fetched ahead wait for a slow inbox before they are given back, to be fetched again later; without
/// that the group would hear nothing of us.
const HOLD_AFTER: Duration = Duration::from_secs(1);

type Client = StreamConsumer<DeskContext>;

/// What the owner of a listener wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Deliveries.
    Run,
    /// No new ones.
    Pause,
    /// The end.
    End,
}

/// What listeners of a driver have in common.
pub(crate) struct Common {
    /// Options and brokers.
    pub(crate) settings: Arc<Settings>,
    /// Where news is told.
    pub(crate) events: EventSource,
    /// Listeners in force.
    pub(crate) active: AtomicUsize,
}

/// One listener, before it runs.
pub(crate) struct SubscriptionTask {
    /// What it shares with the driver.
    pub(crate) common: Arc<Common>,
    /// What it listens to.
    pub(crate) plan: Plan,
    /// Where deliveries go.
    pub(crate) inbox: Arc<dyn Inbox>,
    /// What its owner wants.
    pub(crate) wishes: watch::Receiver<Wish>,
    /// Told when nothing more will be delivered.
    pub(crate) paused: watch::Sender<bool>,
    /// Told how the start went.
    pub(crate) ready: Option<oneshot::Sender<Result<()>>>,
    /// What it shares with callbacks and settlers.
    pub(crate) desk: Arc<Desk>,
}

/// A question to the brokers.
enum Answer {
    Topics(KafkaResult<Topics>),
    Places(Vec<Partition>, KafkaResult<Vec<Found>>),
}

/// What became of a commit.
type Committed = (Vec<Place>, KafkaResult<()>);

/// A listener at work.
struct Work {
    task: SubscriptionTask,
    consumer: Arc<Client>,
    /// The question that is being asked; one at a time.
    question: Option<JoinHandle<Answer>>,
    /// The commit that is under way.
    committing: Option<JoinHandle<Committed>>,
    /// The topics as they were at the start.
    known: Option<Topics>,
    /// Partitions that wait for places.
    given: Option<Vec<Partition>>,
    /// Partitions have been placed once.
    placed: bool,
    started: Instant,
    next_look: Instant,
    /// As much as may be is in hand, since then.
    full_since: Option<Instant>,
    /// Fetching is paused.
    holding: bool,
    /// A hold-up was told.
    told_stuck: bool,
    /// The inbox was told that deliveries stopped.
    interrupted: bool,
}

impl SubscriptionTask {
    /// Lives until its owner wants the end, or until it cannot be.
    pub(crate) async fn run(mut self) {
        let consumer = match self.connect().await {
            Ok(consumer) => Arc::new(consumer),
            Err(error) => return self.answer(Err(error)),
        };
        let mut work = Work::new(self, consumer);
        if let Err(error) = work.run().await {
            work.fail(error);
        }
        work.end().await;
    }

    async fn connect(&self) -> Result<Client> {
        let properties = self.common.settings.consumer(&self.plan.group);
        let context = DeskContext {
            desk: Arc::clone(&self.desk),
            reporter: Reporter {
                status: Arc::clone(&self.desk.status),
            },
        };
        // Reads certificates and starts threads. The runtime is entered for the library's wake-up task.
        let settings = Arc::clone(&self.common.settings);
        let made = spawn_blocking(move || {
            settings.check_files()?;
            let made = client_config(properties).create_with_context(context);
            made.map_err(|fault| client_error(fault, &settings.brokers))
        });
        match made.await {
            Ok(made) => made,
            Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime is ending")),
        }
    }

    fn answer(&mut self, how: Result<()>) {
        if let Some(ready) = self.ready.take() {
            // Nobody waits any more if the owner gave up.
            let _ = ready.send(how);
        }
    }

    fn place<'a>(&'a self, topics: &'a str) -> Where<'a> {
        Where {
            brokers: &self.common.settings.brokers,
            topic: topics,
        }
    }
}

impl Work {
    fn new(task: SubscriptionTask, consumer: Arc<Client>) -> Self {
        let now = Instant::now();
        Self {
            task,
            consumer,
            question: None,
            committing: None,
            known: None,
            given: None,
            placed: false,
            started: now,
            next_look: now,
            full_since: None,
            holding: false,
            told_stuck: false,
            interrupted: false,
        }
    }

    async fn run(&mut self) -> Result<()> {
        let consumer = Arc::clone(&self.consumer);
        let desk = Arc::clone(&self.task.desk);
        let mut refusals = desk.status.refusals();
        let limit = self.started + self.task.common.settings.config.listen_limit();
        let mut ticks = ticks(self.task.common.settings.config.poll_interval());
        self.look();
        loop {
            let starting = self.task.ready.is_some();
            // What was fetched ahead stays with the library while the inbox has enough.
            let taking = self.full_since.is_none() || self.holding;
            tokio::select! {
                biased;
                wish = self.task.wishes.changed() => {
                    // An error means that the owner is gone.
                    let wish = wish.map_or(Wish::End, |()| *self.task.wishes.borrow_and_update());
                    if wish == Wish::End {
                        return Ok(());
                    }
                    self.apply_flow();
                    self.task.paused.send_replace(true);
                }
                answer = done(&mut self.question) => self.handle(answer)?,
                committed = done(&mut self.committing) => self.finish_commit(committed),
                _ = refusals.changed(), if starting => {
                    if let Some(refusal) = desk.status.refusal() {
                        return Err(refused_error(&refusal, self.task.place(&self.task.plan.names())));
                    }
                }
                () = sleep_until(limit), if starting => return Err(self.late()),
                () = desk.wake.notified() => self.settle_up(),
                _ = ticks.tick() => self.look_after(),
                message = consumer.recv(), if taking => match message {
                    Ok(message) => self.deliver(&message),
                    Err(fault) => self.suffer(&fault)?,
                },
            }
        }
    }

    fn deliver(&mut self, message: &BorrowedMessage<'_>) {
        if self.is_paused() {
            // It was on its way; its offset is not passed, so that it comes again.
            return;
        }
        let body = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let desk = &self.task.desk;
        let partition = (Arc::from(message.topic()), message.partition());
        let tag = desk
            .ledger()
            .deliver(partition, message.offset(), body.clone());
        if let Some(tag) = tag {
            let settler = Arc::clone(desk);
            self.task.inbox.deliver(Delivery::new(body, tag, settler));
        }
        self.restored();
        self.apply_flow();
    }

    /// Tells the broker what was handled, unless it is being told already.
    fn commit(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let places = self.task.desk.begin_commit(&*self.consumer);
        if !places.is_empty() {
            let consumer = Arc::clone(&self.consumer);
            // The library tells nobody what became of a commit that is not waited for.
            self.committing = Some(spawn_blocking(move || {
                let told = commit(&*consumer, &places, CommitMode::Sync);
                (places, told)
            }));
        }
    }

    fn finish_commit(&mut self, (places, told): Committed) {
        let desk = &self.task.desk;
        match told {
            Ok(()) => {
                desk.ledger().committed(&places);
                desk.status.mark_up(None);
                // More may have been handled meanwhile.
                self.commit();
            }
            // Told again by the next tick.
            Err(fault) => desk.commit_failed(&fault),
        }
    }

    /// Tells what was handled, hands out again what was given back, places what was given.
    fn settle_up(&mut self) {
        self.commit();
        while !self.is_paused() {
            // The lock is not held over the inbox, which may settle.
            let again = self.task.desk.ledger().take_again();
            let Some(again) = again else { break };
            let settler = Arc::clone(&self.task.desk);
            let delivery = Delivery::new(again.body, again.tag, settler).redelivered(true);
            self.task.inbox.deliver(delivery);
        }
        self.place_given();
        self.apply_flow();
    }

    /// What is done every now and then: what failed is tried again.
    fn look_after(&mut self) {
        let looks = self.known.is_none() || !self.task.plan.is_group;
        let due = self.known.is_none() || self.next_look <= Instant::now();
        if self.question.is_none() && looks && due {
            self.look();
        }
        let status = &self.task.desk.status;
        if self.placed && !status.is_up() && !self.interrupted {
            self.interrupted = true;
            let reason = status.fault().unwrap_or_default();
            self.task.common.events.tell(Event::ConsumerLost {
                queue: self.task.plan.first().to_owned(),
                reason,
            });
            self.task.inbox.handle_event(ListenerEvent::Interrupted);
        } else if status.is_up() {
            self.restored();
        }
        self.settle_up();
    }

    fn restored(&mut self) {
        if !self.interrupted {
            return;
        }
        self.interrupted = false;
        self.task.desk.status.mark_up(None);
        self.task.common.events.tell(Event::ConsumerRestored {
            queue: self.task.plan.first().to_owned(),
            recreated: false,
        });
        let event = ListenerEvent::Restored { recreated: false };
        self.task.inbox.handle_event(event);
    }

    /// Lets the library fetch, or not, by what is in hand.
    fn apply_flow(&mut self) {
        let (full, stuck, roomy) = {
            let ledger = self.task.desk.ledger();
            (ledger.is_full(), ledger.is_stuck(), ledger.is_roomy())
        };
        if stuck && !self.told_stuck {
            warn!(
                "a message that is not settled holds its partition up; nothing more is fetched until it is"
            );
        }
        self.told_stuck = stuck;
        let now = Instant::now();
        if !full {
            self.full_since = None;
        } else if self.full_since.is_none() {
            self.full_since = Some(now);
        }
        let long = self
            .full_since
            .is_some_and(|since| now.duration_since(since) >= HOLD_AFTER);
        let hold = self.is_paused() || long || (self.holding && !roomy);
        if hold != self.holding && self.placed {
            let changed = self.consumer.assignment().and_then(|all| {
                if hold {
                    self.consumer.pause(&all)
                } else {
                    self.consumer.resume(&all)
                }
            });
            match changed {
                Ok(()) => self.holding = hold,
                Err(fault) => warn!(error = %fault, hold, "fetching could not be held or resumed"),
            }
        }
    }

    /// A fault that the library reports of the group or a topic.
    fn suffer(&mut self, fault: &KafkaError) -> Result<()> {
        let Some(code) = fault.rdkafka_error_code() else {
            return Ok(());
        };
        let status = &self.task.desk.status;
        let names = self.task.plan.names();
        let place = self.task.place(&names);
        let fatal = matches!(fault, KafkaError::MessageConsumptionFatal(_));
        if fatal || (self.task.ready.is_some() && is_final_for_listener(code)) {
            return Err(listen_error(code, &self.task.plan.group, place));
        }
        status.note(&code.to_string());
        if is_final_for_listener(code) {
            // It was granted before, and may be again.
            warn!(topics = names, error = %code, "the broker does not let this listener be");
        }
        Ok(())
    }

    fn late(&self) -> Error {
        let (plan, status) = (&self.task.plan, &self.task.desk.status);
        let names = plan.names();
        let up = status.is_up() || self.known.is_some();
        status.explain(late_listener(&plan.group, self.task.place(&names), up))
    }

    /// Whether nothing more is to be delivered.
    fn is_paused(&self) -> bool {
        *self.task.wishes.borrow() != Wish::Run
    }

    fn fail(&mut self, error: Error) {
        if self.task.ready.is_some() {
            self.task.answer(Err(error));
        } else {
            warn!(%error, "the listener ends");
            self.task.inbox.handle_event(ListenerEvent::Failed(error));
        }
    }

    /// Tells the broker what was handled last, says goodbye to the group, and ends the client.
    async fn end(self) {
        let Self {
            task,
            consumer,
            question,
            committing,
            placed,
            ..
        } = self;
        if placed {
            task.common.active.fetch_sub(1, Ordering::Relaxed);
        }
        task.paused.send_replace(true);
        task.desk.begin_closing();
        // Both hold the client, and are over soon if any broker is there.
        let last = async {
            if let Some(question) = question {
                let _ = question.await;
            }
            if let Some(Ok((places, told))) = match committing {
                Some(committing) => Some(committing.await),
                None => None,
            } {
                match told {
                    Ok(()) => task.desk.ledger().committed(&places),
                    Err(fault) => task.desk.commit_failed(&fault),
                }
            }
        };
        let _ = timeout(QUESTION_LIMIT, last).await;
        let desk = Arc::clone(&task.desk);
        let ended = spawn_blocking(move || {
            desk.commit_last(&*consumer, true);
            // The library waits for an answer to partitions it gave.
            if desk.take_given().is_some() {
                let _ = consumer.unassign();
            }
            drop(consumer);
        });
        if timeout(CLOSE_LIMIT, ended).await.is_err() {
            warn!("the client library takes its time to leave the group; it is left to itself");
        }
        info!(topics = task.plan.names(), "stopped listening");
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What a task gave; never, if there is none.
async fn done<T>(task: &mut Option<JoinHandle<T>>) -> T {
    loop {
        let Some(running) = task else {
            return std::future::pending().await;
        };
        let result = running.await;
        *task = None;
        // An error means that the runtime is ending.
        if let Ok(result) = result {
            return result;
        }
    }
}
