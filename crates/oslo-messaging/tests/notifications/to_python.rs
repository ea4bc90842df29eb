//! What our notifier sends, as listeners of the reference get it.

use oslo_messaging::notify::{DeadLetter, NotificationOutcome};
use oslo_messaging::{NotificationListener, Notifier, Priority, Target};
use serde_json::{Value, json};

use crate::common::{LONG, connect, ctx, vhost_and_python};
use crate::*;

#[tokio::test]
async fn python_hears_every_priority_in_both_formats() {
    let test = "python_hears_every_priority_in_both_formats";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    python_listens(&python, "all", json!({})).await;
    let transport = connect(&vhost.url()).await;
    for driver in ["messaging", "messagingv2"] {
        let notifier = Notifier::builder(transport.clone())
            .publisher_id("rust.node-1")
            .drivers([driver])
            .build()
            .unwrap();
        for priority in Priority::ALL {
            let payload = json!({"driver": driver, "text": "zoë \"x\"", "n": [1, 2.5, null, true]});
            notifier
                .notify(&ctx(), priority, "e", &payload)
                .await
                .unwrap();
        }
        assert_eq!(notifier.close(LONG).await.lost(), 0);
    }
    for priority in Priority::ALL {
        let heard = python_heard(&python, Some(priority.as_str()), 2).await;
        let mut drivers: Vec<&str> = Vec::new();
        for one in &heard {
            assert_eq!(
                (&one["publisher_id"], &one["event_type"]),
                (&json!("rust.node-1"), &json!("e"))
            );
            assert_eq!(one["payload"]["text"], "zoë \"x\"");
            assert_eq!(one["payload"]["n"], json!([1, 2.5, null, true]));
            assert_eq!(one["metadata"]["message_id"].as_str().unwrap().len(), 36);
            drivers.push(one["payload"]["driver"].as_str().unwrap());
        }
        drivers.sort_unstable();
        assert_eq!(drivers, ["messaging", "messagingv2"], "{priority}");
    }
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn the_context_is_redacted_as_python_redacts_it() {
    let test = "the_context_is_redacted_as_python_redacts_it";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let arguments = json!({"request_context": request_context()});
    let [whole, theirs]: [Value; 2] = python.ask("redacted", arguments, LONG).await.unwrap();
    assert_eq!(whole["auth_token"], "gAAAA-secret");
    python_listens(&python, "all", json!({})).await;
    let transport = connect(&vhost.url()).await;
    let notifier = Notifier::builder(transport.clone()).build().unwrap();
    notifier.info(&context(&whole), "e", &()).await.unwrap();
    let mut heard = python_heard(&python, Some("info"), 1).await.remove(0);
    heard["ctxt"]
        .as_object_mut()
        .unwrap()
        .remove("client_timeout");
    assert_eq!(heard["ctxt"], theirs);
    // And nothing at all of a context that is not oslo's.
    let mine = context(&json!({"mine": 1, "auth_token_of_mine": "x"}));
    notifier.warn(&mine, "e", &()).await.unwrap();
    let heard = python_heard(&python, Some("warn"), 1).await.remove(0);
    assert_eq!(heard["ctxt"], json!({"client_timeout": null}));
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn python_requeues_batches_filters_and_pools_what_we_send() {
    let test = "python_requeues_batches_filters_and_pools_what_we_send";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let notifier = Notifier::builder(transport.clone()).build().unwrap();
    let again = json!({
        "endpoints": [{"priorities": ["info"], "requeue": 2, "fail": 1}], "allow_requeue": true,
    });
    python_listens(&python, "again", again).await;
    notifier.info(&ctx(), "again", &()).await.unwrap();
    let heard = python_heard(&python, Some("info"), 4).await;
    let ids: std::collections::HashSet<String> = heard
        .iter()
        .map(|one| one["metadata"]["message_id"].to_string())
        .collect();
    assert_eq!(
        (heard.len(), ids.len()),
        (4, 1),
        "one notification, four tries"
    );
    let _: Value = python
        .ask("stop_listening", json!({"name": "again"}), LONG)
        .await
        .unwrap();

    let batch = json!({"batch_size": 3, "batch_timeout": 20, "targets": [{"topic": "batches"}]});
    python_listens(&python, "batch", batch).await;
    let batched = Notifier::builder(transport.clone())
        .topic("batches")
        .build()
        .unwrap();
    for (priority, event) in [
        (Priority::Warn, "w"),
        (Priority::Info, "i1"),
        (Priority::Info, "i2"),
    ] {
        batched.notify(&ctx(), priority, event, &()).await.unwrap();
    }
    let heard = python_heard(&python, Some("batch"), 2).await;
    assert_eq!(heard[0]["event_types"], json!(["i1", "i2"]));
    assert_eq!(heard[1]["event_types"], json!(["w"]));

    let rules = json!({"event_type": r"compute\.", "payload": {"state": "active$"}});
    let picky = json!({
        "endpoints": [{"priorities": ["error"], "rules": rules}], "pool": "picky",
    });
    python_listens(&python, "picky", picky).await;
    for (event, state) in [
        ("volume.x", "active"),
        ("compute.x", "inactive"),
        ("compute.y", "active"),
    ] {
        notifier
            .error(&ctx(), event, &json!({"state": state}))
            .await
            .unwrap();
    }
    let heard = python_heard(&python, Some("error"), 1).await;
    assert_eq!(heard[0]["event_type"], "compute.y");
    assert_eq!(notifier.flush(LONG).await, 0);
    vhost
        .wait_for_queue("picky", |queue| queue.messages == 0)
        .await
        .unwrap();
    // The pool had a copy; the queue of those without a pool keeps its own.
    let own = vhost.wait_for_queue("notifications.error", |queue| queue.messages == 3);
    own.await.unwrap();
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn routes_and_dead_letters_reach_python() {
    let test = "routes_and_dead_letters_reach_python";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    python_listens(
        &python,
        "audit",
        json!({"targets": [{"topic": "audit"}, {"topic": "dead"}]}),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routing.yaml");
    std::fs::write(
        &file,
        "a:\n  messaging: {accepted_events: ['login*'], topics: [audit]}\n  messagingv2: {accepted_priorities: [error]}\n",
    )
    .unwrap();
    let transport = connect(&vhost.url()).await;
    let notifier = Notifier::builder(transport.clone())
        .drivers(["routing", "log", "noop", "test"])
        .routing_config(&file)
        .build()
        .unwrap();
    notifier
        .audit(&ctx(), "login.failed", &"alice")
        .await
        .unwrap();
    notifier.audit(&ctx(), "logout", &"alice").await.unwrap();
    let heard = python_heard(&python, Some("audit"), 1).await;
    assert_eq!(heard[0]["event_type"], "login.failed");
    assert!(vhost.queue("notifications.audit").await.unwrap().is_none());

    let (failing, _hears) = ear(
        &[Priority::Error],
        vec![NotificationOutcome::Failed("broken".into())],
    );
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(failing)
            .dead_letter(DeadLetter::topic("dead"))
            .start()
            .await
            .unwrap();
    notifier
        .error(&ctx(), "disk.full", &json!({"free": 0}))
        .await
        .unwrap();
    let heard = python_heard(&python, Some("error"), 1).await;
    assert_eq!(heard[0]["event_type"], "disk.full");
    assert_eq!(heard[0]["payload"], json!({"free": 0}));
    listening.stop().await;
    assert_eq!(notifier.close(LONG).await.lost(), 0);
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}
