//! From transport URL and options to what the client library is configured with (parity K6, K7).
//!
//! Names no type of the library: properties are pairs of text, in one place, so that they can be checked without a broker.

use std::fmt;
use std::sync::Arc;

use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_proto::url::TransportUrl;
use tracing::warn;

use crate::address;
use crate::config::KafkaConfig;

/// A property of the client library.
pub(crate) type Property = (&'static str, String);

/// Everything that connections of a driver have in common.
pub(crate) struct Settings {
    /// The options.
    pub(crate) config: KafkaConfig,
    /// The brokers, `host:port,…`, as errors show them.
    pub(crate) brokers: String,
    /// The virtual host, the end of each topic's name; none if it is empty.
    vhost: Option<String>,
    login: Option<(String, String)>,
}

impl Settings {
    /// The settings for the brokers of `url`.
    ///
    /// # Errors
    /// Those of [`KafkaConfig::validate`].
    pub(crate) fn new(url: &TransportUrl, config: KafkaConfig) -> Result<Arc<Self>> {
        config.validate()?;
        let login = address::login(url);
        let wanted = config.security_protocol.has_login();
        match &login {
            Some(login) if wanted && login.others_differ => {
                warn!(
                    user = login.user,
                    "the hosts of the transport URL have different users or passwords; those of the first are used"
                );
            }
            Some(_) if !wanted => {
                warn!(
                    "user and password of the transport URL are not used; set security_protocol to SASL_SSL or SASL_PLAINTEXT"
                );
            }
            None if wanted => {
                warn!("security_protocol asks for a login, and the transport URL has no user");
            }
            _ => {}
        }
        let login = login
            .filter(|_| wanted)
            .map(|login| (login.user.to_owned(), login.password.to_owned()));
        Ok(Arc::new(Self {
            brokers: address::brokers(url),
            vhost: url
                .virtual_host()
                .filter(|vhost| !vhost.is_empty())
                .map(str::to_owned),
            login,
            config,
        }))
    }

    /// The Kafka topic of a notification topic with its priority.
    ///
    /// # Errors
    /// [`InvalidTarget`](oslo_messaging_core::error::ErrorKind::InvalidTarget) for a name that Kafka does not take.
    pub(crate) fn topic(&self, with_priority: &str) -> Result<String> {
        address::topic(with_priority, "", self.vhost.as_deref())
    }

    /// Whether the files of TLS are there: the library's words for a missing one do not name it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the option and the file.
    pub(crate) fn check_files(&self) -> Result<()> {
        let config = &self.config;
        if !config.security_protocol.has_tls() {
            return Ok(());
        }
        let files = [
            ("ssl_cafile", &config.ssl_cafile),
            ("ssl_client_cert_file", &config.ssl_client_cert_file),
            ("ssl_client_key_file", &config.ssl_client_key_file),
        ];
        for (option, path) in files {
            if let (false, Err(fault)) = (path.is_empty(), std::fs::metadata(path)) {
                let text = format!("the file {path} of option {option} cannot be read");
                let error = Error::new(ErrorKind::Config, text).with("option", option);
                return Err(error.with_source(fault));
            }
        }
        Ok(())
    }

    /// What a producer is configured with.
    pub(crate) fn producer(&self) -> Vec<Property> {
        let config = &self.config;
        let mut all = self.common();
        all.extend([
            ("linger.ms", millis(config.producer_batch_timeout)),
            ("batch.num.messages", config.producer_batch_size.to_string()),
            (
                "compression.codec",
                config.compression_codec.as_str().to_owned(),
            ),
            ("message.timeout.ms", millis(config.delivery_timeout)),
            ("message.max.bytes", config.max_message_size.to_string()),
            // How long a topic may be missing that the broker is about to create.
            (
                "topic.metadata.propagation.max.ms",
                millis((config.delivery_timeout / 3.0).min(10.0)),
            ),
            ("enable.idempotence", config.enable_idempotence.to_string()),
        ]);
        all
    }

    /// What a consumer of this group is configured with.
    pub(crate) fn consumer(&self, group: &str) -> Vec<Property> {
        /// Messages fetched ahead of the listener.
        const AHEAD_KIB: u32 = 16 * 1024;
        const POLL_LIMIT: f64 = 300.0;
        let config = &self.config;
        let mut all = self.common();
        all.extend([
            ("group.id", group.to_owned()),
            ("enable.auto.commit", config.enable_auto_commit.to_string()),
            // What is handled is stored by the listener; the library would store what is merely fetched.
            ("enable.auto.offset.store", "false".to_owned()),
            (
                "max.partition.fetch.bytes",
                config.kafka_max_fetch_bytes.to_string(),
            ),
            // Where a new group begins is looked up and committed by the listener. This is for a place that retention
            // has overtaken: the nearest that is left, where the reference would skip all of it.
            ("auto.offset.reset", "earliest".to_owned()),
            ("enable.partition.eof", "false".to_owned()),
            // As a queue is declared by whoever comes first, be it the listener.
            ("allow.auto.create.topics", "true".to_owned()),
            // How soon a topic or partition is found that comes into being.
            ("topic.metadata.refresh.interval.ms", "10000".to_owned()),
            ("queued.max.messages.kbytes", AHEAD_KIB.to_string()),
            ("session.timeout.ms", millis(config.session_timeout)),
            (
                "heartbeat.interval.ms",
                millis((config.session_timeout / 3.0).min(3.0)),
            ),
            (
                "max.poll.interval.ms",
                millis(config.session_timeout.max(POLL_LIMIT)),
            ),
        ]);
        all
    }

    fn common(&self) -> Vec<Property> {
        let config = &self.config;
        let mut all = vec![
            ("bootstrap.servers", self.brokers.clone()),
            ("client.id", program()),
            (
                "security.protocol",
                config.security_protocol.as_str().to_owned(),
            ),
            // Tells which brokers are connected.
            ("statistics.interval.ms", "5000".to_owned()),
        ];
        if config.security_protocol.has_login() {
            all.push(("sasl.mechanism", config.sasl_mechanism.clone()));
            if let Some((user, password)) = &self.login {
                all.push(("sasl.username", user.clone()));
                all.push(("sasl.password", password.clone()));
            }
        }
        if config.security_protocol.has_tls() {
            let files = [
                ("ssl.ca.location", config.ssl_cafile.as_str()),
                ("ssl.certificate.location", &config.ssl_client_cert_file),
                ("ssl.key.location", &config.ssl_client_key_file),
                ("ssl.key.password", config.ssl_client_key_password.expose()),
            ];
            let set = files.into_iter().filter(|(_, value)| !value.is_empty());
            all.extend(set.map(|(name, value)| (name, value.to_owned())));
        }
        all
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("config", &self.config)
            .field("brokers", &self.brokers)
            .field("vhost", &self.vhost)
            .field("user", &self.login.as_ref().map(|(user, _)| user))
            .finish_non_exhaustive()
    }
}

/// Milliseconds, whole, as the library wants them.
fn millis(seconds: f64) -> String {
    // Saturates, and the options' ranges are far below.
    ((seconds * 1000.0).round() as u64).to_string()
}

/// The program's file name, by which brokers list its connections.
fn program() -> String {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_name());
    name.map_or_else(
        || "oslo-messaging".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn settings(text: &str) -> Arc<Settings> {
        let url = TransportUrl::parse(text).unwrap();
        Settings::new(&url, KafkaConfig::from_query(url.query()).unwrap()).unwrap()
    }

    fn map(properties: Vec<Property>) -> HashMap<&'static str, String> {
        properties.into_iter().collect()
    }

    #[test]
    fn a_producer_is_configured_as_the_reference_configures_its() {
        let settings = settings(
            "kafka://b1:1,b2/v?producer_batch_timeout=0.5&producer_batch_size=7&compression_codec=gzip",
        );
        let producer = map(settings.producer());
        assert_eq!(producer["bootstrap.servers"], "b1:1,b2:9092");
        assert_eq!(producer["linger.ms"], "500");
        assert_eq!(producer["batch.num.messages"], "7");
        assert_eq!(producer["compression.codec"], "gzip");
        assert_eq!(producer["security.protocol"], "PLAINTEXT");
        assert_eq!(producer["message.timeout.ms"], "30000");
        for absent in ["sasl.username", "sasl.mechanism", "ssl.ca.location"] {
            assert!(!producer.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn a_consumer_is_configured_as_the_reference_configures_its_but_stores_what_is_handled_alone() {
        let settings = settings("kafka://b/?enable_auto_commit=true&kafka_max_fetch_bytes=99");
        let consumer = map(settings.consumer("pool-a"));
        assert_eq!(consumer["group.id"], "pool-a");
        assert_eq!(consumer["enable.auto.commit"], "true");
        assert_eq!(consumer["enable.auto.offset.store"], "false");
        assert_eq!(consumer["max.partition.fetch.bytes"], "99");
        assert_eq!(consumer["enable.partition.eof"], "false");
        assert_eq!(consumer["session.timeout.ms"], "45000");
        assert_eq!(consumer["heartbeat.interval.ms"], "3000");
    }

    #[test]
    fn login_and_certificates_are_passed_on_to_both() {
        let settings = settings(
            "kafka://u:p%40ss@b/?security_protocol=SASL_SSL&sasl_mechanism=SCRAM-SHA-256&ssl_cafile=/ca\
             &ssl_client_cert_file=/cert&ssl_client_key_file=/key&ssl_client_key_password=pw",
        );
        for properties in [settings.producer(), settings.consumer("g")] {
            let properties = map(properties);
            assert_eq!(properties["security.protocol"], "SASL_SSL");
            assert_eq!(properties["sasl.mechanism"], "SCRAM-SHA-256");
            assert_eq!(properties["sasl.username"], "u");
            assert_eq!(properties["sasl.password"], "p@ss");
            assert_eq!(properties["ssl.ca.location"], "/ca");
            assert_eq!(properties["ssl.certificate.location"], "/cert");
            assert_eq!(properties["ssl.key.location"], "/key");
            assert_eq!(properties["ssl.key.password"], "pw");
        }
        let shown = format!("{settings:?}");
        assert!(
            !shown.contains("p@ss") && !shown.contains("\"pw\""),
            "{shown}"
        );
    }

    #[test]
    fn the_virtual_host_ends_the_name_of_every_topic() {
        assert_eq!(
            settings("kafka://b/prod").topic("n.info").unwrap(),
            "n.info.prod"
        );
        assert_eq!(settings("kafka://b/").topic("n.info").unwrap(), "n.info");
        assert_eq!(settings("kafka://b").topic("n.info").unwrap(), "n.info");
    }
}
