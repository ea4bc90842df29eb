//! An AMQP 0-9-1 connection engine: a sans-IO state machine and one tokio task around it.
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::field_reassign_with_default))]

mod acks;
mod channel;
mod codec;
mod confirms;
mod connection;
mod consumers;
mod error;
mod handle;
mod handshake;
mod heartbeat;
#[cfg(any(test, feature = "__internals"))]
#[doc(hidden)]
pub mod internals;
mod methods;
mod options;
mod outlet;
mod properties;
mod slots;
mod table;
mod task;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
mod tls;

pub use crate::error::{Error, ErrorKind, Result, TlsFault};
pub use crate::handle::channel::Channel;
pub use crate::handle::confirm::Confirm;
pub use crate::handle::connection::Connection;
pub use crate::handshake::ServerProperties;
pub use crate::methods::{
    Confirmation, Consume, Consumer, Delivered, ExchangeDeclare, Publish, QueueDeclare, QueueInfo,
};
pub use crate::options::{ConnectOptions, Login};
pub use crate::properties::{EncodedProperties, Properties, PropertiesBuilder};
pub use crate::table::{Table, Value};
#[cfg(feature = "tls")]
pub use crate::tls::{TlsOptions, TlsVersions, Trust};
