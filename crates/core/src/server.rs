//! The shop floor of a server: takes deliveries, bounds how many are worked on, drains and stops.
//!
//! Knows nothing of RPC: what is done with a delivery is the business of a [`Work`]. The driver's
//! reading task puts a delivery into the [`Floor`]; with a permit free it becomes a task, else it
//! waits. Whoever gives a permit back takes the next waiting delivery with it. What waits is not yet
//! settled, so the bus keeps count of it and hands out no more than the prefetch.
//!
//! File `permit` has the right to work, `seat` the tasks that wait for it, `lanes` the bounds of single kinds of work, `ending` the end, `lifecycle` what
//! owners see of begin and end, `executor` and `threads` where handlers run.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use oslo_messaging_proto::wire::body::Body;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::clock::clock;
use crate::driver::{Delivery, Inbox, ListenerEvent};
use crate::error::Error;
use crate::lock::lock;

use self::lanes::{Lane, Lanes};
use self::permit::{Permit, Starting};
use self::seat::{Seat, Seats, Sitting};

mod ending;
pub(crate) mod executor;
pub(crate) mod lanes;
pub(crate) mod lifecycle;
pub(crate) mod permit;
mod seat;
pub(crate) mod threads;

/// So many urgent deliveries are attended to without a permit; more wait for one.
const ATTENDED: usize = 16;

/// What is done with a delivery.
pub(crate) trait Work: Send + Sync + Sized + 'static {
    /// Takes one delivery and works on it. Settles it before the first wait. Returns the permit for the next one, or
    /// `None` if it was released because what is left to do needs no bound of its own.
    fn work(
        &self,
        floor: &Arc<Floor<Self>>,
        received: &mut Option<Received>,
        permit: Permit<Self>,
    ) -> impl Future<Output = Option<Permit<Self>>> + Send;

    /// Whether a delivery must not wait until a permit is free. Asked under the floor's lock, and only where none is.
    fn is_urgent(&self, delivery: &Delivery) -> bool {
        let _ = delivery;
        false
    }

    /// Settles an urgent delivery and does what is to be done about it, which needs no permit.
    fn attend(
        &self,
        floor: &Arc<Floor<Self>>,
        received: Received,
    ) -> impl Future<Output = ()> + Send {
        let _ = floor;
        drop(received);
        std::future::ready(())
    }

    /// Learns that the bus is back: what it was given before may be lost.
    fn restored(&self);

    /// Learns that the bus came back without the queues it had.
    fn queues_lost(&self);

    /// Learns that the floor is about to end.
    fn stopping(&self) {}

    /// How many results are still on their way to the bus without a permit.
    fn under_way(&self) -> usize {
        0
    }

    /// How many results it gave up since the end began.
    fn given_up(&self) -> usize {
        0
    }

    /// Ends what it holds beyond tasks, such as threads, within `limit`; tells how many it had to leave behind.
    fn end(&self, limit: Duration) -> impl Future<Output = usize> + Send {
        let _ = limit;
        std::future::ready(0)
    }
}

/// A delivery, and when it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) delivery: Delivery,
    pub(crate) at: Instant,
    /// The time of day that was.
    pub(crate) clock: SystemTime,
    /// The lane in which it has a place already.
    pub(crate) lane: Option<Lane>,
}

/// What a stop found.
///
/// ```
/// use oslo_messaging_core::rpc::Stopped;
///
/// // As of a server that had nothing to do.
/// let stopped = Stopped::default();
/// assert_eq!((stopped.aborted, stopped.replies_dropped, stopped.requeued), (0, 0, 0));
/// ```
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
pub(crate) struct Floor<W: Work> {
    pub(crate) work: W,
    runtime: Handle,
    this: Weak<Self>,
    permits: AtomicUsize,
    /// Urgent deliveries that are attended to without one.
    attended: AtomicUsize,
    waiting_limit: usize,
    state: Mutex<State<W>>,
    tasks: Mutex<JoinSet<()>>,
    failed: Mutex<Option<Error>>,
    failure: Notify,
}

struct State<W: Work> {
    open: bool,
    free: usize,
    waiting: VecDeque<Received>,
    lanes: Lanes,
    /// Tasks without work.
    seats: Seats<W>,
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
            attended: AtomicUsize::new(0),
            waiting_limit,
            state: Mutex::new(State {
                open: true,
                free: permits.get(),
                waiting: VecDeque::new(),
                lanes: Lanes::default(),
                seats: Seats::default(),
                stale: VecDeque::new(),
            }),
            tasks: Mutex::new(JoinSet::new()),
            failed: Mutex::new(None),
            failure: Notify::new(),
        })
    }

    /// How many deliveries wait for a permit or for a place in their lane.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).waiting()
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
        self.start_waiting();
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

    /// Takes the next waiting delivery along with a permit, or counts the permit as free: then the task that had it may stay.
    fn next_or_rest(&self, sitting: Option<&Sitting<W>>) -> Next<W> {
        let mut state = lock(&self.state);
        match state.next() {
            Some(next) => Next::Go(next),
            None => {
                state.free += 1;
                state.rest(sitting)
            }
        }
    }

    /// The same for a task whose permit is gone.
    fn rest(&self, sitting: Option<&Sitting<W>>) -> Next<W> {
        lock(&self.state).rest(sitting)
    }

    /// Gives a permit back that its task does without from now on; the next waiting delivery gets another task.
    fn give_permit_back(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let Some(next) = state.next() else {
            state.free += 1;
            return;
        };
        let seat = state.seats.take();
        drop(state);
        self.give(next, seat);
    }

    /// Has a task that waits take this delivery, or a new one; its permit is counted.
    fn give(self: &Arc<Self>, received: Received, seat: Option<Arc<Seat<W>>>) {
        let starting = Starting::new(self, received);
        let left = match seat {
            Some(seat) => seat.give(starting),
            None => Some(starting),
        };
        if let Some(starting) = left {
            self.start(starting);
        }
    }

    /// The bus takes back what was not settled and may hand it to another server, so it is not started
    /// here. Whether the bus still has it shows when it is back.
    fn put_aside(&self) {
        lock(&self.state).put_aside();
    }

    /// Starts what was put aside, as the bus has lost it and nobody else will.
    fn take_up(&self) {
        {
            let mut state = lock(&self.state);
            let mut stale = std::mem::take(&mut state.stale);
            stale.append(&mut state.waiting);
            state.waiting = stale;
        }
        self.start_waiting();
    }

    /// Starts what waits, as far as there are permits.
    fn start_waiting(&self) {
        let Some(this) = self.this.upgrade() else {
            return;
        };
        while let Some((received, seat)) = self.admit() {
            this.give(received, seat);
        }
    }

    /// Takes the next waiting delivery, if a permit is free.
    fn admit(&self) -> Option<(Received, Option<Arc<Seat<W>>>)> {
        let mut state = lock(&self.state);
        if !state.open || state.free == 0 {
            return None;
        }
        let received = state.waiting.pop_front()?;
        state.free -= 1;
        Some((received, state.seats.take()))
    }

    /// The messages that wait here, those included of which the bus has yet to say whether it has them still.
    pub(crate) fn waiting_messages(&self) -> Vec<Body> {
        let state = lock(&self.state);
        let waiting = state.waiting.iter().chain(&state.stale);
        let all = waiting.chain(state.lanes.all_waiting());
        all.map(|received| received.delivery.message().clone())
            .collect()
    }

    /// Attends to what is urgent, in a task without a permit.
    fn attend(self: &Arc<Self>, received: Received) {
        self.attended.fetch_add(1, Ordering::Relaxed);
        let attending = Attending(Arc::clone(self));
        self.spawn(async move {
            let floor = &attending.0;
            floor.work.attend(floor, received).await;
        });
    }

    /// Starts nothing new any more. What still comes is kept unsettled, so that it goes back to the bus
    /// with the subscription: given back at once it might come again at once.
    pub(crate) fn close(&self) {
        let seats = {
            let mut state = lock(&self.state);
            state.open = false;
            state.seats.take_all()
        };
        seats.iter().for_each(|seat| seat.end());
    }

    /// Aborts all tasks without waiting for them.
    pub(crate) fn abort(&self) {
        lock(&self.tasks).abort_all();
    }
}

/// Counts one more that is attended to, while it lives.
struct Attending<W: Work>(Arc<Floor<W>>);

impl<W: Work> Drop for Attending<W> {
    fn drop(&mut self) {
        self.0.attended.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a task does when it has done its work.
enum Next<W: Work> {
    /// Goes on.
    Go(Received),
    /// Waits here.
    Rest(Arc<Seat<W>>),
    End,
}

impl<W: Work> State<W> {
    fn next(&mut self) -> Option<Received> {
        if self.open {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    fn rest(&mut self, sitting: Option<&Sitting<W>>) -> Next<W> {
        if !self.open || !self.seats.has_room() {
            return Next::End;
        }
        let seat = match sitting {
            Some(sitting) => sitting.again(),
            None => Seat::new(),
        };
        self.seats.put(Arc::clone(&seat));
        Next::Rest(seat)
    }

    fn waiting(&self) -> usize {
        self.waiting.len() + self.lanes.waiting()
    }

    /// Nothing of what waits has a place in a lane any more.
    fn put_aside(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for mut received in waiting {
            if let Some(lane) = received.lane.take() {
                self.lanes.give_up(&lane);
            }
            self.stale.push_back(received);
        }
        self.stale.extend(self.lanes.take_waiting());
    }
}

impl<W: Work> Inbox for Floor<W> {
    fn deliver(&self, delivery: Delivery) {
        let at = Instant::now();
        let received = Received {
            delivery,
            at,
            clock: clock(at),
            lane: None,
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
            let seat = state.seats.take();
            drop(state);
            this.give(first, seat);
        } else if state.open
            && self.attended.load(Ordering::Relaxed) < ATTENDED
            && self.work.is_urgent(&received.delivery)
        {
            drop(state);
            this.attend(received);
        } else if state.waiting() < self.waiting_limit {
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
                self.work.restored();
                if recreated {
                    self.work.queues_lost();
                    self.take_up();
                } else {
                    // It comes again, or went to another server.
                    let stale = std::mem::take(&mut lock(&self.state).stale);
                    drop(stale);
                }
            }
            // Nobody reaches a server by the name of its private queue.
            ListenerEvent::Renamed { .. } | ListenerEvent::Emptied | ListenerEvent::Astray => {}
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
