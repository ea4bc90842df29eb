//! Imports point down: the floors of the crates, the ranks inside `core`, and who may name tokio, held by this test.
//!
//! The rules are data in `layers/rules.rs`; `layers/source.rs` reads manifests and Rust files; here the rules are put
//! to the project, and to small false trees that each break one of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;

#[path = "layers/rules.rs"]
mod rules;
#[path = "layers/source.rs"]
mod source;

use rules::violations;
use source::Tree;

#[test]
fn imports_of_this_project_point_down() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
    let names: Vec<&str> = tree.crates.iter().map(|one| one.name.as_str()).collect();
    for expected in [
        "oslo-messaging-proto",
        "oslo-messaging-core",
        "oslo-messaging-rabbit",
        "oslo-messaging-cli",
    ] {
        assert!(
            names.contains(&expected),
            "{expected} is not among the crates found: {names:?}"
        );
    }
    assert!(
        tree.crates.iter().all(|one| !one.files.is_empty()),
        "every crate has files"
    );
    let found = violations(&tree);
    assert!(
        found.is_empty(),
        "{} arrows point up or sideways:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// A small project in which every rule is kept.
fn sound() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "crates/proto/Cargo.toml",
            "[package]\nname = \"oslo-messaging-proto\"\n[dependencies]\nbytes = \"1\"\n",
        ),
        (
            "crates/proto/src/lib.rs",
            "pub mod url;\npub mod wire;\npub use crate::url::Url;\n",
        ),
        (
            "crates/proto/src/url.rs",
            "use bytes::Bytes;\n#[cfg(test)]\nmod tests { use super::*; use crate::Url; }\n",
        ),
        ("crates/proto/src/wire/mod.rs", "use crate::url::Url;\n"),
        (
            "crates/amqp/Cargo.toml",
            "[package]\nname = \"oslo-messaging-amqp\"\n[dependencies]\ntokio = \"1\"\n",
        ),
        (
            "crates/amqp/src/lib.rs",
            "//! use tokio::net;\nmod codec;\nmod task;\nmod handle;\n",
        ),
        (
            "crates/amqp/src/codec.rs",
            "// tokio::spawn is for the task\nconst TEXT: &str = \"use tokio::net;\";\n",
        ),
        (
            "crates/amqp/src/task.rs",
            "use tokio::net::TcpStream;\nuse crate::codec;\n",
        ),
        ("crates/amqp/src/handle/mod.rs", "use tokio::sync::mpsc;\n"),
        (
            "crates/core/Cargo.toml",
            "[package]\nname = \"oslo-messaging-core\"\n[dependencies]\noslo-messaging-proto.workspace = true\n\
             [dev-dependencies]\noslo-messaging-testkit.workspace = true\n",
        ),
        (
            "crates/core/src/lib.rs",
            "pub mod error;\npub mod driver;\npub mod server;\npub mod rpc;\npub mod notify;\n",
        ),
        ("crates/core/src/error.rs", "use std::fmt;\n"),
        (
            "crates/core/src/driver.rs",
            "use crate::error::{Error, Result};\n",
        ),
        ("crates/core/src/server.rs", "use crate::driver::Driver;\n"),
        (
            "crates/core/src/rpc/mod.rs",
            "mod call;\nuse crate::{error::Error, server::Server};\n",
        ),
        (
            "crates/core/src/rpc/call.rs",
            "use super::Client;\nfn f<'a>() -> impl Sized + use<'a> {}\n",
        ),
        (
            "crates/core/src/notify/mod.rs",
            "use crate::server::Server;\n",
        ),
        (
            "crates/drivers/rabbit/Cargo.toml",
            "[package]\nname = \"oslo-messaging-rabbit\"\n[dependencies]\n\
             oslo-messaging-core = { workspace = true }\noslo-messaging-amqp.workspace = true\n",
        ),
        ("crates/drivers/rabbit/src/lib.rs", "mod driver;\n"),
        (
            "crates/drivers/rabbit/tests/live.rs",
            "use oslo_messaging_rabbit::*;\n",
        ),
        (
            "crates/testkit/Cargo.toml",
            "[package]\nname = \"oslo-messaging-testkit\"\n",
        ),
        ("crates/testkit/src/lib.rs", "\n"),
        (
            "crates/oslo-messaging/Cargo.toml",
            "[package]\nname = \"oslo-messaging\"\n[dependencies]\noslo-messaging-rabbit = { workspace = true }\n",
        ),
        ("crates/oslo-messaging/src/lib.rs", "\n"),
    ]
}

/// Writes `files` into a folder of their own and returns what the rules say about them.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    violations(&Tree::read(folder.path()).unwrap())
}

#[test]
fn a_sound_tree_is_accepted() {
    assert_eq!(check(&sound()), Vec::<String>::new());
}

#[test]
fn every_broken_rule_is_found_alone() {
    let cases: &[(&str, &str, &str)] = &[
        // Crates.
        (
            "crates/proto/Cargo.toml",
            "[dependencies]\noslo-messaging-core.workspace = true\n",
            "points up",
        ),
        (
            "crates/proto/Cargo.toml",
            "[dependencies.oslo-messaging-amqp]\nworkspace = true\n",
            "points up",
        ),
        (
            "crates/core/Cargo.toml",
            "[dependencies]\nd = { package = \"oslo-messaging-rabbit\" }\n",
            "points up",
        ),
        (
            "crates/core/Cargo.toml",
            "[target.'cfg(unix)'.dependencies]\noslo-messaging = \"0.1\"\n",
            "points up",
        ),
        (
            "crates/core/Cargo.toml",
            "[build-dependencies]\noslo-messaging = \"0.1\"\n",
            "points up",
        ),
        (
            "crates/core/Cargo.toml",
            "[dev-dependencies]\noslo-messaging-rabbit = \"0.1\"\n",
            "points up",
        ),
        (
            "crates/testkit/Cargo.toml",
            "[dependencies]\noslo-messaging-rabbit = \"0.1\"\n",
            "points up or sideways",
        ),
        (
            "crates/oslo-messaging/Cargo.toml",
            "[dependencies]\noslo-messaging-amqp = \"0.1\"\n",
            "only",
        ),
        (
            "crates/proto/Cargo.toml",
            "[dependencies]\ntokio.workspace = true\n",
            "tokio",
        ),
        (
            "crates/proto/Cargo.toml",
            "[dev-dependencies]\ntokio = \"1\"\n",
            "tokio",
        ),
        (
            "crates/new/Cargo.toml",
            "[package]\nname = \"oslo-messaging-new\"\n",
            "no floor",
        ),
        // Ranks of core.
        (
            "crates/core/src/error.rs",
            "use crate::rpc::Client;\n",
            "error sees rpc",
        ),
        (
            "crates/core/src/driver.rs",
            "fn f() { crate::server::start(); }\n",
            "driver sees server",
        ),
        (
            "crates/core/src/driver.rs",
            "use crate::{error::Error, server::{self, Server}};\n",
            "driver sees server",
        ),
        (
            "crates/core/src/notify/mod.rs",
            "use crate::rpc::Client;\n",
            "notify sees rpc",
        ),
        (
            "crates/core/src/rpc/call.rs",
            "use crate::notify::Notifier;\n",
            "rpc sees notify",
        ),
        (
            "crates/core/src/rpc/call.rs",
            "use super::super::notify::Notifier;\n",
            "super::super",
        ),
        ("crates/core/src/lib.rs", "mod stray;\n", "no rank"),
        // The roof.
        (
            "crates/proto/src/url.rs",
            "use crate::Url;\n",
            "through lib.rs",
        ),
        (
            "crates/proto/src/url.rs",
            "fn f(_: crate::Url) {}\n",
            "through lib.rs",
        ),
        (
            "crates/proto/src/url.rs",
            "use super::Url;\n",
            "through lib.rs",
        ),
        (
            "crates/proto/src/wire/mod.rs",
            "use crate::{Url, url::Host};\n",
            "through lib.rs",
        ),
        (
            "crates/proto/src/wire/mod.rs",
            "pub(crate) use crate::{self as all};\n",
            "through lib.rs",
        ),
        // Globs.
        ("crates/proto/src/url.rs", "use std::fmt::*;\n", "glob"),
        (
            "crates/proto/src/url.rs",
            "pub use crate::wire::{request::{self, *}};\n",
            "glob",
        ),
        (
            "crates/proto/src/url.rs",
            "mod inner { use super::*; }\n",
            "glob",
        ),
        // Tokio in the state machine.
        (
            "crates/amqp/src/codec.rs",
            "use tokio::time::Instant;\n",
            "tokio",
        ),
        (
            "crates/amqp/src/codec.rs",
            "fn f() { ::tokio::spawn(async {}); }\n",
            "tokio",
        ),
        (
            "crates/amqp/src/codec.rs",
            "use {std::fmt, tokio::io};\n",
            "tokio",
        ),
    ];
    for (path, addition, expected) in cases {
        let mut files = sound();
        let broken = match files.iter_mut().find(|(known, _)| known == path) {
            Some(file) => {
                file.1 = Box::leak(format!("{}{addition}", file.1).into_boxed_str());
                check(&files)
            }
            None => {
                files.push((path, addition));
                check(&files)
            }
        };
        assert_eq!(broken.len(), 1, "{path} with {addition:?}: {broken:?}");
        assert!(
            broken[0].contains(expected) && broken[0].contains(path.split("/src").next().unwrap()),
            "{broken:?}"
        );
    }
}

#[test]
fn what_only_tests_do_is_left_alone() {
    for (path, addition) in [
        (
            "crates/amqp/src/codec.rs",
            "#[cfg(test)]\nmod tests { use tokio::test; fn f() { let _ = '{'; } }\n",
        ),
        (
            "crates/amqp/src/codec.rs",
            "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests;\n#[cfg(test)]\nuse tokio::test;\n",
        ),
        (
            "crates/proto/src/url/tests.rs",
            "use super::*;\nuse crate::Url;\n",
        ),
        (
            "crates/proto/tests/wire.rs",
            "use oslo_messaging_proto::*;\n",
        ),
        (
            "crates/proto/benches/wire.rs",
            "use oslo_messaging_proto::*;\n",
        ),
        (
            "crates/amqp/src/codec.rs",
            "/* use tokio::net; /* nested */ use tokio::io; */ const C: char = '\"';\n",
        ),
        (
            "crates/amqp/src/codec.rs",
            "const R: &str = r#\"\"use tokio::net;\"#; const B: &[u8] = b\"tokio::x\\\"\";\n",
        ),
    ] {
        let mut files = sound();
        match files.iter_mut().find(|(known, _)| *known == path) {
            Some(file) => file.1 = Box::leak(format!("{}{addition}", file.1).into_boxed_str()),
            None => files.push((path, addition)),
        }
        assert_eq!(
            check(&files),
            Vec::<String>::new(),
            "{path} with {addition:?}"
        );
    }
}
