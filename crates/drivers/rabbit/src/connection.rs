//! One supervised connection to one of the brokers: made on demand, made again when lost.
//!
//! Owns the walk over the brokers, the waits between attempts and the news of it all ([`Status`], which
//! anyone may watch). Refuses to know what the connection is for: channels, declarations and messages
//! are the business of publisher and consumer, who ask for a [`Session`] and ask again when it is gone.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oslo_messaging_amqp::{Connection, Error as AmqpError};
use oslo_messaging_core::driver::Retry;
use oslo_messaging_core::error::{Error, Result};
use oslo_messaging_core::events::{Event, EventSource};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::brokers::Brokers;
use crate::error::{ConnectFault, Hope, closed_error};
use crate::pulse::{Pulse, until_dead};

/// A broker that takes longer to take a connection is not waited for alone.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A connection that held this long was none in a row of those that are made and lost at once.
const STEADY: Duration = Duration::from_secs(1);

/// How long the broker may take to answer the close of a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A connection in force.
pub(crate) struct Session {
    /// The engine's handle.
    pub(crate) connection: Connection,
    /// Counts the connections of a link from 1, so that a lost one is not taken for its successor.
    pub(crate) generation: u64,
    /// The broker, as `host:port`.
    pub(crate) host: Arc<str>,
}

/// What a link is doing.
#[derive(Default)]
pub(crate) enum Phase {
    /// Nobody has asked for a connection yet.
    #[default]
    Idle,
    /// Trying, or waiting to try.
    Down,
    /// The broker refused the login or the virtual host; the next who asks has it tried again.
    Refused,
    /// Connected.
    Up(Arc<Session>),
    /// Ended by its owner.
    Closed,
}

impl Status {
    /// The connection in force.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match &self.phase {
            Phase::Up(session) => Some(session),
            _ => None,
        }
    }
}

/// The news of a link.
#[derive(Default)]
pub(crate) struct Status {
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Rounds over all brokers that failed, since the start.
    failed_rounds: u64,
    /// Those of them that failed for good: login or virtual host refused.
    refusals: u64,
    /// Why the last connection or attempt failed.
    pub(crate) last_fault: Option<ConnectFault>,
}

/// How long, and how often, somebody waits.
#[derive(Debug)]
pub(crate) struct Patience {
    retry: Retry,
    failed: u32,
    endless: bool,
}

impl Patience {
    /// As an operation's sender says.
    pub(crate) fn new(retry: Retry) -> Self {
        Self {
            retry,
            failed: 0,
            endless: false,
        }
    }

    /// Of one who waits whatever happens, a refused login included, and never asks for an attempt.
    pub(crate) fn endless() -> Self {
        Self {
            retry: Retry::Forever,
            failed: 0,
            endless: true,
        }
    }

    /// Notes failed attempts; whether another one is allowed.
    pub(crate) fn allows_after(&mut self, failures: u32) -> bool {
        self.failed = self.failed.saturating_add(failures);
        failures == 0 || self.retry.allows(self.failed)
    }

    /// Failed attempts so far.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Messages out.
    Publish,
    /// Messages in.
    Consume,
}

impl Role {
    /// As events and the log say it.
    fn purpose(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

/// A connection that is kept up by a task of its own.
pub(crate) struct Link {
    inner: Arc<Inner>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    brokers: Arc<Brokers>,
    /// What it is for, for the log.
    purpose: &'static str,
    /// Whether it publishes, rather than consumes.
    publishes: bool,
    /// Where news goes.
    events: EventSource,
    /// Shared with the driver's other link.
    pulse: Arc<Pulse>,
    /// What was said about failed attempts since the last connection, and when.
    warned: Mutex<Option<(Instant, String)>>,
    status: watch::Sender<Status>,
    /// Somebody wants a connection now.
    wake: Notify,
    /// Subscriptions that want the connection back whatever the broker says.
    keepers: AtomicUsize,
    stop: Notify,
    stopped: AtomicBool,
    /// The task lives.
    running: AtomicBool,
    /// Connections made so far.
    made: AtomicU64,
}

/// Says that the task is gone when it ends, also with the runtime it ran on: the next who wants a connection starts one on
/// the runtime it runs on.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
        self.0.status.send_modify(|status| {
            if !matches!(status.phase, Phase::Closed) {
                status.phase = Phase::Idle;
            }
        });
    }
}

/// While it lives, the link goes on trying even after a refused login.
pub(crate) struct Keeper(Arc<Inner>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// A link that has not connected yet.
    pub(crate) fn new(
        brokers: Arc<Brokers>,
        role: Role,
        events: EventSource,
        pulse: Arc<Pulse>,
    ) -> Self {
        let inner = Inner {
            brokers,
            purpose: role.purpose(),
            publishes: role == Role::Publish,
            events,
            pulse,
            warned: Mutex::default(),
            status: watch::Sender::new(Status::default()),
            wake: Notify::new(),
            keepers: AtomicUsize::new(0),
            stop: Notify::new(),
            stopped: AtomicBool::new(false),
            running: AtomicBool::new(false),
            made: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
            task: Mutex::new(None),
        }
    }

    /// A connection newer than `after`, as soon as there is one.
    ///
    /// # Errors
    /// The last fault, when `patience` is used up by failed rounds or the broker refuses the login;
    /// `Closed` after [`Link::close`].
    ///
    /// # Cancellation
    /// Safe; the link goes on.
    pub(crate) async fn session(
        &self,
        after: u64,
        patience: &mut Patience,
    ) -> Result<Arc<Session>> {
        let mut status = self.inner.status.subscribe();
        let (mut rounds, refusals) = {
            let now = status.borrow_and_update();
            if let Phase::Up(session) = &now.phase
                && session.generation > after
            {
                return Ok(Arc::clone(session));
            }
            (now.failed_rounds, now.refusals)
        };
        self.start()?;
        if !patience.endless && matches!(status.borrow().phase, Phase::Refused) {
            self.inner.wake.notify_one();
        }
        loop {
            let is_idle = matches!(status.borrow().phase, Phase::Idle);
            if is_idle {
                self.start()?;
            }
            {
                let now = status.borrow_and_update();
                match &now.phase {
                    Phase::Up(session) if session.generation > after => {
                        return Ok(Arc::clone(session));
                    }
                    Phase::Closed => return Err(closed_error()),
                    _ => {}
                }
                let failures = u32::try_from(now.failed_rounds - rounds).unwrap_or(u32::MAX);
                rounds = now.failed_rounds;
                if let Some(fault) = &now.last_fault
                    && !patience.endless
                    && (!patience.allows_after(failures) || now.refusals > refusals)
                {
                    let tries = patience.failed();
                    return Err(fault.to_error().with("attempts", tries.to_string()));
                }
            }
            if status.changed().await.is_err() {
                return Err(closed_error());
            }
        }
    }

    /// Makes the link try again even after a refusal, until the keeper is dropped.
    pub(crate) fn keep(&self) -> Keeper {
        self.inner.keepers.fetch_add(1, Ordering::Relaxed);
        Keeper(Arc::clone(&self.inner))
    }

    /// Looks at the news.
    pub(crate) fn with_status<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.inner.status.borrow())
    }

    /// The last fault as an error, for who ran out of time waiting.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.with_status(|status| status.last_fault.as_ref().map(ConnectFault::to_error))
    }

    /// Says so if another process connected than this one.
    pub(crate) fn check_process(&self) {
        self.inner.pulse.owner.check();
    }

    /// Where it connects to.
    pub(crate) fn brokers(&self) -> &Brokers {
        &self.inner.brokers
    }

    /// Ends the connection in good order and joins the task.
    pub(crate) async fn close(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.stop.notify_one();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // A panic of the task was reported when it happened; there is nothing left to end.
            let _ = task.await;
        }
        self.inner
            .status
            .send_modify(|status| status.phase = Phase::Closed);
    }

    /// Starts the task with the first one who wants a connection.
    fn start(&self) -> Result<()> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(closed_error());
        }
        if !self.inner.running.swap(true, Ordering::AcqRel) {
            self.inner
                .status
                .send_modify(|status| status.phase = Phase::Down);
            let running = Running(Arc::clone(&self.inner));
            *task = Some(tokio::spawn(async move { running.0.run().await }));
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.stop.notify_one();
    }
}

impl Inner {
    async fn run(&self) {
        let mut next = 0;
        let mut failures = self.brokers.delays().fresh();
        loop {
            let round = tokio::select! {
                () = self.stop.notified() => return,
                round = self.connect_round(next) => round,
            };
            let wait = match round {
                Ok((connection, at)) => {
                    let generation = self.made.fetch_add(1, Ordering::Relaxed) + 1;
                    let _occupied = self.brokers.occupy(at);
                    next = self.brokers.after(at);
                    self.brokers.delays().connected(&mut failures);
                    let host = Arc::clone(self.brokers.address(at));
                    let since = Instant::now();
                    let Some(lost) = self.hold(connection, generation, host).await else {
                        return;
                    };
                    if lost.is_silence() {
                        self.brokers.note_failure(at, Instant::now());
                    } else {
                        self.brokers.note_loss(at, Instant::now());
                    }
                    self.note(lost);
                    let held = since.elapsed() >= STEADY;
                    self.brokers.delays().after_loss(&mut failures, held)
                }
                Err(fault) => match self.note_failed_round(fault) {
                    // It ran before, so somebody may be changing the login or making the virtual host anew.
                    Hope::None if self.pulse.was_welcomed() => {
                        let wait = self.brokers.delays().after_refusal(&mut failures);
                        let mut others = self.pulse.connections();
                        tokio::select! {
                            () = self.stop.notified() => return,
                            _ = others.changed() => {}
                            () = sleep(wait) => {}
                        }
                        continue;
                    }
                    Hope::None => {
                        if !self.wait_for_change().await {
                            return;
                        }
                        continue;
                    }
                    hope => self.brokers.delays().next(&mut failures, hope),
                },
            };
            tokio::select! {
                () = self.stop.notified() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// After a refusal: waits for someone who asks anew, or a long time if subscriptions depend on it.
    /// False when the owner wants the end.
    async fn wait_for_change(&self) -> bool {
        let keepers = self.keepers.load(Ordering::Relaxed) > 0;
        tokio::select! {
            () = self.stop.notified() => false,
            () = self.wake.notified() => true,
            () = sleep(self.brokers.delays().longest()), if keepers => true,
        }
    }

    /// Publishes the connection and waits for its end; `None` when the owner wants the end.
    async fn hold(
        &self,
        connection: Connection,
        generation: u64,
        host: Arc<str>,
    ) -> Option<ConnectFault> {
        tracing::info!(
            host = &*host,
            purpose = self.purpose,
            generation,
            "connected to RabbitMQ"
        );
        let session = Session {
            connection: connection.clone(),
            generation,
            host: Arc::clone(&host),
        };
        self.status
            .send_modify(|status| status.phase = Phase::Up(Arc::new(session)));
        self.pulse.note_connected();
        *self.warned() = None;
        self.events.tell(Event::Connected {
            purpose: self.purpose,
            host: host.to_string(),
        });
        let blocked = self.tell_blocked(&connection);
        tokio::select! {
            never = blocked => match never {},
            () = self.stop.notified() => {
                self.status.send_modify(|status| status.phase = Phase::Closed);
                if let Err(error) = connection.close(CLOSE_LIMIT).await {
                    tracing::debug!(%error, purpose = self.purpose, "connection ended without the broker's word");
                }
                None
            }
            error = self.ended(&connection, generation) => {
                self.events.tell(Event::Disconnected {
                    purpose: self.purpose,
                    host: host.to_string(),
                    reason: error.to_string(),
                });
                Some(ConnectFault::new(error, &host, self.brokers.vhost()))
            }
        }
    }

    /// Why the connection is over, also if only the broker is gone.
    async fn ended(&self, connection: &Connection, generation: u64) -> AmqpError {
        tokio::select! {
            error = connection.closed() => error,
            () = until_dead(connection, &self.pulse, self.publishes) => {
                self.pulse.note_dead(self.publishes, generation);
                tracing::warn!(purpose = self.purpose, "the broker does not answer any more; its connection is given up");
                match connection.close(Duration::from_millis(1)).await {
                    Ok(()) => connection.closed().await,
                    Err(error) => error,
                }
            }
        }
    }

    /// Tells whenever the broker asks publishers to wait, and when it is over.
    async fn tell_blocked(&self, connection: &Connection) -> Infallible {
        let mut blocked = connection.watch_blocked();
        let mut was = false;
        loop {
            let reason = blocked.borrow_and_update().clone();
            match reason {
                Some(reason) if !was => {
                    tracing::warn!(reason = &*reason, "the broker asks publishers to wait");
                    self.events.tell(Event::Blocked {
                        reason: reason.to_string(),
                    });
                    was = true;
                }
                None if was => {
                    tracing::info!("the broker takes messages again");
                    self.events.tell(Event::Unblocked);
                    was = false;
                }
                _ => {}
            }
            if blocked.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn note(&self, fault: ConnectFault) {
        tracing::warn!(error = %fault.to_error(), purpose = self.purpose, "connection to RabbitMQ lost");
        self.status.send_modify(|status| {
            status.phase = Phase::Down;
            status.last_fault = Some(fault);
        });
    }

    fn note_failed_round(&self, fault: ConnectFault) -> Hope {
        let hope = fault.hope();
        self.tell_failed_round(fault.to_error().to_string());
        let for_good = hope == Hope::None && !self.pulse.was_welcomed();
        self.status.send_modify(|status| {
            status.phase = if for_good {
                Phase::Refused
            } else {
                Phase::Down
            };
            status.failed_rounds += 1;
            status.refusals += u64::from(for_good);
            status.last_fault = Some(fault);
        });
        hope
    }

    /// Says it aloud the first time, when the reason changes, and now and then.
    fn tell_failed_round(&self, error: String) {
        const AGAIN: Duration = Duration::from_secs(10);
        let mut warned = self.warned();
        let purpose = self.purpose;
        if warned
            .as_ref()
            .is_some_and(|(at, said)| *said == error && at.elapsed() < AGAIN)
        {
            tracing::debug!(error, purpose, "no connection to RabbitMQ");
        } else {
            tracing::warn!(error, purpose, "no connection to RabbitMQ");
            *warned = Some((Instant::now(), error));
        }
    }

    fn warned(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.warned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries each broker once; of their faults the one with the most hope, or none at all, is told. One that takes long to
    /// answer, as one that hangs does, is not waited for: the next one is tried beside it, and the first to take us has us.
    async fn connect_round(&self, from: usize) -> Result<(Connection, usize), ConnectFault> {
        let mut told: Option<ConnectFault> = None;
        let mut left = self.brokers.round(from, Instant::now()).into_iter();
        let mut tried = FuturesUnordered::new();
        let mut pending = HashSet::new();
        loop {
            if let Some(at) = left.next() {
                pending.insert(at);
                tried.push(self.attempt(at));
            }
            tokio::select! {
                Some((at, result)) = tried.next() => {
                    pending.remove(&at);
                    match result {
                        Ok(connection) => {
                            let now = Instant::now();
                            pending.into_iter().for_each(|slow| self.brokers.note_failure(slow, now));
                            return Ok((connection, at));
                        }
                        Err(fault) => {
                            tracing::debug!(error = %fault.to_error(), purpose = self.purpose, "one of the brokers was not reached");
                            if told.as_ref().is_none_or(|known| known.hope() <= fault.hope()) {
                                told = Some(fault);
                            }
                        }
                    }
                    if pending.is_empty() && left.len() == 0 {
                        return Err(told.expect("there is at least one broker, see Brokers::new"));
                    }
                }
                () = sleep(IMPATIENCE), if left.len() > 0 => {}
            }
        }
    }

    async fn attempt(&self, at: usize) -> (usize, Result<Connection, ConnectFault>) {
        let connected = self.brokers.connect(at, self.purpose).await;
        let (address, vhost) = (self.brokers.address(at), self.brokers.vhost());
        let fault = |error| ConnectFault::new(error, address, vhost);
        (at, connected.map_err(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_counts_attempts() {
        let mut never = Patience::new(Retry::Never);
        assert!(never.allows_after(0) && !never.allows_after(1));
        let mut twice = Patience::new(Retry::Times(2));
        assert!(twice.allows_after(2) && !twice.allows_after(1));
        let mut forever = Patience::new(Retry::Forever);
        assert!(forever.allows_after(u32::MAX) && forever.allows_after(1));
    }
}
