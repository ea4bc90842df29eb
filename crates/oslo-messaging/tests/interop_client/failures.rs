//! What a Rust client learns of a Python exception, and of replies of every form.

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging::{Error, ErrorKind, Value as Json};
use serde_json::{Value, json};

use crate::ServedByPython;
use crate::common::raw::RawPeer;
use crate::common::{self, LONG, TOPIC, client, connect, ctx, text_without_secrets};

#[tokio::test(flavor = "multi_thread")]
async fn rust_gets_every_field_of_a_python_exception() {
    let Some(scene) = ServedByPython::start("rust_gets_every_field_of_a_python_exception").await
    else {
        return;
    };
    let id = "žluťoučký-😀";
    for method in ["raise_custom", "raise_expected"] {
        let error = scene
            .error(method, BTreeMap::from([("instance_id", id)]))
            .await;
        assert_eq!(error.kind(), ErrorKind::Remote, "{method}");
        assert!(!error.is_retryable());
        let remote = error.remote().expect("a remote exception");
        let text = format!("Instance {id} could not be found.");
        assert_eq!(
            (remote.class(), remote.module(), remote.message()),
            ("InstanceNotFound", "peer_errors", text.as_str())
        );
        assert_eq!(
            remote.args().to_value().expect("JSON"),
            Json::from(vec![Json::from(text.as_str())])
        );
        assert_eq!(
            remote.kwargs().to_value().expect("JSON"),
            [("instance_id", Json::from(id))].into_iter().collect()
        );
        let traceback = remote.traceback();
        assert_eq!(
            traceback.first().map(String::as_str),
            Some("Traceback (most recent call last):\n")
        );
        assert_eq!(
            traceback.last(),
            Some(&format!("peer_errors.InstanceNotFound: {text}\n"))
        );
        assert!(
            traceback
                .iter()
                .any(|line| line.contains(&format!("in {method}"))),
            "{traceback:?}"
        );
        let shown = text_without_secrets(&error, &["guest:guest"]);
        for part in ["InstanceNotFound", id, TOPIC, method] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    let error = scene
        .error("raise_key_error", BTreeMap::from([("key", "é")]))
        .await;
    let remote = error.remote().expect("a remote exception");
    assert_eq!(
        (remote.class(), remote.module(), remote.message()),
        ("KeyError", "builtins", "'é'")
    );
    assert_eq!(remote.args().as_str(), r#"["\u00e9"]"#);
    assert_eq!(remote.kwargs().as_str(), "{}");

    let error = scene.error("raise_chained", ()).await;
    let lines = error
        .remote()
        .expect("a remote exception")
        .traceback()
        .concat();
    assert!(
        lines.contains("KeyError: 'inner'") && lines.ends_with("ValueError: outer\n"),
        "{lines}"
    );

    let args =
        json!({"module": "builtins", "name": "OSError", "args": [2, "No such file", "naïve"]});
    let error = scene.error("fail", &args).await;
    let remote = error.remote().expect("a remote exception");
    assert_eq!(remote.class(), "FileNotFoundError");
    assert_eq!(remote.message(), "[Errno 2] No such file: 'naïve'");
    let args = json!({"name": "ValueError", "args": ["m", 1, null, {"k": [1]}, 2.5]});
    let error = scene.error("fail", &args).await;
    assert_eq!(
        error.remote().expect("a remote exception").args().as_str(),
        r#"["m", 1, null, {"k": [1]}, 2.5]"#
    );

    for (args, text) in [
        (json!({}), "missing 1 required positional argument: 'a'"),
        (
            json!({"a": 1, "z": 2}),
            "got an unexpected keyword argument 'z'",
        ),
        (json!({"a": 1, "b": "x"}), "unsupported operand type"),
    ] {
        let error = scene.error("add", &args).await;
        let remote = error.remote().expect("a remote exception");
        assert_eq!(remote.class(), "TypeError");
        assert!(remote.message().contains(text), "{}", remote.message());
    }
    scene.end().await;
}

/// Replies that were recorded, and what a Python client made of them: ours must make the same of them.
#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_form_of_a_reply_is_taken_as_the_reference_takes_it() {
    let Some((vhost, mut raw)) = RawPeer::start_or_skip("every_recorded_form_of_a_reply").await
    else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    raw.take_topic(TOPIC).await;

    let recorded = common::vector("rpc_client_accepts");
    let mut played = 0;
    for step in common::steps(&recorded) {
        let name = step
            .name
            .strip_prefix("fake server: ")
            .unwrap_or_default()
            .to_owned();
        let Some(seen) = common::observed(&recorded, &name) else {
            continue;
        };
        let request = step
            .publishes
            .iter()
            .find(|event| event["from"] == "client")
            .expect("the recorded request");
        let recorded_id = inner_id(request["body_utf8"].as_str().expect("text"));

        let monitored = name
            .contains("with call_monitor_timeout")
            .then_some(Duration::from_secs(20));
        let limit = if name.contains("until its timeout") {
            Duration::from_secs(1)
        } else {
            LONG
        };
        let client = client(&transport)
            .timeout(limit)
            .call_monitor_timeout(monitored);
        let call = tokio::spawn(async move {
            client
                .call::<_, Value>(&ctx(), "echo", BTreeMap::from([("value", 1)]))
                .await
        });
        let ours = raw.next(TOPIC).await;
        for reply in step.sent_by_raw_peer() {
            let body = reply["body_utf8"]
                .as_str()
                .expect("text")
                .replace(&recorded_id, ours.text("_msg_id"));
            raw.send(ours.text("_reply_q"), &body).await;
        }
        let result = call.await.expect("no panic");
        check_reply(&name, result, seen);
        played += 1;
    }
    assert!(played >= 28, "{played} replies of the recording");
    assert_eq!(transport.calls_in_flight(), 0);
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

fn inner_id(body: &str) -> String {
    let outer: Value = serde_json::from_str(body).expect("JSON");
    let inner: Value =
        serde_json::from_str(outer["oslo.message"].as_str().expect("text")).expect("JSON");
    inner["_msg_id"].as_str().expect("an id").to_owned()
}

/// Compares what our caller got with what the Python caller got.
fn check_reply(name: &str, ours: Result<Value, Error>, seen: &Value) {
    let Some(raised) = seen.get("raised") else {
        assert_eq!(
            ours.unwrap_or_else(|error| panic!("{name}: {error}")),
            seen["returned"],
            "{name}"
        );
        return;
    };
    // Where the reference stumbles over its own code, the spec asks for tolerance (quirk 12).
    let tolerated = [
        "failure key missing: KeyError in the caller",
        "heartbeat to a client that did not ask for them: AttributeError in the caller",
    ];
    if tolerated.contains(&name) {
        assert!(ours.is_ok(), "{name}: {ours:?}");
        return;
    }
    let error = ours.expect_err(name);
    match raised["class"].as_str().expect("a class") {
        "MessagingTimeout" => assert_eq!(error.kind(), ErrorKind::Timeout, "{name}"),
        "JSONDecodeError" => assert_eq!(error.kind(), ErrorKind::Decode, "{name}"),
        "RemoteError" => {
            let remote = error.remote().unwrap_or_else(|| panic!("{name}: {error}"));
            if let Some(class) = raised["exc_type"].as_str() {
                assert_eq!(remote.class(), class, "{name}");
            }
            if let Some(message) = raised["value"].as_str() {
                assert_eq!(remote.message(), message, "{name}");
            }
        }
        class => {
            let remote = error.remote().unwrap_or_else(|| panic!("{name}: {error}"));
            assert_eq!(remote.class(), class.trim_end_matches("_Remote"), "{name}");
            let text = raised["str"].as_str().expect("text");
            assert!(
                text.starts_with(&format!("{}\n", remote.message())),
                "{name}: {}",
                remote.message()
            );
        }
    }
}
