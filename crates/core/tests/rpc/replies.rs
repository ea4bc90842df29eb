//! What the client makes of replies.

use std::time::Duration;

use oslo_messaging_core::driver::Settlement;
use oslo_messaging_core::error::ErrorKind;
use tokio::time::{Instant, sleep};

use crate::calling::{call, client, heartbeat, reply, result};
use crate::scripted::Scripted;

#[tokio::test(start_paused = true)]
async fn a_reply_in_two_parts_is_understood() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.deliver(reply(
        &sent,
        r#""result": 3, "failure": null, "ending": false"#,
    ));
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    driver.deliver(reply(
        &sent,
        r#""result": null, "failure": null, "ending": true"#,
    ));
    assert_eq!(call.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_monitor_ends_a_call_whose_server_is_silent() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver)
        .timeout(Duration::from_secs(60))
        .call_monitor_timeout(Duration::from_secs(4));
    let before = Instant::now();
    let call = call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(sent.message().get("_timeout").unwrap().to_string(), "4");
    sleep(Duration::from_secs(3)).await;
    driver.deliver(heartbeat(&sent));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        before.elapsed(),
        Duration::from_secs(7),
        "renewed once by the heartbeat"
    );
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("no sign of life"), "{error}");
    assert_eq!(client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_renew_the_timeout() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver)
        .timeout(Duration::from_secs(5))
        .call_monitor_timeout(Duration::from_secs(2));
    let before = Instant::now();
    let call = call(&client);
    let sent = driver.next_sent().await;
    while before.elapsed() < Duration::from_secs(5) {
        driver.deliver(heartbeat(&sent));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_nobody_asked_for_are_tolerated() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.deliver(heartbeat(&sent));
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_remote_failure_reaches_the_caller_as_data() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    let failure = r#""{\"class\": \"NodeNotFound\", \"module\": \"nova.exception\", \"message\": \"no node \\u00e9\", \"tb\": [\"line\\n\"], \"args\": [\"x\", 1], \"kwargs\": {\"code\": 404}}""#;
    driver.deliver(reply(
        &sent,
        &format!(r#""result": null, "failure": {failure}, "ending": true"#),
    ));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Remote);
    let remote = error.remote().unwrap();
    assert_eq!(
        (remote.module(), remote.class()),
        ("nova.exception", "NodeNotFound")
    );
    assert_eq!(remote.message(), "no node é");
    assert_eq!(remote.traceback(), ["line\n"]);
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_a_dispatcher_have_kinds_of_their_own() {
    let driver = Scripted::new();
    driver.confirm_all();
    for (class, kind) in [
        ("NoSuchMethod", ErrorKind::NoSuchMethod),
        ("UnsupportedVersion", ErrorKind::UnsupportedVersion),
    ] {
        let call = call(&client(&driver));
        let sent = driver.next_sent().await;
        let failure = format!(
            r#""{{\"class\": \"{class}\", \"module\": \"oslo_messaging.rpc.dispatcher\", \"message\": \"m\", \"tb\": [], \"args\": [], \"kwargs\": {{}}}}""#
        );
        driver.deliver(reply(
            &sent,
            &format!(r#""result": null, "failure": {failure}, "ending": true"#),
        ));
        assert_eq!(call.await.unwrap().unwrap_err().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_cannot_be_read_is_a_decode_error() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let call = call(&client);
    let sent = driver.next_sent().await;
    driver.deliver(reply(
        &sent,
        r#""result": null, "failure": "not json", "ending": true"#,
    ));
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Decode);
    assert_eq!(client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_of_another_type_is_a_decode_error() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.deliver(reply(
        &sent,
        r#""result": "text", "failure": null, "ending": true"#,
    ));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().contains("method add"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_read_is_rejected() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    let tag = driver.deliver("not json");
    assert_eq!(driver.settlement(tag), Some(Settlement::Reject));
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}
