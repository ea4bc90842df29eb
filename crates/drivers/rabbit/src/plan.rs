//! What one subscription wants of the broker, as long as it lives: rebuilt before each set-up from options, names and
//! what is known of the broker, and what it lost meanwhile.

use std::sync::Arc;

use oslo_messaging_core::driver::Subscription;
use oslo_messaging_core::error::{Error, ErrorKind, Result};

use crate::config::RabbitConfig;
use crate::facts::Facts;
use crate::names::{Name, Names};
use crate::topology::{SubscriptionSpec, subscription};

/// A subscription before it has met a broker.
pub(crate) struct Plan {
    config: Arc<RabbitConfig>,
    control_exchange: String,
    what: Subscription,
    names: Names,
    name: Name,
}

impl Plan {
    /// A plan with a name of its own.
    ///
    /// # Errors
    /// When no name can be had.
    pub(crate) fn new(
        config: &Arc<RabbitConfig>,
        control_exchange: &str,
        what: Subscription,
    ) -> Result<Self> {
        let names = Names::new(config);
        Ok(Self {
            config: Arc::clone(config),
            control_exchange: control_exchange.to_owned(),
            what,
            name: names.take(None)?,
            names,
        })
    }

    /// The options.
    pub(crate) fn config(&self) -> &RabbitConfig {
        &self.config
    }

    /// Whether others wait for what arrives under its name.
    pub(crate) fn is_replies(&self) -> bool {
        matches!(self.what, Subscription::Replies)
    }

    /// Whether processes elsewhere might count to the same name.
    pub(crate) fn may_clash(&self) -> bool {
        self.name.is_counted()
    }

    /// Takes another name: this one cannot be had.
    ///
    /// # Errors
    /// When no other name can be had.
    pub(crate) fn rename(&mut self) -> Result<()> {
        self.name = self.names.take(Some(&self.name))?;
        Ok(())
    }

    /// What to declare and consume on the broker as it is known now.
    ///
    /// # Errors
    /// Names the bus cannot carry, and options this broker does not allow.
    pub(crate) fn spec(&self, facts: &Facts) -> Result<SubscriptionSpec> {
        let layout = facts.layout(&self.config);
        let spec = subscription(
            layout,
            &self.control_exchange,
            &self.what,
            self.name.as_str(),
        )?;
        let refused = spec
            .consumers
            .iter()
            .find(|consumer| consumer.private && !consumer.queue.durable);
        match refused {
            Some(consumer) if layout.transient_refused => {
                let text = "the broker refuses transient queues, and private_queues=reference asks for them; set \
                            private_queues=classic, or rabbit_transient_quorum_queue";
                Err(Error::new(ErrorKind::Listen, text)
                    .with("entity", format!("queue {}", consumer.queue.name))
                    .with("broker", &*facts.version())
                    .with("option", "private_queues"))
            }
            _ => Ok(spec),
        }
    }

    /// Whether the loss of the broker's transient queues concerns this subscription.
    pub(crate) fn needs_canary(&self, facts: &Facts) -> bool {
        let layout = facts.layout(&self.config);
        !layout.topics_durable() && !layout.transient_refused
    }
}

/// What a subscription lost since it was last in force. Kept over failed attempts, which declare part of the queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// A queue that others use as well.
    pub(crate) shared: bool,
    /// A queue of its own, with the connection.
    pub(crate) own: bool,
    /// A queue of its own alone, while the connection stayed.
    pub(crate) emptied: bool,
    /// The broker's transient queues.
    pub(crate) transient: bool,
    /// Its name: another one was taken.
    pub(crate) renamed: bool,
}

impl Losses {
    /// Whether messages the broker had confirmed may be lost, as far as this subscription has to do something about it:
    /// requests for one that waits for replies, deliveries that were not settled for a server.
    pub(crate) fn concern(self, is_replies: bool) -> bool {
        let requests = self.transient || self.shared;
        requests || (is_replies && self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(query: &[(&str, &str)]) -> Plan {
        let pairs: Vec<_> = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let config = Arc::new(RabbitConfig::from_query(&pairs).unwrap());
        Plan::new(&config, "openstack", Subscription::Replies).unwrap()
    }

    #[test]
    fn another_name_makes_another_queue() {
        let mut plan = plan(&[]);
        let facts = Facts::default();
        let address = |plan: &Plan| plan.spec(&facts).unwrap().address.unwrap();
        let first = address(&plan);
        assert_eq!(address(&plan), first);
        plan.rename().unwrap();
        assert_ne!(address(&plan), first);
    }

    #[test]
    fn a_canary_is_wanted_only_where_topic_queues_are_transient() {
        let facts = Facts::default();
        assert!(plan(&[]).needs_canary(&facts));
        assert!(plan(&[("rabbit_transient_quorum_queue", "1")]).needs_canary(&facts));
        assert!(!plan(&[("amqp_durable_queues", "1")]).needs_canary(&facts));
        assert!(!plan(&[("rabbit_quorum_queue", "1")]).needs_canary(&facts));
    }

    #[test]
    fn what_was_lost_concerns_servers_and_callers_differently() {
        let none = Losses::default();
        let cases = [
            (none, false, false),
            (
                Losses {
                    transient: true,
                    ..none
                },
                true,
                true,
            ),
            (
                Losses {
                    shared: true,
                    ..none
                },
                true,
                true,
            ),
            (Losses { own: true, ..none }, true, false),
            (
                Losses {
                    renamed: true,
                    ..none
                },
                false,
                false,
            ),
            // The requests are where they were: sent again, they could run at another server.
            (
                Losses {
                    emptied: true,
                    ..none
                },
                false,
                false,
            ),
        ];
        for (losses, replies, server) in cases {
            assert_eq!(
                (losses.concern(true), losses.concern(false)),
                (replies, server),
                "{losses:?}"
            );
        }
    }
}
