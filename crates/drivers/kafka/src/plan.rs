//! What a listener takes: from a subscription to Kafka topics, a group, and how much may be in hand.

use std::sync::Arc;
use std::time::SystemTime;

use oslo_messaging_core::driver::{Notifications, Prefetch, Subscription};
use oslo_messaging_core::error::{Error, ErrorKind, Result};

use crate::error::unsupported;
use crate::settings::Settings;

/// What a listener takes.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Kafka topics, each once.
    pub(crate) topics: Vec<Arc<str>>,
    /// The group: the pool, or the option `consumer_group`.
    pub(crate) group: String,
    /// It shares with the group, and the group's place outlives it.
    pub(crate) is_group: bool,
    /// Begin with what was sent then.
    pub(crate) since: Option<SystemTime>,
    /// How many messages may be in hand.
    pub(crate) limit: usize,
}

impl Plan {
    /// The plan of a subscription.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for subscriptions of RPC, [`ErrorKind::InvalidTarget`] for names that Kafka does not take.
    pub(crate) fn new(settings: &Settings, what: Subscription) -> Result<Self> {
        let Subscription::Notifications(what) = what else {
            return Err(unsupported("calls, casts and replies"));
        };
        let Notifications {
            sources,
            pool,
            prefetch,
            since,
            ..
        } = what;
        let mut topics: Vec<Arc<str>> = Vec::with_capacity(sources.len());
        // Kafka has no exchanges.
        for (_, topic) in &sources {
            let topic: Arc<str> = settings.topic(topic)?.into();
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        if topics.is_empty() {
            let text = "a listener needs at least one topic";
            return Err(Error::new(ErrorKind::InvalidTarget, text));
        }
        let most = settings.config.max_poll_records;
        let limit = match prefetch {
            Prefetch::Limited(wanted) => most.min(u32::from(wanted.get())),
            Prefetch::Unlimited => most,
        };
        let is_group = !pool.as_ref().is_some_and(|pool| pool.temporary);
        let group = pool.map_or_else(|| settings.config.consumer_group.clone(), |pool| pool.name);
        if group.is_empty() {
            let text = "a pool needs a name";
            return Err(Error::new(ErrorKind::InvalidTarget, text));
        }
        Ok(Self {
            topics,
            group,
            is_group,
            since,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    /// All topics, for errors.
    pub(crate) fn names(&self) -> String {
        self.topics.join(", ")
    }

    /// The first topic.
    pub(crate) fn first(&self) -> &str {
        self.topics.first().map_or("", |topic| topic)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use oslo_messaging_core::driver::Pool;
    use oslo_messaging_proto::url::TransportUrl;

    use super::*;
    use crate::config::KafkaConfig;

    fn settings(text: &str) -> Arc<Settings> {
        let url = TransportUrl::parse(text).unwrap();
        Settings::new(&url, KafkaConfig::from_query(url.query()).unwrap()).unwrap()
    }

    fn plan(url: &str, change: impl FnOnce(&mut Notifications)) -> Plan {
        let topics = ["n.info", "n.error", "n.info"];
        let mut what =
            Notifications::new(topics.map(|topic| (Some("x".to_owned()), topic.to_owned())));
        change(&mut what);
        Plan::new(&settings(url), Subscription::Notifications(what)).unwrap()
    }

    #[test]
    fn a_listener_takes_each_topic_once_in_its_virtual_host_whatever_the_exchange() {
        let plan = plan("kafka://b/prod", |_| {});
        assert_eq!(plan.names(), "n.info.prod, n.error.prod");
        assert_eq!(plan.first(), "n.info.prod");
    }

    #[test]
    fn the_group_is_the_pool_or_the_option() {
        assert_eq!(plan("kafka://b/", |_| {}).group, "oslo_messaging_consumer");
        assert_eq!(plan("kafka://b/?consumer_group=mine", |_| {}).group, "mine");
        let pooled = plan("kafka://b/?consumer_group=mine", |what| {
            what.pool = Some(Pool::shared("audit"));
        });
        assert!(pooled.is_group);
        assert_eq!(pooled.group, "audit");
        let own = plan("kafka://b/", |what| {
            what.pool = Some(Pool::temporary("look"))
        });
        assert!(!own.is_group);
    }

    #[test]
    fn no_more_is_in_hand_than_either_side_wants() {
        let limited = |what: &mut Notifications| {
            what.prefetch = Prefetch::Limited(NonZeroU16::new(8).unwrap());
        };
        assert_eq!(plan("kafka://b/", |_| {}).limit, 500);
        assert_eq!(plan("kafka://b/", limited).limit, 8);
        assert_eq!(plan("kafka://b/?max_poll_records=3", limited).limit, 3);
    }

    #[test]
    fn what_cannot_be_listened_to_is_refused() {
        let settings = settings("kafka://b/");
        let refused = |what| Plan::new(&settings, what).unwrap_err().kind();
        assert_eq!(refused(Subscription::Replies), ErrorKind::Unsupported);
        let none = Notifications::new([]);
        assert_eq!(
            refused(Subscription::Notifications(none)),
            ErrorKind::InvalidTarget
        );
        let bad = Notifications::new([(None, "a b".to_owned())]);
        assert_eq!(
            refused(Subscription::Notifications(bad)),
            ErrorKind::InvalidTarget
        );
    }
}
