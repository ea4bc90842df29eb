//! Messages on their way out: one connection, one confirm channel for topics and replies, one for fanouts, one for
//! notifications, one for declarations.
//!
//! Each send holds its bytes until the broker confirmed them and publishes them again after a lost
//! connection, a nack or a closed channel, as its retries and deadline allow. A channel that the broker
//! closes takes the unconfirmed messages of others with it; all of them are then published one at a time
//! on channels of their own, so that only the guilty one is told.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::OptionFuture;
use oslo_messaging_amqp::{
    Channel, Confirmation, Error as AmqpError, ErrorKind as AmqpKind, Publish,
};
use oslo_messaging_core::driver::{Destination, Outgoing, Retry};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::address::{Address, address, plain_address};
use crate::canary::Canary;
use crate::config::{RabbitConfig, Wire};
use crate::connection::{Link, Patience, Session};
use crate::error::{is_missing, is_oversize, is_refused};
use crate::exchanges::Exchanges;
use crate::facts::Facts;
use crate::lane::{Lane, LaneKind, LaneSlot, Progress, is_blocked, wait_while_blocked};
use crate::lock::lock;
use crate::parcel::{Failed, Fault, Parcel, Way, Wrappings, limit_in, milliseconds, pause};
use crate::publisher::first::Attempted;
use crate::pulse::Pulse;
use crate::window::Windows;

mod aside;
mod first;
mod told;

/// For so long after a lost connection a request waits for its queue to be declared again.
const SETTLING: Duration = Duration::from_secs(10);

/// A permission that is refused for so long is refused for good, unless it was granted before.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Messages that may be unconfirmed on a connection on which nothing comes any more. Those of a node that hangs go on
/// when it wakes up, when they may have gone another way long since.
const MOST_IN_SILENCE: usize = 64;

/// The publishing half of a driver.
pub(crate) struct Publisher {
    link: Arc<Link>,
    config: Arc<RabbitConfig>,
    control_exchange: String,
    wrappings: Wrappings,
    lanes: [LaneSlot; 3],
    exchanges: Exchanges,
    facts: Arc<Facts>,
    /// Shared with the connections.
    pulse: Arc<Pulse>,
    /// Largest body the broker takes, as far as it has said so.
    limit: AtomicUsize,
    windows: Windows,
    alone: AsyncMutex<()>,
    /// A channel of the connection that consumes, for what is urgent, and which connection that was.
    aside: AsyncMutex<Option<(u64, Channel)>>,
}

impl Publisher {
    /// A publisher that has not connected yet.
    pub(crate) fn new(
        link: Arc<Link>,
        config: Arc<RabbitConfig>,
        control_exchange: String,
        facts: Arc<Facts>,
        pulse: Arc<Pulse>,
        canary: &Arc<Canary>,
    ) -> Self {
        let wrappings = Wrappings::new(config.kombu_compression);
        Self {
            limit: AtomicUsize::new(config.max_message_size as usize),
            exchanges: Exchanges::new(&config, &facts, canary),
            facts,
            pulse,
            windows: Windows::default(),
            link,
            config,
            control_exchange,
            wrappings,
            lanes: Default::default(),
            alone: AsyncMutex::default(),
            aside: AsyncMutex::default(),
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

    /// Connects and opens the channel of calls, for one who will send a call next. Faults show when it is sent.
    pub(crate) async fn warm_up(&self) {
        let mut patience = Patience::new(Retry::Never);
        if let Ok(session) = self.link.session(0, &mut patience).await {
            // Whoever sends opens it then.
            let _ = self.lane(LaneKind::Main, &session).await;
        }
    }

    /// Ends the connection in good order. Sends under way fail.
    pub(crate) async fn close(&self) {
        self.link.close().await;
    }

    /// Sends one message; see `Driver::send`.
    #[expect(
        clippy::manual_async_fn,
        reason = "that has room for its argument twice"
    )]
    pub(crate) fn send<'a>(
        &'a self,
        message: Outgoing<'a>,
    ) -> impl Future<Output = Result<()>> + Send + use<'a> {
        async move {
            self.link.check_process();
            let deadline = match (message.deadline, message.retry) {
                (Some(deadline), _) => Some(deadline),
                // One attempt ends by itself, unless the broker neither answers nor closes.
                (None, Retry::Never) => Some(Instant::now() + self.link.brokers().round_deadline()),
                (None, _) => None,
            };
            let first = self.publish_first(&message, deadline)?;
            let attempted = match OptionFuture::from(first).await {
                Some(Ok(None)) => {
                    self.note_taken(message.destination);
                    return Ok(());
                }
                Some(Ok(Some(attempted))) => Some(attempted),
                Some(Err(_)) => return Err(self.late(message.destination, None)),
                None => None,
            };
            Box::pin(self.send_on(&message, deadline, attempted)).await
        }
    }

    /// Sends a message whose way is not clear, or whose first attempt has failed.
    async fn send_on(
        &self,
        message: &Outgoing<'_>,
        deadline: Option<Instant>,
        attempted: Option<Attempted>,
    ) -> Result<()> {
        let parcel = self.pack(message)?;
        let mut patience = Patience::new(message.retry);
        let mut last = None;
        let delivery = self.deliver(&parcel, &mut patience, &mut last, attempted);
        let done = match deadline {
            None => return delivery.await,
            Some(deadline) => timeout_at(deadline, delivery).await,
        };
        done.unwrap_or_else(|_| Err(self.late(message.destination, last)))
    }

    fn pack<'a>(&'a self, message: &Outgoing<'a>) -> Result<Parcel<'a>> {
        let body = match self.config.kombu_compression {
            None => message.body.bytes().clone(),
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
            persistent: message.persistent,
            urgent: message.urgent,
        })
    }

    fn address<'a>(&'a self, destination: Destination<'a>) -> Result<Address<'a>> {
        match self.config.wire {
            Wire::Oslo => address(&self.control_exchange, destination),
            Wire::Plain => plain_address(&self.control_exchange, destination),
        }
    }

    /// Notes that the exchange of this destination took a message, without a name made up where there is one.
    fn note_taken(&self, destination: Destination<'_>) {
        use Destination::{Notification, Server, Topic};
        match (self.config.wire, destination) {
            (
                Wire::Oslo,
                Topic { exchange, .. } | Server { exchange, .. } | Notification { exchange, .. },
            ) => {
                let exchange = exchange.unwrap_or(&self.control_exchange);
                self.exchanges.note_granted(exchange);
            }
            _ => {
                if let Ok(address) = self.address(destination) {
                    self.exchanges.note_granted(address.exchange.name());
                }
            }
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

    /// Publishes until the broker took the message or nothing more may be tried. `last` is what went wrong last, `attempted`
    /// what came of a first attempt.
    async fn deliver(
        &self,
        parcel: &Parcel<'_>,
        patience: &mut Patience,
        last: &mut Option<Fault>,
        mut attempted: Option<Attempted>,
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
            let (session, taken) = match (attempted.take(), self.current(parcel.lane(), after)) {
                (Some(first), _) => (first.session, Some(first.taken)),
                (None, Some(lane)) => (Arc::clone(&lane.session), None),
                (None, None) => (Box::pin(self.link.session(after, patience)).await?, None),
            };
            if after != 0 && insist_until.is_none() && parcel.may_insist() {
                // With the connection the broker may have lost the queue, and the servers that declare it again may
                // be slower than we are. Unasked, the broker would drop the message and confirm it.
                insist_until = Some(Instant::now() + SETTLING);
                way.mandatory = true;
            }
            let mut written = false;
            let taken = match taken {
                Some(taken) => taken,
                None => self.attempt(parcel, &session, way).await,
            };
            let fault = match taken {
                Ok(Confirmation::Acked) => {
                    self.exchanges.note_granted(parcel.address.exchange.name());
                    return Ok(());
                }
                Ok(Confirmation::Returned { .. })
                    if Box::pin(self.exchanges.bind_again(&parcel.address, &session)).await =>
                {
                    continue;
                }
                Ok(Confirmation::Returned { .. })
                    if self.is_kept(parcel.entity) && !declared_again =>
                {
                    declared_again = true;
                    self.exchanges.forget_queue(&parcel.address);
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
                && (self.exchanges.was_granted(parcel.address.exchange.name())
                    || refused_at.get_or_insert_with(Instant::now).elapsed() < REFUSED_FOR);
            if (fault.is_final() && !may_pass) || !patience.allows_after(1) {
                return Err(self.error(parcel.entity, &session, fault));
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
        self.exchanges.prepare(session, parcel).await?;
        if self.is_kept(parcel.entity) {
            // Large: in a box, so that messages of other kinds have no room for it.
            Box::pin(self.exchanges.declare_queue(session, &parcel.address)).await?;
        }
        if !way.alone {
            let window = match parcel.lane() {
                LaneKind::Fanout => None,
                LaneKind::Main | LaneKind::Notification => {
                    Some(self.windows.enter(&parcel.address.routing_key).await)
                }
            };
            let lane = match self.current_on(parcel.lane(), session) {
                Some(lane) => lane,
                None => Box::pin(self.lane(parcel.lane(), session)).await?,
            };
            if lane.blocked.borrow().is_some() {
                Box::pin(wait_while_blocked(session, lane.blocked.clone())).await;
            }
            if self.is_too_silent() {
                Box::pin(self.wait_while_silent(session)).await;
            }
            let _waiting = lane.expect();
            let taken = self.publish(&lane.channel, parcel, way).await;
            if let (Some(window), Ok(_)) = (window, &taken) {
                window.confirmed();
            }
            return taken;
        }
        Box::pin(self.attempt_alone(parcel, session, way)).await
    }

    /// Publishes on a channel of its own, one message after the other.
    async fn attempt_alone(
        &self,
        parcel: &Parcel<'_>,
        session: &Arc<Session>,
        way: Way,
    ) -> Result<Confirmation, Failed> {
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

    /// Whether nothing comes on the connection although much is owed.
    fn is_too_silent(&self) -> bool {
        self.pulse.is_silent() && self.pulse.unconfirmed() >= MOST_IN_SILENCE
    }

    /// Holds a message back until something comes on the connection, or it is over.
    async fn wait_while_silent(&self, session: &Session) {
        tokio::select! {
            () = self.pulse.until_heard() => {}
            _ = session.connection.closed() => {}
        }
    }

    async fn publish(
        &self,
        channel: &Channel,
        parcel: &Parcel<'_>,
        way: Way,
    ) -> Result<Confirmation, Failed> {
        let publish = self.envelope(parcel, way.mandatory);
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

    fn envelope<'a>(&'a self, parcel: &'a Parcel<'_>, mandatory: bool) -> Publish<'a> {
        Publish {
            exchange: parcel.address.exchange.name(),
            routing_key: &parcel.address.routing_key,
            mandatory,
            properties: self.wrappings.of(parcel.persistent),
            expiration: parcel.expiration,
        }
    }

    /// The channel in force, if it belongs to a connection newer than `after`.
    fn current(&self, kind: LaneKind, after: u64) -> Option<Arc<Lane>> {
        let lane = lock(&self.lanes[kind as usize].current).clone()?;
        let fits = lane.session.generation > after && lane.session.connection.is_open();
        // Those that wait on it keep its channel, and their places.
        (fits && !lane.is_stalled()).then_some(lane)
    }

    /// The channel of this kind on this connection, opened if there is none.
    async fn lane(&self, kind: LaneKind, session: &Arc<Session>) -> Result<Arc<Lane>, AmqpError> {
        let slot = &self.lanes[kind as usize];
        let _opening = slot.opening.lock().await;
        if let Some(lane) = self.current_on(kind, session) {
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

    /// The channel of this kind, if this connection has one.
    fn current_on(&self, kind: LaneKind, session: &Session) -> Option<Arc<Lane>> {
        self.current(kind, 0)
            .filter(|lane| lane.session.generation == session.generation)
    }

    /// Forgets a closed channel and the exchange that may have caused it.
    fn forget(&self, parcel: &Parcel<'_>, session: &Arc<Session>) {
        self.exchanges.forget(parcel.address.exchange.name());
        let mut current = lock(&self.lanes[parcel.lane() as usize].current);
        if current.as_ref().is_some_and(|lane| {
            Arc::ptr_eq(&lane.session, session) && lane.channel.closed_reason().is_some()
        }) {
            *current = None;
        }
    }

    /// Learns from a fault that is this message's own.
    fn learn(&self, parcel: &Parcel<'_>, error: &AmqpError, way: Way) {
        let exchange = parcel.address.exchange.name();
        if is_missing(error) && !exchange.is_empty() {
            self.exchanges.note_vanished(exchange);
        }
        if way.alone && is_oversize(error) {
            let limit = limit_in(error.text(), parcel.body.len());
            tracing::warn!(limit, "the broker takes no larger messages");
            self.limit.fetch_min(limit, Ordering::Relaxed);
        }
    }
}
