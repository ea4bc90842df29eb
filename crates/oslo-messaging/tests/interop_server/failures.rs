//! What a Python client gets raised when a Rust method fails.

use oslo_messaging::{RpcServer, Target};
use serde_json::json;

use crate::common::service::{Journal, Service};
use crate::common::{LONG, ServedByRust, TOPIC, client, connect, vhost_and_python};
use crate::{raised, returned, to};

#[tokio::test(flavor = "multi_thread")]
async fn python_gets_real_exceptions_for_the_failures_of_modules_it_allows() {
    let allow = |setup: oslo_messaging_testkit::python::Setup| {
        setup
            .allow_exceptions_of("peer_errors")
            .allow_exceptions_of("oslo_messaging.rpc.dispatcher")
    };
    let Some(scene) = ServedByRust::start_with("python_gets_real_exceptions", allow, "").await
    else {
        return;
    };
    let python = &scene.python;

    let error = raised(
        python,
        &to("custom").args(json!({"instance_id": "žluťoučký-😀"})),
    )
    .await;
    assert_eq!(error.class, "InstanceNotFound_Remote");
    assert_eq!(error.module, "peer_errors_Remote");
    assert_eq!(
        error.bases[..2],
        ["peer_errors.InstanceNotFound", "peer_errors.PeerError"]
    );
    assert_eq!(error.kwargs, Some(json!({"instance_id": "žluťoučký-😀"})));
    let text = "Instance žluťoučký-😀 could not be found.\n";
    assert!(error.text.starts_with(text), "{}", error.text);
    assert!(
        error
            .text
            .contains("peer_errors.InstanceNotFound: Instance"),
        "{}",
        error.text
    );

    let error = raised(
        python,
        &to("value_error").args(json!({"message": "nicht 中 gültig 😀"})),
    )
    .await;
    assert_eq!(
        (error.class.as_str(), error.module.as_str()),
        ("ValueError", "builtins")
    );
    assert!(
        error.text.starts_with("nicht 中 gültig 😀\n"),
        "{}",
        error.text
    );

    // A class that takes one argument and formats it: known of the reference, which doubles the text.
    let error = raised(python, &to("nope")).await;
    assert_eq!(error.class, "NoSuchMethod_Remote");
    assert!(
        error
            .bases
            .contains(&"oslo_messaging.rpc.dispatcher.NoSuchMethod".to_owned()),
        "{:?}",
        error.bases
    );
    assert!(
        error
            .text
            .starts_with("Endpoint does not support RPC method nope\n"),
        "{}",
        error.text
    );

    let error = raised(python, &to("own_error").args(json!({"message": "ü"}))).await;
    assert_eq!(
        (error.class.as_str(), error.exc_type.as_deref()),
        ("RemoteError", Some("OwnError"))
    );
    assert_eq!(error.value, Some(json!("własny błąd: ü")));

    let error = raised(
        python,
        &to("panics").args(json!({"message": "čas vypršel"})),
    )
    .await;
    assert_eq!(error.class, "RuntimeError");
    assert!(error.text.contains("čas vypršel"), "{}", error.text);

    let before = std::time::Instant::now();
    let error = raised(python, &to("unserializable")).await;
    assert_eq!(error.class, "TypeError");
    assert!(
        error.text.contains("cannot be written on purpose"),
        "{}",
        error.text
    );
    assert!(
        before.elapsed() < LONG / 3,
        "told at once: {:?}",
        before.elapsed()
    );

    assert_eq!(
        returned(python, &to("whoami")).await,
        json!("rust-1"),
        "the server goes on"
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_gets_a_remote_error_for_the_failures_of_other_modules() {
    let Some(scene) = ServedByRust::start("python_gets_a_remote_error").await else {
        return;
    };
    let error = raised(
        &scene.python,
        &to("custom").args(json!({"instance_id": "é"})),
    )
    .await;
    assert_eq!(
        (error.class.as_str(), error.module.as_str()),
        ("RemoteError", "oslo_messaging.rpc.client")
    );
    assert_eq!(error.exc_type.as_deref(), Some("InstanceNotFound"));
    assert_eq!(error.value, Some(json!("Instance é could not be found.")));
    assert!(
        error
            .text
            .starts_with("Remote error: InstanceNotFound Instance é could not be found.\n['")
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_passes_through_a_rust_server_in_the_middle_under_its_own_name() {
    let allow =
        |setup: oslo_messaging_testkit::python::Setup| setup.allow_exceptions_of("peer_errors");
    let Some((vhost, python)) =
        vhost_and_python("a_failure_passes_through_a_rust_server", allow).await
    else {
        return;
    };
    python
        .serve(&oslo_messaging_testkit::python::Serve::new(
            "last", "python-1",
        ))
        .await
        .expect("Python serves");
    let transport = connect(&vhost.url()).await;
    let next = client(&transport).topic("last");
    let target = Target::topic(TOPIC).server("rust-1");
    let middle = Service::before("rust-1", &Journal::default(), next);
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(middle)
        .start()
        .await
        .expect("it starts");

    let whoami = returned(&python, &to("relay").args(json!({"name": "whoami"}))).await;
    assert_eq!(whoami["server"], json!("python-1"));
    let error = raised(&python, &to("relay").args(json!({"name": "raise_custom"}))).await;
    assert_eq!(
        (error.class.as_str(), error.module.as_str()),
        ("InstanceNotFound_Remote", "peer_errors_Remote")
    );
    assert_eq!(error.kwargs, Some(json!({"instance_id": "i-1"})));
    assert!(
        error.text.starts_with("Instance i-1 could not be found.\n"),
        "{}",
        error.text
    );

    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
