//! The plain RPC against a peer that has kombu and nothing else, and among ourselves.

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging::{
    Context, ErrorKind, RpcClient, RpcServer, Target, Transport, Value, endpoint,
};
use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use serde_json::json;
use tokio::sync::Notify;

use crate::common::raw::RawPeer;
use crate::common::{LONG, connect, ctx, eventually};
use crate::kombu::Kombu;

const TOPIC: &str = "sendout_request";

struct Calculator {
    entered: Notify,
    go_on: Notify,
}

#[endpoint]
impl Calculator {
    fn add(&self, v1: i64, v2: i64) -> i64 {
        v1 + v2
    }

    fn nothing(&self) {}

    fn user(&self, ctx: &Context) -> Option<String> {
        ctx.get("user").and_then(Result::ok)
    }

    fn fail(&self, key: String) -> Result<(), std::io::Error> {
        Err(std::io::Error::other(key))
    }

    async fn slow(&self) -> &'static str {
        self.entered.notify_one();
        self.go_on.notified().await;
        "done"
    }
}

async fn vhost_or_skip(test: &str) -> Option<Vhost> {
    let vhost = oslo_messaging_testkit::rabbit::vhost_or_skip(test).await?;
    if std::env::var_os(PYTHON_VARIABLE).is_none() {
        oslo_messaging_testkit::skip(test, "no Python environment");
        return None;
    }
    Some(vhost)
}

async fn plain(vhost: &Vhost) -> Transport {
    connect(&format!("{}?wire=plain", vhost.url())).await
}

fn client(transport: &Transport) -> RpcClient {
    RpcClient::new(transport.clone(), Target::topic(TOPIC)).timeout(LONG)
}

async fn serve(transport: &Transport) -> (RpcServer, std::sync::Arc<Calculator>) {
    let calculator = std::sync::Arc::new(Calculator {
        entered: Notify::new(),
        go_on: Notify::new(),
    });
    let target = Target::topic(TOPIC).server("any");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(std::sync::Arc::clone(&calculator))
        .start()
        .await
        .expect("the server starts");
    (server, calculator)
}

fn numbers(v1: i64, v2: i64) -> BTreeMap<&'static str, i64> {
    BTreeMap::from([("v1", v1), ("v2", v2)])
}

/// Waits until neither queue nor exchange of a call is left.
async fn until_tidy(vhost: &Vhost) {
    let is_id =
        |name: &str| name.len() == 32 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
    let none_left = async || {
        let (queues, exchanges) = (vhost.queues().await?, vhost.exchanges().await?);
        let mut names = queues.iter().map(|queue| &queue.name);
        let mut others = exchanges.iter().map(|exchange| &exchange.name);
        Ok(!names.any(|name| is_id(name)) && !others.any(|name| is_id(name)))
    };
    oslo_messaging_testkit::process::wait_until("reply queues to go", LONG, none_left)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kombu_server_answers_rust_and_gets_requests_of_exactly_three_keys() {
    let Some(vhost) = vhost_or_skip("a_kombu_server_answers_rust").await else {
        return;
    };
    let mut kombu = Kombu::serve(&vhost, TOPIC).await;
    let transport = plain(&vhost).await;
    let client = client(&transport);

    let sum: i64 = client
        .call(&ctx(), "add", numbers(2, 3))
        .await
        .expect("add");
    assert_eq!(sum, 5);
    let taken = kombu.line().await;
    let raw = taken["raw"].as_str().expect("text");
    let head = r#"{"method": "add", "args": {"v1": 2, "v2": 3}, "msg_id": ""#;
    let id = raw
        .strip_prefix(head)
        .and_then(|rest| rest.strip_suffix("\"}"));
    let id = id.unwrap_or_else(|| panic!("{raw}"));
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(
        (
            &taken["exchange"],
            &taken["routing_key"],
            &taken["content_type"]
        ),
        (&json!(TOPIC), &json!(TOPIC), &json!("application/json"))
    );

    client.cast(&ctx(), "nothing", ()).await.expect("sent");
    let taken = kombu.line().await;
    assert_eq!(taken["raw"], json!(r#"{"method": "nothing", "args": {}}"#));

    let null: Value = client.call(&ctx(), "nothing", ()).await.expect("answered");
    assert!(null.is_null());
    let calls = (0..100).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.call::<_, i64>(&ctx(), "add", numbers(n, 1)).await })
    });
    for (n, call) in (0..).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.expect("no panic").expect("add"), n + 1);
    }
    until_tidy(&vhost).await;
    drop(kombu);
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kombu_client_gets_five_from_a_rust_server() {
    let Some(vhost) = vhost_or_skip("a_kombu_client_gets_five").await else {
        return;
    };
    let transport = plain(&vhost).await;
    let (server, _) = serve(&transport).await;

    let queue = vhost.queue(TOPIC).await.expect("asked").expect("there");
    assert!(!queue.auto_delete && !queue.exclusive, "{queue:?}");
    let exchanges = vhost.exchanges().await.expect("asked");
    let exchange = exchanges
        .iter()
        .find(|one| one.name == TOPIC)
        .expect("there");
    assert_eq!(
        (
            exchange.kind.as_str(),
            exchange.durable,
            exchange.auto_delete
        ),
        ("topic", false, false)
    );

    let mut kombu = Kombu::client(&vhost).await;
    let reply = kombu.call(TOPIC, "add", json!({"v1": 2, "v2": 3})).await;
    assert_eq!(reply, json!({"result": 5}));
    let reply = kombu.call(TOPIC, "nothing", json!({})).await;
    assert_eq!(reply, json!({"result": null}));
    let reply = kombu.call(TOPIC, "fail", json!({"key": "ü"})).await;
    assert_eq!(reply["result"], json!(null));
    let failure: serde_json::Value =
        serde_json::from_str(reply["failure"].as_str().expect("text")).expect("JSON");
    assert_eq!(failure["message"], json!("ü"));

    // Neither stops the server: a cast, what is no request, a caller that is gone.
    let message = json!({"method": "nothing", "args": {}});
    kombu
        .send(json!({"topic": TOPIC, "message": message, "wait": 0}))
        .await;
    let mut raw = RawPeer::start(&vhost).await;
    raw.send(TOPIC, "[]").await;
    raw.send(
        TOPIC,
        r#"{"method": "add", "args": {"v1": 1, "v2": 1}, "msg_id": "gone"}"#,
    )
    .await;
    let reply = kombu.call(TOPIC, "add", json!({"v1": -2, "v2": 2})).await;
    assert_eq!(reply, json!({"result": 0}));
    eventually("the reply to a caller that is gone is dropped", || {
        let stats = server.stats();
        (stats.rejected, stats.replies_dropped) == (1, 1)
    })
    .await;

    server.stop().await;
    until_tidy(&vhost).await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_rust_peers_share_contexts_and_failures_and_refuse_what_the_plain_rpc_lacks() {
    let Some(vhost) = vhost_or_skip("plain_rust_peers").await else {
        return;
    };
    let transport = plain(&vhost).await;
    let (server, _) = serve(&transport).await;
    let client = client(&transport);

    let mut context = Context::new();
    context.insert("user", "alice").expect("JSON");
    let user: Option<String> = client.call(&context, "user", ()).await.expect("answered");
    assert_eq!(user.as_deref(), Some("alice"));
    let args = BTreeMap::from([("key", "é")]);
    let error = client
        .call::<_, Value>(&ctx(), "fail", args)
        .await
        .expect_err("fails");
    let remote = error.remote().expect("a remote exception");
    assert_eq!((remote.class(), remote.message()), ("OSError", "é"));
    let error = client
        .call::<_, Value>(&ctx(), "nope", ())
        .await
        .expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::NoSuchMethod);

    let named = client.prepare().server("any");
    let error = named
        .call::<_, Value>(&ctx(), "nothing", ())
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = client
        .prepare()
        .fanout(true)
        .cast(&ctx(), "nothing", ())
        .await;
    let error = error.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("wire=plain"), "{error}");

    server.stop().await;
    let late = client.prepare().timeout(Duration::from_millis(300));
    let error = late
        .call::<_, Value>(&ctx(), "nothing", ())
        .await
        .expect_err("nobody serves");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    until_tidy(&vhost).await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_call_survives_the_loss_of_its_connection_and_runs_once() {
    let Some(vhost) = vhost_or_skip("a_plain_call_survives").await else {
        return;
    };
    let serving = plain(&vhost).await;
    let (server, calculator) = serve(&serving).await;
    let calling = plain(&vhost).await;
    let client = client(&calling);
    let call = tokio::spawn(async move { client.call::<_, String>(&ctx(), "slow", ()).await });
    calculator.entered.notified().await;
    vhost.close_connections("test").await.expect("closed");
    vhost
        .wait_for_connections(|connections| connections.len() >= 3)
        .await
        .expect("in time");
    calculator.go_on.notify_one();
    let done = call.await.expect("no panic");
    assert_eq!(done.expect("the reply arrives"), "done");
    assert_eq!(server.stats().served, 1);
    server.stop().await;
    calling.close().await;
    serving.close().await;
    vhost.delete().await.expect("deleted");
}

#[path = "../../../../examples/plain_rpc.rs"]
#[allow(dead_code)]
mod plain_rpc;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_plain_rpc_adds_two_numbers_on_a_broker() {
    let Some(vhost) = vhost_or_skip("the_example_of_the_plain_rpc").await else {
        return;
    };
    let url = format!("{}?wire=plain", vhost.url());
    assert_eq!(plain_rpc::run(&url).await.expect("it runs"), 5);
    vhost.delete().await.expect("deleted");
}
