//! The state machine of a connection: bytes and commands in, bytes and events out, the clock given from outside.
//!
//! `handle_*` feeds it, `take_*` and `poll_*` empty it, as in quinn-proto. It opens no socket, starts no task and never asks for the time.
//! Everything here happens under one short lock; whatever calls foreign code (consumers, wakers, drops) leaves as an [`Event`] or a waker
//! and runs without it.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{self as methods, AMQPMethod};
use bytes::BytesMut;

use crate::channel::{Answer, ChannelState, Sink};
use crate::codec::{self, Malformed, PROTOCOL_HEADER};
use crate::connection::pacing::Pacing;
use crate::consumers::Unexpected;
use crate::error::{Error, ErrorKind, Result};
use crate::handshake::{self, ServerProperties, Stage, Tuned};
use crate::heartbeat::{Beat, Heartbeat};
use crate::methods::{Consumer, Delivered};
use crate::options::ConnectOptions;
use crate::slots::Slots;

pub(crate) mod commands;
mod frames;
mod pacing;

/// What the task has to do outside of the lock.
pub(crate) enum Event {
    /// The handshake is done.
    Opened,
    /// A message for a consumer.
    Deliver(Arc<dyn Consumer>, Delivered),
    /// The broker cancelled a consumer.
    Cancelled(Arc<dyn Consumer>),
    /// A consumer's channel ended.
    ConsumerClosed(Arc<dyn Consumer>, Error),
    /// Nothing but to let go of a consumer.
    Release(Arc<dyn Consumer>),
    /// The broker takes no publishes for this reason, or takes them again.
    Blocked(Option<Arc<str>>),
    /// Publishers that were told "not now" may try again.
    Writable,
    /// The connection is over.
    Closed(Error),
}

/// The peer broke the protocol: the code to close with, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: u16,
    pub(crate) text: &'static str,
}

impl Fault {
    pub(crate) fn new(code: u16, text: &'static str) -> Self {
        Self { code, text }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::new(502, malformed.0)
    }
}

impl From<Unexpected> for Fault {
    fn from(unexpected: Unexpected) -> Self {
        Self::new(505, unexpected.0)
    }
}

enum Phase {
    Handshake(Stage),
    Open,
    /// `connection.close` was sent; its answer is awaited until then.
    Closing {
        until: Instant,
    },
    Closed,
}

/// The state of a connection.
pub(crate) struct Engine {
    options: ConnectOptions,
    phase: Phase,
    /// Why the connection is over or being closed.
    reason: Option<Error>,
    sink: Sink,
    /// Bytes the task took and has not written yet.
    in_flight: usize,
    /// Somebody was told "not now".
    starved: bool,
    tuned: Tuned,
    server: Arc<ServerProperties>,
    heartbeat: Heartbeat,
    /// Channels by the index their handles know; an index lives as long as the handle.
    channels: Vec<Option<ChannelState>>,
    free_indices: Vec<u32>,
    /// Indices by channel number; number 0 is never in use.
    numbers: Vec<Option<u32>>,
    pacing: Pacing,
    calls: Slots<Result<Answer>>,
    /// Consumer tags made here so far.
    consumer_tags: u64,
    /// The task, when it sleeps.
    parked: Option<Waker>,
    /// It was roused while it did not sleep, maybe after its last look at what there is to write.
    roused: bool,
}

impl Engine {
    /// A connection about to be opened; the protocol header is in the output.
    ///
    /// # Errors
    /// When the options hold something the wire cannot carry.
    pub(crate) fn new(options: ConnectOptions, now: Instant) -> Result<Self> {
        handshake::check(&options)?;
        let mut sink = Sink::default();
        sink.out.extend_from_slice(PROTOCOL_HEADER);
        Ok(Self {
            phase: Phase::Handshake(Stage::Start),
            reason: None,
            sink,
            in_flight: 0,
            starved: false,
            tuned: Tuned::before(&options),
            server: Arc::default(),
            heartbeat: Heartbeat::new(options.heartbeat_rate, now),
            channels: Vec::new(),
            free_indices: Vec::new(),
            numbers: vec![None],
            pacing: Pacing::default(),
            calls: Slots::default(),
            consumer_tags: 0,
            parked: None,
            roused: false,
            options,
        })
    }

    // What the task feeds.

    /// Takes whole frames off the front of `input`; what remains is the beginning of the next one.
    pub(crate) fn handle_bytes(&mut self, now: Instant, input: &mut BytesMut) {
        self.heartbeat.handle_received(now);
        while !matches!(self.phase, Phase::Closed) {
            match self.next_frame(now, input) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => self.handle_fault(fault),
            }
        }
        input.clear();
    }

    /// The peer closed the socket.
    pub(crate) fn handle_eof(&mut self) {
        let error = match self.phase {
            Phase::Handshake(stage) => stage.hang_up(),
            _ => None,
        };
        self.end(error.unwrap_or_else(|| Error::new(ErrorKind::Io, "the peer closed the socket")));
    }

    /// The socket failed, or whoever drives this gave up.
    pub(crate) fn handle_failure(&mut self, error: Error) {
        self.end(error);
    }

    /// The time of [`next_timeout`](Self::next_timeout) has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.pacing.until().is_some_and(|until| now >= until) {
            self.hasten_acks();
        }
        match self.phase {
            Phase::Closing { until } if now >= until => {
                self.end(Error::new(
                    ErrorKind::Timeout,
                    "the broker did not answer the close in time",
                ));
            }
            Phase::Open | Phase::Closing { .. } => match self.heartbeat.handle_timeout(now) {
                Beat::Quiet => {}
                Beat::Dead => self.end(Error::new(
                    ErrorKind::HeartbeatLost,
                    "nothing was received for two heartbeat intervals",
                )),
                Beat::Send => {
                    // With bytes waiting to be written a heartbeat would say nothing more.
                    if self.sink.out.is_empty() && self.in_flight == 0 {
                        codec::put_heartbeat(&mut self.sink.out);
                    }
                    self.heartbeat.handle_sent(now);
                }
            },
            Phase::Handshake(_) | Phase::Closed => {}
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Handshake(_) | Phase::Closed => None,
            Phase::Open => [self.heartbeat.next_timeout(), self.pacing.until()]
                .into_iter()
                .flatten()
                .min(),
            Phase::Closing { until } => Some(
                self.heartbeat
                    .next_timeout()
                    .map_or(until, |beat| beat.min(until)),
            ),
        }
    }

    /// How long not a single byte has come.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        self.heartbeat.silence(now)
    }

    // What the task takes.

    /// Exchanges `written`, all of whose bytes have been sent, for the bytes to send next.
    pub(crate) fn take_output(&mut self, now: Instant, written: &mut Vec<u8>) {
        if self.pacing.until().is_some() && self.has_bytes() {
            // They cost no write of their own now.
            self.hasten_acks();
        }
        self.flush_acks();
        written.clear();
        std::mem::swap(&mut self.sink.out, written);
        self.in_flight = written.len();
        if !written.is_empty() {
            self.heartbeat.handle_sent(now);
        }
        if self.starved && self.in_flight < self.options.output_limit {
            self.starved = false;
            self.sink.events.push_back(Event::Writable);
        }
    }

    /// The oldest event not taken yet.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.sink.events.pop_front()
    }

    /// All events were acted on: answers that came after them may be seen. Moves the wakers of those who wait into `wakers`.
    pub(crate) fn take_wakers(&mut self, wakers: &mut Vec<Waker>) {
        self.release_answers();
        wakers.append(&mut self.sink.wakers);
    }

    /// Whether the task would find something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.has_output()
            || !self.sink.events.is_empty()
            || !self.sink.wakers.is_empty()
            || !self.sink.staged.is_empty()
    }

    /// Whether there are bytes to take, now that all taken before are written.
    pub(crate) fn has_output(&self) -> bool {
        self.in_flight == 0 && self.has_bytes()
    }

    fn has_bytes(&self) -> bool {
        !self.sink.out.is_empty() || self.pacing.has_settlements()
    }

    /// Whether what was just published goes out alone, and the task sleeps.
    pub(crate) fn is_lone(&self) -> bool {
        self.parked.is_some() && !self.pacing.is_crowded() && self.has_output()
    }

    /// The task runs, and will look for work before it sleeps again. True when more is likely to come in a moment than what
    /// there is to write.
    pub(crate) fn wake_up(&mut self) -> bool {
        self.parked = None;
        self.pacing.is_crowded() && self.has_output()
    }

    /// All that was taken is written, by another than the task. Gives the task if it has work.
    pub(crate) fn note_written(&mut self) -> Option<Waker> {
        self.in_flight = 0;
        self.unpark()
    }

    /// The task, if it sleeps, whether there is work or not; if not, it looks once more before it does.
    pub(crate) fn rouse(&mut self) -> Option<Waker> {
        self.roused = self.parked.is_none();
        self.parked.take()
    }

    /// Acks that might wait are written with the next bytes.
    fn hasten_acks(&mut self) {
        while let Some(index) = self.pacing.hasten() {
            self.note_settlements(index);
        }
    }

    /// The task goes to sleep until `armed` at the latest; false when there is work, or something to do sooner.
    pub(crate) fn park(&mut self, waker: &Waker, armed: Option<Instant>) -> bool {
        let sooner = self
            .pacing
            .until()
            .is_some_and(|until| armed.is_none_or(|armed| until < armed));
        if std::mem::take(&mut self.roused) || sooner || self.has_work() {
            return false;
        }
        self.parked = Some(waker.clone());
        true
    }

    /// The task to wake after a command, if it sleeps and there is work.
    pub(crate) fn unpark(&mut self) -> Option<Waker> {
        if self.parked.is_some() && self.has_work() {
            self.parked.take()
        } else {
            None
        }
    }

    /// Gives back memory that a burst made the output take.
    pub(crate) fn shrink(&mut self, to: usize) {
        if self.sink.out.is_empty() {
            self.sink.out.shrink_to(to);
        }
    }

    /// Bytes of memory the output holds.
    pub(crate) fn output_capacity(&self) -> usize {
        self.sink.out.capacity()
    }

    // Inside.

    /// A delivery that was read over may have asked for its own settlement.
    fn note_settlements(&mut self, index: u32) {
        let pending = self.channels[index as usize]
            .as_ref()
            .is_some_and(|channel| channel.acks.is_pending());
        if pending {
            self.pacing.note_settlements(index);
        }
    }

    fn flush_acks(&mut self) {
        while let Some(index) = self.pacing.next_to_write() {
            if let Some(channel) = &mut self.channels[index as usize] {
                channel.flush_acks(&mut self.sink.out);
            }
        }
    }

    fn release_answers(&mut self) {
        for (call, answer) in self.sink.staged.drain(..) {
            self.sink.wakers.extend(self.calls.complete(call, answer));
        }
    }

    fn forget_channel(&mut self, index: u32) {
        if self.channels[index as usize].take().is_some() {
            self.pacing.forget(index);
            self.free_indices.push(index);
        }
    }

    /// Closes the connection because of what the peer did. Nothing that it still sends is of interest.
    fn handle_fault(&mut self, fault: Fault) {
        if matches!(self.phase, Phase::Open) {
            self.write_close(fault.code, fault.text);
        }
        self.end(Error::with_code(
            ErrorKind::Protocol,
            fault.code,
            fault.text,
            (0, 0),
        ));
    }

    /// The connection is over: everything under way ends with the reason.
    fn end(&mut self, error: Error) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let error = match (&self.phase, &self.reason) {
            // A close of our own ends well however the broker hangs up.
            (Phase::Closing { .. }, Some(reason)) if error.kind() != ErrorKind::Timeout => {
                reason.clone()
            }
            _ => error,
        };
        self.phase = Phase::Closed;
        self.fail_channels(&error);
        self.release_answers();
        self.reason = Some(error.clone());
        self.sink.events.push_back(Event::Closed(error));
    }

    fn fail_channels(&mut self, error: &Error) {
        self.pacing.clear();
        for index in 0..self.channels.len() {
            if let Some(channel) = &mut self.channels[index] {
                channel.fail(error, &mut self.sink);
                self.numbers[usize::from(channel.number)] = None;
                if channel.released {
                    self.forget_channel(index as u32);
                }
            }
        }
    }

    fn write_close(&mut self, code: u16, text: &str) {
        let close = methods::Close {
            reply_code: code,
            reply_text: text.into(),
            class_id: 0,
            method_id: 0,
        };
        self.write(&AMQPMethod::Close(close));
    }

    fn write(&mut self, method: &AMQPMethod) {
        // Codes and texts of this crate: nothing that could fail to encode.
        let written = codec::put_method(
            &mut self.sink.out,
            0,
            &AMQPClass::Connection(method.clone()),
            None,
        );
        debug_assert!(written.is_ok());
    }
}

#[cfg(test)]
mod tests;
