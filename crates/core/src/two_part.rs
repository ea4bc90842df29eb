//! Replies in two messages, for callers of Kilo and Liberty: a driver around a driver that cuts them.
//!
//! Such replies are read always; written by a transport whose option `reply_style` is `two-part`.

use std::sync::Arc;

use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::in_two_parts;
use uuid::Uuid;

use crate::driver::{
    BoxFuture, Capabilities, Destination, Driver, Health, Inbox, Listener, Outgoing, Subscription,
};
use crate::error::Result;
use crate::events::Events;

/// Sends each reply with a payload as that payload, then the message that ends the call, once the bus took the first.
pub(crate) struct TwoPartReplies(pub(crate) Arc<dyn Driver>);

impl Driver for TwoPartReplies {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        let is_reply = matches!(message.destination, Destination::Reply { .. });
        let id = || UniqueId::from_random(Uuid::new_v4().as_u128());
        let Some((payload, ending)) = is_reply
            .then(|| in_two_parts(&message.body, id()))
            .flatten()
        else {
            return self.0.send(message);
        };
        Box::pin(async move {
            let mut first = message.clone();
            first.body = payload;
            self.0.send(first).await?;
            let mut last = message;
            last.body = ending;
            self.0.send(last).await
        })
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        self.0.listen(what, inbox)
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn events(&self) -> Events {
        self.0.events()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}
