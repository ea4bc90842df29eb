//! The documents that are printed from the tables of options are up to date.
//!
//! With `OSLO_TEST_RENEW=1` they are written instead, as `omsg config reference` and `omsg config sample` print them.
#![cfg(all(feature = "config-file", feature = "rabbit"))]

use oslo_messaging::config::{reference, sample};

fn check(name: &str, text: &str) {
    let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("OSLO_TEST_RENEW").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    }
    let committed =
        std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    assert!(
        committed == text,
        "docs/{name} is stale: run this test with OSLO_TEST_RENEW=1"
    );
}

#[test]
fn the_reference_of_all_options_is_up_to_date() {
    check("config.md", &reference());
}

#[test]
fn the_sample_of_all_options_is_up_to_date() {
    check("oslo-messaging.conf.sample", &sample());
}
