//! Clients typed by a trait, at work.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "macros")]

use std::sync::Mutex;
use std::time::Duration;

use oslo_messaging::{
    Context, Error, ErrorKind, RpcClient, RpcServer, Target, Transport, client, endpoint,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

static FORGOTTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
static FORGETS: Semaphore = Semaphore::const_new(0);

struct Conductor;

#[endpoint(namespace = "conductor", version = "1.4")]
impl Conductor {
    fn ping(&self, ctx: &Context, host: String) -> (String, Option<String>) {
        (host, ctx.get::<String>("user").and_then(Result::ok))
    }

    fn list(&self, #[default = Some(2)] limit: Option<usize>) -> Option<usize> {
        limit
    }

    fn fail(&self) -> Result<(), String> {
        Err("on purpose".to_owned())
    }

    fn forget(&self, host: String) {
        FORGOTTEN.lock().unwrap().push(host);
        FORGETS.add_permits(1);
    }

    #[rpc(name = "object-action")]
    fn action(&self, r#type: u8) -> u8 {
        r#type
    }

    async fn slow(&self) {
        std::future::pending().await
    }
}

#[derive(Debug, PartialEq)]
enum Trouble {
    Remote(String),
    Other(ErrorKind),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error.remote() {
            Some(remote) => Self::Remote(remote.message().to_owned()),
            None => Self::Other(error.kind()),
        }
    }
}

#[client(namespace = "conductor", version = "1.3")]
trait Api {
    async fn ping(&self, host: &str) -> (String, Option<String>);
    async fn list(&self, limit: Option<usize>) -> Option<usize>;
    #[rpc(name = "list")]
    async fn list_by_default(&self, #[optional] limit: Option<usize>) -> Option<usize>;
    async fn fail(&self) -> Result<(), Trouble>;
    /// What comes back is of no interest.
    #[rpc(name = "ping")]
    async fn ignored(&self, host: &str);
    #[cast]
    async fn forget(&self, host: &str);
    #[fanout]
    #[rpc(name = "forget")]
    async fn forget_everywhere(&self, host: &str);
    #[rpc(name = "object-action")]
    async fn action(&self, context: &Context, r#type: u8) -> u8;
    #[timeout(0.5)]
    async fn slow(&self) -> Result<(), Trouble>;
    #[rpc(name = "ping", version = "1.9")]
    async fn newer(&self, host: &str);
}

async fn stage(name: &str) -> (Transport, RpcServer, ApiClient) {
    let transport = oslo_messaging::connect(format!("memory://{name}"))
        .await
        .unwrap();
    let builder = RpcServer::builder(transport.clone(), Target::topic("t").server("s"));
    let server = builder.endpoint(Conductor).start().await.unwrap();
    let api = ApiClient::new(RpcClient::new(transport.clone(), Target::topic("t")));
    (transport, server, api)
}

#[tokio::test]
async fn calls_carry_arguments_by_name_and_the_context_and_give_typed_results() {
    let (_transport, _server, api) = stage("typed-calls").await;
    let mut ctx = Context::new();
    ctx.insert("user", "alice").unwrap();
    let pong = api.ping(&ctx, "node-7").await.unwrap();
    assert_eq!(pong, ("node-7".to_owned(), Some("alice".to_owned())));
    assert_eq!(api.action(&ctx, 3).await.unwrap(), 3);
    api.ignored(&ctx, "x").await.unwrap();
    assert_eq!(api.list(&ctx, None).await.unwrap(), None, "a null is sent");
    assert_eq!(
        api.list_by_default(&ctx, None).await.unwrap(),
        Some(2),
        "nothing is sent"
    );
    assert_eq!(api.list_by_default(&ctx, Some(9)).await.unwrap(), Some(9));
}

#[tokio::test]
async fn casts_and_fanouts_and_variations_go_where_they_should() {
    let (_transport, _server, api) = stage("typed-casts").await;
    let ctx = Context::new();
    api.forget(&ctx, "one").await.unwrap();
    api.prepare(|client| client.server("s"))
        .forget(&ctx, "two")
        .await
        .unwrap();
    api.forget_everywhere(&ctx, "all").await.unwrap();
    let three = timeout(Duration::from_secs(20), FORGETS.acquire_many(3)).await;
    three.expect("all three come").unwrap().forget();
    let mut forgotten = FORGOTTEN.lock().unwrap().clone();
    forgotten.sort();
    assert_eq!(forgotten, ["all", "one", "two"]);
    let nobody = api.prepare(|client| client.server("other").at_least_once(true));
    let error = nobody.forget(&ctx, "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
}

#[tokio::test(start_paused = true)]
async fn errors_become_those_of_the_trait_and_timeouts_and_versions_are_the_methods_own() {
    let (_transport, _server, api) = stage("typed-errors").await;
    let ctx = Context::new();
    let trouble = api.fail(&ctx).await.unwrap_err();
    assert_eq!(trouble, Trouble::Remote("on purpose".to_owned()));
    let before = Instant::now();
    let trouble = api.slow(&ctx).await.unwrap_err();
    assert_eq!(
        (trouble, before.elapsed().as_millis()),
        (Trouble::Other(ErrorKind::Timeout), 500)
    );
    let error = api.newer(&ctx, "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(api.client().target().version_text(), Some("1.3"));
}
