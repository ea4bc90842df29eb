//! The demo on the memory bus, and what the other commands make of a bus that lives inside one process.

use std::time::Instant;

use serde_json::Value;

use crate::run::run;

#[test]
fn the_demo_shows_every_step_and_a_load() {
    let ended = run(&["demo", "--load", "0.4"]);
    assert_eq!(
        (ended.status, ended.errors.as_str()),
        (Some(0), ""),
        "{}",
        ended.out
    );
    for word in [
        "memory://",
        "call",
        "named server",
        "cast",
        "fanout",
        "remote error",
        "timeout",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    assert!(
        ended.out.contains("add(a=20, b=22) gave 42"),
        "{}",
        ended.out
    );
    assert!(
        ended
            .out
            .contains("NodeNotFound of omsg.demo: no node is called node-7"),
        "{}",
        ended.out
    );
    assert!(
        ended
            .out
            .contains("3 of 3 servers saw it: alpha, beta, gamma"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("calls/s"), "{}", ended.out);
    assert!(
        ended.out.ends_with("All 7 steps worked.\n"),
        "{}",
        ended.out
    );
    assert!(!ended.out.contains('\x1b'), "no colours in a pipe");
    assert!(
        ended.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        ended.out
    );
}

#[test]
fn the_demo_is_records_for_programs() {
    let ended = run(&["--json", "demo", "--load", "0.4"]);
    assert_eq!(
        (ended.status, ended.errors.as_str()),
        (Some(0), ""),
        "{}",
        ended.out
    );
    let records = ended.records();
    let of = |event: &str| {
        records
            .iter()
            .filter(|record| record["event"] == event)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("step").len(), 6);
    assert!(
        of("step").iter().all(|step| step["ok"] == true),
        "{records:?}"
    );
    let callers: Vec<&Value> = of("load").iter().map(|level| &level["callers"]).collect();
    assert_eq!(callers, [1, 16, 64, 256]);
    assert!(
        of("load")
            .iter()
            .all(|level| level["calls"].as_u64() > Some(0)),
        "{records:?}"
    );
    assert_eq!(of("verdict")[0]["ok"], true);
}

#[test]
fn the_demo_can_be_coloured_by_wish() {
    let ended = run(&["demo", "--load", "0", "--color", "always"]);
    assert_eq!(ended.status, Some(0));
    assert!(
        ended.out.contains("\x1b[32m  ok  \x1b[0m"),
        "{:?}",
        ended.out
    );
}

#[test]
fn a_call_that_nobody_answers_times_out() {
    let started = Instant::now();
    let ended = run(&[
        "--url",
        "memory://",
        "call",
        "nobody",
        "hello",
        "--timeout",
        "0.3",
    ]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(3), ""),
        "{}",
        ended.errors
    );
    assert!(
        ended.errors.contains("nobody") && ended.errors.contains("inside one process"),
        "{}",
        ended.errors
    );
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn a_ping_that_nobody_answers_times_out_and_says_how_many() {
    let ended = run(&[
        "--url",
        "memory://",
        "--json",
        "ping",
        "nobody.node-1.example.org",
        "-c",
        "2",
        "--timeout",
        "0.2",
    ]);
    assert_eq!(ended.status, Some(3), "{ended:?}");
    let records = ended.records();
    assert_eq!(records.len(), 3);
    assert_eq!(
        (&records[0]["alive"], &records[0]["server"]),
        (&false.into(), &"node-1.example.org".into())
    );
    assert_eq!(
        (&records[2]["sent"], &records[2]["answered"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn a_mandatory_cast_that_nobody_would_get_fails() {
    let ended = run(&[
        "--url",
        "memory://",
        "cast",
        "nobody",
        "hello",
        "--mandatory",
    ]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(1), ""),
        "{}",
        ended.errors
    );
    assert!(ended.errors.contains("undeliverable"), "{}", ended.errors);
}
