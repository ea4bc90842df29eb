//! The first attempt of a message whose way is clear, which is nearly every message's only one: published at once, and small
//! while it waits for its confirmation. Thousands may wait at the same time, so the rest of a message's life has no room in its
//! future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{Either, Map};
use oslo_messaging_amqp::{Confirm, Confirmation, Publish};
use oslo_messaging_core::driver::Outgoing;
use oslo_messaging_core::error::Error;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, Timeout, timeout_at};

use crate::connection::Session;
use crate::lane::{LaneKind, Waiting};
use crate::parcel::{Failed, Fault};
use crate::publisher::Publisher;
use crate::pulse::Expected;
use crate::window::UnderWay;

/// A message that was published and waits for its confirmation.
pub(crate) struct Published<'a> {
    confirm: Confirm,
    waiting: Waiting,
    /// Of messages to queues that have one.
    window: Option<UnderWay<'a>>,
    _expected: Expected<'a>,
}

/// What came of a first attempt.
pub(crate) struct Attempted {
    /// On which connection it was made.
    pub(crate) session: Arc<Session>,
    /// What the broker said, or why it did not.
    pub(crate) taken: Result<Confirmation, Failed>,
}

/// A first attempt, with or without a limit in time.
pub(crate) type First<'a> = Either<Timeout<Published<'a>>, Map<Published<'a>, InTime>>;
type InTime = fn(Option<Attempted>) -> Result<Option<Attempted>, Elapsed>;

impl Future for Published<'_> {
    /// Nothing if the broker took the message.
    type Output = Option<Attempted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(confirmed) = Pin::new(&mut self.confirm).poll(context) else {
            return Poll::Pending;
        };
        if confirmed.is_ok()
            && let Some(window) = self.window.take()
        {
            window.confirmed();
        }
        let taken = match confirmed {
            Ok(Confirmation::Acked) => return Poll::Ready(None),
            Ok(other) => Ok(other),
            Err(error) => Err(Failed {
                fault: Fault::Amqp(error),
                written: true,
            }),
        };
        let session = Arc::clone(&self.waiting.lane().session);
        Poll::Ready(Some(Attempted { session, taken }))
    }
}

impl Publisher {
    /// Publishes a message if nothing has to be waited for or declared before. Nothing was done where it gives none.
    ///
    /// # Errors
    /// Messages that cannot be sent at all.
    pub(super) fn publish_first<'a>(
        &'a self,
        message: &Outgoing<'a>,
        deadline: Option<Instant>,
    ) -> Result<Option<First<'a>>, Error> {
        let published = self.publish_now(message)?;
        Ok(published.map(|published| match deadline {
            Some(deadline) => Either::Left(timeout_at(deadline, published)),
            None => Either::Right(published.map(Ok as InTime)),
        }))
    }

    fn publish_now<'a>(&'a self, message: &Outgoing<'a>) -> Result<Option<Published<'a>>, Error> {
        let parcel = self.pack(message)?;
        let kind = parcel.lane();
        let Some(lane) = self.current(kind, 0) else {
            return Ok(None);
        };
        let (session, exchanges) = (&lane.session, &self.exchanges);
        let is_ready = exchanges.is_ready(session, &parcel.address.exchange, parcel.urgent)
            && (!self.is_kept(parcel.entity) || exchanges.has_queue(session, &parcel.address))
            && lane.blocked.borrow().is_none()
            && !self.is_too_silent();
        if !is_ready {
            return Ok(None);
        }
        let window = match kind {
            LaneKind::Fanout => None,
            LaneKind::Main | LaneKind::Notification => {
                match self.windows.try_enter(&parcel.address.routing_key) {
                    Ok(window) => Some(window),
                    Err(_) => return Ok(None),
                }
            }
        };
        let publish = Publish {
            exchange: parcel.address.exchange.name(),
            routing_key: &parcel.address.routing_key,
            mandatory: parcel.mandatory,
            properties: self.wrappings.of(parcel.persistent),
            expiration: parcel.expiration,
        };
        // Counted before it is published, as everywhere.
        let waiting = lane.expect();
        let Ok(confirm) = lane.channel.publish(&publish, &parcel.body) else {
            // What is wrong, or whether it is only full, is found out in the long way.
            if let Some(window) = window {
                window.withdraw();
            }
            return Ok(None);
        };
        Ok(Some(Published {
            confirm,
            waiting,
            window,
            _expected: self.pulse.expect(parcel.body.len()),
        }))
    }
}
