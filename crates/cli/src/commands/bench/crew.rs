//! The servers or listeners of a measurement, in whichever process they run.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{NotificationListener, RpcServer, Transport};
use tokio::time::timeout;

use super::echo::{Echo, Loads};
use super::listener;
use super::series::Collector;
use super::taken::{Drained, Taken};
use super::usage::Usage;
use crate::bus;
use crate::exit::Problem;
use crate::settings::bench::{Staff, Work};

/// Requests that one server works on at once.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not zero");
/// How long a server may work on what it has begun when the run is over.
const STOPPING: Duration = Duration::from_secs(2);

/// Servers or listeners at work.
pub(super) struct Crew {
    pub(super) taken: Arc<Taken>,
    pub(super) loads: Arc<Loads>,
    servers: Vec<RpcServer>,
    listeners: Vec<NotificationListener>,
    /// Notifications that may wait at the end for a batch to be full.
    tail: u64,
    silence: Duration,
}

impl Crew {
    /// Starts them on this transport; what they take is told to `series`, too.
    ///
    /// # Errors
    /// What kept one from starting.
    pub(super) async fn start(
        transport: &Transport,
        staff: &Staff,
        series: Option<Arc<Collector>>,
    ) -> Result<Self, Problem> {
        let mut crew = Self {
            taken: Arc::new(Taken::new(staff.live, series)),
            loads: Arc::default(),
            servers: Vec::new(),
            listeners: Vec::new(),
            tail: match staff.work {
                Work::Listen { batch: Some(size) } => u64::from(size) * u64::from(staff.count),
                _ => 0,
            },
            silence: staff.timeout,
        };
        for name in staff.names() {
            match timeout(staff.timeout, crew.add(transport, staff, name)).await {
                Ok(started) => started.map_err(|fault| Problem::of(fault, &staff.url))?,
                Err(_) => return Err(bus::not_started(transport, &staff.url)),
            }
        }
        Ok(crew)
    }

    async fn add(
        &mut self,
        transport: &Transport,
        staff: &Staff,
        name: String,
    ) -> oslo_messaging::Result<()> {
        match staff.work {
            Work::Answer => {
                let echo = Echo {
                    taken: Arc::clone(&self.taken),
                    loads: Arc::clone(&self.loads),
                    wait: staff.wait,
                };
                let own = staff.target.clone().server(name);
                let server = RpcServer::builder(transport.clone(), own)
                    .endpoint(echo)
                    .concurrency(AT_ONCE);
                self.servers.push(server.start().await?);
            }
            Work::Listen { batch } => {
                let size = batch.and_then(|size| NonZeroUsize::new(size as usize));
                let started = listener::start(transport, staff, size, &self.taken).await?;
                self.listeners.push(started);
            }
        }
        Ok(())
    }

    /// What this process has used so far, and what they have taken.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            served: self.taken.count(),
            ..Usage::of_process()
        }
    }

    /// Takes so many that wait, and measures it.
    pub(super) async fn drain(&self, messages: u64) -> Drained {
        self.taken.drain(messages, self.tail, self.silence).await
    }

    /// Stops them and waits for their end.
    pub(super) async fn stop(self) {
        // Whoever waits to take something would hold up the end.
        self.taken.release();
        for server in self.servers {
            server.stop_within(STOPPING).await;
        }
        for listener in self.listeners {
            listener.stop_within(STOPPING).await;
        }
    }
}
