//! A process that speaks the plain RPC with kombu alone (`interop/plain_rpc.py`).

use std::path::Path;
use std::process::Stdio;

use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::common::LONG;

/// A running process; killed when dropped.
pub(crate) struct Kombu {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Kombu {
    /// A server of `topic`, which consumes when this returns.
    pub(crate) async fn serve(vhost: &Vhost, topic: &str) -> Self {
        Self::start(&["serve", &url(vhost), topic]).await
    }

    /// A client.
    pub(crate) async fn client(vhost: &Vhost) -> Self {
        Self::start(&["call", &url(vhost)]).await
    }

    async fn start(arguments: &[&str]) -> Self {
        let python = std::env::var_os(PYTHON_VARIABLE).expect("a Python environment");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/plain_rpc.py");
        let mut process = Command::new(python)
            .arg("-B")
            .arg(script)
            .args(arguments)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let input = process.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(process.stdout.take().expect("stdout is a pipe")).lines();
        let mut kombu = Self {
            input,
            output,
            _process: process,
        };
        assert_eq!(kombu.line().await, json!("ready"));
        kombu
    }

    /// What the process prints next.
    pub(crate) async fn line(&mut self) -> Value {
        let line = timeout(LONG, self.output.next_line()).await;
        let line = line.expect("a line in time").expect("text");
        serde_json::from_str(&line.expect("the process runs")).expect("JSON")
    }

    /// `rpc.call(topic, {"method": …, "args": …})`; the reply as it came.
    pub(crate) async fn call(&mut self, topic: &str, method: &str, args: Value) -> Value {
        let message = json!({"method": method, "args": args});
        self.send(json!({"topic": topic, "message": message, "wait": LONG.as_secs()}))
            .await
    }

    /// As [`Kombu::call`], with any message, and seconds to wait (0 casts).
    pub(crate) async fn send(&mut self, request: Value) -> Value {
        let line = format!("{request}\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .expect("the process reads");
        self.line().await
    }
}

fn url(vhost: &Vhost) -> String {
    vhost.url().replacen("rabbit://", "amqp://", 1)
}
