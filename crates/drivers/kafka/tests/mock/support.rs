//! What the tests of this crate share: drivers, listeners whose deliveries a test takes one by one, and a look at a topic
//! from outside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::driver::{
    Delivery, Destination, Driver, Inbox, Listener, ListenerEvent, Notifications, Outgoing, Pool,
    Subscription,
};
use oslo_messaging_core::error::Result;
use oslo_messaging_kafka::config::KafkaConfig;
use oslo_messaging_kafka::driver::KafkaDriver;
use oslo_messaging_proto::url::TransportUrl;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

/// How long a test waits for what must come; joining a group takes seconds, or nearly the session
/// timeout of the mock, which is 45 s where a Python peer said so.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// How long a test waits for what must not come.
pub(crate) const A_WHILE: Duration = Duration::from_millis(700);

/// The mock lets members into a group that is not new a second before the session timeout is over.
pub(crate) const QUICK: &str = "?session_timeout=3";

pub(crate) fn driver(url: &str) -> Arc<KafkaDriver> {
    let url = TransportUrl::parse(url).expect("a URL");
    let config = KafkaConfig::from_query(url.query()).expect("options");
    Arc::new(KafkaDriver::new(&url, config).expect("a driver"))
}

/// A message to a topic with its priority, such as `n.info`; the test gives up after [`SOON`].
pub(crate) fn message<'a>(topic: &'a str, text: &str) -> Outgoing<'a> {
    let to = Destination::Notification {
        exchange: None,
        topic,
    };
    let mut message = Outgoing::new(to, Bytes::from(text.to_owned()));
    message.deadline = Some(Instant::now() + SOON);
    message
}

pub(crate) async fn send(driver: &KafkaDriver, topic: &str, text: &str) {
    let sent = driver.send(message(topic, text)).await;
    sent.expect("the bus takes a message");
}

/// A subscription to these topics.
pub(crate) fn notes(topics: &[&str], pool: Option<Pool>) -> Notifications {
    let mut what = Notifications::new(topics.iter().map(|topic| (None, (*topic).to_owned())));
    what.pool = pool;
    what
}

pub(crate) fn pool(name: &str) -> Option<Pool> {
    Some(Pool::shared(name))
}

/// A listener whose deliveries a test takes one by one.
pub(crate) struct Taker {
    deliveries: Mutex<UnboundedReceiver<Delivery>>,
    pub(crate) listener: Box<dyn Listener>,
}

/// An inbox that keeps deliveries for a test.
pub(crate) struct Pipe(UnboundedSender<Delivery>);

impl Inbox for Pipe {
    fn deliver(&self, delivery: Delivery) {
        // The test may be over; then the delivery goes back by itself.
        let _ = self.0.send(delivery);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

impl Taker {
    pub(crate) async fn try_new(driver: &KafkaDriver, what: Notifications) -> Result<Self> {
        // Unbounded: a test sends a few.
        let (sender, receiver) = unbounded_channel();
        let what = Subscription::Notifications(what);
        let listener = timeout(SOON, driver.listen(what, Arc::new(Pipe(sender)))).await;
        Ok(Self {
            deliveries: Mutex::new(receiver),
            listener: listener.expect("listening takes seconds")?,
        })
    }

    pub(crate) async fn new(driver: &KafkaDriver, what: Notifications) -> Self {
        let taker = Self::try_new(driver, what).await;
        taker.expect("the bus lets us listen")
    }

    /// The next delivery, unsettled.
    pub(crate) async fn take(&self) -> Delivery {
        let mut deliveries = self.deliveries.lock().await;
        let next = timeout(SOON, deliveries.recv()).await;
        next.expect("a delivery comes").expect("the listener lives")
    }

    /// The text of the next delivery, which is acknowledged.
    pub(crate) async fn text(&self) -> String {
        let delivery = self.take().await;
        let text = text_of(&delivery);
        delivery.ack();
        text
    }

    pub(crate) async fn texts(&self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.text().await);
        }
        texts
    }

    pub(crate) async fn assert_nothing_comes(&self) {
        let mut deliveries = self.deliveries.lock().await;
        if let Ok(Some(delivery)) = timeout(A_WHILE, deliveries.recv()).await {
            panic!("this came: {}", text_of(&delivery));
        }
    }

    pub(crate) async fn close(self) {
        self.listener.close().await;
    }
}

pub(crate) fn text_of(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.body()).into_owned()
}

/// What one message is on the bus.
#[derive(Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
    pub(crate) has_headers: bool,
}

/// The first messages of a topic with one partition, read from outside.
pub(crate) fn read_topic(servers: &str, topic: &str, count: usize) -> Vec<Raw> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.set("group.id", "outside");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)
        .expect("a place");
    consumer.assign(&from).expect("assigned");
    let mut found = Vec::new();
    while found.len() < count {
        let message = consumer.poll(SOON).expect("a message").expect("a message");
        found.push(Raw {
            key: message.key().map(<[u8]>::to_vec),
            body: message.payload().unwrap_or_default().to_vec(),
            has_headers: message.headers().is_some(),
        });
    }
    found
}

/// The place of a group in partition 0 of a topic, if it has one.
pub(crate) fn committed(servers: &str, group: &str, topic: &str) -> Option<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config.set("group.id", group);
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let known = consumer.committed_offsets(list, SOON).expect("an answer");
    match known.elements().first().expect("one").offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Waits until a group has this place.
pub(crate) async fn wait_for_place(servers: &str, group: &str, topic: &str, offset: i64) {
    let deadline = Instant::now() + SOON;
    let mut last = None;
    while Instant::now() < deadline {
        last = committed(servers, group, topic);
        if last == Some(offset) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of {group} in {topic} is {last:?}, not {offset}");
}

/// An inbox, and what keeps it open.
pub(crate) fn pipe() -> (Arc<Pipe>, UnboundedReceiver<Delivery>) {
    let (sender, receiver) = unbounded_channel();
    (Arc::new(Pipe(sender)), receiver)
}
