//! Test helpers of oslo-messaging: real brokers, a TCP proxy that fails on demand, Python peers, recorded vectors.
//!
//! Nothing here is published and nothing here knows a driver: tests of any crate may depend on it.
//!
//! | module | what a test gets from it |
//! |---|---|
//! | [`rabbit`] | a virtual host of its own on the shared broker of the run, or a private node to stop, kill and pause |
//! | [`proxy`] | a TCP proxy to put between a client and a broker: cut, refuse, pause, delay |
//! | [`python`] | servers and clients of Python's oslo.messaging in a process driven from the test |
//! | [`vectors`] | the scenarios recorded from oslo.messaging, as plain structs |
//! | [`process`] | ports, programs and processes: what the others stand on |

pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbit;
pub mod vectors;

/// The environment variable which turns "skipped, no service" into a failure, so that no run can skip unseen.
pub const REQUIRE_SERVICES: &str = "OSLO_TEST_REQUIRE_SERVICES";

/// Says in one uncaptured line that a test was skipped and why.
///
/// # Panics
///
/// When [`REQUIRE_SERVICES`] is set to `1`: a run that must have its services fails instead.
pub fn skip(test: &str, reason: &str) {
    use std::io::Write;

    let required = std::env::var(REQUIRE_SERVICES).is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{test}: {reason}, and {REQUIRE_SERVICES}=1 forbids to skip"
    );
    // Not eprintln!: the test harness would swallow it when the test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}: {test}");
}
