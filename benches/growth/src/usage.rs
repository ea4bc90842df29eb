//! What this process has used so far.

use std::io;
use std::time::Duration;

use oslo_messaging_testkit::usage::{page_faults, status, wakeups};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// So much since the process began.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time of all threads, ended ones included, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Memory in use now, in KiB.
    pub(crate) rss_kib: u64,
    /// Voluntary context switches: how often a thread woke up.
    pub(crate) wakeups: u64,
    /// Pages of memory touched for the first time, or again after they were given back.
    pub(crate) faults: u64,
}

impl Usage {
    /// Of this process.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn own() -> io::Result<Self> {
        let own = std::process::id();
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let whole = Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        );
        Ok(Self {
            cpu_ns: u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX),
            rss_kib: status(own, "VmRSS:")?,
            wakeups: wakeups(own)?,
            faults: page_faults(own)?,
        })
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            rss_kib: self.rss_kib.saturating_sub(before.rss_kib),
            wakeups: self.wakeups.saturating_sub(before.wakeups),
            faults: self.faults.saturating_sub(before.faults),
        }
    }
}
