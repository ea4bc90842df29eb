//! Both directions with Python's oslo.messaging and its Kafka driver, on one cluster.

use std::time::Duration;

use oslo_messaging_core::driver::{Destination, Driver, Outgoing};
use oslo_messaging_kafka::driver::KafkaDriver;
use oslo_messaging_proto::{
    Context, ContextForm, Notification, NotificationFormat, NotificationId, Priority, Timestamp,
    UniqueId,
};
use oslo_messaging_testkit::kafka::MockKafka;
use oslo_messaging_testkit::python::{Peer, Setup, peer_with_or_skip};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{QUICK, SOON, Taker, driver, notes, pool, wait_for_place};

async fn python(test: &str, url: &str) -> Option<Peer> {
    let setup = Setup::new(url).script("kafka_peer.py");
    peer_with_or_skip(test, &setup).await
}

/// Python sends to `<topic>.<priority>`.
async fn python_sends(peer: &Peer, topic: &str, priority: &str, count: usize) {
    let what = json!({
        "topic": topic, "priority": priority, "event_type": "compute.create", "publisher_id": "compute.node-1",
        "payload": {"disk": 20, "name": "\u{fc}\u{1f980}"}, "ctxt": {"user_id": "u-1", "auth_token": "hunter2"}, "count": count,
    });
    let sent: Value = peer.ask("notify", what, SOON).await.expect("Python sends");
    assert_eq!(sent, Value::Null);
}

/// What Python's listeners got at this priority, once there are `count`.
async fn python_got(peer: &Peer, priority: &str, count: usize) -> Vec<Value> {
    let wanted = json!({"method": priority, "count": count, "seconds": SOON.as_secs()});
    let limit = SOON + Duration::from_secs(10);
    let got: Vec<Value> = peer
        .ask("wait_received", wanted, limit)
        .await
        .expect("Python answers");
    assert_eq!(got.len(), count, "{got:?}");
    got
}

/// A notification of ours, as a notifier writes it for Kafka.
fn note(number: u32) -> Notification {
    let mut context = Context::new();
    context.insert("user", "u-2").expect("a context");
    let id = NotificationId::from_random(number.into());
    let time = Timestamp::from_unix_micros(1_700_000_000_000_000);
    Notification::new(id, "compute.delete", Priority::Info, time)
        .with_publisher_id("rust.node-1")
        .with_context(context)
        .with_payload(&json!({"number": number, "name": "\u{fc}\u{1f980}"}))
        .expect("a payload")
}

async fn rust_sends(driver: &KafkaDriver, topic: &str, number: u32) {
    let to = Destination::Notification {
        exchange: None,
        topic,
    };
    let form = driver.capabilities().context;
    assert_eq!(form, ContextForm::Member);
    let id = UniqueId::from_random(number.into());
    let body = note(number).encode(NotificationFormat::V2, form, id);
    let mut message = Outgoing::new(to, body);
    message.deadline = Some(Instant::now() + SOON);
    driver.send(message).await.expect("the bus takes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_listens_to_python_in_the_same_virtual_host() {
    const TEST: &str = "rust_listens_to_python_in_the_same_virtual_host";
    let kafka = MockKafka::start(1).unwrap();
    for topic in ["n.info.prod", "n.error.prod"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let Some(peer) = python(TEST, &kafka.url("prod")).await else {
        return;
    };
    let driver = driver(&kafka.url("prod"));
    let taker = Taker::new(&driver, notes(&["n.info", "n.error"], pool("a"))).await;
    python_sends(&peer, "n", "info", 1).await;
    let delivery = taker.take().await;
    let got = Notification::decode(delivery.body()).expect("a notification");
    assert_eq!(got.event_type(), Some("compute.create"));
    assert_eq!(got.publisher_id(), Some("compute.node-1"));
    assert_eq!(got.priority(), Ok(Some(Priority::Info)));
    assert_eq!(
        got.payload().parse::<Value>().unwrap(),
        json!({"disk": 20, "name": "\u{fc}\u{1f980}"})
    );
    let user: String = got.context().get("user").unwrap().unwrap();
    assert_eq!(user, "u-1");
    let sent = String::from_utf8_lossy(delivery.body()).into_owned();
    assert!(!sent.contains("hunter2"), "{sent}");
    delivery.ack();
    python_sends(&peer, "n", "error", 3).await;
    for number in 0..3 {
        let delivery = taker.take().await;
        let got = Notification::decode(delivery.body()).expect("a notification");
        assert_eq!(got.priority(), Ok(Some(Priority::Error)));
        let payload: Value = got.payload().parse().unwrap();
        assert_eq!(payload["number"], json!(number));
        delivery.ack();
    }
    taker.assert_nothing_comes().await;
    driver.close().await;
    peer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn python_listens_to_rust() {
    const TEST: &str = "python_listens_to_rust";
    let kafka = MockKafka::start(1).unwrap();
    for topic in ["n.info", "n.error", "n.audit"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let Some(peer) = python(TEST, &kafka.url("")).await else {
        return;
    };
    let _: Value = peer
        .ask("listen", json!({"topics": ["n"]}), SOON)
        .await
        .unwrap();
    let driver = driver(&kafka.url(""));
    for number in 0..3 {
        rust_sends(&driver, "n.info", number).await;
    }
    let got = python_got(&peer, "info", 3).await;
    for (number, one) in got.iter().enumerate() {
        assert_eq!(one["event_type"], "compute.delete");
        assert_eq!(one["publisher_id"], "rust.node-1");
        assert_eq!(
            one["payload"],
            json!({"number": number, "name": "\u{fc}\u{1f980}"})
        );
        assert_eq!(one["ctxt"], json!({"user": "u-2"}));
        assert_eq!(one["metadata"]["timestamp"], "2023-11-14 22:13:20");
        assert!(one["metadata"]["message_id"].is_string());
    }
    driver.close().await;
    peer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_python_has_its_place_where_one_of_rust_would_look_for_it() {
    const TEST: &str = "a_pool_of_python_has_its_place_where_one_of_rust_would_look_for_it";
    let kafka = MockKafka::start(1).unwrap();
    for topic in ["n.info", "n.error", "n.audit"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let Some(peer) = python(TEST, &kafka.url("")).await else {
        return;
    };
    let driver = driver(&kafka.url(QUICK));
    let listen = json!({"topics": ["n"], "pool": "turns"});
    let _: Value = peer.ask("listen", listen, SOON).await.unwrap();
    rust_sends(&driver, "n.info", 0).await;
    python_got(&peer, "info", 1).await;
    peer.close().await.unwrap();
    // A new member would be let into a group that had a Python one only after Python's session timeout; what counts is
    // that its place is where ours would look for it.
    wait_for_place(kafka.servers(), "turns", "n.info", 1).await;
    driver.close().await;
}
