//! Taking away from the broker what subscriptions declared under names that are known beforehand.
//!
//! Services never do this: their queues outlive them so that nothing is lost. It is for measurements and tests, which make up names of
//! their own and would otherwise leave a queue with every run.

use std::collections::BTreeSet;

use oslo_messaging_core::driver::Subscription;
use oslo_messaging_core::error::{Error, Result};

use crate::config::RabbitConfig;
use crate::connection::Session;
use crate::error::{Place, is_mismatch, listen_error};
use crate::facts::Facts;
use crate::topology::subscription;

/// What is to go, each once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Doomed {
    queues: BTreeSet<String>,
    exchanges: BTreeSet<String>,
}

impl Doomed {
    /// The queues of these subscriptions whose names are no secret of theirs, and the exchanges they are bound to.
    ///
    /// # Errors
    /// Names the bus cannot carry.
    pub(crate) fn of(
        config: &RabbitConfig,
        control_exchange: &str,
        what: &[Subscription],
    ) -> Result<Self> {
        let facts = Facts::default();
        let mut doomed = Self::default();
        for what in what {
            let spec = subscription(facts.layout(config), control_exchange, what, "")?;
            for consumer in spec.consumers {
                if !consumer.private {
                    doomed.queues.insert(consumer.queue.name);
                }
                let exchanges = consumer.bindings.into_iter();
                doomed
                    .exchanges
                    .extend(exchanges.map(|(exchange, _)| exchange.name));
            }
        }
        Ok(doomed)
    }

    /// Deletes all that the broker lets go of, queues first; what is not there is as good as gone.
    ///
    /// # Errors
    /// The first refusal; an exchange to which others are bound is theirs, and none. A lost connection ends it.
    pub(crate) async fn delete(&self, session: &Session, vhost: &str) -> Result<()> {
        let refused = |fault, entity: &str| {
            let place = Place {
                host: &session.host,
                vhost,
                entity,
            };
            listen_error(fault, place)
        };
        let open = async || {
            let opened = session.connection.open_channel().await;
            opened.map_err(|fault| refused(fault, "a channel"))
        };
        let mut channel = open().await?;
        let mut refusal: Option<Error> = None;
        for name in &self.queues {
            if let Err(fault) = channel.queue_delete(name, false, false).await {
                refusal.get_or_insert_with(|| refused(fault, &format!("queue {name}")));
                // A refusal closes the channel.
                channel = open().await?;
            }
        }
        for name in &self.exchanges {
            if let Err(fault) = channel.exchange_delete(name, true).await {
                if !is_mismatch(&fault) {
                    refusal.get_or_insert_with(|| refused(fault, &format!("exchange {name}")));
                }
                channel = open().await?;
            }
        }
        // It has no more to say, and goes with the connection at the latest.
        let _ = channel.close().await;
        refusal.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use oslo_messaging_core::driver::{Notifications, Prefetch};

    use super::*;

    #[test]
    fn what_is_named_beforehand_goes_and_private_queues_do_not() {
        let server = |name: &str| Subscription::Rpc {
            exchange: Some("run".to_owned()),
            topic: "topic".to_owned(),
            server: name.to_owned(),
            prefetch: Prefetch::Unlimited,
        };
        let heard = Notifications::new([(None, "notes.info".to_owned())]);
        let what = [
            server("a"),
            server("b"),
            Subscription::Notifications(heard),
            Subscription::Replies,
        ];
        let doomed = Doomed::of(&RabbitConfig::default(), "openstack", &what).unwrap();
        let names = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&doomed.queues),
            ["notes.info", "topic", "topic.a", "topic.b"]
        );
        assert_eq!(
            names(&doomed.exchanges),
            ["openstack", "run", "topic_fanout"]
        );
    }
}
