//! RPC from the outside: over a driver that plays what a test tells it, and over the memory driver.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod acknowledging;
mod answering;
mod asked;
mod batches;
mod calling;
mod cancelling;
mod client;
mod contexts;
mod deadlines;
mod dispatch;
mod duplicates;
mod endpoints;
mod executors;
mod handles;
mod hooks;
mod journal;
mod layers;
mod limits;
mod logging;
mod lost_queues;
mod memory;
mod open;
mod policies;
mod replies;
mod scripted;
mod serializers;
mod server;
mod serving;
mod stop;
