//! Layers of a client: what stands between `call` or `cast` and the sending, and may change, repeat or answer a request.
//!
//! A layer sees requests before they are encoded, each attempt being encoded anew with ids of its own. What stands between
//! encoded messages and the bus is a layer of the transport.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::wire::context::Context;
use tokio::time::Instant;

use crate::driver::BoxFuture;
use crate::error::Result;
use crate::rpc::client::RpcClient;

/// Something around the requests of a client.
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::rpc::layer::{ClientLayer, ClientRequest, Next};
/// use oslo_messaging_proto::RawJson;
///
/// /// Tells every request's method.
/// struct Chatty;
///
/// impl ClientLayer for Chatty {
///     fn handle<'a>(&'a self, request: ClientRequest<'a>, next: Next<'a>) -> BoxFuture<'a, Result<RawJson>> {
///         println!("{}", request.method());
///         next.run(request)
///     }
/// }
/// ```
pub trait ClientLayer: Send + Sync + 'static {
    /// Takes a request, and gives its result: from `next`, asked as often as it likes, or of its own. For a cast the result is
    /// null.
    ///
    /// # Errors
    /// Those of `next`, or its own.
    ///
    /// # Cancellation
    /// Dropping the future gives the request up, and so must do what the layer started for it.
    fn handle<'a>(
        &'a self,
        request: ClientRequest<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<RawJson>>;
}

/// Whether somebody waits for a result.
///
/// ```
/// use oslo_messaging_core::rpc::layer::Verb;
///
/// assert_eq!(Verb::Call.as_str(), "call");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The caller waits for a result.
    Call,
    /// Nobody does.
    Cast,
}

impl Verb {
    /// Its name, as metrics and spans have it (parity M3, TC1).
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::rpc::layer::Verb::Cast.as_str(), "cast");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Cast => "cast",
        }
    }
}

/// A request on its way through the layers. Cheap to clone.
///
/// ```
/// use oslo_messaging_core::rpc::layer::{ClientRequest, Next};
///
/// // Within a layer: to one certain server, whatever the client says.
/// async fn to_node_1(request: ClientRequest<'_>, next: Next<'_>) {
///     let _ = next.run(request.with_client(|client| client.server("node-1"))).await;
/// }
/// ```
#[derive(Clone)]
pub struct ClientRequest<'a> {
    client: RpcClient,
    verb: Verb,
    context: Cow<'a, Context>,
    method: &'a str,
    args: RawJson,
}

impl<'a> ClientRequest<'a> {
    pub(crate) fn new(
        client: RpcClient,
        verb: Verb,
        context: &'a Context,
        method: &'a str,
        args: RawJson,
    ) -> Self {
        Self {
            client,
            verb,
            context: Cow::Borrowed(context),
            method,
            args,
        }
    }

    /// The client that sends it, with the options in force and without layers.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn topic(request: &ClientRequest<'_>) -> Option<String> {
    ///     request.client().target().topic_name().map(str::to_owned)
    /// }
    /// ```
    pub fn client(&self) -> &RpcClient {
        &self.client
    }

    /// Changes options of the client for this request.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn sure(request: ClientRequest<'_>) -> ClientRequest<'_> {
    ///     request.with_client(|client| client.at_least_once(true))
    /// }
    /// ```
    #[must_use]
    pub fn with_client(mut self, change: impl FnOnce(RpcClient) -> RpcClient) -> Self {
        self.client = change(self.client);
        self
    }

    /// Lets no attempt last longer than to `deadline`; an earlier one stays in force.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// use tokio::time::{Duration, Instant};
    ///
    /// fn hurried(request: ClientRequest<'_>) -> ClientRequest<'_> {
    ///     request.no_later_than(Instant::now() + Duration::from_secs(1))
    /// }
    /// ```
    #[must_use]
    pub fn no_later_than(self, deadline: Instant) -> Self {
        let until = self
            .deadline()
            .map_or(deadline, |before| before.min(deadline));
        self.with_client(|client| client.deadline(until))
    }

    /// When the request has to be over; `None` if that has passed.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn is_late(request: &ClientRequest<'_>) -> bool {
    ///     request.deadline().is_none()
    /// }
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.client.deadline_of(Instant::now()).ok()
    }

    /// Call or cast.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::{ClientRequest, Verb};
    /// fn is_call(request: &ClientRequest<'_>) -> bool {
    ///     request.verb() == Verb::Call
    /// }
    /// ```
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The method.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn is_read(request: &ClientRequest<'_>) -> bool {
    ///     request.method().starts_with("get_")
    /// }
    /// ```
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The arguments, before any serializer.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn size(request: &ClientRequest<'_>) -> usize {
    ///     request.args().as_str().len()
    /// }
    /// ```
    pub fn args(&self) -> &RawJson {
        &self.args
    }

    /// The context, before any serializer.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn entries(request: &ClientRequest<'_>) -> usize {
    ///     request.context().len()
    /// }
    /// ```
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The context, to change it for this request.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::ClientRequest;
    /// fn mark(request: &mut ClientRequest<'_>) {
    ///     let _ = request.context_mut().insert("attempt", &2);
    /// }
    /// ```
    pub fn context_mut(&mut self) -> &mut Context {
        self.context.to_mut()
    }
}

impl fmt::Debug for ClientRequest<'_> {
    // Arguments and context stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("client", &self.client)
            .field("verb", &self.verb)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The layers that come after one, and the sending itself.
///
/// ```
/// use oslo_messaging_core::rpc::layer::{ClientRequest, Next};
///
/// // A layer may ask twice.
/// async fn twice(request: ClientRequest<'_>, next: Next<'_>) {
///     let _ = tokio::join!(next.run(request.clone()), next.run(request));
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Next<'a> {
    layers: &'a [Arc<dyn ClientLayer>],
}

impl<'a> Next<'a> {
    pub(crate) fn new(layers: &'a [Arc<dyn ClientLayer>]) -> Self {
        Self { layers }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// As [`RpcClient::call`](crate::rpc::RpcClient::call).
    ///
    /// # Cancellation
    /// Dropping the future gives the request up.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::layer::{ClientRequest, Next};
    /// async fn pass(request: ClientRequest<'_>, next: Next<'_>) {
    ///     let _ = next.run(request).await;
    /// }
    /// ```
    pub fn run(self, request: ClientRequest<'a>) -> BoxFuture<'a, Result<RawJson>> {
        match self.layers.split_first() {
            Some((first, rest)) => first.handle(request, Self::new(rest)),
            None => Box::pin(async move {
                let ClientRequest {
                    client,
                    verb,
                    context,
                    method,
                    args,
                } = request;
                client.send_raw(verb, &context, method, &args).await
            }),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} layers)", self.layers.len())
    }
}
