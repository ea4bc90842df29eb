//! Bad input from users, brokers and peers: each ends in a typed error that says what to do, and nothing panics.

#[path = "../common/mod.rs"]
mod common;

mod connecting;
mod messages;
mod targets;

use std::time::Duration;

use oslo_messaging::{Error, RpcClient, RpcServer, Target, Transport, Value};

use crate::common::ctx;
use crate::common::service::{Journal, Service};

const SECRET: &str = "hunter2";
/// For what can never succeed: long enough to be told from at once, short enough to wait for.
const SHORT: Duration = Duration::from_millis(800);

async fn failed(client: &RpcClient) -> Error {
    client
        .call::<_, Value>(&ctx(), "whoami", ())
        .await
        .expect_err("a call that fails")
}

async fn start_fails(transport: &Transport, target: Target) -> Error {
    let builder = RpcServer::builder(transport.clone(), target)
        .endpoint(Service::new("x", &Journal::default()));
    builder
        .start()
        .await
        .expect_err("a server that does not start")
}
