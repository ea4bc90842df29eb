//! What the driver declares, adopts or refuses on a broker that has things already, and what survives a restart.

use std::collections::BTreeSet;

use oslo_messaging_amqp as amqp;
use oslo_messaging_core::driver::{Destination, Driver, ListenerEvent, Retry, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use serde_json::Value;

use crate::support::*;

/// A URL with options.
fn with(vhost: &Vhost, query: &str) -> String {
    format!("{}?{query}", vhost.url())
}

async fn declare_exchange(channel: &amqp::Channel, name: &str, kind: &str, durable: bool) {
    let declare = amqp::ExchangeDeclare {
        name,
        kind,
        durable,
        ..Default::default()
    };
    within(channel.exchange_declare(&declare)).await.unwrap();
}

async fn declare_queue(channel: &amqp::Channel, name: &str, durable: bool, arguments: amqp::Table) {
    let declare = amqp::QueueDeclare {
        name,
        durable,
        arguments,
        ..Default::default()
    };
    within(channel.queue_declare(&declare)).await.unwrap();
}

/// Whether a server on `topic-a` with these options starts and gets what is sent to it.
async fn serves(vhost: &Vhost, query: &str) {
    let driver = driver(&with(vhost, query));
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    for to in [
        to_topic("topic-a"),
        Destination::Server {
            exchange: None,
            topic: "topic-a",
            server: "server-1",
        },
        Destination::Fanout { topic: "topic-a" },
    ] {
        send(&driver, mandatory(to, "hello")).await.unwrap();
        assert_eq!(inbox.body().await, "hello", "{to}");
    }
    within(driver.close()).await;
}

#[tokio::test]
async fn private_queues_have_the_form_the_options_ask_for() {
    let Some(vhost) = vhost_or_skip("private_queues_have_the_form_the_options_ask_for").await
    else {
        return;
    };
    for (query, durable, kind) in [
        ("private_queues=classic", true, None),
        ("private_queues=reference", false, None),
        ("rabbit_transient_quorum_queue=true", true, Some("quorum")),
    ] {
        if transient_refused() && !durable {
            continue;
        }
        let driver = driver(&with(&vhost, query));
        let (replies, _) = listen(&driver, Subscription::Replies).await.unwrap();
        let queue = vhost
            .queue(replies.address().unwrap())
            .await
            .unwrap()
            .unwrap();
        // Later releases name the type that is none in particular.
        let found = queue
            .arguments
            .get("x-queue-type")
            .filter(|kind| **kind != "classic");
        assert_eq!(queue.durable, durable, "{query}");
        assert_eq!(found.and_then(|kind| kind.as_str()), kind, "{query}");
        assert_eq!(queue.arguments["x-expires"], 1_800_000, "{query}");
        within(driver.close()).await;
    }
}

#[tokio::test]
async fn a_canary_is_kept_beside_transient_topics_only_and_taken_away_at_the_end() {
    let Some(vhost) = vhost_or_skip("a_canary_is_kept_beside_transient_topics_only").await else {
        return;
    };
    let canaries = async || {
        let queues = vhost.queues().await.unwrap();
        let canary = |name: &str| name.starts_with("oslo_canary_");
        queues.iter().filter(|queue| canary(&queue.name)).count()
    };
    for (query, expected) in [
        ("", usize::from(!transient_refused())),
        ("amqp_durable_queues=true", 0),
        ("rabbit_quorum_queue=true", 0),
    ] {
        let driver = driver(&with(&vhost, query));
        let (_one, _) = listen(&driver, Subscription::Replies).await.unwrap();
        let (_two, _) = listen(&driver, Subscription::Replies).await.unwrap();
        assert_eq!(canaries().await, expected, "{query}");
        within(driver.close()).await;
        assert_eq!(canaries().await, 0, "{query}");
    }
}

/// `topo_durable_mismatch`: the reference declares exchange and queue as non-durable then, and so do we.
#[tokio::test]
async fn a_durable_service_uses_a_transient_exchange_with_a_transient_queue() {
    let Some(vhost) = vhost_or_skip("a_durable_service_uses_a_transient_exchange").await else {
        return;
    };
    if transient_refused() {
        // There can be no transient queue there.
        return;
    }
    let (_connection, channel) = raw(&vhost).await;
    declare_exchange(&channel, "openstack", "topic", false).await;
    serves(&vhost, "amqp_durable_queues=true").await;
    let queues = queues_of(&vhost).await;
    assert!(queues.iter().all(|queue| !queue.durable), "{queues:?}");
}

/// `topo_queue_mismatch`: the reference's server does not start; ours uses the queue.
#[tokio::test]
async fn a_durable_service_uses_a_transient_queue_on_a_durable_exchange() {
    let Some(vhost) = vhost_or_skip("a_durable_service_uses_a_transient_queue").await else {
        return;
    };
    if transient_refused() {
        // There can be no transient queue there.
        return;
    }
    let (_connection, channel) = raw(&vhost).await;
    declare_exchange(&channel, "openstack", "topic", true).await;
    declare_queue(&channel, "topic-a", false, amqp::Table::new()).await;
    serves(&vhost, "amqp_durable_queues=true").await;
    let queues = queues_of(&vhost).await;
    let durable: Vec<bool> = queues.iter().map(|queue| queue.durable).collect();
    assert_eq!(
        durable,
        [false, true],
        "topic-a as it was, topic-a.server-1 as asked"
    );
}

#[tokio::test]
async fn a_service_uses_what_exists_whatever_its_properties() {
    let Some(vhost) = vhost_or_skip("a_service_uses_what_exists_whatever_its_properties").await
    else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    let quorum = amqp::Table::new().with("x-queue-type", "quorum");
    declare_exchange(&channel, "openstack", "topic", true).await;
    declare_exchange(&channel, "topic-a_fanout", "fanout", true).await;
    declare_queue(&channel, "topic-a", true, quorum).await;
    let short = amqp::Table::new().with("x-max-length", 5);
    declare_queue(&channel, "topic-a.server-1", true, short).await;
    for query in ["", "rabbit_quorum_queue=true", "amqp_auto_delete=true"] {
        serves(&vhost, query).await;
    }
    let exchanges = vhost.exchanges().await.unwrap();
    let kept = |name: &str| {
        exchanges
            .iter()
            .any(|exchange| exchange.name == name && exchange.durable)
    };
    assert!(kept("openstack") && kept("topic-a_fanout"), "{exchanges:?}");
}

#[tokio::test]
async fn an_exchange_of_another_type_is_an_error_with_both_settings() {
    let Some(vhost) = vhost_or_skip("an_exchange_of_another_type_is_an_error").await else {
        return;
    };
    let (_connection, channel) = raw(&vhost).await;
    declare_exchange(&channel, "openstack", "fanout", false).await;
    let driver = driver(&vhost.url());
    let error = listen(&driver, rpc("topic-a", "server-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Listen);
    let text = error.to_string();
    for part in [
        "exchange openstack",
        "asked for type=topic durable=",
        "current is 'fanout'",
        "delete it",
        "RabbitMQ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let error = send(&driver, once(to_topic("topic-a"), "{}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    within(driver.close()).await;
}

#[tokio::test]
async fn default_options_work_whether_the_broker_takes_transient_queues_or_not() {
    let test = "default_options_work_whether_the_broker_takes_transient_queues_or_not";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let (connection, channel) = raw(&vhost).await;
    let probe = amqp::QueueDeclare {
        name: "probe",
        ..Default::default()
    };
    let refuses = within(channel.queue_declare(&probe)).await.is_err();
    assert_eq!(
        refuses,
        !connection.is_open(),
        "a refusal costs the connection"
    );
    let driver = driver(&vhost.url());
    let (_listener, inbox) = serve(&driver, "topic-a", "server-1").await;
    let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
    send(&driver, mandatory(to_topic("topic-a"), "hello"))
        .await
        .unwrap();
    assert_eq!(inbox.body().await, "hello");
    let queue = replies.address().unwrap();
    send(&driver, mandatory(Destination::Reply { queue }, "answer"))
        .await
        .unwrap();
    assert_eq!(answers.body().await, "answer");
    let topic = vhost.queue("topic-a").await.unwrap().unwrap();
    assert_eq!(topic.durable, refuses);
    assert_eq!(is_quorum(&topic), refuses);
    // What exists is used as it is, whoever made it.
    let second = driver_again(&vhost).await;
    if refuses {
        let (_connection, channel) = raw(&vhost).await;
        declare_queue(&channel, "topic-b", true, amqp::Table::new()).await;
        let (_adopted, inbox) = serve(&driver, "topic-b", "server-1").await;
        send(&driver, mandatory(to_topic("topic-b"), "hello"))
            .await
            .unwrap();
        assert_eq!(inbox.body().await, "hello");
        let reference = driver_with_reference(&vhost);
        let error = listen(&reference, Subscription::Replies)
            .await
            .err()
            .unwrap();
        let text = error.to_string();
        for part in ["queue reply_", "RabbitMQ 4", "private_queues=classic"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    within(second.close()).await;
    within(driver.close()).await;
}

async fn driver_again(vhost: &Vhost) -> oslo_messaging_rabbit::driver::RabbitDriver {
    let driver = driver(&vhost.url());
    let (listener, _) = serve(&driver, "topic-a", "server-2").await;
    within(listener.close()).await;
    driver
}

fn driver_with_reference(vhost: &Vhost) -> oslo_messaging_rabbit::driver::RabbitDriver {
    driver(&with(vhost, "private_queues=reference"))
}

#[tokio::test]
async fn after_a_restart_persistent_replies_are_still_there_and_what_may_be_lost_is_told() {
    let test = "after_a_restart_persistent_replies_are_still_there_and_what_may_be_lost_is_told";
    let Some(mut node) = Node::boot_or_skip(test).await else {
        return;
    };
    let transient = driver(&node.url(""));
    let durable = driver(&format!("{}?amqp_durable_queues=true", node.url("")));
    let (kept, answers) = listen(&transient, Subscription::Replies).await.unwrap();
    let (_same, steady) = listen(&durable, Subscription::Replies).await.unwrap();
    let (_server, inbox) = serve(&transient, "topic-a", "server-1").await;
    // It stands in the queue when the broker goes: nobody takes replies any more.
    within(kept.pause()).await;
    let queue = kept.address().unwrap().to_owned();
    let to = Destination::Reply { queue: &queue };
    send(&transient, mandatory(to, "stands")).await.unwrap();
    let mut kept_elsewhere = mandatory(to, "goes");
    kept_elsewhere.persistent = false;
    send(&transient, kept_elsewhere).await.unwrap();
    node.kill().await.unwrap();
    assert!(matches!(steady.event().await, ListenerEvent::Interrupted));
    node.start().await.unwrap();
    assert_eq!(
        inbox.restored().await,
        !transient_refused(),
        "transient topics are lost with the node"
    );
    // Beside durable topics no canary tells of a restart.
    assert!(matches!(steady.event().await, ListenerEvent::Astray));
    assert!(!steady.restored().await, "durable topics are not");
    let depths: Vec<Value> = node
        .eval(
            "[#{name => Name, messages => Count} || [{name, {resource, _, _, Name}}, {messages, Count}] <- \
             rabbit_amqqueue:info_all(<<\"/\">>, [name, messages])]",
        )
        .await
        .unwrap();
    let one = serde_json::json!({"name": queue, "messages": 1});
    assert!(depths.contains(&one), "{depths:?}");
    assert!(!answers.has_event().await);
    within(transient.close()).await;
}

#[tokio::test]
async fn queues_of_every_form_the_options_ask_for_carry_messages() {
    let test = "queues_of_every_form_the_options_ask_for_carry_messages";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    // Where transient queues are refused, shared ones are quorum queues whatever else is asked for.
    let classic = !transient_refused();
    let limits = "rabbit_quorum_queue=true&rabbit_quorum_delivery_limit=7&rabbit_quorum_max_memory_length=100&\
                  rabbit_quorum_max_memory_bytes=100000";
    let quorum = ("x-queue-type", Value::from("quorum"));
    let limited = vec![
        quorum.clone(),
        ("x-delivery-limit", Value::from(7)),
        ("x-max-in-memory-length", Value::from(100)),
        ("x-max-in-memory-bytes", Value::from(100_000)),
    ];
    let mirrored = vec![("x-ha-policy", Value::from("all"))];
    let forms = [
        ("amqp_auto_delete=true", vec![], false),
        (
            "amqp_durable_queues=true&rabbit_ha_queues=true",
            mirrored,
            false,
        ),
        ("rabbit_quorum_queue=true", vec![quorum.clone()], false),
        (limits, limited, false),
        (
            "rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true",
            vec![quorum],
            true,
        ),
        (
            "amqp_durable_queues=true&enable_cancel_on_failover=true",
            vec![],
            false,
        ),
    ];
    for (number, (query, arguments, private_quorum)) in forms.into_iter().enumerate() {
        let topic = format!("topic-{number}");
        let driver = driver(&with(&vhost, query));
        let (_listener, inbox) = serve(&driver, &topic, "server-1").await;
        let (replies, answers) = listen(&driver, Subscription::Replies).await.unwrap();
        let queue = vhost.queue(&topic).await.unwrap().unwrap();
        for (name, value) in arguments {
            assert_eq!(queue.arguments.get(name), Some(&value), "{query}");
        }
        if classic {
            assert_eq!(queue.auto_delete, query.contains("auto_delete"), "{query}");
        }
        let address = replies.address().unwrap();
        let private = vhost.queue(address).await.unwrap().unwrap();
        let kind = private
            .arguments
            .get("x-queue-type")
            .and_then(|kind| kind.as_str());
        assert_eq!(kind == Some("quorum"), private_quorum, "{query}");
        let server = Destination::Server {
            exchange: None,
            topic: &topic,
            server: "server-1",
        };
        for to in [
            to_topic(&topic),
            server,
            Destination::Fanout { topic: &topic },
        ] {
            send(&driver, mandatory(to, "hello")).await.unwrap();
            assert_eq!(inbox.body().await, "hello", "{query}");
        }
        send(
            &driver,
            mandatory(Destination::Reply { queue: address }, "answer"),
        )
        .await
        .unwrap();
        assert_eq!(answers.body().await, "answer", "{query}");
        within(driver.close()).await;
    }
}

#[tokio::test]
async fn what_a_run_declared_is_removed_and_nothing_of_others() {
    let Some(vhost) = vhost_or_skip("what_a_run_declared_is_removed").await else {
        return;
    };
    let driver = driver(&with(&vhost, "rabbit_quorum_queue=true"));
    let (ours, _) = serve(&driver, "topic-a", "server-1").await;
    let (theirs, _) = serve(&driver, "topic-b", "server-1").await;
    within(ours.close()).await;
    send(&driver, mandatory(to_topic("topic-a"), "left behind"))
        .await
        .unwrap();
    let remove = async |topic: &str| {
        let what = [rpc(topic, "server-1"), rpc(topic, "never there")];
        within(driver.remove(&what, Retry::Never)).await.unwrap();
    };
    remove("topic-a").await;
    let queues = queues_of(&vhost).await;
    assert!(
        queues.len() == 3 && queues.iter().all(|queue| queue.name.starts_with("topic-b")),
        "{queues:?}"
    );
    let exchanges = async || {
        let all = vhost.exchanges().await.unwrap();
        all.into_iter().map(|one| one.name).collect::<BTreeSet<_>>()
    };
    assert!(exchanges().await.contains("openstack"), "in use elsewhere");
    within(theirs.close()).await;
    remove("topic-b").await;
    assert_eq!(queues_of(&vhost).await, []);
    assert_eq!(exchanges().await, BTreeSet::new());

    vhost
        .set_permissions("guest", "^$", ".*", ".*")
        .await
        .unwrap();
    let refused = within(driver.remove(&[rpc("topic-a", "server-1")], Retry::Never)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AccessRefused);
    within(driver.close()).await;
    let closed = within(driver.remove(&[], Retry::Never)).await;
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
}
