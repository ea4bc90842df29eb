//! Replies in two messages, for callers of Kilo and Liberty: a driver around a driver that cuts them.
//!
//! Such replies are read always; written by a transport whose option `reply_style` is `two-part`.

use std::sync::Arc;

use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::in_two_parts;
use uuid::Uuid;

use crate::driver::{
    BoxFuture, Capabilities, Destination, Driver, Health, Inbox, Listener, Outgoing, Retry,
    Subscription,
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
            first.body = payload.into();
            self.0.send(first).await?;
            let mut last = message;
            last.body = ending.into();
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

    fn reach(&self, retry: Retry) -> BoxFuture<'_, Result<()>> {
        self.0.reach(retry)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use oslo_messaging_proto::wire::ids::MsgId;
    use oslo_messaging_proto::wire::reply::{Reply, ReplyBody};

    use super::*;
    use crate::driver::{Delivery, ListenerEvent};
    use crate::memory::{MemoryBroker, MemoryDriver};

    #[derive(Default)]
    struct Kept(Mutex<Vec<Bytes>>);

    impl Inbox for Kept {
        fn deliver(&self, delivery: Delivery) {
            self.0.lock().unwrap().push(delivery.body().clone());
            delivery.ack();
        }

        fn handle_event(&self, _event: ListenerEvent) {}
    }

    #[tokio::test]
    async fn a_reply_with_a_payload_goes_out_in_two_messages_and_all_others_as_they_are() {
        let driver = TwoPartReplies(Arc::new(MemoryDriver::new(MemoryBroker::new())));
        let kept = Arc::new(Kept::default());
        let inbox = Arc::clone(&kept) as Arc<dyn Inbox>;
        let listener = driver.listen(Subscription::Replies, inbox).await.unwrap();
        let queue = listener.address().unwrap();
        let id = MsgId::from_random(1);
        for body in [
            ReplyBody::encode_result(&5).unwrap(),
            ReplyBody::null(),
            ReplyBody::heartbeat(),
        ] {
            let body = body
                .finish(&id.to_string(), UniqueId::from_random(2))
                .into_body();
            let message = Outgoing::new(Destination::Reply { queue }, body);
            driver.send(message).await.unwrap();
        }
        let kept: Vec<Reply> = kept
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|body| Reply::decode(body).unwrap())
            .collect();
        let forms: Vec<(bool, bool)> = kept
            .iter()
            .map(|reply| (reply.result().is_some(), reply.is_ending()))
            .collect();
        assert_eq!(
            forms,
            [(true, false), (false, true), (false, true), (false, false)]
        );
        assert!(kept.iter().all(|reply| reply.msg_id() == Some(id)));
        listener.close().await;
    }
}
