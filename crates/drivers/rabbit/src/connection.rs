//! One supervised connection to one of the brokers: made on demand, made again when lost.
//!
//! Owns the walk over the brokers, the waits between attempts and the news of it all ([`Status`], which
//! anyone may watch). Refuses to know what the connection is for: channels, declarations and messages
//! are the business of publisher and consumer, who ask for a [`Session`] and ask again when it is gone.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use oslo_messaging_amqp::Connection;
use oslo_messaging_core::driver::Retry;
use oslo_messaging_core::error::{Error, Result};
use oslo_messaging_core::events::EventSource;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::brokers::Brokers;
use crate::error::{ConnectFault, closed_error};
use crate::lock::lock;
use crate::pulse::Pulse;

mod task;

/// A connection in force.
pub(crate) struct Session {
    /// The engine's handle.
    pub(crate) connection: Connection,
    /// Counts the connections of a link from 1, so that a lost one is not taken for its successor.
    pub(crate) generation: u64,
    /// The broker, as `host:port`.
    pub(crate) host: Arc<str>,
    /// When it was made.
    pub(crate) since: tokio::time::Instant,
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
        let task = lock(&self.task).take();
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
        let mut task = lock(&self.task);
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
