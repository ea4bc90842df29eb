//! How a notifier is made: its options, and the sinks that have names (parity N1 to N5).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::wire::notification::NotificationFormat;
use tracing::debug;

use super::{Inner, Notifier};
use crate::config::NotificationsConfig;
use crate::driver::Retry;
use crate::error::{Error, ErrorKind, Result};
use crate::notify::log::LogSink;
use crate::notify::messaging::MessagingSink;
use crate::notify::outbox::BufferOptions;
use crate::notify::redact::ContextPolicy;
use crate::notify::routing::RoutingSink;
use crate::notify::sink::{NoopSink, Sink, TestSink};
use crate::serializer::Serializer;
use crate::transport::Transport;

/// How long a caller waits at most if the notifier says nothing else.
const PATIENCE: Duration = Duration::from_secs(5);

/// A notifier to be.
///
/// ```
/// use oslo_messaging_core::memory::MemoryBroker;
/// use oslo_messaging_core::notify::{Notifier, NotifierBuilder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// let builder: NotifierBuilder = Notifier::builder(MemoryBroker::new().transport());
/// let notifier = builder.publisher_id("compute.node-1").drivers(["messagingv2"]).build()?;
/// # drop(notifier);
/// # Ok(()) }
/// ```
#[must_use = "a notifier works only when it is built"]
pub struct NotifierBuilder {
    transport: Transport,
    publisher_id: Option<String>,
    topics: Vec<String>,
    drivers: Option<Vec<String>>,
    routing_config: Option<PathBuf>,
    sinks: Vec<Arc<dyn Sink>>,
    serializer: Option<Arc<dyn Serializer>>,
    retry: Retry,
    patience: Duration,
    buffer: BufferOptions,
    policy: ContextPolicy,
    expires: Option<Duration>,
}

impl NotifierBuilder {
    /// With the defaults.
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            publisher_id: None,
            topics: vec!["notifications".to_owned()],
            drivers: None,
            routing_config: None,
            sinks: Vec::new(),
            serializer: None,
            retry: Retry::Forever,
            patience: PATIENCE,
            buffer: BufferOptions::default(),
            policy: ContextPolicy::default(),
            expires: None,
        }
    }

    /// Takes sinks, topics, retry and routing file from options as a configuration file has them.
    ///
    /// ```
    /// # use oslo_messaging_core::memory::MemoryBroker;
    /// use oslo_messaging_core::{config::NotificationsConfig, notify::Notifier};
    ///
    /// let mut options = NotificationsConfig::default();
    /// options.driver.0.push("noop".to_owned());
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).options(&options).build()?;
    /// assert!(!notifier.is_enabled());
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn options(mut self, options: &NotificationsConfig) -> Self {
        self.drivers = Some(options.driver.to_vec());
        self.topics = options.topics.clone();
        self.routing_config = Some(PathBuf::from(&options.routing_config))
            .filter(|file| !file.as_os_str().is_empty());
        self.retry = match u32::try_from(options.retry) {
            Ok(0) => Retry::Never,
            Ok(times) => Retry::Times(times),
            Err(_) if options.retry > 0 => Retry::Times(u32::MAX),
            Err(_) => Retry::Forever,
        };
        self
    }

    /// Names who publishes, such as `compute.node-1`.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).publisher_id("compute.node-1").build()?;
    /// assert_eq!(notifier.publisher(), Some("compute.node-1"));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn publisher_id(mut self, publisher_id: impl Into<String>) -> Self {
        self.publisher_id = Some(publisher_id.into());
        self
    }

    /// Sends to this topic alone.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).topic("versioned_notifications").build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.topics([topic])
    }

    /// Sends a copy to each of these topics. Default `notifications`.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).topics(["notifications", "audit"]).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Gives notifications to the sinks of these names, made with the notifier's transport: `messaging`, `messagingv2`,
    /// `log`, `routing`, `test`, `noop`. Default `messagingv2`, unless [`NotifierBuilder::sink`] is used.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// assert!(Notifier::builder(MemoryBroker::new().transport()).drivers(["messaging", "log"]).build().is_ok());
    /// assert!(Notifier::builder(MemoryBroker::new().transport()).drivers(["messagingv3"]).build().is_err());
    /// ```
    pub fn drivers<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.drivers = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Gives notifications to this sink, too: one of another bus, or one of your own.
    ///
    /// ```
    /// # use oslo_messaging_core::memory::MemoryBroker;
    /// use oslo_messaging_core::notify::{MessagingSink, Notifier};
    /// use oslo_messaging_proto::NotificationFormat;
    ///
    /// let (near, archive) = (MemoryBroker::new().transport(), MemoryBroker::new().transport());
    /// let notifier = Notifier::builder(near)
    ///     .drivers(["messagingv2"])
    ///     .sink(MessagingSink::new(&archive, NotificationFormat::V2)?)
    ///     .build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn sink(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }

    /// The file the sink `routing` goes by; see [`RoutingSink`].
    ///
    /// ```no_run
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let notifier = Notifier::builder(MemoryBroker::new().transport())
    ///     .drivers(["routing"])
    ///     .routing_config("/etc/nova/routing.yaml")
    ///     .build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn routing_config(mut self, file: impl Into<PathBuf>) -> Self {
        self.routing_config = Some(file.into());
        self
    }

    /// Lets payloads and contexts pass through `serializer`. None by default.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// use oslo_messaging_core::serializer::NoOpSerializer;
    ///
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).serializer(NoOpSerializer).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn serializer(mut self, serializer: impl Serializer) -> Self {
        self.serializer = Some(Arc::new(serializer));
        self
    }

    /// How often sending is tried. Default for ever, as the reference does; that holds up the buffer, not the caller.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// use oslo_messaging_core::driver::Retry;
    ///
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).retry(Retry::Times(3)).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long a caller waits at most: for room in the buffer, or, confirmed, for the bus. Default 5 s.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let limit = std::time::Duration::from_millis(100);
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).deadline(limit).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn deadline(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How much the sinks made by name keep for a bus that is slow or gone, and what happens then.
    ///
    /// ```
    /// # use oslo_messaging_core::memory::MemoryBroker;
    /// use oslo_messaging_core::notify::{BufferOptions, Notifier, WhenFull};
    ///
    /// let mut buffer = BufferOptions::default();
    /// buffer.when_full = WhenFull::DropOldest;
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).buffer(buffer).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn buffer(mut self, buffer: BufferOptions) -> Self {
        self.buffer = buffer;
        self
    }

    /// What of the context goes out. By default what the reference tells.
    ///
    /// ```
    /// # use oslo_messaging_core::memory::MemoryBroker;
    /// use oslo_messaging_core::notify::{ContextPolicy, Notifier};
    ///
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).context_policy(ContextPolicy::Nothing).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn context_policy(mut self, policy: ContextPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Lets the bus drop what no listener took in time; see [`MessagingSink::expires`]. Default never.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// let day = std::time::Duration::from_secs(86_400);
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).expires(day).build()?;
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn expires(mut self, expires: Duration) -> Self {
        self.expires = Some(expires);
        self
    }

    /// Makes the sinks. Does not connect.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for names of sinks there are not, topics without a name, and a routing file that
    /// cannot be read; [`Unsupported`](ErrorKind::Unsupported) for a bus without notifications.
    ///
    /// ```
    /// # use oslo_messaging_core::{memory::MemoryBroker, notify::Notifier};
    /// assert!(Notifier::builder(MemoryBroker::new().transport()).build()?.is_enabled());
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn build(mut self) -> Result<Notifier> {
        if self.topics.iter().any(String::is_empty) {
            let text = "a topic of notifications has no name; give it one, or leave it out";
            return Err(Error::new(ErrorKind::Config, text).with("option", "topics"));
        }
        let names = match self.drivers.take() {
            Some(names) => names,
            None if self.sinks.is_empty() => vec!["messagingv2".to_owned()],
            None => Vec::new(),
        };
        let mut sinks = Vec::new();
        for (number, name) in names.iter().enumerate() {
            if !names[..number].contains(name) {
                sinks.push(self.sink_named(name)?);
            }
        }
        sinks.append(&mut self.sinks);
        if sinks.is_empty() {
            debug!("notifications go nowhere, since no driver is configured");
        }
        Ok(Notifier {
            inner: Arc::new(Inner {
                sinks,
                topics: self.topics,
                serializer: self.serializer,
                policy: self.policy,
            }),
            publisher_id: self.publisher_id.map(Into::into),
            retry: self.retry,
            patience: self.patience,
            confirm: false,
        })
    }

    fn sink_named(&self, name: &str) -> Result<Arc<dyn Sink>> {
        Ok(match name {
            "messaging" => Arc::new(self.messaging(NotificationFormat::V1)?),
            "messagingv2" => Arc::new(self.messaging(NotificationFormat::V2)?),
            "log" => Arc::new(LogSink),
            "noop" => Arc::new(NoopSink),
            "test" => Arc::new(TestSink::new()),
            "routing" => Arc::new(self.routing()?),
            other => {
                let text = format!(
                    "there is no notification driver {other:?}; there are log, messaging, messagingv2, noop, routing and test"
                );
                return Err(Error::new(ErrorKind::Config, text).with("option", "driver"));
            }
        })
    }

    fn messaging(&self, format: NotificationFormat) -> Result<MessagingSink> {
        let sink = MessagingSink::with_buffer(&self.transport, format, self.buffer)?;
        Ok(match self.expires {
            Some(expires) => sink.expires(expires),
            None => sink,
        })
    }

    /// All sinks that have a name of their own are targets: those made by name, and those given.
    fn routing(&self) -> Result<RoutingSink> {
        let Some(file) = &self.routing_config else {
            let text = "the driver routing goes by a file; name it in routing_config";
            return Err(Error::new(ErrorKind::Config, text).with("option", "routing_config"));
        };
        let mut builder = RoutingSink::builder(file)
            .target("messaging", self.messaging(NotificationFormat::V1)?)
            .target("messagingv2", self.messaging(NotificationFormat::V2)?)
            .target("log", LogSink)
            .target("noop", NoopSink)
            .target("test", TestSink::new());
        for sink in &self.sinks {
            builder = builder.target(sink.name().to_owned(), Arc::clone(sink));
        }
        builder.build()
    }
}

impl fmt::Debug for NotifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierBuilder")
            .field("publisher_id", &self.publisher_id)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
