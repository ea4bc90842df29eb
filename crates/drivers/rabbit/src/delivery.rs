//! Deliveries on their way in: from the engine's reading task, in place, to the inbox.
//!
//! Opens the compression, rejects what is not JSON, and tells the subscription's task when the engine
//! will deliver nothing more. Nothing here waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp::{Channel, Consumer, Delivered, Error as AmqpError};
use oslo_messaging_core::driver::{Delivery, Inbox, Settlement, Settler};
use tokio::sync::watch;

use crate::compress::Compression;

/// Why a subscription is not in force.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The broker cancelled a consumer: its queue was deleted, or moved. The channel is still there.
    Cancelled,
    /// Channel or connection is gone.
    Closed(AmqpError),
    /// The broker left a question unanswered.
    Silent,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => {
                f.write_str("the broker cancelled a consumer; its queue was deleted or moved")
            }
            Self::Closed(error) => error.fmt(f),
            Self::Silent => f.write_str("the broker did not answer in time"),
        }
    }
}

/// Takes what the engine reads for one subscription.
pub(crate) struct Sink {
    inbox: Arc<dyn Inbox>,
    settler: Arc<dyn Settler>,
    ended: watch::Sender<Option<End>>,
}

impl Sink {
    /// A sink for all consumers of `channel`, and where it tells its end.
    pub(crate) fn attach(
        inbox: Arc<dyn Inbox>,
        channel: &Channel,
    ) -> (Arc<dyn Consumer>, watch::Receiver<Option<End>>) {
        let (ended, ends) = watch::channel(None);
        let settler = Arc::new(ChannelSettler(channel.clone()));
        (
            Arc::new(Self {
                inbox,
                settler,
                ended,
            }),
            ends,
        )
    }

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

    fn cancelled(&self) {
        self.finish(End::Cancelled);
    }

    fn closed(&self, error: &AmqpError) {
        self.finish(End::Closed(error.clone()));
    }
}

/// Settles deliveries on the channel they came from.
struct ChannelSettler(Channel);

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, how: Settlement) {
        let settled = match how {
            Settlement::Ack => self.0.ack(tag),
            Settlement::Reject => self.0.reject(tag, false),
            Settlement::Requeue => self.0.reject(tag, true),
        };
        // The channel is gone: the broker has taken the delivery back already.
        if let Err(error) = settled {
            tracing::trace!(%error, tag, "delivery settled too late");
        }
    }
}

/// The body, out of the compression its headers name; as it came if that fails (spec section 5).
fn expand(delivered: &Delivered) -> Bytes {
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
