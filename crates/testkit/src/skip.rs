//! The one way to leave a test whose services are missing: said aloud, and refused where they must be there.

use std::io::Write;

/// The environment variable which turns "skipped, no service" into a failure, so that no run can skip unseen.
pub const REQUIRE_SERVICES: &str = "OSLO_TEST_REQUIRE_SERVICES";

/// Says in one uncaptured line that a test was skipped and why.
///
/// # Panics
///
/// When [`REQUIRE_SERVICES`] is set to `1`: a run that must have its services fails instead.
pub fn skip(test: &str, reason: &str) {
    let required = std::env::var(REQUIRE_SERVICES).is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{test}: {reason}, and {REQUIRE_SERVICES}=1 forbids to skip"
    );
    // Not eprintln!: the test harness would swallow it when the test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}: {test}");
}
