//! Requests and reply queues that no Python client makes, but brokers and old peers do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::raw::{RawPeer, call, cast, envelope};
use crate::common::service::Journal;
use crate::common::{self, LONG, TOPIC, connect, serve};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_delivered_twice_runs_once_and_is_answered_once() {
    let Some((vhost, mut raw)) =
        RawPeer::start_or_skip("a_request_delivered_twice_runs_once").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;
    raw.declare_queue("reply_raw").await;
    raw.consume("reply_raw").await;

    // The copies of the first come while it runs.
    let slow = call(
        "slow",
        json!({"seconds": 0.3, "value": 1}),
        "a",
        "reply_raw",
    );
    for _ in 0..3 {
        raw.send(TOPIC, &slow).await;
    }
    assert_eq!(raw.next("reply_raw").await.inner["result"], json!(1));
    for body in [
        &slow,
        &cast("note", json!({"n": 1}), "b"),
        &cast("note", json!({"n": 1}), "b"),
    ] {
        raw.send(TOPIC, body).await;
    }
    // Without an id nothing can be told to be a copy.
    let nameless = envelope(&json!({"method": "note", "args": {"n": 2}}));
    raw.send(TOPIC, &nameless).await;
    raw.send(TOPIC, &nameless).await;
    raw.send(TOPIC, &call("whoami", json!({}), "c", "reply_raw"))
        .await;
    assert_eq!(raw.next("reply_raw").await.inner["result"], json!("rust-1"));
    journal.wait_for("note", 3).await;
    assert_eq!(journal.of("slow").len(), 1);
    assert_eq!(journal.of("note").len(), 3);
    assert_eq!(server.stats().duplicates, 4);
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_waits_for_a_queue_that_appears_late_and_others_are_served_meanwhile() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("a_reply_waits_for_a_queue").await else {
        return;
    };
    let transport = connect(&format!("{}?executor_thread_pool_size=1", vhost.url())).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;
    raw.declare_queue("reply_there").await;
    raw.consume("reply_there").await;

    raw.send(TOPIC, &call("add", json!({"a": 1}), "late", "reply_late"))
        .await;
    journal.wait_for("add", 1).await;
    // One handler at a time, and yet the next is served: offering a reply again holds nobody up.
    raw.send(TOPIC, &call("add", json!({"a": 2}), "there", "reply_there"))
        .await;
    assert_eq!(raw.next("reply_there").await.inner["result"], json!(3));

    raw.declare_queue("reply_late").await;
    raw.consume("reply_late").await;
    let reply = raw.next("reply_late").await;
    assert_eq!(
        (reply.inner["result"].clone(), reply.text("_msg_id")),
        (json!(2), "msg-late")
    );
    assert_eq!(
        raw.next_within("reply_late", Duration::from_millis(600))
            .await
            .map(|twice| twice.body),
        None
    );
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_a_queue_that_stays_away_is_given_up_and_its_name_remembered() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("a_reply_to_a_queue_that_stays_away").await
    else {
        return;
    };
    let query = "?kombu_missing_consumer_retry_timeout=1";
    let transport = connect(&format!("{}{query}", vhost.url())).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;

    let started = std::time::Instant::now();
    raw.send(TOPIC, &call("add", json!({"a": 1}), "gone-1", "reply_gone"))
        .await;
    common::eventually("the reply is given up", || {
        server.stats().replies_dropped == 1
    })
    .await;
    let waited = started.elapsed();
    assert!(
        (Duration::from_millis(900)..LONG / 2).contains(&waited),
        "offered for a second: {waited:?}"
    );

    // The name is known to be dead, so that the next reply to it is dropped though the queue is there again.
    raw.declare_queue("reply_gone").await;
    raw.consume("reply_gone").await;
    raw.declare_queue("reply_there").await;
    raw.consume("reply_there").await;
    raw.send(TOPIC, &call("add", json!({"a": 2}), "gone-2", "reply_gone"))
        .await;
    raw.send(TOPIC, &call("add", json!({"a": 3}), "there", "reply_there"))
        .await;
    assert_eq!(raw.next("reply_there").await.inner["result"], json!(4));
    common::eventually("the second is dropped", || {
        server.stats().replies_dropped == 2
    })
    .await;
    assert!(
        raw.next_within("reply_gone", Duration::from_millis(300))
            .await
            .is_none()
    );
    assert_eq!(journal.of("add").len(), 3, "all of them ran");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

/// Requests that were recorded at a Python server, with what it answered: ours must answer the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_form_of_a_request_is_answered_as_the_reference_answers_it() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("every_recorded_form_of_a_request").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let server = common::serve_recorded(&transport, &Journal::default()).await;
    raw.declare_queue("reply_raw").await;
    raw.consume("reply_raw").await;

    let recorded = common::vector("rpc_server_accepts");
    let mut played = 0;
    for step in common::steps(&recorded) {
        let name = step
            .name
            .strip_prefix("raw client: ")
            .unwrap_or_default()
            .to_owned();
        let Some(reply) = common::observed(&recorded, &name) else {
            continue;
        };
        let (sent, reply) = (step.sent_by_raw_peer()[0], &reply["reply"]);
        if reply.is_null() {
            continue;
        }
        raw.publish(common::as_raw_publish(sent)).await;
        let got = raw
            .next_within("reply_raw", LONG)
            .await
            .unwrap_or_else(|| panic!("{name}: no reply"));
        assert_eq!(got.inner["result"], reply["result"], "{name}");
        assert_eq!(got.inner["_msg_id"], reply["_msg_id"], "{name}");
        assert_eq!(got.inner["ending"], json!(true), "{name}");
        if reply["failure"].is_null() {
            assert_eq!(got.inner["failure"], Value::Null, "{name}");
        } else {
            let failure = got.failure();
            for key in ["class", "module", "message"] {
                assert_eq!(failure[key], reply["failure"][key], "{name}: {key}");
            }
        }
        played += 1;
    }
    assert!(played >= 24, "{played} requests of the recording");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
