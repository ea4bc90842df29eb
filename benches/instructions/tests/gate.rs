//! The gate as CI runs it, with counts that were tampered with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::CommandCargoExt;

/// Cheap to count.
const PATH: &str = "failure/write";

fn gate(record: &Path, more: &[&str]) -> Output {
    let folder = record.parent().unwrap();
    let mut command = Command::cargo_bin("instructions").unwrap();
    command
        .args(more)
        .arg("--record")
        .arg(record)
        .arg("--profiles")
        .arg(folder);
    command.output().unwrap()
}

/// Records `PATH`; `None` where there is no valgrind, which is said.
fn recorded(folder: &Path) -> Option<(std::path::PathBuf, serde_json::Value)> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("OSLO_TEST_REQUIRE_SERVICES").is_none(),
            "valgrind is missing"
        );
        println!("skipped: there is no valgrind");
        return None;
    }
    let file = folder.join("recorded.json");
    let made = gate(&file, &["--renew", "--only", PATH]);
    assert!(made.status.success(), "{made:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    Some((file, serde_json::from_str(&text).unwrap()))
}

/// The exit code and the words when `percent` of what was counted is recorded.
fn judged(percent: u64) -> Option<(Option<i32>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (file, mut record) = recorded(folder.path())?;
    let count = record["counts"][PATH].as_u64().unwrap();
    record["counts"][PATH] = (count * 100 / percent).into();
    std::fs::write(&file, record.to_string()).unwrap();
    let output = gate(&file, &["--only", PATH]);
    Some((
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    ))
}

#[test]
fn what_grew_by_six_percent_fails() {
    let Some((code, said)) = judged(106) else {
        return;
    };
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("GREW") && said.contains("--renew"), "{said}");
}

#[test]
fn what_grew_by_four_percent_passes() {
    let Some((code, said)) = judged(104) else {
        return;
    };
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_path_that_is_not_recorded_or_gone_fails() {
    let folder = tempfile::tempdir().unwrap();
    let Some((file, mut record)) = recorded(folder.path()) else {
        return;
    };
    let count = record["counts"][PATH].take();
    record["counts"] = serde_json::json!({ "failure/write-another-way": count });
    std::fs::write(&file, record.to_string()).unwrap();
    let output = gate(&file, &["--only", PATH]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NEW") && said.contains("GONE"), "{said}");
}

#[test]
fn counts_of_another_platform_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let Some((file, mut record)) = recorded(folder.path()) else {
        return;
    };
    record["target"] = "sparc64-unknown-netbsd".into();
    std::fs::write(&file, record.to_string()).unwrap();
    let output = gate(&file, &["--only", PATH]);
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("nothing to compare")
    );
}

#[test]
fn a_name_that_nothing_has_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let output = gate(
        &folder.path().join("recorded.json"),
        &["--renew", "--only", "nonsense"],
    );
    if Command::new("valgrind").arg("--version").output().is_ok() {
        assert_eq!(output.status.code(), Some(2));
    }
}
