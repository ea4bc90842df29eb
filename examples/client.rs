//! A caller of `server.rs`: `cargo run --example client -- rabbit://guest:guest@127.0.0.1:5672/`

use std::collections::HashMap;
use std::time::Duration;

use oslo_messaging::{Context, RpcClient, Target};
use serde::Serialize;

#[derive(Serialize)]
struct Add<'a> {
    item: &'a str,
    count: u32,
}

pub(crate) async fn call(url: &str) -> oslo_messaging::Result<u32> {
    let transport = oslo_messaging::connect(url).await?;
    let target = Target::topic("inventory")
        .namespace("inventory")
        .version("1.1");
    let client = RpcClient::new(transport.clone(), target).timeout(Duration::from_secs(5));

    let mut ctx = Context::new();
    ctx.insert("user", "alice")
        .expect("a string can always be sent");

    // Any server of the topic; waits for the result.
    let (item, count) = ("bolt", 3);
    let amount: u32 = client.call(&ctx, "add", Add { item, count }).await?;
    // One server by name; nobody waits for a result.
    let (item, count) = ("nut", 1);
    let store = client.prepare().server("store-1");
    store.cast(&ctx, "add", Add { item, count }).await?;
    let washer = HashMap::from([("item", "washer")]);
    let none: Option<u32> = client.call(&ctx, "count", washer).await?;
    println!("{amount} bolts, {none:?} washers");

    transport.close().await;
    Ok(amount)
}

#[tokio::main]
async fn main() -> oslo_messaging::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "rabbit://guest:guest@127.0.0.1:5672/".to_owned());
    call(&url).await.map(|_| ())
}
