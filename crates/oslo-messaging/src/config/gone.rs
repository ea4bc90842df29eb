//! Options that old releases read and this one, like the reference of today, does not (parity 1.15).
//!
//! They are never honoured, since the same file must mean the same to Python; but an operator should hear of them.

use oslo_messaging_config::error::Warning;
use oslo_messaging_config::origin::Origin;
use oslo_messaging_config::sources::Sources;

const DEFAULT: &str = "DEFAULT";
const RABBIT: &str = "oslo_messaging_rabbit";
const KAFKA: &str = "oslo_messaging_kafka";
const IN_URL: &str = "it belongs into transport_url";
const NOTHING: &str = "nothing has to be set instead";

/// Group, name, what to do instead.
const GONE: &[(&str, &str, &str)] = &[
    (
        DEFAULT,
        "rpc_backend",
        "the scheme of transport_url names the driver",
    ),
    (
        DEFAULT,
        "notification_driver",
        "set driver in [oslo_messaging_notifications]",
    ),
    (
        DEFAULT,
        "notification_topics",
        "set topics in [oslo_messaging_notifications]",
    ),
    (
        DEFAULT,
        "notification_transport_url",
        "set transport_url in [oslo_messaging_notifications]",
    ),
    (
        DEFAULT,
        "routing_config",
        "set routing_config in [oslo_messaging_notifications]",
    ),
    (
        "rpc_notifier2",
        "topics",
        "set topics in [oslo_messaging_notifications]",
    ),
    (DEFAULT, "rabbit_host", IN_URL),
    (DEFAULT, "rabbit_hosts", IN_URL),
    (DEFAULT, "rabbit_port", IN_URL),
    (DEFAULT, "rabbit_userid", IN_URL),
    (DEFAULT, "rabbit_password", IN_URL),
    (DEFAULT, "rabbit_virtual_host", IN_URL),
    (
        DEFAULT,
        "rabbit_use_ssl",
        "set ssl in [oslo_messaging_rabbit]",
    ),
    (RABBIT, "rabbit_host", IN_URL),
    (RABBIT, "rabbit_hosts", IN_URL),
    (RABBIT, "rabbit_port", IN_URL),
    (RABBIT, "rabbit_userid", IN_URL),
    (RABBIT, "rabbit_password", IN_URL),
    (RABBIT, "rabbit_virtual_host", IN_URL),
    (RABBIT, "rabbit_max_retries", NOTHING),
    (RABBIT, "rabbit_durable_queues", "set amqp_durable_queues"),
    (RABBIT, "rabbit_use_ssl", "set ssl"),
    (RABBIT, "kombu_ssl_version", "set ssl_version"),
    (RABBIT, "kombu_ssl_keyfile", "set ssl_key_file"),
    (RABBIT, "kombu_ssl_certfile", "set ssl_cert_file"),
    (RABBIT, "kombu_ssl_ca_certs", "set ssl_ca_file"),
    (RABBIT, "heartbeat_in_pthread", NOTHING),
    (
        RABBIT,
        "rabbit_quroum_max_memory_length",
        "set rabbit_quorum_max_memory_length",
    ),
    (
        RABBIT,
        "rabbit_quroum_max_memory_bytes",
        "set rabbit_quorum_max_memory_bytes",
    ),
    (KAFKA, "pool_size", NOTHING),
    (KAFKA, "conn_pool_min_size", NOTHING),
    (KAFKA, "conn_pool_ttl", NOTHING),
];

/// A warning for each of them that a file sets.
pub(crate) fn warnings(sources: &Sources) -> impl Iterator<Item = Warning> {
    GONE.iter().filter_map(|(group, name, instead)| {
        Some(Warning::Gone {
            origin: Origin::File(sources.place(group, name)?),
            group,
            name,
            instead,
        })
    })
}
