//! What is declared on the broker, and how: a pure function from options and subscription to
//! exchanges, queues, bindings and consumers, in the order they are written (spec section 4).
//!
//! Refuses to know the connection, or where the random part of a name comes from; of the broker it is
//! told one thing, whether transient queues are allowed.

use std::borrow::Cow;

use oslo_messaging_core::driver::{Notifications, Prefetch, Subscription};
use oslo_messaging_core::error::{Error, ErrorKind, Result};

use crate::address::{Exchange, check_name, fanout_exchange, server_queue};
use crate::config::{PrivateQueues, RabbitConfig, Wire};

mod arguments;

use self::arguments::{consumer_arguments, stream_arguments, topic_arguments, transient_arguments};

/// What decides about the form of things.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout<'a> {
    /// The options.
    pub(crate) config: &'a RabbitConfig,
    /// The broker refuses transient queues (RabbitMQ 4.3).
    pub(crate) transient_refused: bool,
}

impl<'a> Layout<'a> {
    /// What the options ask for on a broker that takes everything.
    #[cfg(test)]
    pub(crate) fn of(config: &'a RabbitConfig) -> Self {
        Self {
            config,
            transient_refused: false,
        }
    }

    /// Where the broker refuses the transient queues the options ask for, shared queues are quorum queues, as every
    /// Python peer must have them there.
    fn quorum_instead(self) -> bool {
        self.transient_refused && !self.config.amqp_durable_queues
    }

    fn topics_quorum(self) -> bool {
        self.config.rabbit_quorum_queue || self.quorum_instead()
    }

    /// Whether topic queues and exchanges survive a restart of the broker.
    pub(crate) fn topics_durable(self) -> bool {
        self.config.amqp_durable_queues || self.topics_quorum()
    }

    /// Whether private queues survive a restart of the broker.
    pub(crate) fn private_durable(self) -> bool {
        self.config.rabbit_transient_quorum_queue
            || self.config.private_queues == PrivateQueues::Classic
    }

    /// Whether they are classic queues that do: a quorum queue keeps every message, a transient one is lost itself.
    pub(crate) fn private_classic_durable(self) -> bool {
        self.private_durable() && !self.config.rabbit_transient_quorum_queue
    }

    /// Wire: peers declare this exchange too, so `private_queues` does not matter (spec 4.2).
    fn fanout_exchange_durable(self) -> bool {
        self.config.rabbit_transient_quorum_queue
            || self.config.rabbit_stream_fanout
            || self.transient_refused
    }
}

/// A value in an arguments table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// A truth.
    Flag(bool),
}

/// An arguments table, in the order it is written.
pub(crate) type Arguments = Vec<(&'static str, Argument)>;

/// Type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeType {
    /// Routes by key.
    Topic,
    /// Copies to all.
    Fanout,
    /// Routes by key, whole.
    Direct,
}

impl ExchangeType {
    /// As `exchange.declare` writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
            Self::Direct => "direct",
        }
    }
}

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExchangeSpec {
    /// Name.
    pub(crate) name: String,
    /// Type.
    pub(crate) kind: ExchangeType,
    /// Survives a restart of the broker.
    pub(crate) durable: bool,
    /// Goes with its last queue.
    pub(crate) auto_delete: bool,
}

/// A queue to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueSpec {
    /// Name.
    pub(crate) name: String,
    /// Survives a restart of the broker.
    pub(crate) durable: bool,
    /// Goes with its last consumer.
    pub(crate) auto_delete: bool,
    /// Arguments.
    pub(crate) arguments: Arguments,
    /// Used as it is if it exists, whatever its form; declared only if it does not.
    pub(crate) adopt_first: bool,
}

impl QueueSpec {
    /// The type its arguments ask for.
    fn kind(&self) -> Option<&str> {
        self.arguments.iter().find_map(|(name, value)| match value {
            Argument::Text(kind) if *name == "x-queue-type" => Some(kind.as_str()),
            _ => None,
        })
    }

    /// Whether it is to be a quorum queue, which is always durable.
    pub(crate) fn is_quorum(&self) -> bool {
        self.kind() == Some("quorum")
    }

    /// Whether it is a stream, of which every consumer gets everything.
    pub(crate) fn is_stream(&self) -> bool {
        self.kind() == Some("stream")
    }
}

/// A queue with all that is needed to consume it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerSpec {
    /// Exchanges to declare and bind to, each with its key; none for the default exchange, several for a pool.
    pub(crate) bindings: Vec<(ExchangeSpec, String)>,
    /// The queue.
    pub(crate) queue: QueueSpec,
    /// Consumer tag.
    pub(crate) tag: Cow<'static, str>,
    /// Arguments of `basic.consume`.
    pub(crate) arguments: Arguments,
    /// No peer ever declares or consumes it: its name and form are our own choice.
    pub(crate) private: bool,
    /// Only this process consumes it.
    pub(crate) alone: bool,
    /// Deleted by its owner on an orderly close (spec 4.7).
    pub(crate) delete_on_close: bool,
}

/// A subscription as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriptionSpec {
    /// `basic.qos` to send first.
    pub(crate) prefetch: Option<u16>,
    /// Queues, in the order they are declared, and consumed after all are declared.
    pub(crate) consumers: Vec<ConsumerSpec>,
    /// The name others reach the subscription by.
    pub(crate) address: Option<String>,
}

/// The random or counted part of the names of one subscription, `<32 hex>` or `<host>:<process>:<n>`.
pub(crate) type Suffix<'a> = &'a str;

/// What a subscription declares and consumes.
///
/// # Errors
/// [`ErrorKind::InvalidTarget`] for names the bus cannot carry, [`ErrorKind::Unsupported`] for a
/// subscription this driver does not know.
pub(crate) fn subscription(
    layout: Layout<'_>,
    control_exchange: &str,
    what: &Subscription,
    suffix: Suffix<'_>,
) -> Result<SubscriptionSpec> {
    let spec = match what {
        Subscription::Rpc {
            exchange,
            topic,
            server,
            prefetch,
        } if layout.config.wire == Wire::Plain => {
            // Servers of the plain RPC have no names.
            let _ = server;
            plain_server(layout, exchange.as_deref(), topic, *prefetch)
        }
        Subscription::Rpc {
            exchange,
            topic,
            server,
            prefetch,
        } => {
            let exchange = exchange.as_deref().unwrap_or(control_exchange);
            rpc_server(layout, exchange, topic, server, *prefetch, suffix)
        }
        Subscription::Replies => replies(layout, suffix),
        Subscription::Notifications(what) => notifications(layout, control_exchange, what)?,
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the RabbitMQ driver cannot subscribe to {other:?}"),
            ));
        }
    };
    for consumer in &spec.consumers {
        check_name(&consumer.queue.name)?;
        for (exchange, key) in &consumer.bindings {
            check_name(&exchange.name)?;
            check_name(key)?;
        }
    }
    Ok(spec)
}

fn rpc_server(
    layout: Layout<'_>,
    exchange: &str,
    topic: &str,
    server: &str,
    prefetch: Prefetch,
    suffix: Suffix<'_>,
) -> SubscriptionSpec {
    SubscriptionSpec {
        prefetch: prefetch_count(layout, prefetch),
        consumers: vec![
            topic_consumer(layout, exchange, topic, topic, "1"),
            ConsumerSpec {
                alone: true,
                ..topic_consumer(
                    layout,
                    exchange,
                    &server_queue(topic, server),
                    &server_queue(topic, server),
                    "2",
                )
            },
            fanout_consumer(layout, topic, suffix),
        ],
        address: None,
    }
}

/// The one queue of a topic of the plain RPC, which its servers share: exchange, queue and key are called like the topic, and
/// none of them is durable or goes by itself.
fn plain_server(
    layout: Layout<'_>,
    exchange: Option<&str>,
    topic: &str,
    prefetch: Prefetch,
) -> SubscriptionSpec {
    let consumer = ConsumerSpec {
        bindings: vec![(
            topic_exchange(layout, exchange.unwrap_or(topic)),
            topic.to_owned(),
        )],
        queue: QueueSpec {
            name: topic.to_owned(),
            // A broker that refuses transient queues has whatever form its peers could have.
            durable: layout.transient_refused,
            auto_delete: false,
            arguments: Vec::new(),
            adopt_first: layout.transient_refused,
        },
        tag: Cow::Borrowed("1"),
        arguments: Vec::new(),
        private: false,
        alone: false,
        delete_on_close: false,
    };
    SubscriptionSpec {
        prefetch: prefetch_count(layout, prefetch),
        consumers: vec![consumer],
        address: None,
    }
}

fn prefetch_count(layout: Layout<'_>, prefetch: Prefetch) -> Option<u16> {
    match (layout.config.rabbit_qos_prefetch_count, prefetch) {
        (0, Prefetch::Unlimited) => None,
        (0, Prefetch::Limited(count)) => Some(count.get()),
        (count, _) => Some(count),
    }
}

/// A queue for each topic and priority, or one of the pool with a binding for each (spec 16.5, parity 2.1).
fn notifications(
    layout: Layout<'_>,
    control_exchange: &str,
    what: &Notifications,
) -> Result<SubscriptionSpec> {
    if what.since.is_some() {
        let text = "RabbitMQ's queues keep no history; leave out where to begin";
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let mut consumers: Vec<ConsumerSpec> = Vec::new();
    for (number, (exchange, topic)) in what.sources.iter().enumerate() {
        let exchange = exchange.as_deref().unwrap_or(control_exchange);
        let queue = what.pool.as_ref().map_or(topic, |pool| &pool.name);
        let tag = (number + 1).to_string();
        let consumer = topic_consumer(layout, exchange, queue, topic, tag);
        match consumers
            .iter_mut()
            .find(|other| other.queue.name == *queue)
        {
            Some(other) => other.bindings.extend(consumer.bindings),
            None => consumers.push(consumer),
        }
    }
    if what.pool.as_ref().is_some_and(|pool| pool.temporary) {
        for consumer in &mut consumers {
            consumer.queue.durable = layout.private_durable();
            consumer.queue.auto_delete = false;
            consumer.queue.arguments = transient_arguments(layout.config);
            consumer.queue.adopt_first = false;
            consumer.private = true;
            consumer.alone = true;
            consumer.delete_on_close = true;
        }
    }
    Ok(SubscriptionSpec {
        prefetch: prefetch_count(layout, what.prefetch),
        consumers,
        address: None,
    })
}

/// What a notifier declares before it first sends to a topic and priority, so that its messages wait for a listener
/// (spec 4.1).
pub(crate) fn published_queue(layout: Layout<'_>, exchange: &str, topic: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        prefetch: None,
        consumers: vec![topic_consumer(layout, exchange, topic, topic, "1")],
        address: None,
    }
}

fn replies(layout: Layout<'_>, suffix: Suffix<'_>) -> SubscriptionSpec {
    let config = layout.config;
    let name = format!("reply_{suffix}");
    // Where servers of Kilo and Liberty publish; later ones use the default exchange.
    let exchange = config.reply_exchange.then(|| ExchangeSpec {
        name: name.clone(),
        kind: ExchangeType::Direct,
        durable: false,
        auto_delete: true,
    });
    let consumer = ConsumerSpec {
        bindings: exchange
            .map(|exchange| (exchange, name.clone()))
            .into_iter()
            .collect(),
        queue: QueueSpec {
            name: name.clone(),
            durable: layout.private_durable(),
            auto_delete: false,
            arguments: transient_arguments(config),
            adopt_first: false,
        },
        tag: Cow::Borrowed("1"),
        arguments: consumer_arguments(config),
        private: true,
        alone: true,
        delete_on_close: false,
    };
    let prefetch = Some(config.rabbit_qos_prefetch_count).filter(|count| *count > 0);
    SubscriptionSpec {
        prefetch,
        consumers: vec![consumer],
        address: Some(name),
    }
}

/// A queue of a topic exchange: topic, server, notification or pool.
pub(crate) fn topic_consumer(
    layout: Layout<'_>,
    exchange: &str,
    queue: &str,
    key: &str,
    tag: impl Into<Cow<'static, str>>,
) -> ConsumerSpec {
    ConsumerSpec {
        bindings: vec![(topic_exchange(layout, exchange), key.to_owned())],
        queue: QueueSpec {
            name: queue.to_owned(),
            durable: layout.topics_durable(),
            auto_delete: layout.config.amqp_auto_delete && !layout.quorum_instead(),
            arguments: topic_arguments(layout),
            adopt_first: layout.quorum_instead(),
        },
        tag: tag.into(),
        arguments: consumer_arguments(layout.config),
        private: false,
        alone: false,
        delete_on_close: false,
    }
}

fn fanout_consumer(layout: Layout<'_>, topic: &str, suffix: Suffix<'_>) -> ConsumerSpec {
    let config = layout.config;
    let exchange = fanout_exchange(topic);
    let stream = config.rabbit_stream_fanout;
    let queue = QueueSpec {
        name: if stream {
            exchange.clone()
        } else {
            format!("{exchange}_{suffix}")
        },
        durable: layout.private_durable() || stream,
        auto_delete: false,
        arguments: if stream {
            stream_arguments(config)
        } else {
            transient_arguments(config)
        },
        adopt_first: false,
    };
    let arguments = if stream {
        // The reference asks for `last`, which runs the last casts before the start a second time (quirk 18).
        let start = match config.private_queues {
            PrivateQueues::Reference => "last",
            PrivateQueues::Classic => "next",
        };
        vec![("x-stream-offset", Argument::Text(start.to_owned()))]
    } else {
        consumer_arguments(config)
    };
    ConsumerSpec {
        bindings: vec![(fanout_exchange_spec(layout, exchange), topic.to_owned())],
        queue,
        tag: Cow::Borrowed("3"),
        arguments,
        private: !stream,
        alone: !stream,
        delete_on_close: !stream && !config.use_queue_manager,
    }
}

/// The exchange a publisher declares before its first publish to it; none for the default exchange.
pub(crate) fn published_exchange(
    layout: Layout<'_>,
    exchange: &Exchange<'_>,
) -> Option<ExchangeSpec> {
    match exchange {
        Exchange::Default | Exchange::Direct(_) => None,
        Exchange::Topic(name) => Some(topic_exchange(layout, name)),
        Exchange::Fanout(name) => Some(fanout_exchange_spec(layout, name.clone().into_owned())),
    }
}

fn topic_exchange(layout: Layout<'_>, name: &str) -> ExchangeSpec {
    let plain = layout.config.wire == Wire::Plain;
    ExchangeSpec {
        name: name.to_owned(),
        kind: ExchangeType::Topic,
        durable: layout.topics_durable() && !plain,
        auto_delete: layout.config.amqp_auto_delete && !plain,
    }
}

fn fanout_exchange_spec(layout: Layout<'_>, name: String) -> ExchangeSpec {
    ExchangeSpec {
        name,
        kind: ExchangeType::Fanout,
        durable: layout.fanout_exchange_durable(),
        auto_delete: true,
    }
}

#[cfg(test)]
mod tests;
