//! Peers of Kilo and Liberty: replies in two messages, to an exchange called like the reply queue; bodies without an envelope.

use std::collections::BTreeMap;

use oslo_messaging::{ErrorKind, RpcServer, Target, Transport, Value, endpoint};
use oslo_messaging_testkit::python::Call;
use serde_json::json;

use crate::common::raw::{Message, RawPeer};
use crate::common::{LONG, TOPIC, client, connect, ctx, vhost_and_python};

struct Adder;

#[endpoint]
impl Adder {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    fn nothing(&self) {}

    fn fail(&self) -> Result<(), String> {
        Err("went wrong".to_owned())
    }
}

async fn serve(transport: &Transport) -> RpcServer {
    let target = Target::topic(TOPIC).server("rust-1");
    RpcServer::builder(transport.clone(), target)
        .endpoint(Adder)
        .start()
        .await
        .expect("the server starts")
}

/// The replies to a call of `method`: bare JSON, as a peer without envelopes writes it.
async fn ask(raw: &mut RawPeer, method: &str, args: serde_json::Value) -> Message {
    let body = json!({
        "method": method, "args": args, "_msg_id": "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f", "_reply_q": "reply_old",
        "_context_user": "alice"
    });
    raw.send(TOPIC, &body.to_string()).await;
    raw.next("reply_old").await
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_written_in_two_messages_for_peers_that_want_them_so() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("replies_are_written_in_two").await else {
        return;
    };
    let transport = connect(&format!("{}?reply_style=two-part", vhost.url())).await;
    let server = serve(&transport).await;
    raw.declare_queue("reply_old").await;
    raw.consume("reply_old").await;

    let payload = ask(&mut raw, "add", json!({"a": 2, "b": 3})).await;
    let ending = raw.next("reply_old").await;
    assert_eq!(
        (&payload.inner["result"], &payload.inner["failure"]),
        (&json!(5), &json!(null))
    );
    assert_eq!(payload.inner.get("ending"), None);
    assert_eq!(
        (&ending.inner["result"], &ending.inner["ending"]),
        (&json!(null), &json!(true))
    );
    assert_eq!(payload.text("_msg_id"), ending.text("_msg_id"));
    assert_ne!(payload.text("_unique_id"), ending.text("_unique_id"));

    let payload = ask(&mut raw, "fail", json!({})).await;
    assert!(payload.text("failure").contains("went wrong"));
    assert_eq!(raw.next("reply_old").await.inner["ending"], json!(true));

    // Nothing to carry: one message, which ends the call for releases of either kind.
    let whole = ask(&mut raw, "nothing", json!({})).await;
    assert_eq!(
        (&whole.inner["result"], &whole.inner["ending"]),
        (&json!(null), &json!(true))
    );
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_python_takes_replies_in_two_messages() {
    let Some((vhost, python)) = vhost_and_python("todays_python_takes", |setup| setup).await else {
        return;
    };
    let transport = connect(&format!("{}?reply_style=two-part", vhost.url())).await;
    let server = serve(&transport).await;
    let call = |method: &str, args| Call::new(TOPIC, method).timeout(LONG).args(args);
    let add = python.call(&call("add", json!({"a": 2, "b": 3}))).await;
    assert_eq!(add.expect("works").expect("returned").value, json!(5));
    let nothing = python.call(&call("nothing", json!({}))).await;
    assert_eq!(
        nothing.expect("works").expect("returned").value,
        json!(null)
    );
    let failed = python.call(&call("fail", json!({}))).await;
    let raised = failed.expect("works").expect_err("raised");
    assert!(raised.text.starts_with("went wrong"), "{}", raised.text);
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

/// A server of Kilo: bare bodies, two messages, to the exchange that is called like the reply queue.
async fn answer_as_kilo(raw: &mut RawPeer, result: serde_json::Value, failure: Option<&str>) {
    let request = raw.next(TOPIC).await;
    let (id, queue) = (request.text("_msg_id"), request.text("_reply_q"));
    let parts = [
        json!({"result": result, "failure": failure, "_unique_id": "1".repeat(32), "_msg_id": id}),
        json!({"result": null, "failure": null, "ending": true, "_unique_id": "2".repeat(32), "_msg_id": id}),
    ];
    for part in parts {
        let publish = json!({"exchange": queue, "routing_key": queue, "body": part.to_string()});
        assert!(!raw.publish(publish).await, "the reply has a queue");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_kilo_are_taken_in_two_messages_from_the_exchange_they_go_to() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("replies_of_kilo_are_taken").await else {
        return;
    };
    let transport = connect(&format!("{}?reply_style=two-part", vhost.url())).await;
    raw.take_topic(TOPIC).await;
    let call = |method: &'static str| {
        let client = client(&transport);
        tokio::spawn(async move {
            let args = BTreeMap::from([("a", 2), ("b", 3)]);
            client.call::<_, Value>(&ctx(), method, args).await
        })
    };
    let sum = call("add");
    answer_as_kilo(&mut raw, json!(5), None).await;
    assert_eq!(
        sum.await.expect("no panic").expect("a result"),
        Value::from(5)
    );

    let failed = call("fail");
    let failure = r#"{"class": "KeyError", "module": "exceptions", "message": "'a'", "tb": [], "args": ["a"], "kwargs": {}}"#;
    answer_as_kilo(&mut raw, json!(null), Some(failure)).await;
    let error = failed.await.expect("no panic").expect_err("a failure");
    assert_eq!(error.kind(), ErrorKind::Remote);
    let remote = error.remote().expect("a remote exception");
    assert_eq!((remote.module(), remote.class()), ("builtins", "KeyError"));

    let queue = transport.health().reply_queue.expect("a reply queue");
    let exchanges = vhost.exchanges().await.expect("asked");
    let own = exchanges
        .iter()
        .find(|one| one.name == queue)
        .expect("its exchange");
    assert_eq!(
        (own.kind.as_str(), own.durable, own.auto_delete),
        ("direct", false, true)
    );
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_queue_has_no_exchange_of_its_own_unless_old_peers_are_about() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("a_reply_queue_has_no_exchange").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    raw.take_topic(TOPIC).await;
    let client = client(&transport);
    let call = tokio::spawn(async move { client.call::<_, i64>(&ctx(), "add", ()).await });
    let request = raw.next(TOPIC).await;
    let (id, queue) = (request.text("_msg_id"), request.text("_reply_q"));
    // Two bare messages to the default exchange are read whatever the option says.
    for part in [
        json!({"result": 5, "failure": null, "_msg_id": id}),
        json!({"ending": true, "_msg_id": id}),
    ] {
        raw.send(queue, &part.to_string()).await;
    }
    assert_eq!(call.await.expect("no panic").expect("a result"), 5);
    let exchanges = vhost.exchanges().await.expect("asked");
    assert!(exchanges.iter().all(|exchange| exchange.name != queue));
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
