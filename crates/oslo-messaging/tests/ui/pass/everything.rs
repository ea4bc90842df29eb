//! All that a block may hold.
use std::borrow::Cow;
use std::collections::BTreeMap;

use oslo_messaging::{Context, IntoFailure, endpoint};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize, Default)]
struct Node {
    name: String,
}

struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gone")
    }
}

impl IntoFailure for Gone {}

const NAMESPACE: &str = "all";

struct All<D>(D);

#[endpoint(namespace = NAMESPACE, version = "1.2.3", legacy_namespaces("old", null,))]
impl<D: AsRef<str>> All<D> {
    pub const LIMIT: u32 = 3;

    async fn nothing(&self) {}

    fn plain(&self) -> u8 {
        1
    }

    async fn with_context(&self, ctx: &Context, host: String) -> Result<bool, Gone> {
        Ok(ctx.get::<String>(&host).is_some())
    }

    async fn with_path_to_context(&self, _ctx: &oslo_messaging::Context) -> Result<(), Gone> {
        Err(Gone)
    }

    async fn lent(&self, name: &str, ids: &[u64], node: &Node, names: &Vec<Cow<'_, str>>) -> usize {
        name.len() + ids.len() + node.name.len() + names.len()
    }

    fn lent_for_a_lifetime<'a>(&'a self, name: &'a str) -> String {
        format!("{}{name}", self.0.as_ref())
    }

    fn absent(
        &self,
        a: Option<u8>,
        #[default] b: Vec<u8>,
        #[default = Self::LIMIT] c: u32,
        #[default = "x"] d: String,
        #[default = "y"] e: &str,
        #[default = Some(2)] f: Option<u8>,
    ) -> String {
        format!("{a:?}{b:?}{c}{d}{e}{f:?}")
    }

    async fn owned(&self, mut map: BTreeMap<String, Node>, _unused: f64) {
        map.clear();
    }

    fn odd_names(&self, r#type: String, context: u8, invocation: u8, argument_0: u8, name: u8) -> String {
        format!("{}{context}{invocation}{argument_0}{name}", r#type)
    }

    fn r#loop(&self) {}

    #[rpc(name = "object-class.action")]
    #[expose]
    async fn renamed(&self) -> std::result::Result<Node, String> {
        Ok(Node::default())
    }

    #[rpc(blocking, limit = Self::LIMIT as usize)]
    #[expected(Gone)]
    fn blocks(&self) -> Result<(), Gone> {
        Err(Gone)
    }

    #[expected("Gone", "Other")]
    async fn named(&self) -> Result<(), Gone> {
        Err(Gone)
    }

    #[rpc(skip)]
    fn helper<T>(self, _: T) {}

    #[rpc(skip)]
    fn new(inner: D) -> Self {
        Self(inner)
    }

    #[cfg(any())]
    fn never(&self) -> Missing {}

    /// Both of a pair under `cfg`.
    #[cfg(unix)]
    fn platform(&self) -> &'static str {
        "unix"
    }

    #[cfg(not(unix))]
    fn platform(&self) -> &'static str {
        "other"
    }
}

fn is_endpoint(_: impl oslo_messaging::Endpoint) {}

fn main() {
    is_endpoint(All::new(String::new()));
}
