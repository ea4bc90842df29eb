//! The endpoints that Rust serves in these tests: by macro, by hand, and under a namespace.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::rpc::ReplyBody;
use oslo_messaging::rpc::endpoint::{Interface, Invocation, MethodInfo};
use oslo_messaging::{
    Context, Endpoint, Failure, IntoFailure, RawJson, RpcClient, Value, endpoint,
};
use serde::ser::{Error as _, Serialize, Serializer};
use tokio::sync::watch;

use super::LONG;

/// What the endpoints of a test received, in order.
#[derive(Clone)]
pub(crate) struct Journal(Arc<watch::Sender<Vec<Entry>>>);

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) server: String,
    pub(crate) method: String,
    pub(crate) detail: Value,
}

impl Default for Journal {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Journal {
    pub(crate) fn note(&self, server: &str, method: &str, detail: impl Into<Value>) {
        let entry = Entry {
            server: server.to_owned(),
            method: method.to_owned(),
            detail: detail.into(),
        };
        self.0.send_modify(|entries| entries.push(entry));
    }

    /// The requests for `method` so far.
    pub(crate) fn of(&self, method: &str) -> Vec<Entry> {
        self.0
            .borrow()
            .iter()
            .filter(|entry| entry.method == method)
            .cloned()
            .collect()
    }

    /// Waits until there are `count` requests for `method`.
    pub(crate) async fn wait_for(&self, method: &str, count: usize) -> Vec<Entry> {
        let mut entries = self.0.subscribe();
        let enough = entries.wait_for(|entries| {
            entries
                .iter()
                .filter(|entry| entry.method == method)
                .count()
                >= count
        });
        let waited = tokio::time::timeout(LONG, enough).await;
        assert!(
            waited.is_ok(),
            "{count} requests for {method}: {:?}",
            self.of(method)
        );
        drop(waited);
        self.of(method)
    }
}

/// Methods with typed arguments, without a namespace.
pub(crate) struct Service {
    name: String,
    journal: Journal,
    next: Option<RpcClient>,
}

impl Service {
    pub(crate) fn new(name: &str, journal: &Journal) -> Self {
        Self {
            name: name.to_owned(),
            journal: journal.clone(),
            next: None,
        }
    }

    /// A service whose `relay` calls through `next`.
    pub(crate) fn before(name: &str, journal: &Journal, next: RpcClient) -> Self {
        Self {
            next: Some(next),
            ..Self::new(name, journal)
        }
    }
}

/// Lists and tables as Rust has them.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Nested {
    list: Vec<Option<bool>>,
    table: std::collections::BTreeMap<u64, u64>,
}

#[endpoint]
impl Service {
    fn whoami(&self) -> &str {
        &self.name
    }

    async fn add(&self, a: i64, #[default = 1] b: i64) -> i64 {
        self.journal.note(&self.name, "add", a);
        a + b
    }

    async fn note(&self, #[default] n: Value) {
        self.journal.note(&self.name, "note", n);
    }

    /// Reads what JSON has into Rust's own types and gives it back.
    fn types(
        &self,
        small: i8,
        big: i128,
        float: f64,
        text: String,
        nested: Nested,
        none: Option<String>,
    ) -> Value {
        let given: [(&str, Value); 6] = [
            ("small", small.into()),
            ("big", big.into()),
            ("float", float.into()),
            ("text", text.into()),
            (
                "nested",
                RawJson::from_value(&nested)
                    .expect("JSON")
                    .to_value()
                    .expect("JSON"),
            ),
            ("none", none.into()),
        ];
        given.into_iter().collect()
    }

    fn big(&self, size: usize) -> String {
        "x".repeat(size)
    }

    fn length(&self, value: &str) -> usize {
        value.chars().count()
    }

    async fn slow(&self, seconds: f64, #[default] value: Value) -> Value {
        self.journal.note(&self.name, "slow", value.clone());
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        self.journal.note(&self.name, "slow ended", value.clone());
        value
    }

    /// Fails under the names of an exception of the Python peer.
    fn custom(&self, instance_id: &str) -> Result<(), Failure> {
        let text = format!("Instance {instance_id} could not be found.");
        let kwargs = std::collections::BTreeMap::from([("instance_id", instance_id)]);
        Err(Failure::new("InstanceNotFound", "peer_errors", text)
            .with_kwargs(&kwargs)
            .expect("text can be written"))
    }

    fn value_error(&self, message: &str) -> Result<(), Failure> {
        Err(Failure::builtin("ValueError", message))
    }

    /// Fails with an error type of Rust that says nothing of Python.
    fn own_error(&self, message: String) -> Result<(), OwnError> {
        Err(OwnError(message))
    }

    fn panics(&self, message: String) {
        panic!("{message}");
    }

    fn unserializable(&self) -> Unserializable {
        Unserializable
    }

    /// Calls the method `name` of the next server and lets its failure through.
    async fn relay(&self, context: &Context, name: &str) -> Result<RawJson, oslo_messaging::Error> {
        let next = self.next.as_ref().expect("this server has a next one");
        next.call_raw(context, name, ()).await
    }

    #[rpc(name = "_private")]
    fn private(&self) {
        self.journal.note(&self.name, "_private", Value::Null);
    }
}

/// An error without Python names.
#[derive(Debug, thiserror::Error)]
#[error("własny błąd: {0}")]
pub(crate) struct OwnError(String);

impl IntoFailure for OwnError {}

/// A value that cannot be written.
pub(crate) struct Unserializable;

impl Serialize for Unserializable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("cannot be written on purpose"))
    }
}

/// Written by hand: gives back whatever arguments and context it gets.
pub(crate) struct Echo {
    name: String,
    journal: Journal,
}

impl Echo {
    pub(crate) fn new(name: &str, journal: &Journal) -> Self {
        Self {
            name: name.to_owned(),
            journal: journal.clone(),
        }
    }
}

impl Endpoint for Echo {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        matches!(name, "echo" | "value" | "context").then(MethodInfo::new)
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        mut invocation: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        Box::pin(async move {
            match invocation.method() {
                "echo" => {
                    let all: RawJson = invocation.parse_args()?;
                    self.journal
                        .note(&self.name, "echo", all.to_value().expect("shallow"));
                    invocation.respond(&all)
                }
                "value" => {
                    let value: RawJson = invocation.take_or_else("value", RawJson::null)?;
                    self.journal
                        .note(&self.name, "value", value.to_value().expect("shallow"));
                    invocation.respond(&value)
                }
                _ => {
                    let all: Value = ctx
                        .iter()
                        .map(|(key, raw)| (key, raw.to_value().expect("shallow")))
                        .collect();
                    self.journal.note(&self.name, "context", all.clone());
                    invocation.respond(&all)
                }
            }
        })
    }
}

/// The methods that the servers of the recordings had.
pub(crate) struct Recorded {
    journal: Journal,
}

impl Recorded {
    pub(crate) fn new(journal: &Journal) -> Self {
        Self {
            journal: journal.clone(),
        }
    }
}

#[endpoint]
impl Recorded {
    fn echo(&self, #[default] value: RawJson) -> RawJson {
        value
    }

    fn note(&self, #[default] n: Value) {
        self.journal.note("recorded", "note", n);
    }
}

/// Methods of namespace `machines`, version 1.3, also known as `hosts`.
pub(crate) struct Versioned {
    name: String,
}

impl Versioned {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

#[endpoint(namespace = "machines", version = "1.3", legacy_namespaces("hosts"))]
impl Versioned {
    fn describe(&self) -> (&str, &str, &str) {
        (&self.name, "machines", "1.3")
    }
}
