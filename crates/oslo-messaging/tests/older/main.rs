//! The older systems: the plain RPC over kombu, peers of Kilo and Liberty, and services as Mitaka ran them.

#![cfg(all(feature = "macros", feature = "rabbit"))]

#[path = "../common/mod.rs"]
mod common;

mod kombu;
mod plain;
mod releases;
mod services;
