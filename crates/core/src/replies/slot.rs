//! One waiting caller: where the reading task leaves the outcome and wakes the caller's own task.
//!
//! More than a oneshot channel, since a caller is also told to send its request again. Owns no clock
//! and decides nothing.

use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use oslo_messaging_proto::state::calls::{Outcome, TimedOut};
use tokio::time::Instant;

use crate::error::Error;
use crate::lock::lock;

/// How a wait ends.
pub(crate) enum Ending {
    /// The reply came.
    Reply(Outcome),
    /// One of the two clocks ran out.
    TimedOut(TimedOut),
    /// Nobody will answer: the listener died or was closed.
    Failed(Error),
}

/// What a caller is told.
pub(crate) enum Signal {
    /// The wait is over.
    Ended(Ending),
    /// The bus may have lost the request or its reply.
    Lost,
    /// The bus may have lost the reply; the request is where it was.
    Emptied,
    /// The reply may be held up; nothing is lost.
    Astray,
}

/// A caller's place, shared with the reading task.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ending: Option<Ending>,
    lost: bool,
    emptied: bool,
    astray: bool,
    /// A server said that it has the request, since this was looked at last.
    alive: bool,
    sent_at: Option<Instant>,
    /// Where the server that runs the request can be told that nobody waits any more.
    control_queue: Option<Box<str>>,
    waker: Option<Waker>,
}

impl Slot {
    /// Leaves the outcome and wakes the caller. The first outcome stays.
    pub(crate) fn end(&self, ending: Ending) {
        let mut state = self.lock();
        if state.ending.is_none() {
            state.ending = Some(ending);
        }
        wake(state);
    }

    /// Notes where the call can be cancelled.
    pub(crate) fn note_taken(&self, control_queue: &str) {
        self.lock().control_queue = Some(control_queue.into());
    }

    /// Notes that a server has the request.
    pub(crate) fn note_alive(&self) {
        self.lock().alive = true;
    }

    /// Whether a server said that it has the request, since this was asked last.
    pub(crate) fn take_alive(&self) -> bool {
        std::mem::take(&mut self.lock().alive)
    }

    /// Where the call can be cancelled, if a server runs it that told.
    pub(crate) fn taken_at(&self) -> Option<Box<str>> {
        self.lock().control_queue.take()
    }

    /// Notes that the bus took the request.
    pub(crate) fn note_sent(&self, now: Instant) {
        self.lock().sent_at = Some(now);
    }

    /// Tells the caller that its request may be lost, if the bus took it before `lost_by`.
    /// A request that is still on its way is sent again by the driver.
    pub(crate) fn note_lost(&self, lost_by: Instant) {
        let mut state = self.lock();
        if state.sent_at.is_some_and(|at| at <= lost_by) {
            state.sent_at = None;
            state.lost = true;
            wake(state);
        }
    }

    /// Tells the caller that no reply comes any more where its request said.
    pub(crate) fn note_moved(&self) {
        let mut state = self.lock();
        if state.sent_at.is_some() {
            state.emptied = true;
        } else {
            state.lost = true;
        }
        wake(state);
    }

    /// Tells the caller that its reply may have stood in a queue that was lost.
    pub(crate) fn note_emptied(&self) {
        let mut state = self.lock();
        if state.sent_at.is_some() {
            state.emptied = true;
            wake(state);
        }
    }

    /// Tells the caller that its reply may be held up where nobody reads it.
    pub(crate) fn note_astray(&self) {
        let mut state = self.lock();
        if state.sent_at.is_some() {
            state.astray = true;
            wake(state);
        }
    }

    /// Waits for the next signal.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Signal> {
        let mut state = self.lock();
        if let Some(ending) = state.ending.take() {
            return Poll::Ready(Signal::Ended(ending));
        }
        if std::mem::take(&mut state.lost) {
            state.emptied = false;
            return Poll::Ready(Signal::Lost);
        }
        if std::mem::take(&mut state.emptied) {
            state.astray = false;
            return Poll::Ready(Signal::Emptied);
        }
        if std::mem::take(&mut state.astray) {
            return Poll::Ready(Signal::Astray);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Wakes with the lock already released.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
