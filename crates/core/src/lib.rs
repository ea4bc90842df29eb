#![doc = include_str!("../README.md")]

mod clock;
pub mod config;
pub mod context;
pub mod driver;
pub mod error;
pub mod events;
mod ids;
pub mod layer;
mod lock;
pub mod memory;
pub mod notify;
mod replies;
pub mod request_context;
pub mod rpc;
pub mod serializer;
mod server;
pub mod target;
pub mod transport;
mod two_part;
