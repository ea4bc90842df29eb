//! Which Rust server and method a Python client reaches, and what it is told when there is none.

use oslo_messaging::Target;
use oslo_messaging_testkit::python::Call;
use serde_json::json;

use crate::common::{LONG, ServedByRust, connect, serve, serve_on};
use crate::{raised, returned, to};

#[tokio::test(flavor = "multi_thread")]
async fn python_reaches_one_rust_server_by_name_and_all_by_fanout() {
    let Some(scene) = ServedByRust::start("python_reaches_one_rust_server_by_name").await else {
        return;
    };
    let python = &scene.python;
    let second_transport = connect(&scene.vhost.url()).await;
    let second = serve(&second_transport, "rust-2", &scene.journal).await;

    for name in ["rust-1", "rust-2", "rust-2", "rust-1"] {
        assert_eq!(
            returned(python, &to("whoami").server(name)).await,
            json!(name)
        );
    }
    let mut answered = Vec::new();
    for _ in 0..6 {
        answered.push(returned(python, &to("whoami")).await);
    }
    for name in ["rust-1", "rust-2"] {
        assert_eq!(
            answered.iter().filter(|who| **who == json!(name)).count(),
            3,
            "in turn: {answered:?}"
        );
    }

    python
        .cast(&to("note").args(json!({"n": "all"})).fanout())
        .await
        .expect("Python works")
        .expect("sent");
    let noted = scene.journal.wait_for("note", 2).await;
    let mut servers: Vec<&str> = noted.iter().map(|entry| entry.server.as_str()).collect();
    servers.sort_unstable();
    assert_eq!(servers, ["rust-1", "rust-2"]);

    let named = to("note").args(json!({"n": "one"})).server("rust-2");
    python
        .cast(&named)
        .await
        .expect("Python works")
        .expect("sent");
    let noted = scene.journal.wait_for("note", 3).await;
    assert_eq!(noted[2].server, "rust-2");
    python
        .cast(&to("note").args(json!({"n": "any"})))
        .await
        .expect("Python works")
        .expect("sent");
    // Whoever else might have got one of the casts would have it before it answers a call.
    scene.journal.wait_for("note", 4).await;
    for name in ["rust-1", "rust-2"] {
        returned(python, &to("whoami").server(name)).await;
    }
    assert_eq!(scene.journal.of("note").len(), 4);

    second.stop().await;
    for _ in 0..3 {
        assert_eq!(
            returned(python, &to("whoami")).await,
            json!("rust-1"),
            "a stopped server takes nothing"
        );
    }
    second_transport.close().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_finds_rust_servers_on_exchanges_of_their_own() {
    let Some(scene) = ServedByRust::start("python_finds_rust_servers_on_exchanges").await else {
        return;
    };
    let target = Target::topic("apart").server("rust-2").exchange("nova");
    let server = serve_on(&scene.transport, target, &scene.journal).await;
    let apart = Call::new("apart", "whoami");
    assert_eq!(
        returned(&scene.python, &apart.clone().exchange("nova").timeout(LONG)).await,
        json!("rust-2")
    );
    let named = apart
        .clone()
        .exchange("nova")
        .server("rust-2")
        .timeout(LONG);
    assert_eq!(returned(&scene.python, &named).await, json!("rust-2"));
    let error = raised(&scene.python, &apart.at_least_once().timeout(LONG)).await;
    assert_eq!(
        error.class, "MessageUndeliverable",
        "the default exchange has no such topic"
    );

    let options = "?control_exchange=cinder";
    let other = connect(&format!("{}{options}", scene.vhost.url())).await;
    let third = serve_on(
        &other,
        Target::topic("volumes").server("rust-3"),
        &scene.journal,
    )
    .await;
    let volumes = Call::new("volumes", "whoami")
        .exchange("cinder")
        .timeout(LONG);
    assert_eq!(returned(&scene.python, &volumes).await, json!("rust-3"));
    third.stop().await;
    server.stop().await;
    other.close().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_told_of_wrong_namespaces_versions_and_methods_in_the_words_of_the_reference() {
    let Some(scene) = ServedByRust::start("python_is_told_of_wrong_namespaces").await else {
        return;
    };
    let python = &scene.python;
    let describe =
        |namespace: &str, version: &str| to("describe").namespace(namespace).version(version);
    for (namespace, version) in [
        ("machines", "1.3"),
        ("machines", "1.0"),
        ("machines", "1.2.9"),
        ("hosts", "1.1"),
    ] {
        let result = returned(python, &describe(namespace, version)).await;
        assert_eq!(
            result,
            json!(["rust-1", "machines", "1.3"]),
            "{namespace} {version}"
        );
    }
    let version = "Endpoint does not support RPC version";
    let method = "Endpoint does not support RPC method";
    let refused = [
        (
            describe("machines", "1.4"),
            "UnsupportedVersion",
            format!("{version} 1.4. Attempted method: describe"),
        ),
        (
            describe("machines", "2.0"),
            "UnsupportedVersion",
            format!("{version} 2.0. Attempted method: describe"),
        ),
        (
            describe("nowhere", "1.0"),
            "UnsupportedVersion",
            format!("{version} 1.0. Attempted method: describe"),
        ),
        (
            to("whoami").version("1.1"),
            "UnsupportedVersion",
            format!("{version} 1.1. Attempted method: whoami"),
        ),
        (to("describe"), "NoSuchMethod", format!("{method} describe")),
        (to("nope"), "NoSuchMethod", format!("{method} nope")),
        (to("_private"), "NoSuchMethod", format!("{method} _private")),
        (to("naïve 😀"), "NoSuchMethod", format!("{method} naïve 😀")),
        (
            to("oslo_rpc_server_ping"),
            "NoSuchMethod",
            format!("{method} oslo_rpc_server_ping"),
        ),
    ];
    for (request, class, text) in &refused {
        let error = raised(python, request).await;
        assert_eq!(
            (error.class.as_str(), error.module.as_str()),
            ("RemoteError", "oslo_messaging.rpc.client")
        );
        assert_eq!(error.exc_type.as_deref(), Some(*class), "{request:?}");
        assert_eq!(error.value, Some(json!(text)));
        let last = format!("oslo_messaging.rpc.dispatcher.{class}: {text}\n");
        assert_eq!(error.traceback, Some(json!([last])));
    }
    assert_eq!(scene.journal.of("_private"), []);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_pings_a_rust_server_that_allows_it() {
    let query = "?rpc_ping_enabled=true";
    let Some(scene) =
        ServedByRust::start_with("python_pings_a_rust_server", |setup| setup, query).await
    else {
        return;
    };
    assert_eq!(
        returned(&scene.python, &to("oslo_rpc_server_ping")).await,
        json!("pong")
    );
    let named = to("oslo_rpc_server_ping")
        .server("rust-1")
        .args(json!({"ignored": [1]}));
    assert_eq!(returned(&scene.python, &named).await, json!("pong"));
    scene.end().await;
}
