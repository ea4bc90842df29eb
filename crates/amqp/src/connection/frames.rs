//! Frames that came in: to the connection, to a channel, or the words of a peer that speaks something else.

use std::sync::Arc;
use std::time::Instant;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{self as methods, AMQPMethod};
use bytes::{Buf, BytesMut};

use crate::channel::{ChannelState, Sink};
use crate::codec::{self, BODY, FrameHead, HEADER, HEARTBEAT, METHOD, Method};
use crate::connection::{Engine, Event, Fault, Phase};
use crate::consumers::Piece;
use crate::error::{Error, ErrorKind, Result, TlsFault};
use crate::handshake::{self, Stage};

/// Body frames from this size on are handed over as a part of the read buffer; smaller ones are copied.
const SLICE_FROM: usize = 32 << 10;

/// How the records begin by which TLS complains.
const TLS_ALERT: &[u8] = &[21, 3];

impl Engine {
    /// Takes a whole frame off the front of `input`; false if there is none.
    pub(super) fn next_frame(&mut self, now: Instant, input: &mut BytesMut) -> Result<bool, Fault> {
        if matches!(self.phase, Phase::Handshake(Stage::Start)) && !self.begins_well(input) {
            return Ok(false);
        }
        let head = codec::peek_frame(input, self.tuned.frame_max as usize)
            .map_err(|bad| Fault::new(501, bad.0))?;
        let Some(head) = head else { return Ok(false) };
        if head.kind == BODY && head.size >= SLICE_FROM {
            let mut frame = input.split_to(head.length());
            frame.advance(7);
            frame.truncate(head.size);
            self.handle_body(head.channel, Piece::Owned(frame.freeze()))?;
        } else {
            self.handle_frame(now, head, &input[7..7 + head.size])?;
            input.advance(head.length());
        }
        Ok(true)
    }

    /// Whether the first words of the peer may be a frame. If they show that it speaks something else, says so.
    fn begins_well(&mut self, input: &BytesMut) -> bool {
        match input.first() {
            None | Some(&METHOD) => return true,
            Some(b'A') => self.handle_protocol_header(input),
            Some(_) if input.starts_with(TLS_ALERT) => {
                let text = "the peer wants TLS on this port";
                self.end(Error::tls(TlsFault::WantsTls, text, None));
            }
            // Maybe the alert, half of it.
            Some(_) if TLS_ALERT.starts_with(input) => {}
            Some(_) => {
                let text = if input.starts_with(b"HTTP") {
                    "the peer speaks HTTP, not AMQP"
                } else {
                    "the peer does not speak AMQP"
                };
                self.end(Error::new(ErrorKind::VersionMismatch, text));
            }
        }
        false
    }

    /// A broker that does not speak 0-9-1 answers with the header of what it speaks, and hangs up.
    fn handle_protocol_header(&mut self, input: &BytesMut) {
        let Some(header) = input.first_chunk::<8>() else {
            return;
        };
        let text = if header.starts_with(b"AMQP") {
            format!(
                "the broker speaks AMQP {}-{}-{} only",
                header[5], header[6], header[7]
            )
        } else {
            "the peer does not speak AMQP".to_owned()
        };
        self.end(Error::new(ErrorKind::VersionMismatch, text));
    }

    fn handle_frame(&mut self, now: Instant, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        match (head.kind, head.channel) {
            (METHOD, 0) => self.handle_connection_method(now, payload),
            (METHOD, channel) => self.handle_channel_method(channel, payload),
            (HEADER, channel) => {
                let limit = self.options.max_message_size;
                let Some((index, state, sink)) = self.channel(channel)? else {
                    return Ok(());
                };
                state.handle_header(payload, limit, sink)?;
                self.note_settlements(index);
                Ok(())
            }
            (BODY, channel) => self.handle_body(channel, Piece::Borrowed(payload)),
            (HEARTBEAT, 0) if payload.is_empty() => Ok(()),
            _ => Err(Fault::new(501, "a heartbeat with a channel or a payload")),
        }
    }

    fn handle_body(&mut self, channel: u16, piece: Piece<'_>) -> Result<(), Fault> {
        let Some((index, state, sink)) = self.channel(channel)? else {
            return Ok(());
        };
        state.handle_body(piece, sink)?;
        self.note_settlements(index);
        Ok(())
    }

    fn handle_connection_method(&mut self, now: Instant, payload: &[u8]) -> Result<(), Fault> {
        match (codec::decode_method(payload)?, &self.phase) {
            (Method::Start(start), Phase::Handshake(Stage::Start)) => {
                match handshake::answer_start(&self.options, start, &mut self.sink.out) {
                    Ok(server) => {
                        self.server = Arc::new(server);
                        self.phase = Phase::Handshake(Stage::Tune);
                    }
                    Err(error) => self.end(error),
                }
                Ok(())
            }
            (Method::Other(AMQPClass::Connection(method)), _) => {
                self.handle_connection_class(now, method)
            }
            _ => Err(Fault::new(505, "a method of a channel on channel 0")),
        }
    }

    fn handle_connection_class(&mut self, now: Instant, method: AMQPMethod) -> Result<(), Fault> {
        match (method, &self.phase) {
            (AMQPMethod::Close(close), _) => {
                self.write(&AMQPMethod::CloseOk(methods::CloseOk {}));
                let error = match self.phase {
                    Phase::Handshake(stage) => stage.refusal(&close),
                    _ => {
                        let blame = (close.class_id, close.method_id);
                        let text = close.reply_text.as_str().to_owned();
                        Error::with_code(ErrorKind::ConnectionClosed, close.reply_code, text, blame)
                    }
                };
                self.end(error);
            }
            (AMQPMethod::Tune(tune), Phase::Handshake(Stage::Tune)) => {
                self.tuned = handshake::answer_tune(&self.options, &tune, &mut self.sink.out)?;
                self.phase = Phase::Handshake(Stage::Open);
            }
            (AMQPMethod::OpenOk(_), Phase::Handshake(Stage::Open)) => {
                self.phase = Phase::Open;
                self.heartbeat.start(self.tuned.heartbeat, now);
                self.sink.events.push_back(Event::Opened);
            }
            (AMQPMethod::Blocked(blocked), Phase::Open) => {
                self.sink
                    .events
                    .push_back(Event::Blocked(Some(Arc::from(blocked.reason.as_str()))));
            }
            (AMQPMethod::Unblocked(_), Phase::Open) => {
                self.sink.events.push_back(Event::Blocked(None))
            }
            (AMQPMethod::CloseOk(_), Phase::Closing { .. }) => {
                let reason = self.reason.clone();
                self.end(
                    reason.unwrap_or_else(|| {
                        Error::new(ErrorKind::Closed, "the connection was closed")
                    }),
                );
            }
            (_, Phase::Closing { .. }) => {}
            _ => return Err(Fault::new(503, "a method of the connection out of turn")),
        }
        Ok(())
    }

    fn handle_channel_method(&mut self, number: u16, payload: &[u8]) -> Result<(), Fault> {
        let Some((index, channel, sink)) = self.channel(number)? else {
            return Ok(());
        };
        let over = match codec::decode_method(payload)? {
            Method::Deliver(deliver) => channel.handle_deliver(&deliver, sink).map(|()| false),
            Method::Return(returned) => channel.handle_return(&returned, sink).map(|()| false),
            Method::Ack { tag, multiple } => channel
                .handle_confirm(tag, multiple, true, sink)
                .map(|()| false),
            Method::Nack { tag, multiple } => channel
                .handle_confirm(tag, multiple, false, sink)
                .map(|()| false),
            Method::Other(AMQPClass::Connection(_)) | Method::Start(_) => {
                Err(Fault::new(503, "a method of the connection on a channel"))
            }
            Method::Other(method) => channel.handle_method(method, sink),
        }?;
        if over {
            self.numbers[usize::from(number)] = None;
            if self.channels[index as usize]
                .as_ref()
                .is_some_and(|channel| channel.released)
            {
                self.forget_channel(index);
            }
        }
        Ok(())
    }

    /// The channel a frame is for; `None` when the connection is being closed and frames are of no interest.
    fn channel(
        &mut self,
        number: u16,
    ) -> Result<Option<(u32, &mut ChannelState, &mut Sink)>, Fault> {
        match self.phase {
            Phase::Open => {}
            Phase::Handshake(_) => {
                return Err(Fault::new(503, "a frame of a channel during the handshake"));
            }
            Phase::Closing { .. } | Phase::Closed => return Ok(None),
        }
        let index = self.numbers.get(usize::from(number)).copied().flatten();
        let state = index.and_then(|index| Some((index, self.channels[index as usize].as_mut()?)));
        match state {
            Some((index, state)) => Ok(Some((index, state, &mut self.sink))),
            None => Err(Fault::new(504, "a frame on a channel that is not open")),
        }
    }
}
