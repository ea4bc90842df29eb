//! What tests of the client have in common: a client, a call, and replies to it.

use std::sync::Arc;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::error::Result;
use oslo_messaging_core::rpc::RpcClient;
use oslo_messaging_core::target::Target;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::scripted::{Scripted, Sent};

#[derive(Serialize)]
pub struct Add {
    pub a: i64,
    pub b: i64,
}

pub const ADD: Add = Add { a: 2, b: 3 };

pub fn client(driver: &Arc<Scripted>) -> RpcClient {
    RpcClient::new(driver.transport(), Target::topic("topic-a"))
}

/// A call on a task of its own.
pub fn call(client: &RpcClient) -> JoinHandle<Result<i64>> {
    let client = client.clone();
    tokio::spawn(async move { client.call(&Context::new(), "add", ADD).await })
}

pub fn reply(sent: &Sent, parts: &str) -> String {
    format!(
        r#"{{{parts}, "_msg_id": "{}", "_unique_id": "u"}}"#,
        sent.text("_msg_id")
    )
}

pub fn result(sent: &Sent, result: i64) -> String {
    reply(
        sent,
        &format!(r#""result": {result}, "failure": null, "ending": true"#),
    )
}

pub fn heartbeat(sent: &Sent) -> String {
    reply(sent, r#""result": null, "failure": null, "ending": false"#)
}
