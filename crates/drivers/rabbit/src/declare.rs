//! Makes on the broker what topology asks for: the declarations of a subscription, in order, on its channel.
//!
//! What exists with other properties is used as it is, and said once in the log (spec 4.8): which properties differ is
//! found by asking otherwise, never by reading the broker's words. What cannot be used is told with the name of the
//! entity and both settings. Nothing here deletes anything.

use std::time::Duration;

use oslo_messaging_amqp::{
    Channel, Connection, Error as AmqpError, ErrorKind as AmqpKind, ExchangeDeclare, QueueDeclare,
    Table, Value,
};

use tokio::time::timeout;

use crate::delivery::End;
use crate::error::{is_mismatch, is_missing};
use crate::facts::Facts;
use crate::topology::{
    Argument, Arguments, ConsumerSpec, ExchangeSpec, QueueSpec, SubscriptionSpec,
};

/// More changes of mind about one queue mean that somebody else is changing it all the time.
const MOST_CHANGES: u8 = 6;

/// Longest a queue of our own may take to answer before another one takes its place,
const OWN: Duration = Duration::from_secs(3);
/// and a shared one before it is asked again on a new channel.
const SHARED: Duration = Duration::from_secs(5);

/// A declaration or subscription the broker did not grant.
#[derive(Debug)]
pub(crate) struct SetupFault {
    /// Why.
    pub(crate) end: End,
    /// What it was about, such as `queue topic-a`.
    pub(crate) entity: String,
    /// The properties it was asked for with.
    pub(crate) asked: Option<String>,
    /// A private queue cannot be had under its name.
    pub(crate) name_is_taken: bool,
}

impl SetupFault {
    fn about(end: End, entity: String) -> Self {
        Self {
            end,
            entity,
            asked: None,
            name_is_taken: false,
        }
    }

    /// A fault about a queue.
    pub(crate) fn queue(error: AmqpError, name: &str) -> Self {
        Self::about(End::Closed(error), format!("queue {name}"))
    }

    /// The broker left a question unanswered.
    pub(crate) fn silent() -> Self {
        Self::about(End::Silent, "channel".to_owned())
    }

    /// A queue does not answer, as one whose leader is on a node that hangs. Its connection may be well.
    pub(crate) fn stuck(consumer: &ConsumerSpec) -> Self {
        let entity = format!("queue {}", consumer.queue.name);
        let end = End::Dead(format!("{entity} does not answer"));
        let mut fault = Self::about(end, entity);
        fault.name_is_taken = consumer.private;
        fault
    }

    /// Somebody else consumes the private queue of this name.
    pub(crate) fn taken(name: &str) -> Self {
        let mut fault = Self::about(
            End::Dead(format!("queue {name} is another process's")),
            format!("queue {name}"),
        );
        fault.name_is_taken = true;
        fault
    }

    fn asked(mut self, asked: String) -> Self {
        self.asked = Some(asked);
        self
    }
}

impl From<AmqpError> for SetupFault {
    fn from(error: AmqpError) -> Self {
        Self::about(End::Closed(error), "channel".to_owned())
    }
}

/// What was declared.
pub(crate) struct Declared {
    /// The channel to consume on, with its prefetch set.
    pub(crate) channel: Channel,
    /// Consumers found on each queue.
    pub(crate) consumers: Vec<u32>,
    /// A queue that others use as well is transient.
    pub(crate) transient: bool,
}

/// Whether there is a queue of this name. Asked on a channel of its own, which the broker closes with its no.
pub(crate) async fn exists(connection: &Connection, queue: &str) -> Result<bool, AmqpError> {
    let channel = connection.open_channel().await?;
    match channel.queue_declare(&passive(queue)).await {
        Ok(_) => channel.close().await.map(|()| true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether there is an exchange of this name.
pub(crate) async fn exchange_exists(
    connection: &Connection,
    exchange: &str,
) -> Result<bool, AmqpError> {
    let declare = ExchangeDeclare {
        name: exchange,
        kind: "fanout",
        passive: true,
        ..ExchangeDeclare::default()
    };
    let channel = connection.open_channel().await?;
    match channel.exchange_declare(&declare).await {
        Ok(()) => channel.close().await.map(|()| true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the broker answers about a queue, if it does in time: of those of our own there can be others, so they are waited
/// for less.
pub(crate) async fn in_time<T>(
    consumer: &ConsumerSpec,
    answer: impl Future<Output = T>,
) -> Result<T, SetupFault> {
    let limit = if consumer.private { OWN } else { SHARED };
    let answer = timeout(limit, answer).await;
    answer.map_err(|_| SetupFault::stuck(consumer))
}

/// Which queues of a subscription are missing.
pub(crate) async fn missing(
    connection: &Connection,
    spec: &SubscriptionSpec,
) -> Result<Vec<bool>, SetupFault> {
    let mut missing = Vec::with_capacity(spec.consumers.len());
    for consumer in &spec.consumers {
        let name = &consumer.queue.name;
        missing.push(match timeout(OWN, exists(connection, name)).await {
            // It is there, and shows that it hangs when it is declared.
            Err(_) => false,
            Ok(Ok(there)) => !there,
            // What else is wrong with it shows when it is declared.
            Ok(Err(error)) if error.kind() == AmqpKind::ChannelClosed => false,
            Ok(Err(error)) => return Err(SetupFault::queue(error, name)),
        });
    }
    Ok(missing)
}

/// Declares everything of a subscription.
pub(crate) async fn declare_all(
    connection: &Connection,
    spec: &SubscriptionSpec,
    facts: &Facts,
) -> Result<Declared, SetupFault> {
    let mut wanted: Vec<Wanted<'_>> = spec.consumers.iter().map(Wanted::new).collect();
    // Each mismatch costs the channel, and changes what is wanted; that can happen a few times per consumer.
    loop {
        let channel = connection.open_channel().await?;
        if let Some(count) = spec.prefetch {
            channel.qos(count).await?;
        }
        let mut consumers = Vec::with_capacity(wanted.len());
        for consumer in &mut wanted {
            match consumer.declare(&channel, facts).await? {
                Some(count) => consumers.push(count),
                None => break,
            }
        }
        if consumers.len() == wanted.len() {
            return Ok(Declared {
                channel,
                consumers,
                transient: wanted.iter().any(Wanted::is_transient),
            });
        }
    }
}

/// How a queue is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// With these properties.
    Declared { durable: bool },
    /// As it is.
    Found,
}

/// A consumer's declarations as they are asked for now, after what was found on the broker.
struct Wanted<'a> {
    spec: &'a ConsumerSpec,
    /// One for each binding.
    exchanges: Vec<Variant>,
    queue: Form,
    changes: u8,
    /// What the broker said about the queue as it was asked for first.
    mismatch: Option<AmqpError>,
}

impl<'a> Wanted<'a> {
    fn new(spec: &'a ConsumerSpec) -> Self {
        let durable = spec.queue.durable;
        Self {
            spec,
            exchanges: vec![Variant::default(); spec.bindings.len()],
            queue: if spec.queue.adopt_first {
                Form::Found
            } else {
                Form::Declared { durable }
            },
            changes: 0,
            mismatch: None,
        }
    }

    fn is_transient(&self) -> bool {
        !self.spec.private && self.queue == (Form::Declared { durable: false })
    }

    /// Exchanges, queue, bindings; tells how many consumers the queue has. `None` if something else is wanted now, on a
    /// new channel.
    async fn declare(
        &mut self,
        channel: &Channel,
        facts: &Facts,
    ) -> Result<Option<u32>, SetupFault> {
        let bindings = &self.spec.bindings;
        for (number, (exchange, _)) in bindings.iter().enumerate() {
            let again = bindings[..number]
                .iter()
                .any(|(other, _)| other == exchange);
            if !again && !self.declare_exchange(channel, number, facts).await? {
                return Ok(None);
            }
        }
        let Some(consumers) = self.declare_queue(channel, facts).await? else {
            return Ok(None);
        };
        for (exchange, key) in bindings {
            let queue = &self.spec.queue.name;
            let none = Table::new();
            let bound = channel.queue_bind(queue, &exchange.name, key, &none);
            let bound = in_time(self.spec, bound).await?;
            bound.map_err(|error| SetupFault::queue(error, queue))?;
        }
        Ok(Some(consumers))
    }

    async fn declare_exchange(
        &mut self,
        channel: &Channel,
        number: usize,
        facts: &Facts,
    ) -> Result<bool, SetupFault> {
        let (exchange, _) = &self.spec.bindings[number];
        let variant = &mut self.exchanges[number];
        match variant.declare(channel, exchange, facts).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                let classic = !self.spec.queue.is_quorum() && !self.spec.queue.is_stream();
                let allowed = classic && !self.spec.private && !facts.transient_refused();
                if allowed && variant.is_less_durable(exchange) {
                    // Wire: the reference then declares the queue non-durable too, which it must be for both.
                    self.queue = Form::Declared { durable: false };
                }
                Ok(false)
            }
            Err(error) => {
                let entity = format!("exchange {}", exchange.name);
                Err(SetupFault::about(End::Closed(error), entity)
                    .asked(asked_of_exchange(exchange)))
            }
        }
    }

    async fn declare_queue(
        &mut self,
        channel: &Channel,
        facts: &Facts,
    ) -> Result<Option<u32>, SetupFault> {
        let queue = &self.spec.queue;
        let declare = match self.queue {
            Form::Found => passive(&queue.name),
            Form::Declared { durable } => QueueDeclare {
                name: &queue.name,
                durable,
                auto_delete: queue.auto_delete,
                arguments: table(&queue.arguments),
                ..QueueDeclare::default()
            },
        };
        let error = match in_time(self.spec, channel.queue_declare(&declare)).await? {
            Ok(info) => {
                self.tell(facts);
                return Ok(Some(info.consumers));
            }
            Err(error) => error,
        };
        self.changes += 1;
        let may_change = self.changes <= MOST_CHANGES;
        match self.queue {
            Form::Declared { .. } if may_change && is_mismatch(&error) => {
                self.queue = Form::Found;
                self.mismatch.get_or_insert(error);
                return Ok(None);
            }
            // Gone since, or asked for before it is made.
            Form::Found if may_change && is_missing(&error) => {
                let durable = queue.durable;
                self.queue = Form::Declared { durable };
                return Ok(None);
            }
            Form::Declared { durable: false } => drop(facts.learn(&error)),
            _ => {}
        }
        let cannot_be_had = is_missing(&error) || crate::error::is_locked(&error);
        let mut fault = SetupFault::queue(error, &queue.name).asked(asked_of_queue(queue));
        fault.name_is_taken = self.spec.private && cannot_be_had;
        Err(fault)
    }

    /// Says once that a queue is not as the options ask for.
    fn tell(&self, facts: &Facts) {
        let queue = &self.spec.queue;
        let (Form::Found, Some(error)) = (self.queue, &self.mismatch) else {
            return;
        };
        if facts.first_time(format!("queue {}", queue.name)) {
            tracing::warn!(
                queue = queue.name,
                asked = asked_of_queue(queue),
                broker = error.text(),
                "queue exists with other properties and is used as it is"
            );
        }
    }
}

/// Which properties of an exchange are asked for: those of the options, then others, until they are what exists.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variant {
    number: u8,
    mismatch: Option<AmqpError>,
}

impl Variant {
    /// Durable or not, auto-delete or not. The type is never another one: messages would go elsewhere.
    const COUNT: u8 = 4;

    fn durable(&self, exchange: &ExchangeSpec) -> bool {
        exchange.durable != (self.number % 2 == 1)
    }

    fn auto_delete(&self, exchange: &ExchangeSpec) -> bool {
        exchange.auto_delete != (self.number >= 2)
    }

    fn is_less_durable(&self, exchange: &ExchangeSpec) -> bool {
        exchange.durable && !self.durable(exchange)
    }

    /// Declares the exchange. False if it has other properties: the channel is closed, and the next attempt asks for
    /// others.
    ///
    /// # Errors
    /// What the broker says; when no variant does, what it said to the first.
    pub(crate) async fn declare(
        &mut self,
        channel: &Channel,
        exchange: &ExchangeSpec,
        facts: &Facts,
    ) -> Result<bool, AmqpError> {
        let declare = ExchangeDeclare {
            name: &exchange.name,
            kind: exchange.kind.as_str(),
            durable: self.durable(exchange),
            auto_delete: self.auto_delete(exchange),
            ..ExchangeDeclare::default()
        };
        match channel.exchange_declare(&declare).await {
            Ok(()) => {
                if let Some(error) = &self.mismatch
                    && facts.first_time(format!("exchange {}", exchange.name))
                {
                    tracing::warn!(
                        exchange = exchange.name,
                        asked = asked_of_exchange(exchange),
                        broker = error.text(),
                        "exchange exists with other properties and is used as it is"
                    );
                }
                Ok(true)
            }
            Err(error) if is_mismatch(&error) => {
                let first = self.mismatch.get_or_insert(error).clone();
                self.number += 1;
                if self.number < Self::COUNT {
                    return Ok(false);
                }
                *self = Self::default();
                Err(first)
            }
            Err(error) => Err(error),
        }
    }
}

fn asked_of_exchange(exchange: &ExchangeSpec) -> String {
    format!(
        "type={} durable={} auto_delete={}",
        exchange.kind.as_str(),
        exchange.durable,
        exchange.auto_delete
    )
}

fn asked_of_queue(queue: &QueueSpec) -> String {
    let mut text = format!(
        "durable={} auto_delete={}",
        queue.durable, queue.auto_delete
    );
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Number(number) => number.to_string(),
            Argument::Text(text) => text.clone(),
            Argument::Flag(flag) => flag.to_string(),
        };
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// Asks for a queue as it is.
pub(crate) fn passive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        name: queue,
        passive: true,
        ..QueueDeclare::default()
    }
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
