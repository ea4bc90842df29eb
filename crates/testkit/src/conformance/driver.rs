//! The seam: what a driver does with messages, queues and settlements.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::driver::{
    Delivery, Destination, Driver, Inbox, Listener, ListenerEvent, Outgoing, Prefetch, Subscription,
};
use oslo_messaging_core::error::ErrorKind;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

use crate::conformance::{A_WHILE, Bus, SOON, can};

const TOPIC: Destination<'static> = Destination::Topic {
    exchange: None,
    topic: "conformance",
};
const FANOUT: Destination<'static> = Destination::Fanout {
    topic: "conformance",
};

fn to_server(server: &str) -> Destination<'_> {
    Destination::Server {
        exchange: None,
        topic: "conformance",
        server,
    }
}

/// A subscription whose deliveries a case takes one by one.
struct Taker {
    // Unbounded: a case sends a handful.
    deliveries: Mutex<UnboundedReceiver<Delivery>>,
    listener: Box<dyn Listener>,
}

struct Pipe(UnboundedSender<Delivery>);

impl Inbox for Pipe {
    fn deliver(&self, delivery: Delivery) {
        // The case may be over; then the delivery goes back by itself.
        let _ = self.0.send(delivery);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

impl Taker {
    async fn new(driver: &Arc<dyn Driver>, what: Subscription) -> Self {
        let (sender, receiver) = unbounded_channel();
        let listening = timeout(SOON, driver.listen(what, Arc::new(Pipe(sender)))).await;
        let listener = listening
            .expect("listening takes no more than seconds")
            .expect("the bus lets us listen");
        Self {
            deliveries: Mutex::new(receiver),
            listener,
        }
    }

    async fn take(&self) -> Delivery {
        let next = timeout(SOON, async { self.deliveries.lock().await.recv().await }).await;
        next.expect("a message arrives")
            .expect("the subscription stands")
    }

    async fn text(&self) -> String {
        let delivery = self.take().await;
        let text = String::from_utf8(delivery.body().to_vec()).expect("cases send text");
        delivery.ack();
        text
    }

    async fn texts(&self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text().await);
        }
        texts
    }

    async fn assert_nothing_comes(&self) {
        let next = timeout(A_WHILE, async { self.deliveries.lock().await.recv().await }).await;
        assert!(next.is_err(), "got a message that is not ours: {next:?}");
    }
}

fn server(name: &str, prefetch: u16) -> Subscription {
    let prefetch = NonZeroU16::new(prefetch).map_or(Prefetch::Unlimited, Prefetch::Limited);
    Subscription::Rpc {
        exchange: None,
        topic: "conformance".into(),
        server: name.into(),
        prefetch,
    }
}

fn message<'a>(to: Destination<'a>, text: &str) -> Outgoing<'a> {
    let mut message = Outgoing::new(to, Bytes::copy_from_slice(text.as_bytes()));
    message.deadline = Some(Instant::now() + SOON);
    message
}

async fn send(driver: &Arc<dyn Driver>, to: Destination<'_>, text: &str) {
    driver
        .send(message(to, text))
        .await
        .expect("the bus takes a message");
}

async fn connect(bus: &Bus) -> Arc<dyn Driver> {
    Arc::clone(bus.connect().await.driver())
}

/// Two servers, six messages, three each.
pub async fn servers_of_a_topic_share_its_messages(bus: Bus) {
    let driver = connect(&bus).await;
    let (a, b) = (
        Taker::new(&driver, server("a", 0)).await,
        Taker::new(&driver, server("b", 0)).await,
    );
    for n in 0..6 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    let mut all = a.texts(3).await;
    all.extend(b.texts(3).await);
    all.sort();
    assert_eq!(all, ["0", "1", "2", "3", "4", "5"]);
}

/// What goes to `b` does not go to `a`.
pub async fn a_named_server_alone_gets_what_is_meant_for_it(bus: Bus) {
    let driver = connect(&bus).await;
    let (a, b) = (
        Taker::new(&driver, server("a", 0)).await,
        Taker::new(&driver, server("b", 0)).await,
    );
    send(&driver, to_server("b"), "1").await;
    send(&driver, to_server("b"), "2").await;
    assert_eq!(b.texts(2).await, ["1", "2"]);
    a.assert_nothing_comes().await;
}

/// Across transports, too.
pub async fn a_fanout_reaches_every_server_once(bus: Bus) {
    let (one, two) = (connect(&bus).await, connect(&bus).await);
    let (a, b) = (
        Taker::new(&one, server("a", 0)).await,
        Taker::new(&two, server("b", 0)).await,
    );
    send(&one, FANOUT, "all").await;
    assert_eq!(
        (a.text().await, b.text().await),
        ("all".to_owned(), "all".to_owned())
    );
    a.assert_nothing_comes().await;
    b.assert_nothing_comes().await;
}

/// The same topic in another exchange leads nowhere. (Servers in both would share one queue on
/// RabbitMQ, where queues are named after the topic alone, and have two in memory.)
pub async fn a_message_to_another_exchange_does_not_arrive(bus: Bus) {
    let driver = connect(&bus).await;
    let what = Subscription::Rpc {
        exchange: Some("conformance-nova".to_owned()),
        topic: "conformance".to_owned(),
        server: "a".to_owned(),
        prefetch: Prefetch::Unlimited,
    };
    let nova = Taker::new(&driver, what).await;
    for exchange in [Some("conformance-neutron"), None, Some("conformance-nova")] {
        let to = Destination::Topic {
            exchange,
            topic: "conformance",
        };
        send(&driver, to, exchange.unwrap_or("the default")).await;
    }
    assert_eq!(nova.text().await, "conformance-nova");
    nova.assert_nothing_comes().await;
}

/// First sent, first delivered.
pub async fn messages_of_one_sender_arrive_in_order(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 0)).await;
    let sent: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    for text in &sent {
        send(&driver, TOPIC, text).await;
    }
    assert_eq!(a.texts(200).await, sent);
}

/// All bytes, none, and a megabyte.
pub async fn bodies_arrive_as_they_were_sent(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 0)).await;
    let bodies: [Vec<u8>; 3] = [(0..=255).collect(), vec![b'{'], vec![0x5a; 1 << 20]];
    for body in bodies {
        let mut message = message(TOPIC, "");
        message.body = Bytes::from(body.clone()).into();
        driver.send(message).await.expect("the bus takes a message");
        let delivery = a.take().await;
        assert!(
            delivery.body() == &body,
            "a body of {} bytes was changed",
            body.len()
        );
        assert!(!delivery.is_redelivered());
        delivery.ack();
    }
}

/// Nobody is there, nobody is told.
pub async fn a_message_without_a_queue_is_dropped(bus: Bus) {
    let driver = connect(&bus).await;
    for to in [TOPIC, to_server("a"), FANOUT] {
        send(&driver, to, "lost").await;
    }
    let a = Taker::new(&driver, server("a", 0)).await;
    a.assert_nothing_comes().await;
}

/// Nobody is there, and the sender is told.
pub async fn a_mandatory_message_without_a_queue_is_undeliverable(bus: Bus) {
    let transport = bus.connect().await;
    if !can(&transport, "mandatory messages", |can| can.mandatory) {
        return;
    }
    let driver = transport.driver();
    for to in [
        TOPIC,
        to_server("a"),
        Destination::Reply {
            queue: "reply_conformance_missing",
        },
    ] {
        let mut message = message(to, "wanted");
        message.mandatory = true;
        let error = driver.send(message).await.expect_err("nobody takes it");
        assert_eq!(error.kind(), ErrorKind::Undeliverable, "{error}");
        assert!(error.is_retryable());
    }
    // The bus goes on working, and a queue that exists is found.
    let a = Taker::new(driver, server("a", 0)).await;
    let mut message = message(TOPIC, "found");
    message.mandatory = true;
    driver.send(message).await.expect("somebody takes it");
    assert_eq!(a.text().await, "found");
}

/// The queue of a topic outlives its servers.
pub async fn messages_wait_for_a_server_that_went(bus: Bus) {
    let driver = connect(&bus).await;
    Taker::new(&driver, server("a", 0))
        .await
        .listener
        .close()
        .await;
    send(&driver, TOPIC, "1").await;
    send(&driver, TOPIC, "2").await;
    let b = Taker::new(&driver, server("b", 0)).await;
    assert_eq!(b.texts(2).await, ["1", "2"]);
}

/// A message that waited longer than its expiry is gone.
pub async fn an_expired_message_is_not_handed_out(bus: Bus) {
    let driver = connect(&bus).await;
    Taker::new(&driver, server("a", 0))
        .await
        .listener
        .close()
        .await;
    let mut short = message(TOPIC, "short");
    short.expires = Some(Duration::from_millis(100));
    driver.send(short).await.expect("the bus takes a message");
    let mut long = message(TOPIC, "long");
    long.expires = Some(SOON);
    driver.send(long).await.expect("the bus takes a message");
    // Nothing tells that a message expired: time itself is what this is about.
    sleep(Duration::from_millis(400)).await;
    let b = Taker::new(&driver, server("b", 0)).await;
    let delivery = b.take().await;
    assert_eq!(&delivery.body()[..], b"long");
    assert_eq!(delivery.expiry(), Some(SOON));
    delivery.ack();
    b.assert_nothing_comes().await;
}

/// The rest stays on the bus until something is settled.
pub async fn a_consumer_holds_no_more_than_its_prefetch(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 2)).await;
    for n in 0..4 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    let (first, second) = (a.take().await, a.take().await);
    a.assert_nothing_comes().await;
    first.ack();
    assert_eq!(&a.take().await.body()[..], b"2");
    second.ack();
}

/// Given back, it comes again, marked.
pub async fn a_requeued_message_comes_again_and_says_so(bus: Bus) {
    let transport = bus.connect().await;
    if !can(&transport, "requeue", |can| can.requeue) {
        return;
    }
    let driver = transport.driver();
    let a = Taker::new(driver, server("a", 1)).await;
    send(driver, TOPIC, "1").await;
    send(driver, TOPIC, "2").await;
    let first = a.take().await;
    assert!(!first.is_redelivered());
    first.requeue();
    let again = a.take().await;
    assert_eq!(&again.body()[..], b"1");
    assert!(again.is_redelivered());
    again.reject();
    assert_eq!(a.text().await, "2");
    a.assert_nothing_comes().await;
}

/// Forgotten is given back.
pub async fn a_delivery_dropped_without_a_word_comes_again(bus: Bus) {
    let transport = bus.connect().await;
    if !can(&transport, "requeue", |can| can.requeue) {
        return;
    }
    let driver = transport.driver();
    let a = Taker::new(driver, server("a", 0)).await;
    send(driver, TOPIC, "1").await;
    drop(a.take().await);
    let again = a.take().await;
    assert!(again.is_redelivered());
    again.ack();
}

/// Nothing is lost when a server ends.
pub async fn what_a_closed_server_held_goes_to_another(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 0)).await;
    for n in 0..3 {
        send(&driver, TOPIC, &n.to_string()).await;
    }
    assert_eq!(a.text().await, "0");
    let (one, two) = (a.take().await, a.take().await);
    a.listener.close().await;
    let b = Taker::new(&driver, server("b", 0)).await;
    for expected in ["1", "2"] {
        let delivery = b.take().await;
        assert_eq!(delivery.body(), expected.as_bytes());
        assert!(delivery.is_redelivered());
        delivery.ack();
    }
    // Too late, and without effect.
    one.ack();
    two.requeue();
    b.assert_nothing_comes().await;
}

/// It still settles what it has.
pub async fn a_paused_server_gets_nothing_new(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 0)).await;
    send(&driver, TOPIC, "1").await;
    let held = a.take().await;
    a.listener.pause().await;
    send(&driver, TOPIC, "2").await;
    a.assert_nothing_comes().await;
    held.ack();
    a.listener.close().await;
    let b = Taker::new(&driver, server("b", 0)).await;
    assert_eq!(b.text().await, "2");
    b.assert_nothing_comes().await;
}

/// Two listeners, two names; each gets its own.
pub async fn a_reply_queue_has_an_address_of_its_own(bus: Bus) {
    let (one, two) = (connect(&bus).await, connect(&bus).await);
    let (a, b) = (
        Taker::new(&one, Subscription::Replies).await,
        Taker::new(&two, Subscription::Replies).await,
    );
    let address = |taker: &Taker| {
        taker
            .listener
            .address()
            .expect("a reply queue has a name")
            .to_owned()
    };
    let (to_a, to_b) = (address(&a), address(&b));
    assert_ne!(to_a, to_b);
    for (to, text) in [(&to_b, "for b"), (&to_a, "for a")] {
        let mut reply = message(Destination::Reply { queue: to }, text);
        reply.mandatory = one.capabilities().mandatory;
        one.send(reply).await.expect("the reply queue is there");
    }
    assert_eq!(
        (a.text().await, b.text().await),
        ("for a".to_owned(), "for b".to_owned())
    );
}

/// After the close nothing works, and nothing hangs.
pub async fn a_closed_driver_refuses_all(bus: Bus) {
    let driver = connect(&bus).await;
    let a = Taker::new(&driver, server("a", 0)).await;
    send(&driver, TOPIC, "1").await;
    assert_eq!(a.text().await, "1");
    assert!(driver.health().connected);
    timeout(SOON, driver.close())
        .await
        .expect("closing takes no more than seconds");
    let error = driver
        .send(message(TOPIC, "2"))
        .await
        .expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    let (sender, _receiver) = unbounded_channel();
    let refused = driver
        .listen(server("b", 0), Arc::new(Pipe(sender)))
        .await
        .err()
        .expect("it is closed");
    assert_eq!(refused.kind(), ErrorKind::Closed);
    timeout(SOON, driver.close())
        .await
        .expect("closing again does nothing");
}
