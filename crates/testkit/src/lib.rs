//! What the tests of oslo-messaging share: real brokers, a TCP proxy that fails on demand, Python peers, recorded vectors.
//!
//! Nothing here is published and nothing here knows a driver: tests of any crate may depend on it, those below the core
//! without feature `conformance`.
//!
//! | module | what a test gets from it |
//! |---|---|
//! | [`rabbit`] | a virtual host of its own on the shared broker of the run, a private node to stop, kill and pause (of another release, too), or a cluster of three |
//! | [`proxy`] | a TCP proxy to put between a client and a broker: cut, refuse, pause, delay |
//! | [`python`] | servers and clients of Python's oslo.messaging in a process driven from the test |
//! | [`vectors`] | the scenarios recorded from oslo.messaging, as plain structs |
//! | `conformance` | (feature of that name) what every driver must do, as a suite over its transports |
//! | `kafka` | (feature of that name) a mock Kafka cluster, with TLS and logins in front of it if need be |
//! | [`certificates`] | an authority of the test's own and certificates it signs |
//! | [`skip()`] | the one way to leave a test that misses its services, refused in runs that must have them |
//! | [`process`] | ports, programs and processes: what the others stand on |
//! | [`usage`] | what a process has used so far |

pub mod certificates;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbit;
pub mod skip;
pub mod usage;
pub mod vectors;

pub use crate::skip::skip;
