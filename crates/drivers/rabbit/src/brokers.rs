//! Where the brokers are and how to log in there: from transport URL and options to what the engine is asked.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_amqp::{ConnectOptions, Login};
use oslo_messaging_proto::url::TransportUrl;
use uuid::Uuid;

use crate::backoff::Delays;
use crate::config::{FailoverStrategy, LoginMethod, RabbitConfig};

/// Where brokers are and how to log in there.
pub(crate) struct Brokers {
    hosts: Vec<Broker>,
    vhost: Arc<str>,
    shuffle: bool,
    options: ConnectOptions,
    delays: Delays,
}

/// One broker.
pub(crate) struct Broker {
    /// Host name or address.
    pub(crate) name: String,
    /// Port.
    pub(crate) port: u16,
    /// Both, as errors and health show them.
    pub(crate) address: Arc<str>,
    login: Login,
}

impl Brokers {
    /// The brokers of a transport URL, in random order; guest at localhost if it names none (parity U16, U18).
    pub(crate) fn new(url: &TransportUrl, config: &RabbitConfig) -> Self {
        let mut hosts: Vec<Broker> = url
            .hosts()
            .iter()
            .map(|host| {
                let (user, password) = (host.username(), host.password());
                Broker::new(
                    host.hostname(),
                    host.port(),
                    user,
                    password,
                    config.rabbit_login_method,
                )
            })
            .collect();
        if hosts.is_empty() {
            hosts.push(Broker::new(
                None,
                None,
                None,
                None,
                config.rabbit_login_method,
            ));
        }
        fastrand::shuffle(&mut hosts);
        let vhost = match url.virtual_host() {
            None | Some("") => "/",
            Some(name) => name,
        };
        let mut options = ConnectOptions::default();
        options.virtual_host = vhost.to_owned();
        options.heartbeat = Duration::from_secs(config.heartbeat_timeout_threshold.into());
        options.heartbeat_rate = config.heartbeat_rate;
        options.connect_timeout = config.connect_deadline();
        // As the reference does: bytes a dead peer never acknowledges end the connection as well.
        options.tcp_user_timeout = Some(options.heartbeat).filter(|heartbeat| !heartbeat.is_zero());
        options.max_message_size = crate::publisher::MAX_MESSAGE as u64;
        Self {
            hosts,
            vhost: vhost.into(),
            shuffle: config.kombu_failover_strategy == FailoverStrategy::Shuffle,
            options,
            delays: Delays::new(config),
        }
    }

    /// The virtual host, as the broker knows it.
    pub(crate) fn vhost(&self) -> &Arc<str> {
        &self.vhost
    }

    /// The waits between attempts.
    pub(crate) fn delays(&self) -> &Delays {
        &self.delays
    }

    /// Number of brokers, at least one.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The broker to try now; `next` is the caller's place in the list.
    pub(crate) fn choose(&self, next: &mut usize) -> &Broker {
        let at = if self.shuffle {
            fastrand::usize(..self.len())
        } else {
            *next % self.len()
        };
        *next = (at + 1) % self.len();
        &self.hosts[at]
    }

    /// What the engine is asked for at a broker, under a new connection name.
    pub(crate) fn options(&self, broker: &Broker) -> ConnectOptions {
        let mut options = self.options.clone().connection_name(connection_name());
        options.login = broker.login.clone();
        options
    }

    /// How long one attempt at every broker may take.
    pub(crate) fn round_deadline(&self) -> Duration {
        self.options.connect_timeout * u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }
}

impl Broker {
    fn new(
        name: Option<&str>,
        port: Option<u16>,
        user: Option<&str>,
        password: Option<&str>,
        method: LoginMethod,
    ) -> Self {
        let name = name
            .filter(|name| !name.is_empty())
            .unwrap_or("localhost")
            .to_owned();
        let port = port.unwrap_or(5672);
        let user = user.unwrap_or("guest").to_owned();
        let password = password.unwrap_or("guest").to_owned();
        let login = match method {
            LoginMethod::Plain => Login::Plain { user, password },
            LoginMethod::External => Login::External,
            // The driver refuses CR-DEMO before it comes here.
            LoginMethod::Amqplain | LoginMethod::CrDemo => Login::AmqPlain { user, password },
        };
        let address = if name.contains(':') {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        };
        Self {
            name,
            port,
            address: address.into(),
            login,
        }
    }
}

/// `<program>:<pid>:<random UUID>`, as management tools show the reference's connections.
fn connection_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = std::path::Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    format!("{program}:{}:{}", std::process::id(), Uuid::new_v4())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_named_after_program_process_and_a_random_id() {
        let name = connection_name();
        let parts: Vec<&str> = name.split(':').collect();
        assert_eq!(
            (parts.len(), parts[1].parse().ok(), parts[2].len()),
            (3, Some(std::process::id()), 36)
        );
        assert_ne!(name, connection_name());
    }

    #[test]
    fn brokers_of_a_url_fall_back_to_guest_at_localhost_and_the_root_virtual_host() {
        for (text, address, vhost) in [
            ("rabbit://", "localhost:5672", "/"),
            ("rabbit:///", "localhost:5672", "/"),
            ("rabbit://h/", "h:5672", "/"),
            ("rabbit://h:1/nova", "h:1", "nova"),
        ] {
            let brokers = Brokers::new(
                &TransportUrl::parse(text).unwrap(),
                &RabbitConfig::default(),
            );
            assert_eq!(
                (&*brokers.hosts[0].address, &**brokers.vhost()),
                (address, vhost),
                "{text}"
            );
            let guest = Login::AmqPlain {
                user: "guest".into(),
                password: "guest".into(),
            };
            assert_eq!(brokers.hosts[0].login, guest);
            assert_eq!(brokers.options.virtual_host, vhost);
        }
    }
}
