//! A plain AMQP peer in a process of its own (`interop/raw_peer.py`): sends and takes bytes that no library of
//! oslo.messaging would send, over a connection that shares no code with what is tested.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::LONG;

/// The properties that the reference gives each of its messages.
pub(crate) fn usual_properties() -> Value {
    json!({
        "content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2, "priority": 0,
        "application_headers": {}
    })
}

/// A running peer; killed when dropped.
pub(crate) struct RawPeer {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl RawPeer {
    /// Connects to `vhost`.
    pub(crate) async fn start(vhost: &Vhost) -> Self {
        let python = std::env::var_os(PYTHON_VARIABLE).expect("a Python environment");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/raw_peer.py");
        let mut process = Command::new(python)
            .arg("-B")
            .arg(script)
            .args([vhost.broker().port().to_string().as_str(), vhost.name()])
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the raw peer starts");
        let input = process.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(process.stdout.take().expect("stdout is a pipe")).lines();
        Self {
            input,
            output,
            _process: process,
        }
    }

    /// Or `None` after one line when there is no broker or no Python.
    pub(crate) async fn start_or_skip(test: &str) -> Option<(Vhost, Self)> {
        let vhost = oslo_messaging_testkit::rabbit::vhost_or_skip(test).await?;
        if std::env::var_os(PYTHON_VARIABLE).is_none() {
            oslo_messaging_testkit::skip(test, "no Python environment");
            return None;
        }
        let raw = Self::start(&vhost).await;
        Some((vhost, raw))
    }

    /// Declares a queue; it is bound to nothing but the default exchange.
    pub(crate) async fn declare_queue(&mut self, queue: &str) {
        self.ask(json!({"op": "declare_queue", "queue": queue}))
            .await;
    }

    /// Declares what a server of `topic` would, so that requests to it arrive here, and consumes it.
    pub(crate) async fn take_topic(&mut self, topic: &str) {
        self.declare_queue(topic).await;
        self.ask(json!({"op": "declare_exchange", "exchange": "openstack"}))
            .await;
        self.ask(
            json!({"op": "bind", "queue": topic, "exchange": "openstack", "routing_key": topic}),
        )
        .await;
        self.consume(topic).await;
    }

    /// Begins to take what is in a queue; see [`RawPeer::next`].
    pub(crate) async fn consume(&mut self, queue: &str) {
        self.ask(json!({"op": "consume", "queue": queue})).await;
    }

    /// Sends `body` with the usual properties to the queue `queue`; it must exist.
    pub(crate) async fn send(&mut self, queue: &str, body: &str) {
        let returned = self
            .publish(json!({"routing_key": queue, "body": body}))
            .await;
        assert!(!returned, "there is no queue {queue}");
    }

    /// Publishes as `interop/raw_peer.py` describes, mandatory and with the usual properties unless given; tells
    /// whether the message came back.
    pub(crate) async fn publish(&mut self, mut request: Value) -> bool {
        request["op"] = "publish".into();
        if request.get("properties").is_none() {
            request["properties"] = usual_properties();
        }
        request["mandatory"] = true.into();
        self.ask(request).await.as_bool().expect("a truth value")
    }

    /// The next message of a consumed queue, which must come.
    pub(crate) async fn next(&mut self, queue: &str) -> Message {
        self.next_within(queue, LONG)
            .await
            .unwrap_or_else(|| panic!("no message in {queue}"))
    }

    /// The next message of a consumed queue, if one comes in time.
    pub(crate) async fn next_within(&mut self, queue: &str, limit: Duration) -> Option<Message> {
        let answer = self
            .ask(json!({"op": "next", "queue": queue, "seconds": limit.as_secs_f64()}))
            .await;
        (!answer.is_null()).then(|| Message::read(&answer))
    }

    async fn ask(&mut self, request: Value) -> Value {
        let line = format!("{request}\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .expect("the raw peer reads");
        let answer = timeout(LONG * 2, self.output.next_line())
            .await
            .expect("the raw peer answers in time");
        let answer = answer.expect("a line").expect("the raw peer runs");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(
            answer.get("fault").is_none(),
            "{request}: {}",
            answer["fault"].as_str().unwrap_or_default()
        );
        answer["value"].clone()
    }
}

/// A message that the raw peer took.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The body as it came.
    pub(crate) body: String,
    /// Its properties.
    pub(crate) properties: Value,
    /// The object inside the envelope, or the body itself where there is none.
    pub(crate) inner: Value,
}

impl Message {
    fn read(answer: &Value) -> Self {
        let body = answer["body"].as_str().expect("text").to_owned();
        let outer: Value = serde_json::from_str(&body).expect("JSON");
        let inner = match outer.get("oslo.message").and_then(Value::as_str) {
            Some(text) => serde_json::from_str(text).expect("JSON"),
            None => outer,
        };
        Self {
            body,
            properties: answer["properties"].clone(),
            inner,
        }
    }

    /// A string of the inner object.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.inner[key]
            .as_str()
            .unwrap_or_else(|| panic!("no text {key} in {}", self.inner))
    }

    /// The failure that a reply carries.
    pub(crate) fn failure(&self) -> Value {
        serde_json::from_str(self.text("failure")).expect("a failure is JSON")
    }
}

/// The body of a message as the reference would write it: `inner` in an envelope.
pub(crate) fn envelope(inner: &Value) -> String {
    json!({"oslo.version": "2.0", "oslo.message": inner.to_string()}).to_string()
}

/// A call as the reference would write it, for a reply to `reply_q`.
pub(crate) fn call(method: &str, args: Value, id: &str, reply_q: &str) -> String {
    envelope(&json!({
        "method": method, "args": args, "_msg_id": format!("msg-{id}"), "_reply_q": reply_q, "_timeout": null,
        "_unique_id": format!("unique-{id}"),
    }))
}

/// A cast as the reference would write it.
pub(crate) fn cast(method: &str, args: Value, id: &str) -> String {
    envelope(&json!({"method": method, "args": args, "_unique_id": format!("unique-{id}")}))
}
