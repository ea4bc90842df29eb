//! The time of day, read seldom: two clocks cost a message twice as much as one.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// For so long the time of day goes with the other clock.
const TOGETHER: Duration = Duration::from_millis(100);

thread_local! {
    static READ: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
}

/// What time of day it is at `now`, which was read just now. Who sets the clock sees it after a tenth of a second.
pub(crate) fn clock(now: Instant) -> SystemTime {
    let read = READ.try_with(Cell::get).ok().flatten();
    if let Some((then, clock)) = read
        && let Some(since) = now.checked_duration_since(then)
        && since < TOGETHER
    {
        return clock + since;
    }
    let clock = SystemTime::now();
    // A thread that is being torn down reads it each time.
    let _ = READ.try_with(|read| read.set(Some((now, clock))));
    clock
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn both_clocks_go_together_for_a_while_and_are_then_compared_again() {
        let start = Instant::now();
        let first = clock(start);
        let soon = start + TOGETHER / 2;
        assert_eq!(clock(soon), first + TOGETHER / 2);
        // The one of the test has gone on by an hour, the time of day has not.
        let late = clock(start + Duration::from_secs(3600));
        assert!(late < first + Duration::from_secs(1800));
        // Before what was read last: by another runtime's clock, say.
        let early = clock(start);
        assert!(early < first + Duration::from_secs(1800));
    }
}
