//! Damage the broker does not tell about, and what the driver tells of what it notices.

use std::time::Duration;

use oslo_messaging_amqp as amqp;
use oslo_messaging_core::driver::{Destination, Driver, ListenerEvent, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::events::Event;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_rabbit::driver::RabbitDriver;
use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::erlang_binary;
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::time::{Instant, timeout};

use crate::support::*;

/// A driver that looks after its consumers often.
fn watchful(url: &str) -> RabbitDriver {
    let mut config = RabbitConfig::default();
    config.consumer_check_interval = 0.2;
    driver_with(url, config)
}

/// Takes the consumers of a queue away behind everybody's back, as a broker with a fault would.
async fn forget_consumers(vhost: &Vhost, queue: &str) {
    let (name, vhost_name) = (erlang_binary(queue), erlang_binary(vhost.name()));
    vhost
        .broker()
        .run(&format!(
            "{{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r({vhost_name}, queue, {name})), \
             [gen_server2:call(amqqueue:get_pid(Queue), {{basic_cancel, element(1, Consumer), element(2, Consumer), \
             undefined, <<\"test\">>}}) || Consumer <- rabbit_amqqueue:consumers(Queue)]"
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_consumer_that_died_in_silence_is_noticed_and_consumes_again_on_the_same_connection() {
    let Some(vhost) = vhost_or_skip("a_consumer_that_died_in_silence_is_noticed").await else {
        return;
    };
    if !vhost.broker().version().await.unwrap().starts_with("3.") {
        // How to do that to later releases is not known.
        return;
    }
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = watchful(&durable(&vhost.url_through(proxy.port())));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let (_replies, other) = listen(&driver, Subscription::Replies).await.unwrap();
    forget_consumers(&vhost, "topic-a.server-1").await;
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    assert!(!inbox.restored().await, "nothing was lost");
    let to = Destination::Server {
        exchange: None,
        topic: "topic-a",
        server: "server-1",
    };
    send(&driver, mandatory(to, "hello")).await.unwrap();
    assert_eq!(inbox.body().await, "hello");
    assert!(!other.has_event().await);
    assert_eq!(proxy.connections_ever(), 2);
    within(driver.close()).await;
}

#[tokio::test]
async fn deleted_exchanges_are_bound_again_although_nobody_tells() {
    let Some(vhost) = vhost_or_skip("deleted_exchanges_are_bound_again").await else {
        return;
    };
    let server = watchful(&vhost.url());
    let (_listener, inbox) = serve(&server, "topic-a", "server-1").await;
    for exchange in ["openstack", "topic-a_fanout"] {
        vhost.delete_exchange(exchange).await.unwrap();
    }
    let bindings = async || vhost.bindings().await.unwrap().len();
    within(async {
        while bindings().await < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let to = Destination::Fanout { topic: "topic-a" };
    send(&server, message(to, "fanout")).await.unwrap();
    assert_eq!(inbox.body().await, "fanout");
    send(&server, mandatory(to_topic("topic-a"), "topic"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "topic");
    assert!(!inbox.has_event().await, "deliveries never stopped");
    within(server.close()).await;
}

#[tokio::test]
async fn who_meets_a_vanished_exchange_binds_the_queue_it_sends_to() {
    let Some(vhost) = vhost_or_skip("who_meets_a_vanished_exchange_binds_the_queue").await else {
        return;
    };
    // Looks only after half a minute.
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "before"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "before");
    vhost.delete_exchange("openstack").await.unwrap();
    send(&driver, mandatory(to_topic("topic-a"), "after"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "after");
    let error = send(&driver, mandatory(to_topic("topic-z"), "nobody"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_deleted_reply_queue_is_there_again_and_told_as_emptied() {
    let Some(vhost) = vhost_or_skip("a_deleted_reply_queue_is_there_again").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    let queue = replies.address().unwrap();
    vhost.delete_queue(queue).await.unwrap();
    assert!(matches!(answers.event().await, ListenerEvent::Interrupted));
    assert!(matches!(answers.event().await, ListenerEvent::Emptied));
    assert!(!answers.restored().await, "requests are where they were");
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    within(driver.close()).await;
}

#[tokio::test]
async fn a_reply_queue_that_cannot_be_had_any_more_is_replaced_by_another() {
    let Some(vhost) = vhost_or_skip("a_reply_queue_that_cannot_be_had_any_more_is_replaced").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let mut events = driver.events();
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    let old = replies.address().unwrap().to_owned();
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    vhost.delete_queue(&old).await.unwrap();
    // Another connection's own: as out of reach as a queue on a node that is down.
    let (_connection, channel) = raw(&vhost).await;
    let declare = oslo_messaging_amqp::QueueDeclare {
        name: &old,
        exclusive: true,
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
    proxy.refuse(false).await.unwrap();
    let renamed = loop {
        match answers.event().await {
            ListenerEvent::Renamed { address } => break address,
            ListenerEvent::Interrupted => {}
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_ne!(renamed, old);
    assert!(!answers.restored().await, "requests are where they were");
    let told = event(&mut events, |event| match event {
        Event::ReplyQueueReplaced { old, new } => Some((old.clone(), new.clone())),
        _ => None,
    });
    assert_eq!(told.await, (old, renamed.clone()));
    send(
        &driver,
        mandatory(Destination::Reply { queue: &renamed }, "answer"),
    )
    .await
    .unwrap();
    assert_eq!(answers.body().await, "answer");
    within(driver.close()).await;
}

#[tokio::test]
async fn a_silent_broker_is_left_by_a_consumer_that_looks() {
    let Some(vhost) = vhost_or_skip("a_silent_broker_is_left_by_a_consumer_that_looks").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = watchful(&vhost.url_through(proxy.port()));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    proxy.pause();
    // The heartbeat would need two minutes.
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    proxy.resume();
    inbox.restored().await;
    send(&driver, mandatory(to_topic("topic-a"), "hello"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "hello");
    within(driver.close()).await;
}

#[tokio::test]
async fn events_tell_of_connections_and_consumers_and_health_agrees() {
    let Some(vhost) = vhost_or_skip("events_tell_of_connections_and_consumers").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let mut events = driver.events();
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let host = event(&mut events, |event| match event {
        Event::Connected {
            purpose: "consume",
            host,
        } => Some(host.clone()),
        _ => None,
    });
    let host = host.await;
    assert_eq!(host, format!("127.0.0.1:{}", proxy.port()));
    let health = driver.health();
    assert_eq!(
        (health.connected, health.host, health.consumers),
        (true, Some(host), 3)
    );

    proxy.cut();
    let mut told = Vec::new();
    within(async {
        while !matches!(told.last(), Some(Event::ConsumerRestored { .. })) {
            told.push(events.next().await.unwrap());
        }
    })
    .await;
    let has = |wanted: fn(&Event) -> bool| told.iter().any(wanted);
    assert!(has(|event| matches!(
        event,
        Event::Disconnected {
            purpose: "consume",
            ..
        }
    )));
    assert!(has(|event| matches!(
        event,
        Event::Connected {
            purpose: "consume",
            ..
        }
    )));
    assert!(
        has(
            |event| matches!(event, Event::ConsumerLost { queue, reason } if queue == "topic-a" && !reason.is_empty())
        ),
        "{told:?}"
    );
    let back = Event::ConsumerRestored {
        queue: "topic-a".into(),
        recreated: false,
    };
    assert_eq!(told.last(), Some(&back));
    assert!(!inbox.restored().await);
    assert_eq!(driver.health().consumers, 3);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_blocked_broker_is_told_and_a_size_it_refused_is_not_tried_again() {
    let Some(node) = Node::boot_or_skip("a_blocked_broker_is_told").await else {
        return;
    };
    limit_messages(&node, 100_000).await;
    let driver = driver(&node.url(""));
    let mut events = driver.events();
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let large = || message(to_topic("topic-a"), vec![b'x'; 150_000]);
    let first = send(&driver, large()).await.unwrap_err();
    assert_eq!(first.kind(), ErrorKind::TooLarge);
    assert!(
        first.to_string().contains("406"),
        "the broker's word: {first}"
    );
    let second = send(&driver, message(to_topic("topic-a"), vec![b'x'; 100_001]))
        .await
        .unwrap_err();
    assert_eq!(second.kind(), ErrorKind::TooLarge);
    assert!(
        second.to_string().contains("allows 100000"),
        "ours: {second}"
    );

    node.memory_alarm(true).await.unwrap();
    let mut held = message(to_topic("topic-a"), "held");
    held.deadline = Some(Instant::now() + Duration::from_millis(500));
    let _ = send(&driver, held).await;
    event(&mut events, |event| {
        matches!(event, Event::Blocked { .. }).then_some(())
    })
    .await;
    node.memory_alarm(false).await.unwrap();
    event(&mut events, |event| {
        matches!(event, Event::Unblocked).then_some(())
    })
    .await;
    send(&driver, mandatory(to_topic("topic-a"), "free"))
        .await
        .unwrap();
    while inbox.body().await != "free" {}
    within(driver.close()).await;
}

#[tokio::test]
async fn a_connection_that_a_firewall_forgot_is_left_within_seconds() {
    let Some(vhost) = vhost_or_skip("a_connection_that_a_firewall_forgot_is_left").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    // Looks at its consumers only after half a minute, and its heartbeat needs two.
    let driver = driver(&vhost.url_through(proxy.port()));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let to = Destination::Server {
        exchange: None,
        topic: "topic-a",
        server: "server-1",
    };
    send(&driver, mandatory(to, "before")).await.unwrap();
    assert_eq!(inbox.body().await, "before");
    proxy.forsake();
    let start = Instant::now();
    send(&driver, mandatory(to, "after")).await.unwrap();
    inbox.restored().await;
    // The broker believes the old consumer to be alive, and must not serve it.
    for _ in 0..4 {
        send(&driver, mandatory(to, "more")).await.unwrap();
    }
    let mut bodies = Vec::new();
    for _ in 0..4 {
        bodies.push(inbox.body().await);
    }
    assert!(
        bodies.iter().filter(|body| *body == "more").count() >= 3,
        "{bodies:?}"
    );
    let gap = start.elapsed();
    assert!(gap < Duration::from_secs(15), "{gap:?}");
    within(driver.close()).await;
}

#[tokio::test]
async fn a_slow_way_is_not_taken_for_a_dead_broker() {
    let Some(vhost) = vhost_or_skip("a_slow_way_is_not_taken_for_a_dead_broker").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    send(&driver, message(to_topic("topic-a"), "{}"))
        .await
        .unwrap();
    // Eight seconds in which the broker has nothing to say.
    proxy.bandwidth(200_000);
    send(&driver, message(to_topic("topic-a"), vec![b'x'; 1_600_000]))
        .await
        .unwrap();
    assert_eq!(proxy.connections_ever(), 1);
    proxy.bandwidth(0);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_sender_that_wants_to_know_is_told_when_a_confirmation_is_lost() {
    let Some(vhost) = vhost_or_skip("a_sender_that_wants_to_know_is_told").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = std::sync::Arc::new(driver(&durable(&vhost.url_through(proxy.port()))));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "first"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "first");
    proxy.pause_direction(Direction::ToClient);
    let ask = |tell: bool| {
        let driver = std::sync::Arc::clone(&driver);
        tokio::spawn(async move {
            let mut message = message(to_topic("topic-a"), if tell { "told" } else { "again" });
            message.tell_unconfirmed = tell;
            driver.send(message).await
        })
    };
    let (told, again) = (ask(true), ask(false));
    // Both arrived: the way to the broker is open.
    vhost
        .wait_for_queue("topic-a", |queue| queue.messages == 2)
        .await
        .unwrap();
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    proxy
        .wait_for_connections(|count| *count == 0)
        .await
        .unwrap();
    proxy.resume();
    proxy.refuse(false).await.unwrap();
    let error = within(told).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(error.is_retryable());
    within(again).await.unwrap().unwrap();
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(inbox.body().await);
    }
    bodies.sort();
    assert_eq!(
        bodies,
        ["again", "again", "told"],
        "published twice, and once"
    );
    within(driver.close()).await;
}

#[tokio::test]
async fn a_sender_that_wants_to_know_is_told_when_the_driver_leaves_a_silent_broker() {
    let Some(vhost) = vhost_or_skip("a_sender_that_wants_to_know_is_told_when_the_driver").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let server = driver(&durable(&vhost.url()));
    let (_listener, inbox) = serve(&server, "topic-a", "server-1").await;
    let driver = std::sync::Arc::new(driver(&durable(&vhost.url_through(proxy.port()))));
    send(&driver, mandatory(to_topic("topic-a"), "first"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "first");
    // The message arrives; nothing comes back, and nobody closes the connection but the driver.
    proxy.pause_direction(Direction::ToClient);
    let told = tokio::spawn({
        let driver = std::sync::Arc::clone(&driver);
        async move {
            let mut message = message(to_topic("topic-a"), "told");
            message.tell_unconfirmed = true;
            driver.send(message).await
        }
    });
    assert_eq!(inbox.body().await, "told");
    let error = within(told).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    proxy.resume();
    send(&driver, mandatory(to_topic("topic-a"), "next"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "next", "published once");
    within(driver.close()).await;
    within(server.close()).await;
}

#[tokio::test]
async fn a_fanout_waits_for_servers_that_lost_its_exchange_with_the_broker() {
    let Some(vhost) = vhost_or_skip("a_fanout_waits_for_servers_that_lost_its_exchange").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let client = driver(&vhost.url_through(proxy.port()));
    // A server of which the test knows when it is back.
    let (server, channel) = raw(&vhost).await;
    let queue = amqp::QueueDeclare {
        name: "listener",
        durable: true,
        ..Default::default()
    };
    within(channel.queue_declare(&queue)).await.unwrap();
    let bind = async || {
        let channel = server.open_channel().await.unwrap();
        channel
            .queue_bind("listener", "topic-a_fanout", "topic-a", &Default::default())
            .await
    };
    let to = Destination::Fanout { topic: "topic-a" };
    send(&client, message(to, "to nobody")).await.unwrap();
    within(bind()).await.unwrap();
    send(&client, message(to, "before")).await.unwrap();
    // As after a restart: the queue is durable, its exchange and binding are gone, and the client is back first.
    vhost.delete_exchange("topic-a_fanout").await.unwrap();
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    // Nothing goes out any more by the connection on which nothing was lost.
    let gone = proxy.wait_for_connections(|count| *count == 0).await;
    gone.unwrap();
    proxy.refuse(false).await.unwrap();
    let back = within(async { while bind().await.is_err() {} });
    let (one, two, ()) = tokio::join!(
        send(&client, message(to, "one")),
        send(&client, message(to, "two")),
        back
    );
    one.unwrap();
    two.unwrap();
    vhost
        .wait_for_queue("listener", |queue| queue.messages == 3)
        .await
        .unwrap();
    within(client.close()).await;
}

#[tokio::test]
async fn a_fanout_waits_for_the_second_server_where_the_first_has_its_exchange_again() {
    let Some(vhost) = vhost_or_skip("a_fanout_waits_for_the_second_server").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let client = driver(&vhost.url_through(proxy.port()));
    let (server, channel) = raw(&vhost).await;
    for name in ["first", "second"] {
        let queue = amqp::QueueDeclare {
            name,
            durable: true,
            ..Default::default()
        };
        within(channel.queue_declare(&queue)).await.unwrap();
    }
    let bind = async |queue| {
        let channel = server.open_channel().await.unwrap();
        let none = amqp::Table::new();
        let bound = channel.queue_bind(queue, "topic-a_fanout", "topic-a", &none);
        bound.await.unwrap();
    };
    let to = Destination::Fanout { topic: "topic-a" };
    send(&client, message(to, "to nobody")).await.unwrap();
    // As after a restart: exchange and bindings are gone, and one server is back before the client.
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    proxy
        .wait_for_connections(|count| *count == 0)
        .await
        .unwrap();
    vhost.delete_exchange("topic-a_fanout").await.unwrap();
    let exchange = amqp::ExchangeDeclare {
        name: "topic-a_fanout",
        kind: "fanout",
        auto_delete: true,
        ..Default::default()
    };
    within(channel.exchange_declare(&exchange)).await.unwrap();
    within(bind("first")).await;
    proxy.refuse(false).await.unwrap();
    let mut sent = std::pin::pin!(send(&client, message(to, "held")));
    let at_once = timeout(Duration::from_millis(500), &mut sent).await;
    assert!(at_once.is_err(), "the second server is not back yet");
    within(bind("second")).await;
    sent.await.unwrap();
    for queue in ["first", "second"] {
        let heard = vhost.wait_for_queue(queue, |queue| queue.messages == 1);
        heard.await.unwrap();
    }
    within(client.close()).await;
}
