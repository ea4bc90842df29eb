//! What a process has used so far: CPU time, memory, context switches.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// CPU time of all threads, user and system, in nanoseconds.
    pub(super) cpu_ns: u64,
    /// Memory in use, in KiB; 0 where the system does not tell.
    pub(super) rss_kib: u64,
    /// Context switches of all threads that still run; 0 where the system does not tell.
    pub(super) switches: u64,
    /// Messages taken; of servers only.
    pub(super) served: u64,
}

impl Usage {
    /// What this process has used.
    pub(super) fn of_process() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        );
        Self {
            cpu_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
            rss_kib: rss_kib().unwrap_or_default(),
            switches: switches().unwrap_or_default(),
            served: 0,
        }
    }

    /// What was used between `before` and now; memory is what is in use now.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            rss_kib: self.rss_kib,
            switches: self.switches.saturating_sub(before.switches),
            served: self.served.saturating_sub(before.served),
        }
    }
}

fn rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmRSS:")
}

fn switches() -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end while it is looked at.
        let Ok(status) = std::fs::read_to_string(thread.ok()?.path().join("status")) else {
            continue;
        };
        sum += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        sum += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
    }
    Some(sum)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_cpu_time() {
        let before = Usage::of_process();
        let mut sum = 0_u64;
        while Usage::of_process().since(before).cpu_ns < 5_000_000 {
            sum = (0..10_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        let after = Usage::of_process();
        assert!(after.cpu_ns - before.cpu_ns >= 5_000_000, "{sum}");
        #[cfg(target_os = "linux")]
        assert!(after.rss_kib > 100 && after.switches > 0, "{after:?}");
    }

    #[test]
    fn fields_of_a_status_are_found_by_their_whole_name() {
        let status =
            "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\nVmRSS:\t  128 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(128));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(2));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "Threads:"), None);
    }
}
