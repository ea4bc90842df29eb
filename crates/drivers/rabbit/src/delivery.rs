//! Deliveries on their way in: from the engine's reading task, in place, to the inbox.
//!
//! Opens the compression, rejects what is not JSON, and tells the subscription's task when the engine
//! will deliver nothing more. Nothing here waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp::{Channel, Consumer, Delivered, Error as AmqpError, Value};
use oslo_messaging_core::driver::{Delivery, Inbox, Settlement, Settler};
use tokio::sync::watch;

use crate::compress::Compression;
use crate::lock::lock;

/// Why a subscription is not in force.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The broker cancelled the consumer of this number: its queue was deleted, or moved. The channel is still there.
    Cancelled(usize),
    /// A look at the broker found that the subscription is not what it should be: why.
    Dead(String),
    /// Channel or connection is gone.
    Closed(AmqpError),
    /// The broker left a question unanswered.
    Silent,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(_) => {
                f.write_str("the broker cancelled a consumer; its queue was deleted or moved")
            }
            Self::Dead(why) => f.write_str(why),
            Self::Closed(error) => error.fmt(f),
            Self::Silent => f.write_str("the broker did not answer in time"),
        }
    }
}

/// Takes what the engine reads for one consumer of a subscription.
pub(crate) struct Sink {
    inbox: Arc<dyn Inbox>,
    settler: Arc<dyn Settler>,
    answers: bool,
    ended: watch::Sender<Option<End>>,
    heard: Arc<AtomicBool>,
    number: usize,
    stream: Option<Attachment>,
}

/// Where all sinks of a subscription tell their end.
pub(crate) struct Ends {
    inbox: Arc<dyn Inbox>,
    settler: Arc<dyn Settler>,
    answers: bool,
    channel: Channel,
    ended: watch::Sender<Option<End>>,
    /// Something was delivered.
    heard: Arc<AtomicBool>,
}

impl Ends {
    /// For the consumers on `channel`; `answers` if what comes is awaited, and of use to nobody once it was read; `may_wait`
    /// if the prefetch leaves room for acks that wait.
    pub(crate) fn new(
        inbox: Arc<dyn Inbox>,
        channel: &Channel,
        answers: bool,
        may_wait: bool,
    ) -> Self {
        Self {
            inbox,
            settler: Arc::new(ChannelSettler {
                channel: channel.clone(),
                may_wait: answers && may_wait,
            }),
            answers,
            channel: channel.clone(),
            ended: watch::Sender::new(None),
            heard: Arc::default(),
        }
    }

    /// Whether anything was delivered since this was asked last.
    pub(crate) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Why the engine delivers nothing more, once that is so.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<End>> {
        self.ended.subscribe()
    }

    /// The sink of the consumer of this number; `offsets` if it reads a stream.
    pub(crate) fn sink(&self, number: usize, offsets: Option<&Arc<Offsets>>) -> Arc<dyn Consumer> {
        let stream = offsets.map(|offsets| Attachment {
            offsets: Arc::clone(offsets),
            first: offsets.attach().unwrap_or(0),
        });
        let settler = match &stream {
            None => Arc::clone(&self.settler),
            Some(stream) => Arc::new(StreamSettler {
                channel: self.channel.clone(),
                offsets: Arc::clone(&stream.offsets),
            }),
        };
        Arc::new(Sink {
            inbox: Arc::clone(&self.inbox),
            settler,
            answers: self.answers,
            ended: self.ended.clone(),
            heard: Arc::clone(&self.heard),
            number,
            stream,
        })
    }
}

/// How far a stream was worked off. A message counts when it is settled: one that waits here when the connection is lost
/// is read again.
#[derive(Debug, Default)]
pub(crate) struct Offsets(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// After the last one delivered.
    next: Option<u64>,
    /// Delivered and not settled, by delivery tag.
    open: BTreeMap<u64, u64>,
}

impl Offsets {
    /// The offset to go on from; none before the first message. What is open belongs to a channel that is gone.
    pub(crate) fn attach(&self) -> Option<u64> {
        let mut progress = self.lock();
        if let Some(first) = progress.open.values().min().copied() {
            progress.next = Some(first);
            progress.open.clear();
        }
        progress.next
    }

    fn delivered(&self, tag: u64, offset: u64) {
        let mut progress = self.lock();
        progress.next = Some(offset + 1);
        progress.open.insert(tag, offset);
    }

    fn settled(&self, tag: u64) {
        self.lock().open.remove(&tag);
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        lock(&self.0)
    }
}

/// A consumer on its stream.
struct Attachment {
    offsets: Arc<Offsets>,
    /// Streams are read in chunks, which may begin before what was asked for.
    first: u64,
}

impl Attachment {
    /// Whether this message was read before; notes it otherwise.
    fn is_old(&self, delivered: &Delivered) -> bool {
        let headers = delivered.properties.headers();
        let offset = headers
            .as_ref()
            .and_then(|headers| headers.field("x-stream-offset"))
            .and_then(Value::as_int)
            .and_then(|offset| u64::try_from(offset).ok());
        match offset {
            Some(offset) if offset < self.first => true,
            Some(offset) => {
                self.offsets.delivered(delivered.delivery_tag, offset);
                false
            }
            None => false,
        }
    }
}

impl Sink {
    /// Tells the task; the first reason counts.
    fn finish(&self, end: End) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(end);
            }
            first
        });
    }
}

impl Consumer for Sink {
    fn deliver(&self, delivered: Delivered) {
        let tag = delivered.delivery_tag;
        // Mostly it says so already, and then nothing is written to what other threads read.
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
        if self
            .stream
            .as_ref()
            .is_some_and(|stream| stream.is_old(&delivered))
        {
            self.settler.settle(tag, Settlement::Ack);
            return;
        }
        // Wire: anything but JSON is rejected before it is looked at (spec 6.3).
        if delivered.properties.content_type() != Some("application/json") {
            tracing::error!(
                content_type = delivered.properties.content_type().unwrap_or("none"),
                routing_key = &*delivered.routing_key,
                bytes = delivered.body.len(),
                "message is not JSON and was rejected"
            );
            self.settler.settle(tag, Settlement::Reject);
            return;
        }
        let expires = delivered.properties.expiration();
        let expires = expires.and_then(|text| text.parse().ok());
        let delivery = Delivery::new(expand(&delivered), tag, Arc::clone(&self.settler))
            .redelivered(delivered.redelivered)
            .expires(expires.map(Duration::from_millis));
        self.inbox.deliver(delivery);
    }

    fn is_answer(&self) -> bool {
        self.answers
    }

    fn cancelled(&self) {
        self.finish(End::Cancelled(self.number));
    }

    fn closed(&self, error: &AmqpError) {
        self.finish(End::Closed(error.clone()));
    }
}

/// Settles deliveries on the channel they came from.
struct ChannelSettler {
    channel: Channel,
    /// One that comes again is known and dropped, so its ack need not leave at once.
    may_wait: bool,
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, how: Settlement) {
        let settled = match how {
            Settlement::Ack if self.may_wait => self.channel.ack_later(tag),
            Settlement::Ack => self.channel.ack(tag),
            Settlement::Reject => self.channel.reject(tag, false),
            Settlement::Requeue => self.channel.nack(tag, true),
        };
        // The channel is gone: the broker has taken the delivery back already.
        if let Err(error) = settled {
            tracing::trace!(%error, tag, "delivery settled too late");
        }
    }
}

/// Settles deliveries of a stream, where it only makes room for the next ones.
struct StreamSettler {
    channel: Channel,
    offsets: Arc<Offsets>,
}

impl Settler for StreamSettler {
    fn settle(&self, tag: u64, how: Settlement) {
        // What goes back unread is read again by the next connection.
        if how != Settlement::Requeue {
            self.offsets.settled(tag);
        }
        if let Err(error) = self.channel.ack(tag) {
            tracing::trace!(%error, tag, "delivery settled too late");
        }
    }
}

/// The body, out of the compression its headers name; as it came if that fails (spec section 5).
pub(crate) fn expand(delivered: &Delivered) -> Bytes {
    let headers = delivered.properties.headers();
    let name = headers
        .as_ref()
        .and_then(|headers| headers.field("compression")?.as_str());
    let Some(name) = name else {
        return delivered.body.clone();
    };
    let compression = Compression::from_header(name);
    let expanded = compression.and_then(|compression| compression.unpack(&delivered.body));
    expanded.unwrap_or_else(|| {
        tracing::warn!(
            compression = name,
            "message cannot be expanded and is read as it came"
        );
        delivered.body.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_on_from_the_first_message_that_was_not_settled() {
        let offsets = Offsets::default();
        assert_eq!(offsets.attach(), None, "the start is the option's to say");
        for (tag, offset) in [(1, 40), (2, 41), (3, 42), (4, 43)] {
            offsets.delivered(tag, offset);
        }
        for tag in [1, 2, 4] {
            offsets.settled(tag);
        }
        assert_eq!(offsets.attach(), Some(42));
        // Settled too late: the new connection's tags are others.
        offsets.settled(3);
        offsets.delivered(1, 42);
        offsets.delivered(2, 43);
        offsets.settled(2);
        offsets.settled(1);
        assert_eq!(offsets.attach(), Some(44));
    }
}
