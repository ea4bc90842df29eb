//! Tasks that have done their work and stay seated for a while, so that the next delivery need not have a task made for it.
//!
//! A seat is either in the floor's list, and empty, or being given a delivery, or its task works. What was put on a seat
//! whose task is dropped goes back to the floor, as what a new task was made for.

use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use super::permit::Starting;
use super::{Floor, Work};
use crate::lock::lock;

/// How many tasks of a floor stay; each holds the memory of one request, two or three KiB.
const SEATS: usize = 32;

thread_local! {
    /// Its address tells threads apart.
    static THREAD: u8 = const { 0 };
}

fn thread() -> usize {
    THREAD
        .try_with(|mark| std::ptr::from_ref(mark).addr())
        .unwrap_or_default()
}

/// Empty seats, the last one to be taken first.
pub(super) struct Seats<W: Work>(Vec<Arc<Seat<W>>>);

impl<W: Work> Default for Seats<W> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<W: Work> Seats<W> {
    /// Whether one more may stay.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < SEATS
    }

    pub(super) fn put(&mut self, seat: Arc<Seat<W>>) {
        self.0.push(seat);
    }

    /// One whose task ran on this thread last, where its memory is at hand; else any.
    pub(super) fn take(&mut self) -> Option<Arc<Seat<W>>> {
        let here = thread();
        match self
            .0
            .iter()
            .rposition(|seat| seat.thread.load(Ordering::Relaxed) == here)
        {
            Some(at) => Some(self.0.remove(at)),
            None => self.0.pop(),
        }
    }

    /// All, since nothing comes any more.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Seat<W>>> {
        take(&mut self.0)
    }
}

/// Where one task waits.
pub(super) struct Seat<W: Work> {
    /// Where its task sat down last.
    thread: AtomicUsize,
    state: Mutex<State<W>>,
}

struct State<W: Work> {
    next: Option<Starting<W>>,
    waker: Option<Waker>,
    /// Nothing comes any more, or nobody sits here any more.
    is_over: bool,
}

impl<W: Work> Seat<W> {
    /// A seat for a task that runs on this thread.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            thread: AtomicUsize::new(thread()),
            state: Mutex::new(State {
                next: None,
                waker: None,
                is_over: false,
            }),
        })
    }

    /// Hands a delivery to the task; gives it back if that is gone.
    pub(super) fn give(&self, next: Starting<W>) -> Option<Starting<W>> {
        let mut state = lock(&self.state);
        if state.is_over {
            return Some(next);
        }
        state.next = Some(next);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Lets the task end.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Starting<W>>> {
        let mut state = lock(&self.state);
        if let Some(next) = state.next.take() {
            return Poll::Ready(Some(next));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A task on its seat: leaves it however it ends.
pub(super) struct Sitting<W: Work> {
    seat: Arc<Seat<W>>,
    floor: Weak<Floor<W>>,
}

impl<W: Work> Sitting<W> {
    pub(super) fn new(seat: Arc<Seat<W>>, floor: Weak<Floor<W>>) -> Self {
        Self { seat, floor }
    }

    /// The seat, to be taken again.
    pub(super) fn again(&self) -> Arc<Seat<W>> {
        self.seat.thread.store(thread(), Ordering::Relaxed);
        Arc::clone(&self.seat)
    }

    /// The next delivery; none when the floor ends.
    pub(super) async fn next(&self) -> Option<Starting<W>> {
        std::future::poll_fn(|cx| self.seat.poll(cx)).await
    }
}

impl<W: Work> Drop for Sitting<W> {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.seat.state);
            state.is_over = true;
            state.next.take()
        };
        // Goes back by itself.
        drop(next);
        if let Some(floor) = self.floor.upgrade() {
            let seats = &mut lock(&floor.state).seats;
            seats.0.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::num::NonZeroUsize;

    use bytes::Bytes;
    use tokio::sync::Semaphore;
    use tokio::task::{self, yield_now};

    use super::*;
    use crate::driver::{Delivery, Inbox, Settlement, Settler};
    use crate::server::Received;
    use crate::server::permit::Permit;

    /// Acknowledges, waits to be let go, and notes which task did it.
    struct Waiting {
        go: Semaphore,
        done: Mutex<Vec<task::Id>>,
    }

    impl Work for Waiting {
        async fn work(
            &self,
            _: &Arc<Floor<Self>>,
            received: &mut Option<Received>,
            permit: Permit<Self>,
        ) -> Option<Permit<Self>> {
            received.take().unwrap().delivery.ack();
            self.go.acquire().await.unwrap().forget();
            lock(&self.done).push(task::id());
            Some(permit)
        }

        fn restored(&self) {}

        fn queues_lost(&self) {}
    }

    struct Nobody;

    impl Settler for Nobody {
        fn settle(&self, _: u64, _: Settlement) {}
    }

    fn floor(go: usize) -> Arc<Floor<Waiting>> {
        let work = Waiting {
            go: Semaphore::new(go),
            done: Mutex::default(),
        };
        Floor::new(work, NonZeroUsize::new(1000).unwrap(), 10)
    }

    fn deliver(floor: &Floor<Waiting>) {
        floor.deliver(Delivery::new(Bytes::new(), 1, Arc::new(Nobody)));
    }

    async fn done(floor: &Floor<Waiting>, count: usize) -> HashSet<task::Id> {
        while lock(&floor.work.done).len() < count || floor.busy() > 0 {
            yield_now().await;
        }
        lock(&floor.work.done).iter().copied().collect()
    }

    async fn over(floor: &Floor<Waiting>) {
        let mut tasks = take(&mut *lock(&floor.tasks));
        while tasks.join_next().await.is_some() {}
    }

    #[tokio::test]
    async fn one_task_does_what_comes_one_by_one_and_ends_with_the_floor() {
        let floor = floor(100);
        for n in 1..=50 {
            deliver(&floor);
            assert_eq!(done(&floor, n).await.len(), 1);
        }
        floor.close();
        over(&floor).await;
        deliver(&floor);
        assert_eq!(floor.waiting(), 1, "nothing is started after the end");
    }

    #[tokio::test]
    async fn what_comes_at_once_runs_at_once_and_no_more_tasks_stay_than_there_are_seats() {
        let floor = floor(0);
        for _ in 0..SEATS + 20 {
            deliver(&floor);
        }
        yield_now().await;
        assert_eq!(floor.busy(), SEATS + 20);
        floor.work.go.add_permits(1000);
        assert_eq!(done(&floor, SEATS + 20).await.len(), SEATS + 20);
        assert_eq!(lock(&floor.state).seats.0.len(), SEATS);
        let before = done(&floor, SEATS + 20).await;
        for _ in 0..SEATS {
            deliver(&floor);
        }
        let after = done(&floor, 2 * SEATS + 20).await;
        assert_eq!(before, after, "those that stayed did it");
        floor.close();
        over(&floor).await;
    }

    #[tokio::test]
    async fn a_delivery_on_the_seat_of_a_task_that_is_dropped_goes_back() {
        let floor = floor(100);
        deliver(&floor);
        done(&floor, 1).await;
        deliver(&floor);
        floor.abort();
        over(&floor).await;
        assert_eq!((floor.waiting(), floor.busy()), (1, 0));
        assert!(lock(&floor.state).seats.0.is_empty());
        assert_eq!(lock(&floor.work.done).len(), 1);
    }

    #[tokio::test]
    async fn tasks_that_stay_keep_no_floor_alive() {
        let floor = floor(100);
        deliver(&floor);
        done(&floor, 1).await;
        let weak = Arc::downgrade(&floor);
        drop(floor);
        assert!(weak.upgrade().is_none());
    }
}
