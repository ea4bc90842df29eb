//! Messages through a real broker: every way they can go, and every way the broker can refuse them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oslo_messaging_amqp as amqp;
use oslo_messaging_core::driver::{
    Delivery, Destination, Driver, Inbox, ListenerEvent, Subscription,
};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_rabbit::Compression;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_testkit::process::wait_until;
use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

#[tokio::test]
async fn a_message_reaches_topic_server_fanout_and_reply_queue() {
    let Some(vhost) = vhost_or_skip("a_message_reaches_topic_server_fanout_and_reply_queue").await
    else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_one, first) = serve(&driver, "topic-a", "server-1").await;
    let (_two, second) = serve(&driver, "topic-a", "server-2").await;
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();

    let server = Destination::Server {
        exchange: None,
        topic: "topic-a",
        server: "server-2",
    };
    send(&driver, mandatory(server, "to server-2"))
        .await
        .unwrap();
    assert_eq!(second.body().await, "to server-2");

    send(
        &driver,
        message(Destination::Fanout { topic: "topic-a" }, "to all"),
    )
    .await
    .unwrap();
    assert_eq!(first.body().await, "to all");
    assert_eq!(second.body().await, "to all");

    send(&driver, mandatory(to_topic("topic-a"), "to any"))
        .await
        .unwrap();
    send(&driver, mandatory(to_topic("topic-a"), "to any"))
        .await
        .unwrap();
    assert_eq!(first.body().await, "to any");
    assert_eq!(second.body().await, "to any");

    let queue = replies.address().unwrap();
    assert_eq!(queue.len(), "reply_".len() + 32);
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    within(driver.close()).await;
}

#[tokio::test]
async fn queues_of_a_server_are_those_of_the_reference_but_for_its_own_which_is_durable() {
    let Some(vhost) = vhost_or_skip("queues_of_a_server_are_those_of_the_reference").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (listener, _inbox) = serve(&driver, "topic-a", "server-1").await;
    let queues = queues_of(&vhost).await;
    let names: Vec<&str> = queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names[..2], ["topic-a", "topic-a.server-1"]);
    assert!(
        names[2].starts_with("topic-a_fanout_") && names.len() == 3,
        "{names:?}"
    );
    let durable: Vec<bool> = queues.iter().map(|queue| queue.durable).collect();
    let refused = transient_refused();
    assert_eq!(durable, [refused, refused, true]);
    // Quorum queues are slow to tell about their consumers.
    assert!(
        queues.iter().all(|queue| !queue.exclusive
            && !queue.auto_delete
            && (refused || queue.consumers == 1))
    );
    assert_eq!(queues[2].arguments["x-expires"], 1_800_000);
    assert_eq!(is_quorum(&queues[0]), refused);
    assert_eq!(driver.health().consumers, 3);

    // An orderly close deletes the own fanout queue and leaves the others (spec 4.7).
    within(listener.close()).await;
    let left: Vec<String> = queues_of(&vhost)
        .await
        .into_iter()
        .map(|queue| queue.name)
        .collect();
    assert_eq!(left, ["topic-a", "topic-a.server-1"]);
    assert_eq!(driver.health().consumers, 0);
    within(driver.close()).await;
}

#[tokio::test]
async fn properties_of_a_message_are_those_of_the_reference() {
    struct Keep(tokio::sync::mpsc::UnboundedSender<amqp::Delivered>);
    impl amqp::Consumer for Keep {
        fn deliver(&self, delivery: amqp::Delivered) {
            let _ = self.0.send(delivery);
        }
        fn cancelled(&self) {}
        fn closed(&self, _: &amqp::Error) {}
    }
    let Some(vhost) = vhost_or_skip("properties_of_a_message_are_those_of_the_reference").await
    else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    let declare = amqp::QueueDeclare {
        name: "reply_x",
        durable: true,
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
    let (kept, mut seen) = tokio::sync::mpsc::unbounded_channel();
    within(channel.consume("reply_x", "1", &amqp::Table::new(), Arc::new(Keep(kept))))
        .await
        .unwrap();

    let driver = driver(&vhost.url());
    let mut call = message(Destination::Reply { queue: "reply_x" }, "{}");
    call.expires = Some(Duration::from_micros(2_500_900));
    send(&driver, call).await.unwrap();
    send(
        &driver,
        message(Destination::Reply { queue: "reply_x" }, "{}"),
    )
    .await
    .unwrap();
    // One that its sender has as well: it need not be written to a disk.
    let mut kept_elsewhere = message(Destination::Reply { queue: "reply_x" }, "{}");
    kept_elsewhere.persistent = false;
    send(&driver, kept_elsewhere).await.unwrap();
    for (expiration, mode) in [(Some("2500"), 2), (None, 2), (None, 1)] {
        let properties = within(seen.recv()).await.unwrap().properties;
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!(properties.content_encoding(), Some("utf-8"));
        assert_eq!(properties.headers(), Some(amqp::Table::new()));
        assert_eq!(
            (properties.delivery_mode(), properties.priority()),
            (Some(mode), Some(0))
        );
        assert_eq!(properties.expiration(), expiration);
        let others = [
            properties.correlation_id(),
            properties.reply_to(),
            properties.message_id(),
            properties.app_id(),
        ];
        assert_eq!(others, [None; 4]);
    }
}

/// A way to the broker that keeps what the client sends.
async fn recording_way(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let record = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&record);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = client.split();
        let mut broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut from_broker, mut to_broker) = broker.split();
        let up = async {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from_client.read(&mut piece).await {
                kept.lock().unwrap().extend_from_slice(&piece[..count]);
                to_broker.write_all(&piece[..count]).await.unwrap();
            }
        };
        tokio::select! {
            () = up => {}
            _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
        }
    });
    (own, record)
}

/// The property parts of all content headers in a recorded stream, in hex.
fn properties_in(stream: &[u8]) -> Vec<String> {
    let mut rest = &stream[8..]; // after the protocol header
    let mut found = Vec::new();
    while let [kind, _, _, a, b, c, d, ..] = *rest {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == 2 {
            found.push(
                rest[7 + 12..7 + length]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            );
        }
        rest = &rest[7 + length + 1..];
    }
    found
}

#[tokio::test]
async fn properties_are_byte_for_byte_those_of_the_recorded_peer() {
    let test = "properties_are_byte_for_byte_those_of_the_recorded_peer";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let vector = include_str!("../../../../../vectors/conn_handshake.json");
    let vector: serde_json::Value = serde_json::from_str(vector).unwrap();
    let events = vector["direction"].as_array().unwrap();
    let publish = events
        .iter()
        .find(|event| event["method"] == "basic.publish")
        .unwrap();
    // Frame head, class, weight and body size come before, the frame's end after.
    let header = publish["raw_hex"][1].as_str().unwrap();
    let recorded = header[2 * (7 + 12)..header.len() - 2].to_owned();
    assert!(recorded.starts_with("f800"));

    let (port, record) = recording_way(vhost.broker().port()).await;
    let driver = driver(&vhost.url_through(port));
    send(&driver, message(to_topic("topic-a"), "{}"))
        .await
        .unwrap();
    let mut call = message(to_topic("topic-a"), "{}");
    call.expires = Some(Duration::from_secs(60));
    send(&driver, call).await.unwrap();
    let with_expiration = format!("{}05{}", recorded.replacen("f800", "f900", 1), "3630303030");
    assert_eq!(
        properties_in(&record.lock().unwrap()),
        [recorded, with_expiration]
    );
    within(driver.close()).await;
}

#[tokio::test]
async fn a_mandatory_message_without_a_queue_is_undeliverable_and_the_next_one_is_confirmed_by_its_own_ack()
 {
    let Some(vhost) = vhost_or_skip("a_mandatory_message_without_a_queue_is_undeliverable").await
    else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let error = send(&driver, mandatory(to_topic("nobody"), "lost"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    assert!(
        error.to_string().contains("topic nobody") && error.to_string().contains("312"),
        "{error}"
    );
    let error = send(
        &driver,
        mandatory(
            Destination::Reply {
                queue: "reply_gone",
            },
            "lost",
        ),
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    send(&driver, mandatory(to_topic("topic-a"), "kept"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "kept");
    // Without the flag the broker drops it and says nothing.
    send(&driver, message(to_topic("nobody"), "lost"))
        .await
        .unwrap();
    send(
        &driver,
        mandatory(Destination::Fanout { topic: "nobody" }, "lost"),
    )
    .await
    .unwrap();
    within(driver.close()).await;
}

#[tokio::test]
async fn direct_mandatory_flag_off_lets_replies_to_missing_queues_vanish() {
    let Some(vhost) =
        vhost_or_skip("direct_mandatory_flag_off_lets_replies_to_missing_queues_vanish").await
    else {
        return;
    };
    let driver = driver(&format!("{}?direct_mandatory_flag=false", vhost.url()));
    send(
        &driver,
        mandatory(
            Destination::Reply {
                queue: "reply_gone",
            },
            "lost",
        ),
    )
    .await
    .unwrap();
    let error = send(&driver, mandatory(to_topic("nobody"), "lost"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
}

#[tokio::test]
async fn a_nack_is_tried_again_on_the_same_connection_and_fails_without_retries() {
    let Some(vhost) = vhost_or_skip("a_nack_is_tried_again_on_the_same_connection").await else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    let arguments = amqp::Table::new()
        .with("x-max-length", 1)
        .with("x-overflow", "reject-publish");
    let declare = amqp::QueueDeclare {
        name: "reply_full",
        durable: true,
        arguments,
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let full = Destination::Reply {
        queue: "reply_full",
    };
    send(&driver, once(full, "first")).await.unwrap();
    let error = send(&driver, once(full, "second")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    assert!(
        error.is_retryable() && error.to_string().contains("reply_full"),
        "{error}"
    );

    let before = proxy.bytes(Direction::ToBroker);
    let waiting = send(&driver, message(full, "x".repeat(1000)));
    let emptied = async {
        // Published a second time, so refused a first time.
        let twice = async || Ok(proxy.bytes(Direction::ToBroker) > before + 2000);
        wait_until("a second publish", LIMIT, twice).await.unwrap();
        within(channel.queue_purge("reply_full")).await.unwrap();
    };
    let (sent, ()) = tokio::join!(waiting, emptied);
    sent.unwrap();
    vhost
        .wait_for_queue("reply_full", |queue| queue.messages == 1)
        .await
        .unwrap();
    // Tried until its deadline, it is told what the broker said.
    let mut impatient = message(full, "third");
    impatient.deadline = Some((Instant::now() + Duration::from_secs(3)).into());
    let error = send(&driver, impatient).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = std::error::Error::source(&error)
        .expect("the last attempt")
        .to_string();
    assert!(cause.contains("basic.nack"), "{cause}");
    // Quirk 14: no reconnecting. One connection is the raw peer's.
    assert_eq!(vhost.connections().await.unwrap().len(), 2);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_vanished_fanout_exchange_is_declared_again_and_does_not_fail_calls() {
    let Some(vhost) = vhost_or_skip("a_vanished_fanout_exchange_is_declared_again").await else {
        return;
    };
    let driver = Arc::new(driver(&vhost.url()));
    let (listener, _gone) = serve(&driver, "topic-a", "server-1").await;
    send(
        &driver,
        once(Destination::Fanout { topic: "topic-a" }, "to one"),
    )
    .await
    .unwrap();
    within(listener.close()).await;
    assert!(
        vhost
            .exchanges()
            .await
            .unwrap()
            .iter()
            .all(|exchange| exchange.name != "topic-a_fanout")
    );

    // Quirk 15: the first publish after that succeeds, even without retries, as do those beside it.
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..32 {
        let driver = Arc::clone(&driver);
        sends.spawn(async move {
            match n % 2 {
                0 => {
                    send(
                        &driver,
                        once(Destination::Fanout { topic: "topic-a" }, "to nobody"),
                    )
                    .await
                }
                _ => send(&driver, once(to_topic("topic-b"), "to nobody")).await,
            }
        });
    }
    for result in sends.join_all().await {
        result.unwrap();
    }
    let (_listener, inbox) = serve(&driver, "topic-a", "server-2").await;
    send(
        &driver,
        once(Destination::Fanout { topic: "topic-a" }, "again"),
    )
    .await
    .unwrap();
    assert_eq!(inbox.body().await, "again");
    within(driver.close()).await;
}

#[tokio::test]
async fn a_refused_publish_fails_alone() {
    let Some(vhost) = vhost_or_skip("a_refused_publish_fails_alone").await else {
        return;
    };
    let user = format!("half-{}", std::process::id());
    vhost
        .broker()
        .create_user(&user, "secret-word")
        .await
        .unwrap();
    vhost
        .set_permissions(&user, ".*", "^(openstack|topic.*)$", ".*")
        .await
        .unwrap();
    let url = vhost
        .url()
        .replace("guest:guest", &format!("{user}:secret-word"));
    let driver = Arc::new(driver(&url));
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..64 {
        let driver = Arc::clone(&driver);
        sends.spawn(async move {
            let exchange = if n % 16 == 3 { Some("forbidden") } else { None };
            let sent = send(
                &driver,
                once(
                    Destination::Topic {
                        exchange,
                        topic: "t",
                    },
                    format!("{n}"),
                ),
            )
            .await;
            (exchange, sent)
        });
    }
    for (exchange, sent) in sends.join_all().await {
        match (exchange, sent) {
            (None, sent) => sent.unwrap(),
            (Some(_), sent) => {
                let error = sent.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AccessRefused);
                assert!(
                    !error.is_retryable() && !format!("{error:?}").contains("secret-word"),
                    "{error:?}"
                );
            }
        }
    }
    within(driver.close()).await;
}

#[tokio::test]
async fn a_body_of_12_mib_arrives_whole() {
    let Some(vhost) = vhost_or_skip("a_body_of_12_mib_arrives_whole").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let body: Bytes = (0..12 << 20)
        .map(|n: u32| (n % 251) as u8)
        .collect::<Vec<u8>>()
        .into();
    send(&driver, mandatory(to_topic("topic-a"), body.clone()))
        .await
        .unwrap();
    assert!(inbox.body().await == body);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_body_no_broker_takes_is_refused_before_it_is_sent() {
    // Zeroed pages nobody touches cost no memory.
    let body = Bytes::from(vec![0; (512 << 20) + 1]);
    let driver = driver("rabbit://127.0.0.1:1/");
    let error = send(&driver, message(to_topic("topic-a"), body))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(!driver.health().connected);
}

#[tokio::test]
async fn compressed_messages_arrive_expanded_whatever_the_receiver_sends() {
    let Some(vhost) = vhost_or_skip("compressed_messages_arrive_expanded").await else {
        return;
    };
    let plain = driver(&vhost.url());
    let (_listener, inbox) = serve(&plain, "topic-a", "server-1").await;
    for name in ["gzip", "bzip2"] {
        let packing = driver(&format!("{}?kombu_compression={name}", vhost.url()));
        send(&packing, mandatory(to_topic("topic-a"), "x".repeat(10_000)))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "x".repeat(10_000));
        within(packing.close()).await;
    }
    let mut config = RabbitConfig::default();
    config.kombu_compression = Some(Compression::Gzip);
    let packing = driver_with(&vhost.url(), config);
    let (_listener, packed) = serve(&packing, "topic-b", "server-1").await;
    send(&plain, mandatory(to_topic("topic-b"), "plain"))
        .await
        .unwrap();
    assert_eq!(packed.body().await, "plain");
}

#[tokio::test]
async fn a_message_that_is_not_json_is_rejected_and_the_next_one_delivered() {
    let Some(vhost) = vhost_or_skip("a_message_that_is_not_json_is_rejected").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let (_connection, channel) = raw(&vhost).await;
    for content_type in ["text/plain", "application/x-yaml"] {
        let properties = amqp::PropertiesBuilder::new()
            .content_type(content_type)
            .build()
            .unwrap();
        let publish = amqp::Publish {
            exchange: "openstack",
            routing_key: "topic-a",
            mandatory: true,
            properties: &properties,
            expiration: None,
        };
        channel.send(&publish, b"{}").unwrap();
    }
    send(&driver, mandatory(to_topic("topic-a"), "good"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "good");
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 0)
        .await
        .unwrap();
    assert!(inbox.is_empty().await);
}

#[tokio::test]
async fn a_delivery_tells_its_expiry_and_whether_it_came_before() {
    let Some(vhost) = vhost_or_skip("a_delivery_tells_its_expiry_and_whether_it_came_before").await
    else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let mut call = mandatory(to_topic("topic-a"), "call");
    call.expires = Some(Duration::from_secs(60));
    send(&driver, call).await.unwrap();
    let delivery = inbox.next().await;
    assert_eq!(
        (delivery.expiry(), delivery.is_redelivered()),
        (Some(Duration::from_secs(60)), false)
    );
    delivery.requeue();
    let delivery = inbox.next().await;
    assert!(delivery.is_redelivered());
    delivery.reject();
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn prefetch_bounds_what_a_server_holds() {
    let Some(vhost) = vhost_or_skip("prefetch_bounds_what_a_server_holds").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = listen(&driver, rpc_with_prefetch("topic-a", "server-1", 3))
        .await
        .unwrap();
    for n in 0..10 {
        send(&driver, mandatory(to_topic("topic-a"), format!("{n}")))
            .await
            .unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(inbox.next().await);
    }
    let queue = vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 10)
        .await
        .unwrap();
    assert_eq!(queue.unacknowledged, 3);
    assert!(inbox.is_empty().await);
    held.pop().unwrap().ack();
    held.push(inbox.next().await);
    assert_eq!(held.last().unwrap().body(), "3");
}

#[tokio::test]
async fn a_paused_listener_gets_nothing_more_and_can_still_settle() {
    let Some(vhost) =
        vhost_or_skip("a_paused_listener_gets_nothing_more_and_can_still_settle").await
    else {
        return;
    };
    let driver = driver(&durable(&vhost.url()));
    let (listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "before"))
        .await
        .unwrap();
    let before = inbox.next().await;
    within(listener.pause()).await;
    send(&driver, mandatory(to_topic("topic-a"), "after"))
        .await
        .unwrap();
    vhost
        .wait_for_queue("topic-a", |queue| {
            queue.messages == 2 && queue.consumers == 0
        })
        .await
        .unwrap();
    before.ack();
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 1)
        .await
        .unwrap();
    assert!(inbox.is_empty().await);
    within(listener.close()).await;
    assert_eq!(queues_of(&vhost).await.len(), 2);
}

#[tokio::test]
async fn a_dropped_listener_ends_its_subscription_and_gives_back_what_it_held() {
    let Some(vhost) = vhost_or_skip("a_dropped_listener_ends_its_subscription").await else {
        return;
    };
    let driver = driver(&durable(&vhost.url()));
    let (listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "held"))
        .await
        .unwrap();
    let held = inbox.next().await;
    drop(listener);
    let queue = vhost
        .wait_for_queue("topic-a", |queue| queue.consumers == 0)
        .await
        .unwrap();
    assert_eq!((queue.messages, queue.unacknowledged), (1, 0));
    held.ack();
    let (_listener, other) = serve(&driver, "topic-a", "server-2").await;
    let again = other.next().await;
    assert!(again.is_redelivered());
    again.ack();
}

#[tokio::test]
async fn twenty_servers_and_a_client_use_two_connections() {
    let Some(vhost) = vhost_or_skip("twenty_servers_and_a_client_use_two_connections").await else {
        return;
    };
    let driver = Arc::new(driver(&vhost.url()));
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("server-{n}")).collect();
    let started = names.iter().map(|name| serve(&driver, "topic-a", name));
    let servers = futures_util::future::join_all(started).await;
    let mut sends = tokio::task::JoinSet::new();
    for name in names.iter().cloned().cycle().take(200) {
        let driver = Arc::clone(&driver);
        sends.spawn(async move {
            let server = Destination::Server {
                exchange: None,
                topic: "topic-a",
                server: &name,
            };
            send(&driver, mandatory(server, "call")).await
        });
    }
    for (_, inbox) in &servers {
        for _ in 0..10 {
            assert_eq!(inbox.body().await, "call");
            let queue = replies.address().unwrap();
            send(&driver, mandatory(Destination::Reply { queue }, "answer"))
                .await
                .unwrap();
            assert_eq!(answers.body().await, "answer");
        }
    }
    for sent in sends.join_all().await {
        sent.unwrap();
    }
    let connections = vhost.connections().await.unwrap();
    assert_eq!(connections.len(), 2);
    let process = std::process::id().to_string();
    for connection in &connections {
        let reference = connection.client_name.split(' ').next().unwrap();
        let parts: Vec<&str> = reference.split(':').collect();
        assert_eq!(
            (parts.len(), parts[1], parts[2].len()),
            (3, &*process, 36),
            "{}",
            connection.client_name
        );
    }
    assert_eq!(driver.health().consumers, 61);
    within(driver.close()).await;
    vhost
        .wait_for_connections(|all| all.is_empty())
        .await
        .unwrap();
}

/// Acknowledges in place, as an RPC server does.
struct AckAtOnce(tokio::sync::mpsc::UnboundedSender<()>);

impl Inbox for AckAtOnce {
    fn deliver(&self, delivery: Delivery) {
        delivery.ack();
        let _ = self.0.send(());
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

#[tokio::test]
async fn acks_of_what_arrives_together_leave_together() {
    const COUNT: u64 = 2_000;
    const ACK_FRAME: u64 = 21;
    let Some(vhost) = vhost_or_skip("acks_of_what_arrives_together_leave_together").await else {
        return;
    };
    let sender = Arc::new(driver(&vhost.url()));
    let (listener, _) = serve(&sender, "topic-a", "server-1").await;
    within(listener.close()).await;
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..COUNT {
        let sender = Arc::clone(&sender);
        sends.spawn(async move { send(&sender, mandatory(to_topic("topic-a"), "{}")).await });
    }
    for sent in sends.join_all().await {
        sent.unwrap();
    }
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let receiver = driver(&vhost.url_through(proxy.port()));
    let (count, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let _listener = within(receiver.listen(rpc("topic-a", "server-2"), Arc::new(AckAtOnce(count))))
        .await
        .unwrap();
    let before = proxy.bytes(Direction::ToBroker);
    for _ in 0..COUNT {
        within(arrived.recv()).await.unwrap();
    }
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 0)
        .await
        .unwrap();
    // The handshake and declarations are in `before`, or add a few hundred bytes at most.
    let acks = (proxy.bytes(Direction::ToBroker) - before) / ACK_FRAME;
    assert!(acks * 4 < COUNT, "{acks} acks for {COUNT} messages");
}

#[tokio::test]
async fn an_existing_transient_exchange_is_used_by_durable_services() {
    let Some(vhost) =
        vhost_or_skip("an_existing_transient_exchange_is_used_by_durable_services").await
    else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    let declare = amqp::ExchangeDeclare {
        name: "openstack",
        kind: "topic",
        ..Default::default()
    };
    within(channel.exchange_declare(&declare)).await.unwrap();
    let transient = driver(&vhost.url());
    let (_old, _) = serve(&transient, "topic-a", "server-1").await;
    let durable = driver(&durable(&vhost.url()));
    let (_new, inbox) = serve(&durable, "topic-b", "server-1").await;
    send(&durable, mandatory(to_topic("topic-b"), "hello"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "hello");
    let exchanges = vhost.exchanges().await.unwrap();
    assert!(
        exchanges
            .iter()
            .any(|exchange| exchange.name == "openstack" && !exchange.durable)
    );
    // Also a queue that exists: the one of the transient service.
    let (_same, _) = serve(&durable, "topic-a", "server-9").await;
}

#[tokio::test]
async fn a_server_whose_queue_is_another_connections_is_told_so_at_once() {
    let Some(vhost) =
        vhost_or_skip("a_server_whose_queue_is_another_connections_is_told_so_at_once").await
    else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    let declare = amqp::QueueDeclare {
        name: "topic-a",
        exclusive: true,
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
    let driver = driver(&vhost.url());
    let start = Instant::now();
    let error = listen(&driver, rpc("topic-a", "server-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Listen);
    let text = error.to_string();
    for part in ["queue topic-a", "405", "asked for durable=", "RabbitMQ"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(start.elapsed() < LIMIT / 2);
    // Other servers of the same driver are not hurt.
    let (_listener, _) = serve(&driver, "topic-b", "server-1").await;
}

#[tokio::test]
async fn a_server_without_permission_is_told_so_at_once() {
    let Some(vhost) = vhost_or_skip("a_server_without_permission_is_told_so_at_once").await else {
        return;
    };
    let user = format!("reader-{}", std::process::id());
    vhost
        .broker()
        .create_user(&user, "secret-word")
        .await
        .unwrap();
    vhost
        .set_permissions(&user, "^$", ".*", ".*")
        .await
        .unwrap();
    let driver = driver(
        &vhost
            .url()
            .replace("guest:guest", &format!("{user}:secret-word")),
    );
    let error = listen(&driver, rpc("topic-a", "server-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert!(error.to_string().contains("exchange openstack"), "{error}");
}

#[tokio::test]
async fn everything_asked_of_a_closed_driver_fails_as_closed() {
    let Some(vhost) = vhost_or_skip("everything_asked_of_a_closed_driver_fails_as_closed").await
    else {
        return;
    };
    let driver = driver(&vhost.url());
    let (listener, _) = serve(&driver, "topic-a", "server-1").await;
    within(driver.close()).await;
    let error = send(&driver, message(to_topic("topic-a"), "late"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let error = listen(&driver, Subscription::Replies).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Closed);
    within(listener.close()).await;
    vhost
        .wait_for_connections(|all| all.is_empty())
        .await
        .unwrap();
}
