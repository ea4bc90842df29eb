//! What `#[endpoint]` takes, and what it says about the rest.
//!
//! The texts in `ui/fail/*.stderr` are those of the pinned compiler; `TRYBUILD=overwrite` renews them.

#![cfg(feature = "macros")]

#[test]
fn blocks_that_fit_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

#[test]
fn blocks_that_do_not_fit_are_refused_with_a_reason() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
