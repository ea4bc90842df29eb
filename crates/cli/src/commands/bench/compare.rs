//! Compares a run with an older one and says what is better, worse, or no more than noise.
//!
//! A figure differs if no round of one run reaches any round of the other, and the medians lie more than three per cent
//! apart. By chance alone that happens to one figure of ten with three rounds in each run, and to one of 126 with five;
//! with fewer than three nothing is said.

use serde::Serialize;

use super::kind::{Manner, What};
use super::level::{Level, Round, spread, title};
use super::report::Report;
use super::workload::Size;
use crate::output::Row;

/// Differences up to here are never told.
const LEAST: f64 = 0.03;
/// Fewer rounds than this show no noise.
const ROUNDS: usize = 3;

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Better,
    Worse,
    Same,
    TooFewRounds,
}

/// One figure of one level, then and now.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    event: &'static str,
    what: What,
    #[serde(skip_serializing_if = "Manner::is_usual")]
    manner: Manner,
    callers: u32,
    size: Size,
    figure: &'static str,
    before: f64,
    now: f64,
    ratio: f64,
    noise: f64,
    verdict: Verdict,
}

impl Finding {
    /// Whether it got worse by more than the noise.
    pub(super) fn is_worse(&self) -> bool {
        self.verdict == Verdict::Worse
    }
}

impl Row for Finding {
    const TITLES: &'static [&'static str] = &[
        "load", "figure", "before", "now", "ratio", "noise", "verdict",
    ];

    fn cells(&self) -> Vec<String> {
        let number = |value: f64| {
            if value < 100.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            }
        };
        vec![
            title(self.what, self.manner, self.size, self.callers),
            self.figure.to_owned(),
            number(self.before),
            number(self.now),
            format!("{:.2}", self.ratio),
            format!("{:.0} %", 100.0 * self.noise),
            match self.verdict {
                Verdict::Better => "better",
                Verdict::Worse => "worse",
                Verdict::Same => "same",
                Verdict::TooFewRounds => "too few rounds",
            }
            .to_owned(),
        ]
    }
}

/// A figure: its name, how it is read, and whether more of it is better.
type Figure = (&'static str, fn(&Round) -> f64, bool);

const FIGURES: [Figure; 4] = [
    ("per second", |round| round.rate, true),
    ("p50 µs", |round| round.p50_us, false),
    ("p99 µs", |round| round.p99_us, false),
    (
        "CPU µs",
        |round| round.client_cpu_us + round.server_cpu_us.unwrap_or_default(),
        false,
    ),
];

/// All figures of the levels that both runs played.
pub(super) fn compare(older: &Report, newer: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    for now in &newer.omsg.levels {
        let is_same = |level: &&Level| {
            (level.what, level.manner, level.callers, level.size)
                == (now.what, now.manner, now.callers, now.size)
        };
        let Some(before) = older.omsg.levels.iter().find(is_same) else {
            continue;
        };
        let is_there =
            |figure: &&Figure| before.median(figure.1) > 0.0 || now.median(figure.1) > 0.0;
        let figures = FIGURES.iter().filter(is_there);
        findings.extend(figures.map(|figure| find(*figure, before, now)));
    }
    findings
}

fn find((name, figure, more_is_better): Figure, before: &Level, now: &Level) -> Finding {
    let (old, new) = (before.median(figure), now.median(figure));
    let noise = spread(&before.rounds, figure).max(spread(&now.rounds, figure));
    let ratio = if old > 0.0 { new / old } else { 1.0 };
    let verdict = if before.rounds.len().min(now.rounds.len()) < ROUNDS {
        Verdict::TooFewRounds
    } else if (ratio - 1.0).abs() <= LEAST || overlap(before, now, figure) {
        Verdict::Same
    } else if (ratio > 1.0) == more_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    Finding {
        event: "comparison",
        what: now.what,
        manner: now.manner,
        callers: now.callers,
        size: now.size,
        figure: name,
        before: old,
        now: new,
        ratio,
        noise,
        verdict,
    }
}

/// Whether a round of one run reaches a round of the other.
fn overlap(before: &Level, now: &Level, figure: fn(&Round) -> f64) -> bool {
    let range = |level: &Level| {
        level
            .rounds
            .iter()
            .map(figure)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
    };
    let ((old_low, old_high), (new_low, new_high)) = (range(before), range(now));
    old_low <= new_high && new_low <= old_high
}

#[cfg(test)]
mod tests {
    use super::super::level::tests::round;
    use super::*;

    fn level(rounds: &[(f64, f64)]) -> Level {
        let mut level = Level::new(What::Call, Manner::default(), 16, Size::Bytes(100));
        level.rounds = rounds
            .iter()
            .map(|(rate, p99)| round(*rate, *p99))
            .collect();
        level
    }

    fn verdicts(before: &Level, now: &Level) -> Vec<Verdict> {
        FIGURES
            .iter()
            .map(|figure| find(*figure, before, now).verdict)
            .collect()
    }

    #[test]
    fn only_what_exceeds_the_noise_of_both_runs_is_told() {
        use Verdict::{Better, Same, TooFewRounds, Worse};
        let steady = level(&[(100.0, 10.0), (101.0, 10.1), (99.0, 9.9)]);
        let faster = level(&[(130.0, 8.0), (131.0, 8.1), (129.0, 7.9)]);
        assert_eq!(verdicts(&steady, &faster), [Better, Better, Better, Same]);
        assert_eq!(verdicts(&faster, &steady), [Worse, Worse, Worse, Same]);
        let noisy = level(&[(60.0, 5.0), (120.0, 9.0), (160.0, 20.0)]);
        assert_eq!(verdicts(&steady, &noisy)[0], Same);
        let once = level(&[(200.0, 1.0)]);
        assert_eq!(verdicts(&steady, &once)[0], TooFewRounds);
        assert!(!find(FIGURES[0], &steady, &faster).is_worse());
    }
}
