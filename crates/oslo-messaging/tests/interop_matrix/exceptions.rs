//! Kinds of exceptions: built in, of a module that callers allow, of one they do not, with and without arguments, and such as
//! nobody can rebuild.

use oslo_messaging::{Error, FromRemote, RemoteError, Result};
use serde_json::{Value as Json, json};

use crate::pairs::{Ask, Peers, assert_alike, brief, told};

/// What the methods of both languages raise, and what Rust callers read.
#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "peer_errors")]
pub(crate) enum Fault {
    #[error("Instance {instance_id} could not be found.")]
    InstanceNotFound { instance_id: String },
    #[error("Quota exceeded.")]
    #[remote(no_args)]
    OverQuota,
    #[error("{text}")]
    Picky {
        #[remote(arg)]
        text: String,
    },
    #[error("('{0}', {1})")]
    #[remote(module = "builtins")]
    ValueError(String, i64),
    #[error("'{0}'")]
    #[remote(module = "builtins")]
    KeyError(String),
    #[error("[Errno {0}] {1}")]
    #[remote(module = "builtins", class = "FileNotFoundError")]
    NoFile(i32, String),
    #[error("{0}")]
    #[remote(module = "decimal")]
    InvalidOperation(String),
}

const KINDS: [&str; 7] = ["value", "key", "file", "custom", "unit", "picky", "foreign"];

/// As the function of this name in `interop/peer_matrix.py`.
pub(crate) fn raise_kind(kind: &str) -> Fault {
    match kind {
        "value" => Fault::ValueError("bad ü".to_owned(), 42),
        "key" => Fault::KeyError("missing".to_owned()),
        "file" => Fault::NoFile(2, "No such file".to_owned()),
        "custom" => Fault::InstanceNotFound {
            instance_id: "i-1".to_owned(),
        },
        "unit" => Fault::OverQuota,
        "picky" => Fault::Picky {
            text: "a b c".to_owned(),
        },
        "foreign" => Fault::InvalidOperation("x".to_owned()),
        other => panic!("{other}"),
    }
}

/// What a Rust caller reads: the variant and its fields.
fn read(outcome: Result<Json>) -> String {
    let error: Error = outcome.expect_err("a method that fails");
    match Fault::from_error(error) {
        Ok(fault) => format!("{fault:?}"),
        Err(error) => format!("not read: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_exception_arrives_in_every_pair_as_it_does_among_python_peers() {
    let topics = [("any".to_owned(), "default", "none")];
    let Some(peers) = Peers::start("matrix-exceptions", &topics).await else {
        return;
    };
    let table: Vec<Ask> = KINDS
        .into_iter()
        .map(|kind| Ask {
            args: json!({"kind": kind}),
            ..Ask::new("any", "fail")
        })
        .collect();
    // Python callers get the same classes, arguments and texts from either server; only tracebacks differ.
    let right = peers.python_to("python", &table).await;
    let ours = peers.python_to("rust", &table).await;
    assert_alike("Python to Rust", &table, &right, &ours);
    let of = |kind: &str| {
        &right[KINDS
            .iter()
            .position(|known| *known == kind)
            .expect("known")]
    };
    assert_eq!(of("custom")["class"], "InstanceNotFound_Remote");
    assert_eq!(of("custom")["kwargs"], json!({"instance_id": "i-1"}));
    assert_eq!(of("unit")["module"], "peer_errors_Remote");
    assert_eq!(of("file")["args"], json!(["No such file"]));
    for kind in ["picky", "foreign"] {
        assert_eq!(
            of(kind)["module"],
            "oslo_messaging.rpc.client",
            "{kind}: a RemoteError"
        );
    }

    // Rust callers read the same values from either server, and the same class and text without a type of their own.
    let brief: Vec<Json> = right.iter().map(brief).collect();
    for (pair, outcomes) in [
        ("Rust to Python", peers.rust_to("python", &table).await),
        ("Rust to Rust", peers.rust_to("rust", &table).await),
        ("Rust to Rust in memory", peers.in_memory(&table).await),
    ] {
        let told: Vec<Json> = outcomes.iter().map(told).collect();
        assert_alike(pair, &table, &brief, &told);
        for (kind, outcome) in KINDS.into_iter().zip(outcomes) {
            assert_eq!(
                read(outcome),
                format!("{:?}", raise_kind(kind)),
                "{pair}: {kind}"
            );
        }
    }

    // An expected exception travels as the others do.
    let expected: Vec<Ask> = table
        .iter()
        .map(|ask| {
            let mut args = ask.args.clone();
            args["expected"] = json!(true);
            Ask {
                args,
                ..ask.clone()
            }
        })
        .collect();
    let raised = peers.python_to("python", &expected).await;
    assert_alike("Python to Python, expected", &table, &right, &raised);
    for (kind, outcome) in KINDS
        .into_iter()
        .zip(peers.rust_to("python", &expected).await)
    {
        assert_eq!(
            read(outcome),
            format!("{:?}", raise_kind(kind)),
            "expected {kind}"
        );
    }
    peers.end().await;
}
