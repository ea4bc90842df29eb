//! One channel: expected answers, confirms, unsettled deliveries, consumers, and how it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::{basic, channel, queue};

use crate::acks::{Acks, Settle};
use crate::codec::{Deliver, Return, put_ack, put_method, put_reject};
use crate::confirms::{Confirms, fingerprint};
use crate::connection::{Event, Fault};
use crate::consumers::{Assembly, Consumers, Content, Header, Piece};
use crate::error::{Error, ErrorKind, Result};
use crate::methods::{Confirmation, Consumer, QueueInfo};

/// Where a channel stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Opened as far as this side is concerned; commands may follow at once.
    Open,
    /// `channel.close` was sent; its answer is awaited.
    Closing,
    /// Over, for this reason.
    Closed(Error),
}

/// What a synchronous method is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Done,
    Queue(QueueInfo),
    Count(u32),
    Tag(Arc<str>),
}

/// What the channel does itself when an answer arrives.
pub(crate) enum Then {
    Nothing,
    Consume {
        tag: Arc<str>,
        consumer: Arc<dyn Consumer>,
        no_ack: bool,
    },
    Cancel {
        tag: String,
    },
    /// Confirms are on as soon as this is sent: the broker counts from there.
    Confirm,
    Close,
}

/// A synchronous method under way.
pub(crate) struct Pending {
    /// Class and method id of the answer.
    pub(crate) answer: (u16, u16),
    /// Slot of the future that waits, unless it went away.
    pub(crate) call: Option<u32>,
    pub(crate) then: Then,
}

impl Pending {
    /// Whether this is what the peer answers with that method.
    ///
    /// Not simply the oldest call: RabbitMQ lets queues answer `basic.consume` themselves, so that its answer comes after those of later
    /// methods, and the answers of two queues come in any order.
    fn is_answered_by(&self, method: &AMQPClass) -> bool {
        let id = (method.get_amqp_class_id(), method.get_amqp_method_id());
        self.answer == id
            && match (&self.then, method) {
                (Then::Consume { tag, .. }, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))) => {
                    **tag == *ok.consumer_tag.as_str()
                }
                (Then::Cancel { tag }, AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok))) => {
                    tag == ok.consumer_tag.as_str()
                }
                _ => true,
            }
    }
}

/// Where a channel puts what comes of a frame.
#[derive(Default)]
pub(crate) struct Sink {
    /// Bytes to send.
    pub(crate) out: Vec<u8>,
    pub(crate) events: VecDeque<Event>,
    /// To be woken when the lock is gone.
    pub(crate) wakers: Vec<Waker>,
    /// Answers that become visible once the events before them were dispatched.
    pub(crate) staged: Vec<(u32, Result<Answer>)>,
}

impl Sink {
    /// Lets go of a consumer outside of the lock, since its drop may come back to the connection.
    pub(crate) fn release(&mut self, consumer: Arc<dyn Consumer>) {
        self.events.push_back(Event::Release(consumer));
    }
}

/// The state of one channel.
pub(crate) struct ChannelState {
    pub(crate) number: u16,
    pub(crate) phase: Phase,
    pub(crate) calls: VecDeque<Pending>,
    pub(crate) confirms: Confirms,
    pub(crate) acks: Acks,
    /// Whether the broker lets us publish (`channel.flow`).
    pub(crate) flow: bool,
    /// Whether the handle is gone.
    pub(crate) released: bool,
    consumers: Consumers,
    assembly: Assembly,
}

impl ChannelState {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            phase: Phase::Open,
            calls: VecDeque::new(),
            confirms: Confirms::default(),
            acks: Acks::default(),
            flow: true,
            released: false,
            consumers: Consumers::default(),
            assembly: Assembly::default(),
        }
    }

    /// The error for commands, unless the channel is open.
    pub(crate) fn check_open(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing => Err(Error::new(ErrorKind::Closed, "the channel is being closed")),
            Phase::Closed(error) => Err(error.clone()),
        }
    }

    /// Writes the settlements asked for.
    pub(crate) fn flush_acks(&mut self, out: &mut Vec<u8>) {
        let number = self.number;
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.acks.flush(|settle| match settle {
            Settle::Ack { tag, multiple } => put_ack(out, number, tag, multiple),
            Settle::Reject { tag, requeue } => put_reject(out, number, tag, requeue),
        });
    }

    /// `basic.deliver`.
    pub(crate) fn handle_deliver(
        &mut self,
        method: &Deliver<'_>,
        sink: &mut Sink,
    ) -> Result<(), Fault> {
        self.check_idle(sink)?;
        let content = match (&self.phase, self.consumers.find(method.consumer_tag)) {
            (Phase::Open, Some(registered)) => {
                if !self.acks.delivered(method.delivery_tag, !registered.no_ack) {
                    return Err(Fault::new(503, "a delivery tag that does not rise"));
                }
                Content::deliver(registered, method)
            }
            (Phase::Open, None) => {
                tracing::debug!(
                    channel = self.number,
                    consumer = method.consumer_tag,
                    "delivery to an unknown consumer is put back"
                );
                if !self.acks.delivered(method.delivery_tag, true) {
                    return Err(Fault::new(503, "a delivery tag that does not rise"));
                }
                Content::Ignored {
                    reject: Some(method.delivery_tag),
                    requeue: true,
                }
            }
            _ => Content::Ignored {
                reject: None,
                requeue: false,
            },
        };
        self.assembly.begin(content);
        Ok(())
    }

    /// `basic.return`.
    pub(crate) fn handle_return(
        &mut self,
        method: &Return<'_>,
        sink: &mut Sink,
    ) -> Result<(), Fault> {
        self.check_idle(sink)?;
        self.assembly.begin(Content::returned(method));
        Ok(())
    }

    /// A content header.
    pub(crate) fn handle_header(
        &mut self,
        payload: &[u8],
        limit: u64,
        sink: &mut Sink,
    ) -> Result<(), Fault> {
        let header = match &self.assembly {
            Assembly::Header(Content::Deliver { delivered, .. }) => {
                let header =
                    Header::decode(payload, Some(&delivered.properties)).map_err(Fault::from)?;
                if let Some(properties) = &header.properties
                    && let Some(registered) = self.consumers.find(&delivered.consumer_tag)
                {
                    registered.remember_properties(properties);
                }
                header
            }
            _ => Header::decode(payload, None).map_err(Fault::from)?,
        };
        let size = header.body;
        let (content, oversized) = self
            .assembly
            .handle_header(header, limit)
            .map_err(Fault::from)?;
        if oversized {
            tracing::warn!(
                channel = self.number,
                size,
                limit,
                "a delivery over the size limit is rejected"
            );
        }
        match content {
            // The delivery that was given up for its size: its consumer is let go outside of the lock.
            Some(Content::Deliver { consumer, .. }) if oversized => sink.release(consumer),
            Some(content) => self.complete(content, sink),
            None => {}
        }
        Ok(())
    }

    /// A body frame.
    pub(crate) fn handle_body(&mut self, piece: Piece<'_>, sink: &mut Sink) -> Result<(), Fault> {
        if let Some(content) = self.assembly.handle_body(piece).map_err(Fault::from)? {
            self.complete(content, sink);
        }
        Ok(())
    }

    fn complete(&mut self, content: Content, sink: &mut Sink) {
        match content {
            Content::Deliver {
                consumer,
                delivered,
            } if matches!(self.phase, Phase::Open) => {
                sink.events.push_back(Event::Deliver(consumer, delivered));
            }
            Content::Deliver { consumer, .. } => sink.release(consumer),
            Content::Return {
                code,
                text,
                exchange,
                routing_key,
                body,
            } => {
                let print = fingerprint(&exchange, &routing_key, &body);
                if !self.confirms.returned(print, code, &text, &mut sink.wakers) {
                    tracing::debug!(
                        channel = self.number,
                        code,
                        exchange,
                        routing_key,
                        "a returned message nobody waits for"
                    );
                }
            }
            Content::Ignored { reject, requeue } => {
                if let Some(tag) = reject {
                    // Known as outstanding since its delivery, unless the consumer takes no acks.
                    let _ = self.acks.reject(tag, requeue);
                }
            }
        }
    }

    fn check_idle(&mut self, sink: &mut Sink) -> Result<(), Fault> {
        if self.assembly.is_idle() {
            return Ok(());
        }
        self.abandon_content(sink);
        Err(Fault::new(505, "a method in the middle of a content"))
    }

    fn abandon_content(&mut self, sink: &mut Sink) {
        if let Some(Content::Deliver { consumer, .. }) = self.assembly.reset() {
            sink.release(consumer);
        }
    }

    /// `basic.ack` and `basic.nack` of our publishes.
    pub(crate) fn handle_confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        acked: bool,
        sink: &mut Sink,
    ) -> Result<(), Fault> {
        self.check_idle(sink)?;
        let confirmation = if acked {
            Confirmation::Acked
        } else {
            Confirmation::Nacked
        };
        let known = self
            .confirms
            .confirmed(tag, multiple, &confirmation, &mut sink.wakers);
        match (known, &self.phase) {
            (Ok(()), _) | (Err(_), Phase::Closing) => Ok(()),
            (Err(_), _) => Err(Fault::new(
                503,
                "a confirm for a message that was never published",
            )),
        }
    }

    /// Every other method. True when the channel is over with it and its number is free.
    pub(crate) fn handle_method(
        &mut self,
        method: AMQPClass,
        sink: &mut Sink,
    ) -> Result<bool, Fault> {
        self.check_idle(sink)?;
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                self.write(
                    sink,
                    &AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
                );
                if matches!(self.phase, Phase::Closing) {
                    // Both sides closed at once: the answer to ours still comes.
                    return Ok(false);
                }
                let blame = (close.class_id, close.method_id);
                let text = close.reply_text.as_str().to_owned();
                self.fail(
                    &Error::with_code(ErrorKind::ChannelClosed, close.reply_code, text, blame),
                    sink,
                );
                Ok(true)
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                let ok = channel::AMQPMethod::FlowOk(channel::FlowOk {
                    active: flow.active,
                });
                self.write(sink, &AMQPClass::Channel(ok));
                self.flow = flow.active;
                if flow.active {
                    sink.events.push_back(Event::Writable);
                }
                Ok(false)
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                let tag = cancel.consumer_tag.as_str();
                if !cancel.nowait {
                    let ok = basic::CancelOk {
                        consumer_tag: cancel.consumer_tag.clone(),
                    };
                    self.write(sink, &AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)));
                }
                if let Some(consumer) = self.consumers.remove(tag) {
                    let closing = matches!(self.phase, Phase::Closing);
                    sink.events.push_back(if closing {
                        Event::Release(consumer)
                    } else {
                        Event::Cancelled(consumer)
                    });
                }
                Ok(false)
            }
            answer => self.handle_answer(&answer, sink),
        }
    }

    fn handle_answer(&mut self, method: &AMQPClass, sink: &mut Sink) -> Result<bool, Fault> {
        let asked = self
            .calls
            .iter()
            .position(|pending| pending.is_answered_by(method));
        let Some(pending) = asked.and_then(|place| self.calls.remove(place)) else {
            return Err(Fault::new(505, "an answer that nothing was asked for"));
        };
        let answer = match method {
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => Answer::Queue(QueueInfo {
                name: ok.queue.as_str().to_owned(),
                messages: ok.message_count,
                consumers: ok.consumer_count,
            }),
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => Answer::Count(ok.message_count),
            AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => Answer::Count(ok.message_count),
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) => {
                Answer::Tag(Arc::from(ok.consumer_tag.as_str()))
            }
            _ => Answer::Done,
        };
        let mut over = false;
        match (pending.then, &answer) {
            (
                Then::Consume {
                    consumer, no_ack, ..
                },
                Answer::Tag(tag),
            ) => {
                if let Some(old) = self.consumers.insert(tag.clone(), consumer, no_ack) {
                    sink.release(old);
                }
            }
            (Then::Consume { consumer, .. }, _) => sink.release(consumer),
            (Then::Cancel { tag }, _) => {
                if let Some(consumer) = self.consumers.remove(&tag) {
                    sink.release(consumer);
                }
            }
            // Whatever else was asked is not answered any more.
            (Then::Close, _) => {
                self.fail(
                    &Error::new(ErrorKind::Closed, "the channel was closed"),
                    sink,
                );
                over = true;
            }
            (Then::Nothing | Then::Confirm, _) => {}
        }
        if let Some(call) = pending.call {
            sink.staged.push((call, Ok(answer)));
        }
        Ok(over)
    }

    /// Ends the channel: whatever waits on it gets the reason.
    pub(crate) fn fail(&mut self, error: &Error, sink: &mut Sink) {
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.phase = Phase::Closed(error.clone());
        for pending in self.calls.drain(..) {
            if let Then::Consume { consumer, .. } = pending.then {
                sink.release(consumer);
            }
            if let Some(call) = pending.call {
                sink.staged.push((call, Err(error.clone())));
            }
        }
        self.confirms.fail(error, &mut sink.wakers);
        self.abandon_content(sink);
        for consumer in self.consumers.drain() {
            sink.events
                .push_back(Event::ConsumerClosed(consumer, error.clone()));
        }
        self.acks = Acks::default();
        // Whoever waits to publish finds out.
        sink.events.push_back(Event::Writable);
    }

    fn write(&self, sink: &mut Sink, method: &AMQPClass) {
        // These methods hold nothing that could fail to encode: no table, no long name.
        let written = put_method(&mut sink.out, self.number, method, None);
        debug_assert!(written.is_ok());
    }
}

/// Class and method id of the answer to `exchange.declare` and so on: by the protocol the next method of the class.
pub(crate) fn answer_to(method: &AMQPClass) -> (u16, u16) {
    (method.get_amqp_class_id(), method.get_amqp_method_id() + 1)
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::exchange;

    use super::*;

    #[test]
    fn the_answer_is_the_next_method_of_the_class() {
        let declare =
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare::default()));
        let ok = AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}));
        assert_eq!(
            answer_to(&declare),
            (ok.get_amqp_class_id(), ok.get_amqp_method_id())
        );
        let unbind = AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind::default()));
        let ok = AMQPClass::Queue(queue::AMQPMethod::UnbindOk(queue::UnbindOk {}));
        assert_eq!(
            answer_to(&unbind),
            (ok.get_amqp_class_id(), ok.get_amqp_method_id())
        );
    }
}
