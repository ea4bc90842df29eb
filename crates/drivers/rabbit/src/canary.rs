//! A small transient queue that tells whether the broker lost its transient queues.
//!
//! With default options topic queues are transient: a restart of the broker takes them away, with requests in them
//! that it had confirmed. The reply queue is durable and survives, so it tells nothing, and topic queues are declared
//! anew by whichever server is first. The canary is declared by this driver alone, beside its first subscription, and
//! is held by a consumer: if it is missing on a new connection, the node it was on has lost its transient queues.
//!
//! Needed only while topic queues are transient and the broker takes transient queues. Where there is none, nobody knows
//! whether a broker that is back was restarted, and with it lost the messages it did not write to its disk.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_amqp::{
    Channel, Consume, Consumer, Delivered, Error as AmqpError, ErrorKind as AmqpKind, QueueDeclare,
    Table,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::connection::Session;
use crate::declare::exists;
use crate::facts::Facts;

/// How long the canary outlives its process, and the longest lost connection it can tell about.
const EXPIRES: Duration = Duration::from_secs(600);

/// Longest a look may take. In a cluster of which a node hangs, nothing can be declared, nor asked of what is there.
const LIMIT: Duration = Duration::from_secs(3);

/// The canary of one driver.
pub(crate) struct Canary {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The connection it was last looked for on.
    seen: u64,
    /// The connection on which it was found missing last,
    missing: u64,
    /// and when that was.
    missing_at: Option<Instant>,
    /// The connection on which it had nothing to tell last: it had not been there before, or was not seen in time.
    mute: u64,
    placed: bool,
    /// The broker does not let us have one.
    refused: bool,
    channel: Option<Channel>,
}

/// Nothing is ever sent to the canary; its consumer only keeps it.
struct Perch;

impl Consumer for Perch {
    fn deliver(&self, _delivered: Delivered) {}
    fn cancelled(&self) {}
    fn closed(&self, _error: &AmqpError) {}
}

impl Canary {
    /// A canary that is not on the broker yet.
    pub(crate) fn new() -> Self {
        Self {
            name: format!("oslo_canary_{}", Uuid::new_v4().simple()),
            state: Mutex::default(),
        }
    }

    /// Looks after it on a new connection, once: notes whether it is missing, and puts it there.
    ///
    /// # Errors
    /// Only if the connection ended over it; whether the broker refuses transient queues is in `facts` then.
    pub(crate) async fn look(&self, session: &Session, facts: &Facts) -> Result<(), AmqpError> {
        let mut state = self.state.lock().await;
        if state.refused || state.seen >= session.generation {
            return Ok(());
        }
        let placed = state.placed;
        let look = async {
            let missing = placed && !exists(&session.connection, &self.name).await?;
            self.place(session).await.map(|channel| (channel, missing))
        };
        let Ok(looked) = timeout(LIMIT, look).await else {
            tracing::debug!(queue = self.name, "the canary was not seen in time");
            (state.seen, state.mute, state.placed) =
                (session.generation, session.generation, false);
            return Ok(());
        };
        match looked {
            Ok((channel, missing)) => {
                if missing {
                    state.missing = session.generation;
                    state.missing_at = Some(Instant::now());
                }
                if !placed {
                    state.mute = session.generation;
                }
                facts.transient_taken();
                state.placed = true;
                state.channel = Some(channel);
            }
            // Without permission for it, losses are seen by the other signs only.
            Err(error) if error.kind() == AmqpKind::ChannelClosed => {
                tracing::debug!(%error, queue = self.name, "no canary on this broker");
                state.refused = true;
            }
            Err(error) => {
                facts.learn(&error);
                return Err(error);
            }
        }
        state.seen = session.generation;
        Ok(())
    }

    async fn place(&self, session: &Session) -> Result<Channel, AmqpError> {
        let milliseconds = i64::try_from(EXPIRES.as_millis()).unwrap_or(i64::MAX);
        let channel = session.connection.open_channel().await?;
        let declare = QueueDeclare {
            name: &self.name,
            arguments: Table::new().with("x-expires", milliseconds),
            ..QueueDeclare::default()
        };
        channel.queue_declare(&declare).await?;
        let consume = Consume {
            queue: &self.name,
            tag: "1",
            no_ack: true,
            ..Consume::default()
        };
        channel.consume_with(&consume, Arc::new(Perch)).await?;
        Ok(channel)
    }

    /// Whether the broker lost transient queues between the connection `generation` and the one it was last looked
    /// for on.
    pub(crate) async fn missed_since(&self, generation: u64) -> bool {
        self.state.lock().await.missing > generation
    }

    /// Whether it tells what the broker lost between the connection `generation` and `session`.
    pub(crate) async fn tells(&self, generation: u64, session: &Session) -> bool {
        let state = self.state.lock().await;
        !state.refused && state.seen >= session.generation && state.mute <= generation
    }

    /// Whether the broker lost transient queues after `since`, asked on a connection that may be another one than the
    /// subscriptions', and before them. `None` if nobody can tell.
    pub(crate) async fn lost_since(
        &self,
        since: Option<Instant>,
        session: &Session,
    ) -> Option<bool> {
        // Nobody puts it back meanwhile.
        let state = self.state.lock().await;
        if state.refused || !state.placed {
            return None;
        }
        let missed = |at| since.is_none_or(|since| since <= at);
        if state.missing_at.is_some_and(missed) {
            return Some(true);
        }
        let there = timeout(LIMIT, exists(&session.connection, &self.name)).await;
        there.ok()?.ok().map(|there| !there)
    }

    /// Takes it away, as far as the broker answers within `limit`.
    pub(crate) async fn remove(&self, limit: Duration) {
        let Some(channel) = self.state.lock().await.channel.take() else {
            return;
        };
        // Left behind it expires by itself.
        let _ = timeout(limit, channel.queue_delete(&self.name, false, false)).await;
    }
}
