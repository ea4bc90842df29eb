//! What tests of the server have in common: a server, and requests to it.

use std::sync::Arc;

use oslo_messaging_core::rpc::{RpcServer, RpcServerBuilder};
use oslo_messaging_core::target::Target;
use oslo_messaging_proto::json::value::Value;

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, Sent};

pub fn target() -> Target {
    Target::topic("topic-a").server("node-1")
}

pub fn builder(driver: &Arc<Scripted>) -> RpcServerBuilder {
    RpcServer::builder(driver.transport(), target())
}

pub async fn server(driver: &Arc<Scripted>, desk: &Arc<Desk>) -> RpcServer {
    builder(driver)
        .endpoint(Methods::new(desk))
        .start()
        .await
        .unwrap()
}

/// A request without envelope, with these further members.
pub fn request(method: &str, more: &str) -> String {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(", {more}")
    };
    format!(r#"{{"method": "{method}"{more}}}"#)
}

/// A call with this id.
pub fn call(method: &str, id: &str, more: &str) -> String {
    let ids = format!(r#""_msg_id": "{id}", "_reply_q": "reply_x", "_unique_id": "unique-{id}""#);
    let more = if more.is_empty() {
        ids
    } else {
        format!("{more}, {ids}")
    };
    request(method, &more)
}

pub fn class_and_message(sent: &Sent) -> (String, String, String) {
    let failure = sent.failure();
    let text = |key: &str| {
        failure
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("module"), text("class"), text("message"))
}
