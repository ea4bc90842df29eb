//! The options of the group `oslo_messaging_rabbit`: names, types, defaults, ranges, and which of
//! them cannot go together.
//!
//! Refuses to connect or to know topology. Values come from code or a file (serde), then from the
//! query of the transport URL ([`RabbitConfig::apply_query`]); [`RabbitConfig::validate`] is asked
//! once, when the driver is made.

use std::time::Duration;

use serde::Deserialize;

use oslo_messaging_config::error::Refusal;
use oslo_messaging_config::options;
use oslo_messaging_config::table::Options;
use oslo_messaging_config::value::OptionValue;
use oslo_messaging_core::error::{Error, ErrorKind, Result};

pub use crate::compress::Compression;

/// The most any RabbitMQ takes, whatever its `max_message_size`.
pub(crate) const MAX_MESSAGE_SIZE: u32 = 512 << 20;

options! {
    /// Options of the RabbitMQ driver, under the names the reference gives them (parity 1.15).
    ///
    /// ```
    /// use oslo_messaging_rabbit::config::RabbitConfig;
    ///
    /// let mut config = RabbitConfig::default();
    /// config.rabbit_qos_prefetch_count = 64;
    /// config.apply_query(&[("amqp_durable_queues".into(), "true".into())]).unwrap();
    /// assert!(config.amqp_durable_queues);
    /// assert!(config.apply_query(&[("amqp_durable_queue".into(), "true".into())]).is_err());
    /// ```
    #[derive(Debug, Clone, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RabbitConfig in "oslo_messaging_rabbit" {
        /// Durable topic queues and exchanges (default false); `rabbit_quorum_queue` implies it.
        amqp_durable_queues: bool = false;
        /// Topic queues and exchanges vanish with their last user (default false).
        amqp_auto_delete: bool = false;
        /// Read, without effect: one connection carries all publishing (default 30, at least 1).
        rpc_conn_pool_size: u32 = 30, min(1.0);
        /// Read, without effect, see `rpc_conn_pool_size` (default 2).
        conn_pool_min_size: u32 = 2;
        /// Read, without effect, see `rpc_conn_pool_size` (default 1200 s).
        conn_pool_ttl: u32 = 1200;
        /// TLS (default false). Brokers without a port in the URL are then looked for at 5671.
        ssl: bool = false;
        /// TLS version asked for: `TLSv1_2`, `TLSv1_3`, or empty, `TLS`, `SSLv23` for the best both sides
        /// know (default empty). The reference's older ones are refused.
        ssl_version: String = String::new();
        /// PEM file of the client's TLS key, unencrypted (default empty: in `ssl_cert_file`).
        ssl_key_file: String = String::new();
        /// PEM file of the client's TLS certificate (default empty: none).
        ssl_cert_file: String = String::new();
        /// PEM file of the authorities that sign the brokers' certificates (default empty: those the
        /// system trusts; the reference verifies nothing then, see `ssl_verify`). Files are read again
        /// with each attempt to connect.
        ssl_ca_file: String = String::new();
        /// Ours: verify each broker's certificate and its name (default true). False encrypts without
        /// knowing with whom, which is what the reference does without `ssl_ca_file`.
        ssl_verify: bool = true, ours();
        /// Read, without effect, as in the reference: names are always verified (default true).
        ssl_enforce_hostname_verification: bool = true, retiring("names are always verified");
        /// Read, without effect, as in the reference (default false).
        ssl_enforce_fips_mode: bool = false, retiring("it has no effect");
        /// Seconds before the first attempt to connect again after an established connection was lost
        /// (default 1.0, 0 to 4.5). At most a quarter of a second of it is used, jittered, so that work
        /// flows again at once when the broker is still there.
        kombu_reconnect_delay: f64 = 1.0, min(0.0), max(4.5);
        /// Random seconds added to the wait before each attempt to connect (default 0.0).
        kombu_reconnect_splay: f64 = 0.0, min(0.0), max(3600.0);
        /// Compression of what is sent (default none). What arrives is expanded whatever this says.
        kombu_compression: Option<Compression> = None;
        /// Seconds a server goes on offering a reply to a reply queue that is missing (default 60).
        kombu_missing_consumer_retry_timeout: u32 = 60, was(&[("", "kombu_reconnect_timeout")]);
        /// Which broker of several comes next (default round-robin).
        kombu_failover_strategy: FailoverStrategy = FailoverStrategy::RoundRobin;
        /// SASL mechanism (default AMQPLAIN).
        rabbit_login_method: LoginMethod = LoginMethod::Amqplain;
        /// Seconds to wait after the first failed round over all brokers (default 1, at least 1).
        rabbit_retry_interval: u32 = 1, min(1.0);
        /// Seconds added to the wait with each further round (default 2).
        rabbit_retry_backoff: u32 = 2;
        /// Longest wait between rounds in seconds (default 30, at least 1).
        rabbit_interval_max: u32 = 30, min(1.0);
        /// `x-ha-policy` on all queues (default false); only brokers before 3.0 heed it.
        rabbit_ha_queues: bool = false;
        /// Quorum queues for topics, servers and notifications (default false).
        rabbit_quorum_queue: bool = false;
        /// Quorum queues for replies and fanouts (default false).
        rabbit_transient_quorum_queue: bool = false;
        /// `x-delivery-limit` of quorum queues (default 0: none).
        rabbit_quorum_delivery_limit: i64 = 0, min(-1.0), max(2_147_483_647.0);
        /// `x-max-in-memory-length` of quorum queues (default 0: none).
        rabbit_quorum_max_memory_length: i64 = 0, min(0.0), max(2_147_483_647.0);
        /// `x-max-in-memory-bytes` of quorum queues (default 0: none).
        rabbit_quorum_max_memory_bytes: i64 = 0, min(0.0);
        /// Seconds an unused reply or fanout queue lives, and the age of a stream (default 1800; 0 for
        /// ever; at most 4294967, beyond which the broker refuses).
        rabbit_transient_queues_ttl: u32 = 1800, max(4_294_967.0);
        /// Unsettled deliveries the broker hands out per consumer (default 0: what the server asks for,
        /// else no limit).
        rabbit_qos_prefetch_count: u16 = 0;
        /// AMQP heartbeat in seconds (default 60; 0 switches it off).
        heartbeat_timeout_threshold: u16 = 60;
        /// A heartbeat is sent when nothing was sent for the interval divided by this (default 3).
        heartbeat_rate: u32 = 3;
        /// The sender of a reply is told when its queue is missing (default true).
        direct_mandatory_flag: bool = true, retiring("replies are always sent so that a missing queue is told of");
        /// `x-cancel-on-ha-failover` on consumers (default false); brokers refuse it for quorum queues.
        enable_cancel_on_failover: bool = false;
        /// Counted names for reply and fanout queues, `<hostname>:<processname>:<n>`, which a process that
        /// starts again finds free and takes again (default false).
        use_queue_manager: bool = false;
        /// Host name for counted names (default: the machine's).
        hostname: Option<String> = None, sample("node1.example.com");
        /// Process name for counted names (default: the program's file name).
        processname: Option<String> = None, sample("nova-api");
        /// One stream per topic instead of fanout queues (default false); needs a prefetch above 0 and
        /// `rabbit_transient_quorum_queue`.
        rabbit_stream_fanout: bool = false;
        /// Ours: what reply and per-process fanout queues are unless `rabbit_transient_quorum_queue` is
        /// on: `classic`, durable with `x-expires` (default), or `reference`, transient as Python's are.
        private_queues: PrivateQueues = PrivateQueues::Classic, ours();
        /// Ours: whether a notifier declares the queue of a topic and priority before it first sends to it, as Python's do
        /// (default true). Without, what no listener has asked for is dropped by the broker instead of kept for ever.
        declare_notification_queues: bool = true, ours();
        /// Ours: what RPC looks like on the broker: `oslo` (default), or `plain`, the RPC over kombu that came before
        /// oslo.messaging, with bare requests, an exchange for each topic and a reply queue for each call.
        wire: Wire = Wire::Oslo, ours();
        /// Ours: the reply queue is also bound to a direct exchange of its name (default false), where servers of Kilo and
        /// Liberty publish their replies; `reply_style = two-part` implies it.
        reply_exchange: bool = false, ours();
        /// Ours: seconds between two looks at whether the broker still has our consumers and bindings
        /// (default 5; 0 for never; twice, then six times as long while nothing is delivered; all shorter by 15 to 35
        /// percent, which a driver draws once).
        consumer_check_interval: f64 = 5.0, ours(), min(0.0), max(86_400.0);
        /// Ours: largest message sent, in bytes after compression (default 536870912, the most any
        /// RabbitMQ takes). A broker's smaller limit is learnt from its first refusal.
        max_message_size: u32 = 536_870_912, ours(), min(1.0), max(536_870_912.0);
        /// Ours: seconds one attempt to connect to one broker may take, login included (default 5).
        connect_timeout: f64 = 5.0, ours(), min(0.01), max(3600.0);
        /// Ours: seconds a server or the first call waits for its queues to be declared before it
        /// reports the last fault (default 30).
        listen_timeout: f64 = 30.0, ours(), min(0.01), max(86_400.0);
    }
}

/// SASL mechanism of option `rabbit_login_method`.
///
/// ```
/// use oslo_messaging_rabbit::config::{LoginMethod, RabbitConfig};
///
/// let config = RabbitConfig::from_query(&[("rabbit_login_method".into(), "PLAIN".into())]).unwrap();
/// assert_eq!(config.rabbit_login_method, LoginMethod::Plain);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum LoginMethod {
    /// User and password in an AMQP table, the reference's default.
    #[default]
    #[serde(rename = "AMQPLAIN")]
    Amqplain,
    /// User and password between NULs.
    #[serde(rename = "PLAIN")]
    Plain,
    /// By the certificate of the TLS connection.
    #[serde(rename = "EXTERNAL")]
    External,
    /// Known to the reference's option, refused by it and by us when the driver is made.
    #[serde(rename = "RABBIT-CR-DEMO")]
    CrDemo,
}

/// Choice of the next broker, option `kombu_failover_strategy`.
///
/// ```
/// use oslo_messaging_rabbit::config::{FailoverStrategy, RabbitConfig};
///
/// let mut config = RabbitConfig::default();
/// config.kombu_failover_strategy = FailoverStrategy::Shuffle;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum FailoverStrategy {
    /// The next in the list, which was shuffled once at the start.
    #[default]
    #[serde(rename = "round-robin")]
    RoundRobin,
    /// Any.
    #[serde(rename = "shuffle")]
    Shuffle,
}

/// What private queues are, option `private_queues`.
///
/// No peer ever declares a reply queue or the fanout queue of another process, so their form is each
/// process's own choice.
///
/// ```
/// use oslo_messaging_rabbit::config::{PrivateQueues, RabbitConfig};
///
/// let mut config = RabbitConfig::default();
/// assert_eq!(config.private_queues, PrivateQueues::Classic);
/// config.private_queues = PrivateQueues::Reference;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum PrivateQueues {
    /// Durable classic queues with `x-expires`: legal on every RabbitMQ from 3.10 to 4.3, without the
    /// cost of a quorum, and there again after a lost connection and after a restart of the broker.
    #[default]
    #[serde(rename = "classic")]
    Classic,
    /// Transient classic queues, as the reference declares them; refused by RabbitMQ 4.3.
    #[serde(rename = "reference")]
    Reference,
}

/// What RPC looks like on the broker, option `wire`.
///
/// ```
/// use oslo_messaging_rabbit::config::{RabbitConfig, Wire};
///
/// let config = RabbitConfig::from_query(&[("wire".into(), "plain".into())]).unwrap();
/// assert_eq!(config.wire, Wire::Plain);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[non_exhaustive]
pub enum Wire {
    /// oslo.messaging's.
    #[default]
    #[serde(rename = "oslo")]
    Oslo,
    /// The plain RPC from before.
    #[serde(rename = "plain")]
    Plain,
}

impl OptionValue for Compression {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "gzip, zlib, bzip2, bzip or bz2";
    const EMPTY_IS_UNSET: bool = true;
    fn read(text: &str) -> Option<Self> {
        Self::from_name(text.trim())
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
        };
        vec![text.to_owned()]
    }
}

impl OptionValue for LoginMethod {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["PLAIN", "AMQPLAIN", "EXTERNAL", "RABBIT-CR-DEMO"];
    const ALLOWED: &'static str = "AMQPLAIN, PLAIN or EXTERNAL";
    fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_uppercase().as_str() {
            "AMQPLAIN" => Some(Self::Amqplain),
            "PLAIN" => Some(Self::Plain),
            "EXTERNAL" => Some(Self::External),
            "RABBIT-CR-DEMO" => Some(Self::CrDemo),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::Amqplain => "AMQPLAIN",
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
            Self::CrDemo => "RABBIT-CR-DEMO",
        };
        vec![text.to_owned()]
    }
}

impl OptionValue for FailoverStrategy {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["round-robin", "shuffle"];
    const ALLOWED: &'static str = "round-robin or shuffle";
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "round-robin" => Some(Self::RoundRobin),
            "shuffle" => Some(Self::Shuffle),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::RoundRobin => "round-robin",
            Self::Shuffle => "shuffle",
        };
        vec![text.to_owned()]
    }
}

impl OptionValue for PrivateQueues {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["classic", "reference"];
    const ALLOWED: &'static str = "classic or reference";
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "classic" => Some(Self::Classic),
            "reference" => Some(Self::Reference),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::Classic => "classic",
            Self::Reference => "reference",
        };
        vec![text.to_owned()]
    }
}

impl OptionValue for Wire {
    const KIND: &'static str = "string";
    const CHOICES: &'static [&'static str] = &["oslo", "plain"];
    const ALLOWED: &'static str = "oslo or plain";
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "oslo" => Some(Self::Oslo),
            "plain" => Some(Self::Plain),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::Oslo => "oslo",
            Self::Plain => "plain",
        };
        vec![text.to_owned()]
    }
}

impl RabbitConfig {
    /// The defaults, changed by the pairs of a URL's query.
    ///
    /// # Errors
    /// As [`RabbitConfig::apply_query`].
    pub fn from_query(query: &[(String, String)]) -> Result<Self> {
        let mut config = Self::default();
        config.apply_query(query)?;
        Ok(config)
    }

    /// Lets the pairs of a URL's query win over what is set (parity U15).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the key, and what is allowed, for a key that is no option and for
    /// a value its type does not take.
    ///
    /// ```
    /// use oslo_messaging_rabbit::config::RabbitConfig;
    ///
    /// let mut config = RabbitConfig::default();
    /// config.rabbit_quorum_queue = true;
    /// config.apply_query(&[("rabbit_quorum_queue".into(), "false".into())]).unwrap();
    /// assert!(!config.rabbit_quorum_queue);
    /// ```
    pub fn apply_query(&mut self, query: &[(String, String)]) -> Result<()> {
        for (name, value) in query {
            self.set(name, std::slice::from_ref(value))
                .map_err(refused)?;
        }
        Ok(())
    }

    /// Checks ranges, and that no two options contradict each other.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for values and combinations that cannot work, [`ErrorKind::Unsupported`]
    /// for those this build does not do; both name the options and the way out.
    ///
    /// ```
    /// use oslo_messaging_rabbit::config::RabbitConfig;
    ///
    /// let mut config = RabbitConfig::default();
    /// assert!(config.validate().is_ok());
    /// config.rabbit_stream_fanout = true;
    /// assert!(config.validate().is_err(), "a stream cannot be consumed without a prefetch");
    /// ```
    pub fn validate(&self) -> Result<()> {
        self.check_ranges().map_err(refused)?;
        self.validate_combinations()?;
        self.validate_supported()
    }

    fn validate_combinations(&self) -> Result<()> {
        let refuse =
            |names: &str, why: &str| Err(Error::new(ErrorKind::Config, why).with("options", names));
        if self.conn_pool_min_size > self.rpc_conn_pool_size {
            return refuse(
                "conn_pool_min_size, rpc_conn_pool_size",
                "the least number of connections is above the most",
            );
        }
        if self.rabbit_ha_queues && (self.rabbit_quorum_queue || self.rabbit_transient_quorum_queue)
        {
            return refuse(
                "rabbit_ha_queues, rabbit_quorum_queue, rabbit_transient_quorum_queue",
                "a queue is quorum or mirrored, not both; switch rabbit_ha_queues off",
            );
        }
        if self.amqp_auto_delete && self.rabbit_quorum_queue {
            return refuse(
                "amqp_auto_delete, rabbit_quorum_queue",
                "brokers refuse quorum queues that vanish with their last consumer; switch amqp_auto_delete off",
            );
        }
        if self.rabbit_stream_fanout && self.rabbit_qos_prefetch_count == 0 {
            return refuse(
                "rabbit_stream_fanout, rabbit_qos_prefetch_count",
                "a stream is consumed with a prefetch only; set rabbit_qos_prefetch_count above 0",
            );
        }
        if self.rabbit_stream_fanout && !self.rabbit_transient_quorum_queue {
            return refuse(
                "rabbit_stream_fanout, rabbit_transient_quorum_queue",
                "stream fanouts need durable fanout exchanges; set rabbit_transient_quorum_queue",
            );
        }
        if self.enable_cancel_on_failover
            && (self.rabbit_quorum_queue || self.rabbit_transient_quorum_queue)
        {
            return refuse(
                "enable_cancel_on_failover, rabbit_quorum_queue, rabbit_transient_quorum_queue",
                "brokers refuse x-cancel-on-ha-failover for quorum queues; switch enable_cancel_on_failover off",
            );
        }
        Ok(())
    }

    fn validate_supported(&self) -> Result<()> {
        let refuse = |name: &str, why: &str| {
            Err(Error::new(ErrorKind::Unsupported, why).with("option", name))
        };
        crate::security::check(self)?;
        if self.rabbit_login_method == LoginMethod::CrDemo {
            return refuse(
                "rabbit_login_method",
                "RABBIT-CR-DEMO is no login method in use; take AMQPLAIN or PLAIN",
            );
        }
        Ok(())
    }

    /// How long one attempt to connect to one broker may take.
    pub(crate) fn connect_deadline(&self) -> Duration {
        Duration::from_secs_f64(self.connect_timeout)
    }

    /// How long the driver waits between two looks at its consumers; `None` for ever.
    pub(crate) fn check_interval(&self) -> Option<Duration> {
        (self.consumer_check_interval > 0.0)
            .then(|| Duration::from_secs_f64(self.consumer_check_interval))
    }

    /// How long a new subscription waits for its queues.
    pub(crate) fn listen_deadline(&self) -> Duration {
        Duration::from_secs_f64(self.listen_timeout)
    }
}

fn refused(refusal: Refusal) -> Error {
    let name = refusal.name().to_owned();
    Error::new(ErrorKind::Config, refusal.to_string()).with("option", name)
}

#[cfg(test)]
mod tests;
