//! The options of the group `oslo_messaging_kafka`.
//!
//! They stand here until there is a Kafka driver, which will own them as the RabbitMQ driver owns its own.

use oslo_messaging_config::options;
use oslo_messaging_config::value::{OptionValue, Secret};

options! {
    /// How notifications go over Kafka (parity 1.15, K1 to K11).
    ///
    /// ```
    /// use oslo_messaging::config::{CompressionCodec, KafkaConfig};
    ///
    /// let config = KafkaConfig::default();
    /// assert_eq!(config.compression_codec, CompressionCodec::None);
    /// assert_eq!(config.consumer_group, "oslo_messaging_consumer");
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    pub struct KafkaConfig in "oslo_messaging_kafka" {
        /// Most bytes fetched from one partition at once.
        kafka_max_fetch_bytes: u32 = 1_048_576, min(1.0), max(1_000_000_000.0);
        /// Seconds one poll for messages waits.
        kafka_consumer_timeout: f64 = 1.0, min(0.0), max(86_400.0);
        /// Group of a listener without a pool.
        consumer_group: String = "oslo_messaging_consumer".to_owned();
        /// Seconds a message may wait for others to be sent with.
        producer_batch_timeout: f64 = 0.0, min(0.0), max(900.0);
        /// Most messages sent as one; a number of messages, not of bytes.
        producer_batch_size: u32 = 16_384, min(1.0), max(1_000_000.0);
        /// Compression of what is sent.
        compression_codec: CompressionCodec = CompressionCodec::None;
        /// Whether offsets are committed by time instead of before each dispatch.
        enable_auto_commit: bool = false;
        /// Most messages one poll gives.
        max_poll_records: u32 = 500, min(1.0), max(1_000_000.0);
        /// How brokers are talked to.
        security_protocol: SecurityProtocol = SecurityProtocol::Plaintext;
        /// SASL mechanism, where the protocol has SASL.
        sasl_mechanism: String = "PLAIN".to_owned();
        /// PEM file of the authorities that sign the brokers' certificates.
        ssl_cafile: String = String::new();
        /// PEM file of the client's certificate.
        ssl_client_cert_file: String = String::new();
        /// PEM file of the client's key.
        ssl_client_key_file: String = String::new();
        /// Password of the client's key. The reference does not hide it.
        ssl_client_key_password: Secret = Secret::default(), secret();
    }
}

/// Compression of what is sent, option `compression_codec`.
///
/// ```
/// use oslo_messaging::config::CompressionCodec;
///
/// assert_eq!(CompressionCodec::Zstd.as_str(), "zstd");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CompressionCodec {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// How brokers are talked to, option `security_protocol`.
///
/// ```
/// use oslo_messaging::config::SecurityProtocol;
///
/// assert_eq!(SecurityProtocol::SaslSsl.as_str(), "SASL_SSL");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SecurityProtocol {
    /// Without TLS and login.
    #[default]
    Plaintext,
    /// With a login.
    SaslPlaintext,
    /// With TLS.
    Ssl,
    /// With TLS and a login.
    SaslSsl,
}

macro_rules! choices {
    ($type:ident, $allowed:literal, $($variant:ident => $text:literal),+) => {
        impl $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[doc = concat!("The word for it, one of ", $allowed, ".\n\n```\n# use oslo_messaging::config::",
                stringify!($type), ";\nassert!(!", stringify!($type), "::default().as_str().is_empty());\n```")]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl OptionValue for $type {
            const KIND: &'static str = "string";
            const ALLOWED: &'static str = $allowed;
            const CHOICES: &'static [&'static str] = &[$($text),+];
            fn read(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == text)
            }
            fn write(&self) -> Vec<String> {
                vec![self.as_str().to_owned()]
            }
        }
    };
}

choices!(CompressionCodec, "none, gzip, snappy, lz4 or zstd",
    None => "none", Gzip => "gzip", Snappy => "snappy", Lz4 => "lz4", Zstd => "zstd");
choices!(SecurityProtocol, "PLAINTEXT, SASL_PLAINTEXT, SSL or SASL_SSL",
    Plaintext => "PLAINTEXT", SaslPlaintext => "SASL_PLAINTEXT", Ssl => "SSL", SaslSsl => "SASL_SSL");
