//! The options of the group `oslo_messaging_metrics`.

use std::time::Duration;

use oslo_messaging_config::options;
use oslo_messaging_config::value::Seconds;

options! {
    /// Where figures of calls go (parity 1.15, M1 to M5).
    ///
    /// ```
    /// use oslo_messaging_core::config::MetricsConfig;
    ///
    /// assert_eq!(MetricsConfig::default().metrics_socket_file, "/var/tmp/metrics_collector.sock");
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    pub struct MetricsConfig in "oslo_messaging_metrics" {
        /// Whether figures of calls are sent to the collector of oslo.metrics.
        metrics_enabled: bool = false;
        /// How many figures wait to be sent; beyond it they are dropped.
        metrics_buffer_size: u32 = 1000, min(1.0);
        /// UNIX datagram socket of the collector.
        metrics_socket_file: String = "/var/tmp/metrics_collector.sock".to_owned();
        /// Name of this process in the figures.
        metrics_process_name: String = String::new();
        /// Seconds after the last figure until the sender rests.
        metrics_thread_stop_timeout: Seconds = Seconds(Duration::from_secs(10)), max(315_360_000.0);
    }
}
