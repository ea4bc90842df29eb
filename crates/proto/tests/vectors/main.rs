//! Tests against what was recorded from Python's oslo.messaging and others on a real broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod bodies;
mod support;
mod tolerance;
