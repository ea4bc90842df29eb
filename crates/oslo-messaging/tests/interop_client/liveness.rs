//! Slow methods, heartbeats and time-outs.

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging::{ErrorKind, Value as Json};
use serde_json::json;
use tokio::time::Instant;

use crate::common::raw::{RawPeer, envelope};
use crate::common::{LONG, TOPIC, client, connect, ctx};
use crate::{ServedByPython, failed};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_python_method_keeps_a_monitored_rust_call_alive() {
    let Some(scene) = ServedByPython::start("a_slow_python_method_keeps_a_call_alive").await else {
        return;
    };
    let slow = |seconds: f64| {
        BTreeMap::from([("seconds", Json::from(seconds)), ("value", Json::from("é"))])
    };
    let client = |monitor: u64| {
        scene
            .client
            .prepare()
            .call_monitor_timeout(Duration::from_secs(monitor))
    };
    let (watched, unwatched, short) = (
        client(2),
        client(1),
        scene.client.prepare().timeout(Duration::from_secs(1)),
    );
    let (started, context) = (Instant::now(), ctx());
    let (alive, silent, late) = tokio::join!(
        watched.call::<_, String>(&context, "slow", slow(4.5)),
        // A server beats for two seconds and more only, so that this one hears nothing.
        failed(&unwatched, "slow", slow(2.5)),
        failed(&short, "slow", slow(2.0)),
    );
    assert_eq!(alive.expect("the method ends"), "é");
    assert!(started.elapsed() >= Duration::from_millis(4_400));
    for error in [silent, late] {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.is_retryable());
        let text = error.to_string();
        assert!(
            text.contains("Timed out waiting for a reply to message ID "),
            "{text}"
        );
        for part in [TOPIC, "slow", "reply_"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    // The late replies were dropped, and the client goes on.
    assert_eq!(
        scene.value("value", BTreeMap::from([("value", 7)])).await,
        Json::from(7)
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitored_rust_call_fails_when_its_server_falls_silent() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("a_monitored_rust_call_fails").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    raw.take_topic(TOPIC).await;
    let monitored = client(&transport).call_monitor_timeout(Duration::from_secs(2));
    let call = tokio::spawn(async move {
        let started = Instant::now();
        (failed(&monitored, "anything", ()).await, started.elapsed())
    });
    let request = raw.next(TOPIC).await.inner;
    assert_eq!(request["_timeout"], json!(2));
    let beat = envelope(&json!({
        "result": null, "failure": null, "ending": false, "_msg_id": request["_msg_id"], "_unique_id": "u"
    }));
    for _ in 0..2 {
        let reply_q = request["_reply_q"].as_str().expect("a name");
        // Shorter than the monitor; nothing else would tell when to beat.
        assert!(
            raw.next_within(TOPIC, Duration::from_secs(1))
                .await
                .is_none()
        );
        raw.send(reply_q, &beat).await;
    }
    let (error, elapsed) = call.await.expect("no panic");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        (Duration::from_millis(3_900)..LONG / 2).contains(&elapsed),
        "two seconds after the last beat: {elapsed:?}"
    );
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
