//! The options of the group `oslo_messaging_notifications`.

use oslo_messaging_config::options;
use oslo_messaging_config::value::Multi;

use super::BusUrl;

options! {
    /// How notifications are sent (parity 1.15).
    ///
    /// ```
    /// use oslo_messaging_core::config::NotificationsConfig;
    ///
    /// let config = NotificationsConfig::default();
    /// assert!(config.driver.is_empty());
    /// assert_eq!((config.topics[0].as_str(), config.retry), ("notifications", -1));
    /// ```
    #[derive(Debug, Clone, PartialEq)]
    pub struct NotificationsConfig in "oslo_messaging_notifications" {
        /// Who sends: `messaging`, `messagingv2`, `routing`, `log`, `test` or `noop`; each line adds one.
        /// Without any, notifications go nowhere.
        driver: Multi = Multi::default();
        /// The bus for notifications; without it that of `[DEFAULT] transport_url`.
        transport_url: Option<BusUrl> = None, secret();
        /// Topics to publish on; the priority is put behind each.
        topics: Vec<String> = vec!["notifications".to_owned()];
        /// How often sending is tried again: 0 for never, -1 for ever.
        retry: i64 = -1, min(-1.0), max(4_294_967_295.0);
        /// YAML file of the `routing` driver.
        routing_config: String = String::new();
    }
}
