//! The engine against a real RabbitMQ, named by `OSLO_TEST_RABBIT_URL` (`rabbit://user:password@host:port/vhost`); said and skipped without it.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslo_messaging_amqp::{
    Channel, Confirmation, ConnectOptions, Connection, Consumer, Delivered, EncodedProperties,
    Error, ErrorKind, ExchangeDeclare, Login, PropertiesBuilder, Publish, QueueDeclare, Table,
    Value,
};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

struct Broker {
    host: String,
    port: u16,
    options: ConnectOptions,
}

impl Broker {
    /// The broker to test with; `None` (and a line that says so) without one.
    fn from_environment(test: &str) -> Option<Self> {
        let Ok(url) = std::env::var("OSLO_TEST_RABBIT_URL") else {
            eprintln!("SKIPPED {test}: OSLO_TEST_RABBIT_URL names no RabbitMQ");
            return None;
        };
        let rest = url.split_once("://").expect("a scheme").1;
        let (login, place) = rest.rsplit_once('@').expect("user and password");
        let (user, password) = login.split_once(':').expect("a password");
        let (address, vhost) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = address.rsplit_once(':').expect("a port");
        let mut options = ConnectOptions::default().connection_name(format!("amqp tests: {test}"));
        options.login = Login::AmqPlain {
            user: user.into(),
            password: password.into(),
        };
        if !vhost.is_empty() {
            options.virtual_host = vhost.replace("%2F", "/").replace("%2f", "/");
        }
        Some(Self {
            host: host.to_owned(),
            port: port.parse().expect("a port number"),
            options,
        })
    }

    async fn connect(&self) -> Connection {
        Connection::connect_tcp(&self.host, self.port, self.options.clone())
            .await
            .unwrap()
    }
}

#[derive(Debug)]
enum Heard {
    Delivered(Delivered),
    Cancelled,
    Closed(Error),
}

struct Ear(mpsc::UnboundedSender<Heard>);

impl Consumer for Ear {
    fn deliver(&self, delivery: Delivered) {
        self.0.send(Heard::Delivered(delivery)).ok();
    }
    fn cancelled(&self) {
        self.0.send(Heard::Cancelled).ok();
    }
    fn closed(&self, error: &Error) {
        self.0.send(Heard::Closed(error.clone())).ok();
    }
}

struct Heards(mpsc::UnboundedReceiver<Heard>);

impl Heards {
    async fn delivery(&mut self) -> Delivered {
        match self.0.recv().await.unwrap() {
            Heard::Delivered(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }
}

fn ear() -> (Arc<Ear>, Heards) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(Ear(sender)), Heards(receiver))
}

fn unique(what: &str) -> String {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    format!("amqp-test-{what}-{}-{nanos}", std::process::id())
}

fn json() -> EncodedProperties {
    PropertiesBuilder::new()
        .content_type("application/json")
        .content_encoding("utf-8")
        .headers(Table::new().with("n", 7))
        .delivery_mode(2)
        .priority(0)
        .build()
        .unwrap()
}

fn to_queue<'a>(queue: &'a str, properties: &'a EncodedProperties) -> Publish<'a> {
    Publish {
        exchange: "",
        routing_key: queue,
        mandatory: true,
        properties,
        expiration: Some(60_000),
    }
}

async fn queue(channel: &Channel, name: &str, arguments: Table) {
    let declare = QueueDeclare {
        name,
        // As every RabbitMQ takes it.
        durable: true,
        auto_delete: true,
        arguments,
        ..QueueDeclare::default()
    };
    channel.queue_declare(&declare).await.unwrap();
}

async fn exclusive_queue(channel: &Channel, name: &str) {
    let declare = QueueDeclare {
        name,
        exclusive: true,
        ..QueueDeclare::default()
    };
    channel.queue_declare(&declare).await.unwrap();
}

fn run(test: &str, body: impl AsyncFnOnce(Broker)) {
    let Some(broker) = Broker::from_environment(test) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(within(body(broker)));
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("in time")
}

#[test]
fn a_message_goes_round_with_its_properties() {
    run("a_message_goes_round_with_its_properties", async |broker| {
        let connection = broker.connect().await;
        assert_eq!(connection.server_properties().product(), "RabbitMQ");
        assert!(
            connection
                .server_properties()
                .has_capability("publisher_confirms")
        );
        let channel = connection.open_channel().await.unwrap();
        let (name, exchange) = (unique("round"), unique("exchange"));
        let declare = ExchangeDeclare {
            name: &exchange,
            kind: "topic",
            auto_delete: true,
            ..Default::default()
        };
        channel.exchange_declare(&declare).await.unwrap();
        queue(&channel, &name, Table::new().with("x-expires", 60_000)).await;
        channel
            .queue_bind(&name, &exchange, "key", &Table::new())
            .await
            .unwrap();
        channel.qos(10).await.unwrap();
        channel.confirm_select().await.unwrap();
        let (consumer, mut heard) = ear();
        assert_eq!(
            &*channel
                .consume(&name, "1", &Table::new(), consumer)
                .await
                .unwrap(),
            "1"
        );
        let properties = json();
        for size in [0, 1, 1000, 40_000, 131_064, 131_065, 1 << 20] {
            let body: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let publish = Publish {
                exchange: &exchange,
                routing_key: "key",
                ..to_queue("", &properties)
            };
            assert_eq!(
                channel.publish(&publish, &body).unwrap().await.unwrap(),
                Confirmation::Acked
            );
            let delivery = heard.delivery().await;
            assert!(delivery.body == body, "{size}");
            assert_eq!(
                (
                    &*delivery.exchange,
                    &*delivery.routing_key,
                    &*delivery.consumer_tag
                ),
                (&*exchange, "key", "1")
            );
            assert_eq!(delivery.properties.expiration(), Some("60000"));
            assert_eq!(
                delivery
                    .properties
                    .headers()
                    .unwrap()
                    .field("n")
                    .and_then(Value::as_int),
                Some(7)
            );
            channel.ack(delivery.delivery_tag).unwrap();
            assert_eq!(
                channel.ack(delivery.delivery_tag).unwrap_err().kind(),
                ErrorKind::UnknownDelivery
            );
        }
        channel
            .queue_unbind(&name, &exchange, "key", &Table::new())
            .await
            .unwrap();
        channel.cancel("1").await.unwrap();
        connection.close(PATIENCE).await.unwrap();
        assert_eq!(
            channel
                .publish(&to_queue("q", &properties), b"")
                .unwrap_err()
                .kind(),
            ErrorKind::Closed
        );
    });
}

#[test]
fn unroutable_and_refused_messages_are_told_apart_from_taken_ones() {
    run(
        "unroutable_and_refused_messages_are_told_apart_from_taken_ones",
        async |broker| {
            let connection = broker.connect().await;
            let channel = connection.open_channel().await.unwrap();
            channel.confirm_select().await.unwrap();
            let (open, full) = (unique("open"), unique("full"));
            queue(&channel, &open, Table::new()).await;
            queue(
                &channel,
                &full,
                Table::new()
                    .with("x-max-length", 1)
                    .with("x-overflow", "reject-publish"),
            )
            .await;
            let properties = json();
            let mut confirms = Vec::new();
            for at in 0..30 {
                let key = match at % 3 {
                    0 => &*open,
                    1 => "amqp-test-nowhere",
                    _ => &*full,
                };
                confirms.push(
                    channel
                        .publish(&to_queue(key, &properties), format!("{at}").as_bytes())
                        .unwrap(),
                );
            }
            for (at, confirm) in confirms.into_iter().enumerate() {
                let confirmation = confirm.await.unwrap();
                match at {
                    2 => assert_eq!(confirmation, Confirmation::Acked),
                    at if at % 3 == 0 => assert_eq!(confirmation, Confirmation::Acked),
                    at if at % 3 == 1 => assert!(matches!(
                        confirmation,
                        Confirmation::Returned { code: 312, .. }
                    )),
                    _ => assert_eq!(confirmation, Confirmation::Nacked),
                }
            }
            assert_eq!(channel.queue_purge(&open).await.unwrap(), 10);
            assert_eq!(channel.queue_delete(&full, false, false).await.unwrap(), 1);
            connection.close(PATIENCE).await.unwrap();
        },
    );
}

#[test]
fn a_refused_method_ends_its_channel_only() {
    run("a_refused_method_ends_its_channel_only", async |broker| {
        let connection = broker.connect().await;
        let (bad, good) = (
            connection.open_channel().await.unwrap(),
            connection.open_channel().await.unwrap(),
        );
        bad.confirm_select().await.unwrap();
        let (consumer, mut heard) = ear();
        let name = unique("refused");
        exclusive_queue(&good, &name).await;
        bad.consume(&name, "", &Table::new(), consumer)
            .await
            .unwrap();
        let properties = json();
        let publish = Publish {
            exchange: "amqp-test-no-such-exchange",
            ..to_queue(&name, &properties)
        };
        let confirm = bad.publish(&publish, b"x").unwrap();
        let error = confirm.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.method()),
            (ErrorKind::ChannelClosed, Some(404), Some((60, 40)))
        );
        assert!(
            matches!(heard.0.recv().await.unwrap(), Heard::Closed(error) if error.code() == Some(404))
        );
        assert_eq!(bad.closed_reason().unwrap().code(), Some(404));
        let passive = QueueDeclare {
            name: &name,
            passive: true,
            ..Default::default()
        };
        assert_eq!(good.queue_declare(&passive).await.unwrap().consumers, 0);
        // The number of the dead channel serves again.
        for _ in 0..5 {
            let channel = connection.open_channel().await.unwrap();
            channel.close().await.unwrap();
            assert_eq!(channel.close().await.unwrap_err().kind(), ErrorKind::Closed);
        }
        connection.close(PATIENCE).await.unwrap();
    });
}

#[test]
fn the_broker_tells_that_a_consumers_queue_is_gone() {
    run(
        "the_broker_tells_that_a_consumers_queue_is_gone",
        async |broker| {
            let connection = broker.connect().await;
            let channel = connection.open_channel().await.unwrap();
            let name = unique("gone");
            queue(&channel, &name, Table::new()).await;
            let (consumer, mut heard) = ear();
            channel
                .consume(&name, "1", &Table::new(), consumer)
                .await
                .unwrap();
            channel.queue_delete(&name, false, false).await.unwrap();
            assert!(matches!(heard.0.recv().await.unwrap(), Heard::Cancelled));
            // The connection has let go of the consumer.
            assert!(heard.0.recv().await.is_none());
            connection.close(PATIENCE).await.unwrap();
        },
    );
}

#[test]
fn what_is_put_back_comes_again_and_what_is_acked_does_not() {
    run(
        "what_is_put_back_comes_again_and_what_is_acked_does_not",
        async |broker| {
            let connection = broker.connect().await;
            let channel = connection.open_channel().await.unwrap();
            channel.confirm_select().await.unwrap();
            let name = unique("again");
            exclusive_queue(&channel, &name).await;
            let properties = json();
            for at in 0..100u8 {
                channel.send(&to_queue(&name, &properties), &[at]).unwrap();
            }
            let (consumer, mut heard) = ear();
            channel
                .consume(&name, "1", &Table::new(), consumer)
                .await
                .unwrap();
            let mut back = 0;
            for _ in 0..100 {
                let delivery = heard.delivery().await;
                // A pattern with holes: prefixes, singles and rejects.
                match delivery.body[0] % 5 {
                    0 => {
                        channel.nack(delivery.delivery_tag, true).unwrap();
                        back += 1;
                    }
                    1 => channel.reject(delivery.delivery_tag, false).unwrap(),
                    _ => channel.ack(delivery.delivery_tag).unwrap(),
                }
            }
            for _ in 0..back {
                let delivery = heard.delivery().await;
                assert!(delivery.redelivered && delivery.body[0] % 5 == 0);
                channel.ack(delivery.delivery_tag).unwrap();
            }
            let passive = QueueDeclare {
                name: &name,
                passive: true,
                ..Default::default()
            };
            assert_eq!(channel.queue_declare(&passive).await.unwrap().messages, 0);
            // What was not settled would be back in the queue with the end of the channel.
            channel.close().await.unwrap();
            let channel = connection.open_channel().await.unwrap();
            assert_eq!(channel.queue_declare(&passive).await.unwrap().messages, 0);
            connection.close(PATIENCE).await.unwrap();
        },
    );
}

#[test]
fn pipelined_declares_are_answered_in_order_and_dropped_ones_shift_nothing() {
    run(
        "pipelined_declares_are_answered_in_order_and_dropped_ones_shift_nothing",
        async |broker| {
            let connection = broker.connect().await;
            let channel = connection.open_channel().await.unwrap();
            let names: Vec<String> = (0..20).map(|at| unique(&format!("pipe{at}"))).collect();
            let mut tasks = Vec::new();
            for (at, name) in names.iter().cloned().enumerate() {
                let channel = channel.clone();
                tasks.push(tokio::spawn(async move {
                let declare = QueueDeclare { name: &name, exclusive: true, ..Default::default() };
                if at % 2 == 0 {
                    // Sent with its first poll, dropped with the second branch.
                    tokio::select! { biased; _ = channel.queue_declare(&declare) => {}, () = std::future::ready(()) => {} }
                    return;
                }
                assert_eq!(channel.queue_declare(&declare).await.unwrap().name, name);
            }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            for name in &names {
                let passive = QueueDeclare {
                    name,
                    passive: true,
                    ..Default::default()
                };
                assert_eq!(&channel.queue_declare(&passive).await.unwrap().name, name);
            }
            connection.close(PATIENCE).await.unwrap();
        },
    );
}

#[test]
fn consumes_given_up_with_their_channel_leave_the_connection_in_peace() {
    run(
        "consumes_given_up_with_their_channel_leave_the_connection_in_peace",
        async |broker| {
            let connection = broker.connect().await;
            let keeper = connection.open_channel().await.unwrap();
            let names: Vec<String> = (0..4).map(|at| unique(&format!("left{at}"))).collect();
            for name in &names {
                exclusive_queue(&keeper, name).await;
            }
            for round in 0..100 {
                let channel = connection.open_channel().await.unwrap();
                let arguments = Table::new();
                let (consumer, _heards) = ear();
                // Sent with their first polls, given up before their answers; some with the channel's close right behind.
                {
                    let consumes = names
                        .iter()
                        .map(|name| channel.consume(name, "", &arguments, consumer.clone()));
                    let mut consumes: Vec<_> = consumes.map(Box::pin).collect();
                    std::future::poll_fn(|context| {
                        for consume in &mut consumes {
                            let _ = consume.as_mut().poll(context);
                        }
                        std::task::Poll::Ready(())
                    })
                    .await;
                }
                match round % 3 {
                    0 => drop(channel),
                    1 => channel.close().await.unwrap(),
                    _ => channel.qos(10).await.unwrap(),
                }
                assert!(connection.is_open(), "{:?}", connection.closed_reason());
            }
            // Everything still works, and nothing consumes any more.
            let name = &names[0];
            let (consumer, mut heards) = ear();
            keeper
                .consume(name, "", &Table::new(), consumer)
                .await
                .unwrap();
            let properties = json();
            keeper.send(&to_queue(name, &properties), b"{}").unwrap();
            assert_eq!(heards.delivery().await.body, "{}");
            connection.close(PATIENCE).await.unwrap();
        },
    );
}

#[test]
fn refusals_of_the_handshake_are_typed() {
    run("refusals_of_the_handshake_are_typed", async |broker| {
        let mut options = broker.options.clone();
        options.login = Login::Plain {
            user: "amqp-test-nobody".into(),
            password: "wrong-secret".into(),
        };
        let error = Connection::connect_tcp(&broker.host, broker.port, options)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::AccessRefused, Some(403))
        );
        assert!(!format!("{error:?} {error}").contains("wrong-secret"));
        let mut options = broker.options.clone();
        options.virtual_host = "amqp-test-no-such-vhost".into();
        let error = Connection::connect_tcp(&broker.host, broker.port, options)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::VhostRefused, Some(530))
        );
    });
}

#[test]
fn many_callers_publish_and_consume_at_once() {
    run("many_callers_publish_and_consume_at_once", async |broker| {
        let (connection, other) = (broker.connect().await, broker.connect().await);
        let (publisher, listener) = (
            connection.open_channel().await.unwrap(),
            other.open_channel().await.unwrap(),
        );
        publisher.confirm_select().await.unwrap();
        let name = unique("many");
        queue(&listener, &name, Table::new()).await;
        let (consumer, mut heard) = ear();
        listener
            .consume(&name, "1", &Table::new(), consumer)
            .await
            .unwrap();
        let properties = Arc::new(json());
        let started = Instant::now();
        let (callers, each) = (64u32, 200u32);
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let (publisher, properties, name) =
                (publisher.clone(), properties.clone(), name.clone());
            tasks.push(tokio::spawn(async move {
                for at in 0..each {
                    let body = (caller * each + at).to_be_bytes();
                    let confirm = publisher
                        .publish(&to_queue(&name, &properties), &body)
                        .unwrap();
                    assert_eq!(confirm.await.unwrap(), Confirmation::Acked);
                }
            }));
        }
        let mut seen = vec![false; (callers * each) as usize];
        for _ in 0..callers * each {
            let delivery = heard.delivery().await;
            let number = u32::from_be_bytes(delivery.body[..].try_into().unwrap()) as usize;
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "delivered once"
            );
            listener.ack(delivery.delivery_tag).unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        let rate = f64::from(callers * each) / started.elapsed().as_secs_f64();
        println!("publish, confirm, consume, ack: {rate:.0} messages/s");
        assert_eq!(publisher.unconfirmed(), 0);
        listener.close().await.unwrap();
        connection.close(PATIENCE).await.unwrap();
        other.close(PATIENCE).await.unwrap();
    });
}
