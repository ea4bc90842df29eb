//! The consumer of one call's reply queue: from the engine's reading task, in place, to whoever reads replies.

use std::sync::Arc;

use oslo_messaging_amqp::{Consumer, Delivered, Error as AmqpError};
use oslo_messaging_core::driver::{Delivery, ListenerEvent, Settlement, Settler};
use oslo_messaging_proto::wire::plain::read_reply;
use oslo_messaging_proto::wire::reply::Reply;

use crate::delivery::expand;
use crate::plain::desk::{Shared, Stage};

/// Takes the reply of one call.
pub(super) struct Sink {
    /// Its `msg_id`.
    pub(super) id: Arc<str>,
    /// The channel it consumes on.
    pub(super) epoch: u64,
    /// Where its call waits.
    pub(super) desk: Arc<Shared>,
}

impl Consumer for Sink {
    fn deliver(&self, delivered: Delivered) {
        let body = read_reply(&expand(&delivered), &self.id);
        let ends = Reply::decode(&body).is_ok_and(|reply| reply.is_ending());
        let inbox = {
            let mut state = self.desk.lock();
            if ends && let Some(call) = state.calls.get_mut(&self.id) {
                call.stage = Stage::Done;
            }
            state.inbox.clone()
        };
        if ends {
            self.desk.wake.notify_one();
        }
        if let Some(inbox) = inbox {
            let delivery = Delivery::new(body, delivered.delivery_tag, Arc::new(Settled));
            inbox.deliver(delivery.redelivered(delivered.redelivered));
        }
    }

    /// Somebody deleted the queue.
    fn cancelled(&self) {
        let inbox = {
            let mut state = self.desk.lock();
            let Some(call) = state.calls.get_mut(&self.id) else {
                return;
            };
            if call.stage != Stage::Open {
                return;
            }
            call.stage = Stage::Wanted;
            let news = !std::mem::replace(&mut state.lost, true);
            news.then(|| state.inbox.clone()).flatten()
        };
        if let Some(inbox) = inbox {
            inbox.handle_event(ListenerEvent::Interrupted);
        }
        self.desk.wake.notify_one();
    }

    fn closed(&self, _error: &AmqpError) {
        let mut state = self.desk.lock();
        if state.epoch == self.epoch
            && state
                .calls
                .get(&self.id)
                .is_some_and(|call| call.stage == Stage::Open)
        {
            state.broken = true;
            drop(state);
            self.desk.wake.notify_one();
        }
    }
}

/// Replies are settled when they are delivered.
struct Settled;

impl Settler for Settled {
    fn settle(&self, _tag: u64, _how: Settlement) {}
}
