//! Listeners that die, queues that vanish, brokers that are full: what is kept, and how long callers wait.

use std::process::Stdio;
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::notify::{BufferOptions, NotificationEndpoint, NotificationOutcome, WhenFull};
use oslo_messaging::{Notification, NotificationListener, Notifier, Priority, Target};
use oslo_messaging_testkit::rabbit::node::Node;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::Instant;

use crate::common::{LONG, connect, ctx, eventually};
use crate::*;

const URL: &str = "OSLO_TEST_HOLD_URL";
const IN_HAND: usize = 1000;

/// Begins with everything, ends with nothing.
struct Hold(mpsc::UnboundedSender<()>);

impl NotificationEndpoint for Hold {
    fn priorities(&self) -> Vec<Priority> {
        vec![Priority::Info]
    }

    fn handle<'a>(
        &'a self,
        _: Priority,
        _: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        let _ = self.0.send(());
        Box::pin(std::future::pending())
    }
}

/// No test: the process that [`a_listener_killed_with_a_thousand_in_hand_loses_none`] kills.
#[tokio::test]
#[ignore = "a part of another test"]
async fn holds_a_thousand_until_it_is_killed() {
    let Ok(url) = std::env::var(URL) else { return };
    let transport = connect(&url).await;
    let (begun, mut begins) = mpsc::unbounded_channel();
    let targets = [Target::topic("notifications")];
    let _listening = NotificationListener::builder(transport, targets)
        .endpoint(Hold(begun))
        .concurrency(IN_HAND.try_into().unwrap())
        .start()
        .await
        .unwrap();
    for _ in 0..IN_HAND {
        begins.recv().await.unwrap();
    }
    println!("in hand");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_listener_killed_with_a_thousand_in_hand_loses_none() {
    let test = "a_listener_killed_with_a_thousand_in_hand_loses_none";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let notifier = Notifier::builder(transport.clone()).build().unwrap();
    for n in 0..IN_HAND {
        notifier.info(&ctx(), &n.to_string(), &()).await.unwrap();
    }
    assert_eq!(notifier.flush(LONG).await, 0);
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "trouble::holds_a_thousand_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(URL, vhost.url())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let in_hand = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("in hand") {
                return;
            }
        }
        panic!("the process ended before it had a thousand");
    };
    tokio::time::timeout(LONG, in_hand).await.unwrap();
    process.kill().await.unwrap();

    let (all, mut hears) = ear(&[Priority::Info], Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(all)
            .start()
            .await
            .unwrap();
    let mut events = std::collections::HashSet::new();
    while events.len() < IN_HAND {
        events.insert(event(&next(&mut hears).await.1));
    }
    eventually("all are acknowledged", || {
        listening.stats().handled + listening.stats().duplicates >= IN_HAND as u64
    })
    .await;
    listening.stop().await;
    transport.close().await;
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_neither_holds_the_caller_past_its_deadline_nor_loses_what_the_buffer_has() {
    let test =
        "a_full_disk_neither_holds_the_caller_past_its_deadline_nor_loses_what_the_buffer_has";
    let Some(node) = Node::boot_or_skip(test).await else {
        return;
    };
    let broker = node.broker();
    let vhost = broker.create_vhost(test).await.unwrap();
    let transport = connect(&vhost.url()).await;
    let mut buffer = BufferOptions::default();
    buffer.messages = 100.try_into().unwrap();
    buffer.when_full = WhenFull::Wait;
    let notifier = Notifier::builder(transport.clone())
        .buffer(buffer)
        .deadline(Duration::from_millis(200))
        .build()
        .unwrap();
    notifier.info(&ctx(), "before", &()).await.unwrap();
    assert_eq!(notifier.flush(LONG).await, 0);
    let mut alarm = transport.events();
    broker.disk_alarm(true).await.unwrap();
    let blocked = transport.clone();
    // A broker tells a connection that it is blocked when that publishes next.
    let nudge = notifier.prepare();
    nudge.info(&ctx(), "taken 0", &()).await.unwrap();
    eventually("the connection is blocked", || blocked.health().blocked).await;
    let (mut taken, mut refused, mut slowest) = (1, 0, Duration::ZERO);
    while refused < 3 {
        let began = Instant::now();
        match notifier.info(&ctx(), &format!("taken {taken}"), &()).await {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
        slowest = slowest.max(began.elapsed());
        assert!(taken < 10_000, "a blocked broker takes nothing");
    }
    assert!(slowest < LONG / 2, "{slowest:?}");
    assert!(notifier.stats().refused >= 3 && notifier.stats().buffered >= 100);
    broker.disk_alarm(false).await.unwrap();
    assert_eq!(
        notifier.flush(LONG + LONG).await,
        0,
        "all that was taken goes out"
    );
    let stats = notifier.stats();
    assert_eq!((stats.lost(), stats.sent), (0, taken + 1));
    let (all, mut hears) = ear(&[Priority::Info], Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(all)
            .start()
            .await
            .unwrap();
    let mut events = std::collections::HashSet::new();
    while (events.len() as u64) < taken + 1 {
        events.insert(event(&next(&mut hears).await.1));
    }
    assert!(alarm.next().await.is_some(), "the alarm was told");
    listening.stop().await;
    transport.close().await;
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn a_queue_deleted_under_the_notifier_is_made_again_for_the_next_notification() {
    let test = "a_queue_deleted_under_the_notifier_is_made_again_for_the_next_notification";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let notifier = Notifier::builder(transport.clone())
        .build()
        .unwrap()
        .confirmed();
    notifier.info(&ctx(), "1", &()).await.unwrap();
    vhost.delete_queue("notifications.info").await.unwrap();
    notifier.info(&ctx(), "2", &()).await.unwrap();
    // A quorum queue tells its figures a little later.
    let queue = vhost.wait_for_queue("notifications.info", |queue| queue.messages == 1);
    queue.await.unwrap();
    // Where queues are not to be declared, nobody who listens means nobody who gets it.
    let bare = connect(&format!(
        "{}?declare_notification_queues=false",
        vhost.url()
    ))
    .await;
    let quiet = Notifier::builder(bare.clone())
        .topic("unheard")
        .build()
        .unwrap()
        .confirmed();
    quiet.info(&ctx(), "3", &()).await.unwrap();
    assert!(vhost.queue("unheard.info").await.unwrap().is_none());
    bare.close().await;
    transport.close().await;
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn a_temporary_pool_looks_on_and_leaves_nothing_behind() {
    let test = "a_temporary_pool_looks_on_and_leaves_nothing_behind";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let (all, mut hears) = ear(&[Priority::Info], Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .temporary_pool("look-1")
            .endpoint(all)
            .start()
            .await
            .unwrap();
    let notifier = Notifier::builder(transport.clone()).build().unwrap();
    notifier.info(&ctx(), "seen", &()).await.unwrap();
    assert_eq!(event(&next(&mut hears).await.1), "seen");
    listening.stop().await;
    assert!(vhost.queue("look-1").await.unwrap().is_none());
    // It took nothing from anybody.
    let own = vhost.wait_for_queue("notifications.info", |queue| queue.messages == 1);
    own.await.unwrap();
    transport.close().await;
    vhost.delete().await.unwrap();
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_holds_no_place() {
    let test = "a_duplicate_is_acknowledged_and_holds_no_place";
    let Some(vhost) = vhost_or_skip(test).await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let (all, mut hears) = ear(&[Priority::Info], Vec::new());
    let listening =
        NotificationListener::builder(transport.clone(), [Target::topic("notifications")])
            .endpoint(all)
            .start()
            .await
            .unwrap();
    let body = r#"{"priority": "INFO", "event_type": "once", "_unique_id": "u-1"}"#;
    for _ in 0..3 {
        let destination = oslo_messaging::driver::Destination::Notification {
            exchange: None,
            topic: "notifications.info",
        };
        let message = oslo_messaging::driver::Outgoing::new(destination, body);
        transport.driver().send(message).await.unwrap();
    }
    assert_eq!(event(&next(&mut hears).await.1), "once");
    eventually("copies are known", || listening.stats().duplicates == 2).await;
    vhost
        .wait_for_queue("notifications.info", |queue| {
            queue.messages == 0 && queue.unacknowledged == 0
        })
        .await
        .unwrap();
    // That nothing comes shows only after a while.
    tokio::time::sleep(SOON).await;
    assert!(hears.try_recv().is_err());
    listening.stop().await;
    transport.close().await;
    vhost.delete().await.unwrap();
}
