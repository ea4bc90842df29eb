//! From a transport URL to a transport: the table of schemes, and the options that a URL may carry.
//!
//! Nothing here connects. A driver is found in a plain table; nothing registers itself before `main`.

use std::sync::Arc;

use oslo_messaging_config::table::Options;
use oslo_messaging_core::config::DefaultConfig;
use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
#[cfg(feature = "rabbit")]
use oslo_messaging_core::transport::ReplyStyle;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::url::TransportUrl;

/// What a transport is made with, before the query of its URL has its say.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging::ConnectOptions;
///
/// # #[tokio::main]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let mut options = ConnectOptions::default();
/// options.control_exchange = "nova".to_owned();
/// options.transport.rpc_response_timeout = Duration::from_secs(10);
/// let transport = oslo_messaging::connect_with("memory://", options).await?;
/// assert_eq!(transport.options().rpc_response_timeout, Duration::from_secs(10));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The exchange of targets that name none. Default `openstack`.
    pub control_exchange: String,
    /// Options that concern every driver.
    pub transport: TransportOptions,
    /// Options of the RabbitMQ driver.
    #[cfg(feature = "rabbit")]
    pub rabbit: oslo_messaging_rabbit::config::RabbitConfig,
    /// Options of the Kafka driver.
    #[cfg(feature = "kafka")]
    pub kafka: oslo_messaging_kafka::config::KafkaConfig,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            control_exchange: "openstack".to_owned(),
            transport: TransportOptions::default(),
            #[cfg(feature = "rabbit")]
            rabbit: Default::default(),
            #[cfg(feature = "kafka")]
            kafka: Default::default(),
        }
    }
}

/// What [`connect`] takes: a URL as text, or one that was read already (parity TR1).
///
/// ```
/// use oslo_messaging::{IntoTransportUrl, TransportUrl};
///
/// let url: TransportUrl = "rabbit://broker/".into_transport_url()?;
/// assert_eq!((&url).into_transport_url()?, url);
/// assert!("no url".into_transport_url().is_err());
/// # Ok::<(), oslo_messaging::Error>(())
/// ```
pub trait IntoTransportUrl {
    /// The URL.
    ///
    /// # Errors
    /// [`InvalidUrl`](ErrorKind::InvalidUrl) if the text is none.
    fn into_transport_url(self) -> Result<TransportUrl>;
}

impl IntoTransportUrl for TransportUrl {
    fn into_transport_url(self) -> Result<TransportUrl> {
        Ok(self)
    }
}

impl IntoTransportUrl for &TransportUrl {
    fn into_transport_url(self) -> Result<TransportUrl> {
        Ok(self.clone())
    }
}

impl IntoTransportUrl for &str {
    fn into_transport_url(self) -> Result<TransportUrl> {
        TransportUrl::parse(self).map_err(|fault| {
            // The text stays out of the error: it may hold a password.
            let text =
                "expected driver://[user:password@]host[:port][,…]/virtual_host[?option=value]";
            Error::new(ErrorKind::InvalidUrl, text).with_source(fault)
        })
    }
}

impl IntoTransportUrl for &String {
    fn into_transport_url(self) -> Result<TransportUrl> {
        self.as_str().into_transport_url()
    }
}

impl IntoTransportUrl for String {
    fn into_transport_url(self) -> Result<TransportUrl> {
        self.as_str().into_transport_url()
    }
}

/// A transport for this URL, with default options where the URL's query sets none.
///
/// It does not wait for the broker, and does not fail because there is none: like the reference, the
/// first operation connects, within its own deadline, and [`Transport::health`] tells how it goes.
///
/// | scheme | bus |
/// |---|---|
/// | `memory://NAME/VHOST`, `fake://…` | inside this process: all who give the same name and virtual host meet, until the last of them is gone |
/// | `rabbit://user:password@host:port,…/VHOST`, `kombu://…` | RabbitMQ; feature `rabbit` |
/// | `kafka://user:password@host:port,…/VHOST` | Kafka, notifications only; feature `kafka`, which takes a C compiler and is off by default |
///
/// The query sets `control_exchange`, `rpc_response_timeout` (seconds), `executor_thread_pool_size`,
/// `rpc_ping_enabled`, `reply_style` (`whole`, or `two-part` for peers of Kilo and Liberty), and the driver's own options under the reference's names.
///
/// # Errors
/// [`InvalidUrl`](ErrorKind::InvalidUrl) if it cannot be read, [`Unsupported`](ErrorKind::Unsupported) if no
/// driver of this build has the scheme, [`Config`](ErrorKind::Config) for an option that does not exist or
/// cannot have this value.
///
/// # Cancellation
/// Safe: nothing is left behind.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let transport = oslo_messaging::connect("memory://cell-1?rpc_response_timeout=5").await?;
/// assert_eq!(transport.options().rpc_response_timeout.as_secs(), 5);
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: impl IntoTransportUrl) -> Result<Transport> {
    connect_with(url, ConnectOptions::default()).await
}

/// As [`connect`], with options that the URL's query overrides.
///
/// # Errors
/// As [`connect`].
pub async fn connect_with(
    url: impl IntoTransportUrl,
    mut options: ConnectOptions,
) -> Result<Transport> {
    let url = url.into_transport_url()?;
    let entry = find(url.scheme())?;
    let own = take_common(&url, &mut options)?;
    let driver = (entry.make)(&url, &own, &options)?;
    Ok(Transport::new(driver, options.transport))
}

/// The part of a URL's query that is for the driver.
type Query = [(String, String)];

/// A row of the table.
struct Entry {
    schemes: &'static [&'static str],
    make: fn(&TransportUrl, &Query, &ConnectOptions) -> Result<Arc<dyn Driver>>,
}

const ENTRIES: &[Entry] = &[
    Entry {
        schemes: &["memory", "fake"],
        make: memory,
    },
    #[cfg(feature = "rabbit")]
    Entry {
        schemes: &["rabbit", "kombu"],
        make: rabbit,
    },
    #[cfg(feature = "kafka")]
    Entry {
        schemes: &["kafka"],
        make: kafka,
    },
];

/// Schemes of drivers this project has, and the feature each needs.
const FEATURES: &[(&str, &str)] = &[
    ("rabbit", "rabbit"),
    ("kombu", "rabbit"),
    ("kafka", "kafka"),
];

fn find(scheme: &str) -> Result<&'static Entry> {
    let entry = ENTRIES.iter().find(|entry| entry.schemes.contains(&scheme));
    entry.ok_or_else(|| {
        let feature = FEATURES.iter().find(|(known, _)| *known == scheme);
        let text = match feature {
            Some((_, feature)) => {
                format!("this build has no driver for {scheme}://; build oslo-messaging with feature `{feature}`")
            }
            None => {
                let known: Vec<String> =
                    ENTRIES.iter().flat_map(|entry| entry.schemes).map(|known| format!("{known}://")).collect();
                format!("no driver for {scheme}://; this build has {}", known.join(", "))
            }
        };
        Error::new(ErrorKind::Unsupported, text)
    })
}

fn memory(url: &TransportUrl, query: &Query, options: &ConnectOptions) -> Result<Arc<dyn Driver>> {
    if let Some((key, _)) = query.first() {
        let text = format!(
            "the memory driver has no option {key:?}; its URL takes control_exchange, rpc_response_timeout, \
             executor_thread_pool_size, rpc_ping_enabled and reply_style"
        );
        return Err(Error::new(ErrorKind::Config, text));
    }
    let driver = MemoryDriver::new(MemoryBroker::named(&memory_name(url)));
    Ok(Arc::new(driver.control_exchange(&options.control_exchange)))
}

/// Hosts and virtual host as one name; `memory://a` and `memory://a/` are the same.
fn memory_name(url: &TransportUrl) -> String {
    let mut name = String::new();
    for host in url.hosts() {
        name.push_str(host.hostname().unwrap_or_default());
        if let Some(port) = host.port() {
            name.push_str(&format!(":{port}"));
        }
        name.push(',');
    }
    name.push('/');
    name.push_str(url.virtual_host().unwrap_or_default());
    name
}

#[cfg(feature = "rabbit")]
fn rabbit(url: &TransportUrl, query: &Query, options: &ConnectOptions) -> Result<Arc<dyn Driver>> {
    let mut config = options.rabbit.clone();
    config.apply_query(query)?;
    // Servers of the releases that write replies so publish them there.
    config.reply_exchange |= options.transport.reply_style == ReplyStyle::TwoPart;
    Ok(Arc::new(oslo_messaging_rabbit::driver::RabbitDriver::new(
        url,
        config,
        &options.control_exchange,
    )?))
}

#[cfg(feature = "kafka")]
fn kafka(url: &TransportUrl, query: &Query, options: &ConnectOptions) -> Result<Arc<dyn Driver>> {
    let mut config = options.kafka.clone();
    config.apply_query(query)?;
    let driver = oslo_messaging_kafka::driver::KafkaDriver::new(url, config)?;
    Ok(Arc::new(driver))
}

/// Applies the options that every driver has; gives back the others.
fn take_common(url: &TransportUrl, options: &mut ConnectOptions) -> Result<Vec<(String, String)>> {
    let mut others = Vec::new();
    for (key, text) in url.query() {
        match DefaultConfig::TABLE.option(key) {
            Some(info) if !info.secret => set_common(info.name, text, options)?,
            _ => others.push((key.clone(), text.clone())),
        }
    }
    Ok(others)
}

fn set_common(name: &'static str, text: &str, options: &mut ConnectOptions) -> Result<()> {
    let mut read = DefaultConfig::default();
    if let Err(refusal) = read.set(name, &[text.to_owned()]) {
        let error = Error::new(ErrorKind::Config, format!("transport URL: {refusal}"));
        return Err(error.with("option", name));
    }
    let (transport, given) = (&mut options.transport, TransportOptions::from(&read));
    match name {
        "control_exchange" => options.control_exchange = read.control_exchange,
        "rpc_response_timeout" => transport.rpc_response_timeout = given.rpc_response_timeout,
        "executor_thread_pool_size" => {
            transport.executor_thread_pool_size = given.executor_thread_pool_size;
        }
        "rpc_ping_enabled" => transport.rpc_ping_enabled = given.rpc_ping_enabled,
        "reply_style" => transport.reply_style = given.reply_style,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn refused(url: &str) -> Error {
        connect(url).await.expect_err(url)
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_unsupported_and_names_the_known_ones() {
        let error = refused("carrier-pigeon://loft/").await;
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("carrier-pigeon://"), "{error}");
        assert!(error.to_string().contains("memory://, fake://"), "{error}");
        assert_eq!(
            refused("kombu+memory:///").await.kind(),
            ErrorKind::Unsupported
        );
    }

    #[cfg(not(feature = "rabbit"))]
    #[tokio::test]
    async fn a_driver_left_out_of_the_build_is_named_with_its_feature() {
        let error = refused("kombu://host/").await;
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `rabbit`"), "{error}");
    }

    #[cfg(not(feature = "kafka"))]
    #[tokio::test]
    async fn kafka_left_out_of_the_build_is_named_with_its_feature() {
        let error = refused("kafka://host/").await;
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `kafka`"), "{error}");
    }

    #[cfg(feature = "kafka")]
    #[tokio::test]
    async fn kafka_is_for_notifications_and_its_options_are_checked() {
        let transport = connect("kafka://host/?max_poll_records=3").await.unwrap();
        let capabilities = transport.capabilities();
        assert!(capabilities.notifications && !capabilities.rpc);
        transport.close().await;
        let error = refused("kafka://host/?max_poll_records=0").await;
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[tokio::test]
    async fn what_is_no_url_is_refused_without_repeating_it() {
        for bad in ["", "nonsense", "rabbit://user:hunter2@host:port/"] {
            let error = refused(bad).await;
            assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{bad}");
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_query_overrides_the_options_given() {
        let mut options = ConnectOptions::default();
        options.transport.rpc_response_timeout = Duration::from_secs(5);
        options.transport.rpc_ping_enabled = false;
        let url =
            "memory://?rpc_response_timeout=2.5&rpc_ping_enabled=True&executor_thread_pool_size=3";
        let transport = connect_with(url, options).await.unwrap();
        assert_eq!(
            transport.options().rpc_response_timeout,
            Duration::from_millis(2_500)
        );
        assert_eq!(transport.options().executor_thread_pool_size.get(), 3);
        assert!(transport.options().rpc_ping_enabled);
    }

    #[tokio::test]
    async fn bad_options_name_the_option_and_what_it_takes() {
        let cases = [
            ("rpc_response_timeout", "soon"),
            ("rpc_response_timeout", "0"),
            ("rpc_response_timeout", "-1"),
            ("rpc_response_timeout", "NaN"),
            ("rpc_response_timeout", "1e300"),
            ("executor_thread_pool_size", "0"),
            ("rpc_ping_enabled", "perhaps"),
            ("amqp_durable_queues", "true"),
        ];
        for (key, value) in cases {
            let error = refused(&format!("memory://?{key}={value}")).await;
            assert_eq!(error.kind(), ErrorKind::Config, "{key}={value}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn a_memory_url_names_its_broker_by_hosts_and_virtual_host() {
        let name = |url: &str| memory_name(&TransportUrl::parse(url).unwrap());
        assert_eq!(name("memory://"), name("fake:///"));
        assert_eq!(name("memory://a"), name("memory://a/"));
        let all = [
            "memory://",
            "memory://a",
            "memory://b",
            "memory://a/v",
            "memory:///a",
            "memory://a:1",
            "memory://a,b",
        ];
        let mut names: Vec<String> = all.into_iter().map(name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
