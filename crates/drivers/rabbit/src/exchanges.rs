//! The exchanges, and queues of notifications, that who publishes declares: which are there on this connection, which have
//! vanished, and which the user may publish to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Error as AmqpError, Table};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until};

use crate::address::{Address, Exchange};
use crate::canary::Canary;
use crate::config::RabbitConfig;
use crate::connection::Session;
use crate::declare::{SetupFault, Variant, declare_all, exchange_exists};
use crate::facts::Facts;
use crate::lock::lock;
use crate::parcel::Parcel;
use crate::topology::{ExchangeSpec, published_exchange, published_queue};

/// After the broker lost a fanout exchange, or may have, servers get so long to bind their queues to it again, at least half
/// of it: a closed port is tried again within a second.
const REGROUP: Duration = Duration::from_secs(2);

/// After an exchange vanished, for so long the bindings that went with it are made again where they are missed.
const REBINDING: Duration = Duration::from_secs(600);
/// A binding that does not help is not made again sooner.
const REBIND_EVERY: Duration = Duration::from_secs(1);

/// Exchanges remembered as declared; beyond it the memory starts anew.
const MAX_DECLARED: usize = 10_000;

/// What is known of the exchanges messages go to.
pub(crate) struct Exchanges {
    config: Arc<RabbitConfig>,
    facts: Arc<Facts>,
    canary: Arc<Canary>,
    declared: Mutex<Declared>,
    /// Locked while the canary is asked, so that one fanout of many asks.
    era: AsyncMutex<Era>,
    declaring: AsyncMutex<Option<(u64, Channel)>>,
    declaring_queues: AsyncMutex<()>,
    vanished: Mutex<Vanished>,
    /// Until when fanouts wait for their servers, by exchange.
    held: Mutex<HashMap<String, Instant>>,
    /// Exchanges that took a message before. Bounded like [`Declared`].
    granted: Mutex<HashSet<String>>,
}

/// The exchanges declared on one connection, and the queues of notifications by exchange.
#[derive(Default)]
struct Declared {
    generation: u64,
    names: HashSet<String>,
    queues: HashMap<String, HashSet<String>>,
}

/// Since when the connection in force is known, and the one before.
#[derive(Default)]
struct Era {
    generation: u64,
    since: Option<Instant>,
    before: Option<Instant>,
    /// Whether the broker may have lost its transient queues in between, once that was asked.
    lost: Option<bool>,
}

impl Era {
    /// When there was a former connection; what the broker lost since may be missed on this one.
    fn former(&mut self, generation: u64, now: Instant) -> Option<Instant> {
        // Who still sends on an older one will have to send anew.
        if self.generation < generation {
            *self = Self {
                generation,
                since: Some(now),
                before: self.since,
                lost: None,
            };
        }
        self.before
    }

    /// Whether those who lost their bindings before this connection have had their time to make them again.
    fn is_settled(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) >= REGROUP)
    }
}

impl Declared {
    /// Its memory, empty if it is of another connection or has grown too long.
    fn on(&mut self, session: &Session) -> &mut Self {
        let queues = self.queues.values().map(HashSet::len).sum::<usize>();
        if self.generation != session.generation || self.names.len().max(queues) >= MAX_DECLARED {
            *self = Self {
                generation: session.generation,
                ..Self::default()
            };
        }
        self
    }
}

/// Exchanges that were found missing, and bindings made since. Bounded like [`Declared`].
#[derive(Default)]
struct Vanished {
    exchanges: HashMap<String, Instant>,
    bound: HashMap<(String, String), Instant>,
}

impl Exchanges {
    /// Nothing is known yet.
    pub(crate) fn new(
        config: &Arc<RabbitConfig>,
        facts: &Arc<Facts>,
        canary: &Arc<Canary>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            facts: Arc::clone(facts),
            canary: Arc::clone(canary),
            declared: Mutex::default(),
            era: AsyncMutex::default(),
            declaring: AsyncMutex::default(),
            declaring_queues: AsyncMutex::default(),
            vanished: Mutex::default(),
            held: Mutex::default(),
            granted: Mutex::default(),
        }
    }

    /// Forgets an exchange that may be missing, and its queues.
    pub(crate) fn forget(&self, exchange: &str) {
        let mut declared = lock(&self.declared);
        declared.names.remove(exchange);
        declared.queues.remove(exchange);
    }

    /// Forgets a queue that is not there any more, or not bound.
    pub(crate) fn forget_queue(&self, address: &Address<'_>) {
        let mut declared = lock(&self.declared);
        if let Some(queues) = declared.queues.get_mut(address.exchange.name()) {
            queues.remove(&*address.routing_key);
        }
    }

    /// Notes that an exchange was found missing.
    pub(crate) fn note_vanished(&self, exchange: &str) {
        let mut vanished = lock(&self.vanished);
        if vanished.exchanges.len() >= MAX_DECLARED {
            vanished.exchanges.clear();
        }
        vanished
            .exchanges
            .insert(exchange.to_owned(), Instant::now());
    }

    /// Whether [`prepare`](Self::prepare) would have nothing to do.
    pub(crate) fn is_ready(
        &self,
        session: &Session,
        exchange: &Exchange<'_>,
        urgent: bool,
    ) -> bool {
        let is_held = || {
            let held = lock(&self.held);
            held.get(exchange.name())
                .is_some_and(|until| *until > Instant::now())
        };
        let waits = !urgent && matches!(exchange, Exchange::Fanout(_)) && is_held();
        !waits
            && (self.is_declared(session, exchange)
                || published_exchange(self.facts.layout(&self.config), exchange).is_none())
    }

    /// Whether [`declare_queue`](Self::declare_queue) would have nothing to do.
    pub(crate) fn has_queue(&self, session: &Session, address: &Address<'_>) -> bool {
        let declared = lock(&self.declared);
        let queues = declared.queues.get(address.exchange.name());
        declared.generation == session.generation
            && queues.is_some_and(|queues| queues.contains(&*address.routing_key))
    }

    /// Declares the exchange of a message if need be, and waits a moment where servers have to find it first, unless it is
    /// urgent. One whose time ends before is told as failed: sent sooner it would be confirmed, and heard by nobody.
    pub(crate) async fn prepare(
        &self,
        session: &Session,
        parcel: &Parcel<'_>,
    ) -> Result<(), AmqpError> {
        let exchange = &parcel.address.exchange;
        let is_fanout = matches!(exchange, Exchange::Fanout(_));
        if !self.is_declared(session, exchange)
            && let Some(spec) = published_exchange(self.facts.layout(&self.config), exchange)
        {
            if is_fanout && Box::pin(self.may_be_unbound(session, &spec)).await? {
                let half = REGROUP / 2;
                let until = Instant::now() + half + half.mul_f64(fastrand::f64());
                let mut held = lock(&self.held);
                held.retain(|_, until| *until > Instant::now());
                held.entry(spec.name.clone()).or_insert(until);
            }
            // Rare, and large: on the heap it makes no other send larger.
            Box::pin(self.declare(session, &spec)).await?;
        }
        let held = (is_fanout && !parcel.urgent)
            .then(|| lock(&self.held).get(exchange.name()).copied())
            .flatten();
        if let Some(until) = held {
            sleep_until(until).await;
        }
        Ok(())
    }

    /// Whether servers that are not back yet may have lost their bindings to a fanout exchange with the broker. That it is
    /// there says nothing: whoever was back first, one server of many, declared it again.
    async fn may_be_unbound(
        &self,
        session: &Session,
        exchange: &ExchangeSpec,
    ) -> Result<bool, AmqpError> {
        let former = {
            let mut era = self.era.lock().await;
            era.former(session.generation, session.since)
        };
        // On the first connection nobody can have lost anything.
        if session.generation <= 1 {
            return Ok(false);
        }
        if !exchange_exists(&session.connection, &exchange.name).await? {
            return Ok(true);
        }
        // A durable one has its bindings still.
        if exchange.durable {
            return Ok(false);
        }
        let mut era = self.era.lock().await;
        if era.generation != session.generation || era.is_settled(Instant::now()) {
            return Ok(false);
        }
        let lost = match era.lost {
            Some(lost) => lost,
            // Where nobody knows, they may be gone.
            None => self.canary.lost_since(former, session).await != Some(false),
        };
        era.lost = Some(lost);
        Ok(lost)
    }

    /// With an exchange its bindings vanish, and nobody tells the servers: until they look, whoever sends to one of them
    /// binds its queue again, which changes nothing if it was bound. False if there was no reason, or no queue.
    pub(crate) async fn bind_again(&self, address: &Address<'_>, session: &Session) -> bool {
        let Exchange::Topic(exchange) = &address.exchange else {
            return false;
        };
        let queue = &*address.routing_key;
        {
            let mut vanished = lock(&self.vanished);
            let recently = |at: Option<&Instant>, limit| at.is_some_and(|at| at.elapsed() < limit);
            let binding = (exchange.clone().into_owned(), queue.to_owned());
            if !recently(vanished.exchanges.get(&**exchange), REBINDING)
                || recently(vanished.bound.get(&binding), REBIND_EVERY)
            {
                return false;
            }
            if vanished.bound.len() >= MAX_DECLARED {
                vanished.bound.clear();
            }
            vanished.bound.insert(binding, Instant::now());
        }
        let bound = async {
            let channel = session.connection.open_channel().await?;
            channel
                .queue_bind(queue, exchange, queue, &Table::new())
                .await?;
            channel.close().await
        };
        match bound.await {
            Ok(()) => {
                tracing::warn!(
                    exchange = &**exchange,
                    queue,
                    "exchange had vanished; its queue is bound again"
                );
                true
            }
            Err(error) => {
                tracing::debug!(%error, exchange = &**exchange, queue, "queue is not bound again");
                false
            }
        }
    }

    fn is_declared(&self, session: &Session, exchange: &Exchange<'_>) -> bool {
        if matches!(exchange, Exchange::Default) {
            return true;
        }
        self.knows(session, exchange.name())
    }

    fn knows(&self, session: &Session, exchange: &str) -> bool {
        let declared = lock(&self.declared);
        declared.generation == session.generation && declared.names.contains(exchange)
    }

    /// Declares an exchange, once per connection, on a channel that carries nothing else.
    async fn declare(&self, session: &Session, exchange: &ExchangeSpec) -> Result<(), AmqpError> {
        let mut slot = self.declaring.lock().await;
        if self.knows(session, &exchange.name) {
            return Ok(());
        }
        // Out of its place while in use: dropped half-way, its fate must not be the next one's.
        let kept = slot
            .take()
            .filter(|(generation, _)| *generation == session.generation);
        let mut channel = match kept {
            Some((_, channel)) => channel,
            None => session.connection.open_channel().await?,
        };
        let mut variant = Variant::default();
        while !variant.declare(&channel, exchange, &self.facts).await? {
            channel = session.connection.open_channel().await?;
        }
        *slot = Some((session.generation, channel));
        let mut declared = lock(&self.declared);
        declared.on(session).names.insert(exchange.name.clone());
        Ok(())
    }

    /// Declares the queue of a notification, once per connection, so that the message waits for a listener. A queue of
    /// other properties is taken as it is.
    pub(crate) async fn declare_queue(
        &self,
        session: &Session,
        address: &Address<'_>,
    ) -> Result<(), SetupFault> {
        let (exchange, queue) = (address.exchange.name(), &*address.routing_key);
        if self.has_queue(session, address) {
            return Ok(());
        }
        let _turn = self.declaring_queues.lock().await;
        if self.has_queue(session, address) {
            return Ok(());
        }
        let spec = published_queue(self.facts.layout(&self.config), exchange, queue);
        let made = Box::pin(declare_all(&session.connection, &spec, &self.facts)).await?;
        // It is declared; how the channel ends does not matter to the sender.
        let _ = made.channel.close().await;
        let mut declared = lock(&self.declared);
        let queues = &mut declared.on(session).queues;
        queues
            .entry(exchange.to_owned())
            .or_default()
            .insert(queue.to_owned());
        Ok(())
    }

    /// Notes that an exchange took a message.
    pub(crate) fn note_granted(&self, exchange: &str) {
        let mut granted = lock(&self.granted);
        if !granted.contains(exchange) {
            if granted.len() >= MAX_DECLARED {
                granted.clear();
            }
            granted.insert(exchange.to_owned());
        }
    }

    /// Whether the user could publish there before, so that a refusal may pass.
    pub(crate) fn was_granted(&self, exchange: &str) -> bool {
        lock(&self.granted).contains(exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_was_lost_before_a_connection_is_asked_for_once_and_not_after_servers_had_their_time()
     {
        let (mut era, start) = (Era::default(), Instant::now());
        assert_eq!(era.former(1, start), None);
        let next = start + 10 * SECOND;
        assert_eq!(era.former(2, next), Some(start));
        assert!(!era.is_settled(next + REGROUP - SECOND / 100));
        era.lost = Some(true);
        assert_eq!(era.former(2, next + SECOND), Some(start));
        assert_eq!((era.lost, era.since), (Some(true), Some(next)));
        assert!(era.is_settled(next + REGROUP));
        assert_eq!(era.former(3, next + 60 * SECOND), Some(next));
        assert_eq!(era.lost, None, "of another connection nobody knows yet");
        assert_eq!(era.former(2, next), Some(next), "too late");
        assert_eq!(era.generation, 3);
    }
}
