//! Begin and end of a server that several tasks hold: start, stop, wait, in this order, each once, and again after a stop.
//!
//! From a start to the end of its stop is an epoch, with a floor and a subscription of its own. A step that comes too early
//! waits for the one before it; one that was done already is not done again; who asks while it is done waits along
//! (parity RS4 to RS9). The end of an epoch is a task of its own, so that nobody who stops waiting for it cuts it short.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{Floor, Stopped, Work};
use crate::driver::{Listener, deadline_after};
use crate::error::Result;
use crate::lock::lock;

/// After so long a wait for another step the log says so, as the reference's does (parity RS8).
const LOG_AFTER: Duration = Duration::from_secs(30);

/// Where a server is in its life.
pub(crate) struct Lifecycle<W: Work> {
    /// What is served, for the log.
    name: String,
    /// The epoch in force, or the last one.
    epoch: watch::Sender<Option<Arc<Epoch<W>>>>,
    /// Held while a start is under way.
    starting: tokio::sync::Mutex<()>,
}

/// From a start to the end of its stop.
pub(crate) struct Epoch<W: Work> {
    name: String,
    floor: Arc<Floor<W>>,
    deadline: watch::Sender<Instant>,
    phase: watch::Sender<Phase>,
    ending: Mutex<Ending>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Nothing new is taken, and nothing waits any more.
    Paused,
    Over(Stopped),
}

enum Ending {
    NotYet(Box<dyn Listener>),
    Running(JoinHandle<()>),
    /// Cut off, or being moved on.
    Gone,
}

impl<W: Work> Lifecycle<W> {
    /// A server that was never started.
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            epoch: watch::Sender::new(None),
            starting: tokio::sync::Mutex::new(()),
        }
    }

    /// The epoch in force, or the last one.
    pub(crate) fn epoch(&self) -> Option<Arc<Epoch<W>>> {
        self.epoch.borrow().clone()
    }

    /// Whether a start was done and no stop was asked for since.
    pub(crate) fn is_serving(&self) -> bool {
        self.epoch().is_some_and(|epoch| !epoch.is_ending())
    }

    /// Begins an epoch with what `begin` gives, unless one is in force. Dropped, it has begun or not.
    pub(crate) async fn start<B>(&self, begin: B) -> Result<Arc<Epoch<W>>>
    where
        B: Future<Output = Result<(Arc<Floor<W>>, Box<dyn Listener>)>>,
    {
        let turn = self.starting.lock();
        let _turn = patiently(turn, || {
            format!("start of {} waits for another start", self.name)
        })
        .await;
        if let Some(epoch) = self.epoch().filter(|epoch| !epoch.is_ending()) {
            return Ok(epoch);
        }
        let (floor, listener) = begin.await?;
        let epoch = Arc::new(Epoch {
            name: self.name.clone(),
            floor,
            deadline: watch::Sender::new(Instant::now()),
            phase: watch::Sender::new(Phase::Serving),
            ending: Mutex::new(Ending::NotYet(listener)),
        });
        self.epoch.send_replace(Some(Arc::clone(&epoch)));
        Ok(epoch)
    }

    /// Takes nothing new any more; what runs may go on for `limit`. Waits for a start that was not there yet.
    pub(crate) async fn stop_within(&self, limit: Duration) {
        self.begun("stop").await.stop_within(limit).await;
    }

    /// Waits until the epoch in force, or the next one if there was none, is over.
    pub(crate) async fn wait(&self) -> Stopped {
        self.begun("wait").await.over().await
    }

    /// Ends all that runs at once.
    pub(crate) fn abort(&self) {
        if let Some(epoch) = self.epoch() {
            epoch.abort();
        }
    }

    /// The epoch in force, or the last one; the first one, if there was none yet.
    pub(crate) async fn begun(&self, step: &str) -> Arc<Epoch<W>> {
        let mut epoch = self.epoch.subscribe();
        let begun = async {
            match epoch.wait_for(Option::is_some).await {
                Ok(epoch) => epoch.clone(),
                Err(_) => None,
            }
        };
        let what = || format!("{step} of {} waits for its start", self.name);
        match patiently(begun, what).await {
            Some(epoch) => epoch,
            // Invariant: the sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }
}

impl<W: Work> Drop for Lifecycle<W> {
    fn drop(&mut self) {
        if let Some(epoch) = self.epoch() {
            epoch.cut_off();
        }
    }
}

impl<W: Work> Epoch<W> {
    /// Its floor.
    pub(crate) fn floor(&self) -> &Arc<Floor<W>> {
        &self.floor
    }

    /// Whether a stop was asked for.
    pub(crate) fn is_ending(&self) -> bool {
        !matches!(*lock(&self.ending), Ending::NotYet(_))
    }

    /// Takes nothing new any more; what runs may go on for `limit`.
    pub(crate) async fn stop_within(&self, limit: Duration) {
        self.end_by(deadline_after(Instant::now(), limit));
        let what = || format!("stop of {} waits for the bus", self.name);
        patiently(self.reached(|phase| *phase != Phase::Serving), what).await;
    }

    /// Resolves when it is over.
    pub(crate) async fn over(&self) -> Stopped {
        let what = || {
            format!(
                "wait for the end of {} waits for its stop or for handlers",
                self.name
            )
        };
        patiently(self.served(), what).await
    }

    /// Resolves when it is over, for one who is not waiting for its end: a server may serve for years.
    pub(crate) async fn served(&self) -> Stopped {
        let over = self.reached(|phase| matches!(phase, Phase::Over(_)));
        match over.await {
            Phase::Over(stopped) => stopped,
            Phase::Serving | Phase::Paused => Stopped::default(),
        }
    }

    /// Resolves when its phase is as wanted.
    async fn reached(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.subscribe();
        let reached = phase.wait_for(wanted).await.map(|phase| *phase);
        match reached {
            Ok(phase) => phase,
            // Invariant: the sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends it as soon as can be, with what runs.
    pub(crate) fn abort(&self) {
        self.end_by(Instant::now());
    }

    /// Begins the end, or brings it forward.
    fn end_by(&self, deadline: Instant) {
        let mut ending = lock(&self.ending);
        match std::mem::replace(&mut *ending, Ending::Gone) {
            Ending::NotYet(listener) => {
                self.deadline.send_replace(deadline);
                // Now, and not when the task gets its turn.
                self.floor.close();
                self.floor.work.stopping();
                let end = end(
                    self.name.clone(),
                    Arc::clone(&self.floor),
                    listener,
                    self.deadline.subscribe(),
                    self.phase.clone(),
                );
                *ending = Ending::Running(self.floor.runtime.spawn(end));
            }
            under_way => {
                *ending = under_way;
                self.deadline.send_if_modified(|at| {
                    let sooner = deadline < *at;
                    if sooner {
                        *at = deadline;
                    }
                    sooner
                });
            }
        }
    }

    /// Ends it without waiting for anything: what runs is aborted, the subscription is dropped.
    pub(crate) fn cut_off(&self) {
        self.floor.close();
        self.floor.abort();
        let ending = std::mem::replace(&mut *lock(&self.ending), Ending::Gone);
        match ending {
            // Dropping it ends the subscription.
            Ending::NotYet(listener) => drop(listener),
            Ending::Running(task) => task.abort(),
            Ending::Gone => {}
        }
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Over(_));
            if open {
                *phase = Phase::Over(Stopped::default());
            }
            open
        });
    }
}

async fn end<W: Work>(
    name: String,
    floor: Arc<Floor<W>>,
    listener: Box<dyn Listener>,
    deadline: watch::Receiver<Instant>,
    phase: watch::Sender<Phase>,
) {
    let requeued = floor.pause(&*listener).await;
    phase.send_replace(Phase::Paused);
    let mut stopped = floor.drain(listener, deadline).await;
    stopped.requeued += requeued;
    if stopped.aborted > 0 || stopped.replies_dropped > 0 {
        warn!(target = %name, ?stopped, "stopped before all was done");
    } else {
        info!(target = %name, requeued = stopped.requeued, "stopped");
    }
    phase.send_replace(Phase::Over(stopped));
}

/// Waits for a step, and says so in the log when that takes long.
async fn patiently<F: Future>(step: F, what: impl FnOnce() -> String) -> F::Output {
    let mut step = pin!(step);
    match timeout(LOG_AFTER, &mut step).await {
        Ok(done) => done,
        Err(_) => {
            warn!("{} for {} s by now", what(), LOG_AFTER.as_secs());
            step.await
        }
    }
}
