//! Reply queues known to be gone: replies to them are dropped unsent for a while (wire spec 13).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Names of queues, each for a time, a bounded number of them.
///
/// ```
/// use std::time::{Duration, Instant};
/// use oslo_messaging_proto::ObsoleteQueues;
///
/// let now = Instant::now();
/// let keep = ObsoleteQueues::REFERENCE_KEEP;
/// let mut gone = ObsoleteQueues::new(ObsoleteQueues::REFERENCE_CAPACITY, keep);
/// assert!(gone.is_empty());
/// gone.insert(now, "reply_1");
/// assert!(gone.contains(now, "reply_1"));
/// assert_eq!(gone.len(), 1);
/// assert!(!gone.contains(now + keep, "reply_1"));
/// ```
#[derive(Debug, Clone)]
pub struct ObsoleteQueues {
    capacity: usize,
    keep: Duration,
    /// When each name may be forgotten.
    until: HashMap<String, Instant>,
    order: VecDeque<(Instant, String)>,
}

impl ObsoleteQueues {
    /// How many names the reference remembers.
    pub const REFERENCE_CAPACITY: usize = 200;
    /// For how long.
    pub const REFERENCE_KEEP: Duration = Duration::from_secs(60);

    /// Remembers at most `capacity` names, each for `keep`.
    pub fn new(capacity: usize, keep: Duration) -> Self {
        Self {
            capacity,
            keep,
            until: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Notes that the queue is gone; the oldest name gives way if there are too many.
    pub fn insert(&mut self, now: Instant, queue: &str) {
        self.forget(now);
        if self.capacity == 0 {
            return;
        }
        let Some(until) = now.checked_add(self.keep) else {
            return;
        };
        if self.until.insert(queue.to_owned(), until).is_some() {
            self.order.retain(|(_, name)| name != queue);
        }
        self.order.push_back((until, queue.to_owned()));
        if self.order.len() > self.capacity {
            self.pop();
        }
    }

    /// Whether the queue was found gone not long ago.
    pub fn contains(&mut self, now: Instant, queue: &str) -> bool {
        self.forget(now);
        self.until.contains_key(queue)
    }

    /// How many names are remembered, some of them perhaps for too long already.
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, name)) = self.order.pop_front() {
            self.until.remove(&name);
        }
    }
}

impl Default for ObsoleteQueues {
    fn default() -> Self {
        Self::new(Self::REFERENCE_CAPACITY, Self::REFERENCE_KEEP)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_queue_is_remembered_for_a_minute() {
        let start = Instant::now();
        let mut gone = ObsoleteQueues::default();
        gone.insert(start, "reply_a");
        assert!(gone.contains(start + 59 * SECOND, "reply_a"));
        assert!(!gone.contains(start + 59 * SECOND, "reply_b"));
        assert!(!gone.contains(start + 60 * SECOND, "reply_a"));
        assert!(gone.is_empty() && gone.order.is_empty());
    }

    #[test]
    fn the_oldest_name_gives_way() {
        let start = Instant::now();
        let mut gone = ObsoleteQueues::new(2, 60 * SECOND);
        gone.insert(start, "a");
        gone.insert(start + SECOND, "b");
        // Found gone again: the youngest now.
        gone.insert(start + 2 * SECOND, "a");
        gone.insert(start + 3 * SECOND, "c");
        let now = start + 4 * SECOND;
        assert_eq!(
            (
                gone.contains(now, "a"),
                gone.contains(now, "b"),
                gone.contains(now, "c")
            ),
            (true, false, true)
        );
        assert_eq!((gone.len(), gone.order.len()), (2, 2));
        assert!(gone.contains(start + 61 * SECOND, "a"));
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let start = Instant::now();
        let mut gone = ObsoleteQueues::new(0, SECOND);
        gone.insert(start, "a");
        assert!(!gone.contains(start, "a"));
    }
}
