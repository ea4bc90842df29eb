//! Where the brokers are and how to log in there: from transport URL and options to what the engine is asked,
//! and in which order they are tried.
//!
//! A broker that failed is remembered by all connections of the driver and tried after the others for a
//! while; it is never left out, so that one that is alone or was wrongly suspected is still found at once.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use oslo_messaging_amqp::{ConnectOptions, Connection, Login};
use oslo_messaging_proto::url::TransportUrl;
use uuid::Uuid;

use crate::backoff::Delays;
use crate::config::{FailoverStrategy, LoginMethod, MAX_MESSAGE_SIZE, RabbitConfig};
use crate::lock::lock;
use crate::security::Security;

/// Where brokers are and how to log in there.
pub(crate) struct Brokers {
    hosts: Vec<Broker>,
    /// The virtual host as errors and log show it.
    vhost: Arc<str>,
    shuffle: bool,
    security: Security,
    options: ConnectOptions,
    delays: Delays,
    /// How long a broker that failed is tried after the others.
    cool_down: Duration,
    /// This machine, for the names of connections.
    machine: String,
}

/// One broker.
pub(crate) struct Broker {
    name: String,
    port: u16,
    /// Both, as errors and health show them.
    address: Arc<str>,
    login: Login,
    /// It failed, and is tried after the others for a while.
    cooling: Mutex<Option<Cooling>>,
    /// Connections of the driver to it.
    in_use: AtomicUsize,
}

/// A connection to a broker, counted as such while this lives.
pub(crate) struct Occupied<'a>(&'a AtomicUsize);

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a broker failed.
#[derive(Clone, Copy)]
struct Cooling {
    until: Instant,
    /// Attempts that failed since it was last connected.
    attempts: u32,
}

impl Brokers {
    /// The brokers of a transport URL, in random order; guest at localhost if it names none (parity U16, U18).
    pub(crate) fn new(url: &TransportUrl, config: &RabbitConfig) -> Self {
        let security = Security::new(config);
        let (port, method) = (security.default_port(), config.rabbit_login_method);
        let mut hosts: Vec<Broker> = url
            .hosts()
            .iter()
            .map(|host| {
                let name = host
                    .hostname()
                    .filter(|name| !name.is_empty())
                    .unwrap_or("localhost");
                let login = login(method, host.username(), host.password());
                Broker::new(name, host.port().unwrap_or(port), login)
            })
            .collect();
        if hosts.is_empty() {
            hosts.push(Broker::new("localhost", port, login(method, None, None)));
        }
        fastrand::shuffle(&mut hosts);
        if url.has_mixed_credentials() {
            tracing::warn!(
                "some hosts of the transport URL have credentials and others do not; those without log in as guest"
            );
        }
        let vhost = url.broker_virtual_host();
        let mut options = ConnectOptions::default();
        options.virtual_host = vhost.to_owned();
        options.heartbeat = Duration::from_secs(config.heartbeat_timeout_threshold.into());
        options.heartbeat_rate = config.heartbeat_rate;
        options.connect_timeout = config.connect_deadline();
        // As the reference does: bytes a dead peer never acknowledges end the connection as well.
        options.tcp_user_timeout = Some(options.heartbeat).filter(|heartbeat| !heartbeat.is_zero());
        options.max_message_size = MAX_MESSAGE_SIZE.into();
        Self {
            hosts,
            vhost: shown(vhost).into(),
            shuffle: config.kombu_failover_strategy == FailoverStrategy::Shuffle,
            security,
            options,
            delays: Delays::new(config),
            cool_down: Duration::from_secs(config.rabbit_interval_max.into()),
            machine: config.hostname.clone().unwrap_or_else(machine),
        }
    }

    /// The virtual host, as errors and log show it.
    pub(crate) fn vhost(&self) -> &Arc<str> {
        &self.vhost
    }

    /// The waits between attempts.
    pub(crate) fn delays(&self) -> &Delays {
        &self.delays
    }

    /// The brokers in the order of one round of attempts, each once; `from` is the caller's place in the list.
    ///
    /// Those that failed lately come last, after those that only lost a connection. Of the others, one that carries the
    /// driver's other connection comes later: a node that hangs shall not take both, nor a reply queue and its spare.
    /// Otherwise the option decides: in turn, or any order.
    pub(crate) fn round(&self, from: usize, now: Instant) -> Vec<usize> {
        let count = self.hosts.len();
        let mut order: Vec<usize> = (0..count).map(|step| (from + step) % count).collect();
        if self.shuffle {
            fastrand::shuffle(&mut order);
        }
        order.sort_by_key(|&at| {
            let host = &self.hosts[at];
            (host.suspicion(now), host.in_use.load(Ordering::Relaxed))
        });
        order
    }

    /// Counts a connection to a broker while the guard lives.
    pub(crate) fn occupy(&self, at: usize) -> Occupied<'_> {
        let in_use = &self.hosts[at].in_use;
        in_use.fetch_add(1, Ordering::Relaxed);
        Occupied(in_use)
    }

    /// Whether there is more than one.
    pub(crate) fn are_several(&self) -> bool {
        self.hosts.len() > 1
    }

    /// Where to go on after this broker.
    pub(crate) fn after(&self, at: usize) -> usize {
        (at + 1) % self.hosts.len()
    }

    /// `host:port` of a broker.
    pub(crate) fn address(&self, at: usize) -> &Arc<str> {
        &self.hosts[at].address
    }

    /// Connects to a broker and logs in, under a new connection name that tells the purpose.
    pub(crate) async fn connect(
        &self,
        at: usize,
        purpose: &str,
    ) -> oslo_messaging_amqp::Result<Connection> {
        let broker = &self.hosts[at];
        let name = connection_name(purpose, &self.machine);
        let mut options = self.options.clone().connection_name(name);
        options.login = broker.login.clone();
        let (host, port) = (broker.name.as_str(), broker.port);
        let result = self.security.connect(host, port, options).await;
        match &result {
            Ok(_) => *broker.cooling() = None,
            Err(_) => self.note_failure(at, Instant::now()),
        }
        result
    }

    /// Notes that a connection to a broker was lost.
    pub(crate) fn note_loss(&self, at: usize, now: Instant) {
        let until = now + self.cool_down;
        let mut cooling = self.hosts[at].cooling();
        let attempts = cooling.map_or(0, |cooling| cooling.attempts);
        *cooling = Some(Cooling { until, attempts });
    }

    /// Notes that a broker could not be reached, or did not answer any more.
    pub(crate) fn note_failure(&self, at: usize, now: Instant) {
        self.note_loss(at, now);
        if let Some(cooling) = &mut *self.hosts[at].cooling() {
            cooling.attempts = cooling.attempts.saturating_add(1);
        }
    }

    /// How long one attempt at every broker may take.
    pub(crate) fn round_deadline(&self) -> Duration {
        self.options.connect_timeout * u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)
    }
}

impl Broker {
    fn new(name: &str, port: u16, login: Login) -> Self {
        let address = if name.contains(':') {
            format!("[{name}]:{port}")
        } else {
            format!("{name}:{port}")
        };
        Self {
            name: name.to_owned(),
            port,
            address: address.into(),
            login,
            cooling: Mutex::new(None),
            in_use: AtomicUsize::new(0),
        }
    }

    fn cooling(&self) -> MutexGuard<'_, Option<Cooling>> {
        lock(&self.cooling)
    }

    /// How much speaks against it: 0 nothing, 1 a lost connection, more with each failed attempt.
    fn suspicion(&self, now: Instant) -> u32 {
        match *self.cooling() {
            Some(cooling) if now < cooling.until => cooling.attempts.saturating_add(1),
            _ => 0,
        }
    }
}

fn login(method: LoginMethod, user: Option<&str>, password: Option<&str>) -> Login {
    let user = user.unwrap_or("guest").to_owned();
    let password = password.unwrap_or("guest").to_owned();
    match method {
        LoginMethod::Plain => Login::Plain { user, password },
        LoginMethod::External => Login::External,
        // The driver refuses CR-DEMO before it comes here.
        LoginMethod::Amqplain | LoginMethod::CrDemo => Login::AmqPlain { user, password },
    }
}

/// `<program>:<pid>:<random UUID>`, as management tools show the reference's connections, and what for and from where:
/// ` <purpose>@<machine>`.
fn connection_name(purpose: &str, machine: &str) -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let (pid, random) = (std::process::id(), Uuid::new_v4());
    format!("{program}:{pid}:{random} {purpose}@{machine}")
}

/// A raw `@` or `/` in a password makes its end part of what is read as the virtual host, which is not for the log.
fn shown(vhost: &str) -> &str {
    if vhost.contains('@') {
        "*** (not shown: it has an @ in it; is the password of the transport URL percent-encoded?)"
    } else {
        vhost
    }
}

fn machine() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
