//! What a run showed: rounds, levels, the table for people and the file that another run is compared with.
//!
//! The file has `series` and `summary` as the reference's simulator writes them, and beside them `omsg`, which holds the
//! rounds of each level.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use oslo_messaging::RawJson;
use serde::{Deserialize, Serialize};

use super::load::Counted;
use super::series::{Collected, Point, Summary};
use super::usage::Usage;
use super::workload::{Size, What};
use crate::exit::Problem;
use crate::output::Row;
use crate::settings::Bench;
use crate::time::{now_utc, show_duration};

/// A run, as it is saved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) series: IndexMap<String, Vec<Point>>,
    pub(super) summary: IndexMap<String, Summary>,
    pub(super) omsg: Run,
}

/// What only omsg knows of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    version: String,
    finished: String,
    /// The bus, without passwords.
    url: String,
    servers: u32,
    warm_up: f64,
    duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    pub(super) levels: Vec<Level>,
}

/// One number of callers and size of messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) what: What,
    pub(super) callers: u32,
    pub(super) size: Size,
    pub(super) rounds: Vec<Round>,
}

/// A level, played once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    pub(super) operations: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) seconds: f64,
    /// Operations a second.
    pub(super) rate: f64,
    /// Messages that servers took in the same time.
    pub(super) served: u64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// CPU time for each operation, callers and servers apart where they are processes of their own.
    pub(super) client_cpu_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_us: Option<f64>,
    pub(super) client_switches: f64,
    pub(super) client_rss_kib: u64,
    pub(super) server_rss_kib: u64,
}

impl Round {
    /// A round that did this and used that.
    pub(super) fn of(counted: &Counted, client: Usage, server: Usage, apart: bool) -> Self {
        let operations = counted.operations();
        // Counts stay far below where a float loses whole numbers.
        let each = |total: u64| total as f64 / operations.max(1) as f64;
        let at = |quantile| counted.times.value_at_quantile(quantile) as f64 / 1e3;
        let failed = counted.failed.iter().filter(|(_, count)| **count > 0);
        Self {
            operations,
            failed: failed
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            seconds: counted.length.as_secs_f64(),
            rate: operations as f64 / counted.length.as_secs_f64().max(1e-9),
            served: server.served,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: counted.times.max() as f64 / 1e3,
            client_cpu_us: each(client.cpu_ns) / 1e3,
            server_cpu_us: apart.then(|| each(server.cpu_ns) / 1e3),
            client_switches: each(client.switches),
            client_rss_kib: client.rss_kib,
            server_rss_kib: server.rss_kib,
        }
    }
}

impl Level {
    /// A level that nobody has played yet.
    pub(super) fn new(what: What, callers: u32, size: Size) -> Self {
        Self {
            what,
            callers,
            size,
            rounds: Vec::new(),
        }
    }

    /// What it is called while it is played.
    pub(super) fn title(&self) -> String {
        title(self.what, self.size, self.callers)
    }

    /// What its file is called.
    pub(super) fn file_name(&self) -> String {
        format!("{}-{}-{}", self.what, self.size, self.callers)
    }

    /// Whether an operation failed while it was measured.
    pub(super) fn has_failures(&self) -> bool {
        self.rounds.iter().any(|round| !round.failed.is_empty())
    }

    /// The median over the rounds of a figure.
    pub(super) fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => 0.0,
            count if count % 2 == 1 => values[count / 2],
            count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
        }
    }
}

impl Report {
    /// A run of these levels.
    pub(super) fn new(settings: &Bench, levels: Vec<Level>, collected: Collected) -> Self {
        let (sent, answered, failed) = (
            Summary::of(&collected.sent),
            Summary::of(&collected.answered),
            Summary::of(&collected.failed),
        );
        let named = |name: &str| name.to_owned();
        Self {
            series: IndexMap::from([
                (named("client_0"), collected.sent),
                (named("error_0"), collected.failed),
                (named("round_trip_0"), collected.answered),
            ]),
            summary: IndexMap::from([
                (named("client"), sent),
                (named("error"), failed),
                (named("round_trip"), answered),
            ]),
            omsg: Run {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                finished: now_utc(),
                url: settings.url.to_string(),
                servers: settings.servers,
                warm_up: settings.warm_up.as_secs_f64(),
                duration: settings.duration.as_secs_f64(),
                rate: settings.rate,
                levels,
            },
        }
    }

    /// As it is saved.
    ///
    /// # Errors
    /// A figure that JSON cannot hold.
    pub(super) fn to_json(&self) -> Result<String, Problem> {
        let json = RawJson::from_value(self)
            .map_err(|fault| Problem::local(format!("the run cannot be written: {fault}")))?;
        Ok(format!("{}\n", json.as_str()))
    }

    /// One that was saved.
    ///
    /// # Errors
    /// Why the text is none, in words.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        let json = RawJson::from_text(text).map_err(|fault| fault.to_string())?;
        json.parse().map_err(|fault| fault.to_string())
    }
}

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
        let micros = |figure: fn(&Round) -> f64| {
            show_duration(Duration::from_secs_f64(
                (level.median(figure) / 1e6).max(0.0),
            ))
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

/// What a level is called.
pub(super) fn title(what: What, size: Size, callers: u32) -> String {
    match size {
        Size::Bytes(bytes) if bytes % 1024 != 0 => format!("{what} {size} B × {callers}"),
        Size::Bytes(_) | Size::Simulator => format!("{what} {size} × {callers}"),
    }
}

/// By how much of their median the rounds differ at most from it: what the noise of the machine makes of a figure.
pub(super) fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64 + Copy) -> f64 {
    let level = Level {
        rounds: rounds.to_vec(),
        ..Level::new(What::Call, 0, Size::Bytes(0))
    };
    let median = level.median(figure);
    if median <= 0.0 {
        return 0.0;
    }
    rounds
        .iter()
        .map(|round| (figure(round) - median).abs() / median)
        .fold(0.0, f64::max)
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
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn round(rate: f64, p99_us: f64) -> Round {
        Round {
            operations: 100,
            failed: BTreeMap::new(),
            seconds: 1.0,
            rate,
            served: 100,
            p50_us: p99_us / 2.0,
            p90_us: p99_us,
            p99_us,
            p999_us: p99_us,
            max_us: p99_us,
            client_cpu_us: 10.0,
            server_cpu_us: Some(5.0),
            client_switches: 0.0,
            client_rss_kib: 1,
            server_rss_kib: 1,
        }
    }

    #[test]
    fn a_level_shows_medians_and_how_far_its_rounds_lie_apart() {
        let mut level = Level::new(What::Call, 16, Size::Bytes(100));
        level.rounds = vec![round(90.0, 10.0), round(100.0, 20.0), round(120.0, 30.0)];
        let cells = Shown::of(&level).cells();
        assert_eq!(cells[..3], ["call 100 B × 16", "100", "20 %"]);
        assert_eq!(cells[4], "20.0 µs");
        assert_eq!(cells[5], "10 + 5");
        level.rounds.push(round(110.0, 40.0));
        assert!((level.median(|round| round.rate) - 105.0).abs() < 1e-9);
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
