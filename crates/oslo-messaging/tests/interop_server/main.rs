//! A Rust server and Python's oslo.messaging 18.3.1 as its clients, over a real RabbitMQ.

#[path = "../common/mod.rs"]
mod common;

mod dispatch;
mod failures;
mod liveness;
mod requests;
mod values;

use oslo_messaging_testkit::python::{Call, Peer, Raised};
use serde_json::Value;

use crate::common::{LONG, TOPIC};

/// What a call of Python returned.
async fn returned(python: &Peer, request: &Call) -> Value {
    let answer = python.call(request).await.expect("the Python peer works");
    answer
        .unwrap_or_else(|raised| panic!("{request:?} raised {raised:?}"))
        .value
}

/// What a call of Python raised.
async fn raised(python: &Peer, request: &Call) -> Raised {
    let answer = python.call(request).await.expect("the Python peer works");
    answer.expect_err("a call that fails")
}

fn to(method: &str) -> Call {
    Call::new(TOPIC, method).timeout(LONG)
}
