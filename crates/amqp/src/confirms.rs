//! Publisher confirms of a channel: which published message an ack, a nack or a return of the broker is about, and who waits for it.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::methods::Confirmation;
use crate::slots::Slots;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Somebody holds this slot.
    Watched(u32),
    /// Nobody waits (any more).
    Unwatched,
    /// Confirmed out of order.
    Settled,
}

/// The broker confirmed a tag that was never published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownTag;

/// What a [`Confirm`](crate::Confirm) holds on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    tag: u64,
    slot: u32,
}

/// Unconfirmed messages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    enabled: bool,
    /// Tag of the front of `entries`, minus one: tags confirmed for good.
    confirmed: u64,
    entries: VecDeque<Entry>,
    slots: Slots<Result<Confirmation>>,
    /// Unconfirmed mandatory messages: tag and fingerprint.
    mandatory: VecDeque<(u64, u64)>,
}

impl Confirms {
    /// Confirms are on from here: the next message has tag 1.
    pub(crate) fn enable(&mut self) {
        self.enabled = true;
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// A message goes out. A mandatory one brings its [`fingerprint`].
    pub(crate) fn published(&mut self, mandatory: Option<u64>, watched: bool) -> Option<Watch> {
        if !self.enabled {
            return None;
        }
        let tag = self.confirmed + self.entries.len() as u64 + 1;
        if let Some(print) = mandatory {
            self.mandatory.push_back((tag, print));
        }
        if !watched {
            self.entries.push_back(Entry::Unwatched);
            return None;
        }
        let slot = self.slots.insert();
        self.entries.push_back(Entry::Watched(slot));
        Some(Watch { tag, slot })
    }

    /// The broker confirmed a tag, or all up to it.
    pub(crate) fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        confirmation: &Confirmation,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), UnknownTag> {
        let last = self.confirmed + self.entries.len() as u64;
        // Tag 0 with `multiple` means all.
        let tag = match (tag, multiple) {
            (0, true) => last,
            (0, false) => return Err(UnknownTag),
            _ => tag,
        };
        if tag > last {
            return Err(UnknownTag);
        }
        if tag > self.confirmed {
            let at = (tag - self.confirmed - 1) as usize;
            for index in if multiple { 0..=at } else { at..=at } {
                if let Entry::Watched(slot) =
                    std::mem::replace(&mut self.entries[index], Entry::Settled)
                {
                    wakers.extend(self.slots.complete(slot, Ok(confirmation.clone())));
                }
            }
            while self.entries.front() == Some(&Entry::Settled) {
                self.entries.pop_front();
                self.confirmed += 1;
            }
            while self
                .mandatory
                .front()
                .is_some_and(|&(tag, _)| self.is_settled(tag))
            {
                self.mandatory.pop_front();
            }
        }
        Ok(())
    }

    /// The broker returned a message. It belongs to the oldest unconfirmed mandatory message with that fingerprint; its ack follows and
    /// finds nobody. False when no such message is known.
    pub(crate) fn returned(
        &mut self,
        print: u64,
        code: u16,
        text: &str,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let found = self
            .mandatory
            .iter()
            .position(|&(tag, known)| known == print && !self.is_settled(tag));
        let Some((tag, _)) = found.and_then(|at| self.mandatory.remove(at)) else {
            return false;
        };
        let entry = &mut self.entries[(tag - self.confirmed - 1) as usize];
        if let Entry::Watched(slot) = std::mem::replace(entry, Entry::Unwatched) {
            let confirmation = Confirmation::Returned {
                code,
                text: text.to_owned(),
            };
            wakers.extend(self.slots.complete(slot, Ok(confirmation)));
        }
        true
    }

    /// Nothing will be confirmed any more.
    pub(crate) fn fail(&mut self, error: &Error, wakers: &mut Vec<Waker>) {
        self.confirmed += self.entries.len() as u64;
        for entry in self.entries.drain(..) {
            if let Entry::Watched(slot) = entry {
                wakers.extend(self.slots.complete(slot, Err(error.clone())));
            }
        }
        self.mandatory.clear();
    }

    pub(crate) fn poll(
        &mut self,
        watch: Watch,
        context: &mut Context<'_>,
    ) -> Poll<Result<Confirmation>> {
        self.slots.poll(watch.slot, context)
    }

    /// The waiter went away before it got its answer.
    pub(crate) fn forget(&mut self, watch: Watch) {
        self.slots.remove(watch.slot);
        if let Some(at) = watch.tag.checked_sub(self.confirmed + 1)
            && let Some(entry) = self.entries.get_mut(at as usize)
            && *entry == Entry::Watched(watch.slot)
        {
            *entry = Entry::Unwatched;
        }
    }

    /// Messages from the oldest unconfirmed one on.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Messages the broker has not confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.entries
            .iter()
            .filter(|&&entry| entry != Entry::Settled)
            .count()
    }

    fn is_settled(&self, tag: u64) -> bool {
        tag <= self.confirmed
            || self.entries.get((tag - self.confirmed - 1) as usize) == Some(&Entry::Settled)
    }
}

/// A mark of a mandatory message that the broker's return of it bears too: exchange, routing key, and size and both ends of the body.
/// Not against an adversary: two alike messages in flight are told apart by their order.
pub(crate) fn fingerprint(exchange: &str, routing_key: &str, body: &[u8]) -> u64 {
    const END: usize = 1024;
    let mut hash = Hash(0x51_7c_c1_b7_27_22_0a_95);
    hash.feed(exchange.as_bytes());
    hash.feed(routing_key.as_bytes());
    if body.len() <= 2 * END {
        hash.feed(body);
    } else {
        hash.feed(&body[..END]);
        hash.feed(&body[body.len() - END..]);
        hash.word(body.len() as u64);
    }
    hash.0
}

struct Hash(u64);

impl Hash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn feed(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }
}

#[cfg(test)]
mod tests;
