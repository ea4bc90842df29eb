//! A server that several tasks hold: started, stopped, waited for and started again by any of them.

use std::fmt;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oslo_messaging_proto::target::Target;
use tracing::info;

use crate::driver::{Inbox, Listener, Prefetch, Subscription};
use crate::error::{Error, Result};
use crate::rpc::dispatcher::Dispatcher;
use crate::rpc::intake::Acknowledge;
use crate::rpc::panics::note_places;
use crate::rpc::replier::Replier;
use crate::rpc::service::{Plan, Service};
use crate::server::executor::Executor;
use crate::server::lifecycle::{Epoch, Lifecycle};
use crate::server::{Floor, Stopped};
use crate::transport::Transport;

/// Prefetch never falls below this: a handler that ends should find its next request already here, and
/// small prefetches cost the broker and the rate most (a prefetch of 1 a factor of 2.6 to 5).
const SMALLEST_PREFETCH: u16 = 16;
/// What may wait here whatever the bus was told; reached only if the driver's own option lifts the prefetch.
pub(crate) const WAITING_LIMIT: usize = 65_536;

/// All that a server is made of, again for each start.
pub(crate) struct Recipe {
    pub(crate) transport: Transport,
    pub(crate) target: Target,
    pub(crate) topic: String,
    pub(crate) server: String,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) executor: Executor,
    pub(crate) acknowledge: Acknowledge,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) prefetch: Option<NonZeroU16>,
}

/// What a server has done since its start, and what it does now.
///
/// ```
/// use oslo_messaging_core::rpc::ServerStats;
///
/// // As of a server that was never started.
/// let stats = ServerStats::default();
/// assert_eq!((stats.served, stats.running, stats.waiting), (0, 0, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Methods that gave a result.
    pub served: u64,
    /// Requests that ended in a failure.
    pub failed: u64,
    /// Requests not served, since their callers had given up while they waited here.
    pub expired: u64,
    /// Handlers that were dropped because their callers gave up.
    pub cancelled: u64,
    /// Requests not served, since they had come before.
    pub duplicates: u64,
    /// Messages that could not be read.
    pub rejected: u64,
    /// Replies nobody got.
    pub replies_dropped: u64,
    /// Requests that wait for a handler to end, or for a place of their method.
    pub waiting: usize,
    /// Handlers that run.
    pub running: usize,
}

/// A server that can be held by many, as the reference's server object is (parity RS3 to RS9, RS19).
///
/// Made by [`RpcServerBuilder::build`](crate::rpc::server::RpcServerBuilder::build), not started; or had from a running
/// [`RpcServer`](crate::rpc::server::RpcServer::handle). Clones are the same server.
///
/// Each of start, stop and wait happens once for everybody, in this order: one that comes too early waits for the one
/// before, one that was done already returns at once, and whoever asks while it is being done waits along. A start after a
/// stop begins anew, with counts of its own. After 30 seconds a wait says in the log what it waits for; to wait no longer
/// than one wants, drop the future (`tokio::time::timeout`), which takes nothing back.
///
/// When the last handle goes the server ends without waiting for its handlers. An endpoint that holds a handle of its own
/// server keeps it alive.
///
/// ```
/// # use std::{num::NonZeroUsize, sync::Arc, time::Duration};
/// # use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
/// # use oslo_messaging_core::rpc::endpoint::{Endpoint, Interface, Invocation, MethodInfo};
/// # use oslo_messaging_core::rpc::{ReplyBody, RpcServer};
/// # use oslo_messaging_core::{context::Context, driver::BoxFuture, error::RemoteError, target::Target};
/// # use oslo_messaging_core::transport::{Transport, TransportOptions};
/// # struct Echo;
/// # impl Endpoint for Echo {
/// #     fn interface(&self) -> Interface { Interface::new() }
/// #     fn method(&self, name: &str) -> Option<MethodInfo> { (name == "echo").then(MethodInfo::new) }
/// #     fn call<'a>(&'a self, _: &'a Context, call: Invocation<'a>) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
/// #         Box::pin(async move { call.respond("echo") })
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// # let transport = Transport::new(Arc::new(MemoryDriver::new(MemoryBroker::new())), TransportOptions::default());
/// let target = Target::topic("conductor").server("node-1");
/// let server = RpcServer::builder(transport, target).endpoint(Echo).build()?;
/// let elsewhere = server.clone();
/// let waiting = tokio::spawn(async move { elsewhere.wait().await });
/// server.start().await?;
/// server.start().await?; // it has started: nothing more to do
/// server.stop().await;
/// assert_eq!(waiting.await.unwrap().aborted, 0);
///
/// server.start_with(NonZeroUsize::new(8).unwrap()).await?; // again, and otherwise
/// assert!(server.is_serving());
/// println!("{}: {:?}", server.target(), server.stats());
/// tokio::select! {
///     error = server.failure() => println!("the bus lets us serve no more: {error}"),
///     () = server.stop_within(Duration::from_secs(5)) => server.abort(),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

struct Shared {
    recipe: Recipe,
    lifecycle: Lifecycle<Service>,
}

impl ServerHandle {
    pub(crate) fn new(recipe: Recipe) -> Self {
        let lifecycle = Lifecycle::new(recipe.target.to_string());
        Self {
            shared: Arc::new(Shared { recipe, lifecycle }),
        }
    }

    /// Subscribes and begins to serve, unless it serves already.
    ///
    /// # Errors
    /// As [`RpcServerBuilder::start`](crate::rpc::server::RpcServerBuilder::start). After a failed start the server is as
    /// before, and may be started again; whoever waited for it tries for itself.
    ///
    /// # Cancellation
    /// Safe: it has started or not.
    pub async fn start(&self) -> Result<()> {
        self.begin(self.shared.recipe.concurrency).await.map(drop)
    }

    /// Starts with room for `concurrency` requests at once instead of what the builder was told (parity RS3). Nothing
    /// changes for a server that serves already.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancellation
    /// As [`start`](Self::start).
    pub async fn start_with(&self, concurrency: NonZeroUsize) -> Result<()> {
        self.begin(concurrency).await.map(drop)
    }

    pub(crate) async fn begin(&self, concurrency: NonZeroUsize) -> Result<Arc<Epoch<Service>>> {
        let shared = &self.shared;
        shared
            .lifecycle
            .start(shared.recipe.begin(concurrency))
            .await
    }

    /// Stops taking requests: what was not started is given back to the bus before this resolves, and what runs goes
    /// on, no longer than the transport's `rpc_response_timeout`, after which no caller waits. [`wait`](Self::wait) waits
    /// for it.
    ///
    /// Waits for the first start if there was none. A handler of this server may call it.
    ///
    /// # Cancellation
    /// Safe: once it was polled with the server started, the stop goes on by itself.
    pub async fn stop(&self) {
        let drain = self.shared.recipe.transport.options().rpc_response_timeout;
        self.stop_within(drain).await;
    }

    /// Stops as [`stop`](Self::stop) does; what runs is aborted after `limit`. For a server that is stopping already
    /// the sooner of both limits holds.
    ///
    /// # Cancellation
    /// As [`stop`](Self::stop).
    pub async fn stop_within(&self, limit: Duration) {
        self.shared.lifecycle.stop_within(limit).await;
    }

    /// Waits until the server was stopped, all it ran has ended, and its subscription is gone.
    ///
    /// Of a server that was started again it waits for the end of what is in force when this is first polled. A handler
    /// of this server that calls it waits for itself, until the stop's limit.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn wait(&self) -> Stopped {
        self.shared.lifecycle.wait().await
    }

    /// Ends what runs at once: what a second signal does. Stops the server if nobody did; [`wait`](Self::wait) tells
    /// what was cut off.
    ///
    /// Handlers are dropped where they wait. One that blocks a thread goes on until it returns.
    pub fn abort(&self) {
        self.shared.lifecycle.abort();
    }

    /// Resolves when the driver gave the subscription up for good, with its reason; the server gets nothing any more then
    /// and should be stopped. Waits for the first start if there was none. One caller learns of it.
    ///
    /// # Cancellation
    /// Safe.
    pub async fn failure(&self) -> Error {
        self.shared
            .lifecycle
            .begun("watching")
            .await
            .floor()
            .failure()
            .await
    }

    /// Whether it was started and not stopped since.
    pub fn is_serving(&self) -> bool {
        self.shared.lifecycle.is_serving()
    }

    /// What it serves.
    pub fn target(&self) -> &Target {
        &self.shared.recipe.target
    }

    /// What it has done and does since its last start.
    pub fn stats(&self) -> ServerStats {
        let epoch = self.shared.lifecycle.epoch();
        epoch.map_or_else(ServerStats::default, |epoch| stats(epoch.floor()))
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("target", self.target())
            .field("is_serving", &self.is_serving())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Recipe {
    /// A floor of its own, and the subscription that feeds it.
    async fn begin(
        &self,
        concurrency: NonZeroUsize,
    ) -> Result<(Arc<Floor<Service>>, Box<dyn Listener>)> {
        self.transport.check_rpc()?;
        note_places();
        let in_turn = self.executor == Executor::Blocking;
        let concurrency = if in_turn {
            NonZeroUsize::MIN
        } else {
            concurrency
        };
        let limit = self.transport.options().rpc_response_timeout;
        let driver = self.transport.driver();
        let service = Service::new(Plan {
            topic: self.topic.clone(),
            dispatcher: Arc::clone(&self.dispatcher),
            replier: Replier::new(Arc::clone(driver), limit, in_turn),
            executor: self.executor,
            concurrency,
            acknowledge: self.acknowledge,
            transport: self.transport.clone(),
        });
        let floor = Floor::new(service, concurrency, WAITING_LIMIT);
        let prefetch = self
            .prefetch
            .unwrap_or_else(|| self.default_prefetch(concurrency));
        let subscription = Subscription::Rpc {
            exchange: self.target.exchange_name().map(str::to_owned),
            topic: self.topic.clone(),
            server: self.server.clone(),
            prefetch: Prefetch::Limited(prefetch),
        };
        let inbox = Arc::clone(&floor) as Arc<dyn Inbox>;
        let listener = driver.listen(subscription, inbox).await.map_err(|error| {
            error
                .with_topic(self.topic.clone())
                .with("server", self.server.clone())
        })?;
        info!(
            topic = self.topic,
            server = self.server,
            executor = %self.executor,
            concurrency,
            prefetch,
            "serving"
        );
        Ok((floor, listener))
    }

    fn default_prefetch(&self, concurrency: NonZeroUsize) -> NonZeroU16 {
        if self.executor == Executor::Blocking {
            return NonZeroU16::MIN;
        }
        let running = u16::try_from(concurrency.get()).unwrap_or(u16::MAX);
        let waiting = running.max(SMALLEST_PREFETCH);
        let wanted = match self.acknowledge {
            Acknowledge::Before => waiting,
            Acknowledge::After => waiting.saturating_add(running),
        };
        NonZeroU16::new(wanted).unwrap_or(NonZeroU16::MAX)
    }
}

pub(crate) fn stats(floor: &Floor<Service>) -> ServerStats {
    let service = &floor.work;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ServerStats {
        served: count(&service.counters.served),
        failed: count(&service.counters.failed),
        expired: count(&service.counters.expired),
        cancelled: count(&service.counters.cancelled),
        duplicates: count(&service.counters.duplicates),
        rejected: count(&service.counters.rejected),
        replies_dropped: service.replier().dropped(),
        waiting: floor.waiting(),
        running: floor.busy(),
    }
}
