//! One queue: messages that wait, consumers in turn, and what they have not settled yet.
//!
//! Pure state. It calls nobody: [`Queue::hand_out`] puts what is due on a list, and whoever owns the
//! lock delivers it after letting go. Invariant: while a message waits, no consumer that is not
//! paused has credit left, unless the message goes round in circles ([`IN_PLACE_LIMIT`]).

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::wire::body::Body;
use tokio::time::Instant;

use super::driver::Subscriber;
use crate::driver::Settlement;

/// How many messages a queue keeps that nobody takes; sending more fails with `DeliveryFailure`.
///
/// ```
/// assert_eq!(oslo_messaging_core::memory::QUEUE_LIMIT, 65_536);
/// ```
pub const QUEUE_LIMIT: usize = 65_536;

/// How often a message may be given back from inside [`Inbox::deliver`](crate::driver::Inbox::deliver) before it waits for the next
/// event of its queue. It ends the circle of an inbox that refuses everything it gets.
const IN_PLACE_LIMIT: u8 = 16;

/// A message in a queue, or handed out and not settled.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) body: Body,
    pub(crate) expires: Option<Duration>,
    /// When it is dropped if it still waits.
    pub(crate) dies: Option<Instant>,
    redelivered: bool,
    in_place: u8,
}

impl Message {
    pub(crate) fn new(body: Body, expires: Option<Duration>, dies: Option<Instant>) -> Self {
        Self {
            body,
            expires,
            dies,
            redelivered: false,
            in_place: 0,
        }
    }

    fn is_dead(&self, now: Instant) -> bool {
        self.dies.is_some_and(|dies| dies <= now)
    }
}

/// A message on its way to an inbox.
pub(crate) struct Handout {
    pub(crate) tap: Arc<Tap>,
    pub(crate) tag: u64,
    pub(crate) body: Body,
    pub(crate) expires: Option<Duration>,
    pub(crate) redelivered: bool,
}

/// What a consumer and its deliveries share. The driver implements settling on it.
pub(crate) struct Tap {
    pub(crate) queue: QueueId,
    pub(crate) slot: usize,
    pub(crate) subscriber: Arc<Subscriber>,
}

/// Where a queue is kept; never used for another queue later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QueueId(pub(crate) u64);

/// Messages and who gets them.
#[derive(Default)]
pub(crate) struct Queue {
    ready: VecDeque<Message>,
    /// No message of `ready` dies before this.
    earliest: Option<Instant>,
    consumers: Vec<Option<Consumer>>,
    /// The consumer whose turn it is.
    turn: usize,
    unsettled: Unsettled,
}

struct Consumer {
    tap: Arc<Tap>,
    prefetch: Option<NonZeroU16>,
    held: usize,
    paused: bool,
}

impl Consumer {
    fn is_free(&self) -> bool {
        !self.paused
            && self
                .prefetch
                .is_none_or(|limit| self.held < usize::from(limit.get()))
    }
}

impl Queue {
    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether a message would find neither a consumer nor room.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        if self.ready.len() < QUEUE_LIMIT {
            return false;
        }
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.ready.retain(|message| !message.is_dead(now));
            self.earliest = self.ready.iter().filter_map(|message| message.dies).min();
        }
        self.ready.len() >= QUEUE_LIMIT
    }

    /// Whether anybody is subscribed.
    pub(crate) fn is_consumed(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// Makes room.
    pub(crate) fn drop_oldest(&mut self) {
        self.ready.pop_front();
    }

    /// What waits, once more.
    pub(crate) fn copy(&self) -> Vec<Message> {
        self.ready.iter().cloned().collect()
    }

    /// Takes a message in at the end.
    pub(crate) fn push(&mut self, message: Message) {
        self.note_death(&message);
        self.ready.push_back(message);
    }

    /// Adds a consumer.
    pub(crate) fn subscribe(
        &mut self,
        queue: QueueId,
        prefetch: Option<NonZeroU16>,
        subscriber: &Arc<Subscriber>,
    ) -> Arc<Tap> {
        let slot = self
            .consumers
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.consumers.len());
        let tap = Arc::new(Tap {
            queue,
            slot,
            subscriber: Arc::clone(subscriber),
        });
        let consumer = Some(Consumer {
            tap: Arc::clone(&tap),
            prefetch,
            held: 0,
            paused: false,
        });
        match self.consumers.get_mut(slot) {
            Some(free) => *free = consumer,
            None => self.consumers.push(consumer),
        }
        tap
    }

    /// Stops handing out to this consumer.
    pub(crate) fn pause(&mut self, slot: usize) {
        if let Some(Some(consumer)) = self.consumers.get_mut(slot) {
            consumer.paused = true;
        }
    }

    /// Removes a consumer; what it had not settled goes back to the front, in the old order.
    pub(crate) fn unsubscribe(&mut self, slot: usize) {
        let Some(consumer) = self.consumers.get_mut(slot).and_then(Option::take) else {
            return;
        };
        if consumer.held > 0 {
            let mut back = self.unsettled.take_all(slot);
            back.sort_unstable_by_key(|(order, _)| *order);
            for (_, message) in back.into_iter().rev() {
                self.put_back(message);
            }
        }
        while matches!(self.consumers.last(), Some(None)) {
            self.consumers.pop();
        }
    }

    /// Settles what was handed out to `slot` under `tag`; a stale tag is ignored.
    pub(crate) fn settle(&mut self, slot: usize, tag: u64, how: Settlement, in_place: bool) {
        let Some(mut message) = self.unsettled.take(slot, tag) else {
            return;
        };
        if let Some(Some(consumer)) = self.consumers.get_mut(slot) {
            consumer.held -= 1;
        }
        if how == Settlement::Requeue {
            message.in_place = if in_place {
                message.in_place.saturating_add(1)
            } else {
                0
            };
            self.put_back(message);
        }
    }

    /// Gives what waits to consumers with credit, in turn. Asked for from inside of a delivery
    /// (`in_place`), it keeps back a message that goes round in circles.
    pub(crate) fn hand_out(&mut self, in_place: bool, due: &mut VecDeque<Handout>) {
        while let Some(first) = self.ready.front() {
            if in_place && first.in_place >= IN_PLACE_LIMIT {
                return;
            }
            if first.dies.is_some() && first.is_dead(Instant::now()) {
                self.ready.pop_front();
                continue;
            }
            let Some(slot) = self.next_free() else { return };
            let Some(message) = self.ready.pop_front() else {
                return;
            };
            self.give(slot, message, due);
        }
        self.earliest = None;
    }

    /// Gives a message straight to a consumer if nothing waits before it; else takes it in.
    pub(crate) fn publish(&mut self, message: Message, due: &mut VecDeque<Handout>) {
        if self.ready.is_empty()
            && let Some(slot) = self.next_free()
        {
            return self.give(slot, message, due);
        }
        self.push(message);
        self.hand_out(false, due);
    }

    fn give(&mut self, slot: usize, message: Message, due: &mut VecDeque<Handout>) {
        let Some(Some(consumer)) = self.consumers.get_mut(slot) else {
            return;
        };
        consumer.held += 1;
        let tap = Arc::clone(&consumer.tap);
        tap.subscriber.begin();
        let (body, expires, redelivered) =
            (message.body.clone(), message.expires, message.redelivered);
        let tag = self.unsettled.insert(slot, message);
        due.push_back(Handout {
            tap,
            tag,
            body,
            expires,
            redelivered,
        });
    }

    fn next_free(&mut self) -> Option<usize> {
        let count = self.consumers.len();
        for step in 0..count {
            let slot = (self.turn + step) % count;
            if self.consumers[slot].as_ref().is_some_and(Consumer::is_free) {
                self.turn = slot + 1;
                return Some(slot);
            }
        }
        None
    }

    fn put_back(&mut self, mut message: Message) {
        message.redelivered = true;
        self.note_death(&message);
        self.ready.push_front(message);
    }

    fn note_death(&mut self, message: &Message) {
        if let Some(dies) = message.dies {
            self.earliest = Some(self.earliest.map_or(dies, |earliest| earliest.min(dies)));
        }
    }
}

/// What is handed out and not settled: slots that are used again, tags that are not.
#[derive(Default)]
struct Unsettled {
    entries: Vec<Entry>,
    free: Vec<u32>,
    order: u64,
}

#[derive(Default)]
struct Entry {
    generation: u32,
    held: Option<Held>,
}

struct Held {
    consumer: usize,
    order: u64,
    message: Message,
}

impl Unsettled {
    fn insert(&mut self, consumer: usize, message: Message) -> u64 {
        self.order += 1;
        let held = Some(Held {
            consumer,
            order: self.order,
            message,
        });
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => {
                self.entries.push(Entry::default());
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[index];
        entry.held = held;
        (u64::from(entry.generation) << 32) | index as u64
    }

    fn take(&mut self, consumer: usize, tag: u64) -> Option<Message> {
        let (index, generation) = ((tag & u64::from(u32::MAX)) as usize, (tag >> 32) as u32);
        let entry = self.entries.get_mut(index)?;
        if entry.generation != generation || entry.held.as_ref()?.consumer != consumer {
            return None;
        }
        let held = entry.held.take()?;
        self.release(index);
        Some(held.message)
    }

    fn take_all(&mut self, consumer: usize) -> Vec<(u64, Message)> {
        let mut taken = Vec::new();
        for index in 0..self.entries.len() {
            let held = &mut self.entries[index].held;
            if held.as_ref().is_some_and(|held| held.consumer == consumer)
                && let Some(held) = held.take()
            {
                taken.push((held.order, held.message));
                self.release(index);
            }
        }
        taken
    }

    fn release(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index as u32);
    }
}
