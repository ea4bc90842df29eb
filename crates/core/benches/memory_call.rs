//! Calls over the memory driver: one caller, and sixteen at once.
//!
//! `cargo bench -p oslo-messaging-core`. One call encodes and decodes both envelopes, is acknowledged,
//! dispatched and answered; nothing leaves the process.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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
use tokio::runtime::Builder;

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
        Box::pin(async move {
            let args: Value<'_> = call.parse_args()?;
            call.respond(args.value)
        })
    }
}

fn memory_calls(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    let transport = Transport::new(driver, TransportOptions::default());
    let target = Target::topic("t").server("s");
    let start = RpcServer::builder(transport.clone(), target)
        .endpoint(Echo)
        .start();
    let server = runtime
        .block_on(start)
        .expect("the memory driver takes every subscription");
    let client = RpcClient::new(transport, Target::topic("t"));
    let (context, text) = (Context::new(), "x".repeat(100));
    let call = || client.call::<_, String>(&context, "echo", Value { value: &text });
    let mut group = criterion.benchmark_group("memory call, 100 B");
    for callers in [1, 16] {
        group.throughput(Throughput::Elements(callers));
        group.bench_function(format!("C={callers}"), |bench| {
            bench.to_async(&runtime).iter(|| async {
                let calls = (0..callers).map(|_| call());
                for result in futures_util::future::join_all(calls).await {
                    assert_eq!(result.expect("the echo answers").len(), 100);
                }
            });
        });
    }
    group.finish();
    runtime.block_on(server.stop());
}

criterion_group!(benches, memory_calls);
criterion_main!(benches);
