//! Levels of a run and the rounds they were played in: what was counted, and what it took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::{Manner, What};
use super::load::Counted;
use super::taken::Measured;
use super::usage::Usage;
use super::workload::Size;

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

/// What a level is called.
pub(super) fn title(what: What, manner: Manner, size: Size, callers: u32) -> String {
    let unit = match size {
        Size::Bytes(bytes) if bytes % 1024 != 0 || bytes == 0 => " B",
        Size::Bytes(_) | Size::Simulator => "",
    };
    let space = if manner.is_usual() { "" } else { " " };
    format!("{what}{space}{manner} {size}{unit} × {callers}")
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
        let apart = Round::of_drain(&measured, Usage::default(), true);
        assert_eq!((apart.p50_us, apart.rate), (0.0, 1800.0));
        assert_eq!(
            (apart.client_cpu_us, apart.server_cpu_us),
            (0.0, Some(10.0))
        );
        let here = Round::of_drain(&measured, Usage::default(), false);
        assert_eq!((here.client_cpu_us, here.server_cpu_us), (10.0, None));
    }

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_two() {
        let mut level = Level::new(What::Call, Manner::default(), 16, Size::Bytes(100));
        level.rounds = vec![
            round(90.0, 1.0),
            round(110.0, 1.0),
            round(100.0, 1.0),
            round(120.0, 1.0),
        ];
        assert!((level.median(|round| round.rate) - 105.0).abs() < 1e-9);
        let manner = Manner {
            batch: Some(100),
            ..Manner::default()
        };
        let level = Level::new(What::Listen, manner, 1, Size::Bytes(1 << 10));
        assert_eq!(level.title(), "listen batch 100 1K × 1");
        assert_eq!(level.file_name(), "listen-batch-100-1K-1");
    }
}
