//! One cast that every server of a topic gets.

use std::collections::HashMap;

use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};
use tokio::sync::mpsc;

struct Cache {
    name: &'static str,
    heard: mpsc::Sender<&'static str>,
}

#[endpoint(version = "1.0")]
impl Cache {
    async fn forget(&self, key: String) {
        println!("{} forgets {key}", self.name);
        // The receiver may be gone already when the program ends.
        let _ = self.heard.send(self.name).await;
    }
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://fanout").await?;
    let (heard, mut all) = mpsc::channel(3);
    let mut servers = Vec::new();
    for name in ["cache-1", "cache-2", "cache-3"] {
        let target = Target::topic("cache").server(name);
        let cache = Cache {
            name,
            heard: heard.clone(),
        };
        servers.push(
            RpcServer::builder(transport.clone(), target)
                .endpoint(cache)
                .start()
                .await?,
        );
    }

    let client = RpcClient::new(transport, Target::topic("cache").fanout(true));
    client
        .cast(
            &Context::new(),
            "forget",
            HashMap::from([("key", "node-7")]),
        )
        .await?;

    for _ in 0..servers.len() {
        all.recv().await;
    }
    for server in servers {
        server.stop().await;
    }
    Ok(())
}
