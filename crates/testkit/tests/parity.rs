//! `docs/parity.md` and `docs/wire.md` claim nothing that the tree does not hold.
//!
//! The ids of all rows are data in `parity/ids.txt`; `parity/table.rs` reads the table and holds the rules; here the
//! rules are put to the project, and to small tables that each break one of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "parity/table.rs"]
mod table;

use table::{faults, has_case, has_test, named_in_last_cells};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether `file`, below `crates/` or a Python file below `bindings/`, has a test of this name.
fn exists(file: &str, name: &str) -> bool {
    let inside = !file.split('/').any(|part| part == "..");
    if inside && file.starts_with("bindings/") && file.ends_with(".py") {
        let source = fs::read_to_string(project().join(file)).unwrap_or_default();
        let start = format!("def {name}(");
        return name.starts_with("test_") && source.lines().any(|line| line.starts_with(&start));
    }
    let source = fs::read_to_string(project().join("crates").join(file));
    let Some(source) = source.ok().filter(|_| inside) else {
        return false;
    };
    if file.starts_with("testkit/src/conformance/") {
        has_case(
            &source,
            &read("crates/testkit/src/conformance/mod.rs"),
            name,
        )
    } else {
        has_test(&source, name)
    }
}

#[test]
fn the_parity_table_names_every_row_and_only_tests_that_exist() {
    let found = faults(
        &read("docs/parity.md"),
        include_str!("parity/ids.txt"),
        &exists,
    );
    assert!(
        found.is_empty(),
        "{} faults in docs/parity.md:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_wire_table_names_only_vectors_that_exist_and_every_one_of_them() {
    let text = read("docs/wire.md");
    let named: BTreeSet<&str> = named_in_last_cells(&text).collect();
    let held: BTreeSet<String> = fs::read_dir(project().join("vectors"))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().path().file_stem()?.to_str()?.to_owned()))
        .collect();
    let missing: Vec<&&str> = named.iter().filter(|name| !held.contains(**name)).collect();
    assert!(missing.is_empty(), "no such vectors: {missing:?}");
    let unused: Vec<&String> = held
        .iter()
        .filter(|name| !named.contains(name.as_str()))
        .collect();
    assert!(unused.is_empty(), "vectors that no field names: {unused:?}");
}

const IDS: &str = "# rows\nT1\n2.4 hosts\nA5\n";

/// A table in which every rule is kept.
const SOUND: &str = "\
| state | rows |
|---|---|
| done | 1 |
| done (part) | 0 |
| better | 1 |
| better (part) | 0 |
| not yet | 1 |
| of them without counterpart | 1 |
| all | 3 |

text | with | bars

| id | row | state | how, or what is missing | shown by |
|---|---|---|---|---|
| T1 | fields | done | | `a/tests/x.rs::one` |
| 2.4 hosts | several brokers | better | in turn | `a/tests/x.rs::one` `a/src/y.rs::two` |

| id | row | state | how, or what is missing | shown by |
|---|---|---|---|---|
| A5 | a defect | not yet | no counterpart: none | |
";

fn known(file: &str, name: &str) -> bool {
    [("a/tests/x.rs", "one"), ("a/src/y.rs", "two")].contains(&(file, name))
}

#[test]
fn a_sound_table_is_accepted() {
    assert_eq!(faults(SOUND, IDS, &known), Vec::<String>::new());
}

#[test]
fn every_broken_rule_of_the_table_is_found_alone() {
    let cases = [
        (
            "a/tests/x.rs::one` |\n| 2.4",
            "a/tests/x.rs::gone` |\n| 2.4",
            "T1: no test a/tests/x.rs::gone",
        ),
        (
            "`a/src/y.rs::two`",
            "`a/src/y.rs`",
            "2.4 hosts: `a/src/y.rs` is no `file::test`",
        ),
        (
            "`a/src/y.rs::two`",
            "and others",
            "2.4 hosts: \"and others\" is no `file::test`",
        ),
        (
            "| done | | `a/tests/x.rs::one` |",
            "| done | | |",
            "T1: done without a test",
        ),
        (
            "| in turn | `a/tests/x.rs::one` `a/src/y.rs::two` |",
            "| in turn | |",
            "2.4 hosts: better without a test",
        ),
        (
            "| better | in turn |",
            "| better | |",
            "2.4 hosts: better without a word how",
        ),
        (
            "| T1 | fields | done | |",
            "| T1 | fields | DONE | |",
            "T1: unknown state \"DONE\"",
        ),
        (
            "| T1 | fields | done | |",
            "| T1 | | done | |",
            "T1: has no name",
        ),
        (
            "no counterpart: none | |",
            "no counterpart: none | `a/src/y.rs::two` |",
            "A5: not yet, and yet a test",
        ),
        ("| A5 |", "| A6 |", "A6: no such row in the list of ids"),
        (
            "| 2.4 hosts | several brokers | better | in turn |",
            "| 2.4 hosts | better | in turn |",
            "2.4 hosts: 4 cells instead of 5",
        ),
        (
            "| all | 3 |",
            "| all | 4 |",
            "the summary says 4 for \"all\", the table 3",
        ),
        (
            "| of them without counterpart | 1 |",
            "| of them without counterpart | 0 |",
            "the summary says 0 for \"of them without counterpart\", the table 1",
        ),
        (
            "| done (part) | 0 |\n",
            "",
            "the summary has no line \"done (part)\"",
        ),
    ];
    for (good, bad, expected) in cases {
        assert_eq!(SOUND.matches(good).count(), 1, "{good}");
        let found = faults(&SOUND.replace(good, bad), IDS, &known);
        assert!(
            found.iter().any(|fault| fault == expected),
            "{bad}: {found:?}"
        );
    }
    let twice = SOUND.replace("| A5 |", "| T1 |");
    let found = faults(&twice, IDS, &known);
    assert!(
        found.contains(&"T1: is there twice".to_owned()),
        "{found:?}"
    );
    assert!(
        found.contains(&"A5: the row is missing".to_owned()),
        "{found:?}"
    );
    let part = SOUND
        .replace("| T1 | fields | done |", "| T1 | fields | done (part) |")
        .replace(
            "| done | 1 |\n| done (part) | 0 |",
            "| done | 0 |\n| done (part) | 1 |",
        );
    assert_eq!(
        faults(&part, IDS, &known),
        ["T1: done (part) without a word what is missing"]
    );
    assert_eq!(
        faults(SOUND, "T1\nT1\n2.4 hosts\nA5\n", &known),
        ["T1: is in the list of ids twice"]
    );
}

#[test]
fn only_what_the_test_runner_runs_counts_as_a_test() {
    let source = "\
#[test]
fn plain() {}

#[tokio::test(flavor = \"multi_thread\", worker_threads = 2)]
#[cfg(unix)]
async fn spawned() {}

proptest! {
    /// With a document line.
    #[test]
    fn generated(x in 0..3) {}
}

fn helper() {}

#[cfg(test)]
fn gated() {}

// #[test]
fn commented() {}
";
    for name in ["plain", "spawned", "generated"] {
        assert!(has_test(source, name), "{name}");
    }
    for name in ["helper", "gated", "commented", "plai", "a_case", ""] {
        assert!(!has_test(source, name), "{name}");
    }
    let suite = "/// A case.\npub async fn a_case(bus: Bus) {}\npub async fn unlisted(bus: Bus) {}\nasync fn a_helper() {}\n";
    let list = "rpc: [\n    a_case\n    a_helper\n];\n";
    assert!(has_case(suite, list, "a_case") && !has_test(suite, "a_case"));
    for name in ["unlisted", "a_helper", "a_cas", ""] {
        assert!(!has_case(suite, list, name), "{name}");
    }
}

#[test]
fn vectors_are_read_from_last_cells_only() {
    let text = "| field `rpc_no` | `rpc_call_int`, `conn_handshake` |\n|---|---|\ntext `rpc_other`\n| a | `x y` – |\n";
    let named: Vec<&str> = named_in_last_cells(text).collect();
    assert_eq!(named, ["rpc_call_int", "conn_handshake", "x y"]);
}
