//! One supervised connection to one of the brokers: made on demand, made again when lost.
//!
//! Owns the choice of the broker, the waits between attempts and the news of it all ([`Status`], which
//! anyone may watch). Refuses to know what the connection is for: channels, declarations and messages
//! are the business of publisher and consumer, who ask for a [`Session`] and ask again when it is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oslo_messaging_amqp::{ConnectOptions, Connection, Login};
use oslo_messaging_core::driver::Retry;
use oslo_messaging_core::error::{Error, Result};
use oslo_messaging_proto::url::TransportUrl;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::config::{FailoverStrategy, LoginMethod, RabbitConfig};
use crate::error::{ConnectFault, Hope, closed_error};

/// How long the broker may take to answer the close of a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Where brokers are and how to log in there.
pub(crate) struct Brokers {
    hosts: Vec<Broker>,
    vhost: Arc<str>,
    shuffle: bool,
    options: ConnectOptions,
    delays: Delays,
}

struct Broker {
    name: String,
    port: u16,
    address: Arc<str>,
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

/// A connection in force.
pub(crate) struct Session {
    /// The engine's handle.
    pub(crate) connection: Connection,
    /// Counts the connections of a link from 1, so that a lost one is not taken for its successor.
    pub(crate) generation: u64,
    /// The broker, as `host:port`.
    pub(crate) host: Arc<str>,
}

/// What a link is doing.
#[derive(Default)]
pub(crate) enum Phase {
    /// Nobody has asked for a connection yet.
    #[default]
    Idle,
    /// Trying, or waiting to try.
    Down,
    /// The broker refused the login or the virtual host; the next who asks has it tried again.
    Refused,
    /// Connected.
    Up(Arc<Session>),
    /// Ended by its owner.
    Closed,
}

impl Status {
    /// The connection in force.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match &self.phase {
            Phase::Up(session) => Some(session),
            _ => None,
        }
    }
}

/// The news of a link.
#[derive(Default)]
pub(crate) struct Status {
    /// What it is doing.
    pub(crate) phase: Phase,
    /// Rounds over all brokers that failed, since the start.
    failed_rounds: u64,
    /// Those of them that failed for good: login or virtual host refused.
    refusals: u64,
    /// Why the last connection or attempt failed.
    pub(crate) last_fault: Option<ConnectFault>,
}

/// How long, and how often, somebody waits.
#[derive(Debug)]
pub(crate) struct Patience {
    retry: Retry,
    failed: u32,
    endless: bool,
}

impl Patience {
    /// As an operation's sender says.
    pub(crate) fn new(retry: Retry) -> Self {
        Self {
            retry,
            failed: 0,
            endless: false,
        }
    }

    /// Of one who waits whatever happens, a refused login included, and never asks for an attempt.
    pub(crate) fn endless() -> Self {
        Self {
            retry: Retry::Forever,
            failed: 0,
            endless: true,
        }
    }

    /// Notes failed attempts; whether another one is allowed.
    pub(crate) fn allows_after(&mut self, failures: u32) -> bool {
        self.failed = self.failed.saturating_add(failures);
        failures == 0 || self.retry.allows(self.failed)
    }

    /// Failed attempts so far.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }
}

/// A connection that is kept up by a task of its own.
pub(crate) struct Link {
    inner: Arc<Inner>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    brokers: Arc<Brokers>,
    /// What it is for, for the log.
    purpose: &'static str,
    status: watch::Sender<Status>,
    /// Somebody wants a connection now.
    wake: Notify,
    /// Subscriptions that want the connection back whatever the broker says.
    keepers: AtomicUsize,
    stop: Notify,
    stopped: AtomicBool,
}

/// While it lives, the link goes on trying even after a refused login.
pub(crate) struct Keeper(Arc<Inner>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    /// A link that has not connected yet.
    pub(crate) fn new(brokers: Arc<Brokers>, purpose: &'static str) -> Self {
        let inner = Inner {
            brokers,
            purpose,
            status: watch::Sender::new(Status::default()),
            wake: Notify::new(),
            keepers: AtomicUsize::new(0),
            stop: Notify::new(),
            stopped: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
            task: Mutex::new(None),
        }
    }

    /// A connection newer than `after`, as soon as there is one.
    ///
    /// # Errors
    /// The last fault, when `patience` is used up by failed rounds or the broker refuses the login;
    /// `Closed` after [`Link::close`].
    ///
    /// # Cancellation
    /// Safe; the link goes on.
    pub(crate) async fn session(
        &self,
        after: u64,
        patience: &mut Patience,
    ) -> Result<Arc<Session>> {
        let mut status = self.inner.status.subscribe();
        let (mut rounds, refusals) = {
            let now = status.borrow_and_update();
            if let Phase::Up(session) = &now.phase
                && session.generation > after
            {
                return Ok(Arc::clone(session));
            }
            (now.failed_rounds, now.refusals)
        };
        self.start()?;
        if !patience.endless && matches!(status.borrow().phase, Phase::Refused) {
            self.inner.wake.notify_one();
        }
        loop {
            {
                let now = status.borrow_and_update();
                match &now.phase {
                    Phase::Up(session) if session.generation > after => {
                        return Ok(Arc::clone(session));
                    }
                    Phase::Closed => return Err(closed_error()),
                    _ => {}
                }
                let failures = u32::try_from(now.failed_rounds - rounds).unwrap_or(u32::MAX);
                rounds = now.failed_rounds;
                if let Some(fault) = &now.last_fault
                    && !patience.endless
                    && (!patience.allows_after(failures) || now.refusals > refusals)
                {
                    let tries = patience.failed();
                    return Err(fault.to_error().with("attempts", tries.to_string()));
                }
            }
            if status.changed().await.is_err() {
                return Err(closed_error());
            }
        }
    }

    /// Makes the link try again even after a refusal, until the keeper is dropped.
    pub(crate) fn keep(&self) -> Keeper {
        self.inner.keepers.fetch_add(1, Ordering::Relaxed);
        Keeper(Arc::clone(&self.inner))
    }

    /// Looks at the news.
    pub(crate) fn with_status<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.inner.status.borrow())
    }

    /// The last fault as an error, for who ran out of time waiting.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.with_status(|status| status.last_fault.as_ref().map(ConnectFault::to_error))
    }

    /// Virtual host.
    pub(crate) fn brokers(&self) -> &Brokers {
        &self.inner.brokers
    }

    /// Ends the connection in good order and joins the task.
    pub(crate) async fn close(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.stop.notify_one();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // A panic of the task was reported when it happened; there is nothing left to end.
            let _ = task.await;
        }
        self.inner
            .status
            .send_modify(|status| status.phase = Phase::Closed);
    }

    /// Starts the task with the first one who wants a connection.
    fn start(&self) -> Result<()> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err(closed_error());
        }
        if task.is_none() {
            self.inner
                .status
                .send_modify(|status| status.phase = Phase::Down);
            *task = Some(tokio::spawn(Arc::clone(&self.inner).run()));
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::Release);
        self.inner.stop.notify_one();
    }
}

impl Inner {
    async fn run(self: Arc<Self>) {
        let mut next = 0;
        let mut generation = 0;
        let mut failures = Failures::default();
        loop {
            let round = tokio::select! {
                () = self.stop.notified() => return,
                round = self.connect_round(&mut next) => round,
            };
            let wait = match round {
                Ok((connection, host)) => {
                    generation += 1;
                    failures = Failures::default();
                    let Some(lost) = self.hold(connection, generation, host).await else {
                        return;
                    };
                    self.note(lost);
                    self.brokers.delays.after_loss()
                }
                Err(fault) => match self.note_failed_round(fault) {
                    Hope::None => {
                        if !self.wait_for_change().await {
                            return;
                        }
                        continue;
                    }
                    hope => self.brokers.delays.next(&mut failures, hope),
                },
            };
            tokio::select! {
                () = self.stop.notified() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// After a refusal: waits for someone who asks anew, or a long time if subscriptions depend on it.
    /// False when the owner wants the end.
    async fn wait_for_change(&self) -> bool {
        let keepers = self.keepers.load(Ordering::Relaxed) > 0;
        tokio::select! {
            () = self.stop.notified() => false,
            () = self.wake.notified() => true,
            () = sleep(self.brokers.delays.longest()), if keepers => true,
        }
    }

    /// Publishes the connection and waits for its end; `None` when the owner wants the end.
    async fn hold(
        &self,
        connection: Connection,
        generation: u64,
        host: Arc<str>,
    ) -> Option<ConnectFault> {
        tracing::info!(
            host = &*host,
            purpose = self.purpose,
            generation,
            "connected to RabbitMQ"
        );
        let session = Session {
            connection: connection.clone(),
            generation,
            host: Arc::clone(&host),
        };
        self.status
            .send_modify(|status| status.phase = Phase::Up(Arc::new(session)));
        tokio::select! {
            () = self.stop.notified() => {
                self.status.send_modify(|status| status.phase = Phase::Closed);
                if let Err(error) = connection.close(CLOSE_LIMIT).await {
                    tracing::debug!(%error, purpose = self.purpose, "connection ended without the broker's word");
                }
                None
            }
            error = connection.closed() => Some(ConnectFault::new(error, &host, &self.brokers.vhost)),
        }
    }

    fn note(&self, fault: ConnectFault) {
        tracing::warn!(error = %fault.to_error(), purpose = self.purpose, "connection to RabbitMQ lost");
        self.status.send_modify(|status| {
            status.phase = Phase::Down;
            status.last_fault = Some(fault);
        });
    }

    fn note_failed_round(&self, fault: ConnectFault) -> Hope {
        let hope = fault.hope();
        tracing::warn!(error = %fault.to_error(), purpose = self.purpose, "no connection to RabbitMQ");
        self.status.send_modify(|status| {
            status.phase = if hope == Hope::None {
                Phase::Refused
            } else {
                Phase::Down
            };
            status.failed_rounds += 1;
            status.refusals += u64::from(hope == Hope::None);
            status.last_fault = Some(fault);
        });
        hope
    }

    /// Tries each broker once; the fault told is the one with the least hope.
    async fn connect_round(
        &self,
        next: &mut usize,
    ) -> Result<(Connection, Arc<str>), ConnectFault> {
        let brokers = &self.brokers;
        let count = brokers.hosts.len();
        let mut worst: Option<ConnectFault> = None;
        for _ in 0..count {
            if brokers.shuffle {
                *next = fastrand::usize(..count);
            }
            let broker = &brokers.hosts[*next % count];
            *next = (*next + 1) % count;
            let mut options = brokers.options.clone().connection_name(connection_name());
            options.login = broker.login.clone();
            match Connection::connect_tcp(&broker.name, broker.port, options).await {
                Ok(connection) => return Ok((connection, Arc::clone(&broker.address))),
                Err(error) => {
                    let fault = ConnectFault::new(error, &broker.address, &brokers.vhost);
                    if worst
                        .as_ref()
                        .is_none_or(|known| known.hope() != Hope::None)
                    {
                        worst = Some(fault);
                    }
                }
            }
        }
        Err(worst.expect("there is at least one broker, see Brokers::new"))
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

/// Waits between attempts, all jittered so that the clients of a broker do not come back as one.
struct Delays {
    after_loss: f64,
    splay: f64,
    interval: u32,
    step: u32,
    cap: u32,
}

/// Failed rounds since the last connection.
#[derive(Debug, Default)]
struct Failures {
    slow: u32,
    quick: u32,
}

impl Delays {
    /// Closed handshakes in a row that still count as a broker that is starting.
    const QUICK_LIMIT: u32 = 120;

    fn new(config: &RabbitConfig) -> Self {
        Self {
            after_loss: config.kombu_reconnect_delay.min(0.25),
            splay: config.kombu_reconnect_splay,
            interval: config.rabbit_retry_interval,
            step: config.rabbit_retry_backoff,
            cap: config.rabbit_interval_max,
        }
    }

    /// Before the first attempt after an established connection was lost.
    fn after_loss(&self) -> Duration {
        self.seconds(0.0, self.after_loss)
    }

    /// After a failed round: 0.3 to 1 s while nobody listens, else by the options.
    fn next(&self, failures: &mut Failures, hope: Hope) -> Duration {
        if hope == Hope::Soon && failures.quick < Self::QUICK_LIMIT {
            failures.quick += 1;
            return self.seconds(0.3, 1.0);
        }
        let wait = self
            .interval
            .saturating_add(self.step.saturating_mul(failures.slow))
            .min(self.cap);
        failures.slow = failures.slow.saturating_add(1);
        self.seconds(f64::from(wait) * 0.5, f64::from(wait))
    }

    /// After a refused login or virtual host, for those who cannot give up.
    fn longest(&self) -> Duration {
        self.seconds(f64::from(self.cap) * 0.5, f64::from(self.cap))
    }

    fn seconds(&self, from: f64, to: f64) -> Duration {
        Duration::from_secs_f64(from + (to - from) * fastrand::f64() + self.splay * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(query: &[(&str, &str)]) -> Delays {
        let pairs: Vec<_> = query
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Delays::new(&RabbitConfig::from_query(&pairs).unwrap())
    }

    fn seconds(wait: Duration) -> f64 {
        wait.as_secs_f64()
    }

    #[test]
    fn a_broker_that_listens_not_is_asked_again_within_a_second_however_long_it_takes() {
        let delays = delays(&[]);
        let mut failures = Failures::default();
        for _ in 0..Delays::QUICK_LIMIT {
            let wait = seconds(delays.next(&mut failures, Hope::Soon));
            assert!((0.3..=1.0).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn other_waits_grow_by_the_options_up_to_the_longest_and_are_jittered() {
        let delays = delays(&[
            ("rabbit_retry_interval", "2"),
            ("rabbit_retry_backoff", "3"),
            ("rabbit_interval_max", "9"),
        ]);
        let mut failures = Failures::default();
        for most in [2.0, 5.0, 8.0, 9.0, 9.0] {
            let wait = seconds(delays.next(&mut failures, Hope::Later));
            assert!((most / 2.0..=most).contains(&wait), "{wait} of {most}");
        }
        let many: Vec<Duration> = (0..8).map(|_| delays.longest()).collect();
        assert!(many.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn splay_is_really_slept() {
        let delays = delays(&[
            ("kombu_reconnect_splay", "1000"),
            ("kombu_reconnect_delay", "0"),
        ]);
        let longest = (0..16).map(|_| delays.after_loss()).max().unwrap();
        assert!(seconds(longest) > 10.0);
    }

    #[test]
    fn patience_counts_attempts() {
        let mut never = Patience::new(Retry::Never);
        assert!(never.allows_after(0) && !never.allows_after(1));
        let mut twice = Patience::new(Retry::Times(2));
        assert!(twice.allows_after(2) && !twice.allows_after(1));
        let mut forever = Patience::new(Retry::Forever);
        assert!(forever.allows_after(u32::MAX) && forever.allows_after(1));
    }

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
