//! How much may be under way to one queue, once it has stopped confirming.
//!
//! A queue whose node hangs confirms nothing, and after some thirty messages to it RabbitMQ stops reading the connection
//! they came on: one queue would keep all others from their messages. So a queue that is behind gets no more than a few at
//! a time; their senders wait, and the rest of the connection goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// A queue that owes confirmations and gives none for so long is behind.
const BEHIND: Duration = Duration::from_secs(1);
/// What may be under way to it then. RabbitMQ counts to 32 for each channel and quorum queue.
const FEW: usize = 16;
/// Queues that are remembered although nothing is under way to them.
const IDLE: usize = 1024;
/// How often those who wait look again, whatever happens.
const LOOK: Duration = Duration::from_millis(250);

/// What is under way to the queues of a driver.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    queues: Mutex<HashMap<Arc<str>, Window>>,
}

#[derive(Debug)]
struct Window {
    under_way: usize,
    /// The last confirmation, or the first message since there was nothing to confirm.
    since: Instant,
    /// There since somebody had to wait.
    room: Option<Arc<Notify>>,
}

impl Window {
    fn has_room(&self) -> bool {
        self.under_way < FEW || self.since.elapsed() < BEHIND
    }
}

/// A message under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    windows: &'a Windows,
    queue: Arc<str>,
}

impl Windows {
    /// Counts a message to the queue of this routing key, while the guard lives; waits first if too many are under way.
    ///
    /// # Cancellation
    /// Safe: nothing is counted.
    pub(crate) async fn enter(&self, queue: &str) -> UnderWay<'_> {
        loop {
            let room = match self.try_enter(queue) {
                Ok(under_way) => return under_way,
                Err(room) => room,
            };
            // Woken or not, it is looked at again.
            let _ = timeout(LOOK, room.notified()).await;
        }
    }

    fn try_enter(&self, queue: &str) -> Result<UnderWay<'_>, Arc<Notify>> {
        let mut queues = self.lock();
        let queue = match queues.get_key_value(queue) {
            Some((queue, _)) => Arc::clone(queue),
            None => {
                if queues.len() >= IDLE {
                    queues.retain(|_, window| window.under_way > 0);
                }
                Arc::from(queue)
            }
        };
        let window = queues.entry(Arc::clone(&queue)).or_insert_with(|| Window {
            under_way: 0,
            since: Instant::now(),
            room: None,
        });
        if !window.has_room() {
            return Err(Arc::clone(window.room.get_or_insert_default()));
        }
        if window.under_way == 0 {
            (window.since, window.room) = (Instant::now(), None);
        }
        window.under_way += 1;
        Ok(UnderWay {
            windows: self,
            queue,
        })
    }

    fn leave(&self, queue: &Arc<str>) {
        if let Some(window) = self.lock().get_mut(queue) {
            window.under_way -= 1;
            if let Some(room) = &window.room {
                room.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Window>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay<'_> {
    /// The queue confirmed one, whatever it said.
    pub(crate) fn confirmed(&self) {
        if let Some(window) = self.windows.lock().get_mut(&self.queue) {
            window.since = Instant::now();
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.windows.leave(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_confirms_nothing_gets_a_few_and_others_get_all() {
        let windows = Windows::default();
        let mut many = Vec::new();
        for _ in 0..1_000 {
            many.push(windows.enter("busy").await);
        }
        let stuck: Vec<_> = {
            let mut stuck = Vec::new();
            for _ in 0..FEW {
                stuck.push(windows.enter("stuck").await);
            }
            stuck
        };
        sleep(BEHIND).await;
        many[0].confirmed();
        many.push(windows.enter("busy").await);
        assert!(timeout(10 * LOOK, windows.enter("stuck")).await.is_err());
        drop(timeout(LOOK, windows.enter("another")).await.unwrap());
        // One that gave up makes room for another.
        let mut stuck = stuck.into_iter();
        drop(stuck.next());
        let late = timeout(LOOK, windows.enter("stuck")).await.unwrap();
        assert!(timeout(10 * LOOK, windows.enter("stuck")).await.is_err());
        late.confirmed();
        drop(windows.enter("stuck").await);
        drop((many, stuck, late));
        for n in 0..10 * IDLE {
            drop(windows.enter(&n.to_string()).await);
        }
        assert!(windows.lock().len() <= IDLE);
    }
}
