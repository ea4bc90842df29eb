//! The shop floor of a server: takes deliveries, bounds how many are worked on, drains and stops.
//!
//! Knows nothing of RPC: what is done with a delivery is the business of a [`Work`]. The driver's
//! reading task puts a delivery into the [`Floor`]; with a permit free it becomes a task, else it
//! waits. Whoever gives a permit back takes the next waiting delivery with it. What waits is not yet
//! settled, so the bus keeps count of it and hands out no more than the prefetch.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::coop::consume_budget;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, error, info, warn};

use crate::driver::{Delivery, Inbox, Listener, ListenerEvent};
use crate::error::Error;
use crate::lock::lock;

/// How long a stop waits for the tasks it aborted; one that never yields is then left behind.
const ABORT_LIMIT: Duration = Duration::from_secs(1);
/// How long a stop waits for the bus to pause or to end the subscription.
const LISTENER_LIMIT: Duration = Duration::from_secs(5);

/// What is done with a delivery.
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// Works on one delivery. Settles it before the first wait. Returns the permit for the next one, or
    /// `None` if it was released because what is left to do needs no bound of its own.
    fn work(
        &self,
        floor: &Arc<Floor<Self>>,
        received: Received,
        permit: Permit<Self>,
    ) -> impl Future<Output = Option<Permit<Self>>> + Send;

    /// Learns that the bus came back without the queues it had.
    fn queues_lost(&self);
}

/// A delivery, and when it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) delivery: Delivery,
    pub(crate) at: Instant,
}

/// What a stop found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stopped {
    /// Handlers that were still running at the deadline and were aborted.
    pub aborted: usize,
    /// Replies that were still on their way at the deadline and were given up.
    pub replies_dropped: usize,
    /// Requests that had not been started and went back to the bus.
    pub requeued: usize,
}

/// Deliveries of one subscription, those waiting and those worked on.
pub(crate) struct Floor<W> {
    pub(crate) work: W,
    runtime: Handle,
    this: Weak<Self>,
    permits: AtomicUsize,
    waiting_limit: usize,
    state: Mutex<State>,
    tasks: Mutex<JoinSet<()>>,
    failed: Mutex<Option<Error>>,
    failure: Notify,
}

struct State {
    open: bool,
    free: usize,
    waiting: VecDeque<Received>,
    /// What waited when the connection was lost: the bus has taken it back, unless it lost it as well.
    stale: VecDeque<Received>,
}

impl<W: Work> Floor<W> {
    /// An open floor for `permits` at once. Beyond `waiting_limit` waiting deliveries, which only a bus
    /// that ignores the prefetch can reach, more go straight back.
    pub(crate) fn new(work: W, permits: NonZeroUsize, waiting_limit: usize) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            work,
            runtime: Handle::current(),
            this: this.clone(),
            permits: AtomicUsize::new(permits.get()),
            waiting_limit,
            state: Mutex::new(State {
                open: true,
                free: permits.get(),
                waiting: VecDeque::new(),
                stale: VecDeque::new(),
            }),
            tasks: Mutex::new(JoinSet::new()),
            failed: Mutex::new(None),
            failure: Notify::new(),
        })
    }

    /// How many deliveries wait for a permit.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// How many are worked on with a permit.
    pub(crate) fn busy(&self) -> usize {
        let free = lock(&self.state).free;
        self.permits.load(Ordering::Relaxed).saturating_sub(free)
    }

    /// Lets at least `permits` be worked on at once.
    pub(crate) fn widen(&self, permits: usize) {
        let before = self.permits.fetch_max(permits, Ordering::Relaxed);
        lock(&self.state).free += permits.saturating_sub(before);
        self.start_admitted();
    }

    /// Runs a task that the floor owns: it is joined, or aborted, by the stop.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime)
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

    /// Takes the next waiting delivery along with a permit, or counts the permit as free.
    fn next(&self) -> Option<Received> {
        let mut state = lock(&self.state);
        let next = if state.open {
            state.waiting.pop_front()
        } else {
            None
        };
        if next.is_none() {
            state.free += 1;
        }
        next
    }

    /// Starts a task for a delivery that has its permit counted.
    fn start(self: &Arc<Self>, received: Received) {
        let mut seed = Seed {
            floor: Arc::clone(self),
            received: Some(received),
        };
        self.spawn(async move {
            let Some(first) = seed.received.take() else {
                return;
            };
            let floor = &seed.floor;
            let mut permit = Permit {
                floor: Arc::clone(floor),
                spent: false,
            };
            let mut received = first;
            while let Some(back) = floor.work.work(floor, received, permit).await {
                // A driver and a handler that never wait must not keep the thread from others.
                consume_budget().await;
                match back.exchange() {
                    Some((again, next)) => (permit, received) = (again, next),
                    None => return,
                }
            }
        });
    }

    /// Stops: nothing new is started, what is running may go on until `deadline`. `replies` tells how many
    /// are on their way without a permit.
    pub(crate) async fn stop(
        &self,
        listener: Box<dyn Listener>,
        deadline: Instant,
        replies: impl Fn() -> usize,
    ) -> Stopped {
        self.close();
        if timeout(LISTENER_LIMIT, listener.pause()).await.is_err() {
            warn!("the bus did not confirm in time that deliveries have stopped");
        }
        let mut stopped = Stopped {
            requeued: self.give_back(),
            ..Stopped::default()
        };
        if timeout_at(deadline, self.join_all()).await.is_err() {
            stopped.aborted = self.busy();
            stopped.replies_dropped = replies();
            self.abort();
            if timeout(ABORT_LIMIT, self.join_all()).await.is_err() {
                error!("a handler that never yields could not be aborted and is left running");
                lock(&self.tasks).detach_all();
            }
        }
        if timeout(LISTENER_LIMIT, listener.close()).await.is_err() {
            warn!("the bus did not end the subscription in time");
        }
        // What came although the subscription was paused.
        stopped.requeued += self.give_back();
        stopped
    }

    /// The bus takes back what was not settled and may hand it to another server, so it is not started
    /// here. Whether the bus still has it shows when it is back.
    fn put_aside(&self) {
        let mut state = lock(&self.state);
        let mut waiting = std::mem::take(&mut state.waiting);
        state.stale.append(&mut waiting);
    }

    /// Starts what was put aside, as the bus has lost it and nobody else will.
    fn take_up(&self) {
        {
            let mut state = lock(&self.state);
            let mut stale = std::mem::take(&mut state.stale);
            stale.append(&mut state.waiting);
            state.waiting = stale;
        }
        self.start_admitted();
    }

    fn start_admitted(&self) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        while let Some(received) = self.admit() {
            this.start(received);
        }
    }

    /// Takes the next waiting delivery, if a permit is free.
    fn admit(&self) -> Option<Received> {
        let mut state = lock(&self.state);
        if !state.open || state.free == 0 {
            return None;
        }
        let received = state.waiting.pop_front()?;
        state.free -= 1;
        Some(received)
    }

    /// Starts nothing new any more. What still comes is kept unsettled, so that it goes back to the bus
    /// with the subscription: given back at once it might come again at once.
    pub(crate) fn close(&self) {
        lock(&self.state).open = false;
    }

    /// Aborts all tasks without waiting for them.
    pub(crate) fn abort(&self) {
        lock(&self.tasks).abort_all();
    }

    /// Gives back what waits. Settles without the lock, since a driver within the process may hand the
    /// delivery to somebody at once.
    fn give_back(&self) -> usize {
        let (waiting, stale) = {
            let mut state = lock(&self.state);
            (
                std::mem::take(&mut state.waiting),
                std::mem::take(&mut state.stale),
            )
        };
        drop(stale);
        let count = waiting.len();
        waiting
            .into_iter()
            .for_each(|received| received.delivery.requeue());
        count
    }

    async fn join_all(&self) {
        loop {
            let mut taken = Taken {
                tasks: std::mem::take(&mut *lock(&self.tasks)),
                home: &self.tasks,
            };
            if taken.tasks.is_empty() {
                return;
            }
            while taken.tasks.join_next().await.is_some() {}
        }
    }
}

impl<W: Work> Inbox for Floor<W> {
    fn deliver(&self, delivery: Delivery) {
        let received = Received {
            delivery,
            at: Instant::now(),
        };
        let Some(this) = self.this.upgrade() else {
            return;
        };
        let mut state = lock(&self.state);
        if state.open && state.free > 0 {
            state.free -= 1;
            // One may wait here although a permit is free: if a task died with its permit.
            let first = match state.waiting.pop_front() {
                None => received,
                Some(first) => {
                    state.waiting.push_back(received);
                    first
                }
            };
            drop(state);
            this.start(first);
        } else if state.waiting.len() < self.waiting_limit {
            state.waiting.push_back(received);
        } else {
            drop(state);
            warn!(
                limit = self.waiting_limit,
                "gave a request back: the bus hands out more than the prefetch"
            );
            received.delivery.requeue();
        }
    }

    fn handle_event(&self, event: ListenerEvent) {
        match event {
            ListenerEvent::Interrupted => {
                info!("the subscription is interrupted");
                self.put_aside();
            }
            ListenerEvent::Restored { recreated } => {
                info!(recreated, "the subscription is back");
                if recreated {
                    self.work.queues_lost();
                    self.take_up();
                } else {
                    // It comes again, or went to another server.
                    drop(std::mem::take(&mut lock(&self.state).stale));
                }
            }
            // Nobody reaches a server by the name of its private queue.
            ListenerEvent::Renamed { .. } | ListenerEvent::Emptied => {}
            ListenerEvent::Failed(error) => {
                if lock(&self.state).open {
                    error!(%error, "the subscription is gone for good");
                } else {
                    debug!(%error, "the subscription ended while the server stopped");
                }
                *lock(&self.failed) = Some(error);
                self.failure.notify_waiters();
            }
        }
    }
}

/// The right to work on one delivery.
pub(crate) struct Permit<W: Work> {
    floor: Arc<Floor<W>>,
    spent: bool,
}

impl<W: Work> Permit<W> {
    /// Gives it back early; the next waiting delivery gets a task of its own.
    pub(crate) fn release(self) {
        if let Some((permit, received)) = self.exchange() {
            let floor = Arc::clone(&permit.floor);
            permit.spend();
            floor.start(received);
        }
    }

    /// Goes on with the next waiting delivery, if there is one.
    fn exchange(self) -> Option<(Self, Received)> {
        match self.floor.next() {
            Some(received) => Some((self, received)),
            None => {
                self.spend();
                None
            }
        }
    }

    /// Its place is counted elsewhere now.
    fn spend(mut self) {
        self.spent = true;
    }
}

impl<W: Work> Drop for Permit<W> {
    /// The task died with it. Nothing is started from here, as the runtime itself may be going down.
    fn drop(&mut self) {
        if !self.spent {
            lock(&self.floor.state).free += 1;
        }
    }
}

/// A delivery on its way into a task.
struct Seed<W: Work> {
    floor: Arc<Floor<W>>,
    received: Option<Received>,
}

impl<W: Work> Drop for Seed<W> {
    /// The task was dropped before it ran: the runtime is going down, or the server is. The delivery is
    /// kept, since giving it back could make the driver hand it out again from here.
    fn drop(&mut self) {
        if let Some(received) = self.received.take() {
            let mut state = lock(&self.floor.state);
            state.open = false;
            state.free += 1;
            state.waiting.push_front(received);
        }
    }
}

/// Tasks taken out to be joined; whatever is left goes home.
struct Taken<'a> {
    tasks: JoinSet<()>,
    home: &'a Mutex<JoinSet<()>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            // What was spawned meanwhile are heartbeats of the handlers in `tasks`, which may be aborted.
            *lock(self.home) = std::mem::take(&mut self.tasks);
        }
    }
}
