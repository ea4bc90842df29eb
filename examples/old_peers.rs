//! Callers of Kilo and Liberty: `cargo run --example old_peers -- rabbit://guest:guest@127.0.0.1:5672/`
//!
//! They want a reply in two messages. Which form arrives needs no option.

use std::collections::HashMap;

use oslo_messaging::{ConnectOptions, Context, ReplyStyle, RpcClient, RpcServer, Target, endpoint};

struct Adder;

#[endpoint]
impl Adder {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

pub(crate) async fn run(url: &str) -> oslo_messaging::Result<i64> {
    // In a URL: ?reply_style=two-part
    let mut options = ConnectOptions::default();
    options.transport.reply_style = ReplyStyle::TwoPart;
    let old = oslo_messaging::connect_with(url, options).await?;
    let server = RpcServer::builder(old.clone(), Target::topic("old").server("one"));
    let server = server.endpoint(Adder).start().await?;

    let new = oslo_messaging::connect(url).await?;
    let client = RpcClient::new(new.clone(), Target::topic("old"));
    let args = HashMap::from([("a", 2), ("b", 3)]);
    let sum = client.call(&Context::new(), "add", args).await?;
    server.stop().await;
    old.close().await;
    new.close().await;
    Ok(sum)
}

#[tokio::main]
async fn main() -> oslo_messaging::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory://old-peers".to_owned());
    println!("{}", run(&url).await?);
    Ok(())
}
