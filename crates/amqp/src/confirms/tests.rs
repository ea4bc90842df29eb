//! Tests of `confirms`.
