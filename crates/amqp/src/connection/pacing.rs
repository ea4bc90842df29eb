//! When settlements are written: at once, or later with others; and whether messages are so many that they wait for each other.

use std::time::{Duration, Instant};

/// Fewer messages than this on a channel without a confirm: each is written by itself. More: they wait for each other a moment.
const FEW: usize = 4;
/// Acks that may wait are written when there are so many of them,
pub(super) const LATER_MOST: usize = 64;
/// or after this long.
pub(super) const LATER: Duration = Duration::from_millis(10);

/// Which channels have settlements to write, and which of them may wait.
#[derive(Default)]
pub(super) struct Pacing {
    /// Channels with settlements to write.
    unflushed: Vec<u32>,
    /// Channels with acks that may wait, how many, and until when.
    later: Vec<u32>,
    later_count: usize,
    later_until: Option<Instant>,
    /// Messages without a confirm, or deliveries without a settlement, on the channel last used.
    crowd: usize,
}

impl Pacing {
    /// How many are under way on the channel that is used.
    pub(super) fn note_crowd(&mut self, crowd: usize) {
        self.crowd = crowd;
    }

    /// Whether more is likely to come in a moment.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowd >= FEW
    }

    /// Whether there are settlements that do not wait.
    pub(super) fn has_settlements(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// Whether those of this channel do not wait.
    pub(super) fn is_to_write(&self, index: u32) -> bool {
        self.unflushed.contains(&index)
    }

    /// Those of this channel are to be written with the next bytes.
    pub(super) fn write_soon(&mut self, index: u32) {
        if !self.unflushed.contains(&index) {
            self.unflushed.push(index);
        }
    }

    /// The channel has some, of which nobody said when they are to be written.
    pub(super) fn note_settlements(&mut self, index: u32) {
        if !self.unflushed.contains(&index) && !self.later.contains(&index) {
            self.unflushed.push(index);
        }
    }

    /// Another one of this channel may wait, until a moment after `now`. True when there are too many that do.
    pub(super) fn write_later(&mut self, index: u32, now: Instant) -> bool {
        if !self.later.contains(&index) {
            self.later.push(index);
        }
        self.later_count += 1;
        let many = self.later_count >= LATER_MOST;
        if !many && self.later_until.is_none() {
            self.later_until = Some(now + LATER);
        }
        many
    }

    /// Until when those that wait may.
    pub(super) fn until(&self) -> Option<Instant> {
        self.later_until
    }

    /// A channel whose settlements waited, and do not any more.
    pub(super) fn hasten(&mut self) -> Option<u32> {
        (self.later_count, self.later_until) = (0, None);
        self.later.pop()
    }

    /// A channel whose settlements are written now.
    pub(super) fn next_to_write(&mut self) -> Option<u32> {
        self.unflushed.pop()
    }

    /// The channel is gone.
    pub(super) fn forget(&mut self, index: u32) {
        self.unflushed.retain(|&other| other != index);
        self.later.retain(|&other| other != index);
    }

    /// All channels are over.
    pub(super) fn clear(&mut self) {
        self.unflushed.clear();
        self.later.clear();
        self.later_until = None;
    }
}
