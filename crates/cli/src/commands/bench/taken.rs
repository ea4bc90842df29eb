//! What servers and listeners have taken: how many, when, and how long it was under way.
//!
//! Whoever measures how fast a queue is emptied sets two marks before: between the first and the last of them the time
//! and the CPU are counted, in the process that takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::load::{histogram, now};
use super::series::Collector;
use super::usage::Usage;
use crate::lock::lock;

/// The part of a queue that is taken before it counts.
const WARMING: u64 = 10;

/// Counts what is taken.
pub(super) struct Taken {
    count: AtomicU64,
    /// The count at which the measurement begins, and at which it ends.
    first: AtomicU64,
    last: AtomicU64,
    /// The count at which all is taken.
    all: AtomicU64,
    begun: Mutex<Option<Mark>>,
    ended: Mutex<Option<Mark>>,
    done: Notify,
    /// Whether anything is taken at all.
    open: watch::Sender<bool>,
    /// How long what came was under way, where that is wanted.
    times: Option<Mutex<Histogram<u64>>>,
    /// Its series, where that is wanted.
    pub(super) series: Option<Arc<Collector>>,
}

/// Where a measurement stood.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    count: u64,
    usage: Usage,
}

/// A queue that was emptied.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Drained {
    /// How many were taken since it was asked for.
    pub(super) taken: u64,
    /// What it took to take them; `None` if they did not come.
    pub(super) measured: Option<Measured>,
}

/// What it took to take so many.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) messages: u64,
    pub(super) seconds: f64,
    pub(super) usage: Usage,
}

impl Taken {
    /// Nothing yet, and open. With `times` it notes how long messages were under way.
    pub(super) fn new(times: bool, series: Option<Arc<Collector>>) -> Self {
        Self {
            count: AtomicU64::new(0),
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(u64::MAX),
            all: AtomicU64::new(u64::MAX),
            begun: Mutex::default(),
            ended: Mutex::default(),
            done: Notify::new(),
            open: watch::Sender::new(true),
            times: times.then(|| Mutex::new(histogram())),
            series,
        }
    }

    /// How many so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether somebody wants to know what was in them.
    pub(super) fn looks(&self) -> bool {
        self.times.is_some() || self.series.is_some()
    }

    /// Notes one of this size that was sent then, in seconds since 1970.
    pub(super) fn look(&self, size: usize, sent: f64) {
        // Another host's clock may be ahead of ours.
        let latency = Duration::try_from_secs_f64(now() - sent).unwrap_or_default();
        if let Some(times) = &self.times {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            lock(times).saturating_record(nanos);
        }
        if let Some(series) = &self.series {
            series.answered(size, latency);
        }
    }

    /// Counts so many.
    pub(super) fn took(&self, count: u64) {
        let before = self.count.fetch_add(count, Ordering::AcqRel);
        let after = before + count;
        let passes = |mark: &AtomicU64| {
            let mark = mark.load(Ordering::Acquire);
            before < mark && mark <= after
        };
        let passed = [&self.first, &self.last, &self.all].map(passes);
        if passed[0] {
            *lock(&self.begun) = Some(Mark::at(after));
        }
        if passed[1] {
            *lock(&self.ended) = Some(Mark::at(after));
        }
        if passed.contains(&true) {
            self.done.notify_one();
        }
    }

    /// From now on nothing is taken, but what has begun.
    pub(super) fn hold(&self) {
        self.open.send_replace(false);
    }

    /// From now on it is taken again.
    pub(super) fn release(&self) {
        self.open.send_replace(true);
    }

    /// Waits until it may be taken. Cancel safe.
    pub(super) async fn may_take(&self) {
        if !*self.open.borrow() {
            // The sender lives as long as we do.
            let _ = self.open.subscribe().wait_for(|open| *open).await;
        }
    }

    /// Takes up to `messages` that wait and measures it, then holds again. The last `tail` of them do not count: a batch that
    /// is not full waits. Gives up when nothing came for `silence`.
    pub(super) async fn drain(&self, messages: u64, tail: u64, silence: Duration) -> Drained {
        let base = self.count();
        (*lock(&self.begun), *lock(&self.ended)) = (None, None);
        self.first
            .store(base + (messages / WARMING).max(1), Ordering::Release);
        self.last
            .store(base + messages.saturating_sub(tail), Ordering::Release);
        self.all.store(base + messages, Ordering::Release);
        self.release();
        let mut seen = base;
        // Whoever passes a mark may still be noting it when others have taken the rest.
        let is_done = || {
            self.count() >= base + messages
                && lock(&self.begun).is_some()
                && lock(&self.ended).is_some()
        };
        while !is_done() {
            if timeout(silence, self.done.notified()).await.is_err() {
                let now = self.count();
                if now == seen {
                    break;
                }
                seen = now;
            }
        }
        self.hold();
        for mark in [&self.first, &self.last, &self.all] {
            mark.store(u64::MAX, Ordering::Release);
        }
        let marks = lock(&self.begun).zip(*lock(&self.ended));
        Drained {
            taken: self.count() - base,
            measured: marks.map(|(begun, ended)| Measured {
                messages: ended.count - begun.count,
                seconds: (ended.at - begun.at).as_secs_f64(),
                usage: ended.usage.since(begun.usage),
            }),
        }
    }

    /// How long what came since the last time was under way: nanoseconds, and how often each.
    pub(super) fn take_times(&self) -> Vec<(u64, u64)> {
        let Some(times) = &self.times else {
            return Vec::new();
        };
        let mut times = lock(times);
        let counts = times
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        times.reset();
        counts
    }
}

impl Mark {
    fn at(count: u64) -> Self {
        Self {
            at: Instant::now(),
            count,
            usage: Usage::of_process(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_counts_from_the_first_tenth_on_and_holds_afterwards() {
        let taken = Arc::new(Taken::new(false, None));
        taken.hold();
        let worker = {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                for _ in 0..100 {
                    taken.may_take().await;
                    taken.took(1);
                    tokio::task::yield_now().await;
                }
            })
        };
        let drained = taken.drain(100, 20, Duration::from_secs(30)).await;
        worker.await.expect("no panic");
        let measured = drained.measured.expect("all came");
        assert_eq!((drained.taken, measured.messages), (100, 70));
        assert!(measured.seconds > 0.0);
        assert!(
            timeout(Duration::from_millis(20), taken.may_take())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_drain_of_what_does_not_come_tells_how_many_came() {
        let taken = Taken::new(false, None);
        taken.took(5);
        let drained = taken.drain(7, 0, Duration::from_millis(20)).await;
        assert_eq!((drained.taken, drained.measured.is_none()), (0, true));
    }

    #[test]
    fn times_are_told_once() {
        let taken = Taken::new(true, None);
        taken.look(10, now() - 2.0);
        let times = taken.take_times();
        assert_eq!(times.len(), 1);
        assert!((1_990_000_000..2_100_000_000).contains(&times[0].0) && times[0].1 == 1);
        assert!(taken.take_times().is_empty());
    }
}
