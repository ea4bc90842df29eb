//! The RPC server as its owner sees it: built, started, run, stopped.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::num::{NonZeroU16, NonZeroUsize};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::target::Target;

use crate::error::{Error, ErrorKind, Result};
use crate::rpc::access::{DefaultRpcAccessPolicy, RpcAccessPolicy};
use crate::rpc::dispatcher::{Dispatcher, Parts};
use crate::rpc::endpoint::Endpoint;
use crate::rpc::handle::{Recipe, stats};
use crate::rpc::hook::{Hook, Hooks};
use crate::rpc::observe::{Receiving, Sending};
use crate::rpc::service::Service;
use crate::serializer::Serializer;
use crate::server::lifecycle::Epoch;
use crate::transport::Transport;

pub use crate::rpc::handle::{ServerHandle, ServerStats};
pub use crate::rpc::intake::Acknowledge;
pub use crate::server::Stopped;
pub use crate::server::executor::Executor;
pub use crate::server::threads::may_block;

/// A server that is about to be started.
///
/// ```
/// use std::num::{NonZeroU16, NonZeroUsize};
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::rpc::server::{Acknowledge, Executor, RpcServerBuilder, ServerHandle};
/// use oslo_messaging_core::rpc::{Endpoint, ExplicitRpcAccessPolicy, Hook};
/// use oslo_messaging_core::serializer::NoOpSerializer;
///
/// const SIXTEEN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
///
/// fn configured(builder: RpcServerBuilder, conductor: impl Endpoint, metrics: impl Hook) -> Result<ServerHandle> {
///     builder
///         .endpoint(conductor)
///         .serializer(NoOpSerializer)
///         .access_policy(ExplicitRpcAccessPolicy)
///         .hook(metrics)
///         .executor(Executor::Threading) // handlers may block
///         .concurrency(SIXTEEN) // this many threads
///         .method_limit("vacuum", NonZeroUsize::MIN) // one of these at a time
///         .acknowledge(Acknowledge::After) // at least once
///         .prefetch(NonZeroU16::new(64).unwrap())
///         .build()
/// }
/// ```
#[must_use = "a server serves only after `start`"]
pub struct RpcServerBuilder {
    transport: Transport,
    target: Target,
    endpoints: Vec<Arc<dyn Endpoint>>,
    serializer: Option<Arc<dyn Serializer>>,
    policy: Arc<dyn RpcAccessPolicy>,
    hooks: Hooks,
    executor: Executor,
    acknowledge: Acknowledge,
    limits: HashMap<String, NonZeroUsize>,
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

    /// Adds a hook, inside of those that were added before; see [`Hook`].
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Where handlers run; by default in tasks of the runtime. [`Executor`] reads the names of configuration.
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }

    /// When a request is acknowledged; by default before its method runs.
    pub fn acknowledge(mut self, when: Acknowledge) -> Self {
        self.acknowledge = when;
        self
    }

    /// How many requests run at once; by default the transport's `executor_thread_pool_size`.
    pub fn concurrency(mut self, concurrency: NonZeroUsize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How many requests for `method` of each endpoint run at once, instead of what the endpoint says
    /// ([`MethodInfo::limit`](crate::rpc::endpoint::MethodInfo::limit)).
    pub fn method_limit(mut self, method: impl Into<String>, limit: NonZeroUsize) -> Self {
        self.limits.insert(method.into(), limit);
        self
    }

    /// How many requests that are not acknowledged the bus may hand out, for each queue of the server.
    ///
    /// By default as many as run at once, but not fewer than 16: a request is acknowledged when it
    /// starts, so these only wait, and they spare the next handler a round trip to the broker. What
    /// exceeds it stays in the broker, where other servers can take it. With
    /// [`Acknowledge::After`] as many more as run at once; with [`Executor::Blocking`] 1.
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
        let (concurrency, drain) = (
            self.concurrency,
            self.transport.options().rpc_response_timeout,
        );
        let handle = self.build()?;
        let epoch = handle.begin(concurrency).await?;
        Ok(RpcServer {
            handle,
            epoch,
            drain,
        })
    }

    /// A server that others can start, stop and wait for; see [`ServerHandle`].
    ///
    /// # Errors
    /// As [`start`](Self::start), but for what only the bus can say.
    pub fn build(self) -> Result<ServerHandle> {
        self.transport.check_rpc()?;
        let (topic, server) = self.target.require_topic_and_server().map_err(|fault| {
            Error::new(ErrorKind::InvalidTarget, format!("{fault}:{}", self.target))
        })?;
        let (topic, server) = (topic.to_owned(), server.to_owned());
        let ping = self.transport.options().rpc_ping_enabled;
        let mut hooks = self.hooks;
        if Sending::is_wanted(&self.transport) {
            hooks.surround(Arc::new(Receiving {
                transport: self.transport.clone(),
                exchange: self.target.exchange_name().map(str::to_owned),
                server: server.clone(),
            }));
        }
        let parts = Parts {
            endpoints: self.endpoints,
            policy: self.policy,
            serializer: self.serializer,
            limits: self.limits,
            hooks,
        };
        let dispatcher = Dispatcher::new(&topic, parts, ping)?;
        Ok(ServerHandle::new(Recipe {
            transport: self.transport,
            target: self.target,
            topic,
            server,
            dispatcher: Arc::new(dispatcher),
            executor: self.executor,
            acknowledge: self.acknowledge,
            concurrency: self.concurrency,
            prefetch: self.prefetch,
        }))
    }
}

/// A server that serves.
///
/// Dropping it without a stop aborts what runs and ends the subscription.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::rpc::server::{RpcServer, Stopped};
///
/// async fn serve_for_a_while(server: RpcServer) -> Stopped {
///     let watched = server.handle();
///     tokio::spawn(async move { println!("ended: {:?}", watched.wait().await) });
///     tokio::time::sleep(Duration::from_secs(60)).await;
///     println!("{}: {:?}", server.target(), server.stats());
///     if server.stats().running == 0 {
///         server.stop().await
///     } else {
///         server.stop_within(Duration::from_secs(5)).await
///     }
/// }
/// ```
#[must_use = "dropping a server ends it"]
pub struct RpcServer {
    handle: ServerHandle,
    epoch: Arc<Epoch<Service>>,
    drain: Duration,
}

impl RpcServer {
    /// A server for `target`, which needs topic and server; its namespace and version have no meaning
    /// here, those of the endpoints count (parity T2).
    ///
    /// ```
    /// use oslo_messaging_core::error::Result;
    /// use oslo_messaging_core::rpc::{Endpoint, RpcServer};
    /// use oslo_messaging_core::target::Target;
    /// use oslo_messaging_core::transport::Transport;
    ///
    /// async fn serve(transport: Transport, conductor: impl Endpoint, end: impl Future) -> Result<()> {
    ///     let target = Target::topic("conductor").server("node-1");
    ///     let server = RpcServer::builder(transport, target).endpoint(conductor).start().await?;
    ///     server.run_until(end).await
    /// }
    /// ```
    pub fn builder(transport: Transport, target: Target) -> RpcServerBuilder {
        let concurrency = transport.options().executor_thread_pool_size;
        RpcServerBuilder {
            transport,
            target,
            endpoints: Vec::new(),
            serializer: None,
            policy: Arc::new(DefaultRpcAccessPolicy),
            hooks: Hooks::default(),
            executor: Executor::default(),
            acknowledge: Acknowledge::default(),
            limits: HashMap::new(),
            concurrency,
            prefetch: None,
        }
    }

    /// A handle by which others can watch and stop it. Starting it again is up to them: what they start is not ended
    /// with this value.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// What it serves.
    pub fn target(&self) -> &Target {
        self.handle.target()
    }

    /// What it has done and does.
    pub fn stats(&self) -> ServerStats {
        stats(self.epoch.floor())
    }

    /// Serves until `end` resolves, then stops as [`stop`](Self::stop) does. Ends as well when a
    /// [`handle`](Self::handle) stopped it.
    ///
    /// # Errors
    /// [`Listen`](ErrorKind::Listen) if the driver gave the subscription up before.
    ///
    /// # Cancellation
    /// As dropping the server.
    pub async fn run_until(self, end: impl Future) -> Result<()> {
        self.run_until_or_abort(end, std::future::pending::<()>())
            .await
            .map(drop)
    }

    /// Serves until `end` resolves, then stops as [`stop`](Self::stop) does, but aborts what still runs as soon as
    /// `now` resolves: for a first and a second signal. `now` is polled only once `end` has resolved.
    ///
    /// ```
    /// use oslo_messaging_core::error::Result;
    /// use oslo_messaging_core::rpc::RpcServer;
    ///
    /// async fn run(server: RpcServer, signal: impl AsyncFn()) -> Result<()> {
    ///     let stopped = server.run_until_or_abort(signal(), signal()).await?;
    ///     println!("{} handlers were cut off", stopped.aborted);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until).
    ///
    /// # Cancellation
    /// As dropping the server.
    pub async fn run_until_or_abort(self, end: impl Future, now: impl Future) -> Result<Stopped> {
        let failure = tokio::select! {
            _ = end => None,
            failure = self.epoch.floor().failure() => Some(failure),
            _ = self.epoch.served() => None,
        };
        let (target, handle) = (self.target().clone(), Arc::clone(&self.epoch));
        let mut stop = pin!(self.stop());
        let stopped = tokio::select! {
            stopped = &mut stop => stopped,
            _ = now => {
                handle.abort();
                stop.await
            }
        };
        match failure {
            None => Ok(stopped),
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
    pub async fn stop_within(self, limit: Duration) -> Stopped {
        self.epoch.stop_within(limit).await;
        self.epoch.over().await
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        self.epoch.cut_off();
    }
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer")
            .field("target", self.target())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
