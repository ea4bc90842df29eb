//! How levels are shown: as rows of a table for people, and as histograms for plotters.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::level::{Level, Round, spread};
use crate::output::Row;
use crate::time::show_duration;

/// A level as a row of the table: medians over its rounds.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    event: &'static str,
    #[serde(flatten)]
    level: &'a Level,
}

impl<'a> Shown<'a> {
    /// The row of `level`.
    pub(super) fn of(level: &'a Level) -> Self {
        Self {
            event: "level",
            level,
        }
    }
}

impl Row for Shown<'_> {
    const TITLES: &'static [&'static str] = &[
        "load",
        "per second",
        "spread",
        "p50",
        "p99",
        "CPU µs",
        "failed",
    ];

    fn cells(&self) -> Vec<String> {
        let level = self.level;
        let micros = |figure: fn(&Round) -> f64| match level.median(figure) {
            some if some > 0.0 => show_duration(Duration::from_secs_f64(some / 1e6)),
            _ => "–".to_owned(),
        };
        let cpu = level.median(|round| round.client_cpu_us);
        let cpu = if level
            .rounds
            .iter()
            .any(|round| round.server_cpu_us.is_some())
        {
            format!(
                "{cpu:.0} + {:.0}",
                level.median(|round| round.server_cpu_us.unwrap_or_default())
            )
        } else {
            format!("{cpu:.1}")
        };
        let failed: u64 = level
            .rounds
            .iter()
            .flat_map(|round| round.failed.values())
            .sum();
        vec![
            level.title(),
            format!("{:.0}", level.median(|round| round.rate)),
            format!("{:.0} %", 100.0 * spread(&level.rounds, |round| round.rate)),
            micros(|round| round.p50_us),
            micros(|round| round.p99_us),
            cpu,
            failed.to_string(),
        ]
    }
}

/// A histogram in the text form that its plotters read: milliseconds, quantile, count so far, and 1/(1-quantile).
pub(super) fn percentiles(times: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in times.iter_quantiles(5) {
        let (value, quantile) = (
            step.value_iterated_to() as f64 / 1e6,
            step.quantile_iterated_to(),
        );
        let count = times.count_between(0, step.value_iterated_to());
        // Writing to a String cannot fail.
        let _ = if quantile < 1.0 {
            writeln!(
                text,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            )
        } else {
            writeln!(text, "{value:12.3} {quantile:2.12} {count:10}")
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
        times.mean() / 1e6,
        times.stdev() / 1e6,
        times.max() as f64 / 1e6,
        times.len()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::kind::{Manner, What};
    use super::super::level::tests::round;
    use super::super::workload::Size;
    use super::*;

    #[test]
    fn a_level_shows_medians_and_how_far_its_rounds_lie_apart() {
        let mut level = Level::new(What::Call, Manner::default(), 16, Size::Bytes(100));
        level.rounds = vec![round(90.0, 10.0), round(100.0, 20.0), round(120.0, 30.0)];
        let cells = Shown::of(&level).cells();
        assert_eq!(cells[..3], ["call 100 B × 16", "100", "20 %"]);
        assert_eq!(cells[4], "20.0 µs");
        assert_eq!(cells[5], "10 + 5");
        level.rounds.iter_mut().for_each(|round| round.p99_us = 0.0);
        assert_eq!(Shown::of(&level).cells()[4], "–");
    }

    #[test]
    fn percentiles_are_written_for_plotters() {
        let mut times = Histogram::<u64>::new(3).expect("three digits are allowed");
        for millis in 1..=1000_u64 {
            times.record(millis * 1_000_000).expect("it grows");
        }
        let text = percentiles(&times);
        let line = text
            .lines()
            .find(|line| line.contains(" 0.500000000000 "))
            .expect("the median");
        let value: f64 = line
            .split_whitespace()
            .next()
            .expect("a value")
            .parse()
            .expect("a number");
        assert!((499.0..502.0).contains(&value), "{line}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
