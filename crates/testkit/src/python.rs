//! Servers and clients of Python's oslo.messaging in a process of their own, driven from a test.
//!
//! The process runs `interop/peer.py`; its methods (`echo`, `add`, `slow`, `raise_custom`, …) are described there. One
//! [`Peer`] can serve and call at once. Every question has a deadline; the process ends with the [`Peer`], and by
//! itself when the test is killed.
//!
//! ```no_run
//! # use oslo_messaging_testkit::{python::{Call, Peer, Serve}, rabbit::vhost_or_skip};
//! # use serde_json::json;
//! # async fn example() -> std::io::Result<()> {
//! let Some(vhost) = vhost_or_skip("python_adds").await else { return Ok(()) };
//! let peer = Peer::start(&vhost.url()).await?;
//! peer.serve(&Serve::new("calculator", "node-1")).await?;
//! let answer = peer.call(&Call::new("calculator", "add").args(json!({"a": 2, "b": 3}))).await?;
//! assert_eq!(answer.expect("add answers").value, json!(5));
//! # Ok(()) }
//! ```

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::skip::skip;

mod request;
mod script;

pub use self::request::{Call, Interface, RABBIT_OPTIONS_VARIABLE, Serve, Setup};
pub use self::script::script_or_skip;

/// The Python interpreter whose environment holds oslo.messaging.
pub const PYTHON_VARIABLE: &str = "OSLO_TEST_PYTHON";

const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Last lines of the process's standard error that are kept for error texts.
const KEPT_LINES: usize = 60;

/// A running Python process; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    input: tokio::sync::Mutex<ChildStdin>,
    desk: Arc<Desk>,
    readers: [JoinHandle<()>; 2],
    _process: Child,
}

/// Where answers find those who wait for them.
#[derive(Debug, Default)]
struct Desk {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    printed: Mutex<VecDeque<String>>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    #[serde(default)]
    value: Value,
    raised: Option<Raised>,
    fault: Option<String>,
}

/// What a call gave its Python caller.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Returned {
    /// The result as far as JSON proper can say it; see [`Returned::json`].
    pub value: Value,
    /// The result as Python writes it, with NaN and integers of any length.
    pub json: String,
    /// From the call to its end.
    pub elapsed: Duration,
}

/// The exception that a call raised to its Python caller.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Raised {
    /// Name of its class, such as `MessagingTimeout` or `InstanceNotFound_Remote`.
    pub class: String,
    /// Module of its class.
    pub module: String,
    /// Classes it derives from, nearest first, with their modules.
    pub bases: Vec<String>,
    /// `str(error)`: a remote exception's ends with the traceback.
    pub text: String,
    /// `error.args`.
    pub args: Vec<Value>,
    /// `error.kwargs`, where it has them.
    pub kwargs: Option<Value>,
    /// Class name of the original, of a `RemoteError`.
    pub exc_type: Option<String>,
    /// Text of the original, of a `RemoteError`.
    pub value: Option<Value>,
    /// Traceback of the original, of a `RemoteError`.
    pub traceback: Option<Value>,
    /// Seconds from the call to its end.
    pub elapsed: f64,
}

/// A request that an endpoint of the Python process received.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Received {
    /// The method.
    pub method: String,
    /// Its arguments as far as JSON proper can say them.
    pub args: Map<String, Value>,
    /// Its arguments as Python writes them.
    pub args_json: String,
    /// The context; oslo.messaging adds `client_timeout`.
    pub ctxt: Map<String, Value>,
    /// Name of the server that received it.
    pub server: String,
    /// Namespace of the endpoint.
    pub namespace: Option<String>,
    /// Version of the endpoint.
    pub version: Option<String>,
    /// When, in seconds since 1970 by the peer's clock.
    pub at: f64,
}

/// A Python process on `url`, or `None` after one line when there is no Python environment.
///
/// # Panics
///
/// When there is none and `OSLO_TEST_REQUIRE_SERVICES=1`, and when it does not start.
pub async fn peer_or_skip(test: &str, url: &str) -> Option<Peer> {
    peer_with_or_skip(test, &Setup::new(url)).await
}

/// A Python process set up like this, or `None` after one line when there is no Python environment.
///
/// # Panics
///
/// As [`peer_or_skip`].
pub async fn peer_with_or_skip(test: &str, setup: &Setup) -> Option<Peer> {
    if interpreter().is_none() {
        skip(
            test,
            &format!("no Python environment ({PYTHON_VARIABLE} is not set)"),
        );
        return None;
    }
    Some(
        Peer::start_with(setup)
            .await
            .expect("the Python peer starts"),
    )
}

impl Peer {
    /// Starts a process with default options on the broker and virtual host of `url`.
    ///
    /// # Errors
    ///
    /// See [`Peer::start_with`].
    pub async fn start(url: &str) -> io::Result<Self> {
        Self::start_with(&Setup::new(url)).await
    }

    /// Starts a process set up by `setup` and waits until it is ready (about half a second).
    ///
    /// # Errors
    ///
    /// When there is no Python environment, or the process ends or is silent for 60 seconds; the text holds what it
    /// printed.
    pub async fn start_with(setup: &Setup) -> io::Result<Self> {
        let missing = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{PYTHON_VARIABLE} is not set"),
            )
        };
        let mut process = Command::new(interpreter().ok_or_else(missing)?)
            .arg("-B")
            .arg(interop(setup.file()))
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output), Some(errors)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(io::Error::other("the process has no pipes"));
        };
        let desk = Arc::new(Desk::default());
        let ready = desk.expect(0);
        desk.next.store(1, Ordering::Relaxed);
        let readers = [
            tokio::spawn(read_answers(output, Arc::clone(&desk))),
            tokio::spawn(read_errors(errors, Arc::clone(&desk))),
        ];
        let peer = Self {
            input: tokio::sync::Mutex::new(input),
            desk,
            readers,
            _process: process,
        };
        peer.write(&setup.line()).await?;
        peer.answer("start", ready, START_LIMIT).await?;
        Ok(peer)
    }

    /// Makes an RPC server in the process and starts it. Its queues are declared when this returns.
    ///
    /// # Errors
    ///
    /// When oslo.messaging raises.
    pub async fn serve(&self, serve: &Serve) -> io::Result<()> {
        self.ask("serve", serve.arguments(), ANSWER_LIMIT).await
    }

    /// Stops the server `server` of this process and waits for its running methods.
    ///
    /// # Errors
    ///
    /// When there is no such server or oslo.messaging raises.
    pub async fn stop(&self, server: &str) -> io::Result<()> {
        self.ask("stop", json!({"name": server}), ANSWER_LIMIT)
            .await
    }

    /// Starts the stopped server `server` again.
    ///
    /// # Errors
    ///
    /// When there is no such server or oslo.messaging raises.
    pub async fn restart(&self, server: &str) -> io::Result<()> {
        self.ask("start", json!({"name": server}), ANSWER_LIMIT)
            .await
    }

    /// Calls, and tells what the caller got: a result, or the exception that was raised to it.
    ///
    /// Many calls may be under way at once; each runs in a thread of the process.
    ///
    /// # Errors
    ///
    /// When the process fails or does not answer within the call's own timeout and 60 seconds more.
    pub async fn call(&self, call: &Call) -> io::Result<Result<Returned, Raised>> {
        self.send("call", call).await
    }

    /// Casts, to one server or (with [`Call::fanout`]) to all.
    ///
    /// # Errors
    ///
    /// See [`Peer::call`].
    pub async fn cast(&self, call: &Call) -> io::Result<Result<(), Raised>> {
        Ok(self.send("cast", call).await?.map(drop))
    }

    /// Everything that the endpoints of this process received so far, in order.
    ///
    /// # Errors
    ///
    /// When the process fails.
    pub async fn received(&self) -> io::Result<Vec<Received>> {
        self.ask("received", json!({}), ANSWER_LIMIT).await
    }

    /// Waits until endpoints have received `count` requests for `method`, and returns them (or more).
    ///
    /// # Errors
    ///
    /// `TimedOut`, with what came instead, when there are fewer after `limit`.
    pub async fn wait_for_received(
        &self,
        method: &str,
        count: usize,
        limit: Duration,
    ) -> io::Result<Vec<Received>> {
        let arguments = json!({"method": method, "count": count, "seconds": limit.as_secs_f64()});
        let received: Vec<Received> = self
            .ask("wait_received", arguments, limit + ANSWER_LIMIT)
            .await?;
        if received.len() < count {
            let text = format!(
                "{} of {count} requests for {method} after {limit:?}: {received:?}",
                received.len()
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(received)
    }

    /// Stops all servers and closes all connections of the process in good order.
    ///
    /// # Errors
    ///
    /// When oslo.messaging raises.
    pub async fn close(self) -> io::Result<()> {
        self.ask("close", json!({}), ANSWER_LIMIT).await
    }

    /// Performs any operation of `interop/peer.py` and reads its value.
    ///
    /// # Errors
    ///
    /// With Python's text when the operation fails, `TimedOut` when `limit` passes.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        op: &str,
        arguments: Value,
        limit: Duration,
    ) -> io::Result<T> {
        let answer = self.request(op, arguments, limit).await?;
        match answer.raised {
            Some(raised) => Err(io::Error::other(format!("{op}: {raised:?}"))),
            None => Ok(serde_json::from_value(answer.value)?),
        }
    }

    async fn send(&self, verb: &str, call: &Call) -> io::Result<Result<Returned, Raised>> {
        #[derive(Deserialize)]
        struct Reply {
            result: Value,
            result_json: String,
            elapsed: f64,
        }
        let answer = self
            .request(verb, call.arguments(), call.limit() + ANSWER_LIMIT)
            .await?;
        if let Some(raised) = answer.raised {
            return Ok(Err(raised));
        }
        let reply: Reply = serde_json::from_value(answer.value)?;
        let elapsed = Duration::try_from_secs_f64(reply.elapsed).map_err(io::Error::other)?;
        Ok(Ok(Returned {
            value: reply.result,
            json: reply.result_json,
            elapsed,
        }))
    }

    async fn request(&self, op: &str, arguments: Value, limit: Duration) -> io::Result<Answer> {
        let id = self.desk.next.fetch_add(1, Ordering::Relaxed);
        let answer = self.desk.expect(id);
        let mut line = arguments;
        line["id"] = id.into();
        line["op"] = op.into();
        self.write(&line).await?;
        self.answer(op, answer, limit).await
    }

    async fn write(&self, line: &Value) -> io::Result<()> {
        let text = format!("{line}\n");
        let mut input = self.input.lock().await;
        input
            .write_all(text.as_bytes())
            .await
            .map_err(|error| self.desk.error(&error.to_string()))
    }

    async fn answer(
        &self,
        op: &str,
        answer: oneshot::Receiver<Answer>,
        limit: Duration,
    ) -> io::Result<Answer> {
        match timeout(limit, answer).await {
            Err(_) => Err(self
                .desk
                .error(&format!("{op}: no answer within {limit:?}"))),
            Ok(Err(_)) => Err(self
                .desk
                .error(&format!("{op}: the process ended or was not understood"))),
            Ok(Ok(Answer {
                fault: Some(fault), ..
            })) => Err(io::Error::other(format!("{op}: {fault}"))),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

impl Desk {
    fn expect(&self, id: u64) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        unpoisoned(&self.waiting).insert(id, sender);
        receiver
    }

    /// `text` with what the process printed last.
    fn error(&self, text: &str) -> io::Error {
        let printed: Vec<String> = unpoisoned(&self.printed).iter().cloned().collect();
        io::Error::other(format!("Python peer: {text}\n{}", printed.join("\n")))
    }
}

/// The maps stay whole between any two operations on them, so a panic elsewhere does not spoil them.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read_answers(output: impl AsyncRead + Unpin, desk: Arc<Desk>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer: Answer = match serde_json::from_str(&line) {
            Ok(answer) => answer,
            Err(error) => {
                desk.error_line(format!("not an answer ({error}): {line}"));
                break;
            }
        };
        if let Some(waiter) = unpoisoned(&desk.waiting).remove(&answer.id) {
            let _ = waiter.send(answer);
        }
    }
    // Nothing will be answered any more: those who wait are told at once.
    unpoisoned(&desk.waiting).clear();
}

async fn read_errors(errors: impl AsyncRead + Unpin, desk: Arc<Desk>) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        desk.error_line(line);
    }
}

impl Desk {
    fn error_line(&self, line: String) {
        let mut printed = unpoisoned(&self.printed);
        if printed.len() == KEPT_LINES {
            printed.pop_front();
        }
        printed.push_back(line);
    }
}

fn interpreter() -> Option<PathBuf> {
    std::env::var_os(PYTHON_VARIABLE)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn interop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../interop")
        .join(name)
}
