//! How much may be under way to one queue, once it has stopped confirming.
//!
//! A queue whose node hangs confirms nothing, and after some thirty messages to it RabbitMQ stops reading the connection
//! they came on: one queue would keep all others from their messages. So a queue that is behind gets no more than a few at
//! a time; their senders wait, and the rest of the connection goes on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::lock::lock;

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
    /// A message left without a confirmation, with its connection or its sender, and none was confirmed after it. On a new
    /// connection the queue may be as stuck as before.
    owes: bool,
    /// There since somebody had to wait.
    room: Option<Arc<Notify>>,
}

impl Window {
    fn has_room(&self) -> bool {
        self.under_way < FEW || (!self.owes && self.since.elapsed() < BEHIND)
    }
}

/// A message under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    windows: &'a Windows,
    queue: Arc<str>,
    end: End,
}

/// How a message ceases to be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unconfirmed,
    Confirmed,
    Unsent,
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

    /// The same for now: what to wait for if too many are under way.
    pub(crate) fn try_enter(&self, queue: &str) -> Result<UnderWay<'_>, Arc<Notify>> {
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
            owes: false,
            room: None,
        });
        if !window.has_room() {
            return Err(Arc::clone(window.room.get_or_insert_default()));
        }
        if window.under_way == 0 && !window.owes {
            (window.since, window.room) = (Instant::now(), None);
        }
        window.under_way += 1;
        Ok(UnderWay {
            windows: self,
            queue,
            end: End::Unconfirmed,
        })
    }

    fn leave(&self, queue: &Arc<str>, end: End) {
        if let Some(window) = self.lock().get_mut(queue) {
            window.under_way -= 1;
            match end {
                End::Unconfirmed => window.owes = true,
                End::Confirmed => (window.owes, window.since) = (false, Instant::now()),
                End::Unsent => {}
            }
            if let Some(room) = &window.room {
                room.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Window>> {
        lock(&self.queues)
    }
}

impl UnderWay<'_> {
    /// The queue confirmed it, whatever it said.
    pub(crate) fn confirmed(mut self) {
        self.end = End::Confirmed;
    }

    /// It was not sent after all.
    pub(crate) fn withdraw(mut self) {
        self.end = End::Unsent;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.windows.leave(&self.queue, self.end);
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
        many.remove(0).confirmed();
        many.push(windows.enter("busy").await);
        assert!(timeout(10 * LOOK, windows.enter("stuck")).await.is_err());
        drop(timeout(LOOK, windows.enter("another")).await.unwrap());
        // One that gave up makes room for another; so does the loss of a connection, but for no more than before.
        let mut stuck = stuck.into_iter();
        drop(stuck.next());
        let late = timeout(LOOK, windows.enter("stuck")).await.unwrap();
        assert!(timeout(10 * LOOK, windows.enter("stuck")).await.is_err());
        drop((late, stuck));
        let mut again = Vec::new();
        for _ in 0..FEW {
            again.push(timeout(LOOK, windows.enter("stuck")).await.unwrap());
        }
        assert!(timeout(LOOK / 2, windows.enter("stuck")).await.is_err());
        // It works again.
        again.remove(0).confirmed();
        for _ in 0..100 {
            again.push(timeout(LOOK, windows.enter("stuck")).await.unwrap());
        }
        drop((many, again));
        // What was not sent changes nothing.
        for _ in 0..10 {
            windows.try_enter("unsent").unwrap().withdraw();
        }
        assert!(
            windows
                .lock()
                .get("unsent")
                .is_some_and(|window| !window.owes && window.under_way == 0)
        );
        for n in 0..10 * IDLE {
            drop(windows.enter(&n.to_string()).await);
        }
        assert!(windows.lock().len() <= IDLE);
    }
}
