//! Calls in flight: who waits for which reply, and until when (wire spec 11 and 12).
//!
//! Two clocks a call: the deadline, which never moves, and the monitor, which every sign of life winds up again. All steps
//! take time logarithmic in the number of calls, and a call that is removed leaves nothing behind.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use crate::json::raw::RawJson;
use crate::wire::failure::{Failure, FailureError};
use crate::wire::ids::MsgId;
use crate::wire::reply::Reply;

/// The calls in flight of one caller; `W` is what waits for the outcome of each.
///
/// ```
/// use std::time::{Duration, Instant};
/// use oslo_messaging_proto::{Calls, Handled, MsgId, Outcome, Reply, ReplyBody, UniqueId};
///
/// let start = Instant::now();
/// let mut calls = Calls::new();
/// let id = MsgId::from_random(1);
/// calls.insert(id, start + Duration::from_secs(60), None, start, "waiter");
/// assert_eq!(calls.get_mut(id), Some(&mut "waiter"));
/// assert_eq!((calls.len(), calls.iter_mut().count()), (1, 1));
///
/// let body = ReplyBody::encode_result(&42).unwrap().finish(&id.to_string(), UniqueId::from_random(2)).into_body();
/// match calls.handle_reply(start, &Reply::decode(&body).unwrap()) {
///     Handled::Finished("waiter", Outcome::Result(result)) => assert_eq!(result.as_str(), "42"),
///     other => panic!("{other:?}"),
/// }
/// assert!(calls.is_empty());
/// assert_eq!(calls.next_timeout(), None);
///
/// calls.insert(id, start + Duration::from_secs(60), None, start, "given up");
/// assert_eq!(calls.remove(id), Some("given up"));
/// assert_eq!(calls.drain().count(), 0);
/// ```
#[derive(Debug)]
pub struct Calls<W> {
    calls: HashMap<MsgId, Call<W>, BuildHasherDefault<IdHasher>>,
    timers: BTreeSet<(Instant, MsgId)>,
}

#[derive(Debug)]
struct Call<W> {
    /// When the call fails unless something happens; the call's entry in `timers`.
    timer: Instant,
    waiter: W,
    /// The table has twice as many places as there are calls, so what few calls need is in a box.
    more: Option<Box<More>>,
}

/// What only calls with a monitor have, or with a reply in two parts.
#[derive(Debug)]
struct More {
    deadline: Instant,
    monitor: Option<Duration>,
    /// From a reply that was not the last one.
    outcome: Option<Outcome>,
}

impl<W> Call<W> {
    /// The deadline of a call without more is its timer.
    fn deadline(&self) -> Instant {
        self.more.as_ref().map_or(self.timer, |more| more.deadline)
    }

    fn more(&mut self) -> &mut More {
        let deadline = self.deadline();
        self.more.get_or_insert_with(|| {
            Box::new(More {
                deadline,
                monitor: None,
                outcome: None,
            })
        })
    }
}

/// How a call ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The method returned this, `null` if nothing.
    Result(RawJson),
    /// The method, or the server, failed.
    Failure(Failure),
    /// The method failed, but the failure cannot be read.
    Malformed(FailureError),
}

/// What a reply did.
#[derive(Debug)]
#[must_use]
pub enum Handled<W> {
    /// The call is over and forgotten.
    Finished(W, Outcome),
    /// The call goes on: a sign of life, or the first part of a reply in two.
    Progress,
    /// Nobody waits for this reply (timed out, or none of ours): to be dropped.
    Unknown,
}

/// Which clock of a call ran out.
///
/// ```
/// use std::time::{Duration, Instant};
/// use oslo_messaging_proto::{Calls, MsgId, TimedOut};
///
/// let (start, second) = (Instant::now(), Duration::from_secs(1));
/// let mut calls = Calls::new();
/// let (first, other) = (MsgId::from_random(1), MsgId::from_random(2));
/// calls.insert(first, start + 60 * second, Some(5 * second), start, "monitored");
/// calls.insert(other, start + 9 * second, None, start, "plain");
/// assert_eq!(calls.next_timeout(), Some(start + 5 * second));
/// assert_eq!(calls.handle_timeout(start + 5 * second), [(first, "monitored", TimedOut::Monitor)]);
/// assert_eq!(calls.handle_timeout(start + 9 * second), [(other, "plain", TimedOut::Total)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimedOut {
    /// The deadline of the whole call.
    Total,
    /// There was no sign of life for the monitor timeout.
    Monitor,
}

impl<W> Calls<W> {
    /// No calls.
    pub fn new() -> Self {
        Self {
            calls: HashMap::default(),
            timers: BTreeSet::new(),
        }
    }

    /// Notes a call that fails at `deadline`, or when there is no sign of life for `monitor`.
    ///
    /// Gives back the waiter of a call with the same id, which it replaces.
    pub fn insert(
        &mut self,
        id: MsgId,
        deadline: Instant,
        monitor: Option<Duration>,
        now: Instant,
        waiter: W,
    ) -> Option<W> {
        let old = self.remove(id);
        let timer = earlier(deadline, monitor, now);
        self.timers.insert((timer, id));
        let more = monitor.map(|monitor| {
            Box::new(More {
                deadline,
                monitor: Some(monitor),
                outcome: None,
            })
        });
        let call = Call {
            timer,
            waiter,
            more,
        };
        self.calls.insert(id, call);
        old
    }

    /// Forgets a call and gives its waiter back.
    pub fn remove(&mut self, id: MsgId) -> Option<W> {
        let call = self.calls.remove(&id)?;
        self.timers.remove(&(call.timer, id));
        Some(call.waiter)
    }

    /// Takes in a reply.
    ///
    /// A result that is not null, or a failure, is kept until the call ends, a later one replacing it; an ending reply ends
    /// the call with what was kept, or with null (wire spec 12.4).
    pub fn handle_reply(&mut self, now: Instant, reply: &Reply) -> Handled<W> {
        let Some(id) = reply.msg_id() else {
            return Handled::Unknown;
        };
        let Entry::Occupied(mut entry) = self.calls.entry(id) else {
            return Handled::Unknown;
        };
        let call = entry.get_mut();
        let outcome = match (reply.failure(), reply.result()) {
            (Some(Ok(failure)), _) => Some(Outcome::Failure(failure)),
            (Some(Err(error)), _) => Some(Outcome::Malformed(error)),
            (None, Some(result)) => Some(Outcome::Result(result.clone())),
            (None, None) => None,
        };
        if reply.is_ending() {
            let call = entry.remove();
            self.timers.remove(&(call.timer, id));
            let kept = || call.more.and_then(|more| more.outcome);
            let outcome = outcome.or_else(kept);
            return Handled::Finished(
                call.waiter,
                outcome.unwrap_or_else(|| Outcome::Result(RawJson::null())),
            );
        }
        if outcome.is_some() {
            call.more().outcome = outcome;
        }
        if reply.is_heartbeat()
            && let Some(more) = &call.more
            && more.monitor.is_some()
        {
            let timer = earlier(more.deadline, more.monitor, now);
            self.timers.remove(&(call.timer, id));
            self.timers.insert((timer, id));
            call.timer = timer;
        }
        Handled::Progress
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(timer, _)| *timer)
    }

    /// Forgets the calls one of whose clocks has run out by `now`, and gives them back, the earliest first.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(MsgId, W, TimedOut)> {
        let mut late = Vec::new();
        while let Some(&(timer, id)) = self.timers.first() {
            if timer > now {
                break;
            }
            self.timers.pop_first();
            if let Some(call) = self.calls.remove(&id) {
                let clock = if call.deadline() <= now {
                    TimedOut::Total
                } else {
                    TimedOut::Monitor
                };
                late.push((id, call.waiter, clock));
            }
        }
        late
    }

    /// Forgets all calls and gives them back, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = (MsgId, W)> {
        self.timers.clear();
        self.calls.drain().map(|(id, call)| (id, call.waiter))
    }

    /// How many calls are in flight.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The waiter of a call.
    pub fn get_mut(&mut self, id: MsgId) -> Option<&mut W> {
        self.calls.get_mut(&id).map(|call| &mut call.waiter)
    }

    /// All waiters, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (MsgId, &mut W)> {
        self.calls
            .iter_mut()
            .map(|(id, call)| (*id, &mut call.waiter))
    }
}

impl<W> Default for Calls<W> {
    fn default() -> Self {
        Self::new()
    }
}

/// The earlier of the two clocks, the monitor being wound up now.
fn earlier(deadline: Instant, monitor: Option<Duration>, now: Instant) -> Instant {
    let monitor = monitor.and_then(|monitor| now.checked_add(monitor));
    monitor.map_or(deadline, |monitor| monitor.min(deadline))
}

/// Takes the bits of an id as they are: those in the table are random, and drawn by us.
///
/// ```
/// use std::hash::BuildHasherDefault;
/// use std::collections::HashSet;
/// use oslo_messaging_proto::MsgId;
/// use oslo_messaging_proto::state::calls::IdHasher;
///
/// let mut ids = HashSet::<MsgId, BuildHasherDefault<IdHasher>>::default();
/// assert!(ids.insert(MsgId::from_random(1)));
/// assert!(!ids.insert(MsgId::from_random(1)));
/// ```
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = (id >> 64) as u64 ^ id as u64;
    }
}

#[cfg(test)]
mod tests;
