//! Where a listener's deliveries wait, are gathered into batches, handled, tried again, and settled.
//!
//! The driver's reading task puts deliveries in; one task, the pump, takes them out a batch at a time when a worker is
//! free, and owns the workers. Everything that waits is unsettled, so the bus bounds it by its prefetch. Settled only
//! after handling: what a dying listener held comes again elsewhere.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::state::dedup::Duplicates;
use oslo_messaging_proto::wire::notification::Notification;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{debug, error, info, warn};

use crate::driver::{Delivery, Inbox, ListenerEvent, deadline_after};
use crate::error::Error;
use crate::lock::lock;
use crate::notify::dispatcher::Dispatcher;
use crate::notify::endpoint::NotificationOutcome;
use crate::notify::hall::worker::Worker;
use crate::notify::repair::{Morgue, RetryPolicy};

mod worker;

/// How many handled notifications are remembered, to know those that come again (the reference: 16).
const REMEMBERED: usize = 4096;
/// How long a stop waits for tasks it aborted.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How a listener works.
pub(crate) struct Rules {
    pub(crate) allow_requeue: bool,
    pub(crate) batch: NonZeroUsize,
    pub(crate) batch_timeout: Option<Duration>,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) morgue: Option<Morgue>,
}

/// What was done, counted since the start.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) handled: AtomicU64,
    pub(crate) requeued: AtomicU64,
    pub(crate) retried: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) running: AtomicUsize,
    pub(crate) pausing: AtomicUsize,
}

/// The hall of one listener.
pub(crate) struct Hall {
    dispatcher: Dispatcher,
    rules: Rules,
    state: Mutex<State>,
    /// Something came, or the end.
    news: Notify,
    known: Mutex<Known>,
    pub(crate) counters: Counters,
    failed: Mutex<Option<Error>>,
    failure: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    waiting: VecDeque<Delivery>,
    /// When the oldest that waits came.
    since: Option<Instant>,
}

/// Ids of what was handled, and copies of what is being handled.
struct Known {
    handled: Duplicates,
    running: HashMap<String, Vec<Delivery>>,
}

/// A notification in work.
struct Job {
    delivery: Delivery,
    note: Notification,
    priority: Priority,
    failed: u32,
    reason: String,
    /// Nothing is left but to put it away.
    dead: bool,
}

impl Hall {
    pub(crate) fn new(dispatcher: Dispatcher, rules: Rules) -> Self {
        Self {
            dispatcher,
            rules,
            state: Mutex::default(),
            news: Notify::new(),
            known: Mutex::new(Known {
                handled: Duplicates::new(REMEMBERED),
                running: HashMap::new(),
            }),
            counters: Counters::default(),
            failed: Mutex::new(None),
            failure: Notify::new(),
        }
    }

    /// How many deliveries wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Resolves when the driver gave the subscription up.
    pub(crate) async fn failure(&self) -> Error {
        loop {
            let failure = self.failure.notified();
            if let Some(error) = lock(&self.failed).take() {
                return error;
            }
            failure.await;
        }
    }

    /// Starts nothing new any more. What still comes stays unsettled until [`Hall::give_back`].
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.news.notify_one();
    }

    /// Gives back what waits; tells how many.
    pub(crate) fn give_back(&self) -> usize {
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        let count = waiting.len();
        waiting.into_iter().for_each(Delivery::requeue);
        count
    }

    /// Takes batches to workers until the end; then joins these, and aborts those that have not ended at the deadline.
    /// Tells how many had not.
    pub(crate) async fn pump(self: Arc<Self>, mut end: watch::Receiver<Option<Instant>>) -> usize {
        let permits = Arc::new(Semaphore::new(self.rules.concurrency.get()));
        let mut workers = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            let Some(batch) = self.next_batch().await else {
                break;
            };
            while workers.try_join_next().is_some() {}
            let worker = Worker {
                hall: Arc::clone(&self),
                permits: Arc::clone(&permits),
                end: end.clone(),
            };
            workers.spawn(worker.work(batch, permit));
        }
        let deadline = match end.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            // The owner is gone, and this task is about to be aborted.
            Err(_) => Instant::now(),
        };
        let join = async { while workers.join_next().await.is_some() {} };
        if timeout_at(deadline, join).await.is_ok() {
            return 0;
        }
        let aborted = self.counters.running.load(Ordering::Relaxed);
        workers.abort_all();
        let join = async { while workers.join_next().await.is_some() {} };
        if timeout(ABORT_LIMIT, join).await.is_err() {
            error!(
                "a notification handler that never yields could not be aborted and is left running"
            );
            workers.detach_all();
        }
        aborted
    }

    /// The next batch: full, or what came within the time since its first; `None` at the end.
    async fn next_batch(&self) -> Option<Vec<Delivery>> {
        let size = self.rules.batch.get();
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let fires = {
                let mut state = lock(&self.state);
                if state.closed {
                    return None;
                }
                let fires = state
                    .since
                    .zip(self.rules.batch_timeout)
                    .map(|(since, wait)| deadline_after(since, wait));
                let due = fires.is_some_and(|at| at <= Instant::now());
                if state.waiting.len() >= size || (due && !state.waiting.is_empty()) {
                    let count = size.min(state.waiting.len());
                    let batch = state.waiting.drain(..count).collect();
                    state.since = (!state.waiting.is_empty()).then(Instant::now);
                    return Some(batch);
                }
                fires
            };
            match fires {
                Some(at) => tokio::select! {
                    () = &mut news => {}
                    () = sleep_until(at) => {}
                },
                None => news.await,
            }
        }
    }

    /// What is to be handled of a batch; all else is settled.
    async fn admit(&self, batch: Vec<Delivery>) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(batch.len());
        for delivery in batch {
            let note = match Notification::decode(delivery.body()) {
                Ok(note) => note,
                Err(fault) => {
                    self.refuse(delivery, &fault.to_string()).await;
                    continue;
                }
            };
            let (delivery, note) = match self.first_time(delivery, note) {
                Some(new) => new,
                None => continue,
            };
            let mut job = Job {
                delivery,
                note,
                priority: Priority::Error,
                failed: 0,
                reason: String::new(),
                dead: false,
            };
            match job.note.priority() {
                Ok(Some(priority)) => {
                    job.priority = priority;
                    jobs.push(job);
                }
                Ok(None) => {
                    warn!(
                        event_type = job.note.event_type(),
                        "a notification has a priority that is not known, and counts as handled"
                    );
                    count(&self.counters.ignored);
                    self.settle(job, Settled::Handled);
                }
                Err(kind) => {
                    // Wire: the reference's dispatcher fails here, as if an endpoint had (spec 16.3).
                    job.failed = u32::MAX;
                    job.reason = format!("its priority is of type {}", kind.python_name());
                    jobs.push(job);
                }
            }
        }
        jobs
    }

    /// A delivery whose id is new; a copy of what was handled is acknowledged, and one of what is being handled is
    /// settled like it.
    fn first_time(
        &self,
        delivery: Delivery,
        note: Notification,
    ) -> Option<(Delivery, Notification)> {
        let Some(id) = note.unique_id() else {
            return Some((delivery, note));
        };
        let mut known = lock(&self.known);
        if known.handled.contains(id) {
            drop(known);
            debug!(
                unique_id = id,
                "a notification came again, and is acknowledged"
            );
            count(&self.counters.duplicates);
            delivery.ack();
            return None;
        }
        if let Some(copies) = known.running.get_mut(id) {
            copies.push(delivery);
            count(&self.counters.duplicates);
            return None;
        }
        known.running.insert(id.to_owned(), Vec::new());
        drop(known);
        Some((delivery, note))
    }

    /// Disposes of what is no notification: never again, but where dead letters go.
    async fn refuse(&self, delivery: Delivery, reason: &str) {
        error!(
            reason,
            bytes = delivery.body().len(),
            "rejected a message that is no notification"
        );
        count(&self.counters.rejected);
        if let Some(morgue) = &self.rules.morgue {
            let buried = morgue.bury_unreadable(delivery.body(), reason, SystemTime::now());
            match buried.await {
                Ok(()) => {
                    count(&self.counters.dead_lettered);
                    return delivery.ack();
                }
                Err(error) => warn!(%error, "a dead letter could not be sent, and is rejected"),
            }
        }
        delivery.reject();
    }

    /// Calls the endpoints with what a batch holds of each priority, in the order of their names.
    async fn handle(&self, jobs: &[&Job]) -> Vec<NotificationOutcome> {
        let mut outcomes = vec![NotificationOutcome::Handled; jobs.len()];
        for priority in Priority::ALL {
            let (mut places, mut notes) = (Vec::new(), Vec::new());
            for (place, job) in jobs.iter().enumerate() {
                if job.failed == u32::MAX {
                    outcomes[place] = NotificationOutcome::Failed(job.reason.clone());
                } else if job.priority == priority {
                    match self.dispatcher.read(job.note.clone()) {
                        Ok(note) => {
                            places.push(place);
                            notes.push(note);
                        }
                        Err(error) => {
                            outcomes[place] = NotificationOutcome::Failed(error.to_string());
                        }
                    }
                }
            }
            if notes.is_empty() {
                continue;
            }
            let given = self.dispatcher.dispatch(priority, &notes).await;
            for (place, outcome) in places.into_iter().zip(given) {
                outcomes[place] = outcome;
            }
        }
        outcomes
    }

    /// Settles a job as its outcome asks for, or gives it back to be tried again here.
    fn conclude(&self, mut job: Job, outcome: NotificationOutcome) -> Option<Job> {
        let reason = match outcome {
            NotificationOutcome::Handled => {
                count(&self.counters.handled);
                self.settle(job, Settled::Handled);
                return None;
            }
            NotificationOutcome::Requeue => "an endpoint asked for another try".to_owned(),
            NotificationOutcome::Failed(reason) => reason,
        };
        job.failed = job.failed.saturating_add(1);
        let event_type = job.note.event_type();
        debug!(
            event_type,
            reason,
            attempts = job.failed,
            "a notification was not handled"
        );
        job.reason = reason;
        let tries = self.rules.retry.map_or(1, |retry| retry.attempts());
        if job.failed < tries {
            count(&self.counters.retried);
            return Some(job);
        }
        if self.rules.morgue.is_some() {
            job.dead = true;
            return Some(job);
        }
        if self.rules.allow_requeue {
            count(&self.counters.requeued);
            self.settle(job, Settled::Requeue);
        } else {
            warn!(
                event_type,
                reason = job.reason,
                "a notification that was not handled is lost: allow_requeue is off, and there is no dead-letter topic"
            );
            count(&self.counters.lost);
            self.settle(job, Settled::Lost);
        }
        None
    }

    /// Puts a job away; gives it back if its bus did not take it.
    async fn bury(&self, job: Job) -> Option<Job> {
        let Some(morgue) = &self.rules.morgue else {
            return Some(job);
        };
        // One whose priority cannot be told was never tried.
        let attempts = if job.failed == u32::MAX {
            0
        } else {
            job.failed
        };
        let now = SystemTime::now();
        let buried = morgue.bury(&job.note, job.priority, &job.reason, attempts, now);
        match buried.await {
            Ok(()) => {
                count(&self.counters.dead_lettered);
                self.settle(job, Settled::Handled);
                None
            }
            Err(error) => {
                warn!(%error, "a dead letter could not be sent; the notification is kept");
                Some(job)
            }
        }
    }

    fn settle(&self, job: Job, how: Settled) {
        let copies = match job.note.unique_id() {
            None => Vec::new(),
            Some(id) => {
                let mut known = lock(&self.known);
                if how == Settled::Handled {
                    known.handled.insert(id);
                }
                known.running.remove(id).unwrap_or_default()
            }
        };
        for delivery in std::iter::once(job.delivery).chain(copies) {
            match how {
                Settled::Handled | Settled::Lost => delivery.ack(),
                Settled::Requeue => delivery.requeue(),
            }
        }
    }
}

/// What the bus is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// It is done with, and so are copies of it.
    Handled,
    /// It was not handled and will not be, unless it is sent again.
    Lost,
    /// It shall come again.
    Requeue,
}

impl Inbox for Hall {
    fn deliver(&self, delivery: Delivery) {
        let mut state = lock(&self.state);
        state.waiting.push_back(delivery);
        state.since.get_or_insert_with(Instant::now);
        let tell = state.waiting.len() >= self.rules.batch.get() || state.waiting.len() == 1;
        drop(state);
        if tell {
            self.news.notify_one();
        }
    }

    fn handle_event(&self, event: ListenerEvent) {
        match event {
            ListenerEvent::Interrupted => {
                info!("the subscription is interrupted");
                // The bus has taken them back, and hands them out again.
                let waiting = {
                    let mut state = lock(&self.state);
                    state.since = None;
                    std::mem::take(&mut state.waiting)
                };
                drop(waiting);
            }
            ListenerEvent::Restored { recreated } => {
                info!(recreated, "the subscription is back");
                if recreated {
                    warn!("the broker lost queues, and perhaps notifications with them");
                }
            }
            ListenerEvent::Renamed { .. } | ListenerEvent::Emptied | ListenerEvent::Astray => {}
            ListenerEvent::Failed(error) => {
                if lock(&self.state).closed {
                    debug!(%error, "the subscription ended while the listener stopped");
                } else {
                    error!(%error, "the subscription is gone for good");
                }
                *lock(&self.failed) = Some(error);
                self.failure.notify_waiters();
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
