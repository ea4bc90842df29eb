//! Two Rust peers under load while the broker or its connections fail: nothing is lost, nothing runs twice.

#[path = "../common/mod.rs"]
mod common;

mod cuts;
mod load;
mod replies;
mod restart;

use std::time::Duration;

const RATE: u64 = 200;
/// So long that a broker which comes back slowly, on a busy machine, is back in time for nearly all.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Within this much of the broker accepting connections, calls must flow again.
const RECOVERY: Duration = Duration::from_secs(2);

/// One test at a time: each loads the machine, and times are measured.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
