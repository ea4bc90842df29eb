//! What the tests of the driver share: a driver for a URL, an inbox that keeps what it gets, deadlines.

use std::future::Future;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp as amqp;
use oslo_messaging_core::driver::{
    Delivery, Destination, Driver, Inbox, Listener, ListenerEvent, Outgoing, Prefetch, Retry,
    Subscription,
};
use oslo_messaging_core::error::Result;
use oslo_messaging_core::events::{Event, Events};
use oslo_messaging_proto::url::TransportUrl;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_rabbit::driver::RabbitDriver;
use oslo_messaging_testkit::rabbit::Broker;
use oslo_messaging_testkit::rabbit::vhost::{Queue, Vhost};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

/// No step of a test takes this long unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The result of a future that must not hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("the step ends in time")
}

pub(crate) fn driver(url: &str) -> RabbitDriver {
    driver_with(url, RabbitConfig::default())
}

pub(crate) fn driver_with(url: &str, mut config: RabbitConfig) -> RabbitDriver {
    let url = TransportUrl::parse(url).expect("the URL is valid");
    config
        .apply_query(url.query())
        .expect("the query has options of the driver");
    RabbitDriver::new(&url, config, "openstack").expect("the options are valid")
}

/// An inbox that keeps deliveries and events until they are asked for.
pub(crate) struct Collector {
    deliveries: Mutex<mpsc::UnboundedReceiver<Delivery>>,
    events: Mutex<mpsc::UnboundedReceiver<ListenerEvent>>,
}

struct Ends {
    deliveries: mpsc::UnboundedSender<Delivery>,
    events: mpsc::UnboundedSender<ListenerEvent>,
}

impl Inbox for Ends {
    fn deliver(&self, delivery: Delivery) {
        let _ = self.deliveries.send(delivery);
    }

    fn handle_event(&self, event: ListenerEvent) {
        let _ = self.events.send(event);
    }
}

pub(crate) fn collector() -> (Arc<dyn Inbox>, Collector) {
    let (deliveries, kept) = mpsc::unbounded_channel();
    let (events, news) = mpsc::unbounded_channel();
    (
        Arc::new(Ends { deliveries, events }),
        Collector {
            deliveries: Mutex::new(kept),
            events: Mutex::new(news),
        },
    )
}

impl Collector {
    /// The next delivery.
    pub(crate) async fn next(&self) -> Delivery {
        within(async { self.deliveries.lock().await.recv().await })
            .await
            .expect("the inbox is in use")
    }

    /// The body of the next delivery, acknowledged.
    pub(crate) async fn body(&self) -> Bytes {
        let delivery = self.next().await;
        let body = delivery.body().clone();
        delivery.ack();
        body
    }

    /// Whether nothing has arrived.
    pub(crate) async fn is_empty(&self) -> bool {
        self.deliveries.lock().await.is_empty()
    }

    /// The next event.
    pub(crate) async fn event(&self) -> ListenerEvent {
        within(async { self.events.lock().await.recv().await })
            .await
            .expect("the inbox is in use")
    }

    pub(crate) async fn has_event(&self) -> bool {
        !self.events.lock().await.is_empty()
    }

    /// Waits for `Restored` and tells `recreated`.
    pub(crate) async fn restored(&self) -> bool {
        loop {
            match self.event().await {
                ListenerEvent::Restored { recreated } => return recreated,
                ListenerEvent::Interrupted | ListenerEvent::Emptied | ListenerEvent::Astray => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

pub(crate) fn rpc(topic: &str, server: &str) -> Subscription {
    Subscription::Rpc {
        exchange: None,
        topic: topic.into(),
        server: server.into(),
        prefetch: Prefetch::Unlimited,
    }
}

pub(crate) fn rpc_with_prefetch(topic: &str, server: &str, count: u16) -> Subscription {
    let prefetch = Prefetch::Limited(NonZeroU16::new(count).expect("above 0"));
    Subscription::Rpc {
        exchange: None,
        topic: topic.into(),
        server: server.into(),
        prefetch,
    }
}

/// A server of a topic, its listener and what it gets.
pub(crate) async fn serve(
    driver: &RabbitDriver,
    topic: &str,
    server: &str,
) -> (Box<dyn Listener>, Collector) {
    listen(driver, rpc(topic, server))
        .await
        .expect("the server starts")
}

pub(crate) async fn listen(
    driver: &RabbitDriver,
    what: Subscription,
) -> Result<(Box<dyn Listener>, Collector)> {
    let (inbox, collector) = collector();
    let listener = within(driver.listen(what, inbox)).await?;
    Ok((listener, collector))
}

pub(crate) fn to_topic(topic: &str) -> Destination<'_> {
    Destination::Topic {
        exchange: None,
        topic,
    }
}

/// A message with a deadline of 20 seconds.
pub(crate) fn message<'a>(destination: Destination<'a>, body: impl Into<Bytes>) -> Outgoing<'a> {
    let mut message = Outgoing::new(destination, body.into());
    message.deadline = Some(Instant::now() + Duration::from_secs(20));
    message
}

pub(crate) fn mandatory<'a>(destination: Destination<'a>, body: impl Into<Bytes>) -> Outgoing<'a> {
    let mut message = message(destination, body);
    message.mandatory = true;
    message
}

pub(crate) fn once<'a>(destination: Destination<'a>, body: impl Into<Bytes>) -> Outgoing<'a> {
    let mut message = message(destination, body);
    message.retry = Retry::Never;
    message
}

pub(crate) async fn send(driver: &RabbitDriver, message: Outgoing<'_>) -> Result<()> {
    within(driver.send(message)).await
}

/// All queues of a virtual host but the canaries of drivers.
pub(crate) async fn queues_of(vhost: &Vhost) -> Vec<Queue> {
    let mut queues = vhost.queues().await.unwrap();
    queues.retain(|queue| !queue.name.starts_with("oslo_canary_"));
    queues
}

/// A peer that speaks plain AMQP, for what the driver never does.
pub(crate) async fn raw(vhost: &Vhost) -> (amqp::Connection, amqp::Channel) {
    let mut options = amqp::ConnectOptions::default();
    options.virtual_host = vhost.name().to_owned();
    let port = vhost.broker().port();
    let connection = within(amqp::Connection::connect_tcp("127.0.0.1", port, options))
        .await
        .unwrap();
    let channel = within(connection.open_channel()).await.unwrap();
    (connection, channel)
}

/// The next event of a driver that `wanted` takes, and what it makes of it.
pub(crate) async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    within(async {
        loop {
            let event = events.next().await.expect("the driver is in use");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    })
    .await
}

/// Whether the brokers of this run refuse transient queues, as RabbitMQ 4.3 does.
pub(crate) fn transient_refused() -> bool {
    let config = std::env::var(oslo_messaging_testkit::rabbit::node::CONFIG_VARIABLE);
    config.is_ok_and(|config| config.contains("transient_nonexcl_queues = false"))
}

/// A URL whose topics are durable classic queues, which every RabbitMQ takes.
pub(crate) fn durable(url: &str) -> String {
    format!("{url}?amqp_durable_queues=true")
}

/// Lowers the largest message a private node takes, on whatever release.
pub(crate) async fn limit_messages(broker: &Broker, bytes: u32) {
    broker
        .run(&format!(
            "application:set_env(rabbit, max_message_size, {bytes}), persistent_term:put(max_message_size, {bytes})"
        ))
        .await
        .unwrap();
}

/// Whether it was declared as a quorum queue. RabbitMQ 4 lists classic ones with their type as well.
pub(crate) fn is_quorum(queue: &Queue) -> bool {
    let kind = queue.arguments.get("x-queue-type");
    kind.and_then(|kind| kind.as_str()) == Some("quorum")
}
