//! The right to work on one delivery, handed from one to the next without a detour.

use std::sync::Arc;

use tokio::task::coop::consume_budget;

use super::{Floor, Received, Work};
use crate::lock::lock;

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

impl<W: Work> Floor<W> {
    /// Starts a task for a delivery that has its permit counted.
    pub(super) fn start(self: &Arc<Self>, received: Received) {
        let mut starting = Starting {
            floor: Arc::clone(self),
            received: Some(received),
        };
        // In a box of its own: tokio moves what it runs several times, in and out of its task.
        self.spawn(Box::pin(async move {
            let Starting { floor, received } = &mut starting;
            let mut permit = Permit {
                floor: Arc::clone(floor),
                spent: false,
            };
            while let Some(back) = floor.work.work(floor, received, permit).await {
                // A driver and a handler that never wait must not keep the thread from others.
                consume_budget().await;
                match back.exchange() {
                    Some((again, next)) => (permit, *received) = (again, Some(next)),
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
