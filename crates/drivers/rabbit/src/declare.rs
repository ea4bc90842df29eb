//! Makes on the broker what topology asks for: the declarations of a subscription, in order, on its channel.
//!
//! Where an entity exists as non-durable and the options want it durable, it is used as it is (spec 4.8);
//! anything else the broker refuses is told with the name of the entity.

use oslo_messaging_amqp::{
    Channel, Connection, Error as AmqpError, ExchangeDeclare, QueueDeclare, Table, Value,
};

use crate::delivery::End;
use crate::error::{is_mismatch, is_missing};
use crate::topology::{
    Argument, Arguments, ConsumerSpec, ExchangeSpec, QueueSpec, SubscriptionSpec,
};

/// A declaration or subscription the broker did not grant.
#[derive(Debug)]
pub(crate) struct SetupFault {
    /// Why.
    pub(crate) end: End,
    /// What it was about, such as `queue topic-a`.
    pub(crate) entity: String,
}

impl SetupFault {
    /// A fault about a queue.
    pub(crate) fn queue(error: AmqpError, name: &str) -> Self {
        Self {
            end: End::Closed(error),
            entity: format!("queue {name}"),
        }
    }

    fn exchange(error: AmqpError, name: &str) -> Self {
        Self {
            end: End::Closed(error),
            entity: format!("exchange {name}"),
        }
    }
}

impl SetupFault {
    /// The broker left a question unanswered.
    pub(crate) fn silent() -> Self {
        Self {
            end: End::Silent,
            entity: "channel".to_owned(),
        }
    }
}

impl From<AmqpError> for SetupFault {
    fn from(error: AmqpError) -> Self {
        Self {
            end: End::Closed(error),
            entity: "channel".to_owned(),
        }
    }
}

/// Whether one of the queues that only this subscription uses is missing. Asked on a channel of its own,
/// which the broker closes with its no.
pub(crate) async fn any_missing(
    connection: &Connection,
    spec: &SubscriptionSpec,
) -> Result<bool, SetupFault> {
    let own = |consumer: &&ConsumerSpec| consumer.delete_on_close || spec.address.is_some();
    let channel = connection.open_channel().await?;
    for consumer in spec.consumers.iter().filter(own) {
        let declare = QueueDeclare {
            name: &consumer.queue.name,
            passive: true,
            ..QueueDeclare::default()
        };
        match channel.queue_declare(&declare).await {
            Ok(_) => {}
            Err(error) if is_missing(&error) => return Ok(true),
            Err(error) => return Err(SetupFault::queue(error, &consumer.queue.name)),
        }
    }
    channel.close().await?;
    Ok(false)
}

/// A consumer's declarations as they are asked for now, after what was found on the broker.
struct Wanted<'a> {
    spec: &'a ConsumerSpec,
    exchange_durable: bool,
    queue_durable: bool,
    /// The queue's durability was tried both ways.
    settled: bool,
}

/// Declares everything of a subscription and returns the channel to consume on, with its prefetch set.
pub(crate) async fn declare_all(
    connection: &Connection,
    spec: &SubscriptionSpec,
) -> Result<Channel, SetupFault> {
    let mut wanted: Vec<Wanted<'_>> = spec.consumers.iter().map(Wanted::new).collect();
    // Each mismatch costs the channel, and changes what is wanted; that can happen twice per consumer.
    loop {
        let channel = connection.open_channel().await?;
        if let Some(count) = spec.prefetch {
            channel.qos(count).await?;
        }
        let mut done = true;
        for consumer in &mut wanted {
            done = consumer.declare(&channel).await?;
            if !done {
                break;
            }
        }
        if done {
            return Ok(channel);
        }
    }
}

impl<'a> Wanted<'a> {
    fn new(spec: &'a ConsumerSpec) -> Self {
        let exchange_durable = spec
            .binding
            .as_ref()
            .is_some_and(|(exchange, _)| exchange.durable);
        Self {
            spec,
            exchange_durable,
            queue_durable: spec.queue.durable,
            settled: false,
        }
    }

    /// Exchange, queue, binding. False if something else is wanted now, on a new channel.
    async fn declare(&mut self, channel: &Channel) -> Result<bool, SetupFault> {
        let queue = &self.spec.queue;
        if let Some((exchange, _)) = &self.spec.binding
            && let Err(error) = declare_exchange(channel, exchange, self.exchange_durable).await
        {
            if !(self.exchange_durable && is_mismatch(&error)) {
                return Err(SetupFault::exchange(error, &exchange.name));
            }
            tracing::warn!(
                exchange = exchange.name,
                "exchange exists as non-durable and is used as it is"
            );
            self.exchange_durable = false;
            // Wire: the reference then declares the queue non-durable too, which a quorum queue cannot be.
            self.queue_durable = is_quorum(queue);
            return Ok(false);
        }
        if let Err(error) = declare_queue(channel, queue, self.queue_durable).await {
            if self.settled || !queue.durable || is_quorum(queue) || !is_mismatch(&error) {
                return Err(SetupFault::queue(error, &queue.name));
            }
            self.settled = true;
            self.queue_durable = !self.queue_durable;
            tracing::warn!(
                queue = queue.name,
                durable = self.queue_durable,
                "queue exists and is used as it is"
            );
            return Ok(false);
        }
        if let Some((exchange, key)) = &self.spec.binding {
            let bound = channel
                .queue_bind(&queue.name, &exchange.name, key, &Table::new())
                .await;
            bound.map_err(|error| SetupFault::queue(error, &queue.name))?;
        }
        Ok(true)
    }
}

/// Declares an exchange with this durability.
pub(crate) async fn declare_exchange(
    channel: &Channel,
    exchange: &ExchangeSpec,
    durable: bool,
) -> Result<(), AmqpError> {
    let declare = ExchangeDeclare {
        name: &exchange.name,
        kind: exchange.kind.as_str(),
        durable,
        auto_delete: exchange.auto_delete,
        ..ExchangeDeclare::default()
    };
    channel.exchange_declare(&declare).await
}

async fn declare_queue(
    channel: &Channel,
    queue: &QueueSpec,
    durable: bool,
) -> Result<(), AmqpError> {
    let declare = QueueDeclare {
        name: &queue.name,
        durable,
        auto_delete: queue.auto_delete,
        arguments: table(&queue.arguments),
        ..QueueDeclare::default()
    };
    channel.queue_declare(&declare).await.map(drop)
}

fn is_quorum(queue: &QueueSpec) -> bool {
    queue
        .arguments
        .iter()
        .any(|(name, value)| *name == "x-queue-type" && *value == Argument::Text("quorum".into()))
}

/// The arguments as the engine takes them.
pub(crate) fn table(arguments: &Arguments) -> Table {
    let mut table = Table::new();
    for (name, value) in arguments {
        let value = match value {
            Argument::Number(number) => Value::Int(*number),
            Argument::Text(text) => Value::Text(text.clone()),
            Argument::Flag(flag) => Value::Bool(*flag),
        };
        table.insert(*name, value);
    }
    table
}
