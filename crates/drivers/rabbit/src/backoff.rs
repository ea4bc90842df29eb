//! How long to wait before the next attempt to connect, always jittered, so that the clients of a broker do not
//! come back as one.

use std::time::Duration;

use oslo_messaging_proto::state::backoff::Backoff;

use crate::config::RabbitConfig;
use crate::error::Hope;

/// The waits the options ask for.
pub(crate) struct Delays {
    after_loss: f64,
    splay: f64,
    longest: f64,
    slow: Backoff,
}

/// Failed rounds since the last connection.
pub(crate) struct Failures {
    slow: Backoff,
    starting: u32,
    refused: u32,
    /// Connections in a row that held only for a moment.
    brief: u32,
}

impl Delays {
    /// Closed handshakes in a row that still count as a broker that is starting.
    const STARTING_LIMIT: u32 = 120;

    /// Connections in a row that may hold only for a moment, as those to a broker on its way up.
    const BRIEF_LIMIT: u32 = 3;

    /// Refusals in a row that still count as somebody changing something.
    const REFUSED_LIMIT: u32 = 12;

    /// The waits of these options.
    pub(crate) fn new(config: &RabbitConfig) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let interval = seconds(config.rabbit_retry_interval);
        let step = seconds(config.rabbit_retry_backoff);
        let cap = seconds(config.rabbit_interval_max);
        Self {
            after_loss: config.kombu_reconnect_delay.min(0.25),
            splay: config.kombu_reconnect_splay,
            longest: cap.as_secs_f64(),
            slow: Backoff::new(interval, step, cap),
        }
    }

    /// No failure yet.
    pub(crate) fn fresh(&self) -> Failures {
        Failures {
            slow: self.slow.clone(),
            starting: 0,
            refused: 0,
            brief: 0,
        }
    }

    /// A connection was made.
    pub(crate) fn connected(&self, failures: &mut Failures) {
        let brief = failures.brief;
        *failures = Failures {
            brief,
            ..self.fresh()
        };
    }

    /// Before the first attempt after an established connection was lost. At once, more or less; but where connections
    /// that did not hold are made and lost in a row, ever later.
    pub(crate) fn after_loss(&self, failures: &mut Failures, held: bool) -> Duration {
        failures.brief = if held {
            0
        } else {
            failures.brief.saturating_add(1)
        };
        match failures.brief.saturating_sub(Self::BRIEF_LIMIT) {
            0 => self.between(0.0, self.after_loss),
            brief => {
                let doubled = 0.25 * 2_f64.powi(brief.min(16) as i32);
                let most = doubled.min(self.longest.max(self.after_loss));
                self.between(most / 2.0, most)
            }
        }
    }

    /// After a failed round: 0.3 to 1 s while nobody listens or the broker starts, else by the options.
    pub(crate) fn next(&self, failures: &mut Failures, hope: Hope) -> Duration {
        let starting = hope == Hope::Starting && failures.starting < Self::STARTING_LIMIT;
        failures.starting += u32::from(starting);
        if starting || hope == Hope::Soon {
            return self.between(0.3, 1.0);
        }
        let most = failures.slow.next(0.0).as_secs_f64();
        self.between(most / 2.0, most)
    }

    /// After a refused login or virtual host where it was granted before: within a second at first, then by half as much
    /// more each time.
    pub(crate) fn after_refusal(&self, failures: &mut Failures) -> Duration {
        let beyond = failures.refused.saturating_sub(Self::REFUSED_LIMIT);
        let most = match failures.refused {
            0 => 0.5,
            1 => 0.75,
            _ => 1.5_f64.powi(beyond.min(32) as i32).min(self.longest),
        };
        failures.refused = failures.refused.saturating_add(1);
        self.between(most / 2.0, most)
    }

    /// After a refused login or virtual host, for those who cannot give up.
    pub(crate) fn longest(&self) -> Duration {
        self.between(self.longest / 2.0, self.longest)
    }

    fn between(&self, least: f64, most: f64) -> Duration {
        let splay = self.splay * fastrand::f64();
        Duration::from_secs_f64(least + (most - least) * fastrand::f64() + splay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(query: &[(&str, &str)]) -> Delays {
        let pairs: Vec<_> = query
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Delays::new(&RabbitConfig::from_query(&pairs).unwrap())
    }

    fn seconds(wait: Duration) -> f64 {
        wait.as_secs_f64()
    }

    #[test]
    fn a_broker_that_listens_not_is_asked_again_within_a_second_however_long_it_takes() {
        let delays = delays(&[]);
        let mut failures = delays.fresh();
        for _ in 0..1_000 {
            let wait = seconds(delays.next(&mut failures, Hope::Soon));
            assert!((0.3..=1.0).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn a_broker_that_closes_every_handshake_is_not_asked_quickly_for_ever() {
        let delays = delays(&[("rabbit_retry_interval", "30")]);
        let mut failures = delays.fresh();
        for _ in 0..Delays::STARTING_LIMIT {
            assert!(seconds(delays.next(&mut failures, Hope::Starting)) <= 1.0);
        }
        assert!(seconds(delays.next(&mut failures, Hope::Starting)) >= 15.0);
    }

    #[test]
    fn other_waits_grow_by_the_options_up_to_the_longest_and_are_jittered() {
        let delays = delays(&[
            ("rabbit_retry_interval", "2"),
            ("rabbit_retry_backoff", "3"),
            ("rabbit_interval_max", "9"),
        ]);
        let mut failures = delays.fresh();
        for most in [2.0, 5.0, 8.0, 9.0, 9.0] {
            let wait = seconds(delays.next(&mut failures, Hope::Later));
            assert!((most / 2.0..=most).contains(&wait), "{wait} of {most}");
        }
        let many: Vec<Duration> = (0..8).map(|_| delays.longest()).collect();
        assert!(many.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn clients_that_lost_their_broker_together_come_back_spread_over_the_whole_wait() {
        let delays = delays(&[]);
        let fills = |draw: &mut dyn FnMut() -> Duration, least: f64, most: f64| {
            let mut tenths = [0; 10];
            for _ in 0..1_000 {
                let share = (seconds(draw()) - least) / (most - least);
                tenths[((share * 10.0) as usize).min(9)] += 1;
            }
            assert!(
                tenths.iter().all(|&tenth| (40..=200).contains(&tenth)),
                "{tenths:?}"
            );
        };
        fills(
            &mut || delays.after_loss(&mut delays.fresh(), true),
            0.0,
            0.25,
        );
        fills(
            &mut || delays.next(&mut delays.fresh(), Hope::Soon),
            0.3,
            1.0,
        );
        fills(
            &mut || delays.next(&mut delays.fresh(), Hope::Later),
            0.5,
            1.0,
        );
        fills(&mut || delays.longest(), 15.0, 30.0);
    }

    #[test]
    fn a_refusal_that_may_pass_is_asked_again_soon_and_then_ever_less() {
        let delays = delays(&[]);
        let mut failures = delays.fresh();
        let mut waits = vec![0.5, 0.75];
        waits.extend([1.0; Delays::REFUSED_LIMIT as usize - 1]);
        for most in waits.into_iter().chain([1.5, 2.25]) {
            let wait = seconds(delays.after_refusal(&mut failures));
            assert!((most / 2.0..=most).contains(&wait), "{wait} of {most}");
        }
        for _ in 0..100 {
            assert!(seconds(delays.after_refusal(&mut failures)) <= 30.0);
        }
        assert!(seconds(delays.after_refusal(&mut failures)) >= 15.0);
    }

    #[test]
    fn connections_that_do_not_hold_are_made_again_ever_less_often() {
        let delays = delays(&[]);
        let mut failures = delays.fresh();
        let mut lose = |held| {
            delays.connected(&mut failures);
            seconds(delays.after_loss(&mut failures, held))
        };
        for _ in 0..Delays::BRIEF_LIMIT {
            assert!(lose(false) <= 0.25, "that may happen");
        }
        for most in [0.5, 1.0, 2.0, 4.0] {
            let wait = lose(false);
            assert!((most / 2.0..=most).contains(&wait), "{wait} of {most}");
        }
        for _ in 0..100 {
            assert!(lose(false) <= 30.0);
        }
        assert!(lose(false) >= 15.0);
        assert!(lose(true) <= 0.25, "one that held is no failure");
    }

    #[test]
    fn splay_is_really_slept() {
        let delays = delays(&[
            ("kombu_reconnect_splay", "1000"),
            ("kombu_reconnect_delay", "0"),
        ]);
        let mut failures = delays.fresh();
        let waits = (0..16).map(|_| delays.after_loss(&mut failures, true));
        let longest = waits.max().unwrap();
        assert!(seconds(longest) > 10.0);
    }
}
