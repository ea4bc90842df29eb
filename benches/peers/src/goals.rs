//! The goals of the project for its speed, and what a run says of each.

use serde::Serialize;

use crate::args::Peer::{self, Lapin, Ours, Python};
use crate::series::Book;

/// A goal and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) number: &'static str,
    pub(crate) figure: &'static str,
    /// Python's figure, in the unit of ours, or lapin's where the goal is against lapin.
    pub(crate) python: Option<f64>,
    pub(crate) ours: Option<f64>,
    pub(crate) must: f64,
    pub(crate) aim: f64,
    pub(crate) unit: &'static str,
    pub(crate) met: Met,
}

/// Which mark was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Met {
    Aim,
    Must,
    Missed,
    /// It was not measured in this run.
    Unknown,
}

/// How a figure is to be read.
enum Read {
    /// Ours as a multiple of the other peer's in the same round.
    Times(&'static str, &'static str, Peer),
    /// Ours as it is, with Python's beside it.
    Plain(&'static str, &'static str, f64),
}

struct Goal(
    &'static str,
    &'static str,
    Read,
    f64,
    f64,
    &'static str,
    Better,
);

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

const C1: &str = "call, 1 caller";
const C16: &str = "call, 16 callers";
const C64: &str = "call, 64 callers";

/// The table of goals, in their order; must before aim.
const GOALS: &[Goal] = &[
    Goal(
        "1",
        "calls/s, 64 callers, × Python",
        Read::Times(C64, "rate", Python),
        15.0,
        20.0,
        "×",
        Better::More,
    ),
    Goal(
        "1",
        "calls/s, 16 callers, × Python",
        Read::Times(C16, "rate", Python),
        9.0,
        12.0,
        "×",
        Better::More,
    ),
    Goal(
        "1",
        "calls/s, 1 caller, × Python",
        Read::Times(C1, "rate", Python),
        4.5,
        5.5,
        "×",
        Better::More,
    ),
    Goal(
        "2",
        "calls/s, 64 callers, × lapin",
        Read::Times(C64, "rate", Lapin),
        1.5,
        2.0,
        "×",
        Better::More,
    ),
    Goal(
        "3",
        "client + server CPU a call, 64 callers",
        Read::Plain(C64, "cpu", 1.0),
        50.0,
        30.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "3",
        "client + server CPU a call, 1 caller",
        Read::Plain(C1, "cpu", 1.0),
        125.0,
        85.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "4",
        "broker's CPU a call, 64 callers",
        Read::Plain(C64, "broker_cpu", 1.0),
        70.0,
        62.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "5",
        "p50, 1 caller, share of Python's",
        Read::Times(C1, "p50", Python),
        0.20,
        0.16,
        "×",
        Better::Less,
    ),
    Goal(
        "5",
        "p99, 64 callers, share of Python's",
        Read::Times(C64, "p99", Python),
        0.15,
        0.08,
        "×",
        Better::Less,
    ),
    Goal(
        "6",
        "CPU a call of 64 KiB, 16 callers",
        Read::Plain("call, 64 KiB", "cpu", 1.0),
        220.0,
        130.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "6",
        "CPU a call of 1 MiB, 16 callers",
        Read::Plain("call, 1 MiB", "cpu", 0.001),
        3.3,
        2.0,
        "ms",
        Better::Less,
    ),
    Goal(
        "7",
        "confirmed casts/s, 16 callers, × Python",
        Read::Times("cast, 16 callers", "rate", Python),
        6.0,
        8.0,
        "×",
        Better::More,
    ),
    Goal(
        "8",
        "notifications/s, 16 callers, each confirmed, × Python",
        Read::Times("notify, 16 callers", "rate", Python),
        6.0,
        7.5,
        "×",
        Better::More,
    ),
    Goal(
        "8",
        "CPU a notification, each confirmed",
        Read::Plain("notify, 16 callers", "cpu", 1.0),
        25.0,
        14.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "9",
        "notifications drained/s, × Python",
        Read::Times("drain", "rate", Python),
        4.0,
        8.0,
        "×",
        Better::More,
    ),
    Goal(
        "10",
        "fanout to 10 servers, deliveries/s, × Python",
        Read::Times("fanout, 10 servers", "rate", Python),
        10.0,
        14.0,
        "×",
        Better::More,
    ),
    Goal(
        "10",
        "fanout, server's CPU a delivery",
        Read::Plain("fanout, 10 servers", "server_cpu", 1.0),
        25.0,
        12.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "11",
        "call in memory, 16 callers, CPU, by the goal without JSON",
        Read::Plain("in memory, 16 callers", "cpu", 1000.0),
        2500.0,
        1000.0,
        "ns",
        Better::Less,
    ),
    // Our bus always makes this check.
    Goal(
        "11",
        "call in memory, 16 callers, CPU, by the goal with a JSON check",
        Read::Plain("in memory, 16 callers", "cpu", 1000.0),
        4000.0,
        1800.0,
        "ns",
        Better::Less,
    ),
    Goal(
        "12",
        "call in memory, 1 caller, p50",
        Read::Plain("in memory, 1 caller", "p50", 1.0),
        20.0,
        5.0,
        "µs",
        Better::Less,
    ),
    Goal(
        "13",
        "memory of a client after 64 callers",
        Read::Plain(C64, "client_rss", 1.0),
        12.0,
        7.0,
        "MiB",
        Better::Less,
    ),
    Goal(
        "13",
        "memory of a further connection",
        Read::Plain("more", "rss_per_connection", 1.0),
        1.0,
        0.3,
        "MiB",
        Better::Less,
    ),
    Goal(
        "14",
        "a call by a process that starts for it",
        Read::Plain("cold", "milliseconds", 1.0),
        25.0,
        12.0,
        "ms",
        Better::Less,
    ),
    Goal(
        "15",
        "system calls a call, 64 callers, the busier side",
        Read::Plain("syscalls", "syscalls", 1.0),
        5.0,
        2.5,
        "",
        Better::Less,
    ),
    Goal(
        "15",
        "allocations a call, 64 callers, the busier side",
        Read::Plain("allocations", "allocations", 1.0),
        35.0,
        20.0,
        "",
        Better::Less,
    ),
    Goal(
        "16",
        "TCP connections a transport, 16 callers",
        Read::Plain("frames", "connections", 1.0),
        2.0,
        2.0,
        "",
        Better::Less,
    ),
    Goal(
        "16",
        "acknowledgements a call, 16 callers",
        Read::Plain("frames", "acks", 1.0),
        2.0,
        0.5,
        "",
        Better::Less,
    ),
    Goal(
        "17",
        "10,000 calls in flight: connections a side",
        Read::Plain("flight", "connections", 1.0),
        2.0,
        2.0,
        "",
        Better::Less,
    ),
    Goal(
        "17",
        "10,000 calls in flight: memory a call, the larger side",
        Read::Plain("flight", "kib_per_call", 1.0),
        4.0,
        2.0,
        "KiB",
        Better::Less,
    ),
    Goal(
        "18",
        "idle service: wake-ups/s beyond heartbeats",
        Read::Plain("idle", "wakeups", 1.0),
        1.0,
        0.0,
        "",
        Better::Less,
    ),
];

/// What the run says of each goal.
pub(crate) fn verdicts(book: &Book) -> Vec<Verdict> {
    GOALS.iter().map(|goal| judge(goal, book)).collect()
}

fn judge(Goal(number, figure, read, must, aim, unit, better): &Goal, book: &Book) -> Verdict {
    let (python, ours) = match read {
        Read::Times(row, figure, other) => {
            let ours = book.ratio(row, figure, Ours, *other);
            (book.ratio(row, figure, Python, *other), ours)
        }
        Read::Plain(row, figure, factor) => {
            let median = |peer| book.median(row, peer, figure).map(|value| value * factor);
            (median(Python), median(Ours))
        }
    };
    Verdict {
        number,
        figure,
        python,
        ours,
        must: *must,
        aim: *aim,
        unit,
        met: met(ours, *must, *aim, *better),
    }
}

fn met(ours: Option<f64>, must: f64, aim: f64, better: Better) -> Met {
    let Some(ours) = ours else {
        return Met::Unknown;
    };
    let reaches = |mark: f64| match better {
        Better::More => ours >= mark,
        Better::Less => ours <= mark,
    };
    match (reaches(aim), reaches(must)) {
        (true, _) => Met::Aim,
        (false, true) => Met::Must,
        (false, false) => Met::Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Sample;

    #[test]
    fn marks_are_read_in_the_direction_that_is_better() {
        assert_eq!(met(Some(16.0), 15.0, 20.0, Better::More), Met::Must);
        assert_eq!(met(Some(14.9), 15.0, 20.0, Better::More), Met::Missed);
        assert_eq!(met(Some(30.0), 50.0, 30.0, Better::Less), Met::Aim);
        assert_eq!(met(Some(51.0), 50.0, 30.0, Better::Less), Met::Missed);
        assert_eq!(met(None, 1.0, 1.0, Better::Less), Met::Unknown);
    }

    #[test]
    fn no_goal_is_easier_to_aim_at_than_to_meet() {
        for Goal(_, figure, _, must, aim, _, better) in GOALS {
            assert_eq!(met(Some(*aim), *must, *aim, *better), Met::Aim, "{figure}");
            assert_ne!(
                met(Some(*must), *must, *aim, *better),
                Met::Missed,
                "{figure}"
            );
        }
    }

    #[test]
    fn a_run_without_a_row_says_so() {
        let mut book = Book::default();
        book.add(C64, Ours, 0, Sample::from([("cpu", 40.0)]));
        let verdicts = verdicts(&book);
        let of = |figure: &str| {
            verdicts
                .iter()
                .find(|verdict| verdict.figure == figure)
                .map(|verdict| verdict.met)
        };
        assert_eq!(
            of("client + server CPU a call, 64 callers"),
            Some(Met::Must)
        );
        assert_eq!(
            of("client + server CPU a call, 1 caller"),
            Some(Met::Unknown)
        );
    }
}
