//! What the cases serve and call: handlers that tell that they ran, some held by a gate, and clients of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Destination, Outgoing};
use oslo_messaging_core::error::{RemoteError, Result};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcClient, RpcServer, RpcServerBuilder,
};
use oslo_messaging_core::transport::Transport;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::target::Target;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

use crate::conformance::{A_WHILE, SOON};

/// What they are called by.
const TOPIC: &str = "conformance";

/// What the handlers of a case share: a record of what ran, and a gate that holds some of them.
pub(super) struct Probe {
    name: String,
    ran: UnboundedSender<String>,
    gate: Arc<Semaphore>,
}

/// The other end of one or several probes.
pub(super) struct Watch {
    ran: Mutex<UnboundedReceiver<String>>,
    sender: UnboundedSender<String>,
    pub(super) gate: Arc<Semaphore>,
}

impl Watch {
    pub(super) fn new() -> Self {
        // Unbounded: a case runs some hundred handlers.
        let (sender, receiver) = unbounded_channel();
        Self {
            ran: Mutex::new(receiver),
            sender,
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    pub(super) fn probe(&self, name: &str) -> Probe {
        Probe {
            name: name.to_owned(),
            ran: self.sender.clone(),
            gate: Arc::clone(&self.gate),
        }
    }

    pub(super) fn builder(&self, transport: &Transport, name: &str) -> RpcServerBuilder {
        let target = Target::topic(TOPIC).server(name);
        RpcServer::builder(transport.clone(), target).endpoint(self.probe(name))
    }

    pub(super) async fn serve(&self, transport: &Transport, name: &str) -> RpcServer {
        self.builder(transport, name)
            .start()
            .await
            .expect("the bus lets us serve")
    }

    /// The next thing that ran, as `server:what`.
    pub(super) async fn next(&self) -> String {
        let next = timeout(SOON, async { self.ran.lock().await.recv().await }).await;
        next.expect("a handler runs")
            .expect("this holds a sender itself")
    }

    pub(super) async fn assert_nothing_runs(&self) {
        let next = timeout(A_WHILE, async { self.ran.lock().await.recv().await }).await;
        assert!(next.is_err(), "ran although it should not: {next:?}");
    }
}

impl Endpoint for Probe {
    fn interface(&self) -> Interface {
        Interface::new().version("1.3")
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        [
            "echo", "who", "note", "hold", "fail", "panic", "user", "slow",
        ]
        .contains(&name)
        .then(MethodInfo::new)
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        mut call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            match call.method() {
                "echo" => {
                    let value: Value = call.take("value")?;
                    call.respond(&value)
                }
                "note" => {
                    let value: String = call.take("value")?;
                    self.note(&value);
                    call.respond(&())
                }
                "hold" => {
                    let value: String = call.take("value")?;
                    self.note(&value);
                    let _pass = self.gate.acquire().await;
                    call.respond(&value)
                }
                "slow" => {
                    sleep(Duration::from_millis(3_500)).await;
                    call.respond("slow")
                }
                "user" => call.respond(&ctx.raw("user")),
                "fail" => Err(failure()),
                "panic" => panic!("this handler panics on purpose"),
                _ => call.respond(&self.name),
            }
        })
    }
}

impl Probe {
    fn note(&self, what: &str) {
        // A case that is over takes no more notes.
        let _ = self.ran.send(format!("{}:{what}", self.name));
    }
}

pub(super) fn failure() -> RemoteError {
    let failure = RemoteError::new("Überlauf", "conformance.errors", "zu voll: 日本")
        .with_traceback(vec![
            "Traceback\n".to_owned(),
            "  line 1\n".to_owned(),
            "conformance.errors.Überlauf: zu voll: 日本\n".to_owned(),
        ])
        .with_args(&("zu voll", 7));
    let failure =
        failure.and_then(|failure| failure.with_kwargs(&BTreeMap::from([("wo", "Gefäß")])));
    failure.expect("this can be written")
}

#[derive(Serialize)]
pub(super) struct Argument<T> {
    value: T,
}

pub(super) fn value<T: Serialize>(value: T) -> Argument<T> {
    Argument { value }
}

pub(super) fn client(transport: &Transport) -> RpcClient {
    RpcClient::new(transport.clone(), Target::topic(TOPIC).version("1.0")).timeout(SOON)
}

pub(super) fn ctx() -> Context {
    Context::new()
}

/// Sends a body as it is.
pub(super) async fn send_raw(transport: &Transport, body: Bytes) {
    let to = Destination::Topic {
        exchange: None,
        topic: TOPIC,
    };
    transport
        .driver()
        .send(Outgoing::new(to, body))
        .await
        .expect("the bus takes a message");
}
