//! The options of the group `oslo_messaging_kafka`: names, types, defaults, ranges, and which of them cannot go
//! together.
//!
//! Refuses to connect or to know topics. Values come from code or a file (serde), then from the query of the
//! transport URL ([`KafkaConfig::apply_query`]); [`KafkaConfig::validate`] is asked once, when the driver is made.

use std::time::Duration;

use oslo_messaging_config::error::Refusal;
use oslo_messaging_config::options;
use oslo_messaging_config::table::Options;
use oslo_messaging_config::value::{OptionValue, Secret};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use serde::Deserialize;

options! {
    /// Options of the Kafka driver, under the names the reference gives them (parity 1.15).
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    ///
    /// let mut config = KafkaConfig::default();
    /// config.consumer_group = "ceilometer".to_owned();
    /// config.apply_query(&[("max_poll_records".into(), "50".into())])?;
    /// assert_eq!(config.max_poll_records, 50);
    /// assert!(config.apply_query(&[("max_pol_records".into(), "50".into())]).is_err());
    /// assert!(KafkaConfig::OPTIONS.iter().any(|option| option.name == "security_protocol"));
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    #[derive(Debug, Clone, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct KafkaConfig in "oslo_messaging_kafka" {
        /// Most bytes of one partition in one fetch (default 1048576). A larger message still arrives.
        kafka_max_fetch_bytes: u32 = 1_048_576, min(1.0), max(1_000_000_000.0);
        /// Seconds between two looks of a listener at what it owes the brokers while nothing arrives and nothing is
        /// settled: commits that failed, partitions it could not place (default 1.0; at least 0.01 and at most 60 are used).
        kafka_consumer_timeout: f64 = 1.0, min(0.0);
        /// Group of listeners without a pool (default `oslo_messaging_consumer`). Listeners of one group share the messages.
        consumer_group: String = "oslo_messaging_consumer".to_owned();
        /// Seconds a message may wait for others to go with it (default 0.0).
        producer_batch_timeout: f64 = 0.0, min(0.0), max(900.0);
        /// Most messages that go together: a number, not bytes (default 16384).
        producer_batch_size: u32 = 16_384, min(1.0), max(1_000_000.0);
        /// Compression of what is sent (default none). What arrives is expanded whatever this says.
        compression_codec: CompressionCodec = CompressionCodec::None;
        /// Commit what was handled every five seconds instead of at once (default false). What was not handled is never
        /// committed, unlike in the reference.
        enable_auto_commit: bool = false;
        /// Most messages a listener has in hand, not yet handled (default 500).
        max_poll_records: u32 = 500, min(1.0);
        /// What the brokers speak (default PLAINTEXT).
        security_protocol: SecurityProtocol = SecurityProtocol::Plaintext;
        /// SASL mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512` (default PLAIN). User and password are those of the
        /// URL's first host that has any.
        sasl_mechanism: String = "PLAIN".to_owned();
        /// PEM file of the authorities that sign the brokers' certificates (default empty: those the system trusts).
        ssl_cafile: String = String::new();
        /// PEM file of the client's certificate (default empty: none).
        ssl_client_cert_file: String = String::new();
        /// PEM file of the client's key (default empty: none).
        ssl_client_key_file: String = String::new();
        /// Password of the client's key (default empty): the password itself, though the reference's help calls it a file.
        ssl_client_key_password: Secret = Secret::default(), secret();
        /// Ours: seconds one attempt to deliver a message may take (default 30). A send without deadline and without retries
        /// ends then.
        delivery_timeout: f64 = 30.0, min(0.1), max(2_147_483.0), ours();
        /// Ours: seconds a listener waits at its start for its group and partitions (default 60). A group that lost a member
        /// without a goodbye lets nobody in for `session_timeout` seconds.
        listen_timeout: f64 = 60.0, min(0.1), max(86_400.0), ours();
        /// Ours: seconds of silence after which the group gives a listener's partitions to others (default 45).
        session_timeout: f64 = 45.0, min(1.0), max(3600.0), ours();
        /// Ours: largest message sent, in bytes (default 1000000, the client library's default and about the brokers').
        max_message_size: u32 = 1_000_000, min(1000.0), max(1_000_000_000.0), ours();
        /// Ours: the broker drops copies of a message that the client sent again after a lost connection, and keeps the order
        /// of a sender (default false). Brokers before 2.8 want the right IdempotentWrite for it.
        enable_idempotence: bool = false, ours();
    }
}

/// Compression, option `compression_codec`.
///
/// ```
/// use oslo_messaging_kafka::config::CompressionCodec;
///
/// assert_eq!(CompressionCodec::default(), CompressionCodec::None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CompressionCodec {
    /// None.
    #[default]
    None,
    /// `gzip`.
    Gzip,
    /// `snappy`.
    Snappy,
    /// `lz4`.
    Lz4,
    /// `zstd`.
    Zstd,
}

impl CompressionCodec {
    /// Its name, as the option and the client library write it.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::CompressionCodec;
    ///
    /// assert_eq!(CompressionCodec::Zstd.as_str(), "zstd");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What the brokers speak, option `security_protocol`.
///
/// ```
/// use oslo_messaging_kafka::config::SecurityProtocol;
///
/// assert_eq!(SecurityProtocol::default(), SecurityProtocol::Plaintext);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum SecurityProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    /// TCP, with a login.
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    /// TLS.
    #[serde(rename = "SSL")]
    Ssl,
    /// TLS, with a login.
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

impl SecurityProtocol {
    /// Its name, as the option and the client library write it.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::SecurityProtocol;
    ///
    /// assert_eq!(SecurityProtocol::SaslSsl.as_str(), "SASL_SSL");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether it logs in.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::SecurityProtocol;
    ///
    /// assert!(SecurityProtocol::SaslSsl.has_login() && !SecurityProtocol::Ssl.has_login());
    /// ```
    pub fn has_login(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// Whether it encrypts.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::SecurityProtocol;
    ///
    /// assert!(SecurityProtocol::Ssl.has_tls() && !SecurityProtocol::SaslPlaintext.has_tls());
    /// ```
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl OptionValue for CompressionCodec {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["none", "gzip", "snappy", "lz4", "zstd"];
    const ALLOWED: &'static str = "none, gzip, snappy, lz4 or zstd";
    fn read(text: &str) -> Option<Self> {
        let all = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];
        all.into_iter().find(|codec| codec.as_str() == text)
    }
    fn write(&self) -> Vec<String> {
        vec![self.as_str().to_owned()]
    }
}

impl OptionValue for SecurityProtocol {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"];
    const ALLOWED: &'static str = "PLAINTEXT, SASL_PLAINTEXT, SSL or SASL_SSL";
    fn read(text: &str) -> Option<Self> {
        let all = [
            Self::Plaintext,
            Self::SaslPlaintext,
            Self::Ssl,
            Self::SaslSsl,
        ];
        all.into_iter().find(|protocol| protocol.as_str() == text)
    }
    fn write(&self) -> Vec<String> {
        vec![self.as_str().to_owned()]
    }
}

impl KafkaConfig {
    /// The defaults, changed by the pairs of a URL's query.
    ///
    /// # Errors
    /// As [`KafkaConfig::apply_query`].
    ///
    /// ```
    /// use oslo_messaging_kafka::config::{CompressionCodec, KafkaConfig};
    ///
    /// let config = KafkaConfig::from_query(&[("compression_codec".into(), "zstd".into())])?;
    /// assert_eq!(config.compression_codec, CompressionCodec::Zstd);
    /// # Ok::<(), oslo_messaging_core::error::Error>(())
    /// ```
    pub fn from_query(query: &[(String, String)]) -> Result<Self> {
        let mut config = Self::default();
        config.apply_query(query)?;
        Ok(config)
    }

    /// Lets the pairs of a URL's query win over what is set (parity U15).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the key, and what is allowed, for a key that is no option and for a value its type
    /// does not take.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    ///
    /// let mut config = KafkaConfig::default();
    /// let error = config.apply_query(&[("enable_auto_commit".into(), "maybe".into())]).unwrap_err();
    /// assert!(error.to_string().contains("enable_auto_commit"));
    /// ```
    pub fn apply_query(&mut self, query: &[(String, String)]) -> Result<()> {
        query.iter().try_for_each(|(name, value)| {
            self.set(name, std::slice::from_ref(value)).map_err(refused)
        })
    }

    /// Checks ranges, and that no two options contradict each other.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for values and combinations that cannot work, [`ErrorKind::Unsupported`] for those this build
    /// does not do; both name the options and the way out.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    ///
    /// let mut config = KafkaConfig::default();
    /// config.max_poll_records = 0;
    /// assert!(config.validate().is_err());
    /// ```
    pub fn validate(&self) -> Result<()> {
        self.check_ranges().map_err(refused)?;
        if self.consumer_group.is_empty() {
            let why = "option consumer_group cannot be empty; it is the name of a group";
            return Err(Error::new(ErrorKind::Config, why).with("option", "consumer_group"));
        }
        if self.producer_batch_timeout >= self.delivery_timeout {
            let why =
                "a message would wait for others longer than it may take; raise delivery_timeout";
            return Err(Error::new(ErrorKind::Config, why)
                .with("options", "producer_batch_timeout, delivery_timeout"));
        }
        self.validate_login()?;
        let (cert, key) = (&self.ssl_client_cert_file, &self.ssl_client_key_file);
        if cert.is_empty() != key.is_empty() {
            let why = "a client's certificate and its key go together; set both or neither";
            return Err(Error::new(ErrorKind::Config, why)
                .with("options", "ssl_client_cert_file, ssl_client_key_file"));
        }
        Ok(())
    }

    fn validate_login(&self) -> Result<()> {
        if !self.security_protocol.has_login() {
            return Ok(());
        }
        match self.sasl_mechanism.as_str() {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => Ok(()),
            "GSSAPI" | "OAUTHBEARER" => {
                let why = "this driver logs in with PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 only";
                Err(Error::new(ErrorKind::Unsupported, why).with("option", "sasl_mechanism"))
            }
            _ => {
                let why = "option sasl_mechanism takes PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
                Err(Error::new(ErrorKind::Config, why).with("option", "sasl_mechanism"))
            }
        }
    }

    /// How long a new listener waits.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    ///
    /// assert_eq!(KafkaConfig::default().listen_limit().as_secs(), 60);
    /// ```
    pub fn listen_limit(&self) -> Duration {
        Duration::from_secs_f64(self.listen_timeout)
    }

    /// How long an idle listener waits between two looks.
    ///
    /// ```
    /// use oslo_messaging_kafka::config::KafkaConfig;
    ///
    /// assert_eq!(KafkaConfig::default().poll_interval().as_secs(), 1);
    /// ```
    pub fn poll_interval(&self) -> Duration {
        Duration::from_secs_f64(self.kafka_consumer_timeout.clamp(0.01, 60.0))
    }
}

fn refused(refusal: Refusal) -> Error {
    let name = refusal.name().to_owned();
    Error::new(ErrorKind::Config, refusal.to_string()).with("option", name)
}

#[cfg(test)]
mod tests;
