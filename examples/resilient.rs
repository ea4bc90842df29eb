//! Calls that are repeated, asked twice, cancelled and gathered: `cargo run --example resilient`

use std::collections::HashMap;
use std::time::Duration;

use oslo_messaging::rpc::hedge::Hedging;
use oslo_messaging::rpc::retry::Retrying;
use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};

struct Square;

#[endpoint]
impl Square {
    fn square(&self, n: u64) -> u64 {
        n * n
    }

    async fn never(&self) {
        std::future::pending().await
    }
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://resilient").await?;
    let target = Target::topic("square").server("host-1");
    let server = RpcServer::builder(transport.clone(), target).endpoint(Square);
    let server = server.start().await?;
    let ctx = Context::new();

    // Sent again if nobody took it, asked of a second server if the first one is slow.
    let client = RpcClient::new(transport, Target::topic("square"))
        .layer(Hedging::after(Duration::from_millis(200)))
        .layer(Retrying::new().attempts(4).each(Duration::from_secs(5)));

    // A hundred calls, sixteen at a time, all within ten seconds.
    let reads = client.prepare().idempotent(true);
    let mut batch = reads
        .batch(&ctx)
        .concurrency(16)
        .timeout(Duration::from_secs(10));
    for n in 0..100u64 {
        batch.call("square", HashMap::from([("n", n)]));
    }
    let sum: u64 = batch.run::<u64>().await.into_iter().flatten().sum();
    println!("the squares below a hundred squared are {sum}");

    // The handler ends with its caller.
    let hurried = client
        .prepare()
        .cancellable(true)
        .timeout(Duration::from_millis(200));
    hurried
        .call_raw(&ctx, "never", ())
        .await
        .expect_err("it never ends");
    while server.stats().cancelled == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
    Ok(())
}
