//! `omsg bench` and `omsg bench-server` as they were typed.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::{seconds, seconds_or_zero};
use crate::commands::bench::{Size, What};

/// Callers of a level,
pub(crate) const CALLERS: RangeInclusive<i64> = 1..=100_000;
/// messages of each of them or in a queue,
pub(crate) const MESSAGES: RangeInclusive<u64> = 1..=1_000_000_000;
/// how often a level is played,
pub(crate) const ROUNDS: RangeInclusive<i64> = 1..=1000;
/// notifications handled together,
pub(crate) const BATCH: RangeInclusive<i64> = 1..=65_535;
/// and servers or listeners, with none for those that are there.
pub(crate) const SERVERS: RangeInclusive<i64> = 0..=1000;

/// `omsg bench`
#[derive(clap::Args)]
#[command(after_help = "\
Every combination of --callers and --size is a level; all levels are played --rounds times in random order, and the table \
shows medians. `spread` is how far a round lies from the median: what the noise of the machine makes of the figure. CPU is \
the time of all threads for each operation, callers + servers. On the memory bus all is one process.

With --rate, messages are sent when they are due, and latencies count from then.

notify measures sending while listeners take along; with --held they wait until the level is over. listen fills a queue with \
--messages notifications while its listeners wait, and measures how fast these then take them, the first tenth left out; \
with --live it measures how long a notification takes from its sender to its listener.

--size simulator draws sizes as the load simulator of Python's oslo.messaging does, and what --save writes has its fields. \
To load servers that are there already, such as that simulator's rpc-server, or `omsg bench-server` on another host:
  omsg bench call --servers 0 --topic profiler_topic

With --compare and without WHAT, the older run is repeated: what is not said otherwise is as it was then. A figure differs if no round of one run reaches any of the other; the exit status is 1 if one got worse.")]
pub(crate) struct Bench {
    /// What to measure [default with --compare: what was measured then, in the same way]
    #[arg(value_enum, required_unless_present = "compare")]
    pub(crate) what: Option<What>,

    /// How many callers send at once; several numbers are several levels [default: 1,16,64]
    #[arg(long, value_name = "N,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(CALLERS))]
    pub(crate) callers: Vec<u32>,

    /// Size of the content in bytes, such as 100, 64K or 1M, or `simulator`; several are several levels [default: 100]
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    pub(crate) size: Vec<Size>,

    /// How long a level is measured each time [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,

    /// How long it runs before that [default: 0.5]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero)]
    pub(crate) warm_up: Option<Duration>,

    /// Instead of --duration and --warm-up: how many messages each caller sends; with listen, how many the queue is
    /// filled with [default with listen: 50000, and no more than 64 MiB]
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(MESSAGES))]
    pub(crate) messages: Option<u64>,

    /// How often each level is played [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(ROUNDS))]
    pub(crate) rounds: Option<u32>,

    /// Messages a second of all callers together [default: as many as they can]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,

    /// How long a caller rests after each message [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero)]
    pub(crate) pause: Option<Duration>,

    /// notify: through the notifier's buffer, where nobody waits for the broker
    #[arg(long)]
    pub(crate) buffered: bool,

    /// notify: listeners take nothing while it is measured; mind the broker's memory
    #[arg(long)]
    pub(crate) held: bool,

    /// listen: take notifications while they are sent
    #[arg(long)]
    pub(crate) live: bool,

    /// listen: handle so many together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(BATCH))]
    pub(crate) batch: Option<u32>,

    /// How many servers or listeners to start; 0 uses those that are there [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(SERVERS))]
    pub(crate) servers: Option<u32>,

    /// Run the servers or listeners in this process, too
    #[arg(long)]
    pub(crate) one_process: bool,

    /// Topic [default: one of its own, which goes with the run]
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// With --servers 0: topics, or topics and servers, that callers are told off to in turn
    #[arg(
        long,
        value_name = "TOPIC[.SERVER],…",
        value_delimiter = ',',
        conflicts_with = "topic"
    )]
    pub(crate) target: Vec<String>,

    /// Exchange [default: one of its own; with --servers 0 the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// With --servers 0: tell the servers when the load begins and ends, so that they end with it
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) sync: Option<Sync>,

    /// How long to wait for the broker at the start, and for each message
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) timeout: Duration,

    /// How long to keep the connections when all is done
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "0")]
    pub(crate) exit_wait: Duration,

    /// Save all rounds as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Compare with a run that was saved
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// Compare this saved run with that of --compare, and measure nothing
    #[arg(long, value_name = "FILE", requires = "compare", conflicts_with_all = ["what", "save", "histograms"])]
    pub(crate) saved: Option<PathBuf>,

    /// Write a histogram of the latencies of each level into this folder, as HdrHistogram's plotters read it
    #[arg(long, value_name = "FOLDER")]
    pub(crate) histograms: Option<PathBuf>,
}

/// How servers are told that a load begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// One server of each target, by a call
    Call,
    /// All servers of each target, by a fanout
    Fanout,
}

/// `omsg bench-server`
#[derive(clap::Args)]
#[command(after_help = "\
It prints a line each second in which something came, and sums up at its end: after --for, at SIGINT or SIGTERM, or a \
second after the last load that announced itself (`omsg bench --sync`) is done.

The other side, on another host:
  omsg bench call --servers 0 --topic profiler_topic
  omsg bench notify --servers 0 --topic profiler_topic")]
pub(crate) struct BenchServer {
    /// Topic
    #[arg(long, default_value = "profiler_topic")]
    pub(crate) topic: String,

    /// Name of the server; of several, what their names begin with
    #[arg(long, value_name = "NAME", default_value = "profiler_server")]
    pub(crate) server: String,

    /// Exchange [default: the bus's own, `openstack`]
    #[arg(long)]
    pub(crate) exchange: Option<String>,

    /// Listen to notifications instead of answering requests
    #[arg(long)]
    pub(crate) listen: bool,

    /// Handle so many notifications together, or what came within 5 seconds
    #[arg(long, value_name = "N", requires = "listen", value_parser = clap::value_parser!(u32).range(BATCH))]
    pub(crate) batch: Option<u32>,

    /// Give each notification back once
    #[arg(long, requires = "listen", conflicts_with = "batch")]
    pub(crate) requeue: bool,

    /// How long each message is worked on
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "0")]
    pub(crate) wait: Duration,

    /// How many servers or listeners
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) servers: u32,

    /// End after so long
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,

    /// How long to wait for the broker
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub(crate) timeout: Duration,

    /// Save the series and its sum as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Work for the process at the other end of standard input
    #[arg(long, hide = true)]
    pub(crate) piped: bool,

    /// Notifications tell how long they took
    #[arg(long, hide = true)]
    pub(crate) live: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if is_rate(number) => Ok(number),
        _ => Err("expected a number of messages a second, such as 200".to_owned()),
    }
}

/// Whether so many messages can be sent a second.
pub(crate) fn is_rate(number: f64) -> bool {
    number > 0.0 && number <= 1e9
}
