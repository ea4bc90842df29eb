//! Doors into the engine for the fuzzer and the benches of this project. Not a public API.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use crate::channel::Then;
use crate::codec::{METHOD, decode_method, peek_frame};
use crate::connection::{Engine, Event};
use crate::error::Error;
use crate::methods::{Consumer, Delivered, Publish};
use crate::options::ConnectOptions;

/// A delivery of the consumer `1` of [`Bench`] as RabbitMQ writes it: three frames.
pub fn delivery(tag: u64, body: &[u8]) -> Vec<u8> {
    let mut method = b"\x00\x3c\x00\x3c\x011".to_vec();
    method.extend_from_slice(&tag.to_be_bytes());
    method.extend_from_slice(b"\x00\x09openstack\x07topic-a");
    let mut header = b"\x00\x3c\x00\x00".to_vec();
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(b"\xf8\x00\x10application/json\x05utf-8\x00\x00\x00\x00\x02\x00");
    let mut bytes = Vec::with_capacity(body.len() + 128);
    for (kind, payload) in [(1, &method[..]), (2, &header), (3, body)] {
        bytes.extend_from_slice(&[kind, 0, 1]);
        // Bodies of the benches fit a frame.
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0xce);
    }
    bytes
}

/// Reads whole frames and the methods in them, as the codec does for the engine; how many there were.
///
/// # Panics
/// When they are malformed.
pub fn read_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(head) = peek_frame(bytes, usize::MAX).expect("whole frames") {
        let frame = &bytes[..head.length()];
        if head.kind == METHOD {
            let method = decode_method(&frame[7..frame.len() - 1]);
            std::hint::black_box(method.expect("a known method"));
        }
        bytes = &bytes[frame.len()..];
        count += 1;
    }
    count
}

/// A consumer that counts nothing and keeps nothing.
struct Deaf;

impl Consumer for Deaf {
    fn deliver(&self, _: Delivered) {}
    fn cancelled(&self) {}
    fn closed(&self, _: &Error) {}
}

/// The broker's half of a handshake, of channel 1 being opened, and of confirms and consumer `1` on it.
const GREETING: &[&[u8]] = &[
    b"\x01\x00\x00\x00\x00\x00\x1c\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x05en_US\xce",
    b"\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1e\x07\xff\x00\x02\x00\x00\x00\x3c\xce",
    b"\x01\x00\x00\x00\x00\x00\x05\x00\x0a\x00\x29\x00\xce",
];
const OPENED: &[&[u8]] = &[
    b"\x01\x00\x01\x00\x00\x00\x08\x00\x14\x00\x0b\x00\x00\x00\x00\xce",
    b"\x01\x00\x01\x00\x00\x00\x04\x00\x55\x00\x0b\xce",
    b"\x01\x00\x01\x00\x00\x00\x06\x00\x3c\x00\x15\x011\xce",
];

/// An engine without a socket.
pub struct Bench {
    engine: Engine,
    index: u32,
    now: Instant,
    input: BytesMut,
    output: Vec<u8>,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// An open connection with channel 1 open, confirming and consuming under the tag `1`.
    ///
    /// # Panics
    /// When the engine does not understand the greeting.
    pub fn new() -> Self {
        let now = Instant::now();
        let mut options = ConnectOptions::default();
        options.login = crate::options::Login::Plain {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
        };
        let engine = Engine::new(options, now).expect("the default options are valid");
        let mut bench = Self {
            engine,
            index: 0,
            now,
            input: BytesMut::new(),
            output: Vec::new(),
        };
        GREETING.iter().for_each(|bytes| bench.parse(bytes));
        let (index, _) = bench.engine.open_channel().expect("the handshake is done");
        bench.index = index;
        let select = amq_protocol::protocol::confirm::AMQPMethod::Select(Default::default());
        let consume = amq_protocol::protocol::basic::AMQPMethod::Consume(Default::default());
        let then = Then::Consume {
            tag: "1".into(),
            consumer: Arc::new(Deaf),
            no_ack: false,
        };
        let calls = [
            (
                amq_protocol::protocol::AMQPClass::Confirm(select),
                Then::Confirm,
            ),
            (amq_protocol::protocol::AMQPClass::Basic(consume), then),
        ];
        for (method, then) in calls {
            bench
                .engine
                .call(index, &method, None, then)
                .expect("the channel is open");
        }
        OPENED.iter().for_each(|bytes| bench.parse(bytes));
        bench.flush();
        bench
    }

    /// Encodes a publish; nobody waits for its confirm.
    ///
    /// # Panics
    /// When it is refused.
    pub fn publish(&mut self, publish: &Publish<'_>, body: &[u8]) {
        self.engine
            .publish(self.index, publish, body, false)
            .expect("the output has room");
    }

    /// Feeds bytes of the broker and dispatches what comes of them.
    pub fn parse(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.engine.handle_bytes(self.now, &mut self.input);
        while let Some(event) = self.engine.poll_event() {
            if let Event::Deliver(consumer, delivered) = event {
                let tag = delivered.delivery_tag;
                consumer.deliver(delivered);
                self.engine.settle(self.index, tag, None).ok();
            }
        }
    }

    /// Takes the output; its size in bytes.
    pub fn flush(&mut self) -> usize {
        self.engine.take_output(self.now, &mut self.output);
        self.output.len()
    }

    /// Whether the peer's bytes have not ended the connection.
    pub fn is_alive(&self) -> bool {
        self.engine.closed().is_none()
    }
}

/// Feeds arbitrary bytes as a broker's: to a handshake, and to an open connection, at once and byte by byte.
pub fn feed(bytes: &[u8]) {
    let now = Instant::now();
    if let Ok(mut engine) = Engine::new(ConnectOptions::default(), now) {
        engine.handle_bytes(now, &mut BytesMut::from(bytes));
    }
    let (mut whole, mut pieces) = (Bench::new(), Bench::new());
    whole.parse(bytes);
    bytes.chunks(1).for_each(|byte| pieces.parse(byte));
    // How bytes are cut must not matter.
    assert_eq!(whole.is_alive(), pieces.is_alive());
    whole.flush();
    pieces.flush();
}

#[cfg(test)]
mod tests;
