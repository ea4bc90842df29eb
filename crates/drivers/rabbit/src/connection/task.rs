//! The task of a link: connects, holds the connection, waits and connects again, and tells all about it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use oslo_messaging_amqp::{Connection, Error as AmqpError};
use oslo_messaging_core::events::Event;
use tokio::time::sleep;

use crate::connection::{Inner, Phase, Session};
use crate::error::{ConnectFault, Hope};
use crate::lock::lock;
use crate::pulse::until_dead;

/// A broker that takes longer to take a connection is not waited for alone.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// A connection that held this long was none in a row of those that are made and lost at once.
const STEADY: Duration = Duration::from_secs(1);

/// How long the broker may take to answer the close of a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) async fn run(&self) {
        let mut next = 0;
        let mut failures = self.brokers.delays().fresh();
        loop {
            let round = tokio::select! {
                () = self.stop.notified() => return,
                round = self.connect_round(next) => round,
            };
            let wait = match round {
                Ok((connection, at)) => {
                    let generation = self.made.fetch_add(1, Ordering::Relaxed) + 1;
                    let _occupied = self.brokers.occupy(at);
                    next = self.brokers.after(at);
                    self.brokers.delays().connected(&mut failures);
                    let host = Arc::clone(self.brokers.address(at));
                    let since = Instant::now();
                    let Some(lost) = self.hold(connection, generation, host).await else {
                        return;
                    };
                    if lost.is_silence() {
                        self.brokers.note_failure(at, Instant::now());
                    } else {
                        self.brokers.note_loss(at, Instant::now());
                    }
                    self.note(lost);
                    let held = since.elapsed() >= STEADY;
                    self.brokers.delays().after_loss(&mut failures, held)
                }
                Err(fault) => match self.note_failed_round(fault) {
                    // It ran before, so somebody may be changing the login or making the virtual host anew.
                    Hope::None if self.pulse.was_welcomed() => {
                        let wait = self.brokers.delays().after_refusal(&mut failures);
                        let mut others = self.pulse.connections();
                        tokio::select! {
                            () = self.stop.notified() => return,
                            _ = others.changed() => {}
                            () = sleep(wait) => {}
                        }
                        continue;
                    }
                    Hope::None => {
                        if !self.wait_for_change().await {
                            return;
                        }
                        continue;
                    }
                    hope => self.brokers.delays().next(&mut failures, hope),
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
            () = sleep(self.brokers.delays().longest()), if keepers => true,
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
            since: tokio::time::Instant::now(),
        };
        self.status
            .send_modify(|status| status.phase = Phase::Up(Arc::new(session)));
        self.pulse.note_connected();
        *self.warned() = None;
        self.events.tell(Event::Connected {
            purpose: self.purpose,
            host: host.to_string(),
        });
        let blocked = self.tell_blocked(&connection);
        tokio::select! {
            never = blocked => match never {},
            () = self.stop.notified() => {
                self.status.send_modify(|status| status.phase = Phase::Closed);
                if let Err(error) = connection.close(CLOSE_LIMIT).await {
                    tracing::debug!(%error, purpose = self.purpose, "connection ended without the broker's word");
                }
                None
            }
            error = self.ended(&connection, generation) => {
                self.events.tell(Event::Disconnected {
                    purpose: self.purpose,
                    host: host.to_string(),
                    reason: error.to_string(),
                });
                Some(ConnectFault::new(error, &host, self.brokers.vhost()))
            }
        }
    }

    /// Why the connection is over, also if only the broker is gone.
    async fn ended(&self, connection: &Connection, generation: u64) -> AmqpError {
        tokio::select! {
            error = connection.closed() => error,
            () = until_dead(connection, &self.pulse, self.publishes) => {
                self.pulse.note_dead(self.publishes, generation);
                tracing::warn!(purpose = self.purpose, "the broker does not answer any more; its connection is given up");
                match connection.close(Duration::from_millis(1)).await {
                    Ok(()) => connection.closed().await,
                    Err(error) => error,
                }
            }
        }
    }

    /// Tells whenever the broker asks publishers to wait, and when it is over.
    async fn tell_blocked(&self, connection: &Connection) -> Infallible {
        let mut blocked = connection.watch_blocked();
        let mut was = false;
        loop {
            let reason = blocked.borrow_and_update().clone();
            match reason {
                Some(reason) if !was => {
                    tracing::warn!(reason = &*reason, "the broker asks publishers to wait");
                    self.events.tell(Event::Blocked {
                        reason: reason.to_string(),
                    });
                    was = true;
                }
                None if was => {
                    tracing::info!("the broker takes messages again");
                    self.events.tell(Event::Unblocked);
                    was = false;
                }
                _ => {}
            }
            if blocked.changed().await.is_err() {
                return std::future::pending().await;
            }
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
        self.tell_failed_round(fault.to_error().to_string());
        let for_good = hope == Hope::None && !self.pulse.was_welcomed();
        self.status.send_modify(|status| {
            status.phase = if for_good {
                Phase::Refused
            } else {
                Phase::Down
            };
            status.failed_rounds += 1;
            status.refusals += u64::from(for_good);
            status.last_fault = Some(fault);
        });
        hope
    }

    /// Says it aloud the first time, when the reason changes, and now and then.
    fn tell_failed_round(&self, error: String) {
        const AGAIN: Duration = Duration::from_secs(10);
        let mut warned = self.warned();
        let purpose = self.purpose;
        if warned
            .as_ref()
            .is_some_and(|(at, said)| *said == error && at.elapsed() < AGAIN)
        {
            tracing::debug!(error, purpose, "no connection to RabbitMQ");
        } else {
            tracing::warn!(error, purpose, "no connection to RabbitMQ");
            *warned = Some((Instant::now(), error));
        }
    }

    fn warned(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        lock(&self.warned)
    }

    /// Tries each broker once; of their faults the one with the most hope, or none at all, is told. One that takes long to
    /// answer, as one that hangs does, is not waited for: the next one is tried beside it, and the first to take us has us.
    async fn connect_round(&self, from: usize) -> Result<(Connection, usize), ConnectFault> {
        let mut told: Option<ConnectFault> = None;
        let mut left = self.brokers.round(from, Instant::now()).into_iter();
        let mut tried = FuturesUnordered::new();
        let mut pending = HashSet::new();
        loop {
            if let Some(at) = left.next() {
                pending.insert(at);
                tried.push(self.attempt(at));
            }
            tokio::select! {
                Some((at, result)) = tried.next() => {
                    pending.remove(&at);
                    match result {
                        Ok(connection) => {
                            let now = Instant::now();
                            pending.into_iter().for_each(|slow| self.brokers.note_failure(slow, now));
                            return Ok((connection, at));
                        }
                        Err(fault) => {
                            tracing::debug!(error = %fault.to_error(), purpose = self.purpose, "one of the brokers was not reached");
                            if told.as_ref().is_none_or(|known| known.hope() <= fault.hope()) {
                                told = Some(fault);
                            }
                        }
                    }
                    if pending.is_empty() && left.len() == 0 {
                        return Err(told.expect("there is at least one broker, see Brokers::new"));
                    }
                }
                () = sleep(IMPATIENCE), if left.len() > 0 => {}
            }
        }
    }

    async fn attempt(&self, at: usize) -> (usize, Result<Connection, ConnectFault>) {
        let connected = self.brokers.connect(at, self.purpose).await;
        let (address, vhost) = (self.brokers.address(at), self.brokers.vhost());
        let fault = |error| ConnectFault::new(error, address, vhost);
        (at, connected.map_err(fault))
    }
}
