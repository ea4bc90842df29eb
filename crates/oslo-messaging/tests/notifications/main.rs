//! Notifications on a real RabbitMQ, with Python's oslo.messaging on the other side, and in trouble.
//!
//! Without a broker or Python the tests are skipped, and say so.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod from_python;
mod rate;
mod to_python;
mod trouble;

use std::sync::Mutex;
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::notify::{
    BatchNotificationEndpoint, NotificationEndpoint, NotificationFilter, NotificationOutcome,
};
use oslo_messaging::{Context, Notification, Priority, Result};
use oslo_messaging_testkit::python::Peer;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::common::LONG;

/// Hands what it gets to the test, and answers as the test says.
struct Ear {
    priorities: Vec<Priority>,
    filter: Option<NotificationFilter>,
    heard: mpsc::UnboundedSender<(Priority, Notification)>,
    answers: Mutex<Vec<NotificationOutcome>>,
}

type Heard = mpsc::UnboundedReceiver<(Priority, Notification)>;

fn ear(priorities: &[Priority], answers: Vec<NotificationOutcome>) -> (Ear, Heard) {
    let (heard, hears) = mpsc::unbounded_channel();
    let ear = Ear {
        priorities: priorities.to_vec(),
        filter: None,
        heard,
        answers: Mutex::new(answers),
    };
    (ear, hears)
}

impl NotificationEndpoint for Ear {
    fn priorities(&self) -> Vec<Priority> {
        self.priorities.clone()
    }

    fn filter(&self) -> Result<Option<NotificationFilter>> {
        Ok(self.filter.clone())
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        note: &'a Notification,
    ) -> BoxFuture<'a, NotificationOutcome> {
        let answer = self.answers.lock().unwrap().pop();
        let _ = self.heard.send((priority, note.clone()));
        Box::pin(async move { answer.unwrap_or(NotificationOutcome::Handled) })
    }
}

/// Notes the events of each batch.
#[derive(Default)]
struct Basket(Mutex<Vec<(Priority, Vec<String>)>>);

impl BatchNotificationEndpoint for Basket {
    fn priorities(&self) -> Vec<Priority> {
        Priority::ALL.to_vec()
    }

    fn handle<'a>(
        &'a self,
        priority: Priority,
        notes: &'a [Notification],
    ) -> BoxFuture<'a, NotificationOutcome> {
        let events = notes.iter().map(event).collect();
        self.0.lock().unwrap().push((priority, events));
        Box::pin(async { NotificationOutcome::Handled })
    }
}

fn event(note: &Notification) -> String {
    note.event_type().unwrap_or("-").to_owned()
}

async fn next(hears: &mut Heard) -> (Priority, Notification) {
    tokio::time::timeout(LONG, hears.recv())
        .await
        .expect("a notification comes in time")
        .expect("the listener is there")
}

/// Starts a Python listener on topic `notifications`.
async fn python_listens(peer: &Peer, name: &str, more: Value) {
    let mut arguments = json!({
        "name": name, "targets": [{"topic": "notifications"}], "endpoints": [{"priorities": null}],
    });
    for (key, value) in more.as_object().unwrap() {
        arguments[key] = value.clone();
    }
    let _: Value = peer.ask("listen", arguments, LONG).await.unwrap();
}

/// What Python's endpoints noted, once there are `count` of them.
async fn python_heard(peer: &Peer, method: Option<&str>, count: usize) -> Vec<Value> {
    let arguments = json!({"method": method, "count": count, "seconds": 30});
    let heard: Vec<Value> = peer
        .ask("wait_received", arguments, LONG + LONG)
        .await
        .unwrap();
    assert!(
        heard.len() >= count,
        "{} of {count}: {heard:?}",
        heard.len()
    );
    heard
}

async fn python_tells(peer: &Peer, event_type: &str, more: Value) {
    let mut arguments = json!({"event_type": event_type});
    for (key, value) in more.as_object().unwrap() {
        arguments[key] = value.clone();
    }
    let _: Value = peer.ask("notify", arguments, LONG).await.unwrap();
}

/// What a request context of oslo is made from.
fn request_context() -> Value {
    json!({
        "auth_token": "gAAAA-secret", "user_id": "u-1", "project_id": "p-1", "user_name": "alice", "is_admin": true,
        "roles": ["member", "reader"], "request_id": "req-11111111-1111-1111-1111-111111111111", "read_only": true,
        "resource_uuid": "r-1", "system_scope": "all", "show_deleted": true, "is_admin_project": false,
    })
}

fn context(value: &Value) -> Context {
    let mut context = Context::new();
    for (key, value) in value.as_object().unwrap() {
        context.insert(key.clone(), value).unwrap();
    }
    context
}

fn as_json(context: &Context) -> Value {
    let text = oslo_messaging::proto::json::ser::to_string(context).unwrap();
    serde_json::from_str(&text).unwrap()
}

const SOON: Duration = Duration::from_millis(300);
