//! What a listener has in hand: which messages of which partition are out for handling, up to where a partition is
//! handled, and what of that the broker was told.
//!
//! Pure bookkeeping, no I/O and no clock. A partition's place is the first message that is not handled: what comes after
//! it may be settled in any order, and is committed only with it. When a partition is taken away, what was in hand of it
//! is put aside: if the same partition is given back before another listener moved its place, the work goes on where it
//! was; otherwise settlements of it have no effect, since the messages are somebody else's.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use oslo_messaging_core::driver::Settlement;

/// How many times as many messages as may be in hand may lie behind one that is not settled, before nothing more is
/// fetched: they would all come again after a crash.
const BACKLOG: usize = 8;

/// A partition of a topic.
pub(crate) type Partition = (Arc<str>, i32);

/// A place in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which partition.
    pub(crate) partition: Partition,
    /// The offset of the next message.
    pub(crate) offset: i64,
}

/// A message that is handed out again.
pub(crate) struct Again {
    /// Its tag, the same as before.
    pub(crate) tag: u64,
    /// Its body.
    pub(crate) body: Bytes,
}

/// All that a listener has in hand.
pub(crate) struct Ledger {
    limit: usize,
    next_tag: u64,
    open: HashMap<u64, Open>,
    hands: HashMap<Partition, Hand>,
    aside: HashMap<Partition, Hand>,
    again: VecDeque<u64>,
    /// Messages of all hands that were delivered and not committed to.
    behind: usize,
}

/// A message that is out for handling.
struct Open {
    partition: Partition,
    offset: i64,
    body: Bytes,
}

/// One partition.
struct Hand {
    /// The tags of messages that were delivered, by offset; none for a settled one.
    window: BTreeMap<i64, Option<u64>>,
    /// Everything before this is handled.
    handled: i64,
    /// Where the next fetched message comes from.
    next: i64,
    /// Up to where a commit was asked for.
    asked: Option<i64>,
    /// Up to where the broker confirmed it.
    committed: Option<i64>,
}

impl Hand {
    fn new(start: i64, committed: Option<i64>) -> Self {
        Self {
            window: BTreeMap::new(),
            handled: start,
            next: start,
            asked: committed,
            committed,
        }
    }

    /// Moves the place over what is settled; returns by how many messages.
    fn advance(&mut self) -> usize {
        let mut moved = 0;
        while let Some(first) = self.window.first_entry() {
            if first.get().is_some() {
                break;
            }
            self.handled = first.key() + 1;
            first.remove();
            moved += 1;
        }
        moved
    }
}

impl Ledger {
    /// An empty ledger of a listener that may have `limit` messages in hand.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            next_tag: 0,
            open: HashMap::new(),
            hands: HashMap::new(),
            aside: HashMap::new(),
            again: VecDeque::new(),
            behind: 0,
        }
    }

    /// Notes a message that is about to be delivered, and gives it a tag. None if its partition is not in hand.
    pub(crate) fn deliver(
        &mut self,
        partition: Partition,
        offset: i64,
        body: Bytes,
    ) -> Option<u64> {
        let hand = self.hands.get_mut(&partition)?;
        if offset < hand.next {
            // A fetch that was under way when the partition was placed anew.
            return None;
        }
        let tag = self.next_tag;
        self.next_tag += 1;
        hand.next = offset + 1;
        hand.window.insert(offset, Some(tag));
        self.behind += 1;
        let open = Open {
            partition,
            offset,
            body,
        };
        self.open.insert(tag, open);
        Some(tag)
    }

    /// Settles a message. A tag that is not out any more, or of a partition that was taken away, has no effect.
    pub(crate) fn settle(&mut self, tag: u64, how: Settlement) {
        if how == Settlement::Requeue {
            if self.open.contains_key(&tag) {
                self.again.push_back(tag);
            }
            return;
        }
        let Some(open) = self.open.remove(&tag) else {
            return;
        };
        if let Some(hand) = self.hands.get_mut(&open.partition) {
            if let Some(state) = hand.window.get_mut(&open.offset) {
                *state = None;
            }
            self.behind -= hand.advance();
        } else if let Some(hand) = self.aside.get_mut(&open.partition)
            && let Some(state) = hand.window.get_mut(&open.offset)
        {
            *state = None;
        }
    }

    /// The next message to hand out again.
    pub(crate) fn take_again(&mut self) -> Option<Again> {
        while let Some(tag) = self.again.pop_front() {
            if let Some(open) = self.open.get(&tag)
                && self.hands.contains_key(&open.partition)
            {
                let body = open.body.clone();
                return Some(Again { tag, body });
            }
        }
        None
    }

    /// Whether as much is in hand as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= self.limit || self.behind >= self.limit.saturating_mul(BACKLOG)
    }

    /// Whether one unsettled message alone holds everything up.
    pub(crate) fn is_stuck(&self) -> bool {
        self.open.len() < self.limit && self.is_full()
    }

    /// Whether it is worth it to fetch again after fetching was held.
    pub(crate) fn is_roomy(&self) -> bool {
        !self.is_full() && self.open.len() + self.limit.div_ceil(8) <= self.limit
    }

    /// Whether this partition is in hand.
    pub(crate) fn has(&self, partition: &Partition) -> bool {
        self.hands.contains_key(partition)
    }

    /// Places the broker is to be told, each once.
    pub(crate) fn take_commits(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        for (partition, hand) in &mut self.hands {
            if hand.asked != Some(hand.handled) {
                hand.asked = Some(hand.handled);
                places.push(Place {
                    partition: partition.clone(),
                    offset: hand.handled,
                });
            }
        }
        places
    }

    /// The broker knows these places.
    pub(crate) fn committed(&mut self, places: &[Place]) {
        for place in places {
            if let Some(hand) = self.hands.get_mut(&place.partition) {
                hand.committed = hand.committed.max(Some(place.offset));
            }
        }
    }

    /// A commit failed: what it held is to be told again.
    pub(crate) fn commit_failed(&mut self) {
        for hand in self.hands.values_mut() {
            hand.asked = hand.committed;
        }
    }

    /// All partitions were taken away, `lost` if perhaps long ago. What was in hand is put aside, or dropped.
    pub(crate) fn revoke(&mut self, lost: bool) {
        self.behind = 0;
        if lost {
            self.hands.clear();
            self.aside.clear();
            self.open.clear();
            self.again.clear();
        } else {
            self.aside.extend(self.hands.drain());
        }
    }

    /// A partition was given. `committed` is the place the broker knows, if any; `fallback` the one to begin at if there
    /// is none. Returns where fetching begins.
    pub(crate) fn assign(
        &mut self,
        partition: Partition,
        committed: Option<i64>,
        fallback: i64,
    ) -> i64 {
        if let Some(mut hand) = self.aside.remove(&partition) {
            // The place that stands is one we told, so nobody else worked on this partition to any effect.
            if committed.is_none_or(|place| place <= hand.handled) {
                hand.advance();
                hand.committed = committed;
                hand.asked = committed;
                self.behind += hand.window.len();
                let next = hand.next;
                self.hands.insert(partition, hand);
                return next;
            }
            self.forget(&hand);
        }
        let start = committed.unwrap_or(fallback);
        self.hands.insert(partition, Hand::new(start, committed));
        start
    }

    /// All partitions of an assignment are placed: what was put aside and not given back is somebody else's.
    pub(crate) fn drop_aside(&mut self) {
        let aside: Vec<Hand> = self.aside.drain().map(|(_, hand)| hand).collect();
        for hand in &aside {
            self.forget(hand);
        }
    }

    fn forget(&mut self, hand: &Hand) {
        for tag in hand.window.values().flatten() {
            self.open.remove(tag);
        }
    }
}

#[cfg(test)]
mod tests;
