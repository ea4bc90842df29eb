//! Notifications from the outside, over the bus in memory and over one that the test holds up.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod batches;
mod failures;
mod listening;
mod sinks;
mod stopping;
mod support;
mod telling;
