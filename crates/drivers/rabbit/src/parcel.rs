//! A message that is ready to go, how it goes, and why it did not.

use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp::{EncodedProperties, Error as AmqpError, PropertiesBuilder, Table};
use oslo_messaging_core::driver::Destination;

use crate::address::{Address, Exchange};
use crate::compress::Compression;
use crate::declare::SetupFault;
use crate::delivery::End;
use crate::error::is_final_for_message;
use crate::lane::LaneKind;

/// A message ready to go, again and again.
pub(crate) struct Parcel<'a> {
    /// Exchange and routing key.
    pub(crate) address: Address<'a>,
    /// What it is for, as errors say it.
    pub(crate) entity: Destination<'a>,
    /// The encoded message.
    pub(crate) body: Bytes,
    /// Fails if no queue takes it.
    pub(crate) mandatory: bool,
    /// Milliseconds the broker keeps it.
    pub(crate) expiration: Option<u64>,
    /// Its sender decides what to do when the connection is lost before the confirmation.
    pub(crate) tell_unconfirmed: bool,
    /// The broker must keep it over a restart.
    pub(crate) persistent: bool,
    /// It waits for nobody who may be on the way.
    pub(crate) urgent: bool,
}

/// How a message is published this time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// On a channel of its own, so that a fault is its own.
    pub(crate) alone: bool,
    /// The broker tells if no queue takes it.
    pub(crate) mandatory: bool,
}

/// An attempt without an answer from the broker.
pub(crate) struct Failed {
    /// Why.
    pub(crate) fault: Fault,
    /// The message was given to the connection: it may have arrived.
    pub(crate) written: bool,
}

impl From<AmqpError> for Failed {
    fn from(error: AmqpError) -> Self {
        Self {
            fault: Fault::Amqp(error),
            written: false,
        }
    }
}

impl From<SetupFault> for Failed {
    fn from(fault: SetupFault) -> Self {
        let fault = match fault.end {
            End::Closed(error) => Fault::Amqp(error),
            other => Fault::Unanswered(other.to_string()),
        };
        Self {
            fault,
            written: false,
        }
    }
}

/// Why a message was not taken.
pub(crate) enum Fault {
    /// The broker did not keep it.
    Nacked,
    /// No queue takes it.
    Returned(u16, String),
    /// Channel or connection ended.
    Amqp(AmqpError),
    /// The broker did not say whether the message's queue is there.
    Unanswered(String),
}

impl Fault {
    /// Whether publishing it again cannot help.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Nacked | Self::Unanswered(_) => false,
            Self::Returned(..) => true,
            Self::Amqp(error) => is_final_for_message(error),
        }
    }
}

impl Parcel<'_> {
    /// Whether the broker may be asked for its queue on the sender's behalf.
    pub(crate) fn may_insist(&self) -> bool {
        let is_request = matches!(
            self.entity,
            Destination::Topic { .. } | Destination::Server { .. }
        );
        is_request && !self.mandatory
    }

    /// Whether it is a reply of the plain RPC.
    pub(crate) fn is_to_caller(&self) -> bool {
        matches!(self.address.exchange, Exchange::Direct(_))
    }

    /// The channel it takes.
    pub(crate) fn lane(&self) -> LaneKind {
        match self.entity {
            Destination::Fanout { .. } => LaneKind::Fanout,
            Destination::Notification { .. } => LaneKind::Notification,
            // Its exchange may be gone, which closes the channel.
            _ if self.is_to_caller() => LaneKind::Fanout,
            _ => LaneKind::Main,
        }
    }
}

/// The properties of messages, written once.
pub(crate) struct Wrappings {
    persistent: EncodedProperties,
    transient: EncodedProperties,
}

impl Wrappings {
    /// Those of messages that are compressed like this.
    pub(crate) fn new(compression: Option<Compression>) -> Self {
        Self {
            persistent: properties(compression, PERSISTENT),
            transient: properties(compression, TRANSIENT),
        }
    }

    /// Those of a message which the broker must keep over a restart, or need not.
    pub(crate) fn of(&self, persistent: bool) -> &EncodedProperties {
        if persistent {
            &self.persistent
        } else {
            &self.transient
        }
    }
}

/// `delivery_mode` of a message that the broker writes to its disk, where its queue is durable,
const PERSISTENT: u8 = 2;
/// and of one that it need not write.
const TRANSIENT: u8 = 1;

/// Byte for byte the reference's, which knows persistent ones only (spec section 5).
fn properties(compression: Option<Compression>, delivery_mode: u8) -> EncodedProperties {
    let mut headers = Table::new();
    if let Some(compression) = compression {
        headers.insert("compression", compression.header());
    }
    PropertiesBuilder::new()
        .content_type("application/json")
        .content_encoding("utf-8")
        .headers(headers)
        .delivery_mode(delivery_mode)
        .priority(0)
        .build()
        .expect("these few short properties fit into any frame")
}

/// Wire: the expiration is cut to whole milliseconds; RabbitMQ takes 32 bits of them.
pub(crate) fn milliseconds(expires: Duration) -> u64 {
    u64::try_from(expires.as_millis())
        .unwrap_or(u64::MAX)
        .min(u32::MAX.into())
}

/// The limit that RabbitMQ names in its refusal; without a number in it, one less than what it refused.
pub(crate) fn limit_in(text: &str, refused: usize) -> usize {
    let numbers = text.split(|letter: char| !letter.is_ascii_digit());
    let limit = numbers
        .filter_map(|digits| digits.parse::<usize>().ok())
        .next_back();
    limit
        .filter(|limit| (1..refused).contains(limit))
        .unwrap_or(refused.saturating_sub(1))
}

/// Wait before a message the broker did not take is tried again: a full queue may have room soon.
pub(crate) fn pause(failed: u32) -> Duration {
    let most = (0.05 * 2_f64.powi(failed.min(6) as i32)).min(2.0);
    Duration::from_secs_f64(most * (0.5 + 0.5 * fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_the_refusal_or_taken_from_what_was_refused() {
        let text =
            "PRECONDITION_FAILED - message size 100001 is larger than configured max size 100000";
        assert_eq!(limit_in(text, 100_001), 100_000);
        assert_eq!(limit_in("message too large", 100_001), 100_000);
        assert_eq!(limit_in("larger than 16777216 bytes", 500), 499);
    }
}
