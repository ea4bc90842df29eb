//! The driver as the seam sees it: one producer, lazily made, and a consumer for each listener.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oslo_messaging_core::driver::{
    BoxFuture, Capabilities, Driver, Health, Inbox, Listener, Outgoing, Subscription,
};
use oslo_messaging_core::error::Result;
use oslo_messaging_core::events::{EventSource, Events};
use oslo_messaging_proto::url::TransportUrl;
use oslo_messaging_proto::wire::notification::ContextForm;

use crate::config::KafkaConfig;
use crate::consumer::Consumers;
use crate::error::closed_error;
use crate::publisher::Publisher;
use crate::settings::Settings;
use crate::status::Status;

/// The Kafka driver, `kafka://`: notifications, no RPC (parity K1).
///
/// Opens no connection before the first operation that needs one. Keeps connections up by itself, to all brokers of the
/// cluster that it needs, and finds them again after a loss.
///
/// Must be used inside a tokio runtime.
///
/// ```
/// use oslo_messaging_core::driver::Driver;
/// use oslo_messaging_kafka::config::KafkaConfig;
/// use oslo_messaging_kafka::driver::KafkaDriver;
/// use oslo_messaging_proto::url::TransportUrl;
///
/// let url = TransportUrl::parse("kafka://broker-1:9092,broker-2/prod")?;
/// let driver = KafkaDriver::new(&url, KafkaConfig::default())?;
/// assert!(driver.capabilities().notifications && !driver.capabilities().rpc);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KafkaDriver {
    settings: Arc<Settings>,
    publisher: Publisher,
    consumers: Consumers,
    events: EventSource,
    closed: AtomicBool,
}

impl KafkaDriver {
    /// A driver for the brokers of `url`, with the options of `config`. Does not connect.
    ///
    /// Brokers without a port are looked for at 9092. The virtual host becomes the end of each topic's name. User and
    /// password are those of the first host that has any, used if `security_protocol` asks for a login. The URL's query is left
    /// to the caller, since it may carry options of others as well; see [`KafkaConfig::apply_query`].
    ///
    /// # Errors
    /// Options that are out of range or cannot go together ([`Config`](oslo_messaging_core::error::ErrorKind::Config)) or that
    /// this build does not do ([`Unsupported`](oslo_messaging_core::error::ErrorKind::Unsupported)).
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    /// use oslo_messaging_kafka::driver::KafkaDriver;
    /// use oslo_messaging_proto::url::TransportUrl;
    ///
    /// let url = TransportUrl::parse("kafka://[::1]/?producer_batch_timeout=0.1")?;
    /// let driver = KafkaDriver::new(&url, KafkaConfig::from_query(url.query())?)?;
    /// assert!(format!("{driver:?}").contains("[::1]:9092"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(url: &TransportUrl, config: KafkaConfig) -> Result<Self> {
        let settings = Settings::new(url, config)?;
        let events = EventSource::new();
        Ok(Self {
            publisher: Publisher::new(Arc::clone(&settings), events.clone()),
            consumers: Consumers::new(Arc::clone(&settings), events.clone()),
            settings,
            events,
            closed: AtomicBool::new(false),
        })
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(closed_error())
        } else {
            Ok(())
        }
    }
}

impl Driver for KafkaDriver {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::notifications();
        // In this process: what is given back is handed out again, and is not committed until it is handled.
        capabilities.requeue = true;
        capabilities.history = true;
        capabilities.context = ContextForm::Member;
        capabilities
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.check_open()?;
            self.publisher.send(message).await
        })
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            self.check_open()?;
            self.consumers.listen(what, inbox).await
        })
    }

    /// Connected means that each client asked for so far has a broker that answered, and that one was asked for.
    fn health(&self) -> Health {
        let mut health = Health::default();
        let (mut wanted, mut up) = (0, 0);
        let mut look = |status: &Status| {
            wanted += 1;
            if status.is_up() {
                up += 1;
                health.host = status.host().or(health.host.take());
            }
            health.last_error = status.fault().or(health.last_error.take());
        };
        self.publisher.status().into_iter().for_each(&mut look);
        self.consumers.statuses().iter().for_each(|one| look(one));
        health.connected = wanted > 0 && up == wanted;
        health.consumers = self.consumers.active();
        health
    }

    fn events(&self) -> Events {
        self.events.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.store(true, Ordering::Release);
            tokio::join!(self.consumers.close(), self.publisher.close());
        })
    }
}

impl fmt::Debug for KafkaDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaDriver")
            .field("settings", &self.settings)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}
