//! `bench-peers`: measures, and plays the Rust peers.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench_peers::main(None)
}
