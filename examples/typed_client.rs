//! A client typed by a trait, and the server it calls: `cargo run --example typed_client`

use oslo_messaging::{Context, RpcClient, RpcServer, Target, client, endpoint};

struct Conductor;

#[endpoint(namespace = "conductor", version = "1.3")]
impl Conductor {
    fn ping(&self, host: String) -> bool {
        host.starts_with("node-")
    }

    fn list(&self, #[default = 2] limit: usize) -> Vec<String> {
        (1..=limit).map(|n| format!("node-{n}")).collect()
    }

    fn forget(&self, host: &str) {
        println!("{host} is forgotten");
    }
}

#[client(namespace = "conductor", version = "1.3")]
trait ConductorApi {
    /// Whether the node is alive.
    #[timeout(5)]
    #[rpc(idempotent)]
    async fn ping(&self, host: &str) -> bool;

    async fn list(&self, #[optional] limit: Option<usize>) -> Vec<String>;

    #[cast]
    async fn forget(&self, host: &str);
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://typed-client").await?;
    let target = Target::topic("conductor").server("host-1");
    let server = RpcServer::builder(transport.clone(), target).endpoint(Conductor);
    let server = server.start().await?;

    let ctx = Context::new();
    let api = ConductorApiClient::new(RpcClient::new(transport, Target::topic("conductor")));
    assert!(api.ping(&ctx, "node-7").await?);
    assert_eq!(api.list(&ctx, None).await?, ["node-1", "node-2"]);
    assert_eq!(api.list(&ctx, Some(1)).await?, ["node-1"]);
    let one = api.prepare(|client| client.server("host-1"));
    one.forget(&ctx, "node-7").await?;
    server.stop().await;
    Ok(())
}
