//! How often messages make the allocator work: arguments are written once and not parsed twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;

use allocation_counter::measure;
use oslo_messaging_proto::{
    CallHead, Context, MsgId, Reply, ReplyBody, Request, RequestHead, UniqueId, encode_request,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Small<'a> {
    host: &'a str,
    count: u32,
}

#[derive(Serialize, Deserialize)]
struct Large<'a> {
    #[serde(borrow)]
    a: &'a str,
    b: &'a str,
    c: &'a str,
    d: &'a str,
    e: &'a str,
    f: &'a str,
    g: &'a str,
    h: &'a str,
    numbers: [i64; 32],
    nested: Small<'a>,
}

fn large() -> Large<'static> {
    Large {
        a: "aaaaaaaa",
        b: "bbbbbbbbbbbbbbbb",
        c: "c",
        d: "dd",
        e: "eee",
        f: "ffff",
        g: "ggggg",
        h: "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
        numbers: [-1; 32],
        nested: Small {
            host: "node-7",
            count: 3,
        },
    }
}

fn head() -> RequestHead<'static> {
    RequestHead {
        method: "ping",
        namespace: Some("conductor"),
        version: Some("1.3"),
        call: Some(CallHead {
            msg_id: MsgId::from_random(1),
            reply_q: "reply_84f4bc134c804c66aca224453c47e48b",
            monitor: None,
            deadline: None,
            cancellable: false,
        }),
        unique_id: UniqueId::from_random(2),
    }
}

fn context(keys: usize) -> Context {
    let mut context = Context::new();
    for key in 0..keys {
        context
            .insert(format!("key_{key}"), &BTreeMap::from([("nested", key)]))
            .unwrap();
    }
    context
}

/// Allocations and reallocations of `work`, after a first run that fills what the thread keeps.
fn count<T>(work: impl Fn() -> T) -> u64 {
    drop(work());
    measure(|| drop(work())).count_total
}

#[test]
fn a_request_is_written_with_one_allocation_whatever_its_arguments() {
    let (empty, full) = (context(0), context(20));
    let text = "x".repeat(64 * 1024);
    assert_eq!(count(|| encode_request(&head(), &(), &empty)), 1);
    assert_eq!(
        count(|| encode_request(
            &head(),
            &Small {
                host: "h",
                count: 1
            },
            &empty
        )),
        1
    );
    assert_eq!(count(|| encode_request(&head(), &large(), &full)), 1);
    assert_eq!(
        count(|| encode_request(
            &head(),
            &Small {
                host: &text,
                count: 1
            },
            &full
        )),
        1
    );
}

#[test]
fn a_request_is_taken_in_with_two_allocations_whatever_its_arguments() {
    let small = encode_request(
        &head(),
        &Small {
            host: "h",
            count: 1,
        },
        &context(0),
    )
    .unwrap();
    let many = encode_request(&head(), &large(), &context(0)).unwrap();
    // The unescaped text, with the counter of those that share it, and what points into it.
    assert_eq!(count(|| Request::decode(&small)), 2);
    assert_eq!(count(|| Request::decode(&many)), 2);
    // One more for the list of up to 24 context entries.
    let with_context = encode_request(&head(), &large(), &context(12)).unwrap();
    assert_eq!(count(|| Request::decode(&with_context)), 3);
}

#[test]
fn arguments_that_borrow_are_read_without_an_allocation() {
    let small = encode_request(
        &head(),
        &Small {
            host: "h",
            count: 1,
        },
        &context(0),
    )
    .unwrap();
    let small = Request::decode(&small).unwrap();
    assert_eq!(
        count(|| small.args().unwrap().parse::<Small<'_>>().unwrap()),
        0
    );
    let many = encode_request(&head(), &large(), &context(0)).unwrap();
    let many = Request::decode(&many).unwrap();
    assert_eq!(
        many.args()
            .unwrap()
            .parse::<Large<'_>>()
            .unwrap()
            .nested
            .host,
        "node-7"
    );
    assert_eq!(
        count(|| many.args().unwrap().parse::<Large<'_>>().unwrap().numbers),
        0
    );
}

#[test]
fn a_reply_is_written_with_two_allocations_and_taken_in_with_one() {
    let write = || {
        ReplyBody::encode_result(&large())
            .unwrap()
            .finish("84f4bc134c804c66aca224453c47e48b", UniqueId::from_random(1))
    };
    assert_eq!(count(write), 2);
    let body = write().into_body();
    // The unescaped text, with the counter of those that share it.
    assert_eq!(count(|| Reply::decode(&body).unwrap()), 1);
    let reply = Reply::decode(&body).unwrap();
    assert_eq!(
        count(|| reply
            .result()
            .unwrap()
            .parse::<Large<'_>>()
            .unwrap()
            .numbers),
        0
    );
    assert_eq!(count(|| reply.msg_id()), 0);
}
