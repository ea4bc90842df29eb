//! One batch on its way through a hall: handled, tried again after pauses, put away, given back at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};

use super::{Hall, Job, Settled};
use crate::driver::Delivery;
use crate::notify::repair::RetryPolicy;

/// Pauses before a dead letter that its bus did not take is tried again.
const BURY_AGAIN: RetryPauses = (Duration::from_millis(500), Duration::from_secs(30));

type RetryPauses = (Duration, Duration);

/// One batch on its way.
pub(super) struct Worker {
    pub(super) hall: Arc<Hall>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) end: watch::Receiver<Option<Instant>>,
}

impl Worker {
    pub(super) async fn work(mut self, batch: Vec<Delivery>, permit: OwnedSemaphorePermit) {
        let hall = Arc::clone(&self.hall);
        let mut permit = Some(permit);
        let mut jobs = {
            let _running = Gauge::raise(&hall.counters.running, batch.len());
            hall.admit(batch).await
        };
        let mut buried_in_vain = 0;
        loop {
            let mut left = Vec::new();
            {
                let _running = Gauge::raise(&hall.counters.running, jobs.len());
                let (dead, alive): (Vec<Job>, Vec<Job>) =
                    jobs.into_iter().partition(|job| job.dead);
                let outcomes = hall.handle(&alive.iter().collect::<Vec<_>>()).await;
                let concluded = alive.into_iter().zip(outcomes);
                for job in dead {
                    left.extend(hall.bury(job).await);
                }
                for (job, outcome) in concluded {
                    let Some(job) = hall.conclude(job, outcome) else {
                        continue;
                    };
                    match job.dead {
                        true => left.extend(hall.bury(job).await),
                        false => left.push(job),
                    }
                }
            }
            if left.is_empty() {
                return;
            }
            // Others may work while these wait.
            drop(permit.take());
            buried_in_vain += u32::from(left.iter().any(|job| job.dead));
            let pause = self.pause(&left, buried_in_vain);
            let _pausing = Gauge::raise(&hall.counters.pausing, left.len());
            let permits = Arc::clone(&self.permits);
            let again = async {
                sleep(pause).await;
                permits.acquire_owned().await.ok()
            };
            let end = async {
                // An error means that the owner is gone, which is the end as well.
                drop(self.end.wait_for(Option::is_some).await);
            };
            let again = tokio::select! {
                again = again => again,
                () = end => None,
            };
            let Some(again) = again else {
                return self.hand_back(left);
            };
            permit = Some(again);
            jobs = left;
        }
    }

    /// The bus is to hand them out again, elsewhere.
    fn hand_back(&self, jobs: Vec<Job>) {
        for job in jobs {
            self.hall.settle(job, Settled::Requeue);
        }
    }

    fn pause(&self, left: &[Job], buried_in_vain: u32) -> Duration {
        let failed = left.iter().map(|job| job.failed).max().unwrap_or(1);
        if left.iter().all(|job| job.dead) {
            let (first, most) = BURY_AGAIN;
            let policy = RetryPolicy::new(u32::MAX).pauses(first, most);
            return policy.pause(buried_in_vain, fastrand::f64());
        }
        match &self.hall.rules.retry {
            Some(policy) => policy.pause(failed, fastrand::f64()),
            None => Duration::ZERO,
        }
    }
}

/// Counts what is under way while it lives.
struct Gauge<'a>(&'a AtomicUsize, usize);

impl<'a> Gauge<'a> {
    fn raise(gauge: &'a AtomicUsize, by: usize) -> Self {
        gauge.fetch_add(by, Ordering::Relaxed);
        Self(gauge, by)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}
