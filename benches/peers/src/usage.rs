//! What a process has used so far, by its own account.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use oslo_messaging_testkit::usage::status;
use serde::{Deserialize, Serialize};

use crate::machine;

/// What an allocator that counts has counted.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Allocations and reallocations.
    pub allocations: u64,
    /// Bytes in use.
    pub live: i64,
}

/// Reads an allocator that counts.
pub type HeapMeter = fn() -> Heap;

/// What a process has used so far, or in between.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// User and system time of all threads, in microseconds.
    pub(crate) cpu: f64,
    /// Context switches.
    pub(crate) voluntary: i64,
    pub(crate) involuntary: i64,
    /// Memory, in KiB.
    pub(crate) rss: u64,
    /// TCP connections to the broker.
    pub(crate) connections: u64,
    pub(crate) threads: u64,
    /// Messages taken; of servers.
    #[serde(default)]
    pub(crate) served: u64,
    /// Allocations and bytes in use, where they are counted.
    #[serde(default)]
    pub(crate) allocations: Option<u64>,
    #[serde(default)]
    pub(crate) live: Option<i64>,
}

impl Usage {
    /// Of this process; `port` is the broker's.
    pub(crate) fn now(port: u16, served: u64, heap: Option<HeapMeter>) -> Self {
        let spent = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu = spent.map_or(0, |spent| {
            spent.user_time().num_microseconds() + spent.system_time().num_microseconds()
        });
        let heap = heap.map(|meter| meter());
        let own = std::process::id();
        Self {
            cpu: cpu as f64,
            voluntary: spent.map_or(0, |spent| spent.voluntary_context_switches()),
            involuntary: spent.map_or(0, |spent| spent.involuntary_context_switches()),
            rss: status(own, "VmRSS:").unwrap_or_default(),
            connections: machine::connections(own, port),
            threads: status(own, "Threads:").unwrap_or_default(),
            served,
            allocations: heap.map(|heap| heap.allocations),
            live: heap.map(|heap| heap.live),
        }
    }

    /// What was used since `before`; memory, connections and threads are those of now.
    pub(crate) fn since(self, before: Self) -> Self {
        let between = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        Self {
            cpu: self.cpu - before.cpu,
            voluntary: self.voluntary - before.voluntary,
            involuntary: self.involuntary - before.involuntary,
            served: self.served.saturating_sub(before.served),
            allocations: between(self.allocations, before.allocations),
            ..self
        }
    }

    /// Context switches of both kinds.
    pub(crate) fn switches(self) -> f64 {
        (self.voluntary + self.involuntary) as f64
    }
}
