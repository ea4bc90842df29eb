//! Frames and methods as bytes: taking frames apart, putting them together, bounds on both.
//!
//! Methods are those of the crate `amq-protocol`. The four that make up the traffic (publish, deliver, ack, return) have a path of
//! their own here, which allocates nothing; tests hold it against the crate.

use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::{AMQPClass, gen_class, parse_class};

use crate::error::{Error, Result};
use crate::table::Table;

/// Bytes of a frame besides its payload.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// The smallest frame_max that both sides must accept.
pub(crate) const MIN_FRAME_MAX: u32 = 4096;
/// What this side sends first.
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;

pub(crate) const BASIC: u16 = 60;
pub(crate) const BASIC_RETURN: u16 = 50;
pub(crate) const BASIC_DELIVER: u16 = 60;
pub(crate) const BASIC_ACK: u16 = 80;
pub(crate) const BASIC_NACK: u16 = 120;

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The first seven bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    /// Bytes of payload.
    pub(crate) size: usize,
}

impl FrameHead {
    /// Bytes of the whole frame.
    pub(crate) fn length(self) -> usize {
        self.size + FRAME_OVERHEAD
    }
}

/// Looks at the frame that begins `bytes`. `None`: more bytes are needed.
///
/// The kind is refused with its first byte and the size with its last one, so nobody waits for a frame that could never be taken.
pub(crate) fn peek_frame(bytes: &[u8], frame_max: usize) -> Result<Option<FrameHead>, Malformed> {
    match bytes.first() {
        None => return Ok(None),
        Some(&(METHOD | HEADER | BODY | HEARTBEAT)) => {}
        Some(_) => return Err(Malformed("a frame of an unknown type")),
    }
    let Some(head) = bytes.first_chunk::<7>() else {
        return Ok(None);
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if size > frame_max - FRAME_OVERHEAD {
        return Err(Malformed("a frame larger than the negotiated frame_max"));
    }
    match bytes.get(7 + size) {
        None => Ok(None),
        Some(&END) => Ok(Some(FrameHead {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            size,
        })),
        Some(_) => Err(Malformed("a frame without its end mark")),
    }
}

/// Bytes that the frame at the head of `bytes` will have in all, as far as its head is there.
pub(crate) fn announced_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<7>()?;
    Some(u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + FRAME_OVERHEAD)
}

/// Takes fields off the front of a payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Malformed("a field ends before its length"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(Malformed("a field is cut off"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn short_str(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u8()?;
        std::str::from_utf8(self.bytes(length.into())?)
            .map_err(|_| Malformed("a short string is not UTF-8"))
    }

    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("a method is longer than its fields"))
        }
    }
}

/// A method from the broker.
#[derive(Debug)]
pub(crate) enum Method<'a> {
    Deliver(Deliver<'a>),
    Return(Return<'a>),
    Ack {
        tag: u64,
        multiple: bool,
    },
    Nack {
        tag: u64,
        multiple: bool,
    },
    Start(Start),
    /// Everything that is not the daily traffic.
    Other(AMQPClass),
}

#[derive(Debug)]
pub(crate) struct Deliver<'a> {
    pub(crate) consumer_tag: &'a str,
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
}

#[derive(Debug)]
pub(crate) struct Return<'a> {
    pub(crate) code: u16,
    pub(crate) text: &'a str,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
}

#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) version: (u8, u8),
    pub(crate) properties: Table,
    pub(crate) mechanisms: String,
    pub(crate) locales: String,
}

/// Takes a method apart. Only what a broker may send is looked at; the rest is refused before it costs anything.
pub(crate) fn decode_method(payload: &[u8]) -> Result<Method<'_>, Malformed> {
    let mut reader = Reader::new(payload);
    let (class, method) = (reader.u16()?, reader.u16()?);
    let decoded = match (class, method) {
        (BASIC, BASIC_DELIVER) => Method::Deliver(Deliver {
            consumer_tag: reader.short_str()?,
            delivery_tag: reader.u64()?,
            redelivered: reader.u8()? & 1 != 0,
            exchange: reader.short_str()?,
            routing_key: reader.short_str()?,
        }),
        (BASIC, BASIC_RETURN) => Method::Return(Return {
            code: reader.u16()?,
            text: reader.short_str()?,
            exchange: reader.short_str()?,
            routing_key: reader.short_str()?,
        }),
        (BASIC, BASIC_ACK) => Method::Ack { tag: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
        (BASIC, BASIC_NACK) => Method::Nack { tag: reader.u64()?, multiple: reader.u8()? & 1 != 0 },
        (10, 10) => Method::Start(Start {
            version: (reader.u8()?, reader.u8()?),
            properties: Table::decode(&mut reader)?,
            mechanisms: String::from_utf8_lossy(reader.long_bytes()?).into_owned(),
            locales: String::from_utf8_lossy(reader.long_bytes()?).into_owned(),
        }),
        // connection: tune, open-ok, close, close-ok, blocked, unblocked. channel: open-ok, flow, flow-ok, close, close-ok.
        (10, 30 | 41 | 50 | 51 | 60 | 61)
        | (20, 11 | 20 | 21 | 40 | 41)
        // exchange: declare-ok, delete-ok. queue: declare-ok, bind-ok, purge-ok, delete-ok, unbind-ok.
        | (40, 11 | 21)
        | (50, 11 | 21 | 31 | 41 | 51)
        // basic: qos-ok, consume-ok, cancel, cancel-ok. confirm: select-ok.
        | (60, 11 | 21 | 30 | 31)
        | (85, 11) => {
            let (rest, class) = parse_class(payload).map_err(|_| Malformed("a method with malformed fields"))?;
            reader = Reader::new(rest);
            Method::Other(class)
        }
        _ => return Err(Malformed("a method that a broker does not send")),
    };
    reader.end()?;
    Ok(decoded)
}

/// Checks a name for the wire.
pub(crate) fn short(name: &str, what: &'static str) -> Result<()> {
    if name.len() <= usize::from(u8::MAX) {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "the {what} has {} bytes; at most 255 fit",
            name.len()
        )))
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) {
    let [c0, c1] = channel.to_be_bytes();
    // Callers stay below frame_max, which is 32 bit.
    let [s0, s1, s2, s3] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= 255);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a method frame. `arguments` takes the place of an empty table at the end of the method.
pub(crate) fn put_method(
    out: &mut Vec<u8>,
    channel: u16,
    method: &AMQPClass,
    arguments: Option<&Table>,
) -> Result<()> {
    let scratch = gen_class::<Vec<u8>>(method)(WriteContext::from(Vec::with_capacity(64)));
    let (mut payload, _) = scratch
        .map_err(|_| Error::invalid("a method cannot be encoded"))?
        .into_inner();
    if let Some(table) = arguments.filter(|table| !table.is_empty()) {
        payload.truncate(payload.len() - 4);
        table.encode(&mut payload)?;
    }
    put_raw_method(out, channel, &payload);
    Ok(())
}

/// Writes a method frame around an encoded method.
pub(crate) fn put_raw_method(out: &mut Vec<u8>, channel: u16, payload: &[u8]) {
    put_head(out, METHOD, channel, payload.len());
    out.extend_from_slice(payload);
    out.push(END);
}

/// Writes `basic.publish`. Names must have passed [`short`].
pub(crate) fn put_publish(
    out: &mut Vec<u8>,
    channel: u16,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
) {
    put_head(out, METHOD, channel, 9 + exchange.len() + routing_key.len());
    // Class 60, method 40, ticket 0.
    out.extend_from_slice(&[0, 60, 0, 40, 0, 0]);
    put_short(out, exchange);
    put_short(out, routing_key);
    out.extend_from_slice(&[u8::from(mandatory), END]);
}

/// Writes a content header; `properties` are flags and fields as they stand on the wire, given in up to three pieces.
pub(crate) fn put_content_header(
    out: &mut Vec<u8>,
    channel: u16,
    body: u64,
    properties: [&[u8]; 3],
) {
    let size = 12 + properties.iter().map(|piece| piece.len()).sum::<usize>();
    put_head(out, HEADER, channel, size);
    out.extend_from_slice(&[0, 60, 0, 0]);
    out.extend_from_slice(&body.to_be_bytes());
    for piece in properties {
        out.extend_from_slice(piece);
    }
    out.push(END);
}

/// Writes a body, cut into frames of exactly frame_max, the last one shorter. An empty body has no frame.
pub(crate) fn put_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: usize) {
    for piece in body.chunks(frame_max - FRAME_OVERHEAD) {
        put_head(out, BODY, channel, piece.len());
        out.extend_from_slice(piece);
        out.push(END);
    }
}

/// Writes `basic.ack`.
pub(crate) fn put_ack(out: &mut Vec<u8>, channel: u16, tag: u64, multiple: bool) {
    put_head(out, METHOD, channel, 13);
    out.extend_from_slice(&[0, 60, 0, 80]);
    out.extend_from_slice(&tag.to_be_bytes());
    out.extend_from_slice(&[u8::from(multiple), END]);
}

/// Writes `basic.reject`, or, to give a delivery back, `basic.nack`: RabbitMQ 4.3 counts a reject against the
/// delivery limit of a quorum queue, a nack not.
pub(crate) fn put_reject(out: &mut Vec<u8>, channel: u16, tag: u64, requeue: bool) {
    const NACK_REQUEUE: u8 = 0b10;
    let (method, flags) = if requeue {
        (120, NACK_REQUEUE)
    } else {
        (90, 0)
    };
    put_head(out, METHOD, channel, 13);
    out.extend_from_slice(&[0, 60, 0, method]);
    out.extend_from_slice(&tag.to_be_bytes());
    out.extend_from_slice(&[flags, END]);
}

/// Writes a heartbeat.
pub(crate) fn put_heartbeat(out: &mut Vec<u8>) {
    put_head(out, HEARTBEAT, 0, 0);
    out.push(END);
}

#[cfg(test)]
mod tests;
