//! Runs made up line by line, and what must be said of them.

use super::*;
use crate::fault::Fault;
use crate::players::{Peer, Rates};
use crate::stage::Topology;

const TIMEOUT: Duration = Duration::from_secs(10);

fn plan() -> Plan {
    Plan {
        fault: Fault::Kill,
        peer: Peer::Rust,
        topology: Topology::Single,
        rates: Rates {
            calls: 1.0,
            casts: 0.0,
            fanouts: 1.0,
            timeout: TIMEOUT,
        },
    }
}

/// Times in tenths of a second from here on.
fn at(tenths: u64) -> u64 {
    100 * SECOND + tenths * SECOND / 10
}

fn call(id: u64, start: u64, end: u64, outcome: &str) -> Entry {
    sent_by(Verb::Call, id, start, end, outcome)
}

fn sent_by(verb: Verb, id: u64, start: u64, end: u64, outcome: &str) -> Entry {
    Entry::Sent {
        verb,
        id,
        start: at(start),
        end: at(end),
        outcome: outcome.to_owned(),
    }
}

fn ran(verb: Verb, id: u64, tenths: u64) -> Entry {
    Entry::Ran {
        verb,
        id,
        at: at(tenths),
    }
}

fn probe(start: u64, end: u64, ok: bool) -> Entry {
    Entry::Probe {
        start: at(start),
        end: at(end),
        ok,
    }
}

fn served(name: &str, entries: Vec<Entry>) -> Served {
    Served {
        name: name.to_owned(),
        killed: false,
        entries,
    }
}

fn seen(client: Vec<Entry>, servers: Vec<Served>, probes: Vec<Entry>) -> Seen {
    Seen {
        client,
        servers,
        probes,
        fault: (at(10), at(20)),
        end: at(100),
        timeout: TIMEOUT,
    }
}

/// A client that succeeds every second from 0 to 10, ids 1 to 11.
fn steady() -> (Vec<Entry>, Vec<Entry>) {
    let calls = (0..=10).map(|n| call(n + 1, n * 10, n * 10, OK)).collect();
    let runs = (0..=10).map(|n| ran(Verb::Call, n + 1, n * 10)).collect();
    (calls, runs)
}

#[test]
fn an_undisturbed_run_meets_every_goal() {
    let (calls, runs) = steady();
    let outcome = judge(plan(), &seen(calls, vec![served("one", runs)], vec![]));
    assert!(outcome.is_good(), "{outcome:?}");
    assert_eq!((outcome.calls, outcome.succeeded), (11, 11));
    assert!((outcome.gap - 1.0).abs() < 1e-9, "{}", outcome.gap);
}

#[test]
fn a_call_may_fail_only_if_the_broker_was_away_until_its_timeout() {
    let (mut calls, mut runs) = steady();
    // Away from 1.0 to 3.0 s, so this one had seven seconds left.
    calls.push(call(20, 10, 110, "Timeout"));
    runs.push(ran(Verb::Call, 20, 10));
    let away = |to| {
        vec![
            probe(0, 1, true),
            probe(10, 11, false),
            probe(to - 1, to, true),
        ]
    };
    let servers = || vec![served("one", runs.clone())];
    let short = judge(plan(), &seen(calls.clone(), servers(), away(30)));
    assert_eq!(short.goal_failed, Goal::Missed);
    assert_eq!(short.failed.get("Timeout"), Some(&1));
    // Away until 10.5 s: half a second before its timeout is less than the grace.
    let long = judge(plan(), &seen(calls, servers(), away(105)));
    assert_eq!((long.excused, long.goal_failed), (1, Goal::Met));
}

#[test]
fn a_success_after_the_timeout_is_told() {
    let (mut calls, _) = steady();
    calls.push(call(20, 0, 105, OK));
    calls.push(call(21, 0, 120, OK));
    let outcome = judge(plan(), &seen(calls, vec![], vec![]));
    assert_eq!((outcome.succeeded, outcome.late), (13, 1));
}

#[test]
fn work_in_the_hands_of_a_killed_server_is_excused() {
    let (mut calls, runs) = steady();
    calls.push(call(20, 10, 110, "Timeout"));
    calls.push(call(21, 10, 110, "Timeout"));
    let mut killed = served("one", vec![ran(Verb::Call, 20, 10)]);
    killed.killed = true;
    let outcome = judge(
        plan(),
        &seen(calls, vec![killed, served("two", runs)], vec![]),
    );
    assert_eq!((outcome.excused, outcome.never_ran), (1, 1));
    assert_eq!(outcome.goal_failed, Goal::Missed, "the other never ran");
}

#[test]
fn a_second_run_counts_unless_the_broker_flagged_it() {
    let (calls, runs) = steady();
    let again = vec![
        ran(Verb::Call, 1, 30),
        ran(Verb::Call, 2, 30),
        Entry::Again { id: 2 },
    ];
    let servers = vec![served("one", runs), served("two", again)];
    let outcome = judge(plan(), &seen(calls, servers, vec![]));
    assert_eq!((outcome.twice, outcome.twice_unflagged), (2, 1));
    assert_eq!(outcome.goal_twice, Goal::Missed);
}

#[test]
fn a_gap_may_be_a_second_longer_than_the_outage() {
    let (mut calls, runs) = steady();
    calls.retain(|entry| !matches!(entry, Entry::Sent { id: 3..=6, .. }));
    // Success at 1.0 s and then at 6.0 s.
    let probes = |to| vec![probe(12, 13, false), probe(to, to, true)];
    let servers = || vec![served("one", runs.clone())];
    let slow = judge(plan(), &seen(calls.clone(), servers(), probes(50)));
    assert_eq!((slow.gap, slow.outage), (5.0, 3.8));
    assert_eq!(slow.goal_gap, Goal::Missed);
    let quick = judge(plan(), &seen(calls.clone(), servers(), probes(53)));
    assert_eq!(quick.goal_gap, Goal::Met);
    // One that never comes back is a gap to the end.
    calls.truncate(2);
    let dead = judge(plan(), &seen(calls, servers(), probes(53)));
    assert_eq!((dead.gap, dead.goal_gap), (9.0, Goal::Missed));
}

#[test]
fn fanouts_are_missed_server_by_server() {
    let (mut calls, runs) = steady();
    calls.extend((0..=10).map(|n| sent_by(Verb::Fanout, n, n * 10, n * 10, OK)));
    let (again, regular) = (calls.clone(), runs.clone());
    let heard = |missing: &[u64]| -> Vec<Entry> {
        let numbers = (0..=10).filter(|n| !missing.contains(n));
        numbers.map(|n| ran(Verb::Fanout, n, n * 10)).collect()
    };
    let mut one = runs;
    one.extend(heard(&[4, 5]));
    let servers = vec![served("one", one), served("two", heard(&[]))];
    let outcome = judge(plan(), &seen(calls, servers, vec![]));
    assert_eq!((outcome.fanouts, outcome.fanouts_missed), (11, 2));
    assert_eq!(outcome.fanout_gap, 3.0);
    assert!(
        outcome.is_good(),
        "three seconds may be what a repair takes"
    );

    let mut deaf = regular;
    deaf.extend(heard(&[3, 4, 5, 6, 7, 8, 9, 10]));
    let outcome = judge(plan(), &seen(again, vec![served("one", deaf)], vec![]));
    assert_eq!(outcome.goal_fanouts, Goal::Missed);
    assert!(!outcome.is_good());
}
