//! The RPC client: checks what is asked, encodes the request once, and sends it as a call or a cast.
//!
//! Waiting is the job of `rpc/call.rs`; replies arrive in `replies.rs`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::name::IntoName;
use oslo_messaging_proto::state::calls::Outcome;
use oslo_messaging_proto::target::{Target, TargetError};
use oslo_messaging_proto::version::{Version, acceptable};
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::request::{CallHead, RequestHead, encode_request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug_span, field};

use crate::driver::{Destination, Outgoing, Retry, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::address::Address;
use crate::rpc::call::Call;
use crate::rpc::ids;
use crate::serializer::Serializer;
use crate::transport::Transport;

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
#[derive(Clone)]
pub struct RpcClient {
    transport: Transport,
    to: Address,
    options: Options,
    serializer: Option<Arc<dyn Serializer>>,
}

#[derive(Clone)]
struct Options {
    timeout: Option<Duration>,
    call_monitor_timeout: Option<Duration>,
    retry: Retry,
    version_cap: Option<Arc<str>>,
    at_least_once: bool,
    resend: bool,
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
        };
        Self {
            transport,
            to: Address::of(&target),
            options,
            serializer: None,
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
        let raw = self.call_raw(ctx, method, args).await?;
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
        let span = debug_span!(
            "rpc.call",
            method,
            topic = self.to.topic.as_deref(),
            msg_id = field::Empty
        );
        let call = self.call_within(ctx, method, args, &span);
        let outcome = if span.is_disabled() {
            call.await
        } else {
            call.instrument(span.clone()).await
        };
        outcome
            .and_then(read_outcome)
            .map_err(|error| self.name(error, method))
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
        let cast = self.cast_within(ctx, method, args);
        let sent = if span.is_disabled() {
            cast.await
        } else {
            cast.instrument(span).await
        };
        sent.map_err(|error| self.name(error, method))
    }

    async fn call_within<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        span: &Span,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let timeout = self.effective_timeout();
        let deadline = deadline_after(started, timeout);
        let destination = self.check(true)?;
        let replies = self.transport.replies(deadline, self.options.retry).await?;
        let id = ids::msg_id();
        if !span.is_disabled() {
            span.record("msg_id", field::display(&id));
        }
        let reply_queue = replies.address();
        let head = CallHead {
            msg_id: id,
            reply_q: &reply_queue,
            monitor: self.options.call_monitor_timeout,
            deadline: None,
            cancellable: false,
        };
        let unique_id = ids::unique_id();
        let body = self.encode(ctx, method, args, Some(head), unique_id)?;
        let mut request = self.outgoing(destination, body, deadline);
        request.expires = Some(timeout);
        let call = Call {
            driver: &**self.transport.driver(),
            replies: &replies,
            id,
            unique_id,
            request,
            reply_queue,
            started,
            deadline,
            resend: self.options.resend,
            can_return: self.transport.capabilities().mandatory,
        };
        call.run(self.options.call_monitor_timeout).await
    }

    async fn cast_within<A: Serialize>(&self, ctx: &Context, method: &str, args: A) -> Result<()> {
        let destination = self.check(false)?;
        let deadline = deadline_after(Instant::now(), self.effective_timeout());
        let body = self.encode(ctx, method, args, None, ids::unique_id())?;
        self.transport
            .driver()
            .send(self.outgoing(destination, body, deadline))
            .await
    }

    /// All that can be refused before anything is sent.
    fn check(&self, call: bool) -> Result<Destination<'_>> {
        self.transport.check_rpc()?;
        if call && self.to.fanout {
            return Err(self.invalid("A call cannot be used with fanout"));
        }
        if let Some(version) = self.to.version.as_deref()
            && version.parse::<Version>().is_err()
        {
            return Err(bad_version(version));
        }
        if !self.can_send_version(None)? {
            return Err(self.above_cap());
        }
        self.to
            .destination()
            .ok_or_else(|| self.invalid(&TargetError::NoTopicToSend.to_string()))
    }

    fn encode<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        call: Option<CallHead<'_>>,
        unique_id: UniqueId,
    ) -> Result<Bytes> {
        let head = RequestHead {
            method,
            namespace: self.to.namespace.as_deref(),
            version: self.to.version.as_deref(),
            call,
            unique_id,
        };
        let sent_context = match &self.serializer {
            None => Cow::Borrowed(ctx),
            Some(serializer) => Cow::Owned(serializer.serialize_context(ctx)?),
        };
        let encoded = match self.entity_serializer() {
            None => encode_request(&head, &args, &sent_context),
            Some(serializer) => encode_request(
                &head,
                &serialize_args(serializer, ctx, &args)?,
                &sent_context,
            ),
        };
        encoded.map_err(Error::from)
    }

    fn outgoing<'a>(
        &self,
        destination: Destination<'a>,
        body: Bytes,
        deadline: Instant,
    ) -> Outgoing<'a> {
        let mut message = Outgoing::new(destination, body);
        message.deadline = Some(deadline);
        message.retry = self.options.retry;
        message.mandatory = self.options.at_least_once && !self.to.fanout;
        message
    }

    fn effective_timeout(&self) -> Duration {
        self.options
            .timeout
            .unwrap_or(self.transport.options().rpc_response_timeout)
    }

    fn entity_serializer(&self) -> Option<&dyn Serializer> {
        self.serializer
            .as_deref()
            .filter(|serializer| serializer.wants_entities())
    }

    fn invalid(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::InvalidTarget,
            format!("{what}:{}", self.to.to_target()),
        )
    }

    fn above_cap(&self) -> Error {
        let version = self.to.version.as_deref().unwrap_or("None");
        let cap = self.options.version_cap.as_deref().unwrap_or("None");
        Error::new(
            ErrorKind::VersionCap,
            format!(
                "Requested message version, {version} is incompatible.  It needs to be equal in major \
                 version and less than or equal in minor version as the specified version cap {cap}."
            ),
        )
    }

    /// Names what an error is about.
    fn name(&self, error: Error, method: &str) -> Error {
        let error = error.with_method(method);
        match self.to.topic.as_deref() {
            Some(topic) => error.with_topic(topic),
            None => error,
        }
    }
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcClient")
            .field("target", &self.to.to_target())
            .finish_non_exhaustive()
    }
}

pub(crate) fn read_outcome(outcome: Outcome) -> Result<RawJson> {
    match outcome {
        Outcome::Result(result) => Ok(result),
        Outcome::Failure(failure) => Err(Error::from_failure(failure)),
        Outcome::Malformed(fault) => Err(Error::new(
            ErrorKind::Decode,
            "the method failed, why cannot be read",
        )
        .with_source(fault)),
        _ => Err(Error::new(
            ErrorKind::Decode,
            "the call ended in a way this build does not know",
        )),
    }
}

fn serialize_args<A: Serialize>(
    serializer: &dyn Serializer,
    ctx: &Context,
    args: &A,
) -> Result<Value> {
    let mut args: Value = RawJson::from_value(args)?.parse()?;
    if let Value::Object(entries) = &mut args {
        for (_, value) in entries.iter_mut() {
            *value = serializer.serialize_entity(ctx, std::mem::take(value))?;
        }
    }
    Ok(args)
}

fn deserialize_result<R: DeserializeOwned>(
    serializer: &dyn Serializer,
    ctx: &Context,
    raw: &RawJson,
) -> Result<R> {
    let value = serializer.deserialize_entity(ctx, raw.to_value()?)?;
    Ok(RawJson::from_value(&value)?.parse()?)
}

fn bad_version(version: &str) -> Error {
    Error::new(
        ErrorKind::InvalidTarget,
        format!("Version must contain a major and minor integer. Got {version}"),
    )
}
