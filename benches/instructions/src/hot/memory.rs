//! Whole ways through a process on the memory bus: calls, casts, what a server does alone, notifications.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{
    BoxFuture, Delivery, Destination, Driver, Inbox, Listener, ListenerEvent, Outgoing,
    Subscription,
};
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcClient, RpcServer,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::{CallHead, MsgId, RequestHead, UniqueId, encode_request};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::{HotPath, Work};

const ROUND: u64 = 512;

pub(super) fn hot_paths() -> Vec<HotPath> {
    let path = |name, prepare| HotPath {
        name,
        operations: ROUND,
        prepare,
    };
    vec![
        path("memory/call/1-at-once", || calls(1)),
        path("memory/call/16-at-once", || calls(16)),
        path("memory/cast", casts),
        path("memory/bus-alone", bus),
        path("server/call", || served(true)),
        path("server/cast", || served(false)),
    ]
}

/// Answers with what it got, and counts.
struct Echo(Arc<AtomicU64>);

#[derive(Serialize, Deserialize)]
struct Value<'a> {
    value: &'a str,
}

impl Endpoint for Echo {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        (name == "echo").then(MethodInfo::new)
    }

    fn call<'a>(
        &'a self,
        _: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            self.0.fetch_add(1, Ordering::Relaxed);
            call.respond(call.parse_args::<Value<'_>>()?.value)
        })
    }
}

/// A server and what reaches it, on one thread. Captured whole by the work, so that the server lives as long.
struct Place {
    runtime: Runtime,
    driver: Arc<MemoryDriver>,
    client: RpcClient,
    handled: Arc<AtomicU64>,
    _server: RpcServer,
}

impl Place {
    fn new() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
        let transport = Transport::new(
            Arc::clone(&driver) as Arc<dyn Driver>,
            TransportOptions::default(),
        );
        let handled = Arc::new(AtomicU64::new(0));
        let start = RpcServer::builder(transport.clone(), Target::topic("t").server("s"))
            .endpoint(Echo(Arc::clone(&handled)))
            .start();
        let server = runtime
            .block_on(start)
            .expect("the memory driver takes every subscription");
        let client = RpcClient::new(transport, Target::topic("t"));
        Self {
            runtime,
            driver,
            client,
            handled,
            _server: server,
        }
    }

    /// Lets the server work until it has handled all.
    fn wait_for(&self, handled: u64) {
        self.runtime.block_on(async {
            while self.handled.load(Ordering::Relaxed) < handled {
                tokio::task::yield_now().await;
            }
        });
    }
}

fn context() -> Context {
    let mut context = Context::new();
    context
        .insert("user", "alice")
        .expect("text has a JSON form");
    context
}

fn calls(at_once: u64) -> Work {
    let (place, context, text) = (Place::new(), context(), "x".repeat(100));
    Box::new(move || {
        let place = &place;
        place.runtime.block_on(async {
            let caller = || async {
                for _ in 0..ROUND / at_once {
                    let answer =
                        place
                            .client
                            .call::<_, String>(&context, "echo", Value { value: &text });
                    assert_eq!(answer.await.expect("the echo answers").len(), 100);
                }
            };
            join_all((0..at_once).map(|_| caller())).await;
        });
    })
}

fn casts() -> Work {
    let (place, context, text, mut sent) = (Place::new(), context(), "x".repeat(100), 0);
    Box::new(move || {
        let place = &place;
        place.runtime.block_on(async {
            for _ in 0..ROUND {
                let cast = place.client.cast(&context, "echo", Value { value: &text });
                cast.await.expect("memory takes a message");
            }
        });
        sent += ROUND;
        place.wait_for(sent);
    })
}

/// Counts what arrives.
struct Counting(AtomicU64);

impl Inbox for Counting {
    fn deliver(&self, delivery: Delivery) {
        delivery.ack();
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

async fn reply_queue(driver: &MemoryDriver) -> (Arc<Counting>, Box<dyn Listener>) {
    let counting = Arc::new(Counting(AtomicU64::new(0)));
    let inbox = Arc::clone(&counting) as Arc<dyn Inbox>;
    let listener = driver.listen(Subscription::Replies, inbox).await;
    (
        counting,
        listener.expect("the memory driver takes every subscription"),
    )
}

async fn send(driver: &MemoryDriver, destination: Destination<'_>, body: Bytes) {
    driver
        .send(Outgoing::new(destination, body))
        .await
        .expect("memory takes a message");
}

fn bus() -> Work {
    let place = Place::new();
    let (_, listener) = place.runtime.block_on(reply_queue(&place.driver));
    let body = Bytes::from_static(&[b'x'; 100]);
    Box::new(move || {
        let (place, queue) = (&place, listener.address().expect("reply queues have names"));
        place.runtime.block_on(async {
            for _ in 0..ROUND {
                send(&place.driver, Destination::Reply { queue }, body.clone()).await;
            }
        });
    })
}

/// A server alone: requests that are written beforehand, and replies that nobody reads.
fn served(calls: bool) -> Work {
    let place = Place::new();
    let (counting, listener) = place.runtime.block_on(reply_queue(&place.driver));
    let queue = listener
        .address()
        .expect("reply queues have names")
        .to_owned();
    let text = "x".repeat(100);
    let mut requests =
        (1u128..).map(move |number| request(number, calls.then_some(&*queue), &text));
    let (mut next, mut sent) = (
        requests
            .by_ref()
            .take(2 * ROUND as usize)
            .collect::<Vec<_>>(),
        0,
    );
    Box::new(move || {
        let (place, _listening) = (&place, &listener);
        let bodies = next.split_off(next.len() - ROUND as usize);
        place.runtime.block_on(async {
            for body in bodies {
                send(
                    &place.driver,
                    Destination::Topic {
                        exchange: None,
                        topic: "t",
                    },
                    body,
                )
                .await;
            }
        });
        sent += ROUND;
        place.wait_for(sent);
        if calls {
            place.runtime.block_on(async {
                while counting.0.load(Ordering::Relaxed) < sent {
                    tokio::task::yield_now().await;
                }
            });
        }
    })
}

fn request(number: u128, reply_q: Option<&str>, text: &str) -> Bytes {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let call = reply_q.map(|reply_q| CallHead {
        msg_id: MsgId::from_random(spread),
        reply_q,
        monitor: None,
        deadline: None,
        cancellable: false,
    });
    let head = RequestHead {
        method: "echo",
        namespace: None,
        version: None,
        call,
        unique_id: UniqueId::from_random(!spread),
    };
    encode_request(&head, &Value { value: text }, &context())
        .expect("plain structs have a JSON form")
}
