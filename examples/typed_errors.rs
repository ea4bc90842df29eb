//! Errors with a type: real exceptions for a Python caller, the same enum for a Rust one.

use std::collections::HashMap;

use oslo_messaging::{Context, Error, RemoteError, RpcClient, RpcServer, Target, endpoint};

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "store.exception")]
enum StoreError {
    // Python: store.exception.Locked(key='…', owner='…')
    #[error("{key} is locked by {owner}")]
    Locked { key: String, owner: String },
    // Built-in exceptions are raised as themselves by every Python caller.
    #[error("no key {0}")]
    #[remote(module = "builtins", class = "KeyError")]
    NoKey(String),
    #[error(transparent)]
    #[remote(other)]
    Other(Error),
}

struct Store;

#[endpoint]
impl Store {
    fn read(&self, key: String) -> Result<i64, StoreError> {
        if key != "a" {
            return Err(StoreError::NoKey(key));
        }
        let owner = "node-7".to_owned();
        Err(StoreError::Locked { key, owner })
    }
}

async fn read(client: &RpcClient, method: &str, key: &str) -> Result<i64, StoreError> {
    let args = HashMap::from([("key", key)]);
    Ok(client.call(&Context::new(), method, args).await?)
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
    for (method, key) in [("read", "a"), ("read", "b"), ("burn", "a")] {
        match read(&client, method, key).await {
            Err(StoreError::Locked { owner, .. }) => println!("{owner} has it"),
            Err(StoreError::NoKey(key)) => println!("there is no {key}"),
            Err(StoreError::Other(error)) => println!("{:?}: {error}", error.kind()),
            Ok(value) => println!("{value}"),
        }
    }
    server.stop().await;
    Ok(())
}
