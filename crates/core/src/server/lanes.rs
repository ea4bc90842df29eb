//! Lanes: kinds of work of which only a few may run at once, below the bound that permits set for all.
//!
//! A delivery that finds its lane full waits in the lane, unsettled and without a permit, so that other kinds go on. Who
//! leaves a full lane hands the place to the oldest there, which then waits, first of all, for a permit. A lane exists as
//! long as somebody is in it, so that their number is bounded by that of deliveries.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::{Floor, Received, Work};
use crate::lock::lock;

/// Name of a lane.
pub(crate) type Lane = Arc<str>;

/// All lanes that somebody is in.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, Places>,
    waiting: usize,
}

#[derive(Default)]
struct Places {
    taken: usize,
    waiting: VecDeque<Received>,
}

impl Lanes {
    /// How many wait for a place.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a place, or keeps the delivery until there is one.
    fn enter(&mut self, lane: &Lane, limit: NonZeroUsize, received: Received) -> Option<Received> {
        let places = self.lanes.entry(Arc::clone(lane)).or_default();
        if places.taken < limit.get() {
            places.taken += 1;
            return Some(received);
        }
        places.waiting.push_back(received);
        self.waiting += 1;
        None
    }

    /// Leaves a place; gives the delivery that has it now.
    fn leave(&mut self, lane: &Lane) -> Option<Received> {
        let places = self.lanes.get_mut(lane)?;
        let Some(mut next) = places.waiting.pop_front() else {
            self.give_up(lane);
            return None;
        };
        self.waiting -= 1;
        next.lane = Some(Arc::clone(lane));
        Some(next)
    }

    /// Leaves a place to nobody.
    pub(super) fn give_up(&mut self, lane: &Lane) {
        if let Some(places) = self.lanes.get_mut(lane) {
            places.taken -= 1;
            if places.taken == 0 && places.waiting.is_empty() {
                self.lanes.remove(lane);
            }
        }
    }

    /// All that wait for a place.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = &Received> {
        self.lanes.values().flat_map(|places| &places.waiting)
    }

    /// Takes out all that wait.
    pub(super) fn take_waiting(&mut self) -> Vec<Received> {
        self.waiting = 0;
        let mut taken = Vec::new();
        self.lanes.retain(|_, places| {
            taken.extend(std::mem::take(&mut places.waiting));
            places.taken > 0
        });
        taken.sort_by_key(|received| received.at);
        taken
    }
}

impl<W: Work> Floor<W> {
    /// A place in `lane`, of which there are `limit`. Without one the delivery stays here until there is, and comes to
    /// [`Work::work`] anew.
    pub(crate) fn enter(
        self: &Arc<Self>,
        lane: Lane,
        limit: NonZeroUsize,
        received: Received,
    ) -> Option<(Received, Place<W>)> {
        let entered = lock(&self.state).lanes.enter(&lane, limit, received);
        entered.map(|received| (received, self.place(lane)))
    }

    /// The place that a delivery was given while it waited.
    pub(crate) fn place(self: &Arc<Self>, lane: Lane) -> Place<W> {
        Place {
            floor: Arc::clone(self),
            lane,
        }
    }
}

/// A place in a lane.
pub(crate) struct Place<W: Work> {
    floor: Arc<Floor<W>>,
    lane: Lane,
}

impl<W: Work> Drop for Place<W> {
    /// Hands it on. When the server stops nothing is started; what waits goes back to the bus then.
    fn drop(&mut self) {
        {
            let mut state = lock(&self.floor.state);
            let Some(next) = state.lanes.leave(&self.lane) else {
                return;
            };
            state.waiting.push_front(next);
        }
        self.floor.start_waiting();
    }
}
