//! What is declared, consumed and published, as plain values.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::properties::{EncodedProperties, Properties};
use crate::table::Table;

/// `exchange.declare`. All flags are off and the arguments empty by default.
///
/// ```
/// use oslo_messaging_amqp::ExchangeDeclare;
///
/// let nova = ExchangeDeclare { name: "nova", kind: "topic", durable: true, ..Default::default() };
/// assert!(!nova.auto_delete && nova.arguments.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeDeclare<'a> {
    /// Name, at most 255 bytes.
    pub name: &'a str,
    /// Type: `topic`, `fanout`, `direct`, `headers`.
    pub kind: &'a str,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Cannot be published to.
    pub internal: bool,
    /// Arguments.
    pub arguments: Table,
}

/// `queue.declare`. All flags are off and the arguments empty by default.
///
/// ```
/// use oslo_messaging_amqp::{QueueDeclare, Table};
///
/// let arguments = Table::new().with("x-queue-type", "quorum");
/// let compute = QueueDeclare { name: "compute", durable: true, arguments, ..Default::default() };
/// assert!(!compute.exclusive && !compute.passive);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueDeclare<'a> {
    /// Name, at most 255 bytes; empty lets the broker choose.
    pub name: &'a str,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// Belongs to this connection and goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Arguments.
    pub arguments: Table,
}

/// The broker's answer to `queue.declare`.
///
/// ```
/// use oslo_messaging_amqp::QueueInfo;
///
/// fn is_idle(queue: &QueueInfo) -> bool {
///     queue.messages == 0 && queue.consumers == 0
/// }
/// assert!(is_idle(&QueueInfo { name: "compute".to_owned(), messages: 0, consumers: 0 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// Name, chosen by the broker if none was asked for.
    pub name: String,
    /// Messages ready in it.
    pub messages: u32,
    /// Consumers on it.
    pub consumers: u32,
}

/// `basic.consume`.
///
/// ```
/// use oslo_messaging_amqp::Consume;
///
/// let alone = Consume { queue: "compute", tag: "1", exclusive: true, ..Default::default() };
/// assert!(!alone.no_ack);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consume<'a> {
    /// Queue to consume.
    pub queue: &'a str,
    /// Consumer tag, unique on its channel; empty lets this side choose one (the broker's choice could not be told from its choice for another).
    pub tag: &'a str,
    /// Deliveries count as settled at once.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Arguments.
    pub arguments: Table,
}

/// `basic.publish`: everything but the body.
///
/// ```
/// use oslo_messaging_amqp::{PropertiesBuilder, Publish};
///
/// let properties = PropertiesBuilder::new().content_type("application/json").build()?;
/// let publish = Publish {
///     exchange: "nova", routing_key: "compute", mandatory: true, properties: &properties, expiration: Some(60_000),
/// };
/// assert!(publish.mandatory);
/// # Ok::<(), oslo_messaging_amqp::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Exchange; empty is the default exchange, which routes by queue name.
    pub exchange: &'a str,
    /// Routing key.
    pub routing_key: &'a str,
    /// Whether the broker returns the message when no queue takes it.
    pub mandatory: bool,
    /// Properties, encoded once and used again and again.
    pub properties: &'a EncodedProperties,
    /// Expiration in milliseconds, if the message has one.
    pub expiration: Option<u64>,
}

/// What became of a published message.
///
/// ```
/// use oslo_messaging_amqp::Confirmation;
///
/// fn arrived(confirmation: &Confirmation) -> bool {
///     match confirmation {
///         Confirmation::Acked => true,
///         Confirmation::Returned { code: 312, .. } => false,
///         _ => false,
///     }
/// }
/// assert!(arrived(&Confirmation::Acked) && !arrived(&Confirmation::Nacked));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Confirmation {
    /// The broker took the message.
    Acked,
    /// The broker could not take the message.
    Nacked,
    /// The message was mandatory and no queue took it (312 `NO_ROUTE`). The broker's ack that follows is of no more interest.
    Returned {
        /// Reply code.
        code: u16,
        /// The broker's words.
        text: String,
    },
}

/// A message for a consumer.
///
/// ```
/// use oslo_messaging_amqp::Delivered;
///
/// fn describe(delivery: &Delivered) -> String {
///     let again = if delivery.redelivered { ", again" } else { "" };
///     format!("{} bytes for {}{again}", delivery.body.len(), delivery.routing_key)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivered {
    /// Tag to settle it with, on the channel it came from.
    pub delivery_tag: u64,
    /// Whether the broker may have delivered it before.
    pub redelivered: bool,
    /// Tag of the consumer.
    pub consumer_tag: Arc<str>,
    /// Exchange it was published to.
    pub exchange: Arc<str>,
    /// Routing key it was published with.
    pub routing_key: Arc<str>,
    /// Its properties.
    pub properties: Properties,
    /// Its body. A large one shares the connection's read buffer: keep it only as long as it is needed.
    pub body: Bytes,
}

/// Takes deliveries. Called in place by the task that reads the socket, with no lock held: settling, publishing and waking others is
/// welcome, blocking is not. A slow consumer slows its whole connection, which is the bound on what it can pile up.
///
/// A consumer may hold the [`Channel`](crate::Channel) it consumes on: the connection lets go of its consumers when they are cancelled
/// and when channel or connection end.
///
/// ```
/// use oslo_messaging_amqp::{Channel, Consumer, Delivered, Error};
///
/// struct Counter(Channel);
///
/// impl Consumer for Counter {
///     fn deliver(&self, delivery: Delivered) {
///         self.0.ack(delivery.delivery_tag).ok();
///     }
///
///     fn cancelled(&self) {
///         eprintln!("the queue is gone");
///     }
///
///     fn closed(&self, error: &Error) {
///         eprintln!("{error}");
///     }
/// }
///
/// fn end(consumer: &dyn Consumer, error: &Error, last: Delivered) {
///     consumer.deliver(last);
///     consumer.cancelled();
///     consumer.closed(error);
/// }
/// ```
pub trait Consumer: Send + Sync + 'static {
    /// A message has arrived.
    fn deliver(&self, delivery: Delivered);

    /// Whether a delivery merely wakes somebody who waits for it, as an answer does. What it starts otherwise may keep its thread
    /// for long, so the connection sees to it that another one goes on with the socket. No unless said otherwise.
    ///
    /// ```
    /// use oslo_messaging_amqp::Consumer;
    ///
    /// fn is_served_by_others(consumer: &dyn Consumer) -> bool {
    ///     !consumer.is_answer()
    /// }
    /// ```
    fn is_answer(&self) -> bool {
        false
    }

    /// The broker cancelled the consumer (`basic.cancel`: its queue was deleted or moved). Nothing is delivered any more.
    fn cancelled(&self);

    /// Channel or connection ended. Nothing is delivered any more; unsettled deliveries are back in the queue.
    fn closed(&self, error: &Error);
}
