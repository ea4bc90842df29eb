//! What calls and casts cost in allocations over the memory driver: both sides together, and a server alone. A file of
//! its own, since it replaces the allocator; each test counts what its own thread allocates.

#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Destination, Driver, Outgoing};
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcClient, RpcServer,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::{CallHead, MsgId, RequestHead, UniqueId, encode_request};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

struct Echo;

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
        Box::pin(async move { call.respond(call.parse_args::<Value<'_>>()?.value) })
    }
}

const CALLS: u64 = 1_000;
/// Of both sides and of the driver between them.
const MOST: u64 = 12;
/// Of a server that takes a request, runs its method and hands the reply to the driver.
const MOST_SERVED: u64 = 12;
/// Bytes that the future of a call has, which its caller's task holds while it waits.
const MOST_BYTES: usize = 416;

/// Bytes of a server's memory that a request holds while its handler runs, beyond what came from the driver.
const MOST_HELD: i64 = 2_100;

/// Begins, and waits until it may end.
#[derive(Clone, Default)]
struct Holding {
    begun: Arc<AtomicU64>,
    release: Arc<Notify>,
}

impl Endpoint for Holding {
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
            let released = self.release.notified();
            self.begun.fetch_add(1, Ordering::Relaxed);
            released.await;
            call.respond("done")
        })
    }
}

#[test]
fn a_request_that_its_handler_holds_is_small() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
    let transport = Transport::new(
        Arc::clone(&driver) as Arc<dyn Driver>,
        TransportOptions::default(),
    );
    let holding = Holding::default();
    let start = RpcServer::builder(transport, Target::topic("t").server("s"))
        .endpoint(holding.clone())
        .concurrency(NonZeroUsize::new(2 * CALLS as usize).unwrap())
        .start();
    let server = runtime.block_on(start).unwrap();
    let reply_q = Some("reply_84f4bc134c804c66aca224453c47e48b");
    let mut bodies: Vec<_> = (1..=2 * CALLS)
        .map(|n| request(n.into(), reply_q))
        .collect();
    let mut hold = || {
        let requests = bodies.split_off(bodies.len() - CALLS as usize);
        let until = holding.begun.load(Ordering::Relaxed) + CALLS;
        runtime.block_on(async {
            for body in requests {
                let to = Destination::Topic {
                    exchange: None,
                    topic: "t",
                };
                driver.send(Outgoing::new(to, body)).await.unwrap();
                tokio::task::yield_now().await;
            }
            while holding.begun.load(Ordering::Relaxed) < until {
                tokio::task::yield_now().await;
            }
        });
    };
    // Tables grow by leaps: the first requests make room for more.
    hold();
    let held = allocation_counter::measure(hold).bytes_current / CALLS as i64;
    println!("{held} bytes a request");
    assert!(
        held <= MOST_HELD,
        "a request holds {held} bytes, at most {MOST_HELD} were agreed on"
    );
    holding.release.notify_waiters();
    runtime.block_on(server.stop());
}

/// A server alone: what it takes to run a method for each of these requests.
fn allocations_of_a_server(reply_q: Option<&str>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
    let transport = Transport::new(
        Arc::clone(&driver) as Arc<dyn Driver>,
        TransportOptions::default(),
    );
    let start = RpcServer::builder(transport, Target::topic("t").server("s"))
        .endpoint(Echo)
        .start();
    let server = runtime.block_on(start).unwrap();
    let mut bodies: Vec<_> = (1..=2 * CALLS)
        .map(|n| request(n.into(), reply_q))
        .collect();
    let mut round = || {
        let requests = bodies.split_off(bodies.len() - CALLS as usize);
        runtime.block_on(async {
            let before = server.stats().served;
            for body in requests {
                let to = Destination::Topic {
                    exchange: None,
                    topic: "t",
                };
                driver.send(Outgoing::new(to, body)).await.unwrap();
                tokio::task::yield_now().await;
            }
            while server.stats().served < before + CALLS {
                tokio::task::yield_now().await;
            }
        });
    };
    round();
    let counted = allocation_counter::measure(round).count_total;
    runtime.block_on(server.stop());
    counted / CALLS
}

fn request(number: u128, reply_q: Option<&str>) -> Bytes {
    let call = reply_q.map(|reply_q| CallHead {
        msg_id: MsgId::from_random(number),
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
        unique_id: UniqueId::from_random(!number),
    };
    encode_request(&head, &Value { value: "v" }, &Context::new()).unwrap()
}

#[test]
fn a_server_allocates_little_for_a_request() {
    for reply_q in [None, Some("reply_84f4bc134c804c66aca224453c47e48b")] {
        let each = allocations_of_a_server(reply_q);
        println!(
            "{each} allocations per request, to be answered: {}",
            reply_q.is_some()
        );
        assert!(
            each <= MOST_SERVED,
            "{each} allocations per request, at most {MOST_SERVED} were agreed on"
        );
    }
}

#[test]
fn a_call_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    let transport = Transport::new(driver, TransportOptions::default());
    let target = Target::topic("t").server("s");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Echo)
        .start();
    let server = runtime.block_on(server).unwrap();
    let client = RpcClient::new(transport, Target::topic("t"));
    let mut context = Context::new();
    context.insert("user", "alice").unwrap();
    let text = "x".repeat(100);
    let call = || client.call::<_, String>(&context, "echo", Value { value: &text });
    let calls = || {
        runtime.block_on(async {
            for _ in 0..CALLS {
                call().await.unwrap();
            }
        });
    };
    calls();
    // One thread runs the caller, the driver, the handler and the reaper.
    let counted = allocation_counter::measure(calls);
    let each = counted.count_total / CALLS;
    println!(
        "{each} allocations per call; the future of a call has {} bytes",
        std::mem::size_of_val(&call())
    );
    assert!(
        each <= MOST,
        "{each} allocations per call, at most {MOST} were agreed on"
    );
    runtime.block_on(server.stop());
}

#[test]
fn a_call_in_flight_is_small() {
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    let transport = Transport::new(driver, TransportOptions::default());
    let client = RpcClient::new(transport, Target::topic("t"));
    let context = Context::new();
    let call = client.call::<_, String>(&context, "echo", Value { value: "v" });
    let bytes = std::mem::size_of_val(&call);
    println!("{bytes} bytes");
    assert!(
        bytes <= MOST_BYTES,
        "the future of a call has {bytes} bytes, at most {MOST_BYTES} were agreed on"
    );
}
