//! A slow method and an impatient caller: the call monitor tells "slow" from "gone".
//!
//! The call may take ten minutes, but fails as soon as nothing was heard of the server for two seconds.

use std::time::Duration;

use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};

struct Migration;

#[endpoint]
impl Migration {
    /// The server shows every second that it is still at it.
    async fn migrate(&self, seconds: u64) -> &'static str {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        "done"
    }
}

#[derive(serde::Serialize)]
struct Migrate {
    seconds: u64,
}

pub(crate) async fn run(seconds: u64) -> oslo_messaging::Result<String> {
    let transport = oslo_messaging::connect("memory://call-monitor").await?;
    let target = Target::topic("migration").server("host-1");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Migration)
        .start()
        .await?;

    let client = RpcClient::new(transport, Target::topic("migration"))
        .timeout(Duration::from_secs(600))
        .call_monitor_timeout(Duration::from_secs(2));
    let answer: String = client
        .call(&Context::new(), "migrate", Migrate { seconds })
        .await?;
    println!("{answer}");

    server.stop().await;
    Ok(answer)
}

#[tokio::main]
async fn main() -> oslo_messaging::Result<()> {
    run(3).await.map(|_| ())
}
