//! Delays between attempts that grow (wire spec 19).

use std::time::Duration;

/// The delays before the second, third, … attempt: first `interval`, then `step` more each time, at most `cap`; each with
/// up to `splay` more by chance, so that many clients do not come at once.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_proto::Backoff;
///
/// let mut backoff = Backoff::default();
/// let delays: Vec<u64> = (0..4).map(|_| backoff.next(0.0).as_secs()).collect();
/// assert_eq!(delays, [1, 3, 5, 7]);
///
/// let second = Duration::from_secs(1);
/// let mut backoff = Backoff::new(second, second, 3 * second).splay(2 * second);
/// assert_eq!(backoff.next(0.5), 2 * second);
/// assert_eq!(backoff.attempts(), 1);
/// backoff.reset();
/// assert_eq!(backoff.attempts(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    interval: Duration,
    step: Duration,
    cap: Duration,
    splay: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays from `interval` on, `step` more each time, at most `cap`, without splay.
    pub const fn new(interval: Duration, step: Duration, cap: Duration) -> Self {
        Self {
            interval,
            step,
            cap,
            splay: Duration::ZERO,
            attempts: 0,
        }
    }

    /// Adds up to `splay` to every delay.
    #[must_use]
    pub const fn splay(mut self, splay: Duration) -> Self {
        self.splay = splay;
        self
    }

    /// The next delay. `random` is from 0 (inclusive) to 1 and chooses the splay.
    pub fn next(&mut self, random: f64) -> Duration {
        let grown = self.step.saturating_mul(self.attempts);
        let delay = self.interval.saturating_add(grown).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        // A NaN counts as 0.
        let random = if random > 0.0 { random.min(1.0) } else { 0.0 };
        delay.saturating_add(self.splay.mul_f64(random))
    }

    /// How many delays were given since the last [`reset`](Self::reset).
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts over, after an attempt succeeded.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The reference's: 1 s, 2 s more each time, at most 30 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(
            Duration::from_secs(1),
            Duration::from_secs(2),
            Duration::from_secs(30),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::default();
        let delays: Vec<u64> = (0..17).map(|_| backoff.next(0.0).as_secs()).collect();
        assert_eq!(
            delays,
            [
                1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 30, 30
            ]
        );
        assert_eq!(backoff.attempts(), 17);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_secs(), 1);
    }

    #[test]
    fn the_splay_is_added_to_every_delay_even_at_the_cap() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second, second).splay(second);
        assert_eq!(backoff.next(0.5), Duration::from_millis(1500));
        assert_eq!(backoff.next(7.0), Duration::from_secs(2));
        assert_eq!(backoff.next(-1.0), second);
        assert_eq!(backoff.next(f64::NAN), second);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        let mut backoff =
            Backoff::new(Duration::MAX, Duration::MAX, Duration::MAX).splay(Duration::MAX);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next(0.999), Duration::MAX);
        assert_eq!(backoff.attempts(), u32::MAX);
    }
}
