//! Errors with a type: under names a Python caller knows, and told apart by a Rust caller.

use std::borrow::Cow;
use std::collections::HashMap;

use oslo_messaging::{Context, ErrorKind, IntoFailure, RpcClient, RpcServer, Target, endpoint};

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("no key {0}")]
    NoKey(String),
    #[error("the store is read-only")]
    ReadOnly,
}

impl IntoFailure for StoreError {
    fn class(&self) -> Cow<'_, str> {
        match self {
            Self::NoKey(_) => "KeyError".into(),
            Self::ReadOnly => "PermissionError".into(),
        }
    }

    // Built-in exceptions are raised as themselves by every Python caller.
    fn module(&self) -> Cow<'_, str> {
        "builtins".into()
    }
}

struct Store(HashMap<String, i64>);

#[endpoint]
impl Store {
    fn read(&self, key: String) -> Result<i64, StoreError> {
        self.0.get(&key).copied().ok_or(StoreError::NoKey(key))
    }

    fn write(&self, #[allow(unused)] key: String) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }
}

#[tokio::main]
pub(crate) async fn main() -> oslo_messaging::Result<()> {
    let transport = oslo_messaging::connect("memory://typed-errors").await?;
    let target = Target::topic("store").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Store(HashMap::new()))
        .start()
        .await?;

    let client = RpcClient::new(transport, Target::topic("store"));
    for method in ["read", "write", "burn"] {
        let result = client
            .call::<_, i64>(&Context::new(), method, HashMap::from([("key", "a")]))
            .await;
        let error = result.expect_err("the store is empty and read-only");
        match (error.kind(), error.remote()) {
            (ErrorKind::Remote, Some(remote)) => {
                println!("{} said {}", remote.class(), remote.message())
            }
            (ErrorKind::NoSuchMethod, _) => println!("the server has no {method}"),
            _ => return Err(error),
        }
    }
    server.stop().await;
    Ok(())
}
