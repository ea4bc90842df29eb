//! What `#[endpoint]` and `#[derive(RemoteError)]` take, what they say about the rest, and what the types rule out.
//!
//! The texts in `ui/*/*.stderr` are those of the pinned compiler; `TRYBUILD=overwrite` renews them.

#![cfg(feature = "macros")]

#[test]
fn blocks_that_fit_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

#[test]
fn blocks_that_do_not_fit_are_refused_with_a_reason() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

#[test]
fn what_happens_once_cannot_be_asked_for_twice_and_a_url_is_text() {
    trybuild::TestCases::new().compile_fail("tests/ui/once/*.rs");
}

#[test]
fn error_types_that_are_no_exceptions_are_refused_with_a_reason() {
    trybuild::TestCases::new().compile_fail("tests/ui/remote_fail/*.rs");
}

#[test]
fn traits_that_describe_no_client_are_refused_with_a_reason() {
    trybuild::TestCases::new().compile_fail("tests/ui/client_fail/*.rs");
}
