//! The command line of the orchestrator.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

/// Measures this library beside Python's oslo.messaging, lapin and amqprs on the broker that OSLO_TEST_RABBIT_URL names.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench-peers", version)]
pub(crate) struct Args {
    /// One round of short windows, and less of all else: some two minutes, good for a look.
    #[arg(long)]
    pub(crate) short: bool,
    /// Rounds; in each, all peers play every row, in an order drawn anew [default: 5, or 1 with --short].
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Length of a measured window, in seconds [default: 2.5, or 0.8 with --short].
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Only these rows.
    #[arg(long, value_delimiter = ',')]
    pub(crate) rows: Vec<Row>,
    /// Only these peers.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<Peer>,
    /// Seed of the order; drawn if not given, and told.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The document whose section between the markers is written anew after a run of all rows by all peers.
    #[arg(long)]
    pub(crate) document: Option<PathBuf>,
    /// Write the document after a short or partial run, too.
    #[arg(long)]
    pub(crate) write: bool,
    /// Where every sample goes, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// The program `omsg` whose cold start is measured.
    #[arg(long)]
    pub(crate) omsg: Option<PathBuf>,
    /// The commit that is measured, for the report.
    #[arg(long, default_value = "unknown")]
    pub(crate) commit: String,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// Calls of 100 bytes by 1, 16 and 64 callers.
    Calls,
    /// Calls of 64 KiB and 1 MiB by 16 callers.
    Large,
    /// Casts by 16 callers.
    Casts,
    /// Notifications emitted by 16 callers.
    Notify,
    /// Notifications drained by a listener.
    Drain,
    /// Fanout casts to ten servers.
    Fanout,
    /// Calls on the bus inside a process.
    Memory,
    /// Memory of further connections.
    More,
    /// A call of a process that starts for it.
    Cold,
    /// System calls and allocations a call.
    Syscalls,
    /// Frames and connections, counted by a relay.
    Frames,
    /// 10,000 calls in flight.
    Flight,
    /// A service without work.
    Idle,
}

/// Who plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Peer {
    Python,
    Lapin,
    Amqprs,
    Ours,
    /// Ours on a runtime of one thread.
    #[value(name = "ours-1")]
    OursOne,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [
        Self::Python,
        Self::Lapin,
        Self::Amqprs,
        Self::Ours,
        Self::OursOne,
    ];

    /// As the processes of the peers know it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Lapin => "lapin",
            Self::Amqprs => "amqprs",
            Self::Ours => "ours",
            Self::OursOne => "ours-1",
        }
    }

    /// As the tables name it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Python => "Python oslo.messaging",
            Self::Lapin => "lapin",
            Self::Amqprs => "amqprs",
            Self::Ours => "**this library**",
            Self::OursOne => "this library, one thread",
        }
    }
}

impl Args {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.short { 1 } else { 5 }).max(1)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
            .unwrap_or(if self.short { 0.8 } else { 2.5 })
            .clamp(0.1, 60.0)
    }

    pub(crate) fn wants(&self, row: Row) -> bool {
        self.rows.is_empty() || self.rows.contains(&row)
    }

    /// Where the report goes; nowhere if it is not worth keeping.
    pub(crate) fn writes(&self) -> Option<&Path> {
        let whole = !self.short && self.rows.is_empty() && self.peers.is_empty();
        self.document.as_deref().filter(|_| whole || self.write)
    }

    /// Those of `peers` that may play.
    pub(crate) fn among(&self, peers: &[Peer]) -> Vec<Peer> {
        let wanted = |peer: &Peer| self.peers.is_empty() || self.peers.contains(peer);
        peers.iter().copied().filter(wanted).collect()
    }
}

/// Reads the command line; ends the program when it asks for help or cannot be read.
pub(crate) fn read() -> Args {
    Args::parse()
}
