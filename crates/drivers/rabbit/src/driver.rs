//! The driver as the seam sees it: two connections, lazily made, one to publish and one to consume.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oslo_messaging_core::driver::{
    BoxFuture, Capabilities, Destination, Driver, Health, Inbox, Listener, Outgoing, Retry,
    Subscription,
};
use oslo_messaging_core::error::Result;
use oslo_messaging_core::events::{EventSource, Events};
use oslo_messaging_proto::url::TransportUrl;
use tokio::time::{Instant, timeout_at};

use crate::brokers::Brokers;
use crate::census::Census;
use crate::config::{RabbitConfig, Wire};
use crate::connection::{Link, Patience, Phase, Role};
use crate::consumer::Consumers;
use crate::error::closed_error;
use crate::facts::Facts;
use crate::plain::Plain;
use crate::publisher::Publisher;
use crate::pulse::Pulse;

/// An urgent message without a deadline gets this long to find its way past all others.
const ASIDE: Duration = Duration::from_secs(1);

/// The RabbitMQ driver, `rabbit://` and `kombu://`.
///
/// Opens at most two TCP connections, whatever number of servers, clients and calls uses it, and none
/// before the first operation that needs one. Keeps both up: after a loss it connects again by itself,
/// to the next broker if there are several, and sets up all subscriptions again under their old names.
///
/// Must be used inside a tokio runtime.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use oslo_messaging_core::driver::Driver;
/// use oslo_messaging_proto::TransportUrl;
/// use oslo_messaging_rabbit::config::RabbitConfig;
/// use oslo_messaging_rabbit::driver::RabbitDriver;
///
/// let url = TransportUrl::parse("rabbit://nova:secret@broker-1,nova:secret@broker-2/").unwrap();
/// let driver = RabbitDriver::new(&url, RabbitConfig::default(), "nova")?;
/// // Nothing has been connected yet.
/// assert!(driver.health().host.is_none());
/// driver.close().await;
/// # Ok(()) }
/// ```
pub struct RabbitDriver {
    publisher: Publisher,
    consumers: Consumers,
    /// With `wire = plain`.
    plain: Option<Plain>,
    events: EventSource,
    capabilities: Capabilities,
    closed: AtomicBool,
}

impl RabbitDriver {
    /// A driver for the brokers of `url`, with the options of `config`. `control_exchange` is the
    /// exchange of targets that name none (`openstack` by default). Does not connect.
    ///
    /// The URL's query is left to the caller, since it may carry options of others as well; see
    /// [`RabbitConfig::apply_query`].
    ///
    /// # Errors
    /// Options that are unknown, out of range or cannot go together
    /// ([`Config`](oslo_messaging_core::error::ErrorKind::Config)) or that this build does not do
    /// ([`Unsupported`](oslo_messaging_core::error::ErrorKind::Unsupported)).
    pub fn new(url: &TransportUrl, config: RabbitConfig, control_exchange: &str) -> Result<Self> {
        config.validate()?;
        crate::security::tell(&config);
        crate::address::check_name(control_exchange)?;
        let config = Arc::new(config);
        let brokers = Arc::new(Brokers::new(url, &config));
        let mut capabilities = Capabilities::rpc();
        capabilities.notifications = true;
        capabilities.requeue = true;
        capabilities.mandatory = true;
        capabilities.prefetch = NonZeroU16::new(config.rabbit_qos_prefetch_count);
        capabilities.reply_retry =
            Duration::from_secs(config.kombu_missing_consumer_retry_timeout.into());
        if config.wire == Wire::Plain {
            // A reply exchange goes with its caller and does not come back.
            capabilities.reply_retry = Duration::ZERO;
        }
        let (facts, events) = (Arc::<Facts>::default(), EventSource::new());
        let pulse = Arc::new(Pulse::new());
        let link = |role| {
            Link::new(
                Arc::clone(&brokers),
                role,
                events.clone(),
                Arc::clone(&pulse),
            )
        };
        let (publishing, consuming) = (Arc::new(link(Role::Publish)), link(Role::Consume));
        let exchange = control_exchange.to_owned();
        let wire = config.wire;
        let census = Census::new(
            Arc::clone(&facts),
            events.clone(),
            Arc::clone(&pulse),
            Arc::clone(&publishing),
        );
        let canary = Arc::clone(&census.canary);
        let consumers = Consumers::new(consuming, Arc::clone(&config), exchange.clone(), census);
        let plain = (wire == Wire::Plain).then(|| Plain::new(consumers.shared_link()));
        Ok(Self {
            publisher: Publisher::new(publishing, config, exchange, facts, pulse, &canary),
            consumers,
            plain,
            events,
            capabilities,
            closed: AtomicBool::new(false),
        })
    }

    /// Deletes what these subscriptions declare under names that are known beforehand: their queues, with whatever is in them and
    /// whoever consumes them, and the exchanges to which nothing else is bound. Queues with random names (replies, fanouts) expire by
    /// themselves. What is not there is as good as gone.
    ///
    /// For measurements and tests, with names that nobody else uses. End the subscriptions first: one that is in force declares its
    /// queues again. `retry` is how often a broker is tried that cannot be reached.
    ///
    /// # Errors
    /// [`Unreachable`](oslo_messaging_core::error::ErrorKind::Unreachable) without a broker,
    /// [`AccessRefused`](oslo_messaging_core::error::ErrorKind::AccessRefused) where the user may not delete,
    /// [`Closed`](oslo_messaging_core::error::ErrorKind::Closed) after a close. Whatever can be deleted is, also after an error.
    ///
    /// # Cancellation
    /// Safe; what was not deleted yet stays.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging_core::error::Result<()> {
    /// use oslo_messaging_core::driver::{Notifications, Retry, Subscription};
    /// use oslo_messaging_proto::TransportUrl;
    /// use oslo_messaging_rabbit::config::RabbitConfig;
    /// use oslo_messaging_rabbit::driver::RabbitDriver;
    ///
    /// let url = TransportUrl::parse("rabbit://nova:secret@broker/").unwrap();
    /// let driver = RabbitDriver::new(&url, RabbitConfig::default(), "run-17")?;
    /// let heard = Notifications::new([(None, "run-17.info".to_owned())]);
    /// driver.remove(&[Subscription::Notifications(heard)], Retry::Never).await?;
    /// # Ok(()) }
    /// ```
    pub async fn remove(&self, what: &[Subscription], retry: Retry) -> Result<()> {
        self.check_open()?;
        self.consumers.remove(what, retry).await
    }

    /// Sends an urgent message to one who waits past all others, if there is a way.
    async fn send_aside(&self, message: &Outgoing<'_>) -> bool {
        let link = self.consumers.link();
        let session = link.with_status(|status| status.session().cloned());
        let (Some(session), Destination::Reply { .. }) = (session, message.destination) else {
            return false;
        };
        let limit = message.deadline.unwrap_or_else(|| Instant::now() + ASIDE);
        let sent = timeout_at(limit, self.publisher.send_aside(message, &session)).await;
        sent.unwrap_or(false)
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(closed_error())
        } else {
            Ok(())
        }
    }
}

impl Driver for RabbitDriver {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        if let Err(error) = self.check_open() {
            return Box::pin(std::future::ready(Err(error)));
        }
        match &self.plain {
            None if message.urgent => Box::pin(async move {
                if self.send_aside(&message).await {
                    return Ok(());
                }
                self.publisher.send(message).await
            }),
            None => Box::pin(self.publisher.send(message)),
            Some(plain) => Box::pin(plain.send(&self.publisher, message)),
        }
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.check_open()?;
            match (&self.plain, &what) {
                (Some(plain), Subscription::Replies) => Ok(plain.replies(inbox)),
                (Some(_), Subscription::Rpc { .. }) => {
                    self.consumers.listen(what, Plain::requests(inbox)).await
                }
                (None, Subscription::Replies) => {
                    let listening = self.consumers.listen(what, inbox);
                    beside(listening, self.publisher.warm_up()).await
                }
                _ => self.consumers.listen(what, inbox).await,
            }
        })
    }

    fn reach(&self, retry: Retry) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check_open()?;
            let mut patience = Patience::new(retry);
            self.consumers.link().session(0, &mut patience).await?;
            Ok(())
        })
    }

    /// Connected means that each connection asked for so far is up, and that one was asked for.
    fn health(&self) -> Health {
        let mut health = Health::default();
        let (mut wanted, mut up) = (0, 0);
        for link in [self.consumers.link(), self.publisher.link()] {
            link.with_status(|status| {
                wanted += u32::from(!matches!(status.phase, Phase::Idle));
                if let Phase::Up(session) = &status.phase {
                    up += 1;
                    health.host = Some(session.host.to_string());
                }
                if let Some(fault) = &status.last_fault {
                    health.last_error = Some(fault.to_error().to_string());
                }
            });
        }
        if let Some(fault) = self.consumers.fault() {
            health.last_error = Some(fault);
        }
        health.connected = wanted > 0 && up == wanted;
        health.blocked = self.publisher.is_blocked();
        health.consumers = self.consumers.active();
        health
    }

    fn events(&self) -> Events {
        self.events.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Release);
            // Subscriptions first, so that replies under way can still go out.
            if let Some(plain) = &self.plain {
                plain.close().await;
            }
            self.consumers.close().await;
            self.publisher.close().await;
        })
    }
}

/// Awaits `work` and goes on with `other` meanwhile, as far as it comes.
async fn beside<T>(work: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let other = async {
        other.await;
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        done = other => done,
    }
}

impl fmt::Debug for RabbitDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitDriver")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use oslo_messaging_core::driver::Destination;

    use super::*;

    /// Bytes of memory that a message holds until it is confirmed, beside its body.
    const MOST_BYTES: usize = 384;

    #[tokio::test]
    async fn a_message_that_waits_for_its_confirmation_is_small() {
        let url = TransportUrl::parse("rabbit://broker/").unwrap();
        let driver = RabbitDriver::new(&url, RabbitConfig::default(), "openstack").unwrap();
        let to = Destination::Topic {
            exchange: None,
            topic: "t",
        };
        let sending = driver.send(Outgoing::new(to, Bytes::from_static(b"{}")));
        let bytes = std::mem::size_of_val(&*sending);
        println!("{bytes} bytes");
        assert!(
            bytes <= MOST_BYTES,
            "a message under way holds {bytes} bytes, at most {MOST_BYTES} were agreed on"
        );
    }
}
