//! Heartbeats: what was agreed, when to send one, when the peer counts as dead.

use std::time::{Duration, Instant};

/// The interval both sides keep, in seconds; 0 is off.
///
/// Wire facts, section 2: our 0 wins; a broker that proposes 0 gets our wish; otherwise the smaller one.
pub(crate) fn negotiate(ours: u16, theirs: u16) -> u16 {
    match (ours, theirs) {
        (0, _) => 0,
        (ours, 0) => ours,
        (ours, theirs) => ours.min(theirs),
    }
}

/// What a look at the clock asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Quiet,
    Send,
    Dead,
}

/// Signs of life of both sides.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Option<Duration>,
    rate: u32,
    sent: Instant,
    received: Instant,
}

impl Heartbeat {
    /// Off until [`start`](Self::start).
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        Self {
            interval: None,
            rate: rate.max(1),
            sent: now,
            received: now,
        }
    }

    pub(crate) fn start(&mut self, seconds: u16, now: Instant) {
        self.interval = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        (self.sent, self.received) = (now, now);
    }

    /// Any frame sent counts.
    pub(crate) fn handle_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Any byte received counts.
    pub(crate) fn handle_received(&mut self, now: Instant) {
        self.received = now;
    }

    /// When the last byte came.
    pub(crate) fn received(&self) -> Instant {
        self.received
    }

    /// How long the peer has said nothing.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.received)
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let interval = self.interval?;
        Some((self.sent + interval / self.rate).min(self.received + 2 * interval))
    }

    pub(crate) fn handle_timeout(&self, now: Instant) -> Beat {
        let Some(interval) = self.interval else {
            return Beat::Quiet;
        };
        if now >= self.received + 2 * interval {
            Beat::Dead
        } else if now >= self.sent + interval / self.rate {
            Beat::Send
        } else {
            Beat::Quiet
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agreed_interval_follows_the_rule_of_the_python_peer() {
        for (ours, theirs, agreed) in [
            (0, 60, 0),
            (60, 0, 60),
            (60, 30, 30),
            (10, 30, 10),
            (0, 0, 0),
        ] {
            assert_eq!(negotiate(ours, theirs), agreed);
        }
    }

    #[test]
    fn a_heartbeat_is_due_a_third_of_the_interval_after_the_last_frame() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut beat = Heartbeat::new(3, start);
        assert_eq!(beat.next_timeout(), None);
        beat.start(60, start);
        assert_eq!(beat.next_timeout(), Some(at(20)));
        assert_eq!(beat.handle_timeout(at(19)), Beat::Quiet);
        assert_eq!(beat.handle_timeout(at(20)), Beat::Send);
        beat.handle_sent(at(15));
        assert_eq!(beat.next_timeout(), Some(at(35)));
    }

    #[test]
    fn two_silent_intervals_are_death() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut beat = Heartbeat::new(3, start);
        beat.start(60, start);
        beat.handle_received(at(10));
        beat.handle_sent(at(125));
        assert_eq!(beat.next_timeout(), Some(at(130)));
        assert_eq!(beat.handle_timeout(at(129)), Beat::Quiet);
        assert_eq!(beat.handle_timeout(at(130)), Beat::Dead);
    }
}
