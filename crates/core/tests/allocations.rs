//! What a call costs in allocations, both sides together, over the memory driver. A file of its own, since
//! it counts everything the process allocates.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{BoxFuture, Driver};
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcClient, RpcServer,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use serde::{Deserialize, Serialize};

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
const MOST: u64 = 20;

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
