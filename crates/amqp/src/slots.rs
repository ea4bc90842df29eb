//! Places where the answer to something meets the future that waits for it; reused, so that waiting allocates nothing.

use std::task::{Context, Poll, Waker};

/// A set of numbered slots.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
enum Slot<T> {
    Free,
    Waiting(Option<Waker>),
    Done(T),
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Takes a slot. It is the caller's until [`poll`](Self::poll) was ready or [`remove`](Self::remove) was called.
    pub(crate) fn insert(&mut self) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Slot::Waiting(None);
            return id;
        }
        self.slots.push(Slot::Waiting(None));
        (self.slots.len() - 1) as u32
    }

    /// Puts the answer in; the first one stays. Whoever waits is to be woken.
    pub(crate) fn complete(&mut self, id: u32, value: T) -> Option<Waker> {
        let slot = self.slots.get_mut(id as usize)?;
        let Slot::Waiting(waker) = slot else {
            return None;
        };
        let waker = waker.take();
        *slot = Slot::Done(value);
        waker
    }

    /// Looks for the answer; when it is there, the slot is free again.
    pub(crate) fn poll(&mut self, id: u32, context: &mut Context<'_>) -> Poll<T> {
        let slot = &mut self.slots[id as usize];
        match slot {
            Slot::Waiting(Some(waker)) if waker.will_wake(context.waker()) => Poll::Pending,
            Slot::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Done(_) => {
                let Slot::Done(value) = std::mem::replace(slot, Slot::Free) else {
                    return Poll::Pending;
                };
                self.free.push(id);
                Poll::Ready(value)
            }
            // Only a future polled after it was ready comes here; such a future stays pending.
            Slot::Free => Poll::Pending,
        }
    }

    /// Gives a slot back unread.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(slot) = self.slots.get_mut(id as usize)
            && !matches!(slot, Slot::Free)
        {
            *slot = Slot::Free;
            self.free.push(id);
        }
    }

    /// Slots in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_its_answer_once_and_is_used_again() {
        let mut slots = Slots::default();
        let mut context = Context::from_waker(Waker::noop());
        let first = slots.insert();
        assert_eq!(slots.poll(first, &mut context), Poll::Pending);
        assert!(slots.complete(first, 1).is_some());
        assert!(slots.complete(first, 2).is_none());
        assert_eq!(slots.poll(first, &mut context), Poll::Ready(1));
        assert_eq!(slots.insert(), first);
        slots.remove(first);
        slots.remove(first);
        assert_eq!((slots.insert(), slots.insert()), (first, first + 1));
        assert_eq!(slots.len(), 2);
    }
}
