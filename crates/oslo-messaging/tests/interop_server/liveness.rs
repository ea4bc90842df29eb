//! Slow methods, heartbeats and time-outs.

use std::time::Duration;

use oslo_messaging_testkit::proxy::Proxy;
use serde_json::{Value, json};

use crate::common::raw::{RawPeer, envelope};
use crate::common::service::Journal;
use crate::common::{LONG, ServedByRust, TOPIC, connect, serve, vhost_and_python};
use crate::{raised, returned, to};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rust_method_keeps_a_monitored_python_call_alive() {
    let Some(scene) = ServedByRust::start("a_slow_rust_method_keeps_a_call_alive").await else {
        return;
    };
    let slow = |seconds: f64| to("slow").args(json!({"seconds": seconds, "value": "é"}));
    let monitored = slow(4.5).call_monitor_timeout(Duration::from_secs(2));
    // Longer than its timeout; nobody beats for a call that did not ask.
    let unwatched = slow(3.0).timeout(Duration::from_secs(1));
    let (watched, plain) = tokio::join!(
        returned(&scene.python, &monitored),
        raised(&scene.python, &unwatched)
    );
    assert_eq!(watched, json!("é"));
    assert_eq!(plain.class, "MessagingTimeout");
    assert!(
        plain
            .text
            .starts_with("Timed out waiting for a reply to message ID "),
        "{}",
        plain.text
    );
    // The late reply of the second is dropped by its client, which goes on.
    scene.journal.wait_for("slow ended", 2).await;
    assert_eq!(
        returned(&scene.python, &to("whoami")).await,
        json!("rust-1")
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitored_python_call_fails_when_the_rust_server_falls_silent() {
    let Some((vhost, python)) =
        vhost_and_python("a_monitored_python_call_fails", |setup| setup).await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
    let transport = connect(&vhost.url_through(proxy.port())).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;

    let monitored = to("slow")
        .args(json!({"seconds": 8.0}))
        .call_monitor_timeout(Duration::from_secs(2))
        .timeout(LONG);
    let silence = async {
        journal.wait_for("slow", 1).await;
        proxy.pause();
    };
    let (error, ()) = tokio::join!(raised(&python, &monitored), silence);
    assert_eq!(error.class, "MessagingTimeout");
    assert!(
        error.elapsed < 7.5,
        "long before the method ends: {error:?}"
    );
    proxy.resume();
    assert_eq!(
        returned(&python, &to("whoami")).await,
        json!("rust-1"),
        "the server is back"
    );

    server.stop_within(LONG).await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_stop_when_their_reply_queue_is_gone_and_after_a_method_that_is_missing() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("heartbeats_stop").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let server = serve(&transport, "rust-1", &Journal::default()).await;
    raw.declare_queue("reply_raw").await;
    raw.consume("reply_raw").await;
    let monitored = |method: &str, args: Value, id: &str| {
        envelope(&json!({
            "method": method, "args": args, "_msg_id": id, "_reply_q": "reply_raw", "_timeout": 2, "_unique_id": id
        }))
    };
    raw.send(
        TOPIC,
        &monitored("slow", json!({"seconds": 2.5, "value": 1}), "beating"),
    )
    .await;
    for _ in 0..2 {
        let beat = raw.next("reply_raw").await.inner;
        assert_eq!(
            (&beat["ending"], &beat["result"], &beat["failure"]),
            (&json!(false), &Value::Null, &Value::Null)
        );
        assert_eq!(beat["_msg_id"], json!("beating"));
    }
    let last = raw.next("reply_raw").await.inner;
    assert_eq!(
        (&last["ending"], &last["result"]),
        (&json!(true), &json!(1))
    );

    raw.send(TOPIC, &monitored("nope", json!({}), "missing"))
        .await;
    assert_eq!(
        raw.next("reply_raw").await.failure()["class"],
        json!("NoSuchMethod")
    );
    assert!(
        raw.next_within("reply_raw", Duration::from_millis(1500))
            .await
            .is_none(),
        "no beat after the end"
    );
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
