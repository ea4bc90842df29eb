//! The requests a server has: those that run, and those whose replies are still on their way to the bus.
//!
//! It says so to a caller that asks, however many others it took since, and does not begin a copy of them.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;

use oslo_messaging_proto::wire::ids::UniqueId;

use crate::lock::lock;

/// The requests that one server has.
pub(crate) struct UnderWay(Option<Mutex<HashSet<u128, BuildHasherDefault<AsDrawn>>>>);

/// Ids are drawn at random, so they need no hash. Whoever draws others makes slow what is bounded by permits and prefetch.
#[derive(Default)]
struct AsDrawn(u64);

impl Hasher for AsDrawn {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        // Both halves, cut.
        self.0 = (id as u64) ^ ((id >> 64) as u64);
    }
}

impl UnderWay {
    /// None yet. On a bus that is part of this process nobody ever asks, and nothing is noted.
    pub(crate) fn new(is_asked: bool) -> Self {
        Self(is_asked.then(Mutex::default))
    }

    /// Notes a request while the guard lives; `None` if it is here already.
    pub(crate) fn enter(&self, id: UniqueId) -> Option<Entered<'_>> {
        if let Some(ids) = &self.0
            && !lock(ids).insert(id.as_u128())
        {
            return None;
        }
        Some(Entered { all: self, id })
    }

    /// Whether the request is here.
    pub(crate) fn has(&self, id: UniqueId) -> bool {
        let ids = self.0.as_ref();
        ids.is_some_and(|ids| lock(ids).contains(&id.as_u128()))
    }
}

/// A request that is here.
pub(crate) struct Entered<'a> {
    all: &'a UnderWay,
    id: UniqueId,
}

impl Entered<'_> {
    /// Its id.
    pub(crate) fn id(&self) -> UniqueId {
        self.id
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(ids) = &self.all.0 {
            lock(ids).remove(&self.id.as_u128());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_here_once_and_until_it_leaves() {
        let all = UnderWay::new(true);
        let id = UniqueId::from_random(7 << 64 | 9);
        let entered = all.enter(id).expect("it is new");
        assert!(all.has(id) && !all.has(UniqueId::from_random(7)));
        assert!(all.enter(id).is_none(), "a copy");
        assert_eq!(entered.id(), id);
        drop(entered);
        assert!(!all.has(id));
        assert!(all.enter(id).is_some());
    }

    #[test]
    fn where_nobody_asks_nothing_is_noted() {
        let all = UnderWay::new(false);
        let id = UniqueId::from_random(1);
        let (_one, _two) = (
            all.enter(id).expect("a guard"),
            all.enter(id).expect("a guard"),
        );
        assert!(!all.has(id));
    }
}
