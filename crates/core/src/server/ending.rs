//! How a floor ends: nothing new is started, what waits goes back, what runs may go on until a deadline that can still be
//! brought forward.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, warn};

use super::{Floor, Stopped, Work};
use crate::driver::Listener;
use crate::lock::lock;

/// How long a stop waits for the tasks it aborted; one that never yields is then left behind.
const ABORT_LIMIT: Duration = Duration::from_secs(1);
/// How long a stop waits for the bus to pause or to end the subscription.
const LISTENER_LIMIT: Duration = Duration::from_secs(5);

impl<W: Work> Floor<W> {
    /// Starts nothing new, and gives back what was not started; tells how much that was.
    pub(super) async fn pause(&self, listener: &dyn Listener) -> usize {
        self.close();
        if timeout(LISTENER_LIMIT, listener.pause()).await.is_err() {
            warn!("the bus did not confirm in time that deliveries have stopped");
        }
        self.give_back()
    }

    /// Waits for what runs until the deadline, which may still move, and ends the subscription.
    pub(super) async fn drain(
        &self,
        listener: Box<dyn Listener>,
        deadline: watch::Receiver<Instant>,
    ) -> Stopped {
        let mut stopped = Stopped::default();
        let in_time = tokio::select! {
            biased;
            () = self.join_all() => true,
            () = passed(deadline) => false,
        };
        if !in_time {
            stopped.aborted = self.busy();
            stopped.replies_dropped = self.work.under_way();
            self.abort();
            if timeout(ABORT_LIMIT, self.join_all()).await.is_err() {
                error!("a handler that never yields could not be aborted and is left running");
                lock(&self.tasks).detach_all();
            }
        }
        let left = self.work.end(ABORT_LIMIT).await;
        if left > 0 {
            error!(
                threads = left,
                "handlers that block their threads could not be aborted and are left running"
            );
        }
        if timeout(LISTENER_LIMIT, listener.close()).await.is_err() {
            warn!("the bus did not end the subscription in time");
        }
        stopped.replies_dropped += self.work.given_up();
        // What came although the subscription was paused.
        stopped.requeued = self.give_back();
        stopped
    }

    /// Both at once, with a deadline that stands.
    pub(crate) async fn stop(&self, listener: Box<dyn Listener>, deadline: Instant) -> Stopped {
        let requeued = self.pause(&*listener).await;
        let (_unmoved, deadline) = watch::channel(deadline);
        let mut stopped = self.drain(listener, deadline).await;
        stopped.requeued += requeued;
        stopped
    }

    /// Gives back what waits. Settles without the lock, since a driver within the process may hand the
    /// delivery to somebody at once.
    fn give_back(&self) -> usize {
        let (waiting, in_lanes, stale) = {
            let mut state = lock(&self.state);
            (
                std::mem::take(&mut state.waiting),
                state.lanes.take_waiting(),
                std::mem::take(&mut state.stale),
            )
        };
        drop(stale);
        let count = waiting.len() + in_lanes.len();
        let all = waiting.into_iter().chain(in_lanes);
        all.for_each(|received| received.delivery.requeue());
        count
    }

    async fn join_all(&self) {
        loop {
            let mut joining = Joining {
                tasks: std::mem::take(&mut *lock(&self.tasks)),
                home: &self.tasks,
            };
            if joining.tasks.is_empty() {
                return;
            }
            while joining.tasks.join_next().await.is_some() {}
        }
    }
}

/// Resolves at the deadline, wherever it has moved by then.
async fn passed(mut deadline: watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            biased;
            () = sleep_until(at) => return,
            moved = deadline.changed() => if moved.is_err() {
                // Nobody is left to move it.
                return sleep_until(at).await;
            },
        }
    }
}

/// Tasks taken out to be joined; whatever is left goes home.
struct Joining<'a> {
    tasks: JoinSet<()>,
    home: &'a Mutex<JoinSet<()>>,
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            // What was spawned meanwhile are heartbeats of the handlers in `tasks`, which may be aborted.
            *lock(self.home) = std::mem::take(&mut self.tasks);
        }
    }
}
