//! The broker's side for tests: frames made and read by the codec crate, and a state machine with a clock in the test's hand.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::BytesMut;

use crate::channel::{Answer, Then};
use crate::connection::{Engine, Event};
use crate::error::{Error, Result};
use crate::methods::{Consumer, Delivered, Publish};
use crate::options::ConnectOptions;
use crate::properties::EncodedProperties;

pub(crate) fn encode(frames: &[AMQPFrame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let written = gen_frame::<Vec<u8>>(frame)(WriteContext::from(Vec::new())).unwrap();
        bytes.extend(written.into_inner().0);
    }
    bytes
}

/// Takes the whole frames off the front.
pub(crate) fn decode(bytes: &mut Vec<u8>) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match parse_frame(rest) {
            Ok((after, frame)) => {
                frames.push(frame);
                rest = after;
            }
            Err(error) if error.is_incomplete() => break,
            Err(error) => panic!("this side wrote nonsense: {error:?}"),
        }
    }
    *bytes = rest.to_vec();
    frames
}

pub(crate) fn on_connection(method: connection::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(0, AMQPClass::Connection(method))
}

pub(crate) fn on_channel(number: u16, method: channel::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(number, AMQPClass::Channel(method))
}

pub(crate) fn on_basic(number: u16, method: basic::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(number, AMQPClass::Basic(method))
}

pub(crate) fn start(mechanisms: &str) -> AMQPFrame {
    let mut capabilities = FieldTable::default();
    capabilities.insert("publisher_confirms".into(), AMQPValue::Boolean(true));
    let mut server_properties = FieldTable::default();
    server_properties.insert("product".into(), AMQPValue::LongString("Scripted".into()));
    server_properties.insert("version".into(), AMQPValue::LongString("1.2.3".into()));
    server_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    on_connection(connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: mechanisms.into(),
        locales: "en_US".into(),
    }))
}

pub(crate) fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPFrame {
    on_connection(connection::AMQPMethod::Tune(connection::Tune {
        channel_max,
        frame_max,
        heartbeat,
    }))
}

pub(crate) fn open_ok() -> AMQPFrame {
    on_connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
}

pub(crate) fn connection_close(code: u16, text: &str) -> AMQPFrame {
    let close = connection::Close {
        reply_code: code,
        reply_text: text.into(),
        class_id: 0,
        method_id: 0,
    };
    on_connection(connection::AMQPMethod::Close(close))
}

pub(crate) fn channel_close(number: u16, code: u16, text: &str) -> AMQPFrame {
    let close = channel::Close {
        reply_code: code,
        reply_text: text.into(),
        class_id: 60,
        method_id: 40,
    };
    on_channel(number, channel::AMQPMethod::Close(close))
}

pub(crate) fn consume_ok(number: u16, tag: &str) -> AMQPFrame {
    let consumer_tag = tag.into();
    on_basic(
        number,
        basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag }),
    )
}

pub(crate) fn ack(number: u16, delivery_tag: u64, multiple: bool) -> AMQPFrame {
    on_basic(
        number,
        basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag,
            multiple,
        }),
    )
}

pub(crate) fn nack(number: u16, delivery_tag: u64) -> AMQPFrame {
    on_basic(
        number,
        basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag,
            multiple: false,
            requeue: false,
        }),
    )
}

/// Content header and body frames.
pub(crate) fn content(number: u16, body: &[u8], frame: usize) -> Vec<AMQPFrame> {
    let properties = basic::AMQPProperties::default().with_content_type("text/plain".into());
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties,
    };
    let mut frames = vec![AMQPFrame::Header(number, header)];
    frames.extend(
        body.chunks(frame)
            .map(|piece| AMQPFrame::Body(number, piece.to_vec())),
    );
    frames
}

pub(crate) fn deliver(
    number: u16,
    consumer: &str,
    delivery_tag: u64,
    body: &[u8],
) -> Vec<AMQPFrame> {
    let method = basic::AMQPMethod::Deliver(basic::Deliver {
        consumer_tag: consumer.into(),
        delivery_tag,
        redelivered: false,
        exchange: "exchange".into(),
        routing_key: "key".into(),
    });
    let mut frames = vec![on_basic(number, method)];
    frames.extend(content(number, body, 100_000));
    frames
}

pub(crate) fn returned(number: u16, routing_key: &str, body: &[u8]) -> Vec<AMQPFrame> {
    let method = basic::AMQPMethod::Return(basic::Return {
        reply_code: 312,
        reply_text: "NO_ROUTE".into(),
        exchange: "".into(),
        routing_key: routing_key.into(),
    });
    let mut frames = vec![on_basic(number, method)];
    frames.extend(content(number, body, 100_000));
    frames
}

/// What an obliging broker answers.
pub(crate) fn answer(frame: &AMQPFrame) -> Option<AMQPFrame> {
    let AMQPFrame::Method(number, class) = frame else {
        return matches!(frame, AMQPFrame::ProtocolHeader(_))
            .then(|| start("AMQPLAIN PLAIN EXTERNAL"));
    };
    let answer = match class {
        AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
            return Some(tune(2047, 131_072, 60));
        }
        AMQPClass::Connection(connection::AMQPMethod::Open(_)) => return Some(open_ok()),
        AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
        }
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => {
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}))
        }
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) => {
            let ok = queue::DeclareOk {
                queue: declare.queue.clone(),
                message_count: 1,
                consumer_count: 2,
            };
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok))
        }
        AMQPClass::Queue(queue::AMQPMethod::Bind(bind)) if !bind.nowait => {
            AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}))
        }
        AMQPClass::Queue(queue::AMQPMethod::Delete(_)) => {
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(queue::DeleteOk {
                message_count: 3,
            }))
        }
        AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => {
            AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))
        }
        AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => {
            let ok = basic::ConsumeOk {
                consumer_tag: consume.consumer_tag.clone(),
            };
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))
        }
        AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
            let ok = basic::CancelOk {
                consumer_tag: cancel.consumer_tag.clone(),
            };
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok))
        }
        AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
        }
        _ => return None,
    };
    Some(AMQPFrame::Method(*number, answer))
}

/// A consumer that writes down what it hears.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) delivered: Mutex<Vec<Delivered>>,
    pub(crate) cancelled: Mutex<usize>,
    pub(crate) closed: Mutex<Vec<Error>>,
}

impl Consumer for Recorder {
    fn deliver(&self, delivery: Delivered) {
        self.delivered.lock().unwrap().push(delivery);
    }
    fn cancelled(&self) {
        *self.cancelled.lock().unwrap() += 1;
    }
    fn closed(&self, error: &Error) {
        self.closed.lock().unwrap().push(error.clone());
    }
}

/// The state machine on one side, the test as the broker on the other, and a clock that only the test moves.
pub(crate) struct Pair {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    input: BytesMut,
    output: Vec<u8>,
    unread: Vec<u8>,
    pub(crate) closed: Option<Error>,
    pub(crate) blocked: Vec<Option<Arc<str>>>,
    pub(crate) opened: bool,
    pub(crate) writable: usize,
}

impl Pair {
    pub(crate) fn new(options: ConnectOptions) -> Self {
        let now = Instant::now();
        Self {
            engine: Engine::new(options, now).unwrap(),
            now,
            input: BytesMut::new(),
            output: Vec::new(),
            unread: Vec::new(),
            closed: None,
            blocked: Vec::new(),
            opened: false,
            writable: 0,
        }
    }

    /// A connection whose handshake is done.
    pub(crate) fn open() -> Self {
        Self::open_with(ConnectOptions::default())
    }

    pub(crate) fn open_with(options: ConnectOptions) -> Self {
        let mut pair = Self::new(options);
        pair.drive();
        assert!(pair.opened);
        pair
    }

    /// An open connection with channel 1, confirms on.
    pub(crate) fn confirming() -> (Self, u32) {
        let mut pair = Self::open();
        let index = pair.channel();
        let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select {
            nowait: false,
        }));
        let call = pair
            .engine
            .call(index, &select, None, Then::Confirm)
            .unwrap();
        pair.drive();
        assert!(matches!(pair.poll(call), Poll::Ready(Ok(_))));
        (pair, index)
    }

    pub(crate) fn channel(&mut self) -> u32 {
        let (index, call) = self.engine.open_channel().unwrap();
        self.drive();
        assert!(matches!(self.poll(call), Poll::Ready(Ok(_))));
        index
    }

    /// Registers a recorder under a tag.
    pub(crate) fn consume(&mut self, index: u32, tag: &str) -> Arc<Recorder> {
        let (recorder, call) = self.ask_to_consume(index, tag);
        self.drive();
        assert!(matches!(self.poll(call), Poll::Ready(Ok(_))));
        recorder
    }

    /// `basic.consume` as a call under way.
    pub(crate) fn ask_to_consume(&mut self, index: u32, tag: &str) -> (Arc<Recorder>, u32) {
        let recorder = Arc::new(Recorder::default());
        let consume = basic::Consume {
            queue: "q".into(),
            consumer_tag: tag.into(),
            ..Default::default()
        };
        let then = Then::Consume {
            tag: tag.into(),
            consumer: recorder.clone(),
            no_ack: false,
        };
        let method = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
        let call = self.engine.call(index, &method, None, then).unwrap();
        (recorder, call)
    }

    /// `queue.declare` as a call under way.
    pub(crate) fn declare(&mut self, index: u32, name: &str) -> u32 {
        let declare = queue::Declare {
            queue: name.into(),
            ..Default::default()
        };
        let method = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.engine
            .call(index, &method, None, Then::Nothing)
            .unwrap()
    }

    pub(crate) fn publish(
        &mut self,
        index: u32,
        key: &str,
        mandatory: bool,
        body: &[u8],
    ) -> crate::confirms::Watch {
        let properties = EncodedProperties::default();
        let publish = Publish {
            exchange: "",
            routing_key: key,
            mandatory,
            properties: &properties,
            expiration: None,
        };
        self.engine
            .publish(index, &publish, body, true)
            .unwrap()
            .unwrap()
    }

    /// What the client has sent.
    pub(crate) fn receive(&mut self) -> Vec<AMQPFrame> {
        self.engine.take_output(self.now, &mut self.output);
        self.unread.extend_from_slice(&self.output);
        decode(&mut self.unread)
    }

    pub(crate) fn send(&mut self, frames: &[AMQPFrame]) {
        self.send_bytes(&encode(frames));
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.engine.handle_bytes(self.now, &mut self.input);
        self.dispatch();
    }

    pub(crate) fn eof(&mut self) {
        self.engine.handle_eof();
        self.dispatch();
    }

    /// Lets an obliging broker answer until both sides are quiet.
    pub(crate) fn drive(&mut self) {
        loop {
            let answers: Vec<_> = self.receive().iter().filter_map(answer).collect();
            if answers.is_empty() {
                break;
            }
            self.send(&answers);
        }
    }

    /// Moves the clock and rings.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.handle_timeout(self.now);
        self.dispatch();
    }

    pub(crate) fn dispatch(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Opened => self.opened = true,
                Event::Deliver(consumer, delivered) => consumer.deliver(delivered),
                Event::Cancelled(consumer) => consumer.cancelled(),
                Event::ConsumerClosed(consumer, error) => consumer.closed(&error),
                Event::Release(_) => {}
                Event::Blocked(reason) => self.blocked.push(reason),
                Event::Writable => self.writable += 1,
                Event::Closed(error) => self.closed = Some(error),
            }
        }
        self.engine.take_wakers(&mut Vec::new());
    }

    pub(crate) fn poll(&mut self, call: u32) -> Poll<Result<Answer>> {
        self.engine
            .poll_call(call, &mut Context::from_waker(Waker::noop()))
    }

    pub(crate) fn poll_confirm(
        &mut self,
        index: u32,
        watch: crate::confirms::Watch,
    ) -> Poll<Result<crate::methods::Confirmation>> {
        self.engine
            .poll_confirm(index, watch, &mut Context::from_waker(Waker::noop()))
    }
}
