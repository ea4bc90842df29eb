//! The peers of the matrix, and how a table of requests is put to them.

use std::collections::BTreeMap;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::rpc::endpoint::{Invocation, MethodInfo};
use oslo_messaging::rpc::{Interface, ReplyBody};
use oslo_messaging::{
    Context, DefaultRpcAccessPolicy, Endpoint, ExplicitRpcAccessPolicy, JsonPayloadSerializer,
    LegacyRpcAccessPolicy, NoOpSerializer, RemoteError, RequestContextSerializer, Result,
    RpcAccessPolicy, RpcClient, RpcServer, Serializer, Target, Transport, Value,
};
use oslo_messaging_testkit::python::Peer;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::common::{LONG, connect, vhost_and_python};
use crate::exceptions::raise_kind;

/// Calls under way at once.
const AT_ONCE: usize = 16;

/// As `INTERFACES` of `interop/peer_matrix.py`.
fn interfaces() -> [Interface; 4] {
    [
        Interface::new(),
        Interface::new().namespace("base").version("1.3"),
        Interface::new()
            .namespace("compute")
            .version("2.1")
            .legacy_namespace("old")
            .legacy_null_namespace(),
        Interface::new().namespace("base").version("2.0"),
    ]
}

/// As the endpoint of `interop/peer_matrix.py`.
struct Matrix {
    index: usize,
    interface: Interface,
}

impl Endpoint for Matrix {
    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        match name {
            "exposed" => Some(MethodInfo::exposed()),
            "plain" | "_private" | "delete_it" | "values" | "fail" => Some(MethodInfo::new()),
            _ => None,
        }
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        mut call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            match call.method() {
                "values" => {
                    let args: BTreeMap<String, Value> = call.parse_args()?;
                    #[derive(Serialize)]
                    struct Seen<'a> {
                        ctxt: &'a Context,
                        args: BTreeMap<String, Value>,
                    }
                    call.respond(&Seen { ctxt: ctx, args })
                }
                "fail" => {
                    let kind: String = call.take("kind")?;
                    Err(raise_kind(&kind).into())
                }
                method => call.respond(&format!("{}.{method}", self.index)),
            }
        })
    }
}

/// As the policy `own` of `interop/peer_matrix.py`.
struct NoDelete;

impl RpcAccessPolicy for NoDelete {
    fn is_allowed(&self, _endpoint: &dyn Endpoint, method: &str, _info: MethodInfo) -> bool {
        !method.starts_with('_') && !method.starts_with("delete_")
    }
}

/// As the serializer `own` of `interop/peer_matrix.py`.
struct Own;

impl Serializer for Own {
    fn serialize_entity(&self, _context: &Context, entity: Value) -> Result<Value> {
        Ok(Value::Object(
            [("own".to_owned(), entity)].into_iter().collect(),
        ))
    }

    fn deserialize_entity(&self, _context: &Context, entity: Value) -> Result<Value> {
        let inner = match &entity {
            Value::Object(members) if members.len() == 1 => members.get("own").cloned(),
            _ => None,
        };
        Ok(inner.unwrap_or(entity))
    }

    fn serialize_context(&self, context: &Context) -> Result<Context> {
        let mut context = context.clone();
        context.insert("stamp", "own")?;
        Ok(context)
    }
}

/// All of them, by their names in `interop/peer_matrix.py`.
pub(crate) const POLICIES: [&str; 4] = ["default", "legacy", "explicit", "own"];
/// All of them, by their names in `interop/peer_matrix.py`.
pub(crate) const SERIALIZERS: [&str; 5] = ["none", "noop", "json", "context", "own"];

/// One request of a table, in the words of `interop/peer_matrix.py`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ask {
    /// What follows `python-` or `rust-`.
    pub(crate) topic: String,
    pub(crate) method: &'static str,
    pub(crate) namespace: Option<&'static str>,
    pub(crate) version: Option<&'static str>,
    pub(crate) args: Json,
    pub(crate) ctxt: Json,
    /// The client's.
    pub(crate) serializer: &'static str,
}

impl Ask {
    pub(crate) fn new(topic: impl Into<String>, method: &'static str) -> Self {
        Self {
            topic: topic.into(),
            method,
            namespace: None,
            version: None,
            args: json!({}),
            ctxt: json!({}),
            serializer: "none",
        }
    }

    fn of(&self, whose: &str) -> Self {
        let topic = format!("{whose}-{}", self.topic);
        Self {
            topic,
            ..self.clone()
        }
    }
}

/// A server for each pair of topic, policy and serializer, of both languages, on RabbitMQ, and of ours in memory.
pub(crate) struct Peers {
    pub(crate) vhost: Vhost,
    pub(crate) python: Peer,
    rabbit: Transport,
    memory: Transport,
    servers: Vec<RpcServer>,
}

impl Peers {
    /// `None` after one line when there is no broker or no Python. Python rebuilds exceptions of `peer_errors`.
    pub(crate) async fn start(test: &str, topics: &[(String, &str, &str)]) -> Option<Self> {
        let allow =
            |setup: oslo_messaging_testkit::python::Setup| setup.allow_exceptions_of("peer_errors");
        let (vhost, python) = vhost_and_python(test, allow).await?;
        let rabbit = connect(&vhost.url()).await;
        let memory = connect(&format!("memory://{test}")).await;
        let mut servers = Vec::new();
        for (topic, policy, serializer) in topics {
            let arguments = json!({"topic": format!("python-{topic}"), "policy": policy, "serializer": serializer});
            let () = python
                .ask("serve_matrix", arguments, LONG)
                .await
                .expect("Python serves");
            for transport in [&rabbit, &memory] {
                servers.push(serve(transport, &format!("rust-{topic}"), policy, serializer).await);
            }
        }
        Some(Self {
            vhost,
            python,
            rabbit,
            memory,
            servers,
        })
    }

    /// What a Python caller gets of the servers of `whose`, in order.
    pub(crate) async fn python_to(&self, whose: &str, table: &[Ask]) -> Vec<Json> {
        let requests: Vec<Ask> = table.iter().map(|ask| ask.of(whose)).collect();
        let outcomes = self
            .python
            .ask("outcomes", json!({"requests": requests}), LONG * 4);
        outcomes.await.expect("Python calls")
    }

    /// Every pair with a Rust peer in it, over the broker and in memory, does as a Python pair does.
    pub(crate) async fn assert_every_pair(&self, table: &[Ask], right: &[Json]) {
        let answers = self.python_to("rust", table).await;
        let ours: Vec<Json> = answers.iter().map(brief).collect();
        assert_alike("Python to Rust", table, right, &ours);
        for (pair, outcomes) in [
            ("Rust to Python", self.rust_to("python", table).await),
            ("Rust to Rust", self.rust_to("rust", table).await),
            ("Rust to Rust in memory", self.in_memory(table).await),
        ] {
            let ours: Vec<Json> = outcomes.iter().map(told).collect();
            assert_alike(pair, table, right, &ours);
        }
    }

    /// What a Rust caller gets of the servers of `whose` on RabbitMQ, in order.
    pub(crate) async fn rust_to(&self, whose: &str, table: &[Ask]) -> Vec<Result<Json>> {
        ask_all(&self.rabbit, whose, table).await
    }

    /// What a Rust caller gets of the Rust servers in memory, in order.
    pub(crate) async fn in_memory(&self, table: &[Ask]) -> Vec<Result<Json>> {
        ask_all(&self.memory, "rust", table).await
    }

    pub(crate) async fn end(self) {
        for server in self.servers {
            let stopped = server.stop_within(LONG).await;
            assert_eq!((stopped.aborted, stopped.replies_dropped), (0, 0));
        }
        self.memory.close().await;
        self.rabbit.close().await;
        self.python.close().await.expect("Python closes");
        self.vhost.delete().await.expect("deleted");
    }
}

async fn serve(transport: &Transport, topic: &str, policy: &str, serializer: &str) -> RpcServer {
    let mut builder = RpcServer::builder(transport.clone(), Target::topic(topic).server("rust"));
    for (index, interface) in interfaces().into_iter().enumerate() {
        builder = builder.endpoint(Matrix { index, interface });
    }
    builder = match policy {
        "default" => builder.access_policy(DefaultRpcAccessPolicy),
        "legacy" => builder.access_policy(LegacyRpcAccessPolicy),
        "explicit" => builder.access_policy(ExplicitRpcAccessPolicy),
        "own" => builder.access_policy(NoDelete),
        other => panic!("{other}"),
    };
    builder = match serializer {
        "none" => builder,
        "noop" => builder.serializer(NoOpSerializer),
        "json" => builder.serializer(JsonPayloadSerializer),
        "context" => builder.serializer(RequestContextSerializer::new()),
        "own" => builder.serializer(Own),
        other => panic!("{other}"),
    };
    builder.start().await.expect("the server starts")
}

async fn ask_all(transport: &Transport, whose: &str, table: &[Ask]) -> Vec<Result<Json>> {
    let mut outcomes: Vec<Option<Result<Json>>> = table.iter().map(|_| None).collect();
    let mut calls = JoinSet::new();
    let mut asks = table.iter().enumerate();
    loop {
        while calls.len() < AT_ONCE
            && let Some((number, ask)) = asks.next()
        {
            let (transport, ask) = (transport.clone(), ask.of(whose));
            calls.spawn(async move { (number, ask_one(transport, ask).await) });
        }
        let Some(done) = calls.join_next().await else {
            break;
        };
        let (number, outcome) = done.expect("no panic");
        outcomes[number] = Some(outcome);
    }
    outcomes.into_iter().flatten().collect()
}

async fn ask_one(transport: Transport, ask: Ask) -> Result<Json> {
    let client = RpcClient::new(transport, Target::topic(ask.topic))
        .namespace(ask.namespace)
        .version(ask.version)
        .timeout(LONG);
    let client = match ask.serializer {
        "none" => client,
        "noop" => client.serializer(NoOpSerializer),
        "json" => client.serializer(JsonPayloadSerializer),
        "context" => client.serializer(RequestContextSerializer::new()),
        "own" => client.serializer(Own),
        other => panic!("{other}"),
    };
    let context = Context::from_value(&ask.ctxt).expect("an object");
    client.call(&context, ask.method, &ask.args).await
}

/// The outcome of a Rust call in the words of `interop/peer_matrix.py`, as far as both have it: result, or class and text.
pub(crate) fn told(outcome: &Result<Json>) -> Json {
    match outcome {
        Ok(result) => json!({"ok": result}),
        Err(error) => match error.remote() {
            Some(remote) => json!({"class": remote.class(), "text": remote.message()}),
            None => json!({"local": error.to_string()}),
        },
    }
}

/// The same part of an outcome that Python told.
pub(crate) fn brief(outcome: &Json) -> Json {
    match outcome.get("ok") {
        Some(result) => json!({"ok": result}),
        None => {
            let class = outcome["class"].as_str().expect("a class");
            json!({"class": class.trim_end_matches("_Remote"), "text": outcome["text"]})
        }
    }
}

/// Asserts that two tables of outcomes are alike, and says where they are not.
#[track_caller]
pub(crate) fn assert_alike(pair: &str, table: &[Ask], right: &[Json], ours: &[Json]) {
    assert_eq!(
        (right.len(), ours.len()),
        (table.len(), table.len()),
        "{pair}"
    );
    let differ: Vec<String> = table
        .iter()
        .zip(right.iter().zip(ours))
        .filter(|(_, (right, ours))| right != ours)
        .map(|(ask, (right, ours))| format!("{ask:?}\n  expected {right}\n  got      {ours}"))
        .collect();
    assert!(
        differ.is_empty(),
        "{pair}: {} of {} differ:\n{}",
        differ.len(),
        table.len(),
        differ[..differ.len().min(10)].join("\n")
    );
}
