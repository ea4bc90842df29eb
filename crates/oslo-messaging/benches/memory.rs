//! A round trip on the memory bus: encode, route, dispatch, run, reply, decode.
//!
//! `cargo bench -p oslo-messaging --bench memory`. One worker thread, as a server with light handlers
//! has it; the time per call at 16 at once is the processor time per call.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

struct Echo;

#[endpoint]
impl Echo {
    fn echo(&self, text: String) -> String {
        text
    }
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

const TEXT: &str = "one hundred bytes of text are about what a short request carries, and so that is what is sent he";

async fn client(name: &str) -> (RpcServer, RpcClient) {
    let transport = oslo_messaging::connect(format!("memory://{name}"))
        .await
        .expect("the URL is right");
    let target = Target::topic("bench").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Echo)
        .start()
        .await;
    (
        server.expect("memory lets us serve"),
        RpcClient::new(transport, Target::topic("bench")),
    )
}

async fn call(client: &RpcClient, context: &Context) {
    let answer: String = client
        .call(context, "echo", Text { text: TEXT })
        .await
        .expect("the server answers");
    assert_eq!(answer.len(), TEXT.len());
}

/// `calls` calls by `callers` at once.
async fn load(client: &RpcClient, callers: u64, calls: u64) {
    let each = calls.div_ceil(callers);
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let context = Context::new();
                for _ in 0..each {
                    call(&client, &context).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(5));
    for callers in [1, 16] {
        let runtime = runtime();
        let (_server, client) = runtime.block_on(client(&format!("bench-{callers}")));
        group.bench_function(format!("call, {callers} at once"), |bencher| {
            bencher.iter_custom(|calls| {
                let started = std::time::Instant::now();
                runtime.block_on(load(&client, callers, calls));
                started.elapsed()
            });
        });
        runtime.block_on(async { drop(_server) });
    }
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
