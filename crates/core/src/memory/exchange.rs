//! All queues of a broker and the names that lead to them.
//!
//! Pure state, like [`queue`](super::queue): every method puts the deliveries it causes on a list.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use tokio::time::Instant;

use super::driver::Subscriber;
use super::hash::Quick;
use super::queue::{Handout, Message, QUEUE_LIMIT, Queue, QueueId, Tap};
use crate::driver::{Destination, Notifications, Pool, Settlement};
use crate::error::{Error, ErrorKind, Result};

/// Names to queues, queues by id.
#[derive(Default)]
pub(crate) struct Exchange {
    queues: HashMap<u64, Queue, Quick>,
    last_id: u64,
    /// Exchange, then topic.
    topics: HashMap<String, HashMap<String, Topic, Quick>, Quick>,
    fanouts: HashMap<String, Vec<QueueId>, Quick>,
    replies: HashMap<String, QueueId, Quick>,
    pools: HashMap<String, PoolQueue, Quick>,
}

struct Topic {
    shared: QueueId,
    servers: HashMap<String, QueueId, Quick>,
    /// Queues of listeners' pools, each with a copy of every notification.
    pools: Vec<QueueId>,
}

struct PoolQueue {
    id: QueueId,
    /// Goes with its last consumer.
    temporary: bool,
}

impl Exchange {
    pub(crate) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    pub(crate) fn waiting(&self, exchange: &str, topic: &str) -> usize {
        let topic = self
            .topics
            .get(exchange)
            .and_then(|topics| topics.get(topic));
        topic
            .and_then(|topic| self.queues.get(&topic.shared.0))
            .map_or(0, Queue::waiting)
    }

    /// Routes a message. `exchange` is the one in force if the destination names none.
    pub(crate) fn publish(
        &mut self,
        destination: Destination<'_>,
        exchange: &str,
        mandatory: bool,
        message: Message,
        due: &mut VecDeque<Handout>,
    ) -> Result<()> {
        let found = match destination {
            Destination::Topic {
                exchange: own,
                topic,
            } => self
                .topic(own.unwrap_or(exchange), topic)
                .map(|topic| topic.shared),
            Destination::Server {
                exchange: own,
                topic,
                server,
            } => self
                .topic(own.unwrap_or(exchange), topic)
                .and_then(|topic| topic.servers.get(server).copied()),
            Destination::Reply { queue } => self.replies.get(queue).copied(),
            Destination::Fanout { topic } => {
                return self.publish_to_all(topic, mandatory, message, due);
            }
            Destination::Notification {
                exchange: own,
                topic,
            } => {
                let exchange = own.unwrap_or(exchange);
                return self.publish_notification(exchange, topic, message, due);
            }
        };
        let Some(queue) = found.and_then(|id| self.queues.get_mut(&id.0)) else {
            return if mandatory {
                Err(undeliverable(destination))
            } else {
                Ok(())
            };
        };
        if queue.waiting() >= QUEUE_LIMIT && queue.is_full(Instant::now()) {
            return Err(full(destination));
        }
        queue.publish(message, due);
        Ok(())
    }

    /// All of the queues get it, or none.
    fn publish_to_all(
        &mut self,
        topic: &str,
        mandatory: bool,
        message: Message,
        due: &mut VecDeque<Handout>,
    ) -> Result<()> {
        let Some(ids) = self.fanouts.get(topic) else {
            return if mandatory {
                Err(undeliverable(Destination::Fanout { topic }))
            } else {
                Ok(())
            };
        };
        let now = Instant::now();
        if ids.iter().any(|id| {
            self.queues
                .get_mut(&id.0)
                .is_some_and(|queue| queue.is_full(now))
        }) {
            return Err(full(Destination::Fanout { topic }));
        }
        for id in ids {
            if let Some(queue) = self.queues.get_mut(&id.0) {
                queue.publish(message.clone(), due);
            }
        }
        Ok(())
    }

    /// The queue without a pool and those of all pools get it, or none. The former is made if need be; if nobody ever
    /// takes from it, it keeps the newest only, as every notifier fills one whether it is wanted or not (parity NL11).
    fn publish_notification(
        &mut self,
        exchange: &str,
        topic: &str,
        message: Message,
        due: &mut VecDeque<Handout>,
    ) -> Result<()> {
        let shared = self.make_topic(exchange, topic);
        let pools = match self.topic(exchange, topic) {
            Some(topic) => topic.pools.clone(),
            None => Vec::new(),
        };
        let now = Instant::now();
        let mut is_full = |id: &QueueId| {
            self.queues
                .get_mut(&id.0)
                .is_some_and(|queue| queue.is_full(now) && queue.is_consumed())
        };
        if pools.iter().chain([&shared]).any(&mut is_full) {
            let exchange = Some(exchange);
            return Err(full(Destination::Notification { exchange, topic }));
        }
        for id in pools.iter().chain([&shared]) {
            if let Some(queue) = self.queues.get_mut(&id.0) {
                if queue.waiting() >= QUEUE_LIMIT {
                    queue.drop_oldest();
                }
                queue.publish(message.clone(), due);
            }
        }
        Ok(())
    }

    /// Makes what a listener takes from, as far as it is missing, and subscribes.
    pub(crate) fn subscribe_notifications(
        &mut self,
        what: &Notifications,
        control_exchange: &str,
        prefetch: Option<NonZeroU16>,
        subscriber: &Arc<Subscriber>,
        due: &mut VecDeque<Handout>,
    ) -> Vec<Arc<Tap>> {
        let mut ids: Vec<QueueId> = Vec::new();
        for (exchange, topic) in &what.sources {
            let exchange = exchange.as_deref().unwrap_or(control_exchange);
            let shared = self.make_topic(exchange, topic);
            let id = match &what.pool {
                None => shared,
                Some(pool) => self.join_pool(pool, shared, exchange, topic),
            };
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.into_iter()
            .filter_map(|id| self.subscribe(id, prefetch, subscriber, due))
            .collect()
    }

    /// The queue of a pool, which gets this topic's notifications from now on, and a copy of those that wait.
    fn join_pool(&mut self, pool: &Pool, shared: QueueId, exchange: &str, topic: &str) -> QueueId {
        let id = match self.pools.get(&pool.name) {
            Some(known) => known.id,
            None => {
                let id = self.new_queue();
                let temporary = pool.temporary;
                let queue = PoolQueue { id, temporary };
                self.pools.insert(pool.name.clone(), queue);
                id
            }
        };
        let topics = self.topics.get_mut(exchange);
        let Some(topic) = topics.and_then(|topics| topics.get_mut(topic)) else {
            return id;
        };
        if topic.pools.contains(&id) {
            return id;
        }
        topic.pools.push(id);
        let waiting = match self.queues.get(&shared.0) {
            Some(queue) if !pool.temporary => queue.copy(),
            _ => Vec::new(),
        };
        if let Some(queue) = self.queues.get_mut(&id.0) {
            waiting.into_iter().for_each(|message| queue.push(message));
        }
        id
    }

    /// The shared queue of a topic, made if need be.
    fn make_topic(&mut self, exchange: &str, topic: &str) -> QueueId {
        if let Some(topic) = self.topic(exchange, topic) {
            return topic.shared;
        }
        let shared = self.new_queue();
        let topics = self.topics.entry(exchange.to_owned()).or_default();
        topics.insert(
            topic.to_owned(),
            Topic {
                shared,
                servers: HashMap::default(),
                pools: Vec::new(),
            },
        );
        shared
    }

    /// Makes the queues of an RPC server as far as they are missing, and subscribes to all three.
    pub(crate) fn subscribe_server(
        &mut self,
        (exchange, topic, server): (&str, &str, &str),
        prefetch: Option<NonZeroU16>,
        subscriber: &Arc<Subscriber>,
        due: &mut VecDeque<Handout>,
    ) -> Vec<Arc<Tap>> {
        let (shared, own) = self.server_queues(exchange, topic, server);
        let fanout = self.new_queue();
        self.fanouts
            .entry(topic.to_owned())
            .or_default()
            .push(fanout);
        let ids = [shared, own, fanout];
        ids.into_iter()
            .filter_map(|id| self.subscribe(id, prefetch, subscriber, due))
            .collect()
    }

    /// Makes a reply queue and subscribes to it.
    pub(crate) fn subscribe_replies(
        &mut self,
        name: &str,
        subscriber: &Arc<Subscriber>,
        due: &mut VecDeque<Handout>,
    ) -> Vec<Arc<Tap>> {
        let id = self.new_queue();
        self.replies.insert(name.to_owned(), id);
        self.subscribe(id, None, subscriber, due)
            .into_iter()
            .collect()
    }

    pub(crate) fn pause(&mut self, taps: &[Arc<Tap>]) {
        for tap in taps {
            if let Some(queue) = self.queues.get_mut(&tap.queue.0) {
                queue.pause(tap.slot);
            }
        }
    }

    /// Ends a subscription: its unsettled deliveries go back, the queues of its own go away.
    pub(crate) fn unsubscribe(&mut self, taps: &[Arc<Tap>], due: &mut VecDeque<Handout>) {
        for tap in taps {
            if let Some(queue) = self.queues.get_mut(&tap.queue.0) {
                queue.unsubscribe(tap.slot);
                queue.hand_out(false, due);
            }
        }
        let own: Vec<QueueId> = taps.iter().map(|tap| tap.queue).collect();
        let mut gone = Vec::new();
        self.fanouts.retain(|_, ids| {
            ids.retain(|id| {
                !own.contains(id) || {
                    gone.push(*id);
                    false
                }
            });
            !ids.is_empty()
        });
        self.replies.retain(|_, id| {
            !own.contains(id) || {
                gone.push(*id);
                false
            }
        });
        self.pools.retain(|_, pool| {
            let queue = self.queues.get(&pool.id.0);
            let ends = pool.temporary
                && own.contains(&pool.id)
                && queue.is_none_or(|queue| !queue.is_consumed());
            if ends {
                gone.push(pool.id);
            }
            !ends
        });
        for id in gone {
            self.queues.remove(&id.0);
            for topic in self.topics.values_mut().flat_map(HashMap::values_mut) {
                topic.pools.retain(|pool| *pool != id);
            }
        }
    }

    pub(crate) fn settle(
        &mut self,
        tap: &Tap,
        tag: u64,
        how: Settlement,
        in_place: bool,
        due: &mut VecDeque<Handout>,
    ) {
        if let Some(queue) = self.queues.get_mut(&tap.queue.0) {
            queue.settle(tap.slot, tag, how, in_place);
            queue.hand_out(in_place, due);
        }
    }

    fn topic(&self, exchange: &str, topic: &str) -> Option<&Topic> {
        self.topics.get(exchange)?.get(topic)
    }

    fn server_queues(&mut self, exchange: &str, topic: &str, server: &str) -> (QueueId, QueueId) {
        let known = self.topic(exchange, topic);
        let shared = known.map(|topic| topic.shared);
        let own = known.and_then(|topic| topic.servers.get(server).copied());
        let shared = shared.unwrap_or_else(|| self.new_queue());
        let own = own.unwrap_or_else(|| self.new_queue());
        let topics = self.topics.entry(exchange.to_owned()).or_default();
        let topic = topics.entry(topic.to_owned()).or_insert_with(|| Topic {
            shared,
            servers: HashMap::default(),
            pools: Vec::new(),
        });
        topic.servers.insert(server.to_owned(), own);
        (shared, own)
    }

    fn subscribe(
        &mut self,
        id: QueueId,
        prefetch: Option<NonZeroU16>,
        subscriber: &Arc<Subscriber>,
        due: &mut VecDeque<Handout>,
    ) -> Option<Arc<Tap>> {
        let queue = self.queues.get_mut(&id.0)?;
        let tap = queue.subscribe(id, prefetch, subscriber);
        queue.hand_out(false, due);
        Some(tap)
    }

    fn new_queue(&mut self) -> QueueId {
        self.last_id += 1;
        self.queues.insert(self.last_id, Queue::default());
        QueueId(self.last_id)
    }
}

fn undeliverable(destination: Destination<'_>) -> Error {
    Error::new(
        ErrorKind::Undeliverable,
        format!("no queue in memory takes a message to {destination}"),
    )
}

fn full(destination: Destination<'_>) -> Error {
    let text = format!(
        "{QUEUE_LIMIT} messages to {destination} already wait in memory; start a server that takes them"
    );
    Error::new(ErrorKind::DeliveryFailure, text)
}
