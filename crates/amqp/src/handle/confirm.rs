//! The future of a published message.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::confirms::Watch;
use crate::error::Result;
use crate::handle::channel::Inner;
use crate::methods::Confirmation;

/// What the broker makes of a published message. Resolves with an error when channel or connection end first: the message may or may
/// not have arrived then.
///
/// Dropping it leaves the message unwatched, nothing more.
///
/// ```
/// use oslo_messaging_amqp::{Channel, Confirm, Confirmation, EncodedProperties, Publish};
///
/// async fn send(channel: &Channel, properties: &EncodedProperties) -> oslo_messaging_amqp::Result<bool> {
///     let publish = Publish { exchange: "", routing_key: "q", mandatory: true, properties, expiration: None };
///     let confirm: Confirm = channel.publish(&publish, b"hello")?;
///     // Something else can be done before the broker has answered.
///     Ok(confirm.await? == Confirmation::Acked)
/// }
/// ```
#[must_use = "a message that is not waited for may be lost unseen; use `Channel::send` when that is meant"]
pub struct Confirm {
    channel: Arc<Inner>,
    watch: Option<Watch>,
}

impl Confirm {
    pub(crate) fn new(channel: Arc<Inner>, watch: Option<Watch>) -> Self {
        Self { channel, watch }
    }
}

impl Future for Confirm {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled again after it was ready: for ever pending, as futures may be.
        let Some(watch) = self.watch else {
            return Poll::Pending;
        };
        let index = self.channel.index;
        let polled = self
            .channel
            .shared
            .with(|engine| engine.poll_confirm(index, watch, context));
        if polled.is_ready() {
            self.watch = None;
        }
        polled
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            let index = self.channel.index;
            self.channel
                .shared
                .with(|engine| engine.forget_confirm(index, watch));
        }
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm")
            .field("watch", &self.watch)
            .finish_non_exhaustive()
    }
}
