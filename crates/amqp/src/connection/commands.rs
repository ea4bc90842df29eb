//! What the handles of a connection and its channels ask of the state machine.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::channel::AMQPMethod;

use crate::channel::{Answer, ChannelState, Pending, Phase as ChannelPhase, Then, answer_to};
use crate::codec;
use crate::confirms::{Watch, fingerprint};
use crate::connection::{Engine, Phase};
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{ServerProperties, Tuned};
use crate::methods::{Confirmation, Publish};
use crate::slots::Slots;
use crate::table::Table;

impl Engine {
    /// Why the connection is over, if it is.
    pub(crate) fn closed(&self) -> Option<&Error> {
        if matches!(self.phase, Phase::Closed) {
            self.reason.as_ref()
        } else {
            None
        }
    }

    /// What the broker told about itself.
    pub(crate) fn server(&self) -> Arc<ServerProperties> {
        self.server.clone()
    }

    /// What was agreed in the handshake.
    pub(crate) fn tuned(&self) -> Tuned {
        self.tuned
    }

    /// Closes the connection. Everything under way ends with [`ErrorKind::Closed`]; settlements asked for are still written.
    pub(crate) fn close(&mut self, now: Instant, patience: Duration) {
        match self.phase {
            Phase::Closing { until } => {
                self.phase = Phase::Closing {
                    until: until.min(now + patience),
                }
            }
            Phase::Closed => {}
            Phase::Handshake(_) => self.end(Error::new(
                ErrorKind::Closed,
                "the connection was closed while it was opened",
            )),
            Phase::Open => {
                self.hasten_acks();
                self.flush_acks();
                // Wire: code 0 without a text, as the Python peer closes.
                self.write_close(0, "");
                self.phase = Phase::Closing {
                    until: now + patience,
                };
                let error = Error::new(ErrorKind::Closed, "the connection was closed");
                self.fail_channels(&error);
                self.reason = Some(error);
            }
        }
    }

    /// Opens a channel: its index and the call to wait for.
    pub(crate) fn open_channel(&mut self) -> Result<(u32, u32)> {
        self.check_open()?;
        let number = self.free_number()?;
        let state = ChannelState::new(number);
        let index = match self.free_indices.pop() {
            Some(index) => {
                self.channels[index as usize] = Some(state);
                index
            }
            None => {
                self.channels.push(Some(state));
                (self.channels.len() - 1) as u32
            }
        };
        self.numbers[usize::from(number)] = Some(index);
        let open = AMQPClass::Channel(AMQPMethod::Open(Default::default()));
        let call = self.call(index, &open, None, Then::Nothing)?;
        Ok((index, call))
    }

    /// A consumer tag that is in use nowhere on this connection, unless the user made up the like.
    pub(crate) fn next_consumer_tag(&mut self) -> Arc<str> {
        self.consumer_tags += 1;
        format!("consumer-{}", self.consumer_tags).into()
    }

    /// Sends a synchronous method; its answer comes to the slot returned. `arguments` takes the place of its empty table.
    pub(crate) fn call(
        &mut self,
        index: u32,
        method: &AMQPClass,
        arguments: Option<&Table>,
        then: Then,
    ) -> Result<u32> {
        let (channel, calls) = self.put_method(index, method, arguments)?;
        match then {
            Then::Close => channel.phase = ChannelPhase::Closing,
            Then::Confirm => channel.confirms.enable(),
            _ => {}
        }
        let call = calls.insert();
        channel.calls.push_back(Pending {
            answer: answer_to(method),
            call: Some(call),
            then,
        });
        Ok(call)
    }

    /// Sends a method that asks for no answer.
    pub(crate) fn tell(
        &mut self,
        index: u32,
        method: &AMQPClass,
        arguments: Option<&Table>,
    ) -> Result<()> {
        self.put_method(index, method, arguments).map(drop)
    }

    /// Encodes a method of an open channel into the output; the channel, and where calls wait.
    fn put_method(
        &mut self,
        index: u32,
        method: &AMQPClass,
        arguments: Option<&Table>,
    ) -> Result<(&mut ChannelState, &mut Slots<Result<Answer>>)> {
        self.check_open()?;
        let channel = self.channels[index as usize].as_mut().ok_or_else(gone)?;
        channel.check_open()?;
        // What was settled before the method is settled before it on the wire.
        channel.flush_acks(&mut self.sink.out);
        let before = self.sink.out.len();
        let written = codec::put_method(&mut self.sink.out, channel.number, method, arguments);
        if written.is_ok() && self.sink.out.len() - before > self.tuned.frame_max as usize {
            self.sink.out.truncate(before);
            return Err(Error::invalid(
                "a method with its arguments is larger than a frame may be",
            ));
        }
        written?;
        Ok((channel, &mut self.calls))
    }

    /// Looks for the answer to a call.
    pub(crate) fn poll_call(
        &mut self,
        call: u32,
        context: &mut Context<'_>,
    ) -> Poll<Result<Answer>> {
        self.calls.poll(call, context)
    }

    /// Nobody waits for this call any more; its answer is still expected, and dropped.
    pub(crate) fn abandon_call(&mut self, index: u32, call: u32) {
        if let Some(channel) = &mut self.channels[index as usize] {
            for pending in channel
                .calls
                .iter_mut()
                .filter(|pending| pending.call == Some(call))
            {
                pending.call = None;
            }
        }
        self.sink.staged.retain(|&(staged, _)| staged != call);
        self.calls.remove(call);
    }

    /// The channel's handle is gone: closes the channel if it is open, and forgets it as soon as the broker has.
    pub(crate) fn release_channel(&mut self, index: u32) {
        let Some(channel) = &mut self.channels[index as usize] else {
            return;
        };
        channel.released = true;
        if matches!(channel.phase, ChannelPhase::Closed(_)) {
            self.forget_channel(index);
            return;
        }
        if matches!(channel.phase, ChannelPhase::Open)
            && matches!(self.phase, Phase::Open)
            && let Ok(call) = self.call(index, &close_method(), None, Then::Close)
        {
            self.abandon_call(index, call);
        }
    }

    /// Publishes. `None` when nobody wants to hear of the confirm.
    pub(crate) fn publish(
        &mut self,
        index: u32,
        publish: &Publish<'_>,
        body: &[u8],
        watched: bool,
    ) -> Result<Option<Watch>> {
        codec::short(publish.exchange, "exchange name")?;
        codec::short(publish.routing_key, "routing key")?;
        self.check_writable(Some(index))?;
        let channel = self.channels[index as usize].as_mut().ok_or_else(gone)?;
        if watched && !channel.confirms.is_enabled() {
            return Err(Error::new(
                ErrorKind::NotConfirming,
                "confirms are not selected on this channel",
            ));
        }
        let frame_max = self.tuned.frame_max as usize;
        let (number, out) = (channel.number, &mut self.sink.out);
        publish
            .properties
            .write(publish.expiration, |pieces, length| {
                if length + 12 + codec::FRAME_OVERHEAD > frame_max {
                    return Err(Error::invalid(
                        "the properties are larger than a frame may be",
                    ));
                }
                codec::put_publish(
                    out,
                    number,
                    publish.exchange,
                    publish.routing_key,
                    publish.mandatory,
                );
                codec::put_content_header(out, number, body.len() as u64, pieces);
                Ok(())
            })?;
        codec::put_body(out, number, body, frame_max);
        self.pacing.note_crowd(channel.confirms.len());
        // Unwatched mandatory messages count as well: a return must find its own message, not the next one alike.
        let print = publish
            .mandatory
            .then(|| fingerprint(publish.exchange, publish.routing_key, body));
        Ok(channel.confirms.published(print, watched))
    }

    /// Looks for a confirm.
    pub(crate) fn poll_confirm(
        &mut self,
        index: u32,
        watch: Watch,
        context: &mut Context<'_>,
    ) -> Poll<Result<Confirmation>> {
        match &mut self.channels[index as usize] {
            Some(channel) => channel.confirms.poll(watch, context),
            None => Poll::Ready(Err(gone())),
        }
    }

    /// Nobody waits for this confirm any more.
    pub(crate) fn forget_confirm(&mut self, index: u32, watch: Watch) {
        if let Some(channel) = &mut self.channels[index as usize] {
            channel.confirms.forget(watch);
        }
    }

    /// Published messages of a channel without a confirm.
    pub(crate) fn unconfirmed(&self, index: u32) -> usize {
        self.channels[index as usize]
            .as_ref()
            .map_or(0, |channel| channel.confirms.unconfirmed())
    }

    /// Asks for an ack (`None`) or a reject, with or without requeue, of a delivery.
    pub(crate) fn settle(&mut self, index: u32, tag: u64, reject: Option<bool>) -> Result<()> {
        self.note_settled(index, tag, reject)?;
        self.pacing.write_soon(index);
        Ok(())
    }

    fn note_settled(&mut self, index: u32, tag: u64, reject: Option<bool>) -> Result<()> {
        self.check_open()?;
        let channel = self.channels[index as usize].as_mut().ok_or_else(gone)?;
        channel.check_open()?;
        let asked = match reject {
            None => channel.acks.ack(tag),
            Some(requeue) => channel.acks.reject(tag, requeue),
        };
        if !asked {
            return Err(Error::new(
                ErrorKind::UnknownDelivery,
                "a delivery tag that is not outstanding",
            ));
        }
        self.pacing.note_crowd(channel.acks.len());
        Ok(())
    }

    /// Asks for an ack that may wait for others: until there are many, for a moment, or until something is written anyway.
    pub(crate) fn settle_later(&mut self, index: u32, tag: u64) -> Result<()> {
        // The task sets its clock before it sleeps, and not again for this.
        if self.parked.is_some() || self.pacing.is_to_write(index) {
            return self.settle(index, tag, None);
        }
        self.note_settled(index, tag, None)?;
        if self.pacing.write_later(index, self.heartbeat.received()) {
            self.hasten_acks();
        }
        Ok(())
    }

    /// Whether bytes may be added now; with a channel, whether it may publish.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] for "not now", anything else for never.
    pub(crate) fn check_writable(&mut self, index: Option<u32>) -> Result<()> {
        self.check_open()?;
        let mut flow = true;
        if let Some(index) = index {
            let channel = self.channels[index as usize].as_ref().ok_or_else(gone)?;
            channel.check_open()?;
            flow = channel.flow;
        }
        if !flow {
            return Err(Error::new(
                ErrorKind::Full,
                "the broker stopped the flow of this channel",
            ));
        }
        if self.sink.out.len() + self.in_flight >= self.options.output_limit {
            self.starved = true;
            return Err(Error::new(ErrorKind::Full, "too many bytes are unsent"));
        }
        Ok(())
    }

    /// Why a channel is over, if it is.
    pub(crate) fn channel_closed(&self, index: u32) -> Option<Error> {
        match &self.channels[index as usize].as_ref()?.phase {
            ChannelPhase::Closed(error) => Some(error.clone()),
            _ => None,
        }
    }

    fn check_open(&self) -> Result<()> {
        match (&self.phase, &self.reason) {
            (Phase::Open, _) => Ok(()),
            (_, Some(reason)) => Err(reason.clone()),
            (_, None) => Err(Error::new(
                ErrorKind::Closed,
                "the connection is not open yet",
            )),
        }
    }

    fn free_number(&mut self) -> Result<u16> {
        let most = usize::from(self.tuned.channel_max);
        if let Some(number) = (1..self.numbers.len()).find(|&number| self.numbers[number].is_none())
        {
            return Ok(number as u16);
        }
        if self.numbers.len() > most {
            return Err(Error::new(
                ErrorKind::NoFreeChannel,
                format!("all {most} channels are open"),
            ));
        }
        self.numbers.push(None);
        Ok((self.numbers.len() - 1) as u16)
    }
}

/// `channel.close` as the Python peer sends it: code 0, no text.
pub(crate) fn close_method() -> AMQPClass {
    AMQPClass::Channel(AMQPMethod::Close(Default::default()))
}

fn gone() -> Error {
    Error::new(ErrorKind::Closed, "the channel is gone")
}
