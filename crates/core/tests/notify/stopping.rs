//! The end of a listener: what runs may end, what waits goes back, what is aborted comes again.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::driver::BoxFuture;
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{NotificationEndpoint, NotificationOutcome, RetryPolicy};
use oslo_messaging_proto::{Notification, Priority};
use tokio::sync::{Semaphore, mpsc};

use crate::support::*;

/// Begins at once and ends when it is let.
struct Slow {
    begun: mpsc::UnboundedSender<()>,
    may_end: Arc<Semaphore>,
}

impl NotificationEndpoint for Slow {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        _: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        Box::pin(async move {
            let _ = self.begun.send(());
            self.may_end.acquire().await.unwrap().forget();
            NotificationOutcome::Handled
        })
    }
}

fn slow() -> (Slow, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let may_end = Arc::new(Semaphore::new(0));
    let slow = Slow {
        begun,
        may_end: may_end.clone(),
    };
    (slow, begins, may_end)
}

#[tokio::test]
async fn a_stop_lets_what_runs_end_and_gives_back_what_waits() {
    let broker = MemoryBroker::new();
    let (endpoint, mut begins, may_end) = slow();
    let listening = listener(&broker)
        .endpoint(endpoint)
        .concurrency(1.try_into().unwrap())
        .start()
        .await
        .unwrap();
    let notifier = notifier(&broker);
    for _ in 0..3 {
        notifier.info(&ctx(), "e", &()).await.unwrap();
    }
    within(begins.recv()).await.unwrap();
    notifier.flush(LIMIT).await;
    let stopping = tokio::spawn(listening.stop());
    until(|| broker.waiting("openstack", "notifications.info") == 2).await;
    may_end.add_permits(1);
    let stopped = within(stopping).await.unwrap();
    assert_eq!((stopped.aborted, stopped.requeued), (0, 2));
    assert_eq!(broker.waiting("openstack", "notifications.info"), 2);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted_and_comes_again() {
    let broker = MemoryBroker::new();
    let (endpoint, mut begins, _may_end) = slow();
    let listening = listener(&broker).endpoint(endpoint).start().await.unwrap();
    notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
    within(begins.recv()).await.unwrap();
    let stopped = listening.stop_within(Duration::from_millis(20)).await;
    assert_eq!(stopped.aborted, 1);
    assert_eq!(broker.waiting("openstack", "notifications.info"), 1);
}

#[tokio::test]
async fn a_listener_dropped_with_a_thousand_in_hand_loses_none() {
    let broker = MemoryBroker::new();
    let (endpoint, mut begins, _may_end) = slow();
    let listening = listener(&broker)
        .endpoint(endpoint)
        .concurrency(1000.try_into().unwrap())
        .start()
        .await
        .unwrap();
    let first = notifier(&broker);
    for n in 0..1000 {
        first.info(&ctx(), &n.to_string(), &()).await.unwrap();
    }
    for _ in 0..1000 {
        within(begins.recv()).await.unwrap();
    }
    drop(listening);
    let (all, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    let mut events = std::collections::HashSet::new();
    while events.len() < 1000 {
        events.insert(heard(&mut hears).await);
    }
    listening.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_pauses_between_tries() {
    let broker = MemoryBroker::new();
    let (all, _hears) = ear_that(&[Priority::Info], |_| NotificationOutcome::Requeue);
    let hour = Duration::from_secs(3600);
    let listening = listener(&broker)
        .endpoint(all)
        .retry(RetryPolicy::new(9).pauses(hour, hour))
        .start()
        .await
        .unwrap();
    notifier(&broker).info(&ctx(), "e", &()).await.unwrap();
    until(|| listening.stats().pausing == 1).await;
    assert_eq!(within(listening.stop()).await.aborted, 0);
    assert_eq!(broker.waiting("openstack", "notifications.info"), 1);
}

#[tokio::test]
async fn run_until_ends_well_or_says_why_it_could_not_go_on() {
    let broker = MemoryBroker::new();
    let (all, _hears) = ear(&[Priority::Info]);
    let listening = listener(&broker).endpoint(all).start().await.unwrap();
    listening.run_until(async {}).await.unwrap();

    let transport = broker.transport();
    let (all, _hears) = ear(&[Priority::Info]);
    let targets = [oslo_messaging_proto::Target::topic("t")];
    let builder =
        oslo_messaging_core::notify::NotificationListener::builder(transport.clone(), targets);
    let listening = builder.endpoint(all).start().await.unwrap();
    let run = tokio::spawn(listening.run_until(std::future::pending::<()>()));
    transport.close().await;
    let error = within(run).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
}
