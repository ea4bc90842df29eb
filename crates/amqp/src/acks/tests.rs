//! Tests of `acks`.
