//! Which Python server and method a Rust client reaches, and what it is told when there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging::{ErrorKind, RpcClient, Target, Value as Json};
use oslo_messaging_testkit::python::{Serve, Setup};
use serde_json::json;
use tokio::time::Instant;

use crate::common::raw::RawPeer;
use crate::common::{LONG, TOPIC, client, connect, ctx, text_without_secrets};
use crate::{ServedByPython, failed};

#[tokio::test(flavor = "multi_thread")]
async fn rust_reaches_one_python_server_by_name_and_all_by_fanout() {
    let Some(scene) = ServedByPython::start("rust_reaches_one_python_server_by_name").await else {
        return;
    };
    scene
        .python
        .serve(&Serve::new(TOPIC, "python-2"))
        .await
        .expect("Python serves");
    for name in ["python-1", "python-2", "python-2"] {
        let who: Json = scene
            .client
            .prepare()
            .server(name)
            .call(&ctx(), "whoami", ())
            .await
            .expect("an answer");
        assert_eq!(who.get("server"), Some(&Json::from(name)));
    }
    let note = |n: &str| BTreeMap::from([("n", Json::from(n))]);
    scene
        .client
        .prepare()
        .fanout(true)
        .cast(&ctx(), "note", note("all"))
        .await
        .expect("sent");
    let received = scene
        .python
        .wait_for_received("note", 2, LONG)
        .await
        .expect("received");
    let mut servers: Vec<&str> = received.iter().map(|one| one.server.as_str()).collect();
    servers.sort_unstable();
    assert_eq!(servers, ["python-1", "python-2"]);
    scene
        .client
        .prepare()
        .server("python-2")
        .cast(&ctx(), "note", note("named"))
        .await
        .expect("sent");
    let received = scene
        .python
        .wait_for_received("note", 3, LONG)
        .await
        .expect("received");
    assert_eq!(
        (received[2].server.as_str(), &received[2].args["n"]),
        ("python-2", &json!("named"))
    );
    scene
        .client
        .cast(&ctx(), "note", note("any"))
        .await
        .expect("sent");
    scene
        .python
        .wait_for_received("note", 4, LONG)
        .await
        .expect("received");
    for name in ["python-1", "python-2"] {
        let _: Json = scene
            .client
            .prepare()
            .server(name)
            .call(&ctx(), "whoami", ())
            .await
            .expect("an answer");
    }
    let received = scene.python.received().await.expect("received");
    assert_eq!(
        received.iter().filter(|one| one.method == "note").count(),
        4,
        "{received:?}"
    );

    let fanout = scene.client.prepare().fanout(true);
    let refused = failed(&fanout, "whoami", ()).await;
    assert_eq!(refused.kind(), ErrorKind::InvalidTarget);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_finds_python_servers_on_exchanges_of_their_own() {
    let Some(scene) = ServedByPython::start("rust_finds_python_servers_on_exchanges").await else {
        return;
    };
    scene
        .python
        .serve(&Serve::new("apart", "python-2").exchange("nova"))
        .await
        .expect("Python serves");
    let apart = RpcClient::new(
        scene.transport.clone(),
        Target::topic("apart").exchange("nova"),
    )
    .timeout(LONG);
    let who: Json = apart.call(&ctx(), "whoami", ()).await.expect("an answer");
    assert_eq!(who.get("server"), Some(&Json::from("python-2")));
    let who: Json = apart
        .prepare()
        .server("python-2")
        .call(&ctx(), "whoami", ())
        .await
        .expect("an answer");
    assert_eq!(who.get("server"), Some(&Json::from("python-2")));
    let nobody = failed(
        &apart.prepare().exchange(None).at_least_once(true),
        "whoami",
        (),
    )
    .await;
    assert_eq!(nobody.kind(), ErrorKind::Undeliverable);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_is_told_of_wrong_namespaces_versions_and_methods_by_kind() {
    let Some(scene) = ServedByPython::start("rust_is_told_of_wrong_namespaces").await else {
        return;
    };
    let machines = scene.client.prepare().namespace("machines").version("1.3");
    let hosts = scene.client.prepare().namespace("hosts").version("1.0");
    for known in [&machines, &hosts] {
        let who: Json = known.call(&ctx(), "whoami", ()).await.expect("an answer");
        assert_eq!(who.get("version"), Some(&Json::from("1.3")));
    }
    let version = "Endpoint does not support RPC version";
    let refused = [
        (
            machines.prepare().version("1.4"),
            ErrorKind::UnsupportedVersion,
            format!("{version} 1.4. Attempted method: whoami"),
        ),
        (
            machines.prepare().version("2.0"),
            ErrorKind::UnsupportedVersion,
            format!("{version} 2.0. Attempted method: whoami"),
        ),
        (
            scene.client.prepare().namespace("nowhere"),
            ErrorKind::UnsupportedVersion,
            format!("{version} 1.0. Attempted method: whoami"),
        ),
    ];
    for (client, kind, text) in refused {
        let error = failed(&client, "whoami", ()).await;
        assert_eq!(error.kind(), kind);
        let remote = error.remote().expect("the dispatcher's own words");
        assert_eq!(
            (remote.class(), remote.module()),
            ("UnsupportedVersion", "oslo_messaging.rpc.dispatcher")
        );
        assert_eq!(remote.message(), text);
        assert!(!error.is_retryable());
    }
    for method in ["nope", "_private", "naïve 😀", "oslo_rpc_server_ping"] {
        let error = scene.error(method, ()).await;
        assert_eq!(error.kind(), ErrorKind::NoSuchMethod, "{method}");
        let remote = error.remote().expect("the dispatcher's own words");
        assert_eq!(
            (remote.class(), remote.module()),
            ("NoSuchMethod", "oslo_messaging.rpc.dispatcher")
        );
        assert_eq!(
            remote.message(),
            format!("Endpoint does not support RPC method {method}")
        );
        assert!(error.to_string().contains(method), "{error}");
    }
    let capped = machines.prepare().version_cap("1.2");
    assert_eq!(
        failed(&capped, "whoami", ()).await.kind(),
        ErrorKind::VersionCap
    );
    assert!(
        !capped.can_send_version(None).expect("versions")
            && capped.can_send_version("1.1").expect("versions")
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_pings_a_python_server_that_allows_it() {
    let allow = |setup: Setup| setup.option("DEFAULT", "rpc_ping_enabled", true);
    let Some(scene) = ServedByPython::start_with("rust_pings_a_python_server", allow).await else {
        return;
    };
    assert_eq!(
        scene.value("oslo_rpc_server_ping", ()).await,
        Json::from("pong")
    );
    let named = scene.client.prepare().server("python-1");
    let pong: String = named
        .call(&ctx(), "oslo_rpc_server_ping", ())
        .await
        .expect("an answer");
    assert_eq!(pong, "pong");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_tells_that_nobody_serves_and_without_it_the_call_times_out() {
    let test = "at_least_once_tells_that_nobody_serves";
    let Some(vhost) = oslo_messaging_testkit::rabbit::vhost_or_skip(test).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let client = RpcClient::new(transport.clone(), Target::topic("nobody")).timeout(LONG);
    let mandatory = client.prepare().at_least_once(true);
    for client in [mandatory.prepare(), mandatory.prepare().server("nowhere")] {
        let started = Instant::now();
        let call = failed(&client, "anything", ()).await;
        let cast = client
            .cast(&ctx(), "anything", ())
            .await
            .expect_err("nobody would get it");
        for error in [call, cast] {
            assert_eq!(error.kind(), ErrorKind::Undeliverable);
            let text = text_without_secrets(&error, &["guest:guest"]);
            assert!(
                text.contains("nobody") && text.contains("anything"),
                "{text}"
            );
        }
        assert!(
            started.elapsed() < LONG / 3,
            "at once: {:?}",
            started.elapsed()
        );
    }
    // The broker drops it, as the reference has it: a cast succeeds, a call waits for its time.
    client.cast(&ctx(), "anything", ()).await.expect("sent");
    client
        .prepare()
        .fanout(true)
        .at_least_once(true)
        .cast(&ctx(), "anything", ())
        .await
        .expect("sent");
    let started = Instant::now();
    let error = failed(
        &client.prepare().timeout(Duration::from_millis(700)),
        "anything",
        (),
    )
    .await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        (Duration::from_millis(650)..LONG / 3).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(transport.calls_in_flight(), 0);
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_expires_in_the_queue_with_its_call() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("a_request_expires_in_the_queue").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    raw.take_topic(TOPIC).await;
    let timeout = Duration::from_millis(1_500);
    let error = failed(&client(&transport).timeout(timeout), "anything", ()).await;
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let request = raw.next(TOPIC).await;
    assert_eq!(request.properties["expiration"], json!("1500"));
    assert_eq!(
        request.properties["content_type"],
        json!("application/json")
    );
    assert_eq!(request.properties["delivery_mode"], json!(2));
    client(&transport)
        .cast(&ctx(), "anything", ())
        .await
        .expect("sent");
    assert!(
        raw.next(TOPIC).await.properties.get("expiration").is_none(),
        "a cast keeps"
    );
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
