//! What happened second by second, in the fields of the reference's simulator (parity 1.17).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::lock::lock;

/// One second of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Number of the second.
    pub(super) seq: u64,
    /// Its end, in seconds since 1970.
    pub(super) timestamp: f64,
    /// Messages.
    pub(super) count: u64,
    /// Characters of their contents.
    pub(super) size: u64,
    /// Mean latency in seconds; these three only where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_latency: Option<f64>,
}

/// A series summed up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) size: u64,
    /// From the first to the last second with messages.
    pub(super) duration: f64,
    /// Messages a second.
    pub(super) count_p_s: f64,
    /// Characters a second.
    pub(super) size_p_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_latency: Option<f64>,
}

impl Summary {
    /// Sums up `points`.
    pub(super) fn of(points: &[Point]) -> Self {
        let busy: Vec<&Point> = points.iter().filter(|point| point.count > 0).collect();
        let count: u64 = busy.iter().map(|point| point.count).sum();
        let size = busy.iter().map(|point| point.size).sum();
        // A point stands at the end of its second.
        let start = busy.first().map(|point| point.timestamp - 1.0);
        let end = busy.last().map(|point| point.timestamp);
        let duration = start.zip(end).map_or(0.0, |(start, end)| end - start);
        let rate = |total: u64| {
            if duration > 0.0 {
                total as f64 / duration
            } else {
                0.0
            }
        };
        let timed = || busy.iter().filter(|point| point.latency.is_some());
        let sum: f64 = timed()
            .filter_map(|point| Some(point.latency? * point.count as f64))
            .sum();
        let pick = |values: &mut dyn Iterator<Item = f64>, better: fn(f64, f64) -> f64| {
            values.reduce(better)
        };
        Self {
            count,
            size,
            duration,
            count_p_s: rate(count),
            size_p_s: rate(size),
            start,
            end,
            latency: (timed().next().is_some() && count > 0).then(|| sum / count as f64),
            min_latency: pick(&mut timed().filter_map(|point| point.min_latency), f64::min),
            max_latency: pick(&mut timed().filter_map(|point| point.max_latency), f64::max),
        }
    }
}

/// What happened since the last second ended.
#[derive(Default)]
struct Second {
    count: AtomicU64,
    size: AtomicU64,
    latency_sum: AtomicU64,
    latency_max: AtomicU64,
    /// The complement of the smallest, so that zero means none.
    latency_min: AtomicU64,
}

impl Second {
    fn add(&self, size: usize, latency: Option<Duration>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.size.fetch_add(size as u64, Ordering::Relaxed);
        if let Some(latency) = latency {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.latency_sum.fetch_add(nanos, Ordering::Relaxed);
            self.latency_max.fetch_max(nanos, Ordering::Relaxed);
            self.latency_min
                .fetch_max(u64::MAX - nanos, Ordering::Relaxed);
        }
    }

    fn take(&self, seq: u64, timestamp: f64) -> Point {
        let taken = |cell: &AtomicU64| cell.swap(0, Ordering::Relaxed);
        let count = taken(&self.count);
        let size = taken(&self.size);
        let sum = taken(&self.latency_sum);
        let max = taken(&self.latency_max);
        let min = u64::MAX - taken(&self.latency_min);
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let timed = max > 0 && count > 0;
        Point {
            seq,
            timestamp,
            count,
            size,
            latency: timed.then(|| seconds(sum) / count as f64),
            min_latency: timed.then(|| seconds(min)),
            max_latency: timed.then(|| seconds(max)),
        }
    }
}

/// Is told of a second.
type Tell = Box<dyn Fn(&Point) + Send + Sync>;

/// Counts what happens, for all callers.
pub(super) struct Collector {
    sent: Second,
    answered: Second,
    failed: Second,
    points: Mutex<Collected>,
    /// Told of each second of what was answered.
    tell: Option<Tell>,
}

/// All series of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected {
    pub(super) sent: Vec<Point>,
    pub(super) answered: Vec<Point>,
    pub(super) failed: Vec<Point>,
}

impl Collector {
    /// Nothing has happened yet.
    pub(super) fn new() -> Self {
        Self {
            sent: Second::default(),
            answered: Second::default(),
            failed: Second::default(),
            points: Mutex::default(),
            tell: None,
        }
    }

    /// One that tells of each second of what was answered.
    pub(super) fn telling(tell: impl Fn(&Point) + Send + Sync + 'static) -> Self {
        Self {
            tell: Some(Box::new(tell)),
            ..Self::new()
        }
    }

    /// A message was sent.
    pub(super) fn sent(&self, size: usize) {
        self.sent.add(size, None);
    }

    /// Its answer came.
    pub(super) fn answered(&self, size: usize, latency: Duration) {
        self.answered.add(size, Some(latency));
    }

    /// It failed.
    pub(super) fn failed(&self, size: usize) {
        self.failed.add(size, None);
    }

    /// Closes a second every second from now on.
    pub(super) fn start(self: &Arc<Self>) -> Ticking {
        let (stop, mut stopped) = oneshot::channel();
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let second = Duration::from_secs(1);
            let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + second, second);
            loop {
                tokio::select! {
                    _ = tick.tick() => this.close_second(),
                    _ = &mut stopped => return,
                }
            }
        });
        Ticking {
            collector: Arc::clone(self),
            stop,
            task,
        }
    }

    fn close_second(&self) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = since.as_secs_f64();
        let mut points = lock(&self.points);
        let seq = points.sent.len() as u64;
        points.sent.push(self.sent.take(seq, now));
        let answered = self.answered.take(seq, now);
        points.answered.push(answered.clone());
        points.failed.push(self.failed.take(seq, now));
        drop(points);
        if let Some(tell) = &self.tell {
            tell(&answered);
        }
    }
}

/// The task that closes the seconds; it ends when this is dropped.
pub(super) struct Ticking {
    collector: Arc<Collector>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Ticking {
    /// Ends it, and gives all series.
    pub(super) async fn finish(self) -> Collected {
        // An error means that it has ended.
        let _ = self.stop.send(());
        let _ = self.task.await;
        self.collector.close_second();
        lock(&self.collector.points).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seconds_are_closed_and_summed_up_in_the_simulators_fields() {
        let collector = Arc::new(Collector::new());
        let ticking = collector.start();
        collector.sent(10);
        collector.sent(20);
        collector.answered(10, Duration::from_millis(2));
        collector.answered(20, Duration::from_millis(4));
        collector.failed(5);
        let collected = ticking.finish().await;
        let point = &collected.answered[0];
        assert_eq!((point.seq, point.count, point.size), (0, 2, 30));
        let near = |value: Option<f64>, expected: f64| {
            assert!((value.expect("timed") - expected).abs() < 1e-9, "{value:?}");
        };
        near(point.latency, 0.003);
        near(point.min_latency, 0.002);
        near(point.max_latency, 0.004);
        let summary = Summary::of(&collected.answered);
        assert_eq!((summary.count, summary.size), (2, 30));
        assert!((summary.duration - 1.0).abs() < 1e-6 && (summary.count_p_s - 2.0).abs() < 1e-5);
        near(summary.latency, 0.003);
        let sent = Summary::of(&collected.sent);
        assert_eq!((sent.count, sent.latency), (2, None));
        assert_eq!(Summary::of(&collected.failed).count, 1);
        assert_eq!(Summary::of(&[]).count_p_s, 0.0);
    }
}
