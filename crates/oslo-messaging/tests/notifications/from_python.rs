//! What notifiers of the reference send, as our listeners get it.

use std::sync::Arc;

use oslo_messaging::notify::NotificationOutcome;
use oslo_messaging::{NotificationFilter, NotificationListener, Notifier, Priority, Target};
use serde_json::{Value, json};

use crate::common::{LONG, connect, ctx, eventually, vhost_and_python};
use crate::*;

#[tokio::test]
async fn we_hear_every_priority_of_both_drivers_of_python() {
    let test = "we_hear_every_priority_of_both_drivers_of_python";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let (all, mut hears) = ear(&Priority::ALL, Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(all)
            .start()
            .await
            .unwrap();
    for driver in ["messaging", "messagingv2"] {
        for priority in Priority::ALL {
            let payload = json!({"driver": driver, "text": "zoë", "n": [1, 2.5, null]});
            let more = json!({
                "driver": driver, "priority": priority.as_str(), "payload": payload, "request_context": request_context(),
            });
            python_tells(&python, "e", more).await;
            let (heard, note) = next(&mut hears).await;
            assert_eq!(heard, priority);
            assert_eq!(
                (note.publisher_id(), note.event_type()),
                (Some("python"), Some("e"))
            );
            let got: Value = serde_json::from_str(note.payload().as_str()).unwrap();
            assert_eq!(got, payload);
            let context = as_json(note.context());
            assert_eq!(context["user"], "u-1");
            assert_eq!(context["auth_token"], Value::Null);
            assert_eq!(note.message_id().unwrap().len(), 36);
            assert!(note.timestamp().unwrap().contains(' '));
        }
    }
    eventually("all are acknowledged", || listening.stats().handled == 14).await;
    listening.stop().await;
    for queue in vhost.queues().await.unwrap() {
        assert_eq!(queue.messages, 0, "{}", queue.name);
    }
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn we_requeue_filter_and_pool_what_python_sends() {
    let test = "we_requeue_filter_and_pool_what_python_sends";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let builder =
        || NotificationListener::builder(transport.clone(), [Target::topic("notifications")]);
    let answers = vec![
        NotificationOutcome::Requeue,
        NotificationOutcome::Failed("not yet".into()),
    ];
    let (again, mut hears) = ear(&[Priority::Info], answers);
    let requeueing = builder()
        .endpoint(again)
        .allow_requeue(true)
        .start()
        .await
        .unwrap();
    let (mut picky, mut picked) = ear(&[Priority::Info], Vec::new());
    picky.filter = Some(
        NotificationFilter::new()
            .event_type(r"compute\.")
            .unwrap()
            .context("user", "u-")
            .unwrap(),
    );
    let pooled = builder()
        .pool("picky")
        .endpoint(picky)
        .start()
        .await
        .unwrap();
    // A Python member shares the pool of ours.
    python_listens(
        &python,
        "shared",
        json!({"pool": "picky", "endpoints": [{"priorities": ["warn"]}]}),
    )
    .await;
    python_tells(
        &python,
        "compute.x",
        json!({"request_context": request_context()}),
    )
    .await;
    for _ in 0..3 {
        assert_eq!(event(&next(&mut hears).await.1), "compute.x");
    }
    assert_eq!(event(&next(&mut picked).await.1), "compute.x");
    python_tells(&python, "compute.y", json!({})).await;
    python_tells(
        &python,
        "volume.x",
        json!({"request_context": request_context()}),
    )
    .await;
    eventually("all are handled", || {
        requeueing.stats().handled == 3 && pooled.stats().handled + pooled.stats().ignored >= 1
    })
    .await;
    assert_eq!(requeueing.stats().requeued, 2);
    assert!(picked.try_recv().is_err(), "neither passes the filter");
    requeueing.stop().await;
    pooled.stop().await;
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn we_take_what_python_sends_in_batches() {
    let test = "we_take_what_python_sends_in_batches";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let basket = Arc::new(Basket::default());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .batch_endpoint(basket.clone())
            .batch(4, Some(LONG))
            .start()
            .await
            .unwrap();
    for (priority, event) in [
        ("warn", "w"),
        ("info", "i1"),
        ("audit", "a"),
        ("info", "i2"),
    ] {
        python_tells(&python, event, json!({"priority": priority})).await;
    }
    eventually("the batch is handled", || listening.stats().handled == 4).await;
    let mut batches = basket.0.lock().unwrap().clone();
    // The queues of priorities are different ones, so arrival is only ordered within each.
    assert_eq!(batches.remove(0), (Priority::Audit, vec!["a".to_owned()]));
    assert_eq!(
        batches.remove(0),
        (Priority::Info, vec!["i1".to_owned(), "i2".to_owned()])
    );
    assert_eq!(batches.remove(0), (Priority::Warn, vec!["w".to_owned()]));
    listening.stop().await;
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn notifiers_and_listeners_of_both_kinds_declare_alike_with_quorum_queues() {
    let test = "notifiers_and_listeners_of_both_kinds_declare_alike_with_quorum_queues";
    let quorum =
        |setup: oslo_messaging_testkit::python::Setup| setup.rabbit("rabbit_quorum_queue", "true");
    let Some((vhost, python)) = vhost_and_python(test, quorum).await else {
        return;
    };
    python_tells(&python, "first", json!({})).await;
    let transport = connect(&format!("{}?rabbit_quorum_queue=true", vhost.url())).await;
    let (all, mut hears) = ear(&[Priority::Info, Priority::Error], Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(all)
            .start()
            .await
            .unwrap();
    assert_eq!(
        event(&next(&mut hears).await.1),
        "first",
        "it waited in the queue Python made"
    );
    let notifier = Notifier::builder(transport.clone())
        .topic("ours")
        .build()
        .unwrap();
    notifier.info(&ctx(), "second", &()).await.unwrap();
    assert_eq!(notifier.flush(LONG).await, 0);
    python_listens(&python, "all", json!({"targets": [{"topic": "ours"}]})).await;
    let heard = python_heard(&python, Some("info"), 1).await;
    assert_eq!(
        heard[0]["event_type"], "second",
        "it waited in the queue we made"
    );
    let queue = vhost.queue("ours.info").await.unwrap().unwrap();
    assert_eq!(queue.arguments["x-queue-type"], "quorum");
    listening.stop().await;
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}
