//! What the tests against a real broker share: transports, servers, peers, and what they noted.
//!
//! Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use oslo_messaging::{Context, Error, RpcClient, RpcServer, Target, Transport, Value};
use oslo_messaging_testkit::python::{Peer, Setup};
use oslo_messaging_testkit::rabbit::vhost::Vhost;

pub(crate) mod raw;
pub(crate) mod service;

use self::service::{Echo, Journal, Recorded, Service, Versioned};

/// The topic of the tests, unless they need several.
pub(crate) const TOPIC: &str = "calculator";

/// As long as anything may take that is going to happen; a test that works never waits so long.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A large body that this broker takes: RabbitMQ 4 stops at 16 MiB where nothing else is configured.
pub(crate) async fn largest(vhost: &Vhost) -> usize {
    let version = vhost.broker().version().await.expect("the broker runs");
    if version.starts_with("3.") {
        20 << 20
    } else {
        12 << 20
    }
}

/// Serves the endpoints of [`service`] on [`TOPIC`] under the name `name`.
pub(crate) async fn serve(transport: &Transport, name: &str, journal: &Journal) -> RpcServer {
    serve_on(transport, Target::topic(TOPIC).server(name), journal).await
}

/// Serves the endpoints of [`service`] on any target.
pub(crate) async fn serve_on(
    transport: &Transport,
    target: Target,
    journal: &Journal,
) -> RpcServer {
    let name = target
        .server_name()
        .expect("a server has a name")
        .to_owned();
    let builder = RpcServer::builder(transport.clone(), target)
        .endpoint(Service::new(&name, journal))
        .endpoint(Echo::new(&name, journal))
        .endpoint(Versioned::new(&name));
    builder.start().await.expect("the server starts")
}

/// Serves [`Recorded`] where the servers of the recordings did.
pub(crate) async fn serve_recorded(transport: &Transport, journal: &Journal) -> RpcServer {
    let target = Target::topic("topic-a").server("server-1");
    let builder = RpcServer::builder(transport.clone(), target).endpoint(Recorded::new(journal));
    builder.start().await.expect("the server starts")
}

/// A transport to `url`.
pub(crate) async fn connect(url: &str) -> Transport {
    oslo_messaging::connect(url)
        .await
        .expect("the URL is right")
}

/// A client of [`TOPIC`].
pub(crate) fn client(transport: &Transport) -> RpcClient {
    RpcClient::new(transport.clone(), Target::topic(TOPIC)).timeout(LONG)
}

/// A virtual host, a Python process on it, and one Rust server called `rust-1`.
pub(crate) struct ServedByRust {
    pub(crate) vhost: Vhost,
    pub(crate) python: Peer,
    pub(crate) transport: Transport,
    pub(crate) server: RpcServer,
    pub(crate) journal: Journal,
}

impl ServedByRust {
    /// Everything with default options, or `None` after one line when there is no broker or no Python.
    pub(crate) async fn start(test: &str) -> Option<Self> {
        Self::start_with(test, |setup| setup, "").await
    }

    /// As [`ServedByRust::start`], with options of the Python process and the query of the Rust URL.
    pub(crate) async fn start_with(
        test: &str,
        setup: impl FnOnce(Setup) -> Setup,
        query: &str,
    ) -> Option<Self> {
        let (vhost, python) = vhost_and_python(test, setup).await?;
        let transport = connect(&format!("{}{query}", vhost.url())).await;
        let journal = Journal::default();
        let server = serve(&transport, "rust-1", &journal).await;
        Some(Self {
            vhost,
            python,
            transport,
            server,
            journal,
        })
    }

    /// Stops in good order and fails if anything was still under way.
    pub(crate) async fn end(self) {
        let stopped = self.server.stop_within(LONG).await;
        assert_eq!(
            (stopped.aborted, stopped.replies_dropped),
            (0, 0),
            "{stopped:?}"
        );
        self.transport.close().await;
        self.vhost
            .delete()
            .await
            .expect("the virtual host is deleted");
    }
}

/// A virtual host and a Python process on it, or `None` after one line that says what is missing.
pub(crate) async fn vhost_and_python(
    test: &str,
    setup: impl FnOnce(Setup) -> Setup,
) -> Option<(Vhost, Peer)> {
    let vhost = oslo_messaging_testkit::rabbit::vhost_or_skip(test).await?;
    if std::env::var_os(oslo_messaging_testkit::python::PYTHON_VARIABLE).is_none() {
        oslo_messaging_testkit::skip(test, "no Python environment");
        return None;
    }
    let python = Peer::start_with(&setup(Setup::new(&vhost.url())))
        .await
        .expect("the Python peer starts");
    Some((vhost, python))
}

/// Arguments by name.
pub(crate) fn args<V: Into<Value> + Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, Value> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
        .collect()
}

/// No arguments.
pub(crate) fn no_args() -> BTreeMap<String, Value> {
    BTreeMap::new()
}

/// The empty context.
pub(crate) fn ctx() -> Context {
    Context::new()
}

/// Asserts that neither text of an error holds the password `guest` or `secret`, and gives its text.
#[track_caller]
pub(crate) fn text_without_secrets(error: &Error, secrets: &[&str]) -> String {
    let text = format!("{error}");
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
        assert!(!format!("{error:#?}").contains(secret), "{error:#?}");
    }
    text
}

/// Waits for `what` until `condition` holds, failing after [`LONG`].
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    oslo_messaging_testkit::process::wait_until(what, LONG, async || Ok(condition()))
        .await
        .expect("in time");
}

/// A recorded scenario.
pub(crate) fn vector(name: &str) -> serde_json::Value {
    let path = format!("{}/../../vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).expect("a vector is JSON")
}

/// One step of a recorded scenario, with the publishes that followed it.
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) publishes: Vec<&'a serde_json::Value>,
    raw_connections: Vec<&'a str>,
}

impl<'a> Step<'a> {
    /// What the plain AMQP peer of the recording published.
    pub(crate) fn sent_by_raw_peer(&self) -> Vec<&'a serde_json::Value> {
        let is_raw = |event: &&&serde_json::Value| {
            event["conn"]
                .as_str()
                .is_some_and(|conn| self.raw_connections.contains(&conn))
        };
        self.publishes.iter().filter(is_raw).copied().collect()
    }
}

/// The steps of a recorded scenario, in order.
pub(crate) fn steps(recorded: &serde_json::Value) -> Vec<Step<'_>> {
    let connections = recorded["connections"].as_object().expect("connections");
    let is_raw = |(_, about): &(&String, &serde_json::Value)| about["peer"] == "raw";
    let raw: Vec<&str> = connections
        .iter()
        .filter(is_raw)
        .map(|(name, _)| name.as_str())
        .collect();
    let mut steps: Vec<Step<'_>> = Vec::new();
    for event in recorded["direction"].as_array().expect("events") {
        if let Some(name) = event["step"].as_str() {
            steps.push(Step {
                name,
                publishes: Vec::new(),
                raw_connections: raw.clone(),
            });
        } else if event["method"] == "basic.publish"
            && let Some(step) = steps.last_mut()
        {
            step.publishes.push(event);
        }
    }
    steps
}

/// What the recorded application saw of `what`.
pub(crate) fn observed<'a>(
    recorded: &'a serde_json::Value,
    what: &str,
) -> Option<&'a serde_json::Value> {
    recorded["observed"]
        .as_array()
        .expect("observations")
        .iter()
        .find(|one| one["what"] == what)
}

/// A recorded publish as [`raw::RawPeer::publish`] takes it.
pub(crate) fn as_raw_publish(event: &serde_json::Value) -> serde_json::Value {
    let mut properties = event["properties"].clone();
    if let Some(all) = properties.as_object_mut()
        && let Some(headers) = all.remove("headers")
    {
        all.insert("application_headers".to_owned(), headers);
    }
    let mut request = serde_json::json!({
        "exchange": event["exchange"], "routing_key": event["routing_key"], "properties": properties
    });
    for (recorded, ours) in [("body_utf8", "body"), ("body_base64", "body_base64")] {
        if event.get(recorded).is_some() {
            request[ours] = event[recorded].clone();
        }
    }
    request
}
