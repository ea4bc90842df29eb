//! `bench-peers-counting`: the same program on an allocator that counts, for allocations a call.

use std::alloc::System;
use std::process::ExitCode;

use bench_peers::Heap;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn heap() -> Heap {
    let stats = ALLOCATOR.stats();
    let grown = i64::try_from(stats.bytes_allocated).unwrap_or(i64::MAX);
    let freed = i64::try_from(stats.bytes_deallocated).unwrap_or(i64::MAX);
    Heap {
        allocations: (stats.allocations + stats.reallocations) as u64,
        live: grown - freed,
    }
}

fn main() -> ExitCode {
    bench_peers::main(Some(heap))
}
