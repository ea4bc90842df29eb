//! Messages that are none, at servers and at clients.

use serde_json::json;

use crate::common::raw::{RawPeer, call, cast, envelope, usual_properties};
use crate::common::service::Journal;
use crate::common::{self, TOPIC, client, connect, ctx, no_args, serve};

/// Deeper than any reader should follow.
fn deep(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_requests_are_rejected_and_the_server_goes_on() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("messages_that_are_no_requests").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let journal = Journal::default();
    let server = serve(&transport, "rust-1", &journal).await;
    let mut rejected = 0;
    let bodies = [
        "".to_owned(),
        " ".to_owned(),
        "this is not JSON".to_owned(),
        "{\"method\": \"note\", \"args\": {}".to_owned(),
        "{\"method\": \"note\", \"args\": {}} {}".to_owned(),
        "[1, 2]".to_owned(),
        r#"[["method", "note"], ["args", {"n": "pairs"}]]"#.to_owned(),
        "\"text\"".to_owned(),
        "null".to_owned(),
        "7".to_owned(),
        deep(100_000),
        format!(
            "{{\"method\": \"note\", \"args\": {{\"n\": {}}}}}",
            deep(100_000)
        ),
        "{\"a\":".repeat(100_000),
        json!({"oslo.version": "2.1", "oslo.message": "{\"method\": \"note\"}"}).to_string(),
        json!({"oslo.version": "1.0", "oslo.message": "{\"method\": \"note\"}"}).to_string(),
        json!({"oslo.version": "3.0", "oslo.message": "{\"method\": \"note\"}"}).to_string(),
        json!({"oslo.version": "2", "oslo.message": "{\"method\": \"note\"}"}).to_string(),
        json!({"oslo.version": 2.0, "oslo.message": "{\"method\": \"note\"}"}).to_string(),
        json!({"oslo.version": "2.0", "oslo.message": "no JSON"}).to_string(),
        json!({"oslo.version": "2.0", "oslo.message": "[]"}).to_string(),
        json!({"oslo.version": "2.0", "oslo.message": ""}).to_string(),
        json!({"oslo.version": "2.0", "oslo.message": {"method": "note"}}).to_string(),
        json!({"oslo.version": "2.0", "oslo.message": format!("{{\"args\": {}}}", deep(100_000))})
            .to_string(),
    ];
    for body in &bodies {
        raw.publish(json!({"exchange": "openstack", "routing_key": TOPIC, "body": body}))
            .await;
        rejected += 1;
        let start: String = body.chars().take(80).collect();
        common::eventually(&format!("rejection of {start}"), || {
            server.stats().rejected == rejected
        })
        .await;
    }
    // Not even text.
    for base64 in ["/////w==", "eyJtZXRob2QiOiAi/yJ9"] {
        raw.publish(json!({"exchange": "openstack", "routing_key": TOPIC, "body_base64": base64}))
            .await;
        rejected += 1;
    }
    // The driver itself rejects the first: what is not JSON by its own word never gets to the server.
    let mut plain = usual_properties();
    plain["content_type"] = "text/plain".into();
    let mut broken = usual_properties();
    broken["application_headers"] = json!({"compression": "application/x-gzip"});
    for (properties, body, counted) in [
        (plain, cast("note", json!({}), "p"), 0),
        (broken, "neither zlib nor JSON".to_owned(), 1),
    ] {
        let request = json!({"exchange": "openstack", "routing_key": TOPIC, "body": body, "properties": properties});
        raw.publish(request).await;
        rejected += counted;
    }

    raw.declare_queue("reply_raw").await;
    raw.consume("reply_raw").await;
    raw.send(TOPIC, &call("whoami", json!({}), "last", "reply_raw"))
        .await;
    assert_eq!(raw.next("reply_raw").await.inner["result"], json!("rust-1"));
    assert_eq!(server.stats().rejected, rejected);
    assert_eq!(journal.of("note"), [], "none of them ran");
    let empty = vhost
        // A quorum queue tells its figures a little later.
        .wait_for_queue(TOPIC, |queue| queue.messages == 0 && queue.consumers == 1)
        .await
        .expect("the queue is empty");
    assert_eq!(empty.unacknowledged, 0);
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

/// Messages that were recorded at a Python server which could not take them.
#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_message_that_the_reference_rejects_is_rejected() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("every_recorded_message_rejected").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let journal = Journal::default();
    let server = common::serve_recorded(&transport, &journal).await;
    raw.declare_queue("reply_raw").await;
    raw.consume("reply_raw").await;
    let recorded = common::vector("rpc_server_rejects");
    let mut played = 0;
    for step in common::steps(&recorded) {
        let name = step
            .name
            .strip_prefix("raw client: ")
            .unwrap_or_default()
            .to_owned();
        let Some(seen) = common::observed(&recorded, &name) else {
            continue;
        };
        let before = journal.of("note").len();
        for sent in step.sent_by_raw_peer() {
            raw.publish(common::as_raw_publish(sent)).await;
        }
        // Whatever became of it, this comes behind it.
        raw.send("topic-a", &call("echo", json!({}), &name, "reply_raw"))
            .await;
        loop {
            let reply = raw.next("reply_raw").await;
            if reply.inner["_msg_id"] == json!(format!("msg-{name}")) {
                break;
            }
        }
        // Of what the reference takes by mistake (spec, quirk 21), we take nothing.
        let pairs = name.contains("list of pairs");
        // A typed value of a body without envelope: the method it calls takes an argument of ours.
        let typed = name.contains("known __type__ tag") && !name.contains("unknown");
        let wanted = if pairs {
            0
        } else {
            seen["endpoint_runs"].as_u64().expect("a number")
        };
        let ran = || journal.of("note").len() - before;
        common::eventually(&name, || ran() as u64 >= wanted).await;
        assert!(
            typed || ran() as u64 == wanted,
            "{name}: ran {} times",
            ran()
        );
        played += 1;
    }
    assert!(played >= 18, "{played} messages of the recording");
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 0)
        .await
        .expect("the queue is empty");
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_reply_queue_is_dropped_and_the_call_gets_its_answer() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("garbage_in_the_reply_queue").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    raw.take_topic(TOPIC).await;
    let caller = client(&transport);
    let waiting = tokio::spawn(async move {
        caller
            .call::<_, String>(&ctx(), "anything", no_args())
            .await
    });
    let request = raw.next(TOPIC).await;
    let (id, queue) = (
        request.text("_msg_id").to_owned(),
        request.text("_reply_q").to_owned(),
    );
    let deep_result = format!("{{\"result\": {}, \"ending\": true}}", deep(100_000));
    let garbage = [
        "".to_owned(),
        "no JSON".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        deep(100_000),
        envelope(&json!({"result": 1, "failure": null, "ending": true})),
        envelope(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": null})),
        envelope(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": 7})),
        envelope(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": "another"})),
        envelope(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": "0".repeat(32)})),
        json!({"oslo.version": "9.0", "oslo.message": "{}"}).to_string(),
        deep_result,
    ];
    for body in &garbage {
        raw.send(&queue, body).await;
    }
    raw.publish(json!({"routing_key": queue, "body_base64": "/////w=="}))
        .await;
    raw.send(
        &queue,
        &envelope(&json!({"result": "right", "failure": null, "ending": true, "_msg_id": id})),
    )
    .await;
    assert_eq!(
        waiting.await.expect("no panic").expect("the right answer"),
        "right"
    );
    vhost
        .wait_for_queue(&queue, |queue| queue.messages == 0 && queue.consumers == 1)
        .await
        .expect("all taken");
    assert_eq!(transport.calls_in_flight(), 0);
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
