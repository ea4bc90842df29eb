//! Errors with a type: under a name a Python caller knows, and told apart by a Rust caller.

use std::borrow::Cow;
use std::collections::HashMap;

use oslo_messaging::{Context, ErrorKind, IntoFailure, RpcClient, RpcServer, Target, endpoint};

#[derive(Debug, thiserror::Error)]
#[error("no key {0}")]
struct NoKey(String);

impl IntoFailure for NoKey {
    fn class(&self) -> Cow<'_, str> {
        "KeyError".into()
    }

    // Built-in exceptions are raised as themselves by every Python caller.
    fn module(&self) -> Cow<'_, str> {
        "builtins".into()
    }
}

struct Store;

#[endpoint]
impl Store {
    fn read(&self, key: String) -> Result<i64, NoKey> {
        Err(NoKey(key))
    }
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://typed-errors").await?;
    let target = Target::topic("store").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Store)
        .start()
        .await?;

    let client = RpcClient::new(transport, Target::topic("store"));
    for method in ["read", "burn"] {
        let args = HashMap::from([("key", "a")]);
        let result = client.call::<_, i64>(&Context::new(), method, args).await;
        let error = result.expect_err("the store is empty");
        match (error.kind(), error.remote()) {
            (ErrorKind::Remote, Some(remote)) => println!("{}: {remote}", remote.class()),
            (ErrorKind::NoSuchMethod, _) => println!("the server has no {method}"),
            _ => return Err(error),
        }
    }
    server.stop().await;
    Ok(())
}
