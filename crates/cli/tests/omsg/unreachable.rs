//! A broker that cannot be reached: nothing listens on port 1.

use std::time::{Duration, Instant};

use crate::run::{run, run_at};

const URL: &str = "rabbit://joe:s3cret@127.0.0.1:1/";

/// Runs omsg; gives its exit status after checking that it told the broker and no password, and took no longer.
fn status(words: &[&str], limit: Duration) -> Option<i32> {
    let started = Instant::now();
    let ended = run_at(URL, words);
    assert!(
        started.elapsed() < limit,
        "{words:?} took {:?}",
        started.elapsed()
    );
    assert!(
        ended.errors.contains("127.0.0.1:1"),
        "{words:?}: {}",
        ended.errors
    );
    assert!(
        !ended.errors.contains("s3cret"),
        "{words:?}: {}",
        ended.errors
    );
    ended.status
}

#[test]
fn the_deadline_ends_attempts_to_connect() {
    let limit = Duration::from_secs(12);
    assert_eq!(
        status(&["call", "topic", "method", "--timeout", "2"], limit),
        Some(3)
    );
    assert_eq!(
        status(&["cast", "topic", "method", "--timeout", "2"], limit),
        Some(3)
    );
    assert_eq!(
        status(&["serve", "topic", "--timeout", "2"], limit),
        Some(3)
    );
    assert_eq!(status(&["demo", "--timeout", "2"], limit), Some(3));
}

#[test]
fn a_cast_without_retries_fails_at_once() {
    assert_eq!(
        status(
            &["cast", "topic", "method", "--retry", "0"],
            Duration::from_secs(12)
        ),
        Some(1)
    );
}

#[test]
fn a_host_that_does_not_exist_is_named() {
    let ended = run(&[
        "--url",
        "rabbit://no-such-host.invalid/",
        "cast",
        "t",
        "m",
        "--timeout",
        "3",
    ]);
    assert!(matches!(ended.status, Some(1 | 3)), "{ended:?}");
    assert!(
        ended.errors.contains("no-such-host.invalid"),
        "{}",
        ended.errors
    );
}
