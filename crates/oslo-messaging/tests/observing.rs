//! What is told of calls: figures for oslo.metrics, and spans with the trace that travels.

#![allow(clippy::unwrap_used)]
#![cfg(all(unix, feature = "macros"))]

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use oslo_messaging::rpc::layer::Verb;
use oslo_messaging::trace::{TraceContext, current, in_trace};
use oslo_messaging::{
    ConnectOptions, Context, ErrorKind, RpcClient, RpcServer, Target, Transport, Value, endpoint,
};
use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::skip::skip;
use serde_json::json;
use tracing_subscriber::layer::{Context as Place, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

struct Clerk(Option<RpcClient>);

#[endpoint(namespace = "n", version = "1.1")]
impl Clerk {
    async fn ping(&self) -> u8 {
        7
    }

    async fn fail(&self) -> Result<(), String> {
        Err("on purpose".to_owned())
    }

    async fn trace(&self, ctx: &Context) -> (String, Option<String>) {
        let sent = ctx.get::<String>("traceparent").unwrap().unwrap();
        (sent, current().map(|trace| trace.to_string()))
    }

    async fn onwards(
        &self,
        ctx: &Context,
    ) -> Result<(String, Option<String>), oslo_messaging::Error> {
        self.0.as_ref().unwrap().call(ctx, "trace", ()).await
    }
}

struct Stage {
    socket: UnixDatagram,
    _folder: tempfile::TempDir,
    transport: Transport,
    client: RpcClient,
    _server: RpcServer,
}

impl Stage {
    async fn new(name: &str, change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut options = ConnectOptions::default();
        options.transport.metrics.metrics_socket_file = path.to_str().unwrap().to_owned();
        options.transport.metrics.metrics_process_name = "tester".to_owned();
        change(&mut options);
        let url = format!("memory://{name}");
        let transport = oslo_messaging::connect_with(&url, options).await.unwrap();
        let target = Target::topic("t").namespace("n").version("1.1");
        let client = RpcClient::new(transport.clone(), target);
        let server = RpcServer::builder(transport.clone(), Target::topic("t").server("s"))
            .endpoint(Clerk(Some(client.clone())))
            .start()
            .await
            .unwrap();
        Self {
            socket,
            _folder: folder,
            transport,
            client,
            _server: server,
        }
    }

    fn received(&self) -> String {
        let mut buffer = [0; 65_536];
        let length = self.socket.recv(&mut buffer).expect("a figure comes");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.received()).collect()
    }
}

fn enabled(options: &mut ConnectOptions) {
    options.transport.metrics.metrics_enabled = true;
}

fn name(figure: &str) -> String {
    let figure: serde_json::Value = serde_json::from_str(figure).unwrap();
    figure["name"].as_str().unwrap().to_owned()
}

/// Asks a script of `interop/`; `None` after one line if there is no Python.
fn ask(
    test: &str,
    script: &str,
    questions: &[serde_json::Value],
) -> Option<Vec<serde_json::Value>> {
    let Ok(python) = std::env::var(PYTHON_VARIABLE) else {
        skip(test, "no Python environment");
        return None;
    };
    let script = format!("{}/../../interop/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut process = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines: String = questions
        .iter()
        .map(|question| format!("{question}\n"))
        .collect();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

/// The same figures, but for how long it took.
fn without_duration(figure: &str) -> String {
    let Some((before, rest)) = figure.split_once(r#""action": {"value": "#) else {
        return figure.to_owned();
    };
    let (_, after) = rest.split_once(',').unwrap();
    format!("{before}…{after}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_calls_and_casts_are_the_references_byte_for_byte() {
    let stage = Stage::new("metrics-client", enabled).await;
    let ctx = Context::new();
    let _: u8 = stage.client.call(&ctx, "ping", ()).await.unwrap();
    let call = stage.take(6);
    let fanout = stage
        .client
        .prepare()
        .fanout(true)
        .server("s")
        .exchange("e");
    fanout.cast(&ctx, "nothing", ()).await.unwrap();
    let cast = stage.take(3);
    let refused = stage.client.prepare().at_least_once(true).topic("nobody");
    let error = refused.call_raw(&ctx, "ping", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    let failed = stage.take(2);
    // What cannot be sent at all is not told of.
    refused
        .version("x")
        .call_raw(&ctx, "ping", ())
        .await
        .unwrap_err();

    let question = |target: serde_json::Value,
                    method: &str,
                    call_type: &str,
                    exception: Option<&str>| {
        json!({"target": target, "method": method, "call_type": call_type, "exception": exception, "process": "tester"})
    };
    let plain = json!({"topic": "t", "namespace": "n", "version": "1.1"});
    let all = json!({"topic": "t", "namespace": "n", "version": "1.1", "fanout": true, "server": "s", "exchange": "e"});
    let nobody = json!({"topic": "nobody", "namespace": "n", "version": "1.1"});
    let questions = [
        question(plain, "ping", Verb::Call.as_str(), None),
        question(all, "nothing", Verb::Cast.as_str(), None),
        question(nobody, "ping", "call", Some("MessageUndeliverable")),
    ];
    let Some(answers) = ask(
        "figures_of_calls_and_casts_are_the_references_byte_for_byte",
        "metrics.py",
        &questions,
    ) else {
        return;
    };
    for (ours, theirs) in [call, cast, failed].into_iter().zip(answers) {
        let ours: Vec<String> = ours
            .iter()
            .filter(|figure| name(figure).starts_with("rpc_client"))
            .map(|figure| without_duration(figure))
            .collect();
        let theirs: Vec<String> = theirs
            .as_array()
            .unwrap()
            .iter()
            .map(|figure| without_duration(figure.as_str().unwrap()))
            .collect();
        assert_eq!(ours, theirs);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collector_of_oslo_metrics_counts_what_both_ends_send() {
    let stage = Stage::new("metrics-both", enabled).await;
    let ctx = Context::new();
    let _: u8 = stage.client.call(&ctx, "ping", ()).await.unwrap();
    stage.client.call_raw(&ctx, "fail", ()).await.unwrap_err();
    stage
        .client
        .call_raw(&ctx, "missing", ())
        .await
        .unwrap_err();
    let figures = stage.take(6 + 4 + 2);
    let datagrams: Vec<_> = figures
        .iter()
        .map(|figure| json!({"datagram": figure}))
        .collect();
    let Some(answers) = ask(
        "the_collector_of_oslo_metrics_counts_what_both_ends_send",
        "metrics.py",
        &datagrams,
    ) else {
        return;
    };
    let text = answers[0].as_str().unwrap();
    let value = |start: &str, parts: &[&str]| {
        let line = text
            .lines()
            .find(|line| line.starts_with(start) && parts.iter().all(|part| line.contains(part)));
        line.and_then(|line| line.rsplit_once(' '))
            .map(|(_, value)| value.to_owned())
    };
    let one = Some("1.0".to_owned());
    let prefix = "oslo_messaging_rpc";
    let ping = ["method=\"ping\"", "process=\"tester\"", "topic=\"t\""];
    for name in [
        "client_invocation_start_total",
        "client_invocation_end_total",
        "client_processing_seconds_count",
        "server_invocation_start_total",
        "server_invocation_end_total",
        "server_processing_seconds_count",
    ] {
        assert_eq!(
            value(&format!("{prefix}_{name}{{"), &ping),
            one,
            "{name}\n{text}"
        );
    }
    let client = format!("{prefix}_client_exception_total{{");
    assert_eq!(
        value(&client, &["method=\"fail\"", "exception=\"RemoteError\""]),
        one
    );
    assert_eq!(
        value(
            &client,
            &["method=\"missing\"", "exception=\"RemoteError\""]
        ),
        one
    );
    let server = format!("{prefix}_server_exception_total{{");
    assert_eq!(value(&server, &["method=\"fail\"", "server=\"s\""]), one);
    assert_eq!(
        value(&server, &["method=\"missing\""]),
        None,
        "what no endpoint has is not counted"
    );
}

#[tokio::test]
async fn nothing_is_sent_unless_it_is_wanted_and_a_missing_collector_harms_nobody() {
    let stage = Stage::new("metrics-off", |_| {}).await;
    let _: u8 = stage
        .client
        .call(&Context::new(), "ping", ())
        .await
        .unwrap();
    stage.transport.close().await;
    stage.socket.set_nonblocking(true).unwrap();
    assert!(stage.socket.recv(&mut [0; 64]).is_err());

    let lost = Stage::new("metrics-lost", |options| {
        enabled(options);
        let metrics = &mut options.transport.metrics;
        metrics.metrics_socket_file = "/nonexistent/metrics.sock".to_owned();
        metrics.metrics_buffer_size = 4;
        metrics.metrics_thread_stop_timeout.0 = Duration::from_millis(100);
    })
    .await;
    for _ in 0..20 {
        let _: u8 = lost.client.call(&Context::new(), "ping", ()).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), lost.transport.close())
        .await
        .expect("a close ends");
}

#[tokio::test]
async fn a_close_sends_what_waits() {
    let stage = Stage::new("metrics-close", enabled).await;
    for _ in 0..10 {
        let _: u8 = stage
            .client
            .call(&Context::new(), "ping", ())
            .await
            .unwrap();
    }
    // More than the socket holds while nobody reads.
    let socket = stage.socket.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        (0..60)
            .filter(|_| socket.recv(&mut [0; 65_536]).is_ok())
            .count()
    });
    stage.transport.close().await;
    assert_eq!(reader.join().unwrap(), 60);
}

/// Never in use, and always there: where the crate `tracing` knows of one subscriber only, it asks that of the thread which
/// comes to a span first whether anybody wants it, and that may be the thread of a test that collects none.
static ANOTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new()));

/// The fields of every span, in the order of their beginning.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<HashMap<String, String>>>>);

struct Fields<'a>(&'a mut HashMap<String, String>);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        let plain = text.trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), plain);
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

struct Number(usize);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        place: Place<'_, S>,
    ) {
        let mut fields =
            HashMap::from([("span".to_owned(), attributes.metadata().name().to_owned())]);
        attributes.record(&mut Fields(&mut fields));
        let mut all = self.0.lock().unwrap();
        place
            .span(id)
            .unwrap()
            .extensions_mut()
            .insert(Number(all.len()));
        all.push(fields);
    }

    fn on_record(
        &self,
        id: &tracing::span::Id,
        values: &tracing::span::Record<'_>,
        place: Place<'_, S>,
    ) {
        let number = place
            .span(id)
            .unwrap()
            .extensions()
            .get::<Number>()
            .unwrap()
            .0;
        values.record(&mut Fields(&mut self.0.lock().unwrap()[number]));
    }
}

impl Spans {
    /// Collects those of this thread, until the guard is dropped.
    fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        LazyLock::force(&ANOTHER);
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    fn named(&self, name: &str) -> Vec<HashMap<String, String>> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|fields| fields["span"] == name)
            .cloned()
            .collect()
    }
}

fn traced(options: &mut ConnectOptions) {
    options.transport.tracing.tracing_enabled = true;
}

#[tokio::test]
async fn spans_of_both_ends_have_the_names_and_attributes_of_the_reference() {
    let (spans, _guard) = Spans::collect();
    let stage = Stage::new("spans", traced).await;
    let mut ctx = Context::new();
    ctx.insert("request_id", "req-1").unwrap();
    let _: u8 = stage.client.call(&ctx, "ping", ()).await.unwrap();
    let [sent, received] = ["rpc.send", "rpc.receive"].map(|name| spans.named(name)[0].clone());
    let has = |fields: &HashMap<String, String>, wanted: &[(&str, &str)]| {
        for (key, value) in wanted {
            assert_eq!(
                fields.get(*key).map(String::as_str),
                Some(*value),
                "{key} in {fields:?}"
            );
        }
    };
    has(
        &sent,
        &[
            ("otel.name", "t.ping"),
            ("otel.kind", "producer"),
            ("messaging.system", "rabbitmq"),
            ("messaging.operation", "call"),
            ("messaging.destination.name", "t"),
            ("rpc.method", "ping"),
            ("rpc.service", "n"),
            ("openstack.request_id", "req-1"),
        ],
    );
    has(
        &received,
        &[
            ("otel.name", "ping receive"),
            ("otel.kind", "consumer"),
            ("messaging.system", "rabbitmq"),
            ("messaging.operation", "receive"),
            ("rpc.method", "ping"),
            ("openstack.request_id", "req-1"),
            ("trace_id", &sent["trace_id"]),
            ("parent_span_id", &sent["span_id"]),
        ],
    );
    assert_eq!(received["messaging.message.id"].len(), 32);
    assert!(!sent.contains_key("otel.status_code"));

    stage.client.call_raw(&ctx, "fail", ()).await.unwrap_err();
    let [sent, received] = ["rpc.send", "rpc.receive"].map(|name| spans.named(name)[1].clone());
    assert_eq!(
        (&*sent["otel.status_code"], &*received["otel.status_code"]),
        ("ERROR", "ERROR")
    );
    assert_eq!(sent["exception.type"], "RemoteError");
}

#[tokio::test]
async fn a_trace_goes_through_handlers_and_begins_where_its_caller_stands() {
    let stage = Stage::new("traces", traced).await;
    let root = TraceContext::root();
    let ctx = Context::new();
    let call = stage.client.call(&ctx, "onwards", ());
    let (sent, inside): (String, Option<String>) = in_trace(root.clone(), call).await.unwrap();
    let [sent, inside] = [sent, inside.unwrap()].map(|text| TraceContext::parse(&text).unwrap());
    assert!(
        [&sent, &inside]
            .iter()
            .all(|trace| trace.trace_id() == root.trace_id())
    );
    assert_ne!(sent.span_id(), inside.span_id());
    assert_eq!(current(), None);

    // One that a context brings along, as a web front end leaves it there.
    let mut ctx = Context::new();
    root.inject(&mut ctx);
    let (sent, _): (String, Value) = stage.client.call(&ctx, "trace", ()).await.unwrap();
    let sent = TraceContext::parse(&sent).unwrap();
    assert_eq!(sent.trace_id(), root.trace_id());
    assert_ne!(sent.span_id(), root.span_id());

    // Nothing is added where tracing is off.
    let plain = Stage::new("traces-off", |_| {}).await;
    let echo = plain
        .client
        .call_raw(&Context::new(), "trace", ())
        .await
        .unwrap_err();
    assert!(echo.remote().is_some(), "there is no traceparent");
}

#[tokio::test]
async fn traces_go_to_opentelemetry_of_python_and_come_from_there_with_the_same_attributes() {
    const TEST: &str =
        "traces_go_to_opentelemetry_of_python_and_come_from_there_with_the_same_attributes";
    let (spans, _guard) = Spans::collect();
    let stage = Stage::new("opentelemetry", traced).await;
    let mut ctx = Context::new();
    ctx.insert("request_id", "req-1").unwrap();
    let (sent, _): (String, Value) = stage.client.call(&ctx, "trace", ()).await.unwrap();
    let target = json!({"topic": "t", "namespace": "n", "version": "1.1"});
    let ours = spans.named("rpc.send")[0].clone();
    let received = spans.named("rpc.receive")[0].clone();
    let questions = [
        json!({"receive": {"method": "trace", "msg_id": received["messaging.message.id"], "ctxt": {"request_id": "req-1", "traceparent": sent}}}),
        json!({"send": {"target": target, "method": "trace", "call_type": "call", "ctxt": {"request_id": "req-1"}}}),
    ];
    let Some(answers) = ask(TEST, "tracing.py", &questions) else {
        return;
    };
    if answers[0] == "missing" {
        skip(TEST, "the Python environment has no opentelemetry-sdk");
        return;
    }
    let attributes = |span: &HashMap<String, String>, of: &serde_json::Value| {
        let of = of["attributes"].as_object().unwrap();
        assert!(!of.is_empty());
        for (key, value) in of {
            assert_eq!(span.get(key).map(String::as_str), value.as_str(), "{key}");
        }
    };
    let [receive, send] = [&answers[0], &answers[1]];
    assert_eq!(
        (&receive["trace_id"], &receive["parent"]),
        (&json!(ours["trace_id"]), &json!(ours["span_id"]))
    );
    assert_eq!(
        (&receive["name"], &receive["kind"]),
        (&json!(received["otel.name"]), &json!(received["otel.kind"]))
    );
    attributes(&received, receive);
    assert_eq!(
        (&send["name"], &send["kind"]),
        (&json!(ours["otel.name"]), &json!(ours["otel.kind"]))
    );
    attributes(&ours, send);

    // And back: what Python wrote is the parent of what we receive.
    let mut ctx = Context::new();
    for (key, value) in send["ctxt"].as_object().unwrap() {
        ctx.insert(key, value).unwrap();
    }
    stage.client.call_raw(&ctx, "trace", ()).await.unwrap();
    let ours = spans.named("rpc.send")[1].clone();
    assert_eq!(json!(ours["trace_id"]), send["trace_id"]);
    assert_eq!(json!(ours["parent_span_id"]), send["span_id"]);
}
