//! neutron-l3-agent as Mitaka ran it: several endpoints on one topic, each with a namespace and version of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use oslo_messaging::{
    Context, ErrorKind, RemoteError, Result, RpcClient, RpcServer, Target, endpoint,
};
use tokio::sync::Mutex;

#[derive(Debug, thiserror::Error, RemoteError)]
#[error("Router {router_id} could not be found")]
#[remote(module = "neutron_lib.exceptions.l3")]
pub(crate) struct RouterNotFound {
    router_id: String,
}

#[derive(Default)]
pub(crate) struct L3Agent(pub(crate) Mutex<BTreeSet<String>>);

// The null namespace: what neutron-server casts names none. Acknowledged before it runs, at most once.
#[endpoint(version = "1.4")]
impl L3Agent {
    async fn routers_updated(&self, routers: Vec<String>) -> usize {
        let mut known = self.0.lock().await;
        known.extend(routers);
        known.len()
    }

    async fn router_deleted(&self, router_id: String) -> Result<(), RouterNotFound> {
        let known = self.0.lock().await.remove(&router_id);
        known.then_some(()).ok_or(RouterNotFound { router_id })
    }
}

struct Resources;

#[endpoint(
    namespace = "callbacks.resources",
    version = "1.1",
    legacy_namespaces("callbacks")
)]
impl Resources {
    fn push(&self, resource_type: &str) -> String {
        format!("took {resource_type}")
    }
}

pub(crate) async fn serve(url: &str, host: &str, agent: Arc<L3Agent>) -> Result<RpcServer> {
    let transport = oslo_messaging::connect(url).await?;
    let target = Target::topic("l3_agent").server(host);
    let builder = RpcServer::builder(transport, target);
    builder.endpoint(agent).endpoint(Resources).start().await
}

#[tokio::main]
pub(crate) async fn main() -> Result<()> {
    let agent = serve("memory://neutron", "node-1", Arc::default()).await?;
    let transport = oslo_messaging::connect("memory://neutron").await?;
    let (server, ctx) = (
        RpcClient::new(transport, Target::topic("l3_agent")),
        Context::new(),
    );

    let all = server.prepare().fanout(true).version("1.1");
    all.cast(
        &ctx,
        "routers_updated",
        HashMap::from([("routers", ["r-1"])]),
    )
    .await?;
    let resources = server
        .prepare()
        .namespace("callbacks.resources")
        .version("1.0");
    let args = HashMap::from([("resource_type", "QosPolicy")]);
    println!("{}", resources.call::<_, String>(&ctx, "push", args).await?);
    let newer = server
        .prepare()
        .version("1.5")
        .call::<_, ()>(&ctx, "routers_updated", ())
        .await;
    assert_eq!(
        newer.map_err(|error| error.kind()),
        Err(ErrorKind::UnsupportedVersion)
    );
    // What runs ends, what has not begun goes back to the bus.
    println!("{:?}", agent.stop().await);
    Ok(())
}
