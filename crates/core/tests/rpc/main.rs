//! RPC from the outside: over a driver that plays what a test tells it, and over the memory driver.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod client;
mod endpoints;
mod memory;
mod scripted;
mod server;
