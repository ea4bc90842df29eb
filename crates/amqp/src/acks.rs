//! Deliveries that await settlement, and the fewest frames that settle what was asked for.
//!
//! Asked-for acks that reach back to the oldest outstanding delivery leave as one `multiple` ack, the others one by one. A delivery is
//! settled exactly once, and never one that nobody asked for.

use std::collections::VecDeque;

/// Settled entries in the middle that are kept before the window is tidied.
const TIDY_AT: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The broker waits for it, nobody has said anything.
    Outstanding,
    /// An ack was asked for and is not written yet.
    Asked,
    /// A reject was asked for, with or without requeue, and is not written yet.
    Refused(bool),
    /// Written.
    Settled,
}

/// One frame to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    Ack { tag: u64, multiple: bool },
    Reject { tag: u64, requeue: bool },
}

/// Unsettled deliveries of a channel, in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    window: VecDeque<(u64, State)>,
    last: u64,
    /// Tags asked for since the last flush.
    asked: Vec<u64>,
    settled_inside: usize,
}

impl Acks {
    /// The broker delivered `tag`. False when tags do not rise, which the protocol forbids.
    #[must_use]
    pub(crate) fn delivered(&mut self, tag: u64, settle: bool) -> bool {
        if tag <= self.last {
            return false;
        }
        self.last = tag;
        if settle {
            self.window.push_back((tag, State::Outstanding));
        }
        true
    }

    /// Asks for an ack. False when the tag is not outstanding.
    #[must_use]
    pub(crate) fn ack(&mut self, tag: u64) -> bool {
        self.ask(tag, State::Asked)
    }

    /// Asks for a reject. False when the tag is not outstanding.
    #[must_use]
    pub(crate) fn reject(&mut self, tag: u64, requeue: bool) -> bool {
        self.ask(tag, State::Refused(requeue))
    }

    /// Deliveries from the oldest unsettled one on.
    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether there is something to write.
    pub(crate) fn is_pending(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Writes all that was asked for.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(Settle)) {
        if self.asked.is_empty() {
            return;
        }
        let mut asked = std::mem::take(&mut self.asked);
        // Rejects first: a multiple ack that follows would cover them otherwise.
        asked.retain(
            |&tag| match self.position(tag).map(|at| &mut self.window[at].1) {
                Some(state @ State::Refused(_)) => {
                    let State::Refused(requeue) = *state else {
                        return true;
                    };
                    *state = State::Settled;
                    self.settled_inside += 1;
                    write(Settle::Reject { tag, requeue });
                    false
                }
                _ => true,
            },
        );
        let (mut count, mut prefix) = (0, 0);
        while let Some(&(tag, state)) = self.window.front() {
            match state {
                State::Asked => (count, prefix) = (count + 1, tag),
                State::Settled => self.settled_inside -= 1,
                State::Outstanding | State::Refused(_) => break,
            }
            self.window.pop_front();
        }
        if count > 0 {
            write(Settle::Ack {
                tag: prefix,
                multiple: count > 1,
            });
        }
        for &tag in asked.iter().filter(|&&tag| tag > prefix) {
            if let Some(at) = self.position(tag) {
                self.window[at].1 = State::Settled;
                self.settled_inside += 1;
                write(Settle::Ack {
                    tag,
                    multiple: false,
                });
            }
        }
        asked.clear();
        self.asked = asked;
        self.tidy();
    }

    fn ask(&mut self, tag: u64, state: State) -> bool {
        let Some(at) = self.position(tag) else {
            return false;
        };
        if self.window[at].1 != State::Outstanding {
            return false;
        }
        self.window[at].1 = state;
        self.asked.push(tag);
        true
    }

    fn position(&self, tag: u64) -> Option<usize> {
        let front = self.window.front()?.0;
        // Tags rise by one unless the window was tidied, so the first guess nearly always hits.
        let guess = usize::try_from(tag.checked_sub(front)?).ok()?;
        if self
            .window
            .get(guess)
            .is_some_and(|&(found, _)| found == tag)
        {
            return Some(guess);
        }
        self.window
            .binary_search_by_key(&tag, |&(found, _)| found)
            .ok()
    }

    /// One delivery that stays unsettled for long must not hold the memory of all later ones.
    fn tidy(&mut self) {
        if self.settled_inside > TIDY_AT && self.settled_inside * 2 > self.window.len() {
            self.window.retain(|&(_, state)| state != State::Settled);
            self.settled_inside = 0;
        }
    }
}

#[cfg(test)]
mod tests;
