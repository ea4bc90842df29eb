//! Batches: when they are full, when they are late, in what order, and what an answer holds for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{NotificationFilter, NotificationOutcome};
use oslo_messaging_proto::Priority;
use tokio::sync::mpsc;

use crate::support::*;

type Batches = mpsc::UnboundedReceiver<(Priority, Vec<String>)>;

fn basket(
    priorities: &[Priority],
    answer: impl Fn(Priority) -> NotificationOutcome + Send + Sync + 'static,
) -> (Basket, Batches) {
    let (heard, hears) = mpsc::unbounded_channel();
    let basket = Basket {
        priorities: priorities.to_vec(),
        filter: None,
        heard,
        answer: Box::new(answer),
    };
    (basket, hears)
}

async fn next(batches: &mut Batches) -> (Priority, Vec<String>) {
    within(batches.recv()).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_handled_when_it_is_full() {
    let broker = MemoryBroker::new();
    let (all, mut batches) = basket(&[Priority::Info], |_| NotificationOutcome::Handled);
    let listening = listener(&broker)
        .batch_endpoint(all)
        .batch(3, None)
        .start()
        .await
        .unwrap();
    let notifier = notifier(&broker);
    for n in 0..7 {
        notifier.info(&ctx(), &n.to_string(), &()).await.unwrap();
    }
    assert_eq!(next(&mut batches).await.1, ["0", "1", "2"]);
    assert_eq!(next(&mut batches).await.1, ["3", "4", "5"]);
    until(|| listening.stats().waiting == 1).await;
    assert!(batches.try_recv().is_err());
    assert_eq!(listening.stop().await.requeued, 1);
    assert_eq!(broker.waiting("openstack", "notifications.info"), 1);
}

#[tokio::test]
async fn a_batch_that_is_not_full_is_handled_when_its_time_is_over() {
    let broker = MemoryBroker::new();
    let (all, mut batches) = basket(&[Priority::Info], |_| NotificationOutcome::Handled);
    let wait = Duration::from_millis(100);
    let listening = listener(&broker)
        .batch_endpoint(all)
        .batch(100, Some(wait))
        .start()
        .await
        .unwrap();
    let notifier = notifier(&broker);
    let began = tokio::time::Instant::now();
    notifier.info(&ctx(), "a", &()).await.unwrap();
    notifier.info(&ctx(), "b", &()).await.unwrap();
    assert_eq!(next(&mut batches).await.1, ["a", "b"]);
    assert!(began.elapsed() >= wait);
    notifier.info(&ctx(), "c", &()).await.unwrap();
    assert_eq!(
        next(&mut batches).await.1,
        ["c"],
        "the time begins with the first"
    );
    listening.stop().await;
}

#[tokio::test]
async fn a_batch_is_handled_priority_by_priority_in_the_order_of_their_names() {
    let broker = MemoryBroker::new();
    let (all, mut batches) = basket(&Priority::ALL, |_| NotificationOutcome::Handled);
    let listening = listener(&broker)
        .batch_endpoint(all)
        .batch(5, None)
        .start()
        .await
        .unwrap();
    for (priority, event) in [
        ("warn", "1"),
        ("info", "2"),
        ("audit", "3"),
        ("info", "4"),
        ("error", "5"),
    ] {
        let body = format!(r#"{{"priority": "{priority}", "event_type": "{event}"}}"#);
        inject(&broker, "notifications.info", &body).await;
    }
    assert_eq!(
        next(&mut batches).await,
        (Priority::Audit, vec!["3".to_owned()])
    );
    assert_eq!(
        next(&mut batches).await,
        (Priority::Error, vec!["5".to_owned()])
    );
    assert_eq!(
        next(&mut batches).await,
        (Priority::Info, vec!["2".to_owned(), "4".to_owned()])
    );
    assert_eq!(
        next(&mut batches).await,
        (Priority::Warn, vec!["1".to_owned()])
    );
    until(|| listening.stats().handled == 5).await;
    listening.stop().await;
}

#[tokio::test]
async fn another_try_holds_for_the_whole_group_and_spares_later_endpoints() {
    let broker = MemoryBroker::new();
    let again = Arc::new(AtomicBool::new(true));
    let first_time = again.clone();
    let (mut first, mut batches) = basket(&[Priority::Info, Priority::Warn], move |priority| {
        if priority == Priority::Info && first_time.swap(false, Ordering::SeqCst) {
            NotificationOutcome::Requeue
        } else {
            NotificationOutcome::Handled
        }
    });
    first.filter = Some(NotificationFilter::new().event_type("x|w").unwrap());
    let (second, mut later) = basket(&[Priority::Info, Priority::Warn], |_| {
        NotificationOutcome::Handled
    });
    let listening = listener(&broker)
        .batch_endpoint(first)
        .batch_endpoint(second)
        .batch(3, Some(Duration::from_millis(200)))
        .allow_requeue(true)
        .start()
        .await
        .unwrap();
    for (priority, event) in [("info", "x"), ("warn", "w"), ("info", "y")] {
        let body = format!(r#"{{"priority": "{priority}", "event_type": "{event}"}}"#);
        inject(&broker, "notifications.info", &body).await;
    }
    assert_eq!(
        next(&mut batches).await.1,
        ["x"],
        "the filter spares it the other"
    );
    assert_eq!(
        next(&mut later).await,
        (Priority::Warn, vec!["w".to_owned()])
    );
    until(|| listening.stats().requeued == 2).await;
    assert_eq!(next(&mut batches).await.0, Priority::Warn);
    // Both come again, in whatever order they went back.
    let mut events = next(&mut later).await.1;
    events.sort();
    assert_eq!(events, ["x", "y"]);
    until(|| listening.stats().handled == 3).await;
    listening.stop().await;
}
