//! The RPC client as its user sees it: options, calls, casts.
//!
//! A request passes the client's layers (`rpc/layer.rs`), if it has any, and is then sent by `client/send.rs`.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::name::IntoName;
use oslo_messaging_proto::target::Target;
use oslo_messaging_proto::version::acceptable;
use oslo_messaging_proto::wire::context::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::driver::Retry;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::rpc::address::Address;
use crate::rpc::batch::Batch;
use crate::rpc::client::send::{bad_version, deserialize_result};
use crate::rpc::layer::ClientLayer;
use crate::serializer::Serializer;
use crate::transport::Transport;

pub(crate) mod send;

/// Calls and casts methods of a target.
///
/// Cheap to clone; clones share the transport's connections and its one reply queue. Options are set by
/// value; [`prepare`](Self::prepare) starts a variation of a client that is kept.
///
/// ```no_run
/// # async fn doc(transport: oslo_messaging_core::transport::Transport) -> oslo_messaging_core::error::Result<()> {
/// use std::time::Duration;
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::rpc::RpcClient;
/// use oslo_messaging_core::target::Target;
///
/// #[derive(serde::Serialize)]
/// struct Ping<'a> { host: &'a str }
///
/// let ctx = Context::new();
/// let client = RpcClient::new(transport, Target::topic("conductor").version("1.3"));
/// let alive: bool = client.call(&ctx, "ping", Ping { host: "node-7" }).await?;
/// let alive: bool =
///     client.prepare().server("node-1").timeout(Duration::from_secs(5)).call(&ctx, "ping", Ping { host: "node-7" }).await?;
/// client.prepare().fanout(true).cast(&ctx, "forget", Ping { host: "node-7" }).await?;
/// # Ok(()) }
/// ```
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use std::time::Duration;
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::driver::Retry;
/// use oslo_messaging_core::error::ErrorKind;
/// use oslo_messaging_core::memory::MemoryBroker;
/// use oslo_messaging_core::rpc::RpcClient;
/// use oslo_messaging_core::serializer::NoOpSerializer;
/// use oslo_messaging_core::target::Target;
///
/// let client = RpcClient::new(MemoryBroker::new().transport(), Target::new())
///     .topic("compute")
///     .exchange("nova")
///     .namespace("agent")
///     .version("1.2")
///     .version_cap("1.3")
///     .timeout(Duration::from_millis(5))
///     .call_monitor_timeout(Duration::from_secs(30))
///     .retry(Retry::Times(2))
///     .at_least_once(true)
///     .resend(false)
///     .serializer(NoOpSerializer);
/// assert_eq!(client.target().namespace_name(), Some("agent"));
/// assert!(client.can_send_version("1.3")? && !client.can_send_version("1.4")?);
/// // Nobody serves that topic, and nothing is lost in silence.
/// let error = client.call_raw(&Context::new(), "ping", ()).await.unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Undeliverable | ErrorKind::Timeout), "{error}");
/// assert_eq!(client.transport().calls_in_flight(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RpcClient {
    transport: Transport,
    to: Address,
    options: Options,
    serializer: Option<Arc<dyn Serializer>>,
    /// The outermost first.
    layers: Arc<[Arc<dyn ClientLayer>]>,
}

#[derive(Clone)]
struct Options {
    timeout: Option<Duration>,
    call_monitor_timeout: Option<Duration>,
    retry: Retry,
    version_cap: Option<Arc<str>>,
    at_least_once: bool,
    resend: bool,
    deadline: Option<Instant>,
    inherit_deadline: bool,
    cancellable: bool,
    idempotent: bool,
}

impl RpcClient {
    /// A client of `target`, which needs a topic by the time of the first call.
    ///
    /// What the transport's driver cannot do is told by the first call, too.
    pub fn new(transport: Transport, target: Target) -> Self {
        let options = Options {
            timeout: None,
            call_monitor_timeout: None,
            retry: Retry::Forever,
            version_cap: None,
            at_least_once: false,
            resend: true,
            deadline: None,
            inherit_deadline: false,
            cancellable: false,
            idempotent: false,
        };
        Self {
            transport,
            to: Address::of(&target),
            options,
            serializer: None,
            layers: Arc::default(),
        }
    }

    /// Starts a variation: a copy whose options are then set (parity RC3).
    pub fn prepare(&self) -> Self {
        self.clone()
    }

    /// Sets or clears the exchange; without one it is the transport's control exchange.
    #[must_use]
    pub fn exchange<'a>(mut self, exchange: impl IntoName<'a>) -> Self {
        self.to.exchange = exchange.into_name().map(Arc::from);
        self
    }

    /// Sets or clears the topic.
    #[must_use]
    pub fn topic<'a>(mut self, topic: impl IntoName<'a>) -> Self {
        self.to.topic = topic.into_name().map(Arc::from);
        self
    }

    /// Sets or clears the namespace.
    #[must_use]
    pub fn namespace<'a>(mut self, namespace: impl IntoName<'a>) -> Self {
        self.to.namespace = namespace.into_name().map(Arc::from);
        self
    }

    /// Sets or clears the version the request asks for, `major.minor` or `major.minor.revision`.
    /// One that cannot be read fails the call with `InvalidTarget` (parity RC4).
    #[must_use]
    pub fn version<'a>(mut self, version: impl IntoName<'a>) -> Self {
        self.to.version = version.into_name().map(Arc::from);
        self
    }

    /// Sets or clears the server, to address one of those that serve the topic.
    #[must_use]
    pub fn server<'a>(mut self, server: impl IntoName<'a>) -> Self {
        self.to.server = server.into_name().map(Arc::from);
        self
    }

    /// Whether casts go to all servers of the topic. Wins over a server (parity T9).
    #[must_use]
    pub fn fanout(mut self, fanout: bool) -> Self {
        self.to.fanout = fanout;
        self
    }

    /// Sets how long a call may take from connecting to the reply, and a cast until the bus took it;
    /// `None` is the transport's `rpc_response_timeout`.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.timeout = timeout.into();
        self
    }

    /// Sets or clears the call monitor: the server shows that it is alive every half of this time, and
    /// the call fails when nothing was heard for all of it (parity RC15). Servers take no notice of less
    /// than 2 s.
    #[must_use]
    pub fn call_monitor_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.call_monitor_timeout = timeout.into();
        self
    }

    /// How often connecting and publishing are tried (parity RC13); always within the timeout.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = retry;
        self
    }

    /// Sets or clears the highest version that may be sent (parity RC7).
    #[must_use]
    pub fn version_cap<'a>(mut self, cap: impl IntoName<'a>) -> Self {
        self.options.version_cap = cap.into_name().map(Arc::from);
        self
    }

    /// Fail with `Undeliverable` at once if no queue takes the message (parity RC16). Fanouts take no
    /// notice of it.
    #[must_use]
    pub fn at_least_once(mut self, at_least_once: bool) -> Self {
        self.options.at_least_once = at_least_once;
        self
    }

    /// Whether a call may be sent again when the broker lost its queues while the call was in flight.
    /// Default true: servers drop what they have seen, so that a method does not run twice on one server.
    /// With false such a call fails with `Interrupted` instead.
    #[must_use]
    pub fn resend(mut self, resend: bool) -> Self {
        self.options.resend = resend;
        self
    }

    /// Sets or clears a point in time at which calls and casts end, whatever their timeout: one deadline for all that is done
    /// with this client from now on.
    ///
    /// ```no_run
    /// # async fn doc(client: oslo_messaging_core::rpc::RpcClient) -> oslo_messaging_core::error::Result<()> {
    /// use std::time::Duration;
    /// use oslo_messaging_core::context::Context;
    /// use tokio::time::Instant;
    ///
    /// // Both together take no longer than five seconds.
    /// let hurried = client.prepare().deadline(Instant::now() + Duration::from_secs(5));
    /// let _: bool = hurried.call(&Context::new(), "ping", ()).await?;
    /// let _: bool = hurried.call(&Context::new(), "pong", ()).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Instant>>) -> Self {
        self.options.deadline = deadline.into();
        self
    }

    /// Whether what a handler sends ends when the handler's own caller stops waiting
    /// ([`deadline::current`](crate::rpc::deadline::current)): nested calls do not outlive the outer one. Default false.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging_core::rpc::RpcClient) {
    /// let nested = client.prepare().inherit_deadline(true);
    /// # }
    /// ```
    #[must_use]
    pub fn inherit_deadline(mut self, inherit: bool) -> Self {
        self.options.inherit_deadline = inherit;
        self
    }

    /// Whether a call that is given up, because its future is dropped or its time is up, ends its handler too, if a server of
    /// this library runs it: the handler's future is dropped where it waits. Default false.
    ///
    /// Servers of the reference take no notice and run to the end. Ours tell the caller once, after 50 ms, where to cancel;
    /// shorter calls cost nothing more.
    ///
    /// ```no_run
    /// # async fn doc(client: oslo_messaging_core::rpc::RpcClient) {
    /// use std::time::Duration;
    /// use oslo_messaging_core::context::Context;
    ///
    /// let context = Context::new();
    /// let long = client.prepare().cancellable(true);
    /// // The server stops working on it after two seconds.
    /// let _ = tokio::time::timeout(Duration::from_secs(2), long.call::<_, u64>(&context, "count", ())).await;
    /// # }
    /// ```
    #[must_use]
    pub fn cancellable(mut self, cancellable: bool) -> Self {
        self.options.cancellable = cancellable;
        self
    }

    /// Whether methods may run more than once for one call. Layers that send again
    /// ([`Retrying`](crate::rpc::retry::Retrying), [`Hedging`](crate::rpc::hedge::Hedging)) ask for it. Default false.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging_core::rpc::RpcClient) {
    /// let reads = client.prepare().idempotent(true);
    /// # }
    /// ```
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.options.idempotent = idempotent;
        self
    }

    /// Adds a layer, around those added before.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging_core::rpc::RpcClient) {
    /// use oslo_messaging_core::rpc::retry::Retrying;
    ///
    /// let stubborn = client.layer(Retrying::new().attempts(5));
    /// # }
    /// ```
    #[must_use]
    pub fn layer(mut self, layer: impl ClientLayer) -> Self {
        let layer = Arc::new(layer) as Arc<dyn ClientLayer>;
        self.layers = std::iter::once(layer)
            .chain(self.layers.iter().cloned())
            .collect();
        self
    }

    /// Starts a batch: many calls, of this client or of others, a bounded number of them at once.
    ///
    /// ```no_run
    /// # async fn doc(client: oslo_messaging_core::rpc::RpcClient) {
    /// use oslo_messaging_core::context::Context;
    ///
    /// let context = Context::new();
    /// let mut batch = client.batch(&context).concurrency(8);
    /// for node in ["node-1", "node-2"] {
    ///     batch.call_on(&client.prepare().server(node), "ping", ());
    /// }
    /// let alive = batch.run::<bool>().await;
    /// assert_eq!(alive.len(), 2);
    /// # }
    /// ```
    pub fn batch<'a>(&'a self, ctx: &'a Context) -> Batch<'a> {
        Batch::new(self, ctx)
    }

    /// Lets context, arguments and results pass through `serializer`.
    #[must_use]
    pub fn serializer(mut self, serializer: impl Serializer) -> Self {
        self.serializer = Some(Arc::new(serializer));
        self
    }

    /// The transport it sends through.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The target as it is now.
    pub fn target(&self) -> Target {
        self.to.to_target()
    }

    /// Whether `version`, or the target's own if it is `None`, may be sent under the cap (parity RC8).
    /// Without a cap everything may; under a cap, a request without version may not.
    ///
    /// # Errors
    /// `InvalidTarget` if a version that matters cannot be read.
    pub fn can_send_version<'a>(&self, version: impl IntoName<'a>) -> Result<bool> {
        let given = version.into_name();
        let version = given.as_deref().or(self.to.version.as_deref());
        let Some(cap) = self.options.version_cap.as_deref() else {
            return Ok(true);
        };
        acceptable(Some(cap), version).map_err(|_| bad_version(version.unwrap_or(cap)))
    }

    /// Calls a method and waits for its result.
    ///
    /// `args` is anything that serialises to an object: a struct, a map, or `()` for none. The timeout
    /// covers connecting, publishing and the reply. Calls of one task go out in order.
    ///
    /// # Errors
    /// [`Remote`](ErrorKind::Remote), [`NoSuchMethod`](ErrorKind::NoSuchMethod) and
    /// [`UnsupportedVersion`](ErrorKind::UnsupportedVersion) carry what the server said in
    /// [`Error::remote`]. [`Timeout`](ErrorKind::Timeout) names message id, reply queue and elapsed time.
    /// [`InvalidTarget`](ErrorKind::InvalidTarget) and [`VersionCap`](ErrorKind::VersionCap) come before
    /// anything is sent, as does [`Encode`](ErrorKind::Encode). [`Decode`](ErrorKind::Decode) is a reply
    /// that is no `R`.
    ///
    /// # Cancellation
    /// Dropping the future gives the call's place up at once; the request may or may not have gone out,
    /// and a reply that comes later is dropped.
    pub async fn call<A, R>(&self, ctx: &Context, method: &str, args: A) -> Result<R>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        let outcome = self.begin_call(ctx, method, args).await;
        let raw = outcome.map_err(|error| self.name(error, method))?;
        let read = match self.entity_serializer() {
            None => raw.parse().map_err(Error::from),
            Some(serializer) => deserialize_result(serializer, ctx, &raw),
        };
        read.map_err(|error| self.name(error, method))
    }

    /// Calls a method and gives the result as JSON text, unparsed and past the serializer.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancellation
    /// As [`call`](Self::call).
    pub async fn call_raw<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
    ) -> Result<RawJson> {
        let outcome = self.begin_call(ctx, method, args).await;
        outcome.map_err(|error| self.name(error, method))
    }

    /// Sends a request that nobody answers, to one server or, as a fanout, to all.
    ///
    /// # Errors
    /// [`InvalidTarget`](ErrorKind::InvalidTarget), [`VersionCap`](ErrorKind::VersionCap) and
    /// [`Encode`](ErrorKind::Encode) before anything is sent; then what the bus says: that it cannot be
    /// reached, did not take the message in time, or has nobody for it if `at_least_once` was asked for.
    ///
    /// # Cancellation
    /// Dropping the future leaves open whether the message goes out.
    pub async fn cast<A: Serialize>(&self, ctx: &Context, method: &str, args: A) -> Result<()> {
        let span = debug_span!("rpc.cast", method, topic = self.to.topic.as_deref());
        let cast = pin!(self.cast_layered(ctx, method, args));
        let sent = if span.is_disabled() {
            cast.await
        } else {
            cast.instrument(span).await
        };
        sent.map_err(|error| self.name(error, method))
    }
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient")
            .field("target", &self.to.to_target())
            .finish_non_exhaustive()
    }
}
