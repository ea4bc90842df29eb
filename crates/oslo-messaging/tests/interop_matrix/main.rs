//! Every pair of a Python and a Rust peer over all access policies, combinations of version and namespace, serializers and
//! kinds of exceptions, on a real RabbitMQ; and Rust with Rust in memory.
//!
//! What is right is what a Python caller gets of a Python server: the same table of requests is put to each pair, and each must
//! give the same table of outcomes. One Python process serves and calls for a whole table.

#![cfg(feature = "macros")]

#[path = "../common/mod.rs"]
mod common;

mod dispatch;
mod exceptions;
mod pairs;
mod serializers;
mod values;
