//! Whether the process was forked after it had connected: then its connections are its parent's, and both would write into
//! them. Only said, as by the reference: nothing can be mended from within.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Asking the system for the process id costs as much as a tenth of a message, so it is not asked more often than this.
const LOOK: Duration = Duration::from_millis(1);

/// The process that connected.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    /// Its id; 0 before the first connection.
    pid: AtomicU32,
    /// The process that was told last.
    told: AtomicU32,
    /// When the process was looked at last.
    looked: Mutex<Option<Instant>>,
}

impl Owner {
    /// This process connected.
    pub(crate) fn note(&self) {
        self.pid.store(std::process::id(), Ordering::Relaxed);
    }

    /// Says so, once for each process, if another process connected than this one.
    pub(crate) fn check(&self) {
        let now = Instant::now();
        {
            let mut looked = lock(&self.looked);
            if looked.is_some_and(|at| now.duration_since(at) < LOOK) {
                return;
            }
            *looked = Some(now);
        }
        self.check_as(std::process::id());
    }

    fn check_as(&self, pid: u32) {
        let owner = self.pid.load(Ordering::Relaxed);
        if owner == 0 || owner == pid || self.told.swap(pid, Ordering::Relaxed) == pid {
            return;
        }
        tracing::warn!(
            owner,
            pid,
            "the process was forked after it had connected to RabbitMQ, and the connections are the parent's; make transports \
             after the fork"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::tests::log_of;

    #[test]
    fn a_process_that_was_forked_off_is_told_once() {
        let owner = Owner::default();
        let (own, child) = (std::process::id(), std::process::id() + 1);
        let log = log_of(|| {
            owner.check_as(child);
            owner.note();
            owner.check();
        });
        assert_eq!(log, "", "nobody had connected, or this process had");
        let log = log_of(|| {
            owner.check_as(child);
            owner.check_as(child);
        });
        assert_eq!(log.matches("forked").count(), 1, "{log}");
        let told = log_of(|| owner.check_as(child + 1));
        assert!(told.contains("forked") && told.contains(&own.to_string()));
    }
}
