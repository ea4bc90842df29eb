//! Messages on their way out: one connection, one confirm channel for topics and replies, one for fanouts, one for
//! notifications, one for declarations.
//!
//! Each send holds its bytes until the broker confirmed them and publishes them again after a lost
//! connection, a nack or a closed channel, as its retries and deadline allow. A channel that the broker
//! closes takes the unconfirmed messages of others with it; all of them are then published one at a time
//! on channels of their own, so that only the guilty one is told.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_amqp::{
    Channel, Confirmation, EncodedProperties, Error as AmqpError, ErrorKind as AmqpKind,
    PropertiesBuilder, Publish, Table,
};
use oslo_messaging_core::driver::{Destination, Outgoing, Retry};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::address::{Address, Exchange, address, plain_address};
use crate::compress::Compression;
use crate::config::{RabbitConfig, Wire};
use crate::connection::{Link, Patience, Session};
use crate::declare::{SetupFault, Variant, declare_all, exchange_exists};
use crate::delivery::End;
use crate::error::{
    Place, is_final_for_message, is_missing, is_oversize, is_refused, nacked_error, publish_error,
    unanswered_error, unconfirmed_error, undeliverable_error,
};
use crate::facts::Facts;
use crate::pulse::Pulse;
use crate::topology::{ExchangeSpec, published_exchange, published_queue};
use crate::window::Windows;

/// For so long after a lost connection a request waits for its queue to be declared again.
const SETTLING: Duration = Duration::from_secs(10);

/// A channel that owes confirmations and gives none for so long gets no more messages; another one does.
const STALL: Duration = Duration::from_secs(2);

/// After the broker lost a fanout exchange, servers get so long to bind their queues to it again, at least half of it.
const REGROUP: Duration = Duration::from_millis(1500);

/// After an exchange vanished, for so long the bindings that went with it are made again where they are missed.
const REBINDING: Duration = Duration::from_secs(600);
/// A binding that does not help is not made again sooner.
const REBIND_EVERY: Duration = Duration::from_secs(1);

/// A permission that is refused for so long is refused for good, unless it was granted before.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Messages that may be unconfirmed on a connection on which nothing comes any more. Those of a node that hangs go on
/// when it wakes up, when they may have gone another way long since.
const MOST_IN_SILENCE: usize = 64;

/// Exchanges remembered as declared; beyond it the memory starts anew.
const MAX_DECLARED: usize = 10_000;

/// The publishing half of a driver.
pub(crate) struct Publisher {
    link: Arc<Link>,
    config: Arc<RabbitConfig>,
    control_exchange: String,
    properties: EncodedProperties,
    lanes: [LaneSlot; 3],
    declared: Mutex<Declared>,
    declaring: AsyncMutex<Option<(u64, Channel)>>,
    declaring_queues: AsyncMutex<()>,
    facts: Arc<Facts>,
    /// Shared with the connections.
    pulse: Arc<Pulse>,
    /// Largest body the broker takes, as far as it has said so.
    limit: AtomicUsize,
    vanished: Mutex<Vanished>,
    /// Until when fanouts wait for their servers, by exchange.
    held: Mutex<HashMap<String, Instant>>,
    /// Exchanges that took a message before. Bounded like [`Declared`].
    granted: Mutex<HashSet<String>>,
    windows: Windows,
    alone: AsyncMutex<()>,
}

/// Which channel a message takes. A vanished exchange closes a channel, and must not be the one of calls; nor must a
/// flood of notifications hold calls up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneKind {
    Main = 0,
    Fanout = 1,
    Notification = 2,
}

#[derive(Default)]
struct LaneSlot {
    current: Mutex<Option<Arc<Lane>>>,
    opening: AsyncMutex<()>,
}

/// A confirm channel in force.
struct Lane {
    channel: Channel,
    blocked: watch::Receiver<Option<Arc<str>>>,
    session: Arc<Session>,
    progress: Mutex<Progress>,
}

/// Confirmations of a channel.
#[derive(Debug)]
struct Progress {
    waiting: usize,
    /// The last confirmation, or the first message since there was nothing to confirm.
    since: Instant,
}

impl Lane {
    /// Notes a message whose confirmation is waited for, while the guard lives.
    fn expect(&self) -> Waiting<'_> {
        let mut progress = lock(&self.progress);
        if progress.waiting == 0 {
            progress.since = Instant::now();
        }
        progress.waiting += 1;
        Waiting(self)
    }

    /// Whether the channel has confirmed nothing for too long, as some do in a cluster that lost a node while others are
    /// served. Nothing is wrong with a channel whose broker blocks publishers.
    fn is_stalled(&self) -> bool {
        let progress = lock(&self.progress);
        progress.waiting > 0 && progress.since.elapsed() > STALL && self.blocked.borrow().is_none()
    }
}

/// A message on a lane.
struct Waiting<'a>(&'a Lane);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut progress = lock(&self.0.progress);
        progress.waiting -= 1;
        progress.since = Instant::now();
    }
}

/// The exchanges declared on one connection, and the queues of notifications by exchange.
#[derive(Default)]
struct Declared {
    generation: u64,
    names: HashSet<String>,
    queues: HashMap<String, HashSet<String>>,
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

/// A message ready to go, again and again.
struct Parcel<'a> {
    address: Address<'a>,
    entity: Destination<'a>,
    body: Bytes,
    mandatory: bool,
    expiration: Option<u64>,
    /// Its sender decides what to do when the connection is lost before the confirmation.
    tell_unconfirmed: bool,
}

impl Publisher {
    /// A publisher that has not connected yet.
    pub(crate) fn new(
        link: Arc<Link>,
        config: Arc<RabbitConfig>,
        control_exchange: String,
        facts: Arc<Facts>,
        pulse: Arc<Pulse>,
    ) -> Self {
        let properties = properties(config.kombu_compression);
        Self {
            limit: AtomicUsize::new(config.max_message_size as usize),
            facts,
            pulse,
            vanished: Mutex::default(),
            held: Mutex::default(),
            granted: Mutex::default(),
            windows: Windows::default(),
            link,
            config,
            control_exchange,
            properties,
            lanes: Default::default(),
            declared: Mutex::default(),
            declaring: AsyncMutex::default(),
            declaring_queues: AsyncMutex::default(),
            alone: AsyncMutex::default(),
        }
    }

    /// The connection, for its news.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Whether the broker asks publishers to wait.
    pub(crate) fn is_blocked(&self) -> bool {
        self.link
            .with_status(|status| status.session().is_some_and(|session| is_blocked(session)))
    }

    /// Ends the connection in good order. Sends under way fail.
    pub(crate) async fn close(&self) {
        self.link.close().await;
    }

    /// Sends one message; see `Driver::send`.
    pub(crate) async fn send(&self, message: Outgoing<'_>) -> Result<()> {
        self.link.check_process();
        let parcel = self.pack(&message)?;
        let deadline = match (message.deadline, message.retry) {
            (Some(deadline), _) => Some(deadline),
            // One attempt ends by itself, unless the broker neither answers nor closes.
            (None, Retry::Never) => Some(Instant::now() + self.link.brokers().round_deadline()),
            (None, _) => None,
        };
        let mut patience = Patience::new(message.retry);
        let mut last = None;
        let work = self.deliver(&parcel, &mut patience, &mut last);
        match deadline {
            None => work.await,
            Some(deadline) => match timeout_at(deadline, work).await {
                Ok(done) => done,
                Err(_) => Err(self.late(&parcel, last)),
            },
        }
    }

    fn pack<'a>(&'a self, message: &Outgoing<'a>) -> Result<Parcel<'a>> {
        let body = match self.config.kombu_compression {
            None => message.body.clone(),
            Some(compression) => compression.pack(&message.body),
        };
        let limit = self.limit.load(Ordering::Relaxed);
        if body.len() > limit {
            let text = format!(
                "the message has {} bytes, of which the broker or max_message_size allows {limit}; send less, or raise the \
                 broker's max_message_size",
                body.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, text)
                .with("entity", message.destination.to_string()));
        }
        Ok(Parcel {
            address: self.address(message.destination)?,
            entity: message.destination,
            body,
            mandatory: self.is_mandatory(message),
            expiration: message.expires.map(milliseconds),
            tell_unconfirmed: message.tell_unconfirmed,
        })
    }

    fn address<'a>(&'a self, destination: Destination<'a>) -> Result<Address<'a>> {
        match self.config.wire {
            Wire::Oslo => address(&self.control_exchange, destination),
            Wire::Plain => plain_address(&self.control_exchange, destination),
        }
    }

    /// Wire: fanouts are never mandatory, replies unless the option says no (spec section 5).
    fn is_mandatory(&self, message: &Outgoing<'_>) -> bool {
        message.mandatory
            && match message.destination {
                Destination::Fanout { .. } => false,
                Destination::Reply { .. } => self.config.direct_mandatory_flag,
                _ => true,
            }
            || self.is_kept(message.destination)
    }

    /// Whether a queue has to be there for the message, declared by us (spec 4.1). The reference publishes without asking
    /// whether it still is, and loses what comes after it was deleted.
    fn is_kept(&self, destination: Destination<'_>) -> bool {
        self.config.declare_notification_queues
            && matches!(destination, Destination::Notification { .. })
    }

    /// Publishes until the broker took the message or nothing more may be tried. `last` is what went wrong last.
    async fn deliver(
        &self,
        parcel: &Parcel<'_>,
        patience: &mut Patience,
        last: &mut Option<Fault>,
    ) -> Result<()> {
        let mut after = 0;
        let mut way = Way {
            alone: false,
            mandatory: parcel.mandatory,
        };
        let mut insist_until = None;
        let mut refused_at = None;
        let mut declared_again = false;
        loop {
            let session = match self.current(parcel.lane(), after) {
                Some(lane) => Arc::clone(&lane.session),
                None => self.link.session(after, patience).await?,
            };
            if after != 0 && insist_until.is_none() && parcel.may_insist() {
                // With the connection the broker may have lost the queue, and the servers that declare it again may
                // be slower than we are. Unasked, the broker would drop the message and confirm it.
                insist_until = Some(Instant::now() + SETTLING);
                way.mandatory = true;
            }
            let mut written = false;
            let fault = match self.attempt(parcel, &session, way).await {
                Ok(Confirmation::Acked) => {
                    self.note_granted(parcel.address.exchange.name());
                    return Ok(());
                }
                Ok(Confirmation::Returned { .. }) if self.bind_again(parcel, &session).await => {
                    continue;
                }
                Ok(Confirmation::Returned { .. })
                    if self.is_kept(parcel.entity) && !declared_again =>
                {
                    declared_again = true;
                    self.forget_queue(parcel);
                    continue;
                }
                Ok(Confirmation::Returned { code, text }) => match insist_until {
                    None => Fault::Returned(code, text),
                    Some(until) => {
                        way.mandatory = Instant::now() < until;
                        sleep(pause(2)).await;
                        continue;
                    }
                },
                Ok(_) => Fault::Nacked,
                // The exchange of a plain call went with its caller.
                Err(Failed {
                    fault: Fault::Amqp(error),
                    ..
                }) if way.alone && parcel.is_to_caller() && is_missing(&error) => {
                    Fault::Returned(404, error.text().to_owned())
                }
                Err(failed) => {
                    written = failed.written;
                    failed.fault
                }
            };
            match &fault {
                Fault::Amqp(error) if !session.connection.is_open() => {
                    if parcel.tell_unconfirmed && written {
                        return Err(self.unconfirmed(parcel, &session, error.clone()));
                    }
                    after = session.generation;
                    way.alone = false;
                }
                Fault::Amqp(error) => {
                    self.forget(parcel, &session);
                    self.learn(parcel, error, way);
                    if !way.alone && error.kind() == AmqpKind::ChannelClosed {
                        // Maybe another message's fault, maybe a vanished exchange (quirk 15): not counted.
                        way.alone = true;
                        continue;
                    }
                }
                Fault::Nacked | Fault::Returned(..) | Fault::Unanswered(_) => {}
            }
            // While a virtual host is deleted and made again everything is refused, and while somebody changes permissions.
            let refused = matches!(&fault, Fault::Amqp(error) if is_refused(error));
            let may_pass = refused
                && (self.was_granted(parcel.address.exchange.name())
                    || refused_at.get_or_insert_with(Instant::now).elapsed() < REFUSED_FOR);
            if (fault.is_final() && !may_pass) || !patience.allows_after(1) {
                return Err(self.error(parcel, &session, fault));
            }
            *last = Some(fault);
            if after != session.generation {
                // A new connection has waits of its own; what the broker refused is not tried again at once.
                sleep(pause(patience.failed())).await;
            }
        }
    }

    async fn attempt(
        &self,
        parcel: &Parcel<'_>,
        session: &Arc<Session>,
        way: Way,
    ) -> Result<Confirmation, Failed> {
        self.prepare(session, &parcel.address.exchange).await?;
        if self.is_kept(parcel.entity) {
            self.declare_queue(session, &parcel.address).await?;
        }
        if !way.alone {
            let window = match parcel.lane() {
                LaneKind::Fanout => None,
                LaneKind::Main | LaneKind::Notification => {
                    Some(self.windows.enter(&parcel.address.routing_key).await)
                }
            };
            let lane = self.lane(parcel.lane(), session).await?;
            wait_while_blocked(session, lane.blocked.clone()).await;
            self.wait_while_silent(session).await;
            let _waiting = lane.expect();
            let taken = self.publish(&lane.channel, parcel, way).await;
            if let (Some(window), Ok(_)) = (window, &taken) {
                window.confirmed();
            }
            return taken;
        }
        let _turn = self.alone.lock().await;
        let channel = session.connection.open_channel().await?;
        channel.confirm_select().await?;
        wait_while_blocked(session, session.connection.watch_blocked()).await;
        let taken = self.publish(&channel, parcel, way).await;
        if taken.is_ok() {
            // The message is safe; how the channel ends does not matter to its sender.
            let _ = channel.close().await;
        }
        taken
    }

    /// Holds a message back while nothing comes on the connection although much is owed: until something does, or the
    /// connection is over.
    async fn wait_while_silent(&self, session: &Session) {
        if self.pulse.is_silent() && self.pulse.unconfirmed() >= MOST_IN_SILENCE {
            tokio::select! {
                () = self.pulse.until_heard() => {}
                _ = session.connection.closed() => {}
            }
        }
    }

    /// Declares the exchange if need be, and waits a moment where servers have to find it first.
    async fn prepare(&self, session: &Session, exchange: &Exchange<'_>) -> Result<(), AmqpError> {
        let is_fanout = matches!(exchange, Exchange::Fanout(_));
        if !self.is_declared(session, exchange)
            && let Some(spec) = published_exchange(self.facts.layout(&self.config), exchange)
        {
            // On the first connection nobody can have lost anything.
            if is_fanout
                && session.generation > 1
                && !exchange_exists(&session.connection, &spec.name).await?
            {
                let half = REGROUP / 2;
                let until = Instant::now() + half + half.mul_f64(fastrand::f64());
                let mut held = lock(&self.held);
                held.retain(|_, until| *until > Instant::now());
                held.entry(spec.name.clone()).or_insert(until);
            }
            self.declare(session, &spec).await?;
        }
        let held = is_fanout
            .then(|| lock(&self.held).get(exchange.name()).copied())
            .flatten();
        if let Some(until) = held {
            sleep_until(until).await;
        }
        Ok(())
    }

    async fn publish(
        &self,
        channel: &Channel,
        parcel: &Parcel<'_>,
        way: Way,
    ) -> Result<Confirmation, Failed> {
        let publish = Publish {
            exchange: parcel.address.exchange.name(),
            routing_key: &parcel.address.routing_key,
            mandatory: way.mandatory,
            properties: &self.properties,
            expiration: parcel.expiration,
        };
        loop {
            match channel.publish(&publish, &parcel.body) {
                Ok(confirm) => {
                    let _expected = self.pulse.expect(parcel.body.len());
                    return confirm.await.map_err(|error| Failed {
                        fault: Fault::Amqp(error),
                        written: true,
                    });
                }
                Err(error) if error.kind() == AmqpKind::Full => channel.ready().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The channel in force, if it belongs to a connection newer than `after`.
    fn current(&self, kind: LaneKind, after: u64) -> Option<Arc<Lane>> {
        let lane = lock(&self.lanes[kind as usize].current).clone()?;
        let fits = lane.session.generation > after && lane.session.connection.is_open();
        // Those that wait on it keep its channel, and their places.
        (fits && !lane.is_stalled()).then_some(lane)
    }

    /// The channel of this connection, opened if there is none.
    async fn lane(&self, kind: LaneKind, session: &Arc<Session>) -> Result<Arc<Lane>, AmqpError> {
        let fits = |lane: &Arc<Lane>| lane.session.generation == session.generation;
        if let Some(lane) = self.current(kind, 0).filter(fits) {
            return Ok(lane);
        }
        let slot = &self.lanes[kind as usize];
        let _opening = slot.opening.lock().await;
        if let Some(lane) = self.current(kind, 0).filter(fits) {
            return Ok(lane);
        }
        let channel = session.connection.open_channel().await?;
        channel.confirm_select().await?;
        self.facts.meet(session);
        // Another broker, or the same with another limit; RabbitMQ reads it when a channel is opened.
        let limit = self.config.max_message_size as usize;
        self.limit.store(limit, Ordering::Relaxed);
        let blocked = session.connection.watch_blocked();
        let lane = Arc::new(Lane {
            channel,
            blocked,
            session: Arc::clone(session),
            progress: Mutex::new(Progress {
                waiting: 0,
                since: Instant::now(),
            }),
        });
        *lock(&slot.current) = Some(Arc::clone(&lane));
        Ok(lane)
    }

    /// Forgets a closed channel and the exchange that may have caused it.
    fn forget(&self, parcel: &Parcel<'_>, session: &Arc<Session>) {
        {
            let mut declared = lock(&self.declared);
            declared.names.remove(parcel.address.exchange.name());
            declared.queues.remove(parcel.address.exchange.name());
        }
        let mut current = lock(&self.lanes[parcel.lane() as usize].current);
        if current.as_ref().is_some_and(|lane| {
            Arc::ptr_eq(&lane.session, session) && lane.channel.closed_reason().is_some()
        }) {
            *current = None;
        }
    }

    /// Forgets a queue that is not there any more, or not bound.
    fn forget_queue(&self, parcel: &Parcel<'_>) {
        let mut declared = lock(&self.declared);
        if let Some(queues) = declared.queues.get_mut(parcel.address.exchange.name()) {
            queues.remove(&*parcel.address.routing_key);
        }
    }

    /// Learns from a fault that is this message's own.
    fn learn(&self, parcel: &Parcel<'_>, error: &AmqpError, way: Way) {
        let exchange = parcel.address.exchange.name();
        if is_missing(error) && !exchange.is_empty() {
            let mut vanished = lock(&self.vanished);
            if vanished.exchanges.len() >= MAX_DECLARED {
                vanished.exchanges.clear();
            }
            vanished
                .exchanges
                .insert(exchange.to_owned(), Instant::now());
        }
        if way.alone && is_oversize(error) {
            let limit = limit_in(error.text(), parcel.body.len());
            tracing::warn!(limit, "the broker takes no larger messages");
            self.limit.fetch_min(limit, Ordering::Relaxed);
        }
    }

    /// With an exchange its bindings vanish, and nobody tells the servers: until they look, whoever sends to one of them
    /// binds its queue again, which changes nothing if it was bound. False if there was no reason, or no queue.
    async fn bind_again(&self, parcel: &Parcel<'_>, session: &Session) -> bool {
        let Exchange::Topic(exchange) = &parcel.address.exchange else {
            return false;
        };
        let queue = &*parcel.address.routing_key;
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
    async fn declare_queue(&self, session: &Session, address: &Address<'_>) -> Result<(), Failed> {
        let (exchange, queue) = (address.exchange.name(), &*address.routing_key);
        let is_known = || {
            let declared = lock(&self.declared);
            let queues = declared.queues.get(exchange);
            declared.generation == session.generation
                && queues.is_some_and(|queues| queues.contains(queue))
        };
        if is_known() {
            return Ok(());
        }
        let _turn = self.declaring_queues.lock().await;
        if is_known() {
            return Ok(());
        }
        let spec = published_queue(self.facts.layout(&self.config), exchange, queue);
        let made = declare_all(&session.connection, &spec, &self.facts).await?;
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

    fn note_granted(&self, exchange: &str) {
        let mut granted = lock(&self.granted);
        if !granted.contains(exchange) {
            if granted.len() >= MAX_DECLARED {
                granted.clear();
            }
            granted.insert(exchange.to_owned());
        }
    }

    /// Whether the user could publish there before, so that a refusal may pass.
    fn was_granted(&self, exchange: &str) -> bool {
        lock(&self.granted).contains(exchange)
    }

    fn error(&self, parcel: &Parcel<'_>, session: &Session, fault: Fault) -> Error {
        let entity = parcel.entity.to_string();
        let place = Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &entity,
        };
        match fault {
            Fault::Nacked => nacked_error(place),
            Fault::Returned(code, text) => undeliverable_error(code, &text, place),
            Fault::Amqp(error) => publish_error(error, place),
            Fault::Unanswered(why) => unanswered_error(&why, place),
        }
    }

    fn unconfirmed(&self, parcel: &Parcel<'_>, session: &Session, error: AmqpError) -> Error {
        let entity = parcel.entity.to_string();
        let place = Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &entity,
        };
        unconfirmed_error(error, place)
    }

    /// What a sender is told whose deadline passed: why there was no connection, or that no confirm came, and what was
    /// wrong with the last attempt.
    fn late(&self, parcel: &Parcel<'_>, last: Option<Fault>) -> Error {
        let session = self.link.with_status(|status| status.session().cloned());
        let error = match session {
            Some(session) if is_blocked(&session) => {
                let text = "the broker blocks publishers (memory or disk alarm) and did not take the message in time";
                Error::new(ErrorKind::Timeout, text).with_host(&*session.host)
            }
            Some(session) => {
                let (text, cause) = match last {
                    Some(fault) => (
                        "the broker did not take the message in time, though it was tried again and again",
                        Some(self.error(parcel, &session, fault)),
                    ),
                    None => ("the broker did not confirm the message in time", None),
                };
                let error = Error::new(ErrorKind::Timeout, text).with_host(&*session.host);
                match cause {
                    Some(cause) => error.with_source(cause),
                    None => error,
                }
            }
            None => self.link.last_error().unwrap_or_else(|| {
                Error::new(
                    ErrorKind::Unreachable,
                    "no connection to the broker was made in time",
                )
            }),
        };
        error
            .with("vhost", &**self.link.brokers().vhost())
            .with("entity", parcel.entity.to_string())
    }
}

/// How a message is published this time.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// On a channel of its own, so that a fault is its own.
    alone: bool,
    /// The broker tells if no queue takes it.
    mandatory: bool,
}

/// An attempt without an answer from the broker.
struct Failed {
    fault: Fault,
    /// The message was given to the connection: it may have arrived.
    written: bool,
}

impl From<AmqpError> for Failed {
    fn from(error: AmqpError) -> Self {
        Self {
            fault: Fault::Amqp(error),
            written: false,
        }
    }
}

impl From<SetupFault> for Failed {
    fn from(fault: SetupFault) -> Self {
        let fault = match fault.end {
            End::Closed(error) => Fault::Amqp(error),
            other => Fault::Unanswered(other.to_string()),
        };
        Self {
            fault,
            written: false,
        }
    }
}

/// Why a message was not taken.
enum Fault {
    Nacked,
    Returned(u16, String),
    Amqp(AmqpError),
    /// The broker did not say whether the message's queue is there.
    Unanswered(String),
}

impl Fault {
    /// Whether publishing it again cannot help.
    fn is_final(&self) -> bool {
        match self {
            Self::Nacked | Self::Unanswered(_) => false,
            Self::Returned(..) => true,
            Self::Amqp(error) => is_final_for_message(error),
        }
    }
}

impl Parcel<'_> {
    /// Whether the broker may be asked for its queue on the sender's behalf.
    fn may_insist(&self) -> bool {
        let is_request = matches!(
            self.entity,
            Destination::Topic { .. } | Destination::Server { .. }
        );
        is_request && !self.mandatory
    }

    fn is_to_caller(&self) -> bool {
        matches!(self.address.exchange, Exchange::Direct(_))
    }

    fn lane(&self) -> LaneKind {
        match self.entity {
            Destination::Fanout { .. } => LaneKind::Fanout,
            Destination::Notification { .. } => LaneKind::Notification,
            _ => LaneKind::Main,
        }
    }
}

fn is_blocked(session: &Session) -> bool {
    session.connection.blocked_reason().is_some()
}

/// Holds a message back while the broker asks publishers to wait, so that one whose sender gives up
/// meanwhile never goes out.
async fn wait_while_blocked(session: &Session, mut blocked: watch::Receiver<Option<Arc<str>>>) {
    if blocked.borrow().is_none() {
        return;
    }
    tokio::select! {
        // An error means that the connection is gone, which the publish will find out.
        _ = blocked.wait_for(Option::is_none) => {}
        _ = session.connection.closed() => {}
    }
}

/// The properties of every message, byte for byte the reference's (spec section 5).
fn properties(compression: Option<Compression>) -> EncodedProperties {
    let mut headers = Table::new();
    if let Some(compression) = compression {
        headers.insert("compression", compression.header());
    }
    PropertiesBuilder::new()
        .content_type("application/json")
        .content_encoding("utf-8")
        .headers(headers)
        .delivery_mode(2)
        .priority(0)
        .build()
        .expect("these few short properties fit into any frame")
}

/// Wire: the expiration is cut to whole milliseconds; RabbitMQ takes 32 bits of them.
fn milliseconds(expires: Duration) -> u64 {
    u64::try_from(expires.as_millis())
        .unwrap_or(u64::MAX)
        .min(u32::MAX.into())
}

/// The limit that RabbitMQ names in its refusal; without a number in it, one less than what it refused.
fn limit_in(text: &str, refused: usize) -> usize {
    let numbers = text.split(|letter: char| !letter.is_ascii_digit());
    let limit = numbers
        .filter_map(|digits| digits.parse::<usize>().ok())
        .next_back();
    limit
        .filter(|limit| (1..refused).contains(limit))
        .unwrap_or(refused.saturating_sub(1))
}

/// Wait before a message the broker did not take is tried again: a full queue may have room soon.
fn pause(failed: u32) -> Duration {
    let most = (0.05 * 2_f64.powi(failed.min(6) as i32)).min(2.0);
    Duration::from_secs_f64(most * (0.5 + 0.5 * fastrand::f64()))
}

/// The data behind these locks is whole at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_read_from_the_refusal_or_taken_from_what_was_refused() {
        let text =
            "PRECONDITION_FAILED - message size 100001 is larger than configured max size 100000";
        assert_eq!(limit_in(text, 100_001), 100_000);
        assert_eq!(limit_in("message too large", 100_001), 100_000);
        assert_eq!(limit_in("larger than 16777216 bytes", 500), 499);
    }
}
