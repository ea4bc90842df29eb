//! The right to work on one delivery, handed from one to the next without a detour.

use std::sync::Arc;

use tokio::task::coop::consume_budget;

use super::seat::Sitting;
use super::{Floor, Next, Received, Work};
use crate::lock::lock;

/// The right to work on one delivery.
pub(crate) struct Permit<W: Work> {
    floor: Arc<Floor<W>>,
    spent: bool,
}

impl<W: Work> Permit<W> {
    fn new(floor: &Arc<Floor<W>>) -> Self {
        Self {
            floor: Arc::clone(floor),
            spent: false,
        }
    }

    /// Gives it back early; the next waiting delivery gets a task of its own.
    pub(crate) fn release(mut self) {
        self.spent = true;
        self.floor.give_permit_back();
    }

    /// Goes on with the next waiting delivery, if there is one, or spends it: its place is counted elsewhere then.
    fn exchange(mut self, sitting: Option<&Sitting<W>>) -> (Next<W>, Option<Self>) {
        let next = self.floor.next_or_rest(sitting);
        if let Next::Go(_) = next {
            return (next, Some(self));
        }
        self.spent = true;
        (next, None)
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

impl<W: Work> Floor<W> {
    /// Starts a task for a delivery that has its permit counted. It goes on with others, and stays for a while.
    pub(super) fn start(self: &Arc<Self>, mut starting: Starting<W>) {
        // In a box of its own: tokio moves what it runs several times, in and out of its task.
        self.spawn(Box::pin(async move {
            let mut sitting: Option<Sitting<W>> = None;
            loop {
                let Starting { floor, received } = &mut starting;
                let mut permit = Permit::new(floor);
                let seat = loop {
                    let back = floor.work.work(floor, received, permit).await;
                    // A driver and a handler that never wait must not keep the thread from others.
                    consume_budget().await;
                    let sitting = sitting.as_ref();
                    let next = match back {
                        Some(back) => back.exchange(sitting),
                        None => (floor.rest(sitting), None),
                    };
                    match next {
                        (Next::Go(next), Some(again)) => (permit, *received) = (again, Some(next)),
                        (Next::Rest(seat), _) => break seat,
                        _ => return,
                    }
                };
                let sitting =
                    sitting.get_or_insert_with(|| Sitting::new(seat, Arc::downgrade(floor)));
                // Who waits keeps no floor alive.
                drop(starting);
                match sitting.next().await {
                    Some(next) => starting = next,
                    None => return,
                }
            }
        }));
    }
}

/// A delivery on its way into a task.
pub(super) struct Starting<W: Work> {
    floor: Arc<Floor<W>>,
    received: Option<Received>,
}

impl<W: Work> Starting<W> {
    pub(super) fn new(floor: &Arc<Floor<W>>, received: Received) -> Self {
        Self {
            floor: Arc::clone(floor),
            received: Some(received),
        }
    }
}

impl<W: Work> Drop for Starting<W> {
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
