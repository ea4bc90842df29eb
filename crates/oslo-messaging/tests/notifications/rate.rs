//! How many notifications a second go out and come in, beside Python's in the same run. Not part of the usual tests:
//!
//! `with-services -- cargo test --release -p oslo-messaging --test notifications -- --ignored --nocapture rate`

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::notify::{NotificationEndpoint, NotificationOutcome};
use oslo_messaging::{Notification, NotificationListener, Notifier, Priority, Target};
use serde_json::json;
use tokio::sync::Notify;

use crate::common::{connect, ctx, vhost_and_python};
use std::sync::Arc;

const COUNT: u64 = 100_000;
/// The reference is slow enough to show with fewer.
const PYTHON_COUNT: u64 = 20_000;
const LIMIT: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Counter {
    heard: AtomicU64,
    all: Notify,
}

impl NotificationEndpoint for Counter {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        _: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        if self.heard.fetch_add(1, Ordering::Relaxed) + 1 == COUNT {
            self.all.notify_one();
        }
        Box::pin(async { NotificationOutcome::Handled })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and says something only in a release build"]
async fn the_rate_of_notifications_beside_pythons() {
    let test = "the_rate_of_notifications_beside_pythons";
    let Some((vhost, python)) = vhost_and_python(test, |setup| setup).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let payload = json!({"text": "x".repeat(200)});
    let notifier = Notifier::builder(transport.clone())
        .topic("ours")
        .build()
        .unwrap();
    let notifier = notifier.deadline(LIMIT);
    let began = Instant::now();
    for _ in 0..COUNT {
        notifier.info(&ctx(), "flood", &payload).await.unwrap();
    }
    assert_eq!(notifier.flush(LIMIT).await, 0);
    let published = began.elapsed();
    assert_eq!(notifier.stats().sent, COUNT);

    let counter = Arc::new(Counter::default());
    let began = Instant::now();
    let listening = NotificationListener::builder(transport.clone(), [Target::topic("ours")])
        .endpoint(counter.clone())
        .prefetch(1000.try_into().unwrap())
        .start()
        .await
        .unwrap();
    tokio::time::timeout(LIMIT, counter.all.notified())
        .await
        .unwrap();
    let consumed = began.elapsed();
    listening.stop().await;

    let flood = json!({"count": PYTHON_COUNT, "topic": "theirs"});
    let python_published: f64 = python.ask("flood", flood, LIMIT).await.unwrap();
    let drain = json!({"count": PYTHON_COUNT, "topic": "theirs", "seconds": 500});
    let python_consumed: f64 = python.ask("drain", drain, LIMIT).await.unwrap();

    let rate = |count: u64, seconds: f64| (count as f64 / seconds).round();
    println!("notifications a second      published   consumed");
    let (out, taken) = (published.as_secs_f64(), consumed.as_secs_f64());
    println!(
        "this library, {COUNT:>7}   {:>9}  {:>9}",
        rate(COUNT, out),
        rate(COUNT, taken)
    );
    println!(
        "Python,       {PYTHON_COUNT:>7}   {:>9}  {:>9}",
        rate(PYTHON_COUNT, python_published),
        rate(PYTHON_COUNT, python_consumed)
    );
    transport.close().await;
    python.close().await.unwrap();
    vhost.delete().await.unwrap();
}
