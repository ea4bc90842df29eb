//! From an option set to a message: checks what is asked, encodes the request once, and sends it as a call or a cast.
//!
//! Waiting is the job of `rpc/call.rs`; replies arrive in `replies.rs`.

use std::borrow::Cow;
use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Either;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::state::calls::Outcome;
use oslo_messaging_proto::target::TargetError;
use oslo_messaging_proto::version::Version;
use oslo_messaging_proto::wire::body::Body;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::request::{CallHead, RequestHead, encode_request, open_request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug_span, field};

use crate::clock::clock;
use crate::driver::{Destination, Outgoing, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::ids;
use crate::replies::Replies;
use crate::rpc::call::Call;
use crate::rpc::client::RpcClient;
use crate::rpc::deadline::{self, millis_after};
use crate::rpc::layer::{ClientRequest, Next, Verb};
use crate::rpc::observe::{Sending, traced};
use crate::rpc::place::Place;
use crate::serializer::Serializer;

impl RpcClient {
    /// Begins a call, which goes through the layers if there are any and is told to whoever wants to know.
    ///
    /// To be awaited at once. Not an `async fn`: a call that waits for its reply holds neither its arguments nor anything else
    /// that only its beginning needs, and what not every call needs is in a box.
    pub(super) fn begin_call<'a, A: Serialize>(
        &'a self,
        ctx: &'a Context,
        method: &'a str,
        args: A,
    ) -> impl Future<Output = Result<RawJson>> + use<'a, A> {
        let span = debug_span!(
            "rpc.call",
            method,
            topic = self.to.topic.as_deref(),
            msg_id = field::Empty
        );
        let plain =
            span.is_disabled() && self.layers.is_empty() && !Sending::is_wanted(&self.transport);
        let begun = if plain {
            self.call_at_once(ctx, method, &args)
        } else {
            Ok(None)
        };
        match begun {
            Ok(Some(call)) => Either::Left(Either::Left(call.run().map(read_outcome))),
            Ok(None) => Either::Right(Box::pin(self.call_in_span(ctx, method, args, span))),
            Err(error) => Either::Left(Either::Right(ready(Err(error)))),
        }
    }

    async fn call_in_span<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        span: Span,
    ) -> Result<RawJson> {
        let call = pin!(self.call_layered(ctx, method, args, &span));
        if span.is_disabled() {
            call.await
        } else {
            call.instrument(span.clone()).await
        }
    }

    async fn call_layered<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        span: &Span,
    ) -> Result<RawJson> {
        if self.layers.is_empty() && !Sending::is_wanted(&self.transport) {
            return read_outcome(self.call_within(ctx, method, args, span).await);
        }
        self.call_told(ctx, method, args, span).await
    }

    async fn call_told<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        span: &Span,
    ) -> Result<RawJson> {
        let sending = self.begin(Verb::Call, ctx, method)?;
        let send = async {
            if self.layers.is_empty() {
                return read_outcome(self.call_within(ctx, method, args, span).await);
            }
            self.layered(Verb::Call, ctx, method, args).await
        };
        match sending {
            // In a box, since a future that is handed on has room for it twice.
            Some(sending) => sending.within(Box::pin(send)).await,
            None => send.await,
        }
    }

    /// Casts through the layers, if there are any, and tells whoever wants to know.
    pub(super) async fn cast_layered<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
    ) -> Result<()> {
        let sending = self.begin(Verb::Cast, ctx, method)?;
        let send = async {
            if self.layers.is_empty() {
                return self.cast_within(ctx, method, args).await;
            }
            self.layered(Verb::Cast, ctx, method, args).await.map(drop)
        };
        match sending {
            Some(sending) => sending.within(Box::pin(send)).await,
            None => send.await,
        }
    }

    /// What is told of a request. As in the reference, one that cannot be sent at all is not told of.
    fn begin(&self, verb: Verb, ctx: &Context, method: &str) -> Result<Option<Sending>> {
        if !Sending::is_wanted(&self.transport) {
            return Ok(None);
        }
        self.check(verb == Verb::Call)?;
        let timeout = self.options.timeout.map(|timeout| timeout.as_secs_f64());
        let transport = &self.transport;
        Ok(Some(Sending::begin(
            transport, &self.to, verb, method, timeout, ctx,
        )))
    }

    async fn layered<A: Serialize>(
        &self,
        verb: Verb,
        ctx: &Context,
        method: &str,
        args: A,
    ) -> Result<RawJson> {
        let deadline = self.deadline_of(Instant::now())?;
        let args = RawJson::from_value(&args)?;
        let inner = Self {
            layers: Arc::default(),
            ..self.clone()
        };
        let request = ClientRequest::new(inner.deadline(deadline), verb, ctx, method, args);
        Next::new(&self.layers).run(request).await
    }

    /// Sends what has passed all layers.
    pub(crate) async fn send_raw(
        &self,
        verb: Verb,
        ctx: &Context,
        method: &str,
        args: &RawJson,
    ) -> Result<RawJson> {
        match verb {
            Verb::Cast => {
                self.cast_within(ctx, method, args).await?;
                Ok(RawJson::null())
            }
            Verb::Call => {
                let span = Span::current();
                read_outcome(self.call_within(ctx, method, args, &span).await)
            }
        }
    }

    /// Lowers the deadline, if one is given.
    pub(crate) fn no_later_than(mut self, deadline: Option<Instant>) -> Self {
        let both = self.options.deadline.into_iter().chain(deadline);
        self.options.deadline = both.min();
        self
    }

    /// Whether methods may run more than once for one call.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.options.idempotent
    }

    /// Whether it addresses any one of a topic's servers.
    pub(crate) fn is_for_any_server(&self) -> bool {
        matches!(self.to.destination(), Some(Destination::Topic { .. }))
    }

    async fn call_within<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: A,
        span: &Span,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let deadline = self.deadline_of(started)?;
        self.check(true)?;
        let replies = self.transport.replies(deadline, self.options.retry).await?;
        let call = self.write_call(ctx, method, &args, (started, deadline), replies)?;
        if !span.is_disabled() {
            span.record("msg_id", field::display(call.id()));
        }
        call.run().await
    }

    /// A call that is ready to be sent; none if there is no reply queue yet.
    fn call_at_once<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: &A,
    ) -> Result<Option<Call<'_>>> {
        let started = Instant::now();
        let deadline = self.deadline_of(started)?;
        let Some(replies) = self.transport.replies_at_hand() else {
            return Ok(None);
        };
        self.write_call(ctx, method, args, (started, deadline), replies)
            .map(Some)
    }

    fn write_call<A: Serialize>(
        &self,
        ctx: &Context,
        method: &str,
        args: &A,
        (started, deadline): (Instant, Instant),
        replies: Arc<Replies>,
    ) -> Result<Call<'_>> {
        let destination = self.check(true)?;
        let (id, unique_id) = (ids::msg_id(), ids::unique_id());
        let monitor = self.options.call_monitor_timeout;
        let cancellable = self.options.cancellable;
        let place = Place::take(replies, id, (started, deadline), monitor, cancellable)?;
        let timeout = deadline.saturating_duration_since(started);
        let head = CallHead {
            msg_id: id,
            reply_q: &place.reply_queue,
            monitor,
            deadline: millis_after(clock(started), timeout),
            cancellable,
        };
        Ok(Call {
            driver: &**self.transport.driver(),
            unique_id,
            destination,
            body: self.encode(ctx, method, args, Some(head), unique_id)?,
            place,
            retry: self.options.retry,
            mandatory: self.options.at_least_once,
            resend: self.options.resend,
            can_return: self.transport.capabilities().mandatory,
            lossless: self.transport.capabilities().lossless,
        })
    }

    async fn cast_within<A: Serialize>(&self, ctx: &Context, method: &str, args: A) -> Result<()> {
        let destination = self.check(false)?;
        let deadline = self.deadline_of(Instant::now())?;
        let body = self.encode(ctx, method, &args, None, ids::unique_id())?;
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
        args: &A,
        call: Option<CallHead<'_>>,
        unique_id: UniqueId,
    ) -> Result<Body> {
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
        let sent_context = traced(&self.transport, sent_context);
        match self.entity_serializer() {
            None => self.write(&head, args, &sent_context),
            Some(serializer) => self.write(
                &head,
                &serialize_args(serializer, ctx, args)?,
                &sent_context,
            ),
        }
    }

    /// In the form the bus wants it.
    fn write<A: Serialize>(
        &self,
        head: &RequestHead<'_>,
        args: &A,
        context: &Context,
    ) -> Result<Body> {
        let written = if self.transport.capabilities().open {
            open_request(head, args, context)
        } else {
            encode_request(head, args, context).map(Body::from)
        };
        written.map_err(Error::from)
    }

    fn outgoing<'a>(
        &self,
        destination: Destination<'a>,
        body: Body,
        deadline: Instant,
    ) -> Outgoing<'a> {
        let mut message = Outgoing::new(destination, body);
        message.deadline = Some(deadline);
        message.retry = self.options.retry;
        message.mandatory = self.options.at_least_once && !self.to.fanout;
        message
    }

    /// When a call or cast that starts now has to be over.
    pub(crate) fn deadline_of(&self, now: Instant) -> Result<Instant> {
        let default = self.transport.options().rpc_response_timeout;
        let own = deadline_after(now, self.options.timeout.unwrap_or(default));
        let inherited = deadline::current().filter(|_| self.options.inherit_deadline);
        let limits = self.options.deadline.into_iter().chain(inherited);
        let until = limits.fold(own, Instant::min);
        if until <= now {
            return Err(Error::new(
                ErrorKind::Timeout,
                "Timed out before anything was sent: the deadline has passed",
            ));
        }
        Ok(until)
    }

    pub(super) fn entity_serializer(&self) -> Option<&dyn Serializer> {
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
    pub(super) fn name(&self, error: Error, method: &str) -> Error {
        let error = error.with_method(method);
        match self.to.topic.as_deref() {
            Some(topic) => error.with_topic(topic),
            None => error,
        }
    }
}

pub(crate) fn read_outcome(outcome: Result<Outcome>) -> Result<RawJson> {
    match outcome? {
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

pub(super) fn deserialize_result<R: DeserializeOwned>(
    serializer: &dyn Serializer,
    ctx: &Context,
    raw: &RawJson,
) -> Result<R> {
    let value = serializer.deserialize_entity(ctx, raw.to_value()?)?;
    Ok(RawJson::from_value(&value)?.parse()?)
}

pub(super) fn bad_version(version: &str) -> Error {
    Error::new(
        ErrorKind::InvalidTarget,
        format!("Version must contain a major and minor integer. Got {version}"),
    )
}
