//! RPC from the outside: over a driver that plays what a test tells it, and over the memory driver.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod answering;
mod batches;
mod calling;
mod cancelling;
mod client;
mod deadlines;
mod dispatch;
mod duplicates;
mod endpoints;
mod layers;
mod lost_queues;
mod memory;
mod policies;
mod replies;
mod scripted;
mod serializers;
mod server;
mod serving;
mod stop;
