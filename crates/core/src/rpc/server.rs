//! The RPC server as its owner sees it: built, started, run, stopped.

use std::fmt;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oslo_messaging_proto::target::Target;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::driver::{Inbox, Listener, Prefetch, Subscription, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::access::{DefaultRpcAccessPolicy, RpcAccessPolicy};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::endpoint::Endpoint;
use crate::rpc::replier::Replier;
use crate::rpc::service::Service;
use crate::serializer::Serializer;
use crate::server::Floor;
use crate::transport::Transport;

pub use crate::server::Stopped;

/// Prefetch never falls below this: a handler that ends should find its next request already here, and
/// small prefetches cost the broker and the rate most (a prefetch of 1 a factor of 2.6 to 5).
const SMALLEST_PREFETCH: u16 = 16;
/// What may wait here whatever the bus was told; reached only if the driver's own option lifts the prefetch.
pub(crate) const WAITING_LIMIT: usize = 65_536;

/// A server that is about to be started.
#[must_use = "a server serves only after `start`"]
pub struct RpcServerBuilder {
    transport: Transport,
    target: Target,
    endpoints: Vec<Arc<dyn Endpoint>>,
    serializer: Option<Arc<dyn Serializer>>,
    policy: Arc<dyn RpcAccessPolicy>,
    concurrency: NonZeroUsize,
    prefetch: Option<NonZeroU16>,
}

impl RpcServerBuilder {
    /// Adds an endpoint, or an `Arc` of one that others hold as well. Endpoints are asked in the order they
    /// were added.
    pub fn endpoint(mut self, endpoint: impl Endpoint) -> Self {
        self.endpoints.push(Arc::new(endpoint));
        self
    }

    /// Lets contexts, arguments and results pass through `serializer`. None by default.
    pub fn serializer(mut self, serializer: impl Serializer) -> Self {
        self.serializer = Some(Arc::new(serializer));
        self
    }

    /// Decides which methods can be reached; by default all but names with a leading underscore.
    pub fn access_policy(mut self, policy: impl RpcAccessPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// How many requests run at once; by default the transport's `executor_thread_pool_size`.
    pub fn concurrency(mut self, concurrency: NonZeroUsize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many requests beyond those that run the bus may hand out, for each queue of the server.
    ///
    /// By default as many as run at once, but not fewer than 16: a request is acknowledged when it
    /// starts, so these only wait, and they spare the next handler a round trip to the broker. What
    /// exceeds it stays in the broker, where other servers can take it.
    pub fn prefetch(mut self, prefetch: NonZeroU16) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// Subscribes and begins to serve: a request sent after it has resolved is taken.
    ///
    /// Must run within a Tokio runtime, which then runs the handlers.
    ///
    /// # Errors
    /// [`InvalidTarget`](ErrorKind::InvalidTarget) without topic and server,
    /// [`Config`](ErrorKind::Config) without endpoints or with an endpoint whose version cannot be read,
    /// [`Unsupported`](ErrorKind::Unsupported) for a driver without RPC, and what the bus says.
    ///
    /// # Cancellation
    /// Dropping the future ends the subscription.
    pub async fn start(self) -> Result<RpcServer> {
        self.transport.check_rpc()?;
        let (topic, server) = self.target.require_topic_and_server().map_err(|fault| {
            Error::new(ErrorKind::InvalidTarget, format!("{fault}:{}", self.target))
        })?;
        let options = self.transport.options();
        let dispatcher = Dispatcher::new(
            self.endpoints,
            self.policy,
            self.serializer,
            options.rpc_ping_enabled,
        )?;
        let replier = Replier::new(
            Arc::clone(self.transport.driver()),
            options.rpc_response_timeout,
        );
        let prefetch = self
            .prefetch
            .unwrap_or_else(|| default_prefetch(self.concurrency));
        let floor = Floor::new(
            Service::new(topic, dispatcher, replier),
            self.concurrency,
            WAITING_LIMIT,
        );
        let subscription = Subscription::Rpc {
            exchange: self.target.exchange_name().map(str::to_owned),
            topic: topic.to_owned(),
            server: server.to_owned(),
            prefetch: Prefetch::Limited(prefetch),
        };
        let inbox = Arc::clone(&floor) as Arc<dyn Inbox>;
        let listener = self
            .transport
            .driver()
            .listen(subscription, inbox)
            .await
            .map_err(|error| error.with_topic(topic).with("server", server))?;
        info!(
            topic,
            server,
            concurrency = self.concurrency,
            prefetch,
            "serving"
        );
        Ok(RpcServer {
            drain: options.rpc_response_timeout,
            target: self.target,
            floor,
            listener: Some(listener),
        })
    }
}

/// A server that serves.
///
/// Dropping it without a stop aborts what runs and ends the subscription.
#[must_use = "dropping a server ends it"]
pub struct RpcServer {
    target: Target,
    floor: Arc<Floor<Service>>,
    listener: Option<Box<dyn Listener>>,
    drain: Duration,
}

/// What a server has done since its start, and what it does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Methods that gave a result.
    pub served: u64,
    /// Requests that ended in a failure.
    pub failed: u64,
    /// Requests not served, since their callers had given up while they waited here.
    pub expired: u64,
    /// Requests not served, since they had come before.
    pub duplicates: u64,
    /// Messages that could not be read.
    pub rejected: u64,
    /// Replies nobody got.
    pub replies_dropped: u64,
    /// Requests that wait for a handler to end.
    pub waiting: usize,
    /// Handlers that run.
    pub running: usize,
}

impl RpcServer {
    /// A server for `target`, which needs topic and server; its namespace and version have no meaning
    /// here, those of the endpoints count (parity T2).
    pub fn builder(transport: Transport, target: Target) -> RpcServerBuilder {
        let concurrency = transport.options().executor_thread_pool_size;
        RpcServerBuilder {
            transport,
            target,
            endpoints: Vec::new(),
            serializer: None,
            policy: Arc::new(DefaultRpcAccessPolicy),
            concurrency,
            prefetch: None,
        }
    }

    /// What it serves.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What it has done and does.
    pub fn stats(&self) -> ServerStats {
        let service = &self.floor.work;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            served: count(&service.counters.served),
            failed: count(&service.counters.failed),
            expired: count(&service.counters.expired),
            duplicates: count(&service.counters.duplicates),
            rejected: count(&service.counters.rejected),
            replies_dropped: service.replier().dropped(),
            waiting: self.floor.waiting(),
            running: self.floor.busy(),
        }
    }

    /// Serves until `end` resolves, then stops as [`stop`](Self::stop) does.
    ///
    /// # Errors
    /// [`Listen`](ErrorKind::Listen) if the driver gave the subscription up before.
    ///
    /// # Cancellation
    /// As dropping the server.
    pub async fn run_until(self, end: impl Future) -> Result<()> {
        let failure = tokio::select! {
            _ = end => None,
            failure = self.floor.failure() => Some(failure),
        };
        let target = self.target.clone();
        self.stop().await;
        match failure {
            None => Ok(()),
            Some(cause) => Err(Error::new(
                ErrorKind::Listen,
                format!("{target} is served no more"),
            )
            .with_source(cause)),
        }
    }

    /// Stops: takes nothing new, gives back what was not started, and waits for handlers and their
    /// replies, no longer than the transport's `rpc_response_timeout`, after which no caller waits. A reply whose queue is
    /// missing is offered once more, not for `kombu_missing_consumer_retry_timeout`.
    ///
    /// # Cancellation
    /// As dropping the server.
    pub async fn stop(self) -> Stopped {
        let drain = self.drain;
        self.stop_within(drain).await
    }

    /// Stops as [`stop`](Self::stop) does, but aborts what has not ended after `limit`.
    ///
    /// # Cancellation
    /// As dropping the server.
    pub async fn stop_within(mut self, limit: Duration) -> Stopped {
        let deadline = deadline_after(Instant::now(), limit);
        let Some(listener) = self.listener.take() else {
            return Stopped::default();
        };
        let replier = self.floor.work.replier();
        let dropped = replier.dropped();
        replier.stop_waiting();
        let mut stopped = self
            .floor
            .stop(listener, deadline, || replier.outstanding())
            .await;
        let given_up = replier.dropped() - dropped;
        stopped.replies_dropped += usize::try_from(given_up).unwrap_or(usize::MAX);
        if stopped.aborted > 0 || stopped.replies_dropped > 0 {
            warn!(target = %self.target, ?stopped, "stopped before all was done");
        } else {
            info!(target = %self.target, requeued = stopped.requeued, "stopped");
        }
        stopped
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        self.floor.close();
        self.floor.abort();
    }
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer")
            .field("target", &self.target)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn default_prefetch(concurrency: NonZeroUsize) -> NonZeroU16 {
    let wanted = u16::try_from(concurrency.get())
        .unwrap_or(u16::MAX)
        .max(SMALLEST_PREFETCH);
    NonZeroU16::new(wanted).unwrap_or(NonZeroU16::MAX)
}
