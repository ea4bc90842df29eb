//! Python's oslo.messaging against itself: what the peer reports is what the test asked for.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::python::{Call, Interface, Peer, Serve, Setup, peer_or_skip};
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn python_calls_python_and_both_sides_are_seen() {
    let test = "python_calls_python_and_both_sides_are_seen";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let Some(server) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let Some(client) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let interface = Interface::new("ns", "1.3");
    let serve = Serve::new("topic-a", "one")
        .endpoint(&Interface::default())
        .endpoint(&interface);
    server.serve(&serve).await.unwrap();

    let args = json!({"text": "é😀", "list": [1, null, {"a": 1.5}], "lone": true});
    let echo = Call::new("topic-a", "echo")
        .args(args.clone())
        .context(json!({"user": "u-1"}));
    let returned = client.call(&echo).await.unwrap().unwrap();
    assert_eq!(returned.value, args);
    assert!(returned.elapsed < LIMIT);

    let odd = r#"{"value": [NaN, 123456789012345678901234567890, "\ud800"]}"#;
    let returned = client
        .call(&Call::new("topic-a", "value").args_json(odd))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        returned.json,
        r#"[NaN, 123456789012345678901234567890, "\ud800"]"#
    );
    assert_eq!(
        returned.value[0],
        Value::Null,
        "only the text can carry NaN"
    );

    let whoami = Call::new("topic-a", "whoami")
        .server("one")
        .namespace("ns")
        .version("1.2");
    let returned = client.call(&whoami).await.unwrap().unwrap();
    assert_eq!(
        returned.value,
        json!({"server": "one", "namespace": "ns", "version": "1.3"})
    );

    let fanout = Call::new("topic-a", "note").args(json!({"n": 1})).fanout();
    client.cast(&fanout).await.unwrap().unwrap();
    let noted = server.wait_for_received("note", 1, LIMIT).await.unwrap();
    assert_eq!(noted[0].args_json, r#"{"n": 1}"#);

    let received = server.received().await.unwrap();
    let methods: Vec<&str> = received.iter().map(|entry| entry.method.as_str()).collect();
    assert_eq!(methods, ["echo", "value", "whoami", "note"]);
    assert_eq!(received[0].ctxt.get("user"), Some(&json!("u-1")));
    assert_eq!(received[2].namespace.as_deref(), Some("ns"));
    assert!(client.received().await.unwrap().is_empty());
    client.close().await.unwrap();
}

#[tokio::test]
async fn exceptions_and_timeouts_are_told_apart() {
    let test = "exceptions_and_timeouts_are_told_apart";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let Some(server) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let setup = Setup::new(&vhost.url()).allow_exceptions_of("peer_errors");
    let client = Peer::start_with(&setup).await.unwrap();
    server.serve(&Serve::new("topic-a", "one")).await.unwrap();
    let call = |method| Call::new("topic-a", method);

    let custom = client
        .call(&call("raise_custom").args(json!({"instance_id": "i-7"})))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (custom.class.as_str(), custom.module.as_str()),
        ("InstanceNotFound_Remote", "peer_errors_Remote")
    );
    assert!(custom.bases.contains(&"peer_errors.PeerError".to_owned()));
    assert_eq!(custom.kwargs, Some(json!({"instance_id": "i-7"})));

    let foreign = server
        .call(&call("raise_custom"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(foreign.class, "RemoteError");
    assert_eq!(foreign.exc_type.as_deref(), Some("InstanceNotFound"));

    let key = client
        .call(&call("raise_key_error"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (key.class.as_str(), key.module.as_str()),
        ("KeyError", "builtins")
    );

    let slow = call("slow")
        .args(json!({"seconds": 5}))
        .timeout(Duration::from_secs(1));
    let late = client.call(&slow).await.unwrap().unwrap_err();
    assert_eq!(late.class, "MessagingTimeout");
    assert!((1.0..5.0).contains(&late.elapsed));

    let fault = client
        .ask::<Value>("no_such_operation", json!({}), LIMIT)
        .await
        .unwrap_err();
    assert!(fault.to_string().contains("no operation"), "{fault}");
    let few = server
        .wait_for_received("note", 1, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(few.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn options_reach_the_driver_and_servers_stop_and_start() {
    let test = "options_reach_the_driver_and_servers_stop_and_start";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let Some(_) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let setup = Setup::new(&vhost.url())
        .rabbit("amqp_durable_queues", true)
        .option("DEFAULT", "rpc_ping_enabled", true);
    let peer = Peer::start_with(&setup).await.unwrap();
    peer.serve(&Serve::new("topic-a", "one").exchange("nova"))
        .await
        .unwrap();
    let queue = vhost
        .wait_for_queue("topic-a", |queue| queue.consumers == 1)
        .await
        .unwrap();
    assert!(queue.durable);
    assert_eq!(queue.messages, 0);
    let bound = vhost.bindings().await.unwrap();
    assert!(
        bound
            .iter()
            .any(|b| (b.exchange.as_str(), b.routing_key.as_str()) == ("nova", "topic-a.one")),
        "{bound:?}"
    );
    let exchanges = vhost.exchanges().await.unwrap();
    let kinds: Vec<_> = exchanges
        .iter()
        .map(|e| (e.name.as_str(), e.kind.as_str(), e.auto_delete))
        .collect();
    assert_eq!(
        kinds,
        [("nova", "topic", false), ("topic-a_fanout", "fanout", true)]
    );

    let ping = Call::new("topic-a", "oslo_rpc_server_ping").exchange("nova");
    assert_eq!(
        peer.call(&ping).await.unwrap().unwrap().value,
        json!("pong")
    );
    peer.stop("one").await.unwrap();
    vhost
        .wait_for_queue("topic-a", |queue| queue.consumers == 0)
        .await
        .unwrap();
    peer.restart("one").await.unwrap();
    assert_eq!(
        peer.call(&ping).await.unwrap().unwrap().value,
        json!("pong")
    );
}

#[tokio::test]
async fn many_calls_run_at_once_and_survive_a_cut() {
    let test = "many_calls_run_at_once_and_survive_a_cut";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let Some(server) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let client = Arc::new(Peer::start(&vhost.url_through(proxy.port())).await.unwrap());
    server.serve(&Serve::new("topic-a", "one")).await.unwrap();

    let slow = Call::new("topic-a", "slow").args(json!({"seconds": 1, "value": 1}));
    let started = tokio::time::Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (client, slow) = (Arc::clone(&client), slow.clone());
        calls.spawn(async move { client.call(&slow).await.unwrap().unwrap().value });
    }
    assert_eq!(calls.join_all().await, vec![json!(1); 8]);
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "one after the other would take so long"
    );

    assert!(
        proxy.connections_now() >= 2,
        "one to send, one to hear replies"
    );
    proxy.cut();
    let call = Call::new("topic-a", "add")
        .args(json!({"a": 2, "b": 3}))
        .timeout(LIMIT);
    assert_eq!(client.call(&call).await.unwrap().unwrap().value, json!(5));
    assert!(proxy.connections_ever() >= 4);
}

#[tokio::test]
async fn a_peer_that_cannot_start_says_why() {
    let test = "a_peer_that_cannot_start_says_why";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let Some(_) = peer_or_skip(test, &vhost.url()).await else {
        return;
    };
    let setup = Setup::new(&vhost.url()).rabbit("heartbeat_timeout_threshold", "soon");
    let outcome = async {
        let peer = Peer::start_with(&setup).await?;
        peer.serve(&Serve::new("topic-a", "one")).await
    };
    let error = outcome.await.unwrap_err();
    assert!(
        error.to_string().contains("heartbeat_timeout_threshold"),
        "{error}"
    );
}
