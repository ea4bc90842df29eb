//! What a server writes into the log of requests that fail: once, and as loud as they are unexpected.

use std::sync::Arc;

use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::{Error, ErrorKind, RemoteError};
use oslo_messaging_core::rpc::{IntoFailure, MethodInfo, RpcServer};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use tracing::Level;

use crate::endpoints::{Desk, Methods, acts};
use crate::journal::Journal;
use crate::scripted::Scripted;
use crate::serving::{builder, call, server, target};

#[tokio::test(start_paused = true)]
async fn an_unexpected_failure_is_one_error_with_its_traceback_and_an_expected_one_is_not() {
    let journal = Journal::open();
    let driver = Scripted::new();
    driver.confirm_all();
    let names = ["expected", "caused", "told"].map(|name| (name, MethodInfo::new()));
    let endpoint = acts(&names, |_, call| {
        Box::pin(async move {
            let cause = std::io::Error::other("the disk is gone");
            let boxed: Box<dyn std::error::Error + Send + Sync> =
                Box::new(Error::new(ErrorKind::Decode, "no table").with_source(cause));
            Err(match call.method() {
                "expected" => RemoteError::new("NoNode", "nova.exception", "no node").expected(),
                "caused" => boxed.into_failure(),
                _ => RemoteError::new("Far", "nova.exception", "far away")
                    .with_traceback(vec!["Traceback of a peer\n".to_owned()]),
            })
        })
    });
    let _server = builder(&driver).endpoint(endpoint).start().await.unwrap();
    driver.deliver(call("expected", "m1", ""));
    driver.deliver(call("caused", "m2", ""));
    driver.deliver(call("told", "m3", ""));
    for _ in 0..3 {
        driver.next_sent().await;
    }
    let expected = journal.lines("msg_id=m1");
    assert_eq!(expected.len(), 1, "{expected:?}");
    assert_eq!(expected[0].level, Level::DEBUG);
    assert!(expected[0].text.contains("class=NoNode"), "{expected:?}");
    let caused = journal.lines("msg_id=m2");
    assert_eq!(caused.len(), 1, "{caused:?}");
    assert_eq!(caused[0].level, Level::ERROR);
    for part in ["method=caused", "caused by: the disk is gone", "no table"] {
        assert!(caused[0].text.contains(part), "{caused:?}");
    }
    let told = journal.lines("msg_id=m3");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].level, Level::ERROR);
    assert!(told[0].text.contains("Traceback of a peer"), "{told:?}");
    assert!(
        !told[0].text.contains("far away"),
        "only what the peer said"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_error_that_says_where_and_so_is_the_failure() {
    let journal = Journal::open();
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = server(&driver, &Desk::new()).await;
    driver.deliver(call("boom", "m1", ""));
    let failure = driver.next_sent().await.failure();
    let lines = journal.lines("msg_id=m1");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].level, Level::ERROR);
    for part in [
        "endpoints.rs\", line ",
        "RuntimeError: the handler panicked: the sky fell",
    ] {
        assert!(lines[0].text.contains(part), "{lines:?}");
    }
    let traceback = failure.get("tb").and_then(Value::as_array).unwrap();
    assert_eq!(traceback.len(), 2);
    assert!(traceback[0].as_str().unwrap().contains("endpoints.rs"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_method_is_an_error_unless_its_name_asks_for_silence() {
    let journal = Journal::open();
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = server(&driver, &Desk::new()).await;
    for (id, method, level) in [
        ("m1", "nope", Level::ERROR),
        ("m2", "nope_ignore_errors", Level::DEBUG),
    ] {
        driver.deliver(call(method, id, ""));
        assert!(
            driver
                .next_sent()
                .await
                .text("failure")
                .contains("NoSuchMethod")
        );
        let lines = journal.lines(&format!("msg_id={id}"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].level, level);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_the_reserved_name_is_warned_of_when_the_server_is_built() {
    let driver = Scripted::new();
    let own: &[&str] = &["oslo_rpc_server_ping"];
    for (ping, names, warnings) in [
        (true, own, 1),
        (false, own, 1),
        (true, &["echo"] as &[_], 0),
    ] {
        let journal = Journal::open();
        let mut options = TransportOptions::default();
        options.rpc_ping_enabled = ping;
        let transport = Transport::new(Arc::clone(&driver) as Arc<dyn Driver>, options);
        let _server = RpcServer::builder(transport, target())
            .endpoint(Methods::new(&Desk::new()).names(names))
            .build()
            .unwrap();
        let lines = journal.lines("reserved method name");
        assert_eq!(lines.len(), warnings);
        assert!(lines.iter().all(|line| line.level == Level::WARN));
    }
}
