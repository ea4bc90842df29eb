//! Sends: what arrives, what is reported, and by when.

use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::driver::{Destination, Driver, Outgoing, Retry};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::events::Event;
use oslo_messaging_testkit::kafka::MockKafka;
use oslo_messaging_testkit::process::{free_port, wait_until};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::{Instant, timeout};

use crate::support::{SOON, driver, message, read_topic, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_on_the_bus_without_key_and_headers_when_the_send_resolves() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url(""));
    assert!(!driver.health().connected, "nothing was asked for yet");
    let mut events = driver.events();
    send(&driver, "n.info", "{\"a\": 1}").await;
    assert!(driver.health().connected);
    let up = timeout(SOON, events.next()).await.unwrap().unwrap();
    assert!(
        matches!(
            up,
            Event::Connected {
                purpose: "publish",
                ..
            }
        ),
        "{up:?}"
    );
    let found = read_topic(kafka.servers(), "n.info", 1);
    assert_eq!(found[0].body, b"{\"a\": 1}");
    assert_eq!((found[0].key.as_ref(), found[0].has_headers), (None, false));
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_of_the_option_can_be_sent_and_read() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let body = "x".repeat(10_000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let driver = driver(&kafka.url(&format!("?compression_codec={codec}")));
        send(&driver, "n.info", &format!("{codec}{body}")).await;
        driver.close().await;
    }
    let found = read_topic(kafka.servers(), "n.info", 5);
    let lengths: Vec<usize> = found
        .iter()
        .map(|one| one.body.len() - body.len())
        .collect();
    assert_eq!(lengths, [4, 4, 6, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_send_ends_at_its_deadline() {
    let port = free_port().unwrap();
    let driver = driver(&format!("kafka://127.0.0.1:{port}/"));
    let mut late = message("n.info", "1");
    let began = Instant::now();
    late.deadline = Some(began + Duration::from_secs(1));
    let error = driver.send(late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(
        (Duration::from_secs(1)..SOON / 2).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    let text = error.to_string();
    assert!(
        text.contains("n.info") && text.contains(&port.to_string()),
        "{text}"
    );
    assert!(!driver.health().connected);
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_counted_and_a_send_without_any_ends_after_one_attempt() {
    let port = free_port().unwrap();
    let driver = driver(&format!("kafka://127.0.0.1:{port}/?delivery_timeout=0.5"));
    for (retry, least) in [(Retry::Never, 0.5), (Retry::Times(2), 1.5)] {
        let mut once = message("n.info", "1");
        once.deadline = None;
        once.retry = retry;
        let began = Instant::now();
        let sent = timeout(SOON, driver.send(once)).await;
        let error = sent.expect("it does not try for ever").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.is_retryable());
        let took = began.elapsed().as_secs_f64();
        assert!(took >= least, "{retry:?} took {took} s");
    }
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_outlives_the_brokers_absence_within_its_deadline() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let driver = driver(&kafka.url("?delivery_timeout=1"));
    send(&driver, "n.info", "1").await;
    // Before the broker goes: the library may notice within no time, and tells it once.
    let mut events = driver.events();
    kafka.set_up(1, false).unwrap();
    let waiting = tokio::spawn({
        let driver = driver.clone();
        async move { driver.send(message("n.info", "2")).await }
    });
    // The library has noticed.
    loop {
        let event = timeout(SOON, events.next()).await.unwrap().unwrap();
        if matches!(event, Event::Disconnected { .. }) {
            break;
        }
    }
    kafka.set_up(1, true).unwrap();
    timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    let found = read_topic(kafka.servers(), "n.info", 2);
    assert_eq!(found[1].body, b"2");
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_does_not_create_is_told() {
    let kafka = MockKafka::start(1).unwrap();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    kafka.fail_topic("n.info", unknown).unwrap();
    let driver = driver(&kafka.url("?delivery_timeout=3"));
    let began = Instant::now();
    let error = driver.send(message("n.info", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure, "{error}");
    assert!(
        error.to_string().contains("auto.create.topics.enable"),
        "{error}"
    );
    assert!(
        began.elapsed() < SOON / 2,
        "before its deadline: {:?}",
        began.elapsed()
    );
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_is_told_at_once_and_what_may_pass_is_sent_again() {
    use RDKafkaRespErr as Code;
    let kafka = MockKafka::start(1).unwrap();
    let driver = driver(&kafka.url(""));
    let cases = [
        (
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Some(ErrorKind::AccessRefused),
        ),
        (
            Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            Some(ErrorKind::TooLarge),
        ),
        (
            Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
            Some(ErrorKind::DeliveryFailure),
        ),
        (Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, None),
    ];
    for (code, expected) in cases {
        // A topic for each: the client remembers that it may not write to one.
        let topic = format!("n.{}", code as i32);
        kafka.create_topic(&topic, 1).unwrap();
        let produce = RDKafkaApiKey::Produce;
        kafka.fail_requests(produce, &[code]).unwrap();
        let sent = driver.send(message(&topic, "1")).await;
        assert_eq!(sent.err().map(|error| error.kind()), expected, "{code:?}");
    }
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_before_it_is_sent() {
    let kafka = MockKafka::start(1).unwrap();
    let driver = driver(&kafka.url("?max_message_size=2000"));
    let error = driver
        .send(message("n.info", &"x".repeat(3000)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    send(&driver, "n.info", &"x".repeat(1000)).await;
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_does_not_carry_is_refused_without_connecting() {
    let driver = driver("kafka://127.0.0.1:1/");
    let topic = "conductor";
    for to in [
        Destination::Topic {
            exchange: None,
            topic,
        },
        Destination::Fanout { topic },
        Destination::Reply { queue: "reply_1" },
    ] {
        let error = driver
            .send(Outgoing::new(to, Bytes::new()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("notifications only"), "{error}");
    }
    let mut wanted = message("n.info", "1");
    wanted.mandatory = true;
    let error = driver.send(wanted).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = driver.send(message("not a topic", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget, "{error}");
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_sends_that_cannot_go_out_and_flushes_those_that_can() {
    let kafka = MockKafka::start(1).unwrap();
    kafka.create_topic("n.info", 1).unwrap();
    let slow = driver(&kafka.url("?producer_batch_timeout=60&delivery_timeout=90"));
    let mut events = slow.events();
    let (began, mut first) = (Instant::now(), Box::pin(slow.send(message("n.info", "1"))));
    // In the library's queue, where it waits for others to go with it; the end does not wait for them.
    let connected =
        async { while !matches!(events.next().await, Some(Event::Connected { .. })) {} };
    tokio::select! {
        sent = &mut first => panic!("it does not wait for others: {sent:?}"),
        connected = timeout(SOON, connected) => connected.expect("a broker is there"),
    }
    let (sent, ()) = tokio::join!(first, slow.close());
    sent.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
    let error = slow.send(message("n.info", "2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let port = free_port().unwrap();
    let stuck = driver(&format!("kafka://127.0.0.1:{port}/"));
    let waiting = tokio::spawn({
        let driver = stuck.clone();
        async move {
            let mut message = message("n.info", "1");
            message.deadline = None;
            driver.send(message).await
        }
    });
    let noticed = wait_until("a look at the port", SOON, async || {
        Ok(stuck.health().last_error.is_some())
    });
    noticed.await.unwrap();
    timeout(SOON, stuck.close())
        .await
        .expect("closing takes seconds");
    let error = timeout(SOON, waiting).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    timeout(SOON, stuck.close())
        .await
        .expect("closing again does nothing");
}
