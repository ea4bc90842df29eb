//! All that a trait of a typed client may hold.
use std::time::Duration;

use oslo_messaging::{Context, RpcClient, client};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Node<'a> {
    name: &'a str,
}

#[derive(Debug)]
struct Gone;

impl From<oslo_messaging::Error> for Gone {
    fn from(_: oslo_messaging::Error) -> Self {
        Self
    }
}

const LIMIT: Duration = Duration::from_secs(3);
const NAMESPACE: &str = "all";

/// The interface.
#[client(namespace = NAMESPACE, version = "1.2")]
pub(crate) trait All {
    /// Nothing comes back.
    async fn nothing(&self);

    async fn value(&self, host: &str, ids: &[u64], node: Node<'_>, r#type: u8) -> Vec<String>;

    async fn own_error(&self, name: String) -> Result<bool, Gone>;

    async fn usual_error(&self) -> oslo_messaging::Result<bool>;

    async fn named(&self, context: &Context, client: u8, arguments: u8) -> u8;

    #[cast]
    async fn forget(&self, host: &str);

    #[fanout]
    async fn forget_all(&self) -> Result<(), Gone>;

    #[timeout(5)]
    async fn five(&self);

    #[timeout(0.5)]
    #[rpc(idempotent, version = "1.1")]
    async fn half(&self);

    #[timeout(LIMIT)]
    #[rpc(name = "object-class.action")]
    async fn three(&self, #[optional] marker: Option<u8>);

    #[cfg(any())]
    async fn never(&self) -> Missing;
}

#[client]
trait Bare {}

fn is_send(_: impl Send) {}

fn all(client: RpcClient, ctx: &Context) {
    let all = AllClient::new(client.clone());
    is_send(all.value(ctx, "h", &[1], Node { name: "n" }, 1));
    is_send(all.own_error(ctx, String::new()));
    is_send(all.clone().prepare(|client| client.server("s")).forget_all(ctx));
    let _ = (all.nothing(ctx), all.usual_error(ctx), all.named(ctx, 1, 2), all.forget(ctx, "h"));
    let _ = (all.five(ctx), all.half(ctx), all.three(ctx, None));
    let _ = BareClient::new(client).client();
}

fn main() {
    let _ = all;
}
