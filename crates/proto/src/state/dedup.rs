//! The duplicate cache: the last ids a listener has seen (wire spec 14).

use std::collections::{HashSet, VecDeque};

use crate::state::hash::Keyed;
use crate::wire::ids::{UniqueId, parse_hex};

/// The last ids in order of arrival; one that comes again is not moved.
///
/// ```
/// use oslo_messaging_proto::Duplicates;
///
/// let mut seen = Duplicates::new(Duplicates::REFERENCE_CAPACITY);
/// assert!(seen.is_empty());
/// assert!(seen.insert("a"));
/// assert!(!seen.insert("a"));
/// assert_eq!(seen.len(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Duplicates {
    capacity: usize,
    order: VecDeque<Key>,
    known: HashSet<Key, Keyed>,
}

/// An id: the number of a regular one, else its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Id(u128),
    Text(Box<str>),
}

impl Key {
    fn of(id: &str) -> Self {
        parse_hex(id).map_or_else(|| Self::Text(id.into()), Self::Id)
    }
}

impl Duplicates {
    /// How many ids the reference remembers.
    pub const REFERENCE_CAPACITY: usize = 16;

    /// A cache of the last `capacity` ids; with 0 nothing is ever a duplicate.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            order: VecDeque::new(),
            known: HashSet::default(),
        }
    }

    /// Notes an id. False if it is known: the message is a duplicate.
    pub fn insert(&mut self, id: &str) -> bool {
        self.note(Key::of(id))
    }

    /// The same of an id that was read already.
    ///
    /// ```
    /// use oslo_messaging_proto::{Duplicates, UniqueId};
    ///
    /// let (mut seen, id) = (Duplicates::new(16), UniqueId::from_random(1));
    /// assert!(seen.insert_id(id));
    /// assert!(!seen.insert(&id.to_string()));
    /// ```
    pub fn insert_id(&mut self, id: UniqueId) -> bool {
        self.note(Key::Id(id.as_u128()))
    }

    fn note(&mut self, key: Key) -> bool {
        if self.capacity == 0 {
            return true;
        }
        if !self.known.insert(key.clone()) {
            return false;
        }
        if self.order.len() == self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(key);
        true
    }

    /// Whether an id is known, without noting it.
    ///
    /// ```
    /// let mut seen = oslo_messaging_proto::Duplicates::new(16);
    /// seen.insert("a");
    /// assert!(seen.contains("a") && !seen.contains("b"));
    /// ```
    pub fn contains(&self, id: &str) -> bool {
        self.known.contains(&Key::of(id))
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_as_long_as_the_references() {
        let mut seen = Duplicates::new(Duplicates::REFERENCE_CAPACITY);
        assert!(seen.insert("first"));
        for number in 0..15 {
            assert!(seen.insert(&format!("{number:032x}")));
        }
        // Known, and not moved by coming again.
        assert!(!seen.insert("first"));
        assert!(seen.insert("the sixteenth after it"));
        assert!(seen.insert("first"));
        assert_eq!((seen.len(), seen.known.len()), (16, 16));
    }

    #[test]
    fn an_id_in_capitals_is_another_id() {
        let mut seen = Duplicates::new(4);
        assert!(seen.insert("dddddddddddddddddddddddddddddddd"));
        assert!(seen.insert("DDDDDDDDDDDDDDDDDDDDDDDDDDDDDDDD"));
        assert!(!seen.insert("dddddddddddddddddddddddddddddddd"));
        assert!(seen.insert(""));
        assert!(!seen.insert(""));
    }

    #[test]
    fn without_room_nothing_is_a_duplicate() {
        let mut seen = Duplicates::new(0);
        assert!(seen.insert("a") && seen.insert("a"));
        assert!(seen.is_empty());
    }
}
