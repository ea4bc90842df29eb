//! What is told about requests: figures for oslo.metrics (parity M2 to M4) and spans (TC1 to TC3), at both ends.
//!
//! Spans are those of `tracing`, under the names and with the attributes that the reference gives to OpenTelemetry, and with the
//! ids that travel; a subscriber such as `tracing-opentelemetry` takes `otel.name` and `otel.kind` from them.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use tokio::time::Instant;
use tracing::{Instrument, Span, field, info_span};

use crate::driver::BoxFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::metrics::{Action, Metrics};
use crate::layer::trace::{TraceContext, current, in_trace};
use crate::rpc::address::Address;
use crate::rpc::hook::{Hook, RequestInfo};
use crate::rpc::layer::Verb;
use crate::transport::Transport;

/// Always the same in the reference (parity TC1), whatever the bus.
const SYSTEM: &str = "rabbitmq";

/// A request that is being sent, and whatever is done for it until it ends.
pub(crate) struct Sending {
    metrics: Option<(Arc<Metrics>, Object)>,
    traced: Option<(TraceContext, Span)>,
    started: Instant,
}

impl Sending {
    /// Whether anything is to be told.
    pub(crate) fn is_wanted(transport: &Transport) -> bool {
        transport.metrics().is_some() || transport.options().tracing.tracing_enabled
    }

    /// Counts the start and opens the span.
    pub(crate) fn begin(
        transport: &Transport,
        to: &Address,
        verb: Verb,
        method: &str,
        timeout: Option<f64>,
        context: &Context,
    ) -> Self {
        let metrics = transport.metrics().cloned();
        let traced = transport.options().tracing.tracing_enabled;
        let this = Self {
            metrics: metrics.map(|metrics| (metrics, client_labels(to, verb, method, timeout))),
            traced: traced.then(|| {
                let parent = current().or_else(|| TraceContext::extract(context));
                let own = parent
                    .as_ref()
                    .map_or_else(TraceContext::root, TraceContext::child);
                let span = send_span(to, verb, method, context, (&own, parent.as_ref()));
                (own, span)
            }),
            started: Instant::now(),
        };
        this.put("rpc_client_invocation_start_total", Action::Inc, None);
        this
    }

    /// Runs what sends.
    pub(crate) async fn within<T>(self, send: impl Future<Output = Result<T>>) -> Result<T> {
        let send = pin!(send);
        let sent = match &self.traced {
            Some((trace, span)) => in_trace(trace.clone(), send).instrument(span.clone()).await,
            None => send.await,
        };
        match &sent {
            Ok(_) => {
                let took = self.started.elapsed().as_secs_f64();
                self.put("rpc_client_processing_seconds", Action::Observe(took), None);
                self.put("rpc_client_invocation_end_total", Action::Inc, None);
            }
            Err(error) => {
                let class = class_of(error);
                self.put("rpc_client_exception_total", Action::Inc, Some(class));
                if let Some((_, span)) = &self.traced {
                    failed(span, class, error.message());
                }
            }
        }
        sent
    }

    fn put(&self, name: &str, action: Action, exception: Option<&str>) {
        if let Some((metrics, labels)) = &self.metrics {
            metrics.put(name, action, with_exception(labels, exception));
        }
    }
}

/// The trace that goes into a request's context, if this transport traces.
pub(crate) fn traced<'a>(transport: &Transport, mut context: Cow<'a, Context>) -> Cow<'a, Context> {
    if transport.options().tracing.tracing_enabled
        && let Some(trace) = current()
    {
        trace.inject(context.to_mut());
    }
    context
}

/// In the reference's order (parity M3).
fn client_labels(to: &Address, verb: Verb, method: &str, timeout: Option<f64>) -> Object {
    let fanout = if to.fanout {
        Value::from(true)
    } else {
        Value::Null
    };
    Object::from_iter([
        ("call_type".to_owned(), Value::from(verb.as_str())),
        ("exchange".to_owned(), text(to.exchange.as_deref())),
        ("topic".to_owned(), text(to.topic.as_deref())),
        ("namespace".to_owned(), text(to.namespace.as_deref())),
        ("version".to_owned(), text(to.version.as_deref())),
        ("server".to_owned(), text(to.server.as_deref())),
        ("fanout".to_owned(), fanout),
        ("method".to_owned(), Value::from(method)),
        (
            "timeout".to_owned(),
            timeout.map_or(Value::Null, Value::from),
        ),
    ])
}

fn send_span(
    to: &Address,
    verb: Verb,
    method: &str,
    context: &Context,
    (own, parent): (&TraceContext, Option<&TraceContext>),
) -> Span {
    let topic = to.topic.as_deref().unwrap_or_default();
    info_span!(
        "rpc.send",
        otel.name = format!("{topic}.{method}"),
        otel.kind = "producer",
        otel.status_code = field::Empty,
        trace_id = format!("{:032x}", own.trace_id()),
        span_id = format!("{:016x}", own.span_id()),
        parent_span_id = parent.map(|parent| format!("{:016x}", parent.span_id())),
        messaging.system = SYSTEM,
        messaging.operation = verb.as_str(),
        messaging.destination.name = topic,
        rpc.method = method,
        rpc.service = to.namespace.as_deref(),
        openstack.request_id = request_id(context),
        exception.r#type = field::Empty,
        exception.message = field::Empty,
    )
}

/// What an RPC server tells: the outermost of its hooks.
pub(crate) struct Receiving {
    pub(crate) transport: Transport,
    pub(crate) exchange: Option<String>,
    pub(crate) server: String,
}

impl Receiving {
    fn labels(&self, request: &RequestInfo<'_>) -> Object {
        Object::from_iter([
            // The reference has no name for endpoints, and sends nothing of all this (parity M4).
            ("endpoint".to_owned(), Value::Null),
            ("namespace".to_owned(), text(request.namespace())),
            ("version".to_owned(), text(request.version())),
            ("method".to_owned(), Value::from(request.method())),
            ("exchange".to_owned(), text(self.exchange.as_deref())),
            ("topic".to_owned(), Value::from(request.topic())),
            ("server".to_owned(), Value::from(self.server.as_str())),
        ])
    }

    async fn measured(
        &self,
        request: &RequestInfo<'_>,
        method: BoxFuture<'_, Result<ReplyBody, Failure>>,
    ) -> Result<ReplyBody, Failure> {
        // What no endpoint has is not counted (oslo.metrics says so of the first figure).
        let Some(metrics) = self.transport.metrics().filter(|_| request.is_served()) else {
            return method.await;
        };
        let (labels, started) = (self.labels(request), Instant::now());
        metrics.put(
            "rpc_server_invocation_start_total",
            Action::Inc,
            labels.clone(),
        );
        let ran = method.await;
        match &ran {
            Ok(_) => {
                let took = Action::Observe(started.elapsed().as_secs_f64());
                metrics.put("rpc_server_processing_seconds", took, labels.clone());
                metrics.put("rpc_server_invocation_end_total", Action::Inc, labels);
            }
            Err(failure) => {
                let labels = with_exception(&labels, Some(failure.class()));
                metrics.put("rpc_server_exception_total", Action::Inc, labels);
            }
        }
        ran
    }
}

impl Hook for Receiving {
    fn run<'a>(
        &'a self,
        request: &'a RequestInfo<'a>,
        method: BoxFuture<'a, Result<ReplyBody, Failure>>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        let run = self.measured(request, method);
        if !self.transport.options().tracing.tracing_enabled {
            return Box::pin(run);
        }
        Box::pin(async move {
            let parent = TraceContext::extract(request.context());
            let own = parent
                .as_ref()
                .map_or_else(TraceContext::root, TraceContext::child);
            let span = receive_span(request, &own, parent.as_ref());
            let ran = in_trace(own, run).instrument(span.clone()).await;
            if let Err(failure) = &ran {
                failed(&span, failure.class(), failure.message());
            }
            ran
        })
    }
}

fn receive_span(
    request: &RequestInfo<'_>,
    own: &TraceContext,
    parent: Option<&TraceContext>,
) -> Span {
    info_span!(
        "rpc.receive",
        otel.name = format!("{} receive", request.method()),
        otel.kind = "consumer",
        otel.status_code = field::Empty,
        trace_id = format!("{:032x}", own.trace_id()),
        span_id = format!("{:016x}", own.span_id()),
        parent_span_id = parent.map(|parent| format!("{:016x}", parent.span_id())),
        messaging.system = SYSTEM,
        messaging.operation = "receive",
        messaging.message.id = request.msg_id(),
        rpc.method = request.method(),
        openstack.request_id = request_id(request.context()),
        exception.r#type = field::Empty,
        exception.message = field::Empty,
    )
}

fn failed(span: &Span, class: &str, message: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("exception.type", class);
    span.record("exception.message", message);
}

fn request_id(context: &Context) -> Option<String> {
    context.get("request_id")?.ok()
}

fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

fn with_exception(labels: &Object, exception: Option<&str>) -> Object {
    let mut labels = labels.clone();
    if let Some(class) = exception {
        labels.insert("exception".to_owned(), Value::from(class));
    }
    labels
}

/// The name of the exception that the reference raises.
fn class_of(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::Timeout => "MessagingTimeout",
        ErrorKind::Undeliverable => "MessageUndeliverable",
        ErrorKind::InvalidTarget => "InvalidTarget",
        ErrorKind::VersionCap => "RPCVersionCapError",
        ErrorKind::Remote | ErrorKind::NoSuchMethod | ErrorKind::UnsupportedVersion => {
            "RemoteError"
        }
        ErrorKind::Encode => "TypeError",
        ErrorKind::Decode => "ValueError",
        _ => "MessageDeliveryFailure",
    }
}
