//! Deliveries and returns being put together: method, content header, body frames, in that order on each channel.
//!
//! What repeats from message to message (exchange, routing key, properties) is kept per consumer and shared, so that a delivery usually
//! costs one allocation: its body.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{BASIC, Deliver, Malformed, Reader, Return};
use crate::methods::{Consumer, Delivered};
use crate::properties::Properties;

/// Bytes reserved at first for a body of several frames, whatever size it was announced with.
const MOST_RESERVED: usize = 1 << 20;
/// So many times what has come is reserved when that is full, and not more than was announced: a body is seldom moved, and
/// who announces more than it sends makes us reserve no more than this.
const GROWTH: usize = 8;

/// A consumer of a channel.
pub(crate) struct Registered {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) no_ack: bool,
    tag: Arc<str>,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    /// Those of its last delivery: the next one most often has the same.
    properties: Properties,
}

/// The consumers of a channel. There are few, and the next delivery is nearly always for the same one as the last.
#[derive(Default)]
pub(crate) struct Consumers {
    all: Vec<Registered>,
    /// Where the last one was found.
    last: usize,
}

impl Consumers {
    /// Adds a consumer; gives back the one that had the tag.
    pub(crate) fn insert(
        &mut self,
        tag: Arc<str>,
        consumer: Arc<dyn Consumer>,
        no_ack: bool,
    ) -> Option<Arc<dyn Consumer>> {
        let old = self.remove(&tag);
        let empty: Arc<str> = Arc::from("");
        self.all.push(Registered {
            consumer,
            no_ack,
            tag,
            exchange: empty.clone(),
            routing_key: empty,
            properties: Properties::empty(),
        });
        old
    }

    pub(crate) fn remove(&mut self, tag: &str) -> Option<Arc<dyn Consumer>> {
        let at = self
            .all
            .iter()
            .position(|registered| *registered.tag == *tag)?;
        Some(self.all.swap_remove(at).consumer)
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<dyn Consumer>> {
        self.all.drain(..).map(|registered| registered.consumer)
    }

    pub(crate) fn find(&mut self, tag: &str) -> Option<&mut Registered> {
        let is_it = |registered: &Registered| *registered.tag == *tag;
        if !self.all.get(self.last).is_some_and(is_it) {
            self.last = self.all.iter().position(is_it)?;
        }
        self.all.get_mut(self.last)
    }
}

/// What the body being put together is for.
pub(crate) enum Content {
    /// A delivery to a consumer.
    Deliver {
        consumer: Arc<dyn Consumer>,
        delivered: Delivered,
    },
    /// A returned message.
    Return {
        code: u16,
        text: String,
        exchange: String,
        routing_key: String,
        body: Bytes,
    },
    /// Read over: nobody is there for it, or it is too large. The tag is to be rejected, if there is one.
    Ignored { reject: Option<u64>, requeue: bool },
}

impl Content {
    /// Begins a delivery to a known consumer.
    pub(crate) fn deliver(to: &mut Registered, method: &Deliver<'_>) -> Self {
        share(&mut to.exchange, method.exchange);
        share(&mut to.routing_key, method.routing_key);
        Content::Deliver {
            consumer: to.consumer.clone(),
            delivered: Delivered {
                delivery_tag: method.delivery_tag,
                redelivered: method.redelivered,
                consumer_tag: to.tag.clone(),
                exchange: to.exchange.clone(),
                routing_key: to.routing_key.clone(),
                properties: to.properties.clone(),
                body: Bytes::new(),
            },
        }
    }

    /// Begins a returned message.
    pub(crate) fn returned(method: &Return<'_>) -> Self {
        Content::Return {
            code: method.code,
            text: method.text.to_owned(),
            exchange: method.exchange.to_owned(),
            routing_key: method.routing_key.to_owned(),
            body: Bytes::new(),
        }
    }

    fn with_body(mut self, whole: Bytes) -> Self {
        match &mut self {
            Content::Deliver { delivered, .. } => delivered.body = whole,
            Content::Return { body, .. } => *body = whole,
            Content::Ignored { .. } => {}
        }
        self
    }
}

fn share(known: &mut Arc<str>, now: &str) {
    if **known != *now {
        *known = Arc::from(now);
    }
}

/// A body frame's payload: to be copied, or already a part of the read buffer of its own.
pub(crate) enum Piece<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Piece<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Borrowed(bytes) => bytes,
            Piece::Owned(bytes) => bytes,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Piece::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Piece::Owned(bytes) => bytes,
        }
    }
}

/// How far the content of a channel has come.
#[derive(Default)]
pub(crate) enum Assembly {
    /// A method may come.
    #[default]
    Idle,
    /// The content header must come.
    Header(Content),
    /// Body frames must come: so many bytes are missing.
    Body {
        content: Content,
        missing: u64,
        gathered: Vec<u8>,
    },
}

/// A frame that does not fit the state of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected(pub(crate) &'static str);

impl Assembly {
    /// A method with content has come.
    pub(crate) fn begin(&mut self, content: Content) {
        *self = Assembly::Header(content);
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Assembly::Idle)
    }

    /// The content header has come. Gives the whole content when the body is empty.
    ///
    /// A body above `limit` is read over and its message rejected.
    pub(crate) fn handle_header(
        &mut self,
        header: Header,
        limit: u64,
    ) -> Result<(Option<Content>, bool), Unexpected> {
        let Assembly::Header(mut content) = std::mem::take(self) else {
            return Err(Unexpected("a content header without its method"));
        };
        let oversized = header.body > limit;
        let mut dropped = None;
        match &mut content {
            Content::Deliver { delivered, .. } if oversized => {
                let ignored = Content::Ignored {
                    reject: Some(delivered.delivery_tag),
                    requeue: false,
                };
                dropped = Some(std::mem::replace(&mut content, ignored));
            }
            Content::Deliver { delivered, .. } => {
                if let Some(properties) = header.properties {
                    delivered.properties = properties;
                }
            }
            Content::Return { .. } if oversized => {
                content = Content::Ignored {
                    reject: None,
                    requeue: false,
                };
            }
            Content::Return { .. } | Content::Ignored { .. } => {}
        }
        if header.body == 0 {
            return Ok((Some(content), oversized));
        }
        *self = Assembly::Body {
            content,
            missing: header.body,
            gathered: Vec::new(),
        };
        Ok((dropped, oversized))
    }

    /// A body frame has come. Gives the whole content when it was the last one.
    pub(crate) fn handle_body(&mut self, piece: Piece<'_>) -> Result<Option<Content>, Unexpected> {
        let Assembly::Body {
            content,
            missing,
            gathered,
        } = self
        else {
            return Err(Unexpected("a body frame without its header"));
        };
        let length = piece.as_slice().len() as u64;
        let Some(left) = missing.checked_sub(length) else {
            return Err(Unexpected("a body longer than announced"));
        };
        let whole_at_once = left == 0 && gathered.is_empty();
        if !whole_at_once && !matches!(content, Content::Ignored { .. }) {
            if gathered.capacity() - gathered.len() < piece.as_slice().len() {
                let trusted = MOST_RESERVED.max(gathered.len() * (GROWTH - 1));
                gathered.reserve_exact((*missing).min(trusted as u64) as usize);
            }
            gathered.extend_from_slice(piece.as_slice());
        }
        *missing = left;
        if left > 0 {
            return Ok(None);
        }
        let Assembly::Body {
            content, gathered, ..
        } = std::mem::take(self)
        else {
            return Ok(None);
        };
        let body = if whole_at_once {
            piece.into_bytes()
        } else {
            Bytes::from(gathered)
        };
        Ok(Some(content.with_body(body)))
    }

    /// Gives up what was being put together.
    pub(crate) fn reset(&mut self) -> Option<Content> {
        match std::mem::take(self) {
            Assembly::Idle => None,
            Assembly::Header(content) | Assembly::Body { content, .. } => Some(content),
        }
    }
}

/// A content header.
pub(crate) struct Header {
    pub(crate) body: u64,
    /// `None` when they are the same as those already known.
    pub(crate) properties: Option<Properties>,
}

impl Header {
    /// Takes a content header apart. `known` are the properties of the delivery before.
    pub(crate) fn decode(payload: &[u8], known: Option<&Properties>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        if reader.u16()? != BASIC {
            return Err(Malformed("a content header of another class"));
        }
        // The weight is unused.
        reader.u16()?;
        let body = reader.u64()?;
        let properties = match known {
            Some(known) if known.as_bytes() == reader.rest() => None,
            _ => Some(Properties::new(Bytes::copy_from_slice(reader.rest()))?),
        };
        Ok(Self { body, properties })
    }
}

impl Registered {
    /// Keeps the properties of a delivery for the next.
    pub(crate) fn remember_properties(&mut self, properties: &Properties) {
        self.properties = properties.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned() -> Content {
        Content::returned(&Return {
            code: 312,
            text: "NO_ROUTE",
            exchange: "",
            routing_key: "q",
        })
    }

    fn header(body: u64) -> Header {
        Header {
            body,
            properties: None,
        }
    }

    fn body_of(content: Option<Content>) -> Bytes {
        match content {
            Some(Content::Return { body, .. }) => body,
            _ => panic!("no whole message"),
        }
    }

    #[test]
    fn a_body_in_several_frames_comes_out_whole() {
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        assert!(assembly.handle_header(header(6), 100).unwrap().0.is_none());
        for piece in [&b"ab"[..], b"", b"cde"] {
            assert!(
                assembly
                    .handle_body(Piece::Borrowed(piece))
                    .unwrap()
                    .is_none()
            );
        }
        assert_eq!(
            body_of(assembly.handle_body(Piece::Borrowed(b"f")).unwrap()),
            "abcdef"
        );
        assert!(assembly.is_idle());
    }

    #[test]
    fn an_empty_body_is_whole_with_its_header() {
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        assert!(body_of(assembly.handle_header(header(0), 100).unwrap().0).is_empty());
    }

    #[test]
    fn a_large_frame_is_handed_over_without_a_copy() {
        let bytes = Bytes::from(vec![7; 100]);
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        assembly.handle_header(header(100), 100).unwrap();
        let body = body_of(assembly.handle_body(Piece::Owned(bytes.clone())).unwrap());
        assert_eq!(body.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn frames_out_of_turn_are_refused() {
        let mut assembly = Assembly::default();
        assert!(assembly.handle_header(header(1), 100).is_err());
        assert!(assembly.handle_body(Piece::Borrowed(b"x")).is_err());
        assembly.begin(returned());
        assert!(assembly.handle_body(Piece::Borrowed(b"x")).is_err());
        assembly.begin(returned());
        assembly.handle_header(header(1), 100).unwrap();
        assert!(assembly.handle_body(Piece::Borrowed(b"xy")).is_err());
    }

    #[test]
    fn a_return_over_the_limit_is_read_over() {
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        assert!(assembly.handle_header(header(101), 100).unwrap().1);
        assembly.handle_body(Piece::Borrowed(&[0; 100])).unwrap();
        let Assembly::Body { gathered, .. } = &assembly else {
            panic!()
        };
        assert_eq!(gathered.capacity(), 0);
        let whole = assembly.handle_body(Piece::Borrowed(&[0])).unwrap();
        assert!(matches!(whole, Some(Content::Ignored { reject: None, .. })));
    }

    #[test]
    fn an_announced_size_reserves_no_more_than_its_bound() {
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        assembly.handle_header(header(1 << 50), u64::MAX).unwrap();
        assembly.handle_body(Piece::Borrowed(b"x")).unwrap();
        let Assembly::Body { gathered, .. } = &assembly else {
            panic!()
        };
        assert!(gathered.capacity() <= MOST_RESERVED);
    }

    #[test]
    fn a_large_body_is_seldom_moved_and_trusted_no_more_than_it_has_shown() {
        let piece = vec![7; 128 << 10];
        let pieces = 128;
        let mut assembly = Assembly::default();
        assembly.begin(returned());
        let body = (piece.len() * pieces) as u64;
        assembly.handle_header(header(body), u64::MAX).unwrap();
        let mut sizes = std::collections::BTreeSet::new();
        for _ in 1..pieces {
            assembly.handle_body(Piece::Borrowed(&piece)).unwrap();
            let Assembly::Body { gathered, .. } = &assembly else {
                panic!()
            };
            assert!(gathered.capacity() <= MOST_RESERVED.max(gathered.len() * GROWTH));
            sizes.insert(gathered.capacity());
        }
        assert!(sizes.len() <= 3, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&(piece.len() * pieces)));
        assert!(
            assembly
                .handle_body(Piece::Borrowed(&piece))
                .unwrap()
                .is_some()
        );
    }
}
