//! What a process has used so far: CPU time, memory, context switches, TCP connections.

use std::collections::HashSet;
use std::fs;
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
    /// Those of them that the threads asked for.
    pub(super) voluntary: u64,
    /// TCP connections in force now; 0 where the system does not tell.
    pub(super) connections: u64,
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
        let (voluntary, forced) = switches().unwrap_or_default();
        Self {
            cpu_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
            rss_kib: rss_kib().unwrap_or_default(),
            switches: voluntary + forced,
            voluntary,
            connections: connections().unwrap_or_default(),
            served: 0,
        }
    }

    /// What was used between `before` and now; memory and connections are what is in use now.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            rss_kib: self.rss_kib,
            switches: self.switches.saturating_sub(before.switches),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            connections: self.connections,
            served: self.served.saturating_sub(before.served),
        }
    }
}

fn rss_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmRSS:")
}

/// Those the threads asked for, and those they did not.
fn switches() -> Option<(u64, u64)> {
    let (mut voluntary, mut forced) = (0, 0);
    for thread in fs::read_dir("/proc/self/task").ok()? {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(thread.ok()?.path().join("status")) else {
            continue;
        };
        voluntary += field(&status, "voluntary_ctxt_switches:").unwrap_or_default();
        forced += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or_default();
    }
    Some((voluntary, forced))
}

/// Sockets of this process that are established TCP connections.
fn connections() -> Option<u64> {
    let mut own = HashSet::new();
    for file in fs::read_dir("/proc/self/fd").ok()? {
        // The one that reads the directory is gone when it is looked at.
        let Ok(link) = fs::read_link(file.ok()?.path()) else {
            continue;
        };
        let name = link.to_string_lossy();
        let inode = name
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        own.extend(inode.map(str::to_owned));
    }
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    Some(
        tables
            .iter()
            .map(|table| established(table, &own))
            .sum::<usize>() as u64,
    )
}

/// How many lines of such a table are connections in force with one of these inodes.
fn established(table: &str, own: &HashSet<String>) -> usize {
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some("01") && fields.nth(5).is_some_and(|inode| own.contains(inode))
    };
    table.lines().skip(1).filter(is_one).count()
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

    #[cfg(target_os = "linux")]
    #[test]
    fn only_connections_in_force_of_this_process_count() {
        let own = HashSet::from(["77".to_owned(), "78".to_owned()]);
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 78 1
   1: 0100007F:A1B2 0100007F:1628 01 00000000:00000000 00:00000000 00000000     0        0 77 1
   2: 0100007F:A1B4 0100007F:1628 01 00000000:00000000 00:00000000 00000000     0        0 79 1
";
        assert_eq!(established(table, &own), 1);
        let before = connections().expect("the system tells");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let ours = std::net::TcpStream::connect(address).expect("it listens");
        let theirs = listener.accept().expect("it was connected to");
        // Other tests of this process may connect meanwhile, too.
        assert!(connections().expect("the system tells") >= before + 2);
        drop((ours, theirs));
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
