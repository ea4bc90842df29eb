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
    spare: Option<Spare>,
}

/// Another name, for a queue that is kept ready elsewhere.
struct Spare {
    name: Name,
    /// The queue is there.
    ready: bool,
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
            spare: None,
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

    /// Whether the queue of another name is kept ready.
    pub(crate) fn has_spare(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.ready)
    }

    /// What to declare to have a queue under another name ready.
    ///
    /// # Errors
    /// As [`rename`](Self::rename) and [`spec`](Self::spec).
    pub(crate) fn spare_spec(&mut self, facts: &Facts) -> Result<SubscriptionSpec> {
        let layout = facts.layout(&self.config);
        let spare = match &mut self.spare {
            Some(spare) => spare,
            none => none.insert(Spare {
                name: self.names.take(Some(&self.name))?,
                ready: false,
            }),
        };
        subscription(
            layout,
            &self.control_exchange,
            &self.what,
            spare.name.as_str(),
        )
    }

    /// Notes whether the queue of the other name is there.
    pub(crate) fn note_spare(&mut self, ready: bool) {
        if let Some(spare) = &mut self.spare {
            spare.ready = ready;
        }
    }

    /// Takes another name: this one cannot be had.
    ///
    /// # Errors
    /// When no other name can be had.
    pub(crate) fn rename(&mut self) -> Result<()> {
        self.name = match self.spare.take().filter(|spare| spare.ready) {
            Some(spare) => spare.name,
            None => self.names.take(Some(&self.name))?,
        };
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

    /// Whether it has a queue that outlives a broker with some of its messages only: transient ones are lost with it.
    pub(crate) fn may_lose_transient(&self, facts: &Facts) -> bool {
        self.is_replies() && facts.layout(&self.config).private_classic_durable()
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
    /// Perhaps what was not written to a disk: nothing tells whether the broker was restarted.
    pub(crate) perhaps: bool,
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
    fn the_queue_that_is_kept_ready_is_the_one_that_is_taken_instead() {
        let mut plan = plan(&[]);
        let facts = Facts::default();
        let address = |plan: &Plan| plan.spec(&facts).unwrap().address.unwrap();
        let first = address(&plan);
        let spare = plan.spare_spec(&facts).unwrap().address.unwrap();
        assert_eq!(plan.spare_spec(&facts).unwrap().address.unwrap(), spare);
        assert!(!plan.has_spare(), "not declared yet");
        plan.note_spare(true);
        assert!(plan.has_spare() && address(&plan) == first);
        plan.rename().unwrap();
        assert_eq!(address(&plan), spare);
        assert!(!plan.has_spare());
        let next = plan.spare_spec(&facts).unwrap().address.unwrap();
        plan.rename().unwrap();
        assert!(
            ![first, spare, next].contains(&address(&plan)),
            "it was not there"
        );
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
    fn only_a_durable_classic_reply_queue_outlives_messages_that_stood_in_it() {
        let facts = Facts::default();
        assert!(plan(&[]).may_lose_transient(&facts));
        assert!(plan(&[("rabbit_quorum_queue", "1")]).may_lose_transient(&facts));
        assert!(!plan(&[("private_queues", "reference")]).may_lose_transient(&facts));
        assert!(!plan(&[("rabbit_transient_quorum_queue", "1")]).may_lose_transient(&facts));
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
            (
                Losses {
                    perhaps: true,
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
