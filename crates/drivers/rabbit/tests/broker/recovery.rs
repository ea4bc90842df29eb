//! Brokers that are not there, refuse, vanish, come back or ask to wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::driver::{Destination, Driver, ListenerEvent, Retry, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::client::RpcClient;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::target::Target;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_testkit::process::free_port;
use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::{erlang_binary, vhost_or_skip};
use oslo_messaging_testkit::usage::Stopwatch;
use tokio::time::Instant;

use crate::support::*;

/// Waits until the broker has all acks of a queue; those under way when a connection is lost mean redelivery.
async fn settled(vhost: &Vhost, queue: &str) {
    vhost
        .wait_for_queue(queue, |queue| queue.messages == 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unreachable_broker_fails_a_send_at_its_deadline() {
    let url = format!(
        "rabbit://user:secret-word@127.0.0.1:{}/",
        free_port().unwrap()
    );
    let driver = driver(&url);
    let mut message = message(to_topic("topic-a"), "{}");
    let start = Instant::now();
    message.deadline = Some(start + Duration::from_millis(700));
    let error = send(&driver, message).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error.is_retryable() && error.to_string().contains("127.0.0.1:"),
        "{error}"
    );
    assert!(!format!("{error:?} {driver:?}").contains("secret-word"));
    let taken = start.elapsed();
    assert!(
        (Duration::from_millis(690)..LIMIT / 3).contains(&taken),
        "{taken:?}"
    );
    let health = driver.health();
    assert!(!health.connected && health.last_error.unwrap().contains("refused"));
    within(driver.close()).await;
}

#[tokio::test]
async fn retries_count_attempts_to_connect() {
    let driver = driver(&format!("rabbit://127.0.0.1:{}/", free_port().unwrap()));
    for (retry, attempts) in [(Retry::Never, "1"), (Retry::Times(1), "2")] {
        let mut message = message(to_topic("topic-a"), "{}");
        message.deadline = None;
        message.retry = retry;
        let error = send(&driver, message).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(
            error.fields().any(|field| field == ("attempts", attempts)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_listener_gives_up_on_an_unreachable_broker_at_the_option_s_deadline() {
    let mut config = RabbitConfig::default();
    config.listen_timeout = 0.5;
    let driver = driver_with(
        &format!("rabbit://127.0.0.1:{}/", free_port().unwrap()),
        config,
    );
    let error = listen(&driver, rpc("topic-a", "server-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_refused_login_is_told_at_once_and_tried_again_by_the_next_operation() {
    let Some(vhost) = vhost_or_skip("a_refused_login_is_told_at_once").await else {
        return;
    };
    let user = format!("late-{}", std::process::id());
    let driver = driver(
        &vhost
            .url()
            .replace("guest:guest", &format!("{user}:secret-word")),
    );
    let (sent, listened) = tokio::join!(
        send(&driver, message(to_topic("topic-a"), "{}")),
        listen(&driver, rpc("topic-a", "server-1")),
    );
    for error in [sent.unwrap_err(), listened.err().unwrap()] {
        assert_eq!(error.kind(), ErrorKind::AccessRefused);
        assert!(
            !error.is_retryable() && error.to_string().contains("403"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("secret-word"));
    }
    assert!(
        driver
            .health()
            .last_error
            .unwrap()
            .contains("refused the login")
    );

    vhost
        .broker()
        .create_user(&user, "secret-word")
        .await
        .unwrap();
    vhost
        .set_permissions(&user, ".*", ".*", ".*")
        .await
        .unwrap();
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "now"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "now");
    within(driver.close()).await;
}

#[tokio::test]
async fn an_unknown_virtual_host_is_told_at_once() {
    let Some(vhost) = vhost_or_skip("an_unknown_virtual_host_is_told_at_once").await else {
        return;
    };
    let driver = driver(&vhost.broker().url("no-such-vhost"));
    let error = send(&driver, message(to_topic("topic-a"), "{}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert!(error.to_string().contains("vhost no-such-vhost"), "{error}");
    let error = listen(&driver, rpc("topic-a", "server-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
}

#[tokio::test]
async fn the_next_broker_of_several_takes_over() {
    let Some(vhost) = vhost_or_skip("the_next_broker_of_several_takes_over").await else {
        return;
    };
    let (one, two) = (
        Proxy::start(vhost.broker().port()).await.unwrap(),
        Proxy::start(vhost.broker().port()).await.unwrap(),
    );
    let login = "guest:guest@127.0.0.1";
    let hosts = format!(
        "{login}:{},{login}:{},{login}:{}",
        free_port().unwrap(),
        one.port(),
        two.port()
    );
    let driver = driver(&format!("rabbit://{hosts}/{}", vhost.name()));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "first"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "first");
    for proxy in [&one, &two] {
        settled(&vhost, "topic-a").await;
        // Each carries one of the two connections.
        proxy.refuse(true).await.unwrap();
        proxy.cut();
        let other = if std::ptr::eq(proxy, &one) {
            &two
        } else {
            &one
        };
        other.refuse(false).await.unwrap();
        proxy.refuse(false).await.unwrap();
        send(&driver, message(to_topic("topic-a"), "again"))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "again");
    }
    within(driver.close()).await;
}

#[tokio::test]
async fn no_unconfirmed_message_is_lost_when_connections_are_cut_under_load() {
    const SENDERS: usize = 32;
    const EACH: usize = 40;
    let Some(vhost) =
        vhost_or_skip("no_unconfirmed_message_is_lost_when_connections_are_cut").await
    else {
        return;
    };
    let receiver = driver(&vhost.url());
    let (_listener, inbox) = serve(&receiver, "topic-a", "server-1").await;
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let sender = Arc::new(driver(&vhost.url_through(proxy.port())));
    proxy.cut_after(Direction::ToBroker, 40_000);
    let mut senders = tokio::task::JoinSet::new();
    for n in 0..SENDERS {
        let sender = Arc::clone(&sender);
        senders.spawn(async move {
            for m in 0..EACH {
                let body = format!("{n}-{m}-{}", "x".repeat(100));
                send(&sender, mandatory(to_topic("topic-a"), body))
                    .await
                    .unwrap();
            }
        });
    }
    let mut seen = HashSet::new();
    while seen.len() < SENDERS * EACH {
        // What comes a second time after a cut is no reason for another one, or there would be no end of them.
        let is_news = seen.insert(inbox.body().await);
        if is_news && seen.len() == SENDERS * EACH / 2 {
            proxy.cut();
        }
    }
    senders.join_all().await;
    assert!(
        proxy.connections_ever() >= 3,
        "{}",
        proxy.connections_ever()
    );
    within(sender.close()).await;
}

/// A cut connection takes no message away, and where a canary tells so, nobody asks for replies.
#[tokio::test]
async fn replies_are_in_doubt_after_a_cut_only_where_no_canary_tells_that_the_broker_stayed() {
    let test = "replies_are_in_doubt_after_a_cut_only_where_no_canary_tells";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    for (query, doubted) in [
        ("", transient_refused()),
        ("amqp_durable_queues=true", true),
        ("rabbit_transient_quorum_queue=true", false),
    ] {
        let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
        let driver = driver(&format!("{}?{query}", vhost.url_through(proxy.port())));
        let (_replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
        for _ in 0..2 {
            proxy.cut();
            assert!(matches!(answers.event().await, ListenerEvent::Interrupted));
            if doubted {
                let told = answers.event().await;
                assert!(matches!(told, ListenerEvent::Astray), "{query}: {told:?}");
            }
            let told = answers.event().await;
            assert!(
                matches!(told, ListenerEvent::Restored { recreated: false }),
                "{query}: {told:?}"
            );
        }
        within(driver.close()).await;
    }
}

#[tokio::test]
async fn a_cut_connection_is_back_soon_with_all_subscriptions_under_their_names() {
    let Some(vhost) = vhost_or_skip("a_cut_connection_is_back_soon_with_all_subscriptions").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let (_one, first) = serve(&driver, "topic-a", "server-1").await;
    let (_two, second) = serve(&driver, "topic-b", "server-1").await;
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    send(&driver, mandatory(to_topic("topic-a"), "unsettled"))
        .await
        .unwrap();
    let unsettled = first.next().await;
    let names: Vec<String> = vhost
        .queues()
        .await
        .unwrap()
        .into_iter()
        .map(|queue| queue.name)
        .collect();

    let cut = Stopwatch::start().unwrap();
    proxy.cut();
    for inbox in [&first, &second, &answers] {
        assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
        assert!(!inbox.restored().await, "the queue was there all the time");
    }
    let taken = cut.elapsed_without_waits().unwrap();
    assert!(taken < Duration::from_secs(2), "{taken:?} of {cut:?}");
    let again: Vec<String> = vhost
        .queues()
        .await
        .unwrap()
        .into_iter()
        .map(|queue| queue.name)
        .collect();
    assert_eq!(names, again);
    // The old delivery belongs to the old connection; the broker hands it out again.
    unsettled.ack();
    let redelivered = first.next().await;
    assert!(redelivered.is_redelivered());
    redelivered.ack();
    let queue = replies.address().unwrap();
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    send(
        &driver,
        mandatory(Destination::Fanout { topic: "topic-b" }, "fanout"),
    )
    .await
    .unwrap();
    assert_eq!(second.body().await, "fanout");
    assert_eq!(proxy.connections_now(), 2);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_reply_queue_that_vanished_with_the_connection_is_told_as_recreated() {
    let Some(vhost) = vhost_or_skip("a_reply_queue_that_vanished_with_the_connection").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    let queue = replies.address().unwrap().to_owned();
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    assert!(matches!(answers.event().await, ListenerEvent::Interrupted));
    vhost.delete_queue(&queue).await.unwrap();
    proxy.refuse(false).await.unwrap();
    assert!(answers.restored().await);
    send(
        &driver,
        mandatory(Destination::Reply { queue: &queue }, "answer"),
    )
    .await
    .unwrap();
    assert_eq!(answers.body().await, "answer");
}

#[tokio::test]
async fn a_deleted_queue_is_made_again_without_disturbing_others() {
    let Some(vhost) =
        vhost_or_skip("a_deleted_queue_is_made_again_without_disturbing_others").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&durable(&vhost.url_through(proxy.port())));
    let (_one, deleted) = serve(&driver, "topic-a", "server-1").await;
    let (_two, other) = serve(&driver, "topic-b", "server-1").await;
    vhost.delete_queue("topic-a").await.unwrap();
    assert!(matches!(deleted.event().await, ListenerEvent::Interrupted));
    assert!(deleted.restored().await, "what was in it is lost");
    send(&driver, mandatory(to_topic("topic-a"), "again"))
        .await
        .unwrap();
    assert_eq!(deleted.body().await, "again");
    send(&driver, mandatory(to_topic("topic-b"), "still"))
        .await
        .unwrap();
    assert_eq!(other.body().await, "still");
    assert!(!other.has_event().await);
    assert_eq!(proxy.connections_ever(), 2);
    assert_eq!(driver.health().consumers, 6);
}

#[tokio::test]
async fn a_driver_closes_in_time_although_its_broker_is_silent() {
    let Some(vhost) = vhost_or_skip("a_driver_closes_in_time_although_its_broker_is_silent").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let driver = driver(&vhost.url_through(proxy.port()));
    let (_listener, _) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "{}"))
        .await
        .unwrap();
    proxy.pause();
    let mut message = message(to_topic("topic-a"), "late");
    let start = Instant::now();
    message.deadline = Some(start + Duration::from_millis(300));
    let error = send(&driver, message).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    within(driver.close()).await;
}

#[tokio::test]
async fn work_flows_again_within_two_seconds_of_a_broker_restart() {
    let Some(mut node) =
        Node::boot_or_skip("work_flows_again_within_two_seconds_of_a_broker_restart").await
    else {
        return;
    };
    let driver = Arc::new(driver(&node.url("")));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    send(&driver, mandatory(to_topic("topic-a"), "before"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "before");

    node.stop().await.unwrap();
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    assert!(matches!(answers.event().await, ListenerEvent::Interrupted));
    // A send under way all the time goes out when the broker is back.
    let sending = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move {
            let mut message = message(to_topic("topic-a"), "during");
            message.deadline = Some(Instant::now() + Duration::from_secs(100));
            driver.send(message).await
        }
    });
    node.start().await.unwrap();
    let up = Stopwatch::start().unwrap();
    inbox.restored().await;
    assert_eq!(
        answers.restored().await,
        !transient_refused(),
        "requests in transient queues do not survive a restart"
    );
    let queue = replies.address().unwrap();
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    send(&driver, mandatory(to_topic("topic-a"), "after"))
        .await
        .unwrap();
    within(sending).await.unwrap().unwrap();
    // "during" may have been published before the queue was declared again, and is then lost like any cast to nobody.
    let mut got = inbox.body().await;
    if got == "during" {
        got = inbox.body().await;
    }
    assert_eq!(got, "after");
    let taken = up.elapsed_without_waits().unwrap();
    assert!(taken < Duration::from_secs(2), "{taken:?} of {up:?}");

    node.kill().await.unwrap();
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    node.start().await.unwrap();
    inbox.restored().await;
    send(&driver, mandatory(to_topic("topic-a"), "after a kill"))
        .await
        .unwrap();
    // What was acknowledged just before the kill may come once more where the queue survived.
    while inbox.body().await != "after a kill" {}
    within(driver.close()).await;
}

#[tokio::test]
async fn a_broker_that_blocks_publishers_or_refuses_the_size_is_waited_for_or_told() {
    let Some(node) =
        Node::boot_or_skip("a_broker_that_blocks_publishers_or_refuses_the_size").await
    else {
        return;
    };
    let driver = driver(&node.url(""));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;

    // The engine's limit is read when a channel opens, so before the first publish.
    limit_messages(&node, 100_000).await;
    let error = send(&driver, message(to_topic("topic-a"), vec![b'x'; 100_001]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(
        !error.is_retryable() && error.to_string().contains("topic topic-a"),
        "{error}"
    );
    send(&driver, mandatory(to_topic("topic-a"), vec![b'x'; 100_000]))
        .await
        .unwrap();
    assert_eq!(inbox.body().await.len(), 100_000);

    node.memory_alarm(true).await.unwrap();
    // RabbitMQ tells a connection that it is blocked when it publishes.
    let mut first = message(to_topic("topic-a"), "blocked");
    first.deadline = Some(Instant::now() + Duration::from_secs(1));
    let error = send(&driver, first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(driver.health().blocked && driver.health().connected);
    let mut second = message(to_topic("topic-a"), "never sent");
    second.deadline = Some(Instant::now() + Duration::from_millis(100));
    let error = send(&driver, second).await.unwrap_err();
    assert!(error.to_string().contains("blocks publishers"), "{error}");

    let waiting = send(&driver, message(to_topic("topic-a"), "patient"));
    let (sent, released) = tokio::join!(waiting, node.memory_alarm(false));
    released.unwrap();
    sent.unwrap();
    assert!(!driver.health().blocked);
    // What was handed to the broker before it said so may arrive; what was held back must not.
    let mut got = inbox.body().await;
    if got == "blocked" {
        got = inbox.body().await;
    }
    assert_eq!(got, "patient");
    within(driver.close()).await;
}

#[tokio::test]
async fn a_login_that_is_refused_for_a_while_costs_a_service_that_ran_nothing() {
    let test = "a_login_that_is_refused_for_a_while_costs_a_service_that_ran_nothing";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let user = format!("changing-{}", std::process::id());
    vhost.broker().create_user(&user, "first").await.unwrap();
    vhost
        .set_permissions(&user, ".*", ".*", ".*")
        .await
        .unwrap();
    let password = async |password: &str| {
        let (user, password) = (erlang_binary(&user), erlang_binary(password));
        let change = format!(
            "ok = rabbit_auth_backend_internal:change_password({user}, {password}, <<\"test\">>)"
        );
        vhost.broker().run(&change).await.unwrap();
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let url = vhost
        .url_through(proxy.port())
        .replace("guest:guest", &format!("{user}:first"));
    let driver = driver(&durable(&url));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    assert_eq!(proxy.connections_ever(), 1);

    password("second").await;
    proxy.cut();
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    // It worked before, so it may work again: what is sent waits for that, and is told why not.
    let before = proxy.connections_ever();
    let mut patient = message(to_topic("topic-a"), "{}");
    patient.deadline = Some(Instant::now() + Duration::from_secs(4));
    let error = send(&driver, patient).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    let attempts = proxy.connections_ever() - before;
    assert!(
        (2..=24).contains(&attempts),
        "both connections try, and not in a storm: {attempts}"
    );

    let sending = send(&driver, message(to_topic("topic-a"), "waited"));
    let (sent, ()) = tokio::join!(sending, password("first"));
    sent.unwrap();
    assert!(!inbox.restored().await);
    assert_eq!(inbox.body().await, "waited");
    let (_other, _) = serve(&driver, "topic-b", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "back"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "back");
    assert_eq!(driver.health().consumers, 6);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_listen_that_is_dropped_leaves_no_consumer_behind() {
    let Some(vhost) = vhost_or_skip("a_listen_that_is_dropped_leaves_no_consumer_behind").await
    else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let url = durable(&vhost.url_through(proxy.port()));
    // The first look after the queues opens a channel that is kept, and may come before or after the count below.
    let driver = driver(&format!("{url}&consumer_check_interval=0"));
    let (_kept, _) = serve(&driver, "topic-b", "server-1").await;
    // Each answer takes a while, so that the attempts end at different steps of the set-up.
    proxy.delay(Duration::from_millis(10));
    for step in 1..20 {
        let (inbox, _collector) = collector();
        let patience = Duration::from_millis(15 * step);
        let listening = driver.listen(rpc("topic-a", "server-1"), inbox);
        let _ = tokio::time::timeout(patience, listening).await;
    }
    proxy.delay(Duration::ZERO);
    vhost
        .wait_for_queue("topic-a", |queue| queue.consumers == 0)
        .await
        .unwrap();
    vhost
        .wait_for_connections(|all| all.len() == 1 && all[0].channels == 1)
        .await
        .unwrap();
    assert_eq!(driver.health().consumers, 3);
    assert_eq!(proxy.connections_ever(), 1);
    within(driver.close()).await;
}

#[tokio::test]
async fn a_connection_the_broker_closes_is_made_again() {
    let Some(vhost) = vhost_or_skip("a_connection_the_broker_closes_is_made_again").await else {
        return;
    };
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "before"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "before");
    settled(&vhost, "topic-a").await;
    vhost.close_connections("maintenance").await.unwrap();
    assert!(matches!(inbox.event().await, ListenerEvent::Interrupted));
    assert!(!inbox.restored().await);
    send(&driver, mandatory(to_topic("topic-a"), "after"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "after");
    assert!(driver.health().last_error.unwrap().contains("maintenance"));
}

#[test]
fn a_driver_outlives_the_runtime_that_connected_first() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let test = "a_driver_outlives_the_runtime_that_connected_first";
    let Some(vhost) = first.block_on(vhost_or_skip(test)) else {
        return;
    };
    let driver = driver(&durable(&vhost.url()));
    let (_listener, inbox) = first.block_on(async {
        let served = serve(&driver, "topic-a", "server-1").await;
        send(&driver, mandatory(to_topic("topic-a"), "first"))
            .await
            .unwrap();
        assert_eq!(served.1.body().await, "first");
        settled(&vhost, "topic-a").await;
        served
    });
    drop(first);
    assert!(!driver.health().connected, "its tasks are gone");
    runtime().block_on(async {
        let (_listener, inbox) = serve(&driver, "topic-a", "server-2").await;
        send(&driver, mandatory(to_topic("topic-a"), "second"))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "second");
        assert!(driver.health().connected);
        within(driver.close()).await;
    });
    drop((inbox, vhost));
}

#[tokio::test]
async fn a_call_without_retries_fails_at_once_where_nobody_listens() {
    let driver = driver(&format!("rabbit://127.0.0.1:{}/", free_port().unwrap()));
    let transport = Transport::new(Arc::new(driver), TransportOptions::default());
    let client = RpcClient::new(transport.clone(), Target::topic("topic-a"));
    let client = client.retry(Retry::Never).timeout(LIMIT);
    let start = Instant::now();
    let called = within(client.call::<_, ()>(&Context::new(), "echo", ())).await;
    assert_eq!(called.unwrap_err().kind(), ErrorKind::Unreachable);
    assert!(start.elapsed() < LIMIT / 4, "{:?}", start.elapsed());
    within(transport.close()).await;
}

#[tokio::test]
async fn a_server_starts_while_the_last_other_one_of_its_topic_stops() {
    let test = "a_server_starts_while_the_last_other_one_of_its_topic_stops";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let (old, new) = (driver(&vhost.url()), driver(&vhost.url()));
    // With its last queue the fanout exchange goes: between our declaration and our binding, too.
    let mut serving = serve(&old, "topic-a", "server").await.0;
    for round in 0..25 {
        let next = if round % 2 == 0 { &new } else { &old };
        let stop = serving.close();
        let (started, ()) = tokio::join!(listen(next, rpc("topic-a", "server")), within(stop));
        serving = started.unwrap().0;
    }
    within(serving.close()).await;
    within(old.close()).await;
    within(new.close()).await;
}

#[tokio::test]
async fn a_permission_that_is_taken_for_a_while_costs_a_message_its_time_and_nothing_else() {
    let test = "a_permission_that_is_taken_for_a_while_costs_a_message_its_time";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let user = format!("paused-{}", std::process::id());
    vhost.broker().create_user(&user, "word").await.unwrap();
    let allow = async |what: &str| {
        let allowed = vhost.set_permissions(&user, what, what, what);
        allowed.await.unwrap();
    };
    allow(".*").await;
    let url = vhost.url().replace("guest:guest", &format!("{user}:word"));
    let driver = driver(&durable(&url));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    send(&driver, mandatory(to_topic("topic-a"), "before"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "before");
    allow("^$").await;
    // Permissions are asked for again on a new connection.
    vhost.close_connections("by the test").await.unwrap();
    let sending = send(&driver, message(to_topic("topic-a"), "during"));
    let granted = async {
        // Longer than a refusal is borne that was never preceded by a message that was taken.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        allow(".*").await;
    };
    let (sent, ()) = tokio::join!(sending, granted);
    sent.unwrap();
    assert_eq!(inbox.body().await, "during");

    // Where nothing was ever taken, waiting is of no use.
    allow("^(openstack|topic.*)$").await;
    vhost.close_connections("by the test").await.unwrap();
    let elsewhere = Destination::Topic {
        exchange: Some("forbidden"),
        topic: "t",
    };
    let start = Instant::now();
    let error = send(&driver, message(elsewhere, "{}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
    within(driver.close()).await;
}
