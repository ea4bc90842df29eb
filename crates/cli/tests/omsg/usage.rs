//! Help, and everything that is refused before a bus is touched.

use std::process::Stdio;

use crate::run::{run, run_at};

const URL: &str = "rabbit://joe:s3cret@127.0.0.1:1/";

/// Runs omsg, which must refuse the words, say `hint`, and print no result and no password.
fn refused(words: &[&str], hint: &str) {
    let ended = run_at(URL, words);
    assert_eq!(ended.status, Some(2), "{words:?}: {ended:?}");
    assert_eq!(ended.out, "", "{words:?}");
    assert!(ended.errors.contains(hint), "{words:?}: {}", ended.errors);
    assert!(
        !ended.errors.contains("s3cret"),
        "{words:?}: {}",
        ended.errors
    );
}

#[test]
fn version_and_help_are_results() {
    let ended = run(&["--version"]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), concat!("omsg ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for words in [
        &["--help"][..],
        &["call", "--help"],
        &["serve", "--help"],
        &["ping", "--help"],
        &["demo", "-h"],
    ] {
        let ended = run(words);
        assert_eq!(
            (ended.status, ended.errors.as_str()),
            (Some(0), ""),
            "{words:?}"
        );
        assert!(
            ended.out.contains("Usage: omsg"),
            "{words:?}: {}",
            ended.out
        );
        assert!(
            ended.out.lines().all(|line| line.chars().count() <= 100),
            "{}",
            ended.out
        );
    }
}

#[test]
fn words_that_make_no_sense_are_wrong_usage() {
    refused(&[], "Usage");
    refused(&["dance"], "dance");
    refused(&["call", "topic"], "METHOD");
    refused(&["call", "topic", "method", "--timeout", "soon"], "seconds");
    refused(&["call", "topic", "method", "--retry", "-2"], "--retry");
    refused(&["call", "topic", "method", "--monitor", "1"], "--monitor");
    refused(&["call", "", "method"], "TOPIC");
    refused(&["call", "topic", "method", "abc"], "key=value");
    refused(&["call", "topic", "method", "a=1", "a=2"], "twice");
    refused(&["call", "topic", "method", "--context", "[]"], "--context");
    refused(
        &["call", "topic", "method", "--context", "{s3cret"],
        "--context",
    );
    refused(
        &["call", "topic", "method", "--version", "new"],
        "--version",
    );
    refused(&["call", "topic", "method", "--fanout"], "cast --fanout");
    refused(
        &["cast", "topic", "method", "--fanout", "--server", "s"],
        "choose",
    );
    refused(&["cast", "topic", "method", "--monitor", "5"], "--monitor");
    refused(&["ping", ""], "TOPIC");
    refused(&["ping", "topic."], "TOPIC.SERVER");
    refused(&["ping", "topic", "--count", "0"], "--count");
    refused(&["serve", "topic", "--concurrency", "0"], "--concurrency");
    refused(
        &["serve", "topic", "--answers", "/no/such/file"],
        "/no/such/file",
    );
    refused(&["serve", "topic", "rabbit://joe:s3cret@host/"], "***");
}

#[test]
fn urls_that_cannot_be_used_are_wrong_usage() {
    let call = |url| ["call", "topic", "method", "--url", url];
    refused(&call("joe:s3cret@host"), "transport URL");
    refused(&call("rabbit://joe:s3cret@host:port/"), "transport URL");
    refused(&call("rabbit://joe:s3cret@[::1/"), "transport URL");
    refused(&call("pigeon://joe:s3cret@host/"), "pigeon://");
    refused(
        &call("rabbit://joe:s3cret@host/?no_such_option=1"),
        "no_such_option",
    );
    refused(&call("memory://?no_such_option=1"), "no_such_option");
}

#[test]
fn a_missing_url_is_told_with_the_ways_to_give_one() {
    for words in [
        &["call", "t", "m"][..],
        &["cast", "t", "m"],
        &["ping", "t"],
        &["serve", "t"],
    ] {
        let ended = run(words);
        assert_eq!(ended.status, Some(2), "{words:?}");
        assert!(
            ended.errors.contains("--url") && ended.errors.contains("OSLO_TRANSPORT_URL"),
            "{}",
            ended.errors
        );
    }
}

#[test]
fn problems_are_objects_for_programs() {
    let ended = run(&["--json", "call", "t", "m"]);
    assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""));
    let problem: serde_json::Value = serde_json::from_str(&ended.errors).expect("one object");
    assert_eq!(problem["event"], "error");
    assert_eq!(problem["kind"], "wrong usage");
    assert_eq!(problem["exit"], 2);
}

#[test]
fn a_filter_of_log_lines_that_cannot_be_read_is_wrong_usage() {
    let output = crate::run::omsg(&["demo"])
        .env("OMSG_LOG", "a=b=c")
        .output()
        .expect("omsg runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("OMSG_LOG"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_omsg"))
        .args(["demo", "--load", "0"])
        .env_remove("OSLO_TRANSPORT_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("omsg starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("omsg ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
