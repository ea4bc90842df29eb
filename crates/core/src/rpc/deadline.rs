//! Until when callers wait: how that is written into a request, what a server makes of it, and how handlers see it.
//!
//! A request says how long its caller waits (the bus's expiry) and, if a client of this library sent it, at which time of day
//! the wait ends. The first counts from the receipt and does not see the time the request spent on the bus; the second does,
//! but needs clocks that agree. So the second may only shorten the first, and a time that has passed already when the request
//! arrives is not believed: the bus drops what has expired, hence the clocks disagree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::Either;
use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// The time of day `wait` after `now`, in milliseconds since 1970.
pub(crate) fn millis_after(now: SystemTime, wait: Duration) -> Option<u64> {
    let since = now.checked_add(wait)?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// When the caller of a request stops waiting: `received` at this moment and this time of day, kept by the bus for `expiry`,
/// by the caller's word until `told`.
pub(crate) fn of_request(
    received: (Instant, SystemTime),
    expiry: Option<Duration>,
    told: Option<u64>,
) -> Option<Instant> {
    let (at, clock) = received;
    let left = told
        .and_then(|told| UNIX_EPOCH.checked_add(Duration::from_millis(told)))
        .and_then(|until| until.duration_since(clock).ok())
        .filter(|left| !left.is_zero());
    let left = match (expiry, left) {
        (Some(expiry), Some(left)) => expiry.min(left),
        (expiry, left) => expiry.or(left)?,
    };
    at.checked_add(left)
}

/// Runs a handler for a caller that waits until `deadline`, if that is known. Not an `async fn`, which would have room for the
/// handler twice.
pub(crate) fn within<F: Future>(
    deadline: Option<Instant>,
    handler: F,
) -> impl Future<Output = F::Output> {
    match deadline {
        Some(deadline) => Either::Left(DEADLINE.scope(deadline, handler)),
        None => Either::Right(handler),
    }
}

/// The moment at which the caller stops waiting whose request the current task serves.
///
/// `None` outside of handlers, in tasks that a handler spawned, and for casts and other requests that do not tell.
///
/// ```
/// use oslo_messaging_core::rpc::deadline;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // No handler, hence nobody who waits.
/// assert_eq!(deadline::current(), None);
/// # }
/// ```
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}

/// How long the caller will go on waiting whose request the current task serves; zero once it has stopped, `None` as for
/// [`current`]. For work that is worth nothing afterwards.
///
/// ```
/// use oslo_messaging_core::rpc::deadline;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(deadline::remaining(), None);
/// # }
/// ```
pub fn remaining() -> Option<Duration> {
    current().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn the_callers_word_shortens_the_expiry_and_is_not_believed_when_it_has_passed() {
        let (at, clock) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(1_000_000));
        let of = |expiry, told| of_request((at, clock), expiry, told);
        let told = |seconds: u64| Some((1_000_000 + seconds) * 1000);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(MINUTE), None), Some(at + MINUTE));
        assert_eq!(
            of(Some(MINUTE), told(10)),
            Some(at + Duration::from_secs(10))
        );
        assert_eq!(of(Some(MINUTE), told(3600)), Some(at + MINUTE));
        assert_eq!(of(None, told(10)), Some(at + Duration::from_secs(10)));
        // The clocks disagree.
        assert_eq!(of(Some(MINUTE), Some(5)), Some(at + MINUTE));
        assert_eq!(of(None, Some(5)), None);
        assert_eq!(of(Some(MINUTE), Some(u64::MAX)), Some(at + MINUTE));
    }

    #[test]
    fn a_wait_becomes_a_time_of_day_unless_no_clock_can_say_it() {
        let now = UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(millis_after(now, Duration::from_millis(1)), Some(1001));
        assert_eq!(millis_after(now, Duration::MAX), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_sees_how_long_its_caller_waits() {
        assert_eq!(remaining(), None);
        let until = Instant::now() + MINUTE;
        within(Some(until), async {
            assert_eq!((current(), remaining()), (Some(until), Some(MINUTE)));
            tokio::time::sleep(2 * MINUTE).await;
            assert_eq!(remaining(), Some(Duration::ZERO));
        })
        .await;
        within(None, async { assert_eq!(current(), None) }).await;
    }
}
