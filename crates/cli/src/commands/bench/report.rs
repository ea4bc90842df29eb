//! What a run showed: rounds, levels, the table for people and the file that another run is compared with.
//!
//! The file has `series` and `summary` as the reference's simulator writes them, and beside them `omsg`, which holds the
//! rounds of each level.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use oslo_messaging::RawJson;
use serde::{Deserialize, Serialize};

use super::kind::{Manner, What};
use super::load::Counted;
use super::series::{Collected, Point, Summary};
use super::taken::Measured;
use super::usage::Usage;
use super::workload::Size;
use crate::exit::Problem;
use crate::output::Row;
use crate::settings::bench::{Bench, Place};
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
    /// Processors that this program may use.
    #[serde(default)]
    processors: usize,
    servers: u32,
    /// Where they run: `apart`, `here` or `foreign`.
    #[serde(default)]
    place: String,
    warm_up: f64,
    duration: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<f64>,
    pub(super) levels: Vec<Level>,
}

impl Run {
    /// In what else than the program this run differs from an older one: what a comparison does not make up for.
    pub(super) fn differences(&self, older: &Self) -> Vec<String> {
        fn differ<T: PartialEq + std::fmt::Debug>(name: &str, old: &T, new: &T) -> Option<String> {
            (old != new).then(|| format!("{name} {old:?}, now {new:?}"))
        }
        let unknown = older.place.is_empty();
        [
            differ("bus", &older.url, &self.url),
            differ("servers", &older.servers, &self.servers),
            differ("rate", &older.rate, &self.rate),
            differ("pause", &older.pause, &self.pause),
            differ("place of servers", &older.place, &self.place).filter(|_| !unknown),
            differ("processors", &older.processors, &self.processors).filter(|_| !unknown),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// One number of callers and size of messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) what: What,
    #[serde(default, skip_serializing_if = "Manner::is_usual")]
    pub(super) manner: Manner,
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
    /// Latencies; 0 where there are none, as of a queue that is emptied.
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    /// CPU time for each operation, callers and servers apart where they are processes of their own.
    pub(super) client_cpu_us: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server_cpu_us: Option<f64>,
    /// Context switches for each operation, and those of them that were asked for.
    pub(super) client_switches: f64,
    #[serde(default)]
    pub(super) client_voluntary_switches: f64,
    #[serde(default)]
    pub(super) server_switches: f64,
    #[serde(default)]
    pub(super) server_voluntary_switches: f64,
    pub(super) client_rss_kib: u64,
    pub(super) server_rss_kib: u64,
    /// TCP connections of each process.
    #[serde(default)]
    pub(super) client_connections: u64,
    #[serde(default)]
    pub(super) server_connections: u64,
}

impl Round {
    /// A round that did this and used that.
    pub(super) fn of(counted: &Counted, client: Usage, server: Usage, apart: bool) -> Self {
        let at = |quantile| counted.times.value_at_quantile(quantile) as f64 / 1e3;
        let failed = counted.failed.iter().filter(|(_, count)| **count > 0);
        Self {
            failed: failed
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: counted.times.max() as f64 / 1e3,
            ..Self::untimed(
                counted.operations,
                counted.length.as_secs_f64(),
                client,
                server,
                apart,
            )
        }
    }

    /// A round in which a queue was emptied. In one process its CPU is told as the callers', as with all others.
    pub(super) fn of_drain(measured: &Measured, client: Usage, apart: bool) -> Self {
        let (client, server) = match apart {
            true => (
                Usage {
                    rss_kib: client.rss_kib,
                    connections: client.connections,
                    ..Usage::default()
                },
                measured.usage,
            ),
            false => (measured.usage, Usage::default()),
        };
        Self {
            served: measured.messages,
            ..Self::untimed(measured.messages, measured.seconds, client, server, apart)
        }
    }

    fn untimed(operations: u64, seconds: f64, client: Usage, server: Usage, apart: bool) -> Self {
        // Counts stay far below where a float loses whole numbers.
        let each = |total: u64| total as f64 / operations.max(1) as f64;
        Self {
            operations,
            failed: BTreeMap::new(),
            seconds,
            rate: operations as f64 / seconds.max(1e-9),
            served: server.served,
            p50_us: 0.0,
            p90_us: 0.0,
            p99_us: 0.0,
            p999_us: 0.0,
            max_us: 0.0,
            client_cpu_us: each(client.cpu_ns) / 1e3,
            server_cpu_us: apart.then(|| each(server.cpu_ns) / 1e3),
            client_switches: each(client.switches),
            client_voluntary_switches: each(client.voluntary),
            server_switches: each(server.switches),
            server_voluntary_switches: each(server.voluntary),
            client_rss_kib: client.rss_kib,
            server_rss_kib: server.rss_kib,
            client_connections: client.connections,
            server_connections: server.connections,
        }
    }
}

impl Level {
    /// A level that nobody has played yet.
    pub(super) fn new(what: What, manner: Manner, callers: u32, size: Size) -> Self {
        Self {
            what,
            manner,
            callers,
            size,
            rounds: Vec::new(),
        }
    }

    /// What it is called while it is played.
    pub(super) fn title(&self) -> String {
        title(self.what, self.manner, self.size, self.callers)
    }

    /// What its file is called.
    pub(super) fn file_name(&self) -> String {
        let manner = self.manner.to_string().replace(' ', "-");
        let dash = if manner.is_empty() { "" } else { "-" };
        let (what, size, callers) = (self.what, self.size, self.callers);
        format!("{what}{dash}{manner}-{size}-{callers}")
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
                url: settings.url().to_string(),
                processors: std::thread::available_parallelism().map_or(0, usize::from),
                servers: settings.staff.count,
                place: match settings.place {
                    Place::Apart => "apart",
                    Place::Here => "here",
                    Place::Foreign => "foreign",
                }
                .to_owned(),
                warm_up: settings.warm_up.as_secs_f64(),
                duration: settings.duration.as_secs_f64(),
                messages: settings.messages,
                rate: settings.rate,
                pause: (!settings.pause.is_zero()).then_some(settings.pause.as_secs_f64()),
                levels,
            },
        }
    }

    /// As it is saved.
    ///
    /// # Errors
    /// A figure that JSON cannot hold.
    pub(super) fn to_json(&self) -> Result<String, Problem> {
        to_json(self)
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

/// What a level is called.
pub(super) fn title(what: What, manner: Manner, size: Size, callers: u32) -> String {
    let unit = match size {
        Size::Bytes(bytes) if bytes % 1024 != 0 || bytes == 0 => " B",
        Size::Bytes(_) | Size::Simulator => "",
    };
    let space = if manner.is_usual() { "" } else { " " };
    format!("{what}{space}{manner} {size}{unit} × {callers}")
}

/// What servers took, in the fields of the reference's simulator.
#[derive(Serialize)]
struct ServerReport<'a> {
    series: IndexMap<&'static str, Vec<Point>>,
    summary: &'a Summary,
}

/// What servers took, as it is saved.
///
/// # Errors
/// A figure that JSON cannot hold.
pub(super) fn server_json(points: Vec<Point>, summary: &Summary) -> Result<String, Problem> {
    to_json(&ServerReport {
        series: IndexMap::from([("server", points)]),
        summary,
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Problem> {
    let json = RawJson::from_value(value)
        .map_err(|fault| Problem::local(format!("the run cannot be written: {fault}")))?;
    Ok(format!("{}\n", json.as_str()))
}

/// Writes a file.
///
/// # Errors
/// Why it cannot be written.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(file, text)
        .map_err(|fault| Problem::local(format!("{} cannot be written: {fault}", file.display())))
}

/// By how much of their median the rounds differ at most from it: what the noise of the machine makes of a figure.
pub(super) fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64 + Copy) -> f64 {
    let level = Level {
        rounds: rounds.to_vec(),
        ..Level::new(What::Call, Manner::default(), 0, Size::Bytes(0))
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
        let client = Usage {
            cpu_ns: 1_000_000,
            rss_kib: 1,
            ..Usage::default()
        };
        let server = Usage {
            cpu_ns: 500_000,
            served: 100,
            ..Usage::default()
        };
        Round {
            rate,
            p50_us: p99_us / 2.0,
            p90_us: p99_us,
            p99_us,
            p999_us: p99_us,
            max_us: p99_us,
            ..Round::untimed(100, 1.0, client, server, true)
        }
    }

    #[test]
    fn a_queue_that_was_emptied_has_no_latencies() {
        let measured = Measured {
            messages: 900,
            seconds: 0.5,
            usage: Usage {
                cpu_ns: 9_000_000,
                ..Usage::default()
            },
        };
        let manner = Manner {
            batch: Some(100),
            ..Manner::default()
        };
        let mut level = Level::new(What::Listen, manner, 1, Size::Bytes(1 << 10));
        level.rounds = vec![Round::of_drain(&measured, Usage::default(), true)];
        let cells = Shown::of(&level).cells();
        assert_eq!(cells[..2], ["listen batch 100 1K × 1", "1800"]);
        assert_eq!(cells[3..6], ["–", "–", "0 + 10"]);
        assert_eq!(level.file_name(), "listen-batch-100-1K-1");
        let here = Round::of_drain(&measured, Usage::default(), false);
        assert_eq!((here.client_cpu_us, here.server_cpu_us), (10.0, None));
    }

    #[test]
    fn a_level_shows_medians_and_how_far_its_rounds_lie_apart() {
        let mut level = Level::new(What::Call, Manner::default(), 16, Size::Bytes(100));
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
