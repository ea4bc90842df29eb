//! The options that are no driver's own: those of `[DEFAULT]`, of notifications, metrics and tracing (parity 1.15).
//!
//! Plain structs that know names, types, defaults and ranges. Files are read above, by the facade.

mod bus_url;
mod metrics;
mod notifications;
mod reply_style;
mod tracing;

use std::time::Duration;

use oslo_messaging_config::error::ConfigError;
use oslo_messaging_config::options;
use oslo_messaging_config::value::Seconds;

use crate::error::{Error, ErrorKind};

pub use self::bus_url::BusUrl;
pub use self::metrics::MetricsConfig;
pub use self::notifications::NotificationsConfig;
pub use self::reply_style::ReplyStyle;
pub use self::tracing::{OtlpProtocol, TracingConfig};

options! {
    /// The options of `[DEFAULT]` (parity 1.15).
    ///
    /// ```
    /// use oslo_messaging_core::config::DefaultConfig;
    ///
    /// let config = DefaultConfig::default();
    /// assert_eq!(config.transport_url.scheme(), "rabbit");
    /// assert_eq!(config.rpc_response_timeout.as_secs(), 60);
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    pub struct DefaultConfig in "DEFAULT" {
        /// The message bus: `driver://[user:password@]host[:port][,…]/virtual_host[?option=value]`. Options in
        /// its query win over those of files. A `$` of a password is written `$$`, other special
        /// characters are percent-encoded.
        transport_url: BusUrl = BusUrl::default(), secret();
        /// The exchange of targets that name none.
        control_exchange: String = "openstack".to_owned();
        /// Seconds a call waits for its answer if it says nothing itself; also how long a cast waits for the
        /// bus. The reference takes whole seconds.
        rpc_response_timeout: Seconds = Seconds(Duration::from_secs(60)), min(0.001), max(315_360_000.0);
        /// How many requests a server runs at once if it says nothing itself.
        executor_thread_pool_size: u32 = 64, min(1.0), was(&[("", "rpc_thread_pool_size")]);
        /// Whether servers answer `oslo_rpc_server_ping`.
        rpc_ping_enabled: bool = false;
        /// Ours: in how many messages servers write their replies, `whole` or `two-part`, as peers of Kilo and
        /// Liberty want them; both are read always.
        reply_style: ReplyStyle = ReplyStyle::Whole, ours();
    }
}

/// A configuration that cannot be used.
impl From<ConfigError> for Error {
    fn from(fault: ConfigError) -> Self {
        Self::new(ErrorKind::Config, fault.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::num::NonZeroUsize;

    use oslo_messaging_config::table::Options;

    use super::*;
    use crate::transport::TransportOptions;

    #[test]
    fn the_default_options_are_the_defaults_of_a_transport() {
        let options = TransportOptions::from(&DefaultConfig::default());
        assert_eq!(options, TransportOptions::default());
    }

    #[test]
    fn a_pool_of_nothing_is_refused_in_a_file_and_is_one_in_code() {
        let mut config = DefaultConfig::default();
        assert!(
            config
                .set("executor_thread_pool_size", &["0".to_owned()])
                .is_err()
        );
        config.executor_thread_pool_size = 0;
        let options = TransportOptions::from(&config);
        assert_eq!(options.executor_thread_pool_size, NonZeroUsize::MIN);
    }

    #[test]
    fn a_printed_url_has_no_password_and_a_bad_one_is_not_repeated() {
        let mut config = DefaultConfig::default();
        let url = "rabbit://u:hunter2@h/".to_owned();
        config
            .set("transport_url", std::slice::from_ref(&url))
            .unwrap();
        assert_eq!(
            config.texts("transport_url").unwrap(),
            ["rabbit://u:***@h/"]
        );
        assert!(!format!("{config:?}").contains("hunter2"));
        let refusal = config
            .set("transport_url", &["hunter2".to_owned()])
            .unwrap_err();
        assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
        assert!(config.set("transport_url", &[String::new()]).is_err());
    }
}
