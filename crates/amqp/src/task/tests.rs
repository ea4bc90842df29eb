//! Handles and task over a pipe, with the test as the broker at its other end.

use std::sync::Arc;
use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::handle::channel::Channel;
use crate::handle::connection::Connection;
use crate::methods::{Confirmation, Consumer, Delivered, ExchangeDeclare, Publish, QueueDeclare};
use crate::options::{ConnectOptions, Login};
use crate::properties::{EncodedProperties, PropertiesBuilder};
use crate::table::Table;
use crate::testing::{
    ack, answer, channel_close, connection_close, decode, deliver, encode, on_connection,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The broker's end of the pipe.
struct Broker {
    stream: DuplexStream,
    unread: Vec<u8>,
    frames: std::collections::VecDeque<AMQPFrame>,
    raw: Vec<u8>,
    /// Frames of the last read, for tests about what is written together.
    batch: usize,
}

impl Broker {
    fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            frames: Default::default(),
            raw: Vec::new(),
            batch: 0,
        }
    }

    /// The next frame; `None` at the end of the stream.
    async fn next(&mut self) -> Option<AMQPFrame> {
        while self.frames.is_empty() {
            let mut buffer = [0; 65_536];
            let count = timeout(PATIENCE, self.stream.read(&mut buffer))
                .await
                .expect("in time")
                .ok()?;
            if count == 0 {
                return None;
            }
            self.raw.extend_from_slice(&buffer[..count]);
            self.unread.extend_from_slice(&buffer[..count]);
            self.frames.extend(decode(&mut self.unread));
            self.batch = self.frames.len();
        }
        self.frames.pop_front()
    }

    async fn send(&mut self, frames: &[AMQPFrame]) {
        self.stream.write_all(&encode(frames)).await.unwrap();
    }

    /// Obliges until a frame comes that the test wants to see.
    async fn oblige_until(&mut self, wanted: impl Fn(&AMQPFrame) -> bool) -> AMQPFrame {
        loop {
            let frame = self.next().await.expect("a frame");
            if wanted(&frame) {
                return frame;
            }
            if let Some(answer) = answer(&frame) {
                self.send(&[answer]).await;
            }
        }
    }

    /// Obliges to the end of the stream; everything that was sent.
    async fn oblige(&mut self) -> Vec<AMQPFrame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            if let Some(answer) = answer(&frame) {
                self.stream.write_all(&encode(&[answer])).await.ok();
            }
            frames.push(frame);
        }
        frames
    }
}

fn is_publish(frame: &AMQPFrame) -> bool {
    matches!(
        frame,
        AMQPFrame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Publish(_)))
    )
}

fn is_close(frame: &AMQPFrame) -> bool {
    matches!(
        frame,
        AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_)))
    )
}

fn is_declare(frame: &AMQPFrame) -> bool {
    matches!(
        frame,
        AMQPFrame::Method(_, AMQPClass::Queue(queue::AMQPMethod::Declare(_)))
    )
}

async fn connected_with(options: ConnectOptions, pipe: usize) -> (Connection, Broker) {
    let (near, far) = duplex(pipe);
    let mut broker = Broker::new(far);
    let is_open = |frame: &AMQPFrame| {
        matches!(
            frame,
            AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Open(_)))
        )
    };
    let (connection, ()) = tokio::join!(Connection::handshake(near, options), async {
        let open = broker.oblige_until(is_open).await;
        broker.send(&[answer(&open).unwrap()]).await;
    });
    (connection.unwrap(), broker)
}

/// A connection with a channel that has confirms on.
async fn confirming() -> (Connection, Channel, Broker) {
    let (connection, mut broker) = connected_with(ConnectOptions::default(), 1 << 20).await;
    let channel = with_broker(&mut broker, async {
        let channel = connection.open_channel().await.unwrap();
        channel.confirm_select().await.unwrap();
        channel
    })
    .await;
    (connection, channel, broker)
}

/// Does something while the broker obliges.
async fn with_broker<T>(broker: &mut Broker, action: impl Future<Output = T>) -> T {
    tokio::pin!(action);
    loop {
        tokio::select! {
            result = &mut action => return result,
            frame = broker.next() => {
                if let Some(answer) = frame.as_ref().and_then(answer) {
                    broker.send(&[answer]).await;
                }
            }
        }
    }
}

fn publish(properties: &EncodedProperties) -> Publish<'_> {
    Publish {
        exchange: "",
        routing_key: "q",
        mandatory: false,
        properties,
        expiration: None,
    }
}

/// Hears into a queue; acks and publishes in place when it has a channel.
struct Ear {
    heard: mpsc::UnboundedSender<Result<Delivered, Error>>,
    react: Option<Channel>,
}

impl Consumer for Ear {
    fn deliver(&self, delivery: Delivered) {
        if let Some(channel) = &self.react {
            channel.ack(delivery.delivery_tag).unwrap();
            channel
                .send(&publish(&EncodedProperties::default()), b"reaction")
                .unwrap();
        }
        self.heard.send(Ok(delivery)).ok();
    }
    fn cancelled(&self) {}
    fn closed(&self, error: &Error) {
        self.heard.send(Err(error.clone())).ok();
    }
}

fn ear(react: Option<Channel>) -> (Arc<Ear>, mpsc::UnboundedReceiver<Result<Delivered, Error>>) {
    let (heard, hearing) = mpsc::unbounded_channel();
    (Arc::new(Ear { heard, react }), hearing)
}

#[tokio::test]
async fn a_connection_opens_and_closes_in_good_manners() {
    let (connection, mut broker) = connected_with(ConnectOptions::default(), 4096).await;
    assert!(connection.is_open());
    assert_eq!(
        (connection.frame_max(), connection.channel_max()),
        (131_072, 2047)
    );
    assert_eq!(connection.heartbeat(), Some(Duration::from_secs(60)));
    assert_eq!(connection.server_properties().product(), "Scripted");
    let watcher = connection.clone();
    let closed = tokio::spawn(async move { watcher.closed().await });
    let (closing, frames) = tokio::join!(connection.close(PATIENCE), broker.oblige());
    closing.unwrap();
    assert!(is_close(frames.last().unwrap()));
    assert_eq!(closed.await.unwrap().kind(), ErrorKind::Closed);
    assert!(!connection.is_open() && connection.closed_reason().is_some());
    connection.close(PATIENCE).await.unwrap();
    assert_eq!(
        connection.open_channel().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test]
async fn a_silent_broker_is_given_up_at_the_deadline() {
    let mut options = ConnectOptions::default();
    options.connect_timeout = Duration::from_millis(30);
    let (near, far) = duplex(4096);
    let mut broker = Broker::new(far);
    let error = Connection::handshake(near, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The task lets go of the stream.
    while broker.next().await.is_some() {}
}

#[tokio::test]
async fn a_dropped_connect_lets_go_of_the_stream() {
    let (near, far) = duplex(4096);
    let mut broker = Broker::new(far);
    let connecting = tokio::spawn(Connection::handshake(near, ConnectOptions::default()));
    assert!(matches!(
        broker.next().await,
        Some(AMQPFrame::ProtocolHeader(_))
    ));
    connecting.abort();
    assert!(broker.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_connection() {
    let (connection, channel, mut broker) = confirming().await;
    let other = connection.clone();
    drop(connection);
    assert!(other.is_open());
    drop(other);
    let frames = broker.oblige().await;
    assert!(is_close(&frames[0]));
    let error = channel.open_again().await;
    assert_eq!(error.kind(), ErrorKind::Closed);
}

impl Channel {
    /// Any call, for its error.
    async fn open_again(&self) -> Error {
        self.qos(1).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_broker_that_never_answers_the_close_does_not_hold_it_up() {
    let (connection, broker) = connected_with(ConnectOptions::default(), 4096).await;
    let error = connection
        .close(Duration::from_millis(30))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    drop(broker);
}

#[tokio::test]
async fn what_waits_ends_when_the_peer_vanishes() {
    let (connection, channel, mut broker) = confirming().await;
    let confirm = channel
        .publish(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    let declaring = tokio::spawn({
        let channel = channel.clone();
        async move { channel.queue_declare(&QueueDeclare::default()).await }
    });
    broker.oblige_until(is_declare).await;
    drop(broker);
    assert_eq!(declaring.await.unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(confirm.await.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(channel.ready().await.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(connection.closed().await.kind(), ErrorKind::Io);
    assert!(connection.closed().await.is_connection_loss());
}

#[tokio::test]
async fn whoever_waits_for_a_confirmation_that_a_close_ends_finds_the_connection_closed() {
    let (connection, channel, mut broker) = confirming().await;
    let confirm = channel
        .publish(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    broker.oblige_until(is_publish).await;
    let waiting = async {
        let error = confirm.await.unwrap_err();
        (error.kind(), connection.is_open())
    };
    // The broker says nothing any more.
    let (waited, closed) = tokio::join!(waiting, connection.close(Duration::from_millis(30)));
    assert_eq!(waited, (ErrorKind::Closed, false));
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_channel_closed_by_the_broker_leaves_the_others_alone() {
    let (connection, channel, mut broker) = confirming().await;
    let other = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    let confirm = channel
        .publish(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    broker.oblige_until(is_publish).await;
    broker.send(&[channel_close(1, 404, "NOT_FOUND")]).await;
    let error = confirm.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::ChannelClosed, Some(404))
    );
    let declare = ExchangeDeclare {
        name: "e",
        kind: "topic",
        ..Default::default()
    };
    with_broker(&mut broker, other.exchange_declare(&declare))
        .await
        .unwrap();
    assert!(connection.is_open());
}

#[tokio::test]
async fn confirms_resolve_and_a_dropped_one_disturbs_nobody() {
    let (_connection, channel, mut broker) = confirming().await;
    let properties = EncodedProperties::default();
    let first = channel.publish(&publish(&properties), b"1").unwrap();
    let second = channel.publish(&publish(&properties), b"2").unwrap();
    channel.send(&publish(&properties), b"3").unwrap();
    let fourth = channel.publish(&publish(&properties), b"4").unwrap();
    drop(first);
    assert_eq!(channel.unconfirmed(), 4);
    broker.send(&[ack(1, 4, true)]).await;
    assert_eq!(second.await.unwrap(), Confirmation::Acked);
    assert_eq!(fourth.await.unwrap(), Confirmation::Acked);
    assert_eq!(channel.unconfirmed(), 0);
}

#[tokio::test]
async fn what_a_consumer_sends_in_place_leaves_with_one_write() {
    let (_connection, channel, mut broker) = confirming().await;
    let (consumer, mut hearing) = ear(Some(channel.clone()));
    with_broker(
        &mut broker,
        channel.consume("q", "1", &Table::new(), consumer),
    )
    .await
    .unwrap();
    let deliveries: Vec<AMQPFrame> = (1..=10)
        .flat_map(|tag| deliver(1, "1", tag, b"x"))
        .collect();
    broker.send(&deliveries).await;
    for _ in 0..10 {
        assert_eq!(hearing.recv().await.unwrap().unwrap().body, "x");
    }
    // Ten publishes of three frames, and one ack for all.
    let mut seen = Vec::new();
    while seen.len() < 31 {
        seen.push(broker.next().await.unwrap());
    }
    assert_eq!(broker.batch, 31);
    assert!(seen.contains(&ack(1, 10, true)));
}

#[tokio::test]
async fn nothing_is_delivered_after_a_cancel_has_resolved() {
    let (_connection, channel, mut broker) = confirming().await;
    let (consumer, mut hearing) = ear(None);
    with_broker(
        &mut broker,
        channel.consume("q", "1", &Table::new(), consumer),
    )
    .await
    .unwrap();
    let is_cancel = |frame: &AMQPFrame| {
        matches!(
            frame,
            AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Cancel(_)))
        )
    };
    let (cancelled, ()) = tokio::join!(channel.cancel("1"), async {
        let cancel = broker.oblige_until(is_cancel).await;
        let mut frames = deliver(1, "1", 1, b"late");
        frames.push(answer(&cancel).unwrap());
        broker.send(&frames).await;
    });
    cancelled.unwrap();
    assert_eq!(hearing.try_recv().unwrap().unwrap().body, "late");
    assert!(hearing.recv().await.is_none(), "the consumer was let go");
}

#[tokio::test]
async fn a_consumer_that_panics_ends_the_connection_and_everyone_is_told() {
    struct Bomb;
    impl Consumer for Bomb {
        fn deliver(&self, _: Delivered) {
            panic!("a consumer's own fault");
        }
        fn cancelled(&self) {}
        fn closed(&self, _: &Error) {}
    }
    let (connection, channel, mut broker) = confirming().await;
    with_broker(
        &mut broker,
        channel.consume("q", "1", &Table::new(), Arc::new(Bomb)),
    )
    .await
    .unwrap();
    let confirm = channel
        .publish(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    broker.send(&deliver(1, "1", 1, b"x")).await;
    assert!(timeout(PATIENCE, confirm).await.unwrap().is_err());
    timeout(PATIENCE, connection.closed()).await.unwrap();
    assert!(channel.qos(1).await.is_err());
}

#[tokio::test]
async fn publishing_faster_than_the_broker_reads_is_told_and_can_be_waited_for() {
    let mut options = ConnectOptions::default();
    options.output_limit = 10_000;
    let (connection, mut broker) = connected_with(options, 1000).await;
    let channel = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    let properties = EncodedProperties::default();
    let mut sent = 0usize;
    loop {
        match channel.send(&publish(&properties), &[7; 1000]) {
            Ok(()) => sent += 1,
            Err(error) if error.kind() == ErrorKind::Full => break,
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
        assert!(sent < 100, "the bound holds");
    }
    assert!(
        timeout(Duration::from_millis(20), channel.ready())
            .await
            .is_err(),
        "nobody reads"
    );
    let reading = tokio::spawn(async move { broker.oblige().await });
    timeout(PATIENCE, channel.ready()).await.unwrap().unwrap();
    channel.send(&publish(&properties), b"last").unwrap();
    connection.close(PATIENCE).await.unwrap();
    let frames = reading.await.unwrap();
    assert_eq!(
        frames.iter().filter(|frame| is_publish(frame)).count(),
        sent + 1
    );
}

#[tokio::test]
async fn a_blocked_broker_can_be_watched() {
    let (connection, mut broker) = connected_with(ConnectOptions::default(), 4096).await;
    let mut watch = connection.watch_blocked();
    let blocked = connection::Blocked {
        reason: "low on disk".into(),
    };
    broker
        .send(&[on_connection(connection::AMQPMethod::Blocked(blocked))])
        .await;
    watch.changed().await.unwrap();
    assert_eq!(connection.blocked_reason().as_deref(), Some("low on disk"));
    broker
        .send(&[on_connection(connection::AMQPMethod::Unblocked(
            connection::Unblocked {},
        ))])
        .await;
    watch.changed().await.unwrap();
    assert!(watch.borrow().is_none());
}

#[tokio::test]
async fn a_frame_over_the_limit_is_answered_with_501() {
    let (connection, mut broker) = connected_with(ConnectOptions::default(), 4096).await;
    broker
        .stream
        .write_all(&[1, 0, 1, 255, 0, 0, 0])
        .await
        .unwrap();
    let error = connection.closed().await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Protocol, Some(501))
    );
    let Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) =
        broker.next().await
    else {
        panic!()
    };
    assert_eq!(close.reply_code, 501);
    assert!(broker.next().await.is_none());
}

#[tokio::test]
async fn the_brokers_close_is_answered_and_told() {
    let (connection, mut broker) = connected_with(ConnectOptions::default(), 4096).await;
    broker
        .send(&[connection_close(320, "CONNECTION_FORCED")])
        .await;
    let error = connection.closed().await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::ConnectionClosed, Some(320))
    );
    let ok = on_connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
    assert_eq!(broker.next().await, Some(ok));
    assert!(broker.next().await.is_none());
    assert_eq!(
        connection.close(PATIENCE).await.unwrap_err().code(),
        Some(320)
    );
}

#[tokio::test]
async fn the_reason_is_read_even_when_the_socket_takes_no_more() {
    let (connection, channel, mut broker) = confirming().await;
    broker
        .send(&[connection_close(320, "CONNECTION_FORCED")])
        .await;
    let confirm = channel
        .publish(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    drop(broker);
    assert_eq!(confirm.await.unwrap_err().code(), Some(320));
    assert_eq!(connection.closed().await.code(), Some(320));
}

#[tokio::test]
async fn streams_with_a_buffer_of_their_own_are_flushed() {
    let (near, far) = duplex(1 << 20);
    let mut broker = Broker::new(far);
    let connecting =
        Connection::handshake(tokio::io::BufStream::new(near), ConnectOptions::default());
    let connection = with_broker(&mut broker, connecting).await.unwrap();
    let channel = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    channel
        .send(&publish(&EncodedProperties::default()), b"x")
        .unwrap();
    broker.oblige_until(is_publish).await;
}

#[tokio::test]
async fn a_consumer_may_be_the_last_to_hold_a_channel() {
    struct Holder(#[allow(dead_code)] Channel);
    impl Consumer for Holder {
        fn deliver(&self, _: Delivered) {}
        fn cancelled(&self) {}
        fn closed(&self, _: &Error) {}
    }
    let (connection, channel, mut broker) = confirming().await;
    let held = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    let consumer = Arc::new(Holder(held));
    with_broker(
        &mut broker,
        channel.consume("q", "1", &Table::new(), consumer),
    )
    .await
    .unwrap();
    with_broker(&mut broker, channel.cancel("1")).await.unwrap();
    with_broker(&mut broker, channel.close()).await.unwrap();
    let held = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    // Refused at once: the channel is closed, and the consumer goes with the refusal.
    channel
        .consume("q", "1", &Table::new(), Arc::new(Holder(held)))
        .await
        .unwrap_err();
    with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_channel_is_closed_and_one_dropped_while_opening_too() {
    let (connection, channel, mut broker) = confirming().await;
    drop(channel);
    let is_channel = |wanted: u16| move |frame: &AMQPFrame| matches!(frame, AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(_))) if *number == wanted);
    let close = broker.oblige_until(is_channel(1)).await;
    let opening = tokio::spawn({
        let connection = connection.clone();
        async move { connection.open_channel().await.map(drop) }
    });
    let opened = broker.next().await.unwrap();
    assert!(matches!(
        opened,
        AMQPFrame::Method(2, AMQPClass::Channel(channel::AMQPMethod::Open(_)))
    ));
    opening.abort();
    let second = broker.oblige_until(is_channel(2)).await;
    broker
        .send(&[
            answer(&close).unwrap(),
            answer(&opened).unwrap(),
            answer(&second).unwrap(),
        ])
        .await;
    let third = with_broker(&mut broker, connection.open_channel())
        .await
        .unwrap();
    with_broker(&mut broker, third.qos(5)).await.unwrap();
}

// The Python peer's own connections, replayed.

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn flag(value: &serde_json::Value, key: &str) -> bool {
    value[key].as_bool().unwrap()
}

fn table(value: &serde_json::Value) -> Table {
    let fields = value.as_object().unwrap();
    fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_i64().unwrap()))
        .collect()
}

/// Does what the frame of the vector does, by the public API.
async fn replay(
    frame: &serde_json::Value,
    channel: &Channel,
    consumer: &Arc<Ear>,
    hearing: &mut mpsc::UnboundedReceiver<Result<Delivered, Error>>,
) {
    let args = &frame["args"];
    match text(frame, "method") {
        "exchange.declare" => {
            let declare = ExchangeDeclare {
                name: text(args, "exchange"),
                kind: text(args, "exchange_type"),
                durable: flag(args, "durable"),
                auto_delete: flag(args, "auto_delete"),
                ..Default::default()
            };
            channel.exchange_declare(&declare).await.unwrap();
        }
        "queue.declare" => {
            let declare = QueueDeclare {
                name: text(args, "queue"),
                durable: flag(args, "durable"),
                auto_delete: flag(args, "auto_delete"),
                arguments: table(&args["arguments"]),
                ..Default::default()
            };
            channel.queue_declare(&declare).await.unwrap();
        }
        "queue.bind" => {
            let arguments = table(&args["arguments"]);
            let (queue, exchange) = (text(args, "queue"), text(args, "exchange"));
            channel
                .queue_bind(queue, exchange, text(args, "routing_key"), &arguments)
                .await
                .unwrap();
        }
        "queue.delete" => {
            channel
                .queue_delete(text(args, "queue"), false, false)
                .await
                .unwrap();
        }
        "basic.consume" => {
            let (queue, tag) = (text(args, "queue"), text(args, "consumer_tag"));
            channel
                .consume(queue, tag, &Table::new(), consumer.clone())
                .await
                .unwrap();
        }
        "confirm.select" => channel.confirm_select().await.unwrap(),
        "basic.publish" => {
            let properties = PropertiesBuilder::new()
                .content_type("application/json")
                .content_encoding("utf-8")
                .headers(Table::new())
                .delivery_mode(2)
                .priority(0)
                .build()
                .unwrap();
            let publish = Publish {
                exchange: text(frame, "exchange"),
                routing_key: text(frame, "routing_key"),
                mandatory: flag(frame, "mandatory"),
                properties: &properties,
                expiration: None,
            };
            channel
                .send(&publish, text(frame, "body_utf8").as_bytes())
                .unwrap();
        }
        "basic.ack" => {
            let delivered = hearing.recv().await.unwrap().unwrap();
            channel.ack(delivered.delivery_tag).unwrap();
        }
        "channel.close" => channel.close().await.unwrap(),
        other => panic!("{other} is new in the vector"),
    }
}

async fn replay_connection(vector: &serde_json::Value, name: &str) {
    let frames: Vec<&serde_json::Value> = vector["direction"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|frame| frame["conn"] == name && frame["raw_hex"].is_array())
        .collect();
    let expected: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame["raw_hex"].as_array().unwrap())
        .flat_map(|raw| hex(raw.as_str().unwrap()))
        .collect();
    let start_ok = frames
        .iter()
        .find(|frame| frame["method"] == "connection.start-ok")
        .unwrap();
    let peer = &start_ok["args"]["client_properties"];
    let mut options = ConnectOptions::default();
    options.login = Login::AmqPlain {
        user: "guest".into(),
        password: "guest".into(),
    };
    options.virtual_host = "wirecap".into();
    // A field of this name keeps its place and gets our own value.
    options.client_properties = Table::new()
        .with("product", text(peer, "product"))
        .with("product_version", text(peer, "product_version"))
        .with("capabilities", Table::new())
        .with("connection_name", text(peer, "connection_name"));
    let (near, far) = duplex(1 << 20);
    let brokering = tokio::spawn(async move {
        let mut broker = Broker::new(far);
        while let Some(frame) = broker.next().await {
            let mut answers: Vec<AMQPFrame> = answer(&frame).into_iter().collect();
            if let AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) =
                &frame
                && consume.consumer_tag.as_str() == "3"
            {
                answers.extend(deliver(1, "1", 1, b"request"));
            }
            if broker.stream.write_all(&encode(&answers)).await.is_err() {
                break;
            }
        }
        broker.raw
    });
    let connection = Connection::handshake(near, options).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    let (consumer, mut hearing) = ear(None);
    for frame in frames
        .iter()
        .filter(|frame| frame["channel"] == 1 && frame["method"] != "channel.open")
    {
        timeout(PATIENCE, replay(frame, &channel, &consumer, &mut hearing))
            .await
            .unwrap();
    }
    connection.close(PATIENCE).await.unwrap();
    let sent = brokering.await.unwrap();
    let (mut ours, mut theirs) = (sent.clone(), expected.clone());
    assert_eq!(decode(&mut ours), decode(&mut theirs));
    assert_eq!(sent, expected, "byte for byte");
}

#[tokio::test]
async fn the_recorded_connections_are_replayed_byte_for_byte() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../vectors/conn_handshake.json"
    );
    let vector: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    replay_connection(&vector, "server-1").await;
    replay_connection(&vector, "client-1").await;
}
