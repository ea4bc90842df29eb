//! Notifiers and notification listeners above the driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Driver};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::notify::{
    BatchNotificationEndpoint, NotificationEndpoint, NotificationListener, NotificationOutcome,
    Notifier,
};
use oslo_messaging_core::rpc::RpcClient;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::{Notification, Priority, Target};
use oslo_messaging_testkit::kafka::MockKafka;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::support::{QUICK, SOON, driver, send, wait_for_place};

fn transport(url: &str) -> Transport {
    Transport::new(driver(url), TransportOptions::default())
}

/// What an endpoint saw: priority, event type, payload, the context's user.
type Seen = (Priority, String, Value, Option<String>);

/// Hands on what comes, after failing as often as it is told to.
struct Desk {
    failures: AtomicUsize,
    seen: UnboundedSender<Seen>,
}

fn desk(failures: usize) -> (Desk, Mutex<UnboundedReceiver<Seen>>) {
    // Unbounded: a test sends a few.
    let (seen, receiver) = unbounded_channel();
    let failures = AtomicUsize::new(failures);
    (Desk { failures, seen }, Mutex::new(receiver))
}

fn seen(priority: Priority, note: &Notification) -> Seen {
    let event_type = note.event_type().unwrap_or_default().to_owned();
    let user = note.context().get::<String>("user").and_then(Result::ok);
    (priority, event_type, note.payload().parse().unwrap(), user)
}

impl NotificationEndpoint for Desk {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info, Priority::Error]
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            let fewer = |left: usize| left.checked_sub(1);
            let order = Ordering::Relaxed;
            if self.failures.fetch_update(order, order, fewer).is_ok() {
                return NotificationOutcome::Requeue;
            }
            let _ = self.seen.send(seen(priority, note));
            NotificationOutcome::Handled
        })
    }
}

/// Hands on how many came together.
struct Batches(UnboundedSender<usize>);

impl BatchNotificationEndpoint for Batches {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            let _ = self.0.send(notes.len());
            NotificationOutcome::Handled
        })
    }
}

async fn next<T>(receiver: &Mutex<UnboundedReceiver<T>>) -> T {
    let mut receiver = receiver.lock().await;
    let next = timeout(SOON, receiver.recv()).await;
    next.expect("something comes").expect("the endpoint lives")
}

fn topics() -> [Target; 1] {
    [Target::topic("n")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_and_a_listener_meet_on_kafka() {
    let kafka = MockKafka::start(1).unwrap();
    let transport = transport(&kafka.url("prod?session_timeout=3"));
    let (endpoint, told) = desk(0);
    let listener = NotificationListener::builder(transport.clone(), topics())
        .endpoint(endpoint)
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(transport.clone())
        .publisher_id("compute.node-1")
        .topic("n")
        .build()
        .unwrap();
    let mut ctx = Context::new();
    ctx.insert("user", "u-1").unwrap();
    let sure = notifier.prepare().confirmed().deadline(SOON);
    sure.info(&ctx, "compute.create", &json!({"disk": 20}))
        .await
        .unwrap();
    let (priority, event_type, payload, _) = next(&told).await;
    assert_eq!(
        (priority, event_type.as_str()),
        (Priority::Info, "compute.create")
    );
    assert_eq!(payload, json!({"disk": 20}));
    sure.error(&ctx, "compute.fail", &json!(null))
        .await
        .unwrap();
    assert_eq!(next(&told).await.0, Priority::Error);
    // Nobody listens to this priority, and that is no fault.
    sure.audit(&ctx, "compute.audit", &json!(1)).await.unwrap();
    listener.stop().await;
    notifier.close(SOON).await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_requeued_until_it_is_handled() {
    let kafka = MockKafka::start(1).unwrap();
    for topic in ["n.info", "n.error"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let transport = transport(&kafka.url(QUICK));
    let (endpoint, told) = desk(3);
    let endpoint = Arc::new(endpoint);
    let listener = NotificationListener::builder(transport.clone(), topics())
        .endpoint(Arc::clone(&endpoint))
        .allow_requeue(true)
        .pool("p")
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(transport.clone())
        .topic("n")
        .build()
        .unwrap();
    let sure = notifier.prepare().confirmed().deadline(SOON);
    sure.info(&Context::new(), "compute.create", &json!(7))
        .await
        .unwrap();
    assert_eq!(next(&told).await.2, json!(7));
    assert_eq!(endpoint.failures.load(Ordering::Relaxed), 0);
    wait_for_place(kafka.servers(), "p", "n.info", 1).await;
    listener.stop().await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_notification_is_passed_over() {
    let kafka = MockKafka::start(1).unwrap();
    for topic in ["n.info", "n.error"] {
        kafka.create_topic(topic, 1).unwrap();
    }
    let raw = driver(&kafka.url(QUICK));
    let transport = Transport::new(
        Arc::clone(&raw) as Arc<dyn Driver>,
        TransportOptions::default(),
    );
    let (endpoint, told) = desk(0);
    let listener = NotificationListener::builder(transport.clone(), topics())
        .endpoint(endpoint)
        .pool("p")
        .start()
        .await
        .unwrap();
    for garbage in [
        "",
        "{",
        "[1]",
        "\u{0}",
        r#"{"oslo.version": "9.0", "oslo.message": "{}"}"#,
    ] {
        send(&raw, "n.info", garbage).await;
    }
    let notifier = Notifier::builder(transport.clone())
        .topic("n")
        .build()
        .unwrap();
    notifier
        .info(&Context::new(), "compute.create", &json!(1))
        .await
        .unwrap();
    assert_eq!(next(&told).await.1, "compute.create");
    wait_for_place(kafka.servers(), "p", "n.info", 6).await;
    listener.stop().await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_handled_and_committed_together() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let transport = transport(&kafka.url(QUICK));
    let (told, sizes) = unbounded_channel();
    let sizes = Mutex::new(sizes);
    let listener = NotificationListener::builder(transport.clone(), topics())
        .batch_endpoint(Batches(told))
        .batch(10, Some(Duration::from_secs(2)))
        .pool("p")
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(transport.clone())
        .topic("n")
        .build()
        .unwrap();
    for n in 0..25 {
        notifier.info(&Context::new(), "measure", &n).await.unwrap();
    }
    let mut count = 0;
    while count < 25 {
        let size = next(&sizes).await;
        assert!(size <= 10, "{size}");
        count += size;
    }
    assert_eq!(count, 25);
    wait_for_place(kafka.servers(), "p", "n.info", 25).await;
    listener.stop().await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_servers_are_refused_before_anything_is_sent() {
    let transport = transport("kafka://127.0.0.1:1/");
    let client = RpcClient::new(transport.clone(), Target::topic("conductor"));
    let answer = client.call::<_, ()>(&Context::new(), "ping", ()).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unsupported);
    let sent = client.cast(&Context::new(), "ping", ()).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(transport.health().last_error.is_none(), "nobody was asked");
    transport.close().await;
}
