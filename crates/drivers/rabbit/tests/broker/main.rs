//! The driver against real brokers. Each test has a virtual host of its own; those that stop or starve
//! a broker have a broker of their own. Without one they are skipped, and say so.

#![allow(clippy::unwrap_used)] // tests

mod connecting;
mod messages;
mod queue_manager;
mod recovery;
mod streams;
mod supervision;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod topology;
mod urgent;
