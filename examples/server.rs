//! A service: `cargo run --example server -- rabbit://guest:guest@127.0.0.1:5672/`
//!
//! Stops in good order on SIGINT and SIGTERM. `client.rs` is its counterpart.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;

use oslo_messaging::{Context, RpcServer, Target, endpoint, shutdown_signal};

#[derive(Default)]
struct Inventory {
    stock: Mutex<HashMap<String, u32>>,
}

#[endpoint(namespace = "inventory", version = "1.1")]
impl Inventory {
    /// Adds to what is there; returns how much there is now.
    async fn add(&self, ctx: &Context, item: String, #[default = 1] count: u32) -> u32 {
        let user: Option<String> = ctx.get("user").and_then(Result::ok);
        println!("{user:?} adds {count} × {item}");
        let mut stock = self.stock.lock().expect("no holder of this lock panics");
        let amount = stock.entry(item).or_default();
        *amount += count;
        *amount
    }

    fn count(&self, item: &str) -> Option<u32> {
        self.stock
            .lock()
            .expect("no holder of this lock panics")
            .get(item)
            .copied()
    }
}

pub(crate) async fn serve(
    url: &str,
    until: impl Future<Output = ()>,
) -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect(url).await?;
    let target = Target::topic("inventory").server("store-1");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Inventory::default())
        .start()
        .await?;
    println!("serving");
    server.run_until(until).await?;
    transport.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> oslo_messaging::Result<()> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory://example".to_owned());
    serve(&url, shutdown_signal()).await
}
