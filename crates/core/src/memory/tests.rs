//! What the memory broker promises, over the seam alone.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, advance};

use super::{MemoryBroker, MemoryDriver, QUEUE_LIMIT};
use crate::driver::{
    Delivery, Destination, Driver, Inbox, Listener, ListenerEvent, Notifications, Outgoing, Pool,
    Prefetch, Subscription,
};
use crate::error::ErrorKind;

/// Keeps what arrives.
#[derive(Default)]
struct Held {
    held: Mutex<Vec<Delivery>>,
    events: Mutex<Vec<String>>,
}

impl Inbox for Held {
    fn deliver(&self, delivery: Delivery) {
        self.held.lock().unwrap().push(delivery);
    }

    fn handle_event(&self, event: ListenerEvent) {
        self.events.lock().unwrap().push(format!("{event:?}"));
    }
}

impl Held {
    fn texts(&self) -> Vec<String> {
        self.held
            .lock()
            .unwrap()
            .iter()
            .map(|d| String::from_utf8(d.body().to_vec()).unwrap())
            .collect()
    }

    fn take(&self) -> Delivery {
        self.held.lock().unwrap().remove(0)
    }

    fn len(&self) -> usize {
        self.held.lock().unwrap().len()
    }
}

const TOPIC: Destination<'static> = Destination::Topic {
    exchange: None,
    topic: "t",
};

fn to_server(server: &str) -> Destination<'_> {
    Destination::Server {
        exchange: None,
        topic: "t",
        server,
    }
}

fn driver() -> MemoryDriver {
    MemoryDriver::new(MemoryBroker::new())
}

fn rpc(server: &str, prefetch: u16) -> Subscription {
    let prefetch = NonZeroU16::new(prefetch).map_or(Prefetch::Unlimited, Prefetch::Limited);
    Subscription::Rpc {
        exchange: None,
        topic: "t".into(),
        server: server.into(),
        prefetch,
    }
}

async fn serve(
    driver: &MemoryDriver,
    server: &str,
    prefetch: u16,
) -> (Arc<Held>, Box<dyn Listener>) {
    let inbox = Arc::new(Held::default());
    let listener = driver
        .listen(rpc(server, prefetch), inbox.clone())
        .await
        .unwrap();
    (inbox, listener)
}

fn message<'a>(to: Destination<'a>, text: &str) -> Outgoing<'a> {
    Outgoing::new(to, Bytes::copy_from_slice(text.as_bytes()))
}

async fn send(driver: &MemoryDriver, to: Destination<'_>, text: &str) {
    driver.send(message(to, text)).await.unwrap();
}

async fn send_expiring(driver: &MemoryDriver, text: &str, seconds: u64) {
    let mut message = message(TOPIC, text);
    message.expires = Some(Duration::from_secs(seconds));
    driver.send(message).await.unwrap();
}

#[tokio::test]
async fn servers_of_a_topic_take_messages_in_turn() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 0).await;
    let (b, _b) = serve(&driver, "b", 0).await;
    for n in 0..6 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    assert_eq!(a.texts(), ["0", "2", "4"]);
    assert_eq!(b.texts(), ["1", "3", "5"]);
}

#[tokio::test]
async fn a_named_server_alone_gets_what_is_meant_for_it() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 0).await;
    let (b, _b) = serve(&driver, "b", 0).await;
    send(&driver, to_server("b"), "1").await;
    send(&driver, to_server("b"), "2").await;
    assert_eq!(
        (a.len(), b.texts()),
        (0, vec!["1".to_owned(), "2".to_owned()])
    );
}

#[tokio::test]
async fn a_fanout_reaches_every_server_once_whatever_its_exchange() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 0).await;
    let c = Arc::new(Held::default());
    let elsewhere = Subscription::Rpc {
        exchange: Some("other".into()),
        topic: "t".into(),
        server: "c".into(),
        prefetch: Prefetch::Unlimited,
    };
    let _c = driver.listen(elsewhere, c.clone()).await.unwrap();
    send(&driver, Destination::Fanout { topic: "t" }, "all").await;
    assert_eq!(
        (a.texts(), c.texts()),
        (vec!["all".to_owned()], vec!["all".to_owned()])
    );
}

#[tokio::test]
async fn topics_of_different_exchanges_are_different() {
    let driver = MemoryDriver::new(MemoryBroker::new()).control_exchange("nova");
    let (a, _a) = serve(&driver, "a", 0).await;
    send(
        &driver,
        Destination::Topic {
            exchange: Some("nova"),
            topic: "t",
        },
        "1",
    )
    .await;
    send(
        &driver,
        Destination::Topic {
            exchange: Some("neutron"),
            topic: "t",
        },
        "2",
    )
    .await;
    send(&driver, TOPIC, "3").await;
    assert_eq!(a.texts(), ["1", "3"]);
}

#[tokio::test]
async fn brokers_do_not_see_each_other_and_drivers_of_one_broker_do() {
    let broker = MemoryBroker::new();
    let (one, two) = (MemoryDriver::new(broker.clone()), MemoryDriver::new(broker));
    let (here, _here) = serve(&one, "a", 0).await;
    send(&two, TOPIC, "same broker").await;
    send(&driver(), TOPIC, "other broker").await;
    assert_eq!(here.texts(), ["same broker"]);
}

#[tokio::test]
async fn a_message_without_a_queue_is_dropped_and_a_mandatory_one_refused() {
    let driver = driver();
    let unknown = [
        TOPIC,
        to_server("a"),
        Destination::Fanout { topic: "t" },
        Destination::Reply { queue: "r" },
    ];
    for to in unknown {
        send(&driver, to, "lost").await;
        let mut mandatory = message(to, "wanted");
        mandatory.mandatory = true;
        let error = driver.send(mandatory).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Undeliverable, "{to}");
    }
    let (a, _a) = serve(&driver, "a", 0).await;
    assert_eq!(a.len(), 0);
}

#[tokio::test]
async fn messages_wait_in_the_queue_after_its_server_went() {
    let driver = driver();
    let (_, listener) = serve(&driver, "a", 0).await;
    listener.close().await;
    let mut wanted = message(TOPIC, "1");
    wanted.mandatory = true;
    driver.send(wanted).await.unwrap();
    send(&driver, to_server("a"), "2").await;
    let (b, _b) = serve(&driver, "b", 0).await;
    assert_eq!(b.texts(), ["1"]);
    let (a, _a) = serve(&driver, "a", 0).await;
    assert_eq!(a.texts(), ["2"]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_drops_the_expired_first() {
    tokio::time::pause();
    let driver = driver();
    let (_, listener) = serve(&driver, "a", 0).await;
    listener.close().await;
    send_expiring(&driver, "short", 1).await;
    for _ in 1..QUEUE_LIMIT {
        send(&driver, TOPIC, "long").await;
    }
    let error = driver.send(message(TOPIC, "too many")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    assert!(error.is_retryable());
    advance(Duration::from_secs(2)).await;
    send(&driver, TOPIC, "fits").await;
    assert_eq!(
        driver.send(message(TOPIC, "no")).await.unwrap_err().kind(),
        ErrorKind::DeliveryFailure
    );
    let (b, _b) = serve(&driver, "b", 0).await;
    assert_eq!(b.len(), QUEUE_LIMIT);
    assert_eq!(b.texts().last().unwrap(), "fits");
}

#[tokio::test]
async fn a_fanout_that_one_server_has_no_room_for_reaches_nobody() {
    let driver = driver();
    let (slow, _slow) = serve(&driver, "slow", 1).await;
    for _ in 0..=QUEUE_LIMIT {
        send(&driver, Destination::Fanout { topic: "t" }, "x").await;
    }
    let (fresh, _fresh) = serve(&driver, "fresh", 0).await;
    let error = driver
        .send(message(Destination::Fanout { topic: "t" }, "y"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    assert_eq!((slow.len(), fresh.len()), (1, 0));
}

#[tokio::test]
async fn an_expired_message_is_never_handed_out() {
    tokio::time::pause();
    let driver = driver();
    let (_, listener) = serve(&driver, "a", 0).await;
    listener.close().await;
    send_expiring(&driver, "short", 5).await;
    send_expiring(&driver, "long", 50).await;
    advance(Duration::from_secs(6)).await;
    let (a, _a) = serve(&driver, "a", 0).await;
    assert_eq!(a.texts(), ["long"]);
    assert_eq!(a.take().expiry(), Some(Duration::from_secs(50)));
}

#[tokio::test]
async fn an_expiry_beyond_the_clock_never_comes() {
    let driver = driver();
    let (_, listener) = serve(&driver, "a", 0).await;
    listener.close().await;
    send_expiring(&driver, "for ever", u64::MAX).await;
    let (a, _a) = serve(&driver, "a", 0).await;
    assert_eq!(a.texts(), ["for ever"]);
}

#[tokio::test]
async fn a_send_after_its_deadline_times_out() {
    tokio::time::pause();
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 0).await;
    let mut late = message(TOPIC, "late");
    late.deadline = Some(Instant::now());
    assert_eq!(
        driver.send(late).await.unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(a.len(), 0);
}

#[tokio::test]
async fn a_consumer_holds_at_most_its_prefetch_and_the_rest_waits() {
    let broker = MemoryBroker::new();
    let driver = MemoryDriver::new(broker.clone());
    let (a, _a) = serve(&driver, "a", 2).await;
    for n in 0..5 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    assert_eq!(a.texts(), ["0", "1"]);
    assert_eq!(broker.waiting("openstack", "t"), 3);
    a.take().ack();
    assert_eq!(a.texts(), ["1", "2"]);
    a.take().reject();
    assert_eq!(a.texts(), ["2", "3"]);
    assert_eq!(broker.waiting("openstack", "t"), 1);
}

#[tokio::test]
async fn a_busy_server_is_passed_over() {
    let driver = driver();
    let (busy, _busy) = serve(&driver, "busy", 1).await;
    let (free, _free) = serve(&driver, "free", 0).await;
    for n in 0..4 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    assert_eq!(busy.texts(), ["0"]);
    assert_eq!(free.texts(), ["1", "2", "3"]);
}

#[tokio::test]
async fn credit_is_counted_for_each_queue_of_a_server() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 1).await;
    for to in [TOPIC, to_server("a"), Destination::Fanout { topic: "t" }] {
        send(&driver, to, "first").await;
        send(&driver, to, "second").await;
    }
    assert_eq!(a.texts(), ["first", "first", "first"]);
}

#[tokio::test]
async fn a_requeued_message_comes_first_again_and_says_so() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 1).await;
    send(&driver, TOPIC, "1").await;
    send(&driver, TOPIC, "2").await;
    let first = a.take();
    assert!(!first.is_redelivered());
    first.requeue();
    assert_eq!(a.texts(), ["1"]);
    let again = a.take();
    assert!(again.is_redelivered());
    again.ack();
    let second = a.take();
    assert!(!second.is_redelivered());
}

#[tokio::test]
async fn a_delivery_dropped_without_a_word_goes_back() {
    let driver = driver();
    let (a, _a) = serve(&driver, "a", 0).await;
    send(&driver, TOPIC, "1").await;
    drop(a.take());
    assert_eq!(a.texts(), ["1"]);
    assert!(a.take().is_redelivered());
}

#[tokio::test]
async fn what_a_closed_server_had_not_settled_goes_to_another_in_order() {
    let driver = driver();
    let (a, listener) = serve(&driver, "a", 3).await;
    for n in 0..5 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    a.take().ack();
    listener.close().await;
    let (b, _b) = serve(&driver, "b", 0).await;
    assert_eq!(b.texts(), ["1", "2", "3", "4"]);
    let redelivered: Vec<bool> = (0..4).map(|_| b.take().is_redelivered()).collect();
    assert_eq!(redelivered, [true, true, true, false]);
}

#[tokio::test]
async fn settling_after_the_close_changes_nothing() {
    let driver = driver();
    let (a, listener) = serve(&driver, "a", 0).await;
    send(&driver, TOPIC, "1").await;
    let late = a.take();
    listener.close().await;
    let (b, _b) = serve(&driver, "b", 0).await;
    late.requeue();
    assert_eq!(b.texts(), ["1"]);
    b.take().ack();
    assert_eq!(b.len(), 0);
}

#[tokio::test]
async fn a_paused_server_gets_nothing_new_and_can_still_settle() {
    let driver = driver();
    let (a, listener) = serve(&driver, "a", 1).await;
    send(&driver, TOPIC, "1").await;
    listener.pause().await;
    send(&driver, TOPIC, "2").await;
    a.take().ack();
    assert_eq!(a.len(), 0);
    let (b, _b) = serve(&driver, "b", 0).await;
    assert_eq!(b.texts(), ["2"]);
}

#[tokio::test]
async fn a_dropped_listener_ends_its_subscription() {
    let driver = driver();
    let (a, listener) = serve(&driver, "a", 0).await;
    drop(listener);
    send(&driver, TOPIC, "1").await;
    assert_eq!(a.len(), 0);
    assert_eq!(driver.health().consumers, 0);
}

#[tokio::test]
async fn a_reply_queue_has_its_own_name_and_goes_with_its_listener() {
    let driver = driver();
    let inbox = Arc::new(Held::default());
    let listener = driver
        .listen(Subscription::Replies, inbox.clone())
        .await
        .unwrap();
    let other = driver
        .listen(Subscription::Replies, inbox.clone())
        .await
        .unwrap();
    assert_ne!(listener.address(), other.address());
    let name = listener.address().unwrap().to_owned();
    send(&driver, Destination::Reply { queue: &name }, "r").await;
    assert_eq!(inbox.texts(), ["r"]);
    listener.close().await;
    let mut gone = message(Destination::Reply { queue: &name }, "r");
    gone.mandatory = true;
    assert_eq!(
        driver.send(gone).await.unwrap_err().kind(),
        ErrorKind::Undeliverable
    );
}

#[tokio::test]
async fn a_closed_driver_refuses_and_leaves_the_broker_to_others() {
    let broker = MemoryBroker::new();
    let (one, two) = (MemoryDriver::new(broker.clone()), MemoryDriver::new(broker));
    let (a, _a) = serve(&one, "a", 0).await;
    send(&two, TOPIC, "1").await;
    one.close().await;
    assert_eq!(
        one.send(message(TOPIC, "x")).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let refused = one.listen(rpc("a", 0), a.clone()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert!(!one.health().connected);
    assert_eq!(a.events.lock().unwrap().len(), 1);
    let (b, _b) = serve(&two, "b", 0).await;
    assert_eq!(b.texts(), ["1"]);
}

const NOTE: Destination<'static> = Destination::Notification {
    exchange: None,
    topic: "notifications.info",
};

async fn listen(driver: &MemoryDriver, pool: Option<Pool>) -> (Arc<Held>, Box<dyn Listener>) {
    let inbox = Arc::new(Held::default());
    let mut what =
        Notifications::new(["info", "error"].map(|p| (None, format!("notifications.{p}"))));
    what.pool = pool;
    let what = Subscription::Notifications(what);
    let listener = driver.listen(what, inbox.clone()).await.unwrap();
    (inbox, listener)
}

#[tokio::test]
async fn notifications_wait_for_their_first_listener_and_are_shared_by_those_without_a_pool() {
    let driver = driver();
    send(&driver, NOTE, "1").await;
    let (a, _a) = listen(&driver, None).await;
    assert_eq!(a.texts(), ["1"]);
    let (b, _b) = listen(&driver, None).await;
    send(&driver, NOTE, "2").await;
    send(&driver, NOTE, "3").await;
    assert_eq!((a.texts().len(), b.texts().len()), (2, 1));
}

#[tokio::test]
async fn each_pool_has_a_copy_beginning_with_what_waits() {
    let driver = driver();
    send(&driver, NOTE, "1").await;
    let (a, _a) = listen(&driver, Some(Pool::shared("a"))).await;
    let (b, first) = listen(&driver, Some(Pool::shared("b"))).await;
    let (again, second) = listen(&driver, Some(Pool::shared("b"))).await;
    send(&driver, NOTE, "2").await;
    send(&driver, NOTE, "3").await;
    assert_eq!(a.texts(), ["1", "2", "3"]);
    assert_eq!(
        (b.texts(), again.texts()),
        (vec!["1".to_owned(), "3".to_owned()], vec!["2".to_owned()])
    );
    let (plain, _plain) = listen(&driver, None).await;
    assert_eq!(plain.texts(), ["1", "2", "3"]);
    drop((b, first, again, second));
    send(&driver, NOTE, "4").await;
    let (later, _later) = listen(&driver, Some(Pool::shared("b"))).await;
    assert_eq!(later.texts().last().map(String::as_str), Some("4"));
}

#[tokio::test]
async fn a_temporary_pool_sees_what_comes_and_leaves_nothing_behind() {
    let driver = driver();
    send(&driver, NOTE, "1").await;
    let (look, listener) = listen(&driver, Some(Pool::temporary("look"))).await;
    send(&driver, NOTE, "2").await;
    assert_eq!(look.texts(), ["2"]);
    let queues = format!("{driver:?}");
    listener.close().await;
    assert_ne!(format!("{driver:?}"), queues, "its queue is gone");
    let (plain, _plain) = listen(&driver, None).await;
    assert_eq!(plain.texts(), ["1", "2"]);
}

#[tokio::test]
async fn notifications_nobody_takes_keep_the_newest_and_hold_nobody_up() {
    let broker = MemoryBroker::new();
    let driver = MemoryDriver::new(broker.clone());
    for n in 0..QUEUE_LIMIT + 2 {
        send(&driver, NOTE, &n.to_string()).await;
    }
    assert_eq!(
        broker.waiting("openstack", "notifications.info"),
        QUEUE_LIMIT
    );
    let (plain, _plain) = listen(&driver, None).await;
    assert_eq!(plain.texts()[0], "2");
}

#[tokio::test]
async fn a_listener_that_wants_history_is_refused() {
    let mut what = Notifications::new([(None, "notifications.info".to_owned())]);
    what.since = Some(std::time::SystemTime::UNIX_EPOCH);
    let inbox = Arc::new(Held::default());
    let refused = driver()
        .listen(Subscription::Notifications(what), inbox)
        .await;
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
}

/// Does something with each delivery while it is called.
struct Reacting<F>(F);

impl<F: Fn(Delivery) + Send + Sync + 'static> Inbox for Reacting<F> {
    fn deliver(&self, delivery: Delivery) {
        (self.0)(delivery);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

#[tokio::test]
async fn an_inbox_that_acks_in_place_drains_a_long_queue_on_a_small_stack() {
    let driver = Arc::new(driver());
    let (_, listener) = serve(&driver, "a", 0).await;
    listener.close().await;
    for _ in 0..QUEUE_LIMIT {
        send(&driver, TOPIC, "x").await;
    }
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let inbox = Arc::new(Reacting(move |delivery: Delivery| {
        count.fetch_add(1, Ordering::Relaxed);
        delivery.ack();
    }));
    let _listener = driver.listen(rpc("a", 1), inbox).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), QUEUE_LIMIT);
}

#[tokio::test]
async fn inboxes_that_send_to_each_other_in_place_neither_block_nor_nest() {
    let driver = Arc::new(driver());
    let (seen, nested) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut listeners = Vec::new();
    for (me, other) in [("a", "b"), ("b", "a")] {
        let (sender, seen, nested) = (driver.clone(), seen.clone(), nested.clone());
        let inside = AtomicBool::new(false);
        let inbox = Reacting(move |delivery: Delivery| {
            nested.fetch_or(inside.swap(true, Ordering::SeqCst), Ordering::SeqCst);
            if seen.fetch_add(1, Ordering::SeqCst) < 100_000 {
                let sending = sender.send(message(to_server(other), "ball"));
                futures_util::FutureExt::now_or_never(sending)
                    .unwrap()
                    .unwrap();
            }
            delivery.ack();
            inside.store(false, Ordering::SeqCst);
        });
        listeners.push(driver.listen(rpc(me, 0), Arc::new(inbox)).await.unwrap());
    }
    send(&driver, to_server("a"), "ball").await;
    assert_eq!(seen.load(Ordering::SeqCst), 100_001);
    assert!(!nested.load(Ordering::SeqCst));
}

#[tokio::test]
async fn an_inbox_that_gives_everything_back_does_not_hold_the_sender_for_ever() {
    let driver = driver();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let inbox = Arc::new(Reacting(move |delivery: Delivery| {
        count.fetch_add(1, Ordering::Relaxed);
        delivery.requeue();
    }));
    let listener = driver.listen(rpc("a", 0), inbox).await.unwrap();
    send(&driver, TOPIC, "hot").await;
    assert!((2..100).contains(&seen.load(Ordering::Relaxed)));
    listener.close().await;
    let (b, _b) = serve(&driver, "b", 0).await;
    assert_eq!(b.texts(), ["hot"]);
}

#[tokio::test]
async fn an_inbox_that_panics_does_not_stop_later_deliveries() {
    let driver = Arc::new(driver());
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let inbox = Arc::new(Reacting(move |delivery: Delivery| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            panic!("a fault of the inbox");
        }
        delivery.ack();
    }));
    let listener = driver.listen(rpc("a", 0), inbox).await.unwrap();
    let sender = driver.clone();
    let sent = tokio::spawn(async move { send(&sender, TOPIC, "1").await }).await;
    assert!(sent.is_err());
    send(&driver, TOPIC, "2").await;
    // The first one came back, since nobody settled it.
    assert_eq!(seen.load(Ordering::Relaxed), 3);
    listener.pause().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_when_many_threads_send_and_settle() {
    let driver = Arc::new(driver());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut listeners = Vec::new();
    for name in ["a", "b", "c"] {
        let kept = seen.clone();
        let inbox = Reacting(move |delivery: Delivery| {
            let kept = kept.clone();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                kept.lock().unwrap().push(delivery.body().clone());
                delivery.ack();
            });
        });
        listeners.push(driver.listen(rpc(name, 2), Arc::new(inbox)).await.unwrap());
    }
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let driver = driver.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    send(&driver, TOPIC, &format!("{sender}-{n}")).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let all = async {
        while seen.lock().unwrap().len() < 4_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .unwrap();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4_000);
}
