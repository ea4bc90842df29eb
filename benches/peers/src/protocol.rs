//! What the orchestrator and the processes of the peers say to each other: a line of JSON each.

use serde::{Deserialize, Serialize};

use crate::usage::Usage;

/// Environment variable with the URL of the broker.
pub(crate) const URL_VARIABLE: &str = "OSLO_TEST_RABBIT_URL";

/// How a peer's process is to play, as its last argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Topic of calls and casts, and of notifications.
    pub(crate) topic: String,
    /// RPC servers in the process, each under a name of its own.
    #[serde(default = "one")]
    pub(crate) servers: u32,
    /// Options of the driver, as the query of a URL has them; of ours and Python's.
    #[serde(default)]
    pub(crate) query: String,
}

fn one() -> u32 {
    1
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// A call to `echo`, which gives its argument back.
    Call,
    /// A cast to `note`, done when the broker has confirmed it.
    Cast,
    /// A cast to all servers, done when the broker has confirmed it.
    Fanout,
    /// A notification, done when the broker has confirmed it.
    Notify,
    /// A notification, done when the notifier has taken it; the load ends when all are confirmed.
    NotifyBuffered,
}

/// What a process is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Command {
    /// Closed loop: answers [`Answer::Began`] after the warm-up, then [`Answer::Done`].
    Load {
        what: What,
        callers: u32,
        bytes: usize,
        warm: f64,
        seconds: f64,
    },
    /// So many messages, as fast as `callers` can: [`Answer::Done`].
    Burst {
        what: What,
        callers: u32,
        bytes: usize,
        count: u64,
    },
    /// What was used so far: [`Answer::Usage`].
    Usage,
    /// Waits until a server has taken `count` messages since its start: [`Answer::Usage`], with fewer after `limit` seconds.
    Await { count: u64, limit: f64 },
    /// Begins to consume, and ends when `count` messages have been handled: [`Answer::Done`].
    Drain { count: u64, limit: f64 },
    /// Opens so many further transports and calls over each: [`Answer::Usage`].
    More { transports: u32 },
    /// Has `count` calls of `bytes` under way: [`Answer::Done`] when all are answered.
    Hold { count: u64, bytes: usize },
    /// Lets a server answer what [`Command::Hold`] sent: [`Answer::Usage`].
    Release,
    /// Calls on the bus inside the process: [`Answer::Done`].
    Memory { callers: u32, seconds: f64 },
}

/// What a process answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It can be asked.
    Ready,
    /// From now on it counts.
    Began,
    /// What was used so far.
    Usage(Usage),
    /// A piece of work is done.
    Done(Done),
    /// It cannot be done.
    Failed { why: String },
}

/// A piece of work that was done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Operations that succeeded,
    pub(crate) operations: u64,
    /// and those that did not.
    pub(crate) failed: u64,
    /// What the first of these said.
    #[serde(default)]
    pub(crate) fault: Option<String>,
    pub(crate) seconds: f64,
    /// Percentiles of the latency, in microseconds; 0 where none was taken.
    #[serde(default)]
    pub(crate) p50: f64,
    #[serde(default)]
    pub(crate) p99: f64,
    /// What the process used for it; memory, connections and threads at its end.
    pub(crate) used: Usage,
}
