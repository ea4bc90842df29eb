//! Tests of calls in flight, with the clock in hand.

#![allow(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]

use super::*;
use crate::wire::ids::UniqueId;
use crate::wire::reply::ReplyBody;

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u128) -> MsgId {
    MsgId::from_random(number)
}

fn reply(body: ReplyBody, id: MsgId) -> Reply {
    Reply::decode(
        &body
            .finish(&id.to_string(), UniqueId::from_random(9))
            .into_body(),
    )
    .unwrap()
}

fn result(value: u32, id: MsgId) -> Reply {
    reply(ReplyBody::encode_result(&value).unwrap(), id)
}

#[test]
fn a_reply_finishes_its_call_and_leaves_nothing_behind() {
    let start = Instant::now();
    let mut calls = Calls::new();
    for number in 0..100 {
        assert_eq!(
            calls.insert(id(number), start + SECOND, Some(SECOND), start, number),
            None
        );
    }
    assert_eq!(calls.len(), 100);
    for number in (0..100).rev() {
        let Handled::Finished(waiter, Outcome::Result(value)) =
            calls.handle_reply(start, &result(7, id(number)))
        else {
            panic!("call {number} goes on");
        };
        assert_eq!((waiter, value.as_str()), (number, "7"));
        assert!(matches!(
            calls.handle_reply(start, &result(7, id(number))),
            Handled::Unknown
        ));
    }
    assert!(calls.is_empty() && calls.calls.is_empty() && calls.timers.is_empty());
}

#[test]
fn a_removed_call_has_no_timer_and_gets_no_reply() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + SECOND, None, start, "one");
    calls.insert(id(2), start + SECOND, None, start, "two");
    assert_eq!(calls.remove(id(1)), Some("one"));
    assert_eq!(calls.remove(id(1)), None);
    assert_eq!(calls.timers.len(), 1);
    assert!(matches!(
        calls.handle_reply(start, &result(0, id(1))),
        Handled::Unknown
    ));
    assert_eq!(
        calls.handle_timeout(start + SECOND),
        [(id(2), "two", TimedOut::Total)]
    );
    assert_eq!(calls.next_timeout(), None);
}

#[test]
fn a_second_call_of_the_same_id_replaces_the_first() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + SECOND, None, start, "old");
    assert_eq!(
        calls.insert(id(1), start + 2 * SECOND, None, start, "new"),
        Some("old")
    );
    assert_eq!((calls.len(), calls.timers.len()), (1, 1));
    assert_eq!(calls.next_timeout(), Some(start + 2 * SECOND));
}

#[test]
fn calls_time_out_at_their_deadlines_the_earliest_first() {
    let start = Instant::now();
    let mut calls = Calls::new();
    for number in [3, 1, 2] {
        calls.insert(
            id(number.into()),
            start + number * SECOND,
            None,
            start,
            number,
        );
    }
    assert_eq!(calls.next_timeout(), Some(start + SECOND));
    assert!(calls.handle_timeout(start).is_empty());
    let late: Vec<u32> = calls
        .handle_timeout(start + 2 * SECOND)
        .iter()
        .map(|(_, waiter, _)| *waiter)
        .collect();
    assert_eq!(late, [1, 2]);
    assert_eq!(calls.next_timeout(), Some(start + 3 * SECOND));
}

#[test]
fn every_heartbeat_winds_the_monitor_up_but_not_the_deadline() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + 5 * SECOND, Some(2 * SECOND), start, ());
    assert_eq!(calls.next_timeout(), Some(start + 2 * SECOND));
    for second in 1..=3 {
        let now = start + second * SECOND;
        assert!(matches!(
            calls.handle_reply(now, &reply(ReplyBody::heartbeat(), id(1))),
            Handled::Progress
        ));
        assert_eq!(
            calls.next_timeout(),
            Some((now + 2 * SECOND).min(start + 5 * SECOND))
        );
        assert_eq!(calls.timers.len(), 1);
    }
    assert_eq!(
        calls.handle_timeout(start + 5 * SECOND),
        [(id(1), (), TimedOut::Total)]
    );
}

#[test]
fn a_call_without_a_sign_of_life_fails_by_its_monitor() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + 30 * SECOND, Some(SECOND), start, ());
    assert_eq!(
        calls.handle_timeout(start + SECOND),
        [(id(1), (), TimedOut::Monitor)]
    );
}

#[test]
fn a_heartbeat_nobody_asked_for_changes_nothing() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + SECOND, None, start, ());
    assert!(matches!(
        calls.handle_reply(start, &reply(ReplyBody::heartbeat(), id(1))),
        Handled::Progress
    ));
    assert_eq!(calls.next_timeout(), Some(start + SECOND));
    assert!(matches!(
        calls.handle_reply(start, &reply(ReplyBody::null(), id(1))),
        Handled::Finished((), Outcome::Result(value)) if value.is_null()
    ));
}

#[test]
fn a_failure_finishes_a_call_and_one_that_cannot_be_read_does_too() {
    let start = Instant::now();
    let mut calls = Calls::new();
    calls.insert(id(1), start + SECOND, None, start, ());
    let failure = Failure::builtin("ValueError", "m");
    let Handled::Finished((), Outcome::Failure(read)) =
        calls.handle_reply(start, &reply(ReplyBody::failure(&failure), id(1)))
    else {
        panic!("no failure");
    };
    assert_eq!(read, failure);
    calls.insert(id(2), start + SECOND, None, start, ());
    let body = format!(
        r#"{{"failure": "[]", "ending": true, "_msg_id": "{}"}}"#,
        id(2)
    );
    let handled = calls.handle_reply(start, &Reply::decode(body.as_bytes()).unwrap());
    assert!(matches!(
        handled,
        Handled::Finished((), Outcome::Malformed(FailureError::NotAnObject))
    ));
}

#[test]
fn draining_gives_every_waiter_back_once() {
    let start = Instant::now();
    let mut calls = Calls::new();
    for number in 0..10 {
        calls.insert(id(number), start + SECOND, None, start, number);
    }
    for (_, waiter) in calls.iter_mut() {
        *waiter += 100;
    }
    *calls.get_mut(id(3)).unwrap() += 100;
    let mut waiters: Vec<u128> = calls.drain().map(|(_, waiter)| waiter).collect();
    waiters.sort_unstable();
    assert_eq!(waiters, [100, 101, 102, 104, 105, 106, 107, 108, 109, 203]);
    assert!(calls.is_empty() && calls.next_timeout().is_none());
}
