//! The callers of the Rust peers: each sends again as soon as its last message is done.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::protocol::Done;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// How long what is under way may take at the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one operation came to.
pub(crate) type Outcome = Result<(), String>;

/// What callers do again and again.
pub(crate) trait Operation: Clone + Send + 'static {
    /// Does it once.
    fn once(&self) -> impl Future<Output = Outcome> + Send;
}

/// Callers at work.
pub(crate) struct Callers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    began: Instant,
}

struct Shared {
    phase: AtomicU8,
    /// Messages that may still be sent; as many as they can in a closed loop.
    left: Option<AtomicI64>,
    /// What each caller has done, apart from each other: callers on several processors shall not wait for a counter.
    operations: Vec<Arc<AtomicU64>>,
    failed: AtomicU64,
    fault: Mutex<Option<String>>,
    /// In microseconds; one for all callers, so that it weighs little in the memory that is measured.
    latencies: Mutex<Histogram<u32>>,
}

impl Callers {
    /// Starts `count` callers; without a number of messages, nothing counts before [`begin`](Self::begin).
    pub(crate) fn start(count: u32, messages: Option<u64>, operation: impl Operation) -> Self {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3);
        let shared = Arc::new(Shared {
            // So many messages count from the first, callers without an end from `begin`.
            phase: AtomicU8::new(if messages.is_some() {
                MEASURING
            } else {
                WARMING
            }),
            left: messages.map(|count| AtomicI64::new(i64::try_from(count).unwrap_or(i64::MAX))),
            operations: (0..count).map(|_| Arc::default()).collect(),
            failed: AtomicU64::new(0),
            fault: Mutex::new(None),
            latencies: Mutex::new(
                latencies.expect("the bounds are in order and three digits are allowed"),
            ),
        });
        let mut tasks = JoinSet::new();
        for own in &shared.operations {
            tasks.spawn(caller(
                Arc::clone(&shared),
                Arc::clone(own),
                operation.clone(),
            ));
        }
        Self {
            shared,
            tasks,
            began: Instant::now(),
        }
    }

    /// From now on it counts.
    pub(crate) fn begin(&mut self) {
        self.began = Instant::now();
        self.shared.phase.store(MEASURING, Ordering::Release);
    }

    /// Ends the count, and tells it; `used` is to be filled in. What is under way may end.
    pub(crate) async fn end(mut self) -> Done {
        self.shared.phase.store(ENDING, Ordering::Release);
        let done = self.done();
        // Whoever takes longer is aborted with the set.
        let _ = tokio::time::timeout(PATIENCE, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        done
    }

    /// Waits until all messages are sent.
    pub(crate) async fn all(mut self, limit: Duration) -> Done {
        let _ = tokio::time::timeout(limit, async {
            while self.tasks.join_next().await.is_some() {}
        })
        .await;
        self.done()
    }

    fn done(&self) -> Done {
        let shared = &self.shared;
        let latencies = shared
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Done {
            operations: shared
                .operations
                .iter()
                .map(|own| own.load(Ordering::Relaxed))
                .sum(),
            failed: shared.failed.load(Ordering::Relaxed),
            fault: shared
                .fault
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            seconds: self.began.elapsed().as_secs_f64(),
            p50: latencies.value_at_quantile(0.50) as f64,
            p99: latencies.value_at_quantile(0.99) as f64,
            ..Done::default()
        }
    }
}

impl Shared {
    fn may_send(&self) -> bool {
        let left = self.left.as_ref();
        self.phase.load(Ordering::Acquire) != ENDING
            && left.is_none_or(|left| left.fetch_sub(1, Ordering::Relaxed) > 0)
    }
}

async fn caller(shared: Arc<Shared>, own: Arc<AtomicU64>, operation: impl Operation) {
    while shared.may_send() {
        let began = Instant::now();
        let outcome = operation.once().await;
        let latency = began.elapsed();
        let counts = shared.phase.load(Ordering::Acquire) == MEASURING;
        match outcome {
            Ok(()) if counts => {
                own.fetch_add(1, Ordering::Relaxed);
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                // One of many is not missed where two come together.
                if let Ok(mut latencies) = shared.latencies.try_lock() {
                    latencies.saturating_record(micros);
                }
            }
            Ok(()) => {}
            Err(fault) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
                shared
                    .fault
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(fault);
                // What fails at once would else be tried as fast as the processor can.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Count(Arc<AtomicU64>, Outcome);

    impl Operation for Count {
        async fn once(&self) -> Outcome {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            self.1.clone()
        }
    }

    #[tokio::test]
    async fn as_many_as_ordered_are_sent() {
        let sent = Arc::new(AtomicU64::new(0));
        let mut callers = Callers::start(4, Some(1000), Count(Arc::clone(&sent), Ok(())));
        callers.begin();
        let done = callers.all(Duration::from_secs(10)).await;
        assert_eq!(
            (done.operations, done.failed, sent.load(Ordering::Relaxed)),
            (1000, 0, 1000)
        );
    }

    #[tokio::test]
    async fn what_is_done_in_the_warm_up_does_not_count() {
        let sent = Arc::new(AtomicU64::new(0));
        let callers = Callers::start(1, None, Count(Arc::clone(&sent), Ok(())));
        while sent.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(callers.end().await.operations, 0);
    }

    #[tokio::test]
    async fn faults_are_told() {
        let mut callers = Callers::start(
            1,
            Some(2),
            Count(Arc::default(), Err("no broker".to_owned())),
        );
        callers.begin();
        let done = callers.all(Duration::from_secs(10)).await;
        assert_eq!(
            (done.operations, done.failed, done.fault.as_deref()),
            (0, 2, Some("no broker"))
        );
    }
}
