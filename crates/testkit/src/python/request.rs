//! What a test asks of the Python process, built by setters: set-up, servers, calls.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Options of the group `oslo_messaging_rabbit` for every Python process of this run that does not set them itself, as
/// `name=value,…`: what a peer of the broker under test must have to work there at all.
pub const RABBIT_OPTIONS_VARIABLE: &str = "OSLO_TEST_PYTHON_RABBIT_OPTIONS";

/// How a Python process is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    script: &'static str,
    url: String,
    options: Map<String, Value>,
    allowed_remote_exmods: Vec<String>,
}

impl Setup {
    /// The transport URL `url`, and default options but for those of `OSLO_TEST_PYTHON_RABBIT_OPTIONS`.
    pub fn new(url: &str) -> Self {
        let plain = Self {
            script: "peer.py",
            url: url.to_owned(),
            options: Map::new(),
            allowed_remote_exmods: Vec::new(),
        };
        let given = std::env::var(RABBIT_OPTIONS_VARIABLE).unwrap_or_default();
        let pairs = given.split(',').filter_map(|pair| pair.split_once('='));
        pairs.fold(plain, |setup, (name, value)| setup.rabbit(name, value))
    }

    /// Runs another file of `interop/` than `peer.py`, that speaks the same lines.
    pub fn script(mut self, name: &'static str) -> Self {
        self.script = name;
        self
    }

    pub(crate) fn file(&self) -> &'static str {
        self.script
    }

    /// Sets the option `name` of a group: `oslo_messaging_rabbit`, `DEFAULT`, …
    pub fn option(mut self, group: &str, name: &str, value: impl Into<Value>) -> Self {
        let group = self.options.entry(group).or_insert_with(|| json!({}));
        group[name] = value.into();
        self
    }

    /// Sets the option `name` of the group `oslo_messaging_rabbit`.
    pub fn rabbit(self, name: &str, value: impl Into<Value>) -> Self {
        self.option("oslo_messaging_rabbit", name, value)
    }

    /// Lets clients of the process rebuild exceptions of `module`; the peer's own are in `peer_errors`.
    pub fn allow_exceptions_of(mut self, module: &str) -> Self {
        self.allowed_remote_exmods.push(module.to_owned());
        self
    }

    pub(crate) fn line(&self) -> Value {
        json!({
            "transport_url": self.url,
            "options": self.options,
            "allowed_remote_exmods": self.allowed_remote_exmods,
        })
    }
}

/// An RPC server to be started in the process.
#[derive(Debug, Clone)]
pub struct Serve {
    arguments: Map<String, Value>,
}

/// Namespace and version under which a Python endpoint offers its methods.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Interface {
    /// Its namespace, if any.
    pub namespace: Option<String>,
    /// Its version, such as `1.3`; `None` is `1.0`.
    pub version: Option<String>,
    /// Further namespaces it answers to.
    pub legacy_namespaces: Vec<String>,
}

impl Interface {
    /// The interface of `namespace` in `version`.
    pub fn new(namespace: &str, version: &str) -> Self {
        let (namespace, version) = (Some(namespace.to_owned()), Some(version.to_owned()));
        Self {
            namespace,
            version,
            legacy_namespaces: Vec::new(),
        }
    }
}

impl Serve {
    /// A server named `server` on `topic`, with one endpoint without namespace.
    pub fn new(topic: &str, server: &str) -> Self {
        let arguments = json!({"name": server, "topic": topic, "server": server});
        Self {
            arguments: object(arguments),
        }
    }

    /// Listens on this exchange instead of the control exchange.
    pub fn exchange(self, exchange: &str) -> Self {
        self.with("exchange", exchange)
    }

    /// `default`, `legacy` (private methods too) or `explicit` (nothing).
    pub fn access_policy(self, policy: &str) -> Self {
        self.with("access_policy", policy)
    }

    /// Adds an endpoint. The first one replaces the endpoint without namespace; give [`Interface::default`] to have it.
    pub fn endpoint(mut self, interface: &Interface) -> Self {
        let legacy = Some(&interface.legacy_namespaces).filter(|names| !names.is_empty());
        let endpoint = json!({
            "namespace": interface.namespace, "version": interface.version, "legacy_namespaces": legacy
        });
        match self
            .arguments
            .get_mut("endpoints")
            .and_then(Value::as_array_mut)
        {
            Some(endpoints) => endpoints.push(endpoint),
            None => return self.with("endpoints", json!([endpoint])),
        }
        self
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn arguments(&self) -> Value {
        Value::Object(self.arguments.clone())
    }
}

/// A call or a cast that a client in the process makes.
#[derive(Debug, Clone)]
pub struct Call {
    target: Map<String, Value>,
    arguments: Map<String, Value>,
    limit: Duration,
}

impl Call {
    /// `method` on any server of `topic`.
    pub fn new(topic: &str, method: &str) -> Self {
        let arguments = object(json!({"method": method}));
        Self {
            target: object(json!({"topic": topic})),
            arguments,
            limit: Duration::from_secs(60),
        }
    }

    /// Keyword arguments, as an object.
    pub fn args(self, args: Value) -> Self {
        self.with("args", args)
    }

    /// Keyword arguments as the text that Python reads, where JSON proper cannot say them (`NaN`, long integers).
    pub fn args_json(self, text: &str) -> Self {
        self.with("args_json", text)
    }

    /// The request context, as an object.
    pub fn context(self, context: Value) -> Self {
        self.with("ctxt", context)
    }

    /// On this server only.
    pub fn server(self, server: &str) -> Self {
        self.on("server", server)
    }

    /// On all servers of the topic; casts only.
    pub fn fanout(self) -> Self {
        self.on("fanout", true)
    }

    /// By this exchange instead of the control exchange.
    pub fn exchange(self, exchange: &str) -> Self {
        self.on("exchange", exchange)
    }

    /// In this namespace.
    pub fn namespace(self, namespace: &str) -> Self {
        self.on("namespace", namespace)
    }

    /// In this version of the interface.
    pub fn version(self, version: &str) -> Self {
        self.on("version", version)
    }

    /// Gives up after `timeout`; else after `rpc_response_timeout`, 60 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = timeout;
        self.with("timeout", timeout.as_secs_f64())
    }

    /// Asks the server to send heartbeats and gives up when none came for so long.
    pub fn call_monitor_timeout(self, timeout: Duration) -> Self {
        self.with("call_monitor_timeout", timeout.as_secs())
    }

    /// How often to connect again before the send fails; -1 is for ever.
    pub fn retry(self, retry: i32) -> Self {
        self.with("retry", retry)
    }

    /// The highest version the client may ask for.
    pub fn version_cap(self, version: &str) -> Self {
        self.with("version_cap", version)
    }

    /// Fails when nobody listens.
    pub fn at_least_once(self) -> Self {
        self.with("at_least_once", true)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    fn on(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.target.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn arguments(&self) -> Value {
        let mut arguments = self.arguments.clone();
        arguments.insert("target".to_owned(), Value::Object(self.target.clone()));
        Value::Object(arguments)
    }
}

/// The object in `value`; an empty one when it is something else.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
