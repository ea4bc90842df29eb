//! What callers get from an endpoint that `#[endpoint]` printed: names, arguments, defaults, results.

#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use oslo_messaging::rpc::endpoint::{Endpoint, Invocation};
use oslo_messaging::{Context, IntoFailure, RawJson, RemoteError, endpoint};
use oslo_messaging_proto::wire::args::Args;
use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::Reply;

#[derive(Debug)]
struct NodeNotFound(String);

impl std::fmt::Display for NodeNotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no node {}", self.0)
    }
}

impl IntoFailure for NodeNotFound {}

struct Conductor {
    known: &'static str,
}

#[endpoint(
    namespace = "conductor",
    version = "1.3",
    legacy_namespaces("compute", null)
)]
impl Conductor {
    async fn ping(&self, _ctx: &Context, host: String) -> Result<bool, NodeNotFound> {
        if host == self.known {
            Ok(true)
        } else {
            Err(NodeNotFound(host))
        }
    }

    fn absent(
        &self,
        a: Option<u8>,
        #[default] b: Vec<u8>,
        #[default = 7] c: u32,
        #[default = "x"] d: &str,
    ) -> String {
        format!("{a:?} {b:?} {c} {d}")
    }

    fn three(&self, a: u8, b: u8, c: u8) -> u8 {
        a + b + c
    }

    fn nullable(&self, value: Option<u8>) -> bool {
        value.is_none()
    }

    fn nothing(&self) {}

    async fn who(&self, ctx: &Context) -> Option<String> {
        ctx.get("user").and_then(Result::ok)
    }

    fn lent(&self, name: &str, ids: &[u64]) -> usize {
        name.len() + ids.len()
    }

    fn r#type(&self, r#type: String) -> String {
        r#type
    }

    fn unwritable(&self) -> Result<BTreeMap<Vec<u8>, u8>, String> {
        Ok(BTreeMap::from([(vec![1], 1)]))
    }

    #[rpc(name = "object.action")]
    #[expose]
    fn renamed(&self) -> &'static str {
        "renamed"
    }

    #[rpc(skip)]
    fn helper(&self) {}
}

async fn call_with(ctx: &Context, method: &str, args: &str) -> Result<String, RemoteError> {
    let args = Args::from_raw(RawJson::from_text(args).unwrap()).unwrap();
    let conductor = Conductor { known: "node-7" };
    conductor.helper();
    let body = conductor
        .call(ctx, Invocation::new(method, ctx, args))
        .await?;
    let sealed = body.finish("0123456789abcdef0123456789abcdef", UniqueId::from_random(1));
    let reply = Reply::decode(sealed.body()).unwrap();
    Ok(reply
        .result()
        .map_or_else(|| "null".to_owned(), |result| result.as_str().to_owned()))
}

async fn call(method: &str, args: &str) -> Result<String, RemoteError> {
    call_with(&Context::new(), method, args).await
}

async fn type_error(method: &str, args: &str) -> String {
    let failure = call(method, args).await.unwrap_err();
    assert_eq!(
        (failure.module(), failure.class()),
        ("builtins", "TypeError")
    );
    failure.message().to_owned()
}

#[test]
fn the_interface_is_what_the_brackets_say() {
    let interface = Conductor { known: "" }.interface();
    let namespaces: Vec<_> = interface.accepted_namespaces().collect();
    assert_eq!(namespaces, [Some("conductor"), Some("compute"), None]);
    assert_eq!(interface.version_text(), "1.3");
}

#[test]
fn only_methods_of_the_block_exist_and_only_marked_ones_are_exposed() {
    let conductor = Conductor { known: "" };
    assert!(conductor.method("ping").is_some_and(|info| !info.exposed));
    assert!(
        conductor
            .method("object.action")
            .is_some_and(|info| info.exposed)
    );
    for unknown in ["renamed", "helper", "call", "interface", "r#type", ""] {
        assert!(conductor.method(unknown).is_none(), "{unknown}");
    }
}

#[tokio::test]
async fn results_and_errors_come_back_as_they_are() {
    assert_eq!(call("ping", r#"{"host": "node-7"}"#).await.unwrap(), "true");
    let failure = call("ping", r#"{"host": "node-8"}"#).await.unwrap_err();
    assert_eq!(
        (failure.class(), failure.message()),
        ("NodeNotFound", "no node node-8")
    );
    assert_eq!(call("nothing", "{}").await.unwrap(), "null");
    assert_eq!(call("object.action", "{}").await.unwrap(), r#""renamed""#);
    assert_eq!(call("type", r#"{"type": "t"}"#).await.unwrap(), r#""t""#);
    assert_eq!(
        call("lent", r#"{"name": "a\"b", "ids": [1, 2]}"#)
            .await
            .unwrap(),
        "5"
    );
}

#[tokio::test]
async fn arguments_left_out_have_their_defaults() {
    assert_eq!(call("absent", "{}").await.unwrap(), r#""None [] 7 x""#);
    let all = r#"{"d": "y", "c": 1, "b": [2], "a": 3}"#;
    assert_eq!(call("absent", all).await.unwrap(), r#""Some(3) [2] 1 y""#);
    assert_eq!(
        call("nullable", r#"{"value": null}"#).await.unwrap(),
        "true"
    );
    assert_eq!(call("nullable", "{}").await.unwrap(), "true");
}

#[tokio::test]
async fn wrong_names_are_worded_as_in_python() {
    assert_eq!(
        type_error("ping", "{}").await,
        "Conductor.ping() missing 1 required positional argument: 'host'"
    );
    assert_eq!(
        type_error("three", r#"{"b": 1}"#).await,
        "Conductor.three() missing 2 required positional arguments: 'a' and 'c'"
    );
    assert_eq!(
        type_error("three", "{}").await,
        "Conductor.three() missing 3 required positional arguments: 'a', 'b', and 'c'"
    );
    assert_eq!(
        type_error("ping", r#"{"x": 1, "y": 2}"#).await,
        "Conductor.ping() got an unexpected keyword argument 'x'"
    );
    assert_eq!(
        type_error("nothing", r#"{"x": 1}"#).await,
        "Conductor.nothing() got an unexpected keyword argument 'x'"
    );
}

#[tokio::test]
async fn a_value_of_the_wrong_type_names_its_argument() {
    for (method, args, name) in [
        ("ping", r#"{"host": 7}"#, "'host'"),
        ("ping", r#"{"host": null}"#, "'host'"),
        ("three", r#"{"a": 1, "b": 256, "c": 1}"#, "'b'"),
        ("absent", r#"{"c": "seven"}"#, "'c'"),
        ("lent", r#"{"name": "a", "ids": {}}"#, "'ids'"),
    ] {
        let text = type_error(method, args).await;
        assert!(text.contains(name) && text.contains(method), "{text}");
    }
    // Names come first, as in Python.
    assert!(
        type_error("three", r#"{"a": "x"}"#)
            .await
            .contains("missing 2")
    );
}

#[tokio::test]
async fn the_context_is_handed_over() {
    let mut ctx = Context::new();
    ctx.insert("user", "alice").unwrap();
    assert_eq!(call_with(&ctx, "who", "{}").await.unwrap(), r#""alice""#);
    assert_eq!(call("who", "{}").await.unwrap(), "null");
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_told_to_the_caller() {
    let failure = call("unwritable", "{}").await.unwrap_err();
    assert_eq!(failure.class(), "TypeError");
    assert!(
        failure.message().contains("unwritable"),
        "{}",
        failure.message()
    );
}

#[tokio::test]
async fn a_method_that_is_not_there_is_refused_even_without_asking_first() {
    assert_eq!(
        call("helper", "{}").await.unwrap_err().class(),
        "NoSuchMethod"
    );
}

#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error("locked by {by}")]
    Locked { by: &'static str },
    #[error("broken")]
    Broken(#[source] std::io::Error),
    #[error("full")]
    Full,
}

impl IntoFailure for TableError {}

const AT_ONCE: usize = 3;

struct Tables;

#[endpoint]
impl Tables {
    #[expected(TableError::Locked { .. } | TableError::Full)]
    fn some(&self, which: &str) -> Result<(), TableError> {
        Err(match which {
            "locked" => TableError::Locked { by: "bob" },
            "full" => TableError::Full,
            _ => TableError::Broken(std::io::Error::other("the disk is gone")),
        })
    }

    #[expected]
    async fn all(&self) -> Result<(), String> {
        Err("as usual".to_owned())
    }

    #[expected("ValueError", "nova.exception.Busy")]
    fn named(&self, class: String, module: String) -> Result<(), RemoteError> {
        Err(RemoteError::new(class, module, "told"))
    }

    #[rpc(blocking, limit = 2, name = "vacuum_now")]
    #[expose]
    fn vacuum(&self) {}

    #[rpc(limit = AT_ONCE)]
    async fn scan(&self) {}
}

async fn table_failure(method: &str, args: &str) -> RemoteError {
    let args = Args::from_raw(RawJson::from_text(args).unwrap()).unwrap();
    let context = Context::new();
    let invocation = Invocation::new(method, &context, args);
    Tables.call(&context, invocation).await.unwrap_err()
}

#[tokio::test]
async fn errors_are_expected_by_pattern_by_class_or_all_of_them() {
    for (which, expected) in [("locked", true), ("full", true), ("broken", false)] {
        let failure = table_failure("some", &format!(r#"{{"which": "{which}"}}"#)).await;
        assert_eq!(failure.is_expected(), expected, "{which}");
        assert_eq!(failure.class(), "TableError");
    }
    assert!(table_failure("all", "{}").await.is_expected());
    for (class, module, expected) in [
        ("ValueError", "builtins", true),
        ("ValueError", "elsewhere", true),
        ("Busy", "nova.exception", true),
        ("Busy", "elsewhere", false),
        ("KeyError", "builtins", false),
    ] {
        let args = format!(r#"{{"class": "{class}", "module": "{module}"}}"#);
        let failure = table_failure("named", &args).await;
        assert_eq!(failure.is_expected(), expected, "{module}.{class}");
    }
    // What fails before the method runs is nobody's expectation.
    let failure = table_failure("all", r#"{"more": 1}"#).await;
    assert_eq!(
        (failure.class(), failure.is_expected()),
        ("TypeError", false)
    );
}

#[tokio::test]
async fn what_caused_an_error_is_its_traceback() {
    let failure = table_failure("some", r#"{"which": "broken"}"#).await;
    assert_eq!(failure.traceback(), ["  caused by: the disk is gone\n"]);
    let failure = table_failure("all", "{}").await;
    assert!(failure.traceback().is_empty(), "text has no causes");
}

#[test]
fn a_method_says_that_it_blocks_and_how_many_may_run_at_once() {
    let info = Tables.method("vacuum_now").unwrap();
    assert!(info.blocking && info.exposed);
    assert_eq!(info.limit.map(usize::from), Some(2));
    let info = Tables.method("scan").unwrap();
    assert!(!info.blocking && !info.exposed);
    assert_eq!(info.limit.map(usize::from), Some(AT_ONCE));
    assert_eq!(Tables.method("all").unwrap().limit, None);
}
