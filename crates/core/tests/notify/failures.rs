//! What becomes of what was not handled: requeue, other tries, dead letters, and panics.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{
    DeadLetter, IntoNotificationOutcome, NotificationListener, NotificationOutcome, RetryPolicy,
};
use oslo_messaging_proto::{Notification, Priority, Target, Value};

use crate::support::*;

/// Answers with a failure so many times, then is content.
fn failing(times: u32) -> impl Fn(&Notification) -> NotificationOutcome {
    let left = AtomicU32::new(times);
    move |_| {
        let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        before.map_or(Ok(()), |_| Err("not yet")).into_outcome()
    }
}

fn quick(attempts: u32) -> RetryPolicy {
    RetryPolicy::new(attempts).pauses(Duration::from_millis(5), Duration::from_millis(20))
}

#[tokio::test]
async fn what_fails_comes_again_if_requeue_is_allowed_and_is_lost_if_not() {
    for (allow, tries) in [(true, 3_u32), (false, 1)] {
        let broker = MemoryBroker::new();
        let (all, mut hears) = ear_that(&[Priority::Info], failing(2));
        let listening = listener(&broker)
            .endpoint(all)
            .allow_requeue(allow)
            .start()
            .await
            .unwrap();
        notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
        for _ in 0..tries {
            assert_eq!(heard(&mut hears).await, "e");
        }
        until(|| listening.stats().handled + listening.stats().lost == 1).await;
        assert_eq!(listening.stats().requeued, u64::from(tries - 1));
        assert_eq!(listening.stats().lost, u64::from(!allow));
        listening.stop().await;
        assert!(hears.try_recv().is_err());
        assert_eq!(broker.waiting("openstack", "notifications.info"), 0);
    }
}

#[tokio::test]
async fn a_retry_limit_tries_here_with_pauses_and_needs_no_requeue_of_the_bus() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear_that(&[Priority::Info], failing(2));
    let listening = listener(&broker)
        .endpoint(all)
        .retry(quick(5))
        .start()
        .await
        .unwrap();
    notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
    until(|| listening.stats().handled == 1).await;
    assert_eq!(listening.stats().retried, 2);
    for _ in 0..3 {
        assert_eq!(heard(&mut hears).await, "e");
    }
    listening.stop().await;
}

#[tokio::test]
async fn what_failed_its_last_try_goes_where_dead_letters_go_with_the_original_and_the_reason() {
    let broker = MemoryBroker::new();
    let (all, _hears) = ear_that(&[Priority::Info], failing(u32::MAX));
    let (undertaker, mut dead) = ear(&[Priority::Info, Priority::Error]);
    let graves = NotificationListener::builder(broker.transport(), [Target::topic("dead")])
        .endpoint(undertaker)
        .start()
        .await
        .unwrap();
    let listening = listener(&broker)
        .endpoint(all)
        .pool("audit")
        .retry(quick(3))
        .dead_letter(DeadLetter::topic("dead"))
        .start()
        .await
        .unwrap();
    notifier(&broker).info(&ctx(), "e", &[1, 2]).await.unwrap();
    let (priority, note) = within(dead.recv()).await.unwrap();
    assert_eq!((priority, note.event_type()), (Priority::Info, Some("e")));
    assert_eq!(note.publisher_id(), Some("me"));
    assert_eq!(note.payload().as_str(), "[1, 2]");
    let why: Value = note.extra("_dead_letter").unwrap().parse().unwrap();
    assert_eq!(why.get("reason").unwrap().as_str(), Some("not yet"));
    assert_eq!(why.get("attempts").unwrap().to_string(), "3");
    assert_eq!(
        why.get("topics").unwrap().to_string(),
        r#"["notifications"]"#
    );
    assert_eq!(why.get("pool").unwrap().as_str(), Some("audit"));
    inject(&broker, "notifications.info", "no notification").await;
    let (_, note) = within(dead.recv()).await.unwrap();
    assert_eq!(note.event_type(), Some("oslo_messaging.unreadable"));
    assert_eq!(note.payload().as_str(), r#"{"body": "no notification"}"#);
    until(|| listening.stats().dead_lettered == 2).await;
    assert_eq!(listening.stats().lost, 0);
    listening.stop().await;
    graves.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_its_bus_does_not_take_keeps_the_notification() {
    let broker = MemoryBroker::new();
    let (stuck, far) = Stuck::transport();
    stuck.let_go();
    use oslo_messaging_core::error::ErrorKind;
    *stuck.faults.lock().unwrap() = vec![ErrorKind::DeliveryFailure; 3];
    let (all, mut hears) = ear_that(&[Priority::Info], failing(u32::MAX));
    let listening = listener(&broker)
        .endpoint(all)
        .dead_letter(DeadLetter::topic("dead").on(far))
        .start()
        .await
        .unwrap();
    notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(heard(&mut hears).await, "e");
    tokio::time::timeout(Duration::from_secs(600), async {
        while listening.stats().dead_lettered == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(stuck.events(), ["e"]);
    assert!(hears.try_recv().is_err(), "only the letter was tried again");
    listening.stop().await;
}

#[tokio::test]
async fn dead_letters_to_the_listeners_own_topic_are_refused() {
    let broker = MemoryBroker::new();
    let (all, _hears) = ear(&[Priority::Info]);
    let builder = listener(&broker).endpoint(all);
    let refused = builder
        .dead_letter(DeadLetter::topic("notifications"))
        .start()
        .await;
    assert!(refused.unwrap_err().to_string().contains("dead letters"));
}

#[tokio::test]
async fn a_panic_is_a_failure_and_ends_nothing() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear_that(&[Priority::Info], |note| {
        assert_ne!(note.event_type(), Some("bad"), "a fault of the endpoint");
        NotificationOutcome::Handled
    });
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    let notifier = notifier(&broker);
    notifier.info(&ctx(), "bad", &()).await.unwrap();
    until(|| listening.stats().lost == 1).await;
    notifier.info(&ctx(), "good", &()).await.unwrap();
    until(|| listening.stats().handled == 1).await;
    assert_eq!(heard(&mut hears).await, "bad");
    listening.stop().await;
}

#[tokio::test]
async fn a_priority_that_is_no_string_counts_as_a_failure() {
    let broker = MemoryBroker::new();
    let (all, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    inject(&broker, "notifications.info", r#"{"priority": 7}"#).await;
    inject(&broker, "notifications.info", r#"{"priority": null}"#).await;
    until(|| listening.stats().lost == 2).await;
    assert!(hears.try_recv().is_err());
    listening.stop().await;
}
