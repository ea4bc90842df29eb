//! The configuration of a service: files, environment and URL together, as typed options that know where they are from.
//!
//! Reads nothing by itself: a program names its files and passes the [`Config`] on. The file language is the crate
//! `oslo-messaging-config`'s, the options belong to the crates that use them. Order, later wins: defaults, defaults of
//! the program, files, environment, query of the transport URL.

mod builder;
mod document;
mod gone;

use std::fmt;
use std::path::PathBuf;

use oslo_messaging_config::error::{ConfigError, Refusal};
use oslo_messaging_config::resolve::Report;
use oslo_messaging_core::error::{Error, Result};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::url::TransportUrl;
#[cfg(feature = "rabbit")]
use oslo_messaging_rabbit::config::RabbitConfig;

use crate::drivers::{ConnectOptions, connect_with};

pub use self::builder::ConfigBuilder;
pub use self::document::{reference, sample};
pub use oslo_messaging_config::error::Warning;
pub use oslo_messaging_config::origin::{Origin, Place};
pub use oslo_messaging_config::table::{OptionInfo, Options, Table};
pub use oslo_messaging_config::value::{Multi, Seconds, Secret};
pub use oslo_messaging_core::config::{
    BusUrl, DefaultConfig, MetricsConfig, NotificationsConfig, OtlpProtocol, TracingConfig,
};
pub use oslo_messaging_kafka::config::{CompressionCodec, KafkaConfig, SecurityProtocol};

/// Every group of options, in the order of documents.
///
/// ```
/// use oslo_messaging::config::TABLES;
///
/// assert!(TABLES.iter().any(|table| table.group == "oslo_messaging_metrics"));
/// ```
pub const TABLES: &[Table] = &[
    DefaultConfig::TABLE,
    NotificationsConfig::TABLE,
    #[cfg(feature = "rabbit")]
    RabbitConfig::TABLE,
    KafkaConfig::TABLE,
    MetricsConfig::TABLE,
    TracingConfig::TABLE,
];

/// The options of a service, with where each value is from.
///
/// Neither `Display`, which prints it as a file, nor `Debug` shows a secret.
///
/// ```
/// use oslo_messaging::Config;
///
/// let file = "[DEFAULT]\ntransport_url = rabbit://nova:$pw@$my_ip/\npw = s3cret\nmy_ip = 10.0.0.1\n\
///     [oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n";
/// let config = Config::builder().text("nova.conf", file).load().unwrap();
/// assert_eq!(config.transport_url().hosts()[0].hostname(), Some("10.0.0.1"));
/// # #[cfg(feature = "rabbit")]
/// assert!(config.rabbit.rabbit_quorum_queue);
/// assert_eq!(config.origin("DEFAULT", "transport_url").to_string(), "nova.conf:2");
/// assert!(!config.to_string().contains("s3cret"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Group `DEFAULT`.
    pub default: DefaultConfig,
    /// Group `oslo_messaging_notifications`.
    pub notifications: NotificationsConfig,
    /// Group `oslo_messaging_rabbit`.
    #[cfg(feature = "rabbit")]
    pub rabbit: RabbitConfig,
    /// Group `oslo_messaging_kafka`.
    pub kafka: KafkaConfig,
    /// Group `oslo_messaging_metrics`.
    pub metrics: MetricsConfig,
    /// Group `oslo_messaging_tracing`.
    pub tracing: TracingConfig,
    report: Report,
    files: Vec<PathBuf>,
}

/// One option of a [`Config`] with its value and who set it.
///
/// ```
/// use oslo_messaging::Config;
///
/// let config = Config::builder().load().unwrap();
/// let entry = config.entries().into_iter().find(|entry| entry.info.name == "control_exchange").unwrap();
/// assert_eq!((entry.group, entry.value().as_str(), entry.is_default()), ("DEFAULT", "openstack", true));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Its group.
    pub group: &'static str,
    /// What is known of the option.
    pub info: &'static OptionInfo,
    /// Its value as one would write it, without secrets; several for a multi-valued option, nothing if it is not set.
    pub texts: Vec<String>,
    /// Who set it.
    pub origin: &'a Origin,
}

impl Entry<'_> {
    /// The value as one line.
    ///
    /// ```
    /// # let config = oslo_messaging::Config::builder().load().unwrap();
    /// assert_eq!(config.entries()[0].value(), "rabbit://");
    /// ```
    pub fn value(&self) -> String {
        self.texts.join(", ")
    }

    /// Whether the value is the one that stands without any configuration.
    ///
    /// ```
    /// # let config = oslo_messaging::Config::builder().text("a", "[DEFAULT]\nrpc_response_timeout = 60\n").load().unwrap();
    /// assert!(config.entries().iter().all(|entry| entry.is_default()));
    /// ```
    pub fn is_default(&self) -> bool {
        self.texts == self.info.default_texts()
    }
}

impl Config {
    /// Begins with nothing but defaults.
    ///
    /// ```
    /// let config = oslo_messaging::Config::builder().load().unwrap();
    /// assert_eq!(config.default.control_exchange, "openstack");
    /// ```
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The bus for RPC: `[DEFAULT] transport_url`, `rabbit://` if nobody sets it (parity U1).
    ///
    /// ```
    /// # let config = oslo_messaging::Config::builder().load().unwrap();
    /// assert_eq!(config.transport_url().scheme(), "rabbit");
    /// ```
    pub fn transport_url(&self) -> &TransportUrl {
        &self.default.transport_url
    }

    /// The bus for notifications: `[oslo_messaging_notifications] transport_url`, else that for RPC (parity TR2).
    ///
    /// ```
    /// let text = "[DEFAULT]\ntransport_url = rabbit://rpc/\n";
    /// let config = oslo_messaging::Config::builder().text("a.conf", text).load().unwrap();
    /// assert_eq!(config.notification_transport_url(), config.transport_url());
    /// ```
    pub fn notification_transport_url(&self) -> &TransportUrl {
        match &self.notifications.transport_url {
            Some(url) => url,
            None => self.transport_url(),
        }
    }

    /// What a transport is made with. The query of its URL still has its say when it is made.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let text = "[DEFAULT]\nrpc_response_timeout = 5\n";
    /// let config = oslo_messaging::Config::builder().text("a.conf", text).load().unwrap();
    /// let options = config.connect_options();
    /// assert_eq!(options.transport.rpc_response_timeout, Duration::from_secs(5));
    /// ```
    pub fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::default();
        options
            .control_exchange
            .clone_from(&self.default.control_exchange);
        options.transport = TransportOptions::from(&self.default);
        options.transport.metrics.clone_from(&self.metrics);
        options.transport.tracing.clone_from(&self.tracing);
        options.transport.metrics.clone_from(&self.metrics);
        options.transport.tracing.clone_from(&self.tracing);
        #[cfg(feature = "rabbit")]
        options.rabbit.clone_from(&self.rabbit);
        #[cfg(feature = "kafka")]
        options.kafka.clone_from(&self.kafka);
        options
    }

    /// Who set this option; [`Origin::Default`] for an unknown one, too.
    ///
    /// ```
    /// # let config = oslo_messaging::Config::builder().load().unwrap();
    /// assert!(!config.origin("DEFAULT", "transport_url").is_set());
    /// ```
    pub fn origin(&self, group: &str, name: &str) -> &Origin {
        self.report.origin(group, name)
    }

    /// The files read, in their order.
    ///
    /// ```
    /// let config = oslo_messaging::Config::builder().text("a.conf", "").load().unwrap();
    /// assert_eq!(config.files().len(), 1);
    /// ```
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What the operator should know of: former names in use, options that will go or are gone.
    ///
    /// ```
    /// let text = "[DEFAULT]\nrpc_thread_pool_size = 8\n";
    /// let config = oslo_messaging::Config::builder().text("nova.conf", text).load().unwrap();
    /// assert_eq!(config.default.executor_thread_pool_size, 8);
    /// assert_eq!(config.warnings()[0].to_string(),
    ///     "nova.conf:2: [DEFAULT] rpc_thread_pool_size is deprecated; write executor_thread_pool_size in [DEFAULT]");
    /// ```
    pub fn warnings(&self) -> &[Warning] {
        self.report.warnings()
    }

    /// Everything that is wrong: what [`ConfigBuilder::read`] passed over, and options of the driver in use that cannot
    /// go together.
    ///
    /// ```
    /// let config = oslo_messaging::Config::builder().text("a.conf", "[DEFAULT]\nrpc_ping_enabled = 2\n").read();
    /// assert!(config.errors()[0].to_string().contains("a.conf:2"));
    /// ```
    pub fn errors(&self) -> Vec<Error> {
        let errors = self.report.errors().iter().cloned();
        let mut errors: Vec<Error> = errors.map(Error::from).collect();
        #[cfg(feature = "rabbit")]
        if errors.is_empty() && is_rabbit(self.transport_url()) {
            errors.extend(self.rabbit.validate().err().map(|error| self.placed(error)));
        }
        let kafka = |url: &TransportUrl| url.driver() == "kafka";
        let in_use = kafka(self.transport_url()) || kafka(self.notification_transport_url());
        if errors.is_empty() && in_use {
            errors.extend(self.kafka.validate().err());
        }
        errors
    }

    /// An error of a driver with the places of the options that it names.
    fn placed(&self, error: Error) -> Error {
        let named = error
            .fields()
            .filter(|(field, _)| matches!(*field, "option" | "options"))
            .flat_map(|(_, names)| names.split(", "));
        let mut places: Vec<String> = Vec::new();
        for name in named {
            let groups = TABLES.iter().map(|table| self.origin(table.group, name));
            places.extend(
                groups
                    .filter(|origin| origin.is_set())
                    .map(Origin::to_string),
            );
        }
        if places.is_empty() {
            return error;
        }
        error.with("set by", places.join(", "))
    }

    /// This configuration with another bus for RPC, which `origin` gave. The query of the URL is not looked at.
    ///
    /// ```
    /// use oslo_messaging::{Config, TransportUrl, config::Origin};
    ///
    /// let url = TransportUrl::parse("memory://").unwrap();
    /// let config = Config::builder().load().unwrap().with_transport_url(url, Origin::Argument("--url"));
    /// assert_eq!(config.origin("DEFAULT", "transport_url").to_string(), "command line, --url");
    /// ```
    #[must_use]
    pub fn with_transport_url(mut self, url: TransportUrl, origin: Origin) -> Self {
        self.default.transport_url = url.into();
        self.report
            .set_origin(DefaultConfig::TABLE.group, "transport_url", origin);
        self
    }

    /// This configuration with the query of `url` applied, as a transport at `url` will have it; what is wrong with the
    /// query is in its [`errors`](Config::errors).
    ///
    /// ```
    /// use oslo_messaging::{Config, TransportUrl};
    ///
    /// let config = Config::builder().load().unwrap();
    /// let url = TransportUrl::parse("memory://?rpc_response_timeout=5").unwrap();
    /// assert_eq!(config.at(&url).default.rpc_response_timeout.as_secs(), 5);
    /// ```
    #[must_use]
    pub fn at(&self, url: &TransportUrl) -> Self {
        let mut applied = self.clone();
        applied.default.transport_url = url.clone().into();
        for (name, value) in url.query() {
            if let Err((group, refusal)) = applied.set_by_url(url, name, value) {
                let origin = Origin::Url;
                applied.report.push_error(ConfigError::Value {
                    origin,
                    group,
                    refusal,
                });
            }
        }
        applied
    }

    fn set_by_url(
        &mut self,
        url: &TransportUrl,
        name: &str,
        value: &str,
    ) -> Result<(), (&'static str, Refusal)> {
        let texts = [value.to_owned()];
        let common = DefaultConfig::TABLE.option(name);
        let (table, set) = match url.driver() {
            _ if common.is_some() && name != "transport_url" => {
                (DefaultConfig::TABLE, self.default.set(name, &texts))
            }
            #[cfg(feature = "rabbit")]
            "rabbit" | "kombu" => (RabbitConfig::TABLE, self.rabbit.set(name, &texts)),
            "kafka" => (KafkaConfig::TABLE, self.kafka.set(name, &texts)),
            _ => (
                DefaultConfig::TABLE,
                Err(DefaultConfig::TABLE.unknown(name)),
            ),
        };
        set.map_err(|refusal| (table.group, refusal))?;
        if let Some(info) = table.option(name) {
            self.report.set_origin(table.group, info.name, Origin::Url);
        }
        Ok(())
    }

    /// Every option with its value and who set it, in the order of [`TABLES`].
    ///
    /// ```
    /// # let config = oslo_messaging::Config::builder().load().unwrap();
    /// assert!(config.entries().len() > 30);
    /// ```
    pub fn entries(&self) -> Vec<Entry<'_>> {
        let mut found = Vec::new();
        for table in TABLES {
            for info in table.options {
                let texts = if self.report.is_hidden(table.group, info.name) {
                    vec!["***".to_owned()]
                } else {
                    self.texts(table.group, info.name)
                };
                found.push(Entry {
                    group: table.group,
                    info,
                    texts,
                    origin: self.origin(table.group, info.name),
                });
            }
        }
        found
    }

    fn texts(&self, group: &str, name: &str) -> Vec<String> {
        let texts = match group {
            "DEFAULT" => self.default.texts(name),
            "oslo_messaging_notifications" => self.notifications.texts(name),
            #[cfg(feature = "rabbit")]
            "oslo_messaging_rabbit" => self.rabbit.texts(name),
            "oslo_messaging_kafka" => self.kafka.texts(name),
            "oslo_messaging_metrics" => self.metrics.texts(name),
            "oslo_messaging_tracing" => self.tracing.texts(name),
            _ => None,
        };
        texts.unwrap_or_default()
    }
}

/// As a file: what somebody set, with its origin behind a `#`; secrets as `***`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group = "";
        for entry in self.entries() {
            if *entry.origin == Origin::Default {
                continue;
            }
            if entry.group != group {
                writeln!(
                    f,
                    "{}[{}]",
                    if group.is_empty() { "" } else { "\n" },
                    entry.group
                )?;
                group = entry.group;
            }
            writeln!(f, "# {}", entry.origin)?;
            for text in &entry.texts {
                writeln!(f, "{} = {}", entry.info.name, text.replace('\n', "\n  "))?;
            }
        }
        Ok(())
    }
}

/// What somebody set, without secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let set = entries
            .iter()
            .filter(|entry| *entry.origin != Origin::Default);
        f.debug_map()
            .entries(
                set.map(|entry| (format!("{}.{}", entry.group, entry.info.name), &entry.texts)),
            )
            .finish()
    }
}

/// A transport for RPC at the URL and with the options of `config`, as [`connect_with`] makes one.
///
/// ```
/// use oslo_messaging::Config;
///
/// # #[tokio::main]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let config = Config::builder().text("a.conf", "[DEFAULT]\ntransport_url = memory://\n").load()?;
/// let transport = oslo_messaging::connect_config(&config).await?;
/// assert!(transport.capabilities().rpc);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`connect_with`]; the error says who set the URL.
///
/// # Cancellation
/// Safe: nothing is left behind.
pub async fn connect_config(config: &Config) -> Result<Transport> {
    let origin = config.origin("DEFAULT", "transport_url");
    connect_with(config.transport_url(), config.connect_options())
        .await
        .map_err(|error| {
            config
                .placed(error)
                .with("transport_url of", origin.to_string())
        })
}

/// A transport for notifications at the URL and with the options of `config`: that of
/// `[oslo_messaging_notifications]`, else that for RPC.
///
/// ```
/// use oslo_messaging::Config;
///
/// # #[tokio::main]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let config = Config::builder()
///     .text("a.conf", "[oslo_messaging_notifications]\ntransport_url = memory://notes\n")
///     .load()?;
/// let transport = oslo_messaging::connect_config_notifications(&config).await?;
/// # drop(transport);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`connect_config`].
///
/// # Cancellation
/// Safe: nothing is left behind.
pub async fn connect_config_notifications(config: &Config) -> Result<Transport> {
    let group = match config.notifications.transport_url {
        Some(_) => NotificationsConfig::TABLE.group,
        None => DefaultConfig::TABLE.group,
    };
    let origin = config.origin(group, "transport_url");
    connect_with(
        config.notification_transport_url(),
        config.connect_options(),
    )
    .await
    .map_err(|error| error.with("transport_url of", origin.to_string()))
}

/// The examples of the introduction, compiled.
#[cfg(doctest)]
#[doc = include_str!("config/introduction.md")]
struct Introduction;

#[cfg(feature = "rabbit")]
fn is_rabbit(url: &TransportUrl) -> bool {
    matches!(url.driver(), "rabbit" | "kombu")
}

#[cfg(test)]
mod tests;
