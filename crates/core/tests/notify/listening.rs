//! Who is called with what: priorities, targets, filters, pools, duplicates, settling.

use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{
    NotificationFilter, NotificationListener, NotificationOutcome, Notifier,
};
use oslo_messaging_proto::{Priority, Target};

use crate::support::*;

#[tokio::test]
async fn a_listener_takes_only_priorities_its_endpoints_handle() {
    let broker = MemoryBroker::new();
    let (errors, mut hears) = ear(&[Priority::Error]);
    let listening = listener(&broker).endpoint(errors).start().await.unwrap();
    let notifier = notifier(&broker);
    notifier.info(&ctx(), "left alone", &()).await.unwrap();
    notifier.error(&ctx(), "taken", &()).await.unwrap();
    assert_eq!(heard(&mut hears).await, "taken");
    listening.stop().await;
    assert_eq!(broker.waiting("openstack", "notifications.info"), 1);
    assert_eq!(broker.waiting("openstack", "notifications.error"), 0);
}

#[tokio::test]
async fn all_endpoints_get_a_notification_in_order_until_one_asks_for_another_try() {
    let broker = MemoryBroker::new();
    let (first, mut one) = ear(&[Priority::Info]);
    let (second, mut two) = ear_that(&[Priority::Info], |_| NotificationOutcome::Requeue);
    let (third, mut three) = ear(&[Priority::Info]);
    let listening = listener(&broker)
        .endpoint(first)
        .endpoint(second)
        .endpoint(third)
        .start()
        .await
        .unwrap();
    notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(heard(&mut one).await, "e");
    assert_eq!(heard(&mut two).await, "e");
    until(|| listening.stats().lost == 1).await;
    assert!(three.try_recv().is_err());
    listening.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_spared_what_its_filter_does_not_match() {
    let broker = MemoryBroker::new();
    let (mut picky, mut hears) = ear(&[Priority::Info]);
    picky.filter = Some(NotificationFilter::new().event_type(r"compute\.").unwrap());
    let (rest, mut all) = ear(&[Priority::Info]);
    let listening = listener(&broker)
        .endpoint(picky)
        .endpoint(rest)
        .start()
        .await
        .unwrap();
    let notifier = notifier(&broker);
    notifier.info(&ctx(), "volume.create", &()).await.unwrap();
    notifier.info(&ctx(), "compute.create", &()).await.unwrap();
    assert_eq!(heard(&mut hears).await, "compute.create");
    heard(&mut all).await;
    heard(&mut all).await;
    until(|| listening.stats().handled == 2).await;
    listening.stop().await;
}

#[tokio::test]
async fn the_method_goes_by_the_message_and_not_by_the_queue() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&[Priority::Info, Priority::Error]);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    inject(
        &broker,
        "notifications.info",
        r#"{"priority": "eRRor", "event_type": "e"}"#,
    )
    .await;
    let (priority, note) = within(hears.recv()).await.unwrap();
    assert_eq!((priority, note.message_id()), (Priority::Error, None));
    listening.stop().await;
}

#[tokio::test]
async fn unknown_priorities_are_acknowledged_and_what_is_no_notification_rejected() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker)
        .endpoint(all)
        .allow_requeue(true)
        .start()
        .await
        .unwrap();
    for body in [
        r#"{"priority": "URGENT"}"#,
        "[]",
        "",
        "{",
        r#"{"priority": "INFO", "event_type": "last"}"#,
    ] {
        inject(&broker, "notifications.info", body).await;
    }
    assert_eq!(heard(&mut hears).await, "last");
    until(|| listening.stats().handled == 1).await;
    let stats = listening.stats();
    assert_eq!((stats.ignored, stats.rejected, stats.requeued), (1, 3, 0));
    listening.stop().await;
    assert_eq!(broker.waiting("openstack", "notifications.info"), 0);
}

#[tokio::test]
async fn one_that_came_before_is_acknowledged_unread() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    let body = r#"{"priority": "INFO", "event_type": "once", "_unique_id": "u1"}"#;
    inject(&broker, "notifications.info", body).await;
    assert_eq!(heard(&mut hears).await, "once");
    until(|| listening.stats().handled == 1).await;
    inject(&broker, "notifications.info", body).await;
    until(|| listening.stats().duplicates == 1).await;
    assert!(hears.try_recv().is_err());
    listening.stop().await;
    assert_eq!(broker.waiting("openstack", "notifications.info"), 0);
}

#[tokio::test]
async fn every_pool_gets_a_copy_and_its_members_share_it() {
    let broker = MemoryBroker::new();
    let mut listeners = Vec::new();
    let mut counts = Vec::new();
    for pool in ["a", "b", "b"] {
        let (all, hears) = ear(&[Priority::Info]);
        listeners.push(
            listener(&broker)
                .pool(pool)
                .endpoint(all)
                .start()
                .await
                .unwrap(),
        );
        counts.push(hears);
    }
    let notifier = notifier(&broker);
    for n in 0..10 {
        notifier.info(&ctx(), &n.to_string(), &()).await.unwrap();
    }
    until(|| listeners.iter().map(|one| one.stats().handled).sum::<u64>() == 20).await;
    assert_eq!(listeners[0].stats().handled, 10);
    assert_eq!(
        listeners[1].stats().handled + listeners[2].stats().handled,
        10
    );
    assert_eq!(
        broker.waiting("openstack", "notifications.info"),
        10,
        "the queue without a pool fills"
    );
    for one in listeners {
        one.stop().await;
    }
}

#[tokio::test]
async fn targets_have_their_own_topics_and_exchanges() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&[Priority::Info]);
    let targets = [
        Target::topic("a"),
        Target::topic("b").exchange("nova"),
        Target::topic("a"),
    ];
    let listening = NotificationListener::builder(broker.transport(), targets)
        .endpoint(all)
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(broker.transport())
        .topics(["a", "b"])
        .build()
        .unwrap();
    notifier.info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(heard(&mut hears).await, "e");
    notifier.flush(LIMIT).await;
    listening.stop().await;
    assert_eq!(
        broker.waiting("openstack", "b.info"),
        1,
        "of another exchange"
    );
}

#[tokio::test]
async fn a_listener_that_cannot_work_is_refused_when_built() {
    let broker = MemoryBroker::new();
    let none = listener(&broker).start().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Config);
    let (deaf, _hears) = ear(&[]);
    let error = listener(&broker).endpoint(deaf).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let (all, _hears) = ear(&[Priority::Info]);
    let error = listener(&broker)
        .endpoint(all)
        .pool("")
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let (all, _hears) = ear(&[Priority::Info]);
    let nowhere = NotificationListener::builder(broker.transport(), [Target::new()]);
    let error = nowhere.endpoint(all).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget);
    let (all, _hears) = ear(&[Priority::Info]);
    let early = listener(&broker).since(std::time::SystemTime::UNIX_EPOCH);
    let error = early.endpoint(all).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn requeue_on_a_bus_without_it_is_refused_when_built() {
    let (_stuck, transport) = Stuck::transport();
    let (all, _hears) = ear(&[Priority::Info]);
    let builder = NotificationListener::builder(transport.clone(), [Target::topic("t")]);
    let error = builder
        .endpoint(all)
        .allow_requeue(true)
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("allow_requeue"), "{error}");
    let (all, _hears) = ear(&[Priority::Info]);
    let builder = NotificationListener::builder(transport, [Target::topic("t")]);
    builder.endpoint(all).start().await.unwrap().stop().await;
}
