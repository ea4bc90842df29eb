//! The plain RPC over kombu from before oslo.messaging, server and client:
//! `cargo run --example plain_rpc -- 'rabbit://guest:guest@127.0.0.1:5672/?wire=plain'`
//!
//! A Python peer calls it as `rpc.call('sendout_request', {'method': 'add', 'args': {'v1': 2, 'v2': 3}})`.

use std::collections::HashMap;

use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};

struct Calculator;

#[endpoint]
impl Calculator {
    fn add(&self, v1: i64, v2: i64) -> i64 {
        v1 + v2
    }
}

pub(crate) async fn run(url: &str) -> oslo_messaging::Result<i64> {
    let transport = oslo_messaging::connect(url).await?;
    // Servers of a topic share its queue; their names are not on the wire.
    let target = Target::topic("sendout_request").server("any");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Calculator)
        .start()
        .await?;

    let client = RpcClient::new(transport.clone(), Target::topic("sendout_request"));
    let args = HashMap::from([("v1", 2), ("v2", 3)]);
    let sum = client.call(&Context::new(), "add", args).await?;
    server.stop().await;
    transport.close().await;
    Ok(sum)
}

#[tokio::main]
async fn main() -> oslo_messaging::Result<()> {
    // On a bus within the process there is nobody to be plain with.
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory://plain-rpc".to_owned());
    println!("{}", run(&url).await?);
    Ok(())
}
