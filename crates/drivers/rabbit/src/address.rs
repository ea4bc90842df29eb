//! Where a message goes on the bus: a pure function from [`Destination`] to exchange and routing key
//! (spec sections 1 and 5).

use std::borrow::Cow;

use oslo_messaging_core::driver::Destination;
use oslo_messaging_core::error::{Error, ErrorKind, Result};

/// AMQP's short strings end here.
const MAX_NAME: usize = 255;

/// The exchange a message is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exchange<'a> {
    /// The nameless one that routes by queue name; never declared.
    Default,
    /// A topic exchange: control exchange or target's own.
    Topic(Cow<'a, str>),
    /// The fanout exchange of a topic.
    Fanout(Cow<'a, str>),
    /// The reply exchange of one call of the plain RPC, which the caller declares.
    Direct(Cow<'a, str>),
}

impl Exchange<'_> {
    /// Its name on the bus.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Default => "",
            Self::Topic(name) | Self::Fanout(name) | Self::Direct(name) => name,
        }
    }
}

/// Exchange and routing key of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    /// Where it is published.
    pub(crate) exchange: Exchange<'a>,
    /// By what it is routed.
    pub(crate) routing_key: Cow<'a, str>,
}

/// The address of a destination.
///
/// # Errors
/// [`ErrorKind::InvalidTarget`] for names the bus cannot carry, [`ErrorKind::Unsupported`] for a
/// destination this driver does not know.
pub(crate) fn address<'a>(
    control_exchange: &'a str,
    destination: Destination<'a>,
) -> Result<Address<'a>> {
    let address = match destination {
        Destination::Topic { exchange, topic } => Address {
            exchange: Exchange::Topic(Cow::Borrowed(exchange.unwrap_or(control_exchange))),
            routing_key: Cow::Borrowed(topic),
        },
        Destination::Server {
            exchange,
            topic,
            server,
        } => Address {
            exchange: Exchange::Topic(Cow::Borrowed(exchange.unwrap_or(control_exchange))),
            routing_key: Cow::Owned(server_queue(topic, server)),
        },
        Destination::Fanout { topic } => Address {
            exchange: Exchange::Fanout(Cow::Owned(fanout_exchange(topic))),
            routing_key: Cow::Borrowed(""),
        },
        Destination::Reply { queue } => Address {
            exchange: Exchange::Default,
            routing_key: Cow::Borrowed(queue),
        },
        Destination::Notification { exchange, topic } => Address {
            exchange: Exchange::Topic(Cow::Borrowed(exchange.unwrap_or(control_exchange))),
            routing_key: Cow::Borrowed(topic),
        },
        other => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("the RabbitMQ driver has no way to {other}"),
            ));
        }
    };
    check_name(address.exchange.name())?;
    check_name(&address.routing_key)?;
    Ok(address)
}

/// The address of a destination of the plain RPC: a topic exchange for each topic, a direct one for each call.
///
/// # Errors
/// As [`address`].
pub(crate) fn plain_address<'a>(
    control_exchange: &'a str,
    destination: Destination<'a>,
) -> Result<Address<'a>> {
    match destination {
        Destination::Topic { exchange, topic } => {
            let exchange = Some(exchange.unwrap_or(topic));
            address(control_exchange, Destination::Topic { exchange, topic })
        }
        Destination::Reply { queue } => {
            check_name(queue)?;
            Ok(Address {
                exchange: Exchange::Direct(Cow::Borrowed(queue)),
                routing_key: Cow::Borrowed(queue),
            })
        }
        other => address(control_exchange, other),
    }
}

/// Queue and routing key of one server of a topic.
pub(crate) fn server_queue(topic: &str, server: &str) -> String {
    format!("{topic}.{server}")
}

/// Fanout exchange of a topic; not scoped by the topic's exchange (quirk 4).
pub(crate) fn fanout_exchange(topic: &str) -> String {
    format!("{topic}_fanout")
}

/// Refuses names longer than AMQP can write, before anything is sent.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() <= MAX_NAME {
        return Ok(());
    }
    let head: String = name.chars().take(40).collect();
    let text = format!(
        "the name {head:?}… has {} bytes, AMQP carries {MAX_NAME}; shorten topic, server or exchange",
        name.len()
    );
    Err(Error::new(ErrorKind::InvalidTarget, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(destination: Destination<'_>) -> (String, String) {
        let address = address("openstack", destination).unwrap();
        (
            address.exchange.name().to_owned(),
            address.routing_key.into_owned(),
        )
    }

    #[test]
    fn destinations_map_to_exchange_and_routing_key() {
        let table = [
            (
                Destination::Topic {
                    exchange: None,
                    topic: "t",
                },
                "openstack",
                "t",
            ),
            (
                Destination::Topic {
                    exchange: Some("nova"),
                    topic: "t",
                },
                "nova",
                "t",
            ),
            (
                Destination::Server {
                    exchange: None,
                    topic: "t",
                    server: "s",
                },
                "openstack",
                "t.s",
            ),
            (
                Destination::Server {
                    exchange: Some("nova"),
                    topic: "t",
                    server: "s",
                },
                "nova",
                "t.s",
            ),
            (Destination::Fanout { topic: "t" }, "t_fanout", ""),
            (Destination::Reply { queue: "reply_1" }, "", "reply_1"),
            (
                Destination::Notification {
                    exchange: None,
                    topic: "notifications.info",
                },
                "openstack",
                "notifications.info",
            ),
        ];
        for (destination, exchange, key) in table {
            assert_eq!(
                parts(destination),
                (exchange.to_owned(), key.to_owned()),
                "{destination:?}"
            );
        }
    }

    #[test]
    fn the_plain_rpc_has_an_exchange_for_each_topic_and_for_each_call() {
        let plain = |destination| {
            let address = plain_address("openstack", destination).unwrap();
            let exchange = address.exchange.clone();
            (
                exchange.name().to_owned(),
                address.routing_key.into_owned(),
                exchange,
            )
        };
        let topic = |exchange| Destination::Topic {
            exchange,
            topic: "t",
        };
        let (exchange, key, kind) = plain(topic(None));
        assert_eq!((exchange.as_str(), key.as_str()), ("t", "t"));
        assert!(matches!(kind, Exchange::Topic(_)));
        assert_eq!(plain(topic(Some("nova"))).0, "nova");
        let (exchange, key, kind) = plain(Destination::Reply { queue: "5f" });
        assert_eq!((exchange.as_str(), key.as_str()), ("5f", "5f"));
        assert!(matches!(kind, Exchange::Direct(_)));
    }

    #[test]
    fn a_name_beyond_255_bytes_is_an_invalid_target() {
        let topic = "é".repeat(128);
        let error = address(
            "openstack",
            Destination::Topic {
                exchange: None,
                topic: &topic,
            },
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTarget);
        assert!(error.to_string().contains("256 bytes"), "{error}");
        let topic = "t".repeat(250);
        assert!(
            address(
                "openstack",
                Destination::Topic {
                    exchange: None,
                    topic: &topic
                }
            )
            .is_ok()
        );
        assert!(address("openstack", Destination::Fanout { topic: &topic }).is_err());
    }
}
