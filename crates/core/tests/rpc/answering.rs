//! Replies and heartbeats on their way to the caller.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::driver::{Capabilities, ListenerEvent};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::Acknowledge;
use oslo_messaging_proto::json::value::Value;
use tokio::time::{Instant, sleep};

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, fault};
use crate::serving::{builder, call, class_and_message, request, server};

#[tokio::test(start_paused = true)]
async fn a_reply_too_large_for_the_bus_is_replaced_by_a_small_failure() {
    let driver = Scripted::new();
    driver.answer(|sent| {
        Some(if sent.text("failure").is_empty() {
            Err(fault(ErrorKind::TooLarge))
        } else {
            Ok(())
        })
    });
    let _server = server(&driver, &Desk::new()).await;
    driver.deliver(call("huge", "m1", ""));
    assert_eq!(
        driver
            .next_sent()
            .await
            .message()
            .get("result")
            .unwrap()
            .to_string(),
        "\"a very long text\""
    );
    let told = driver.next_sent().await;
    assert!(told.persistent, "it is not what its server keeps");
    assert_eq!(told.text("_msg_id"), "m1");
    assert!(
        class_and_message(&told)
            .2
            .starts_with("the reply cannot be sent: message too large")
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_the_bus_has_not_confirmed_yet_holds_no_permit() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    driver.deliver(call("echo", "m1", ""));
    driver.deliver(call("echo", "m2", ""));
    let (first, second) = (driver.next_sent().await, driver.next_sent().await);
    assert!(first.is_awaited() && second.is_awaited());
    first.confirm();
    second.confirm();
    let stopped = server.stop_within(Duration::from_secs(1)).await;
    assert_eq!((stopped.aborted, stopped.replies_dropped), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_offered_until_its_queue_appears_with_a_new_id_each_time_and_without_a_permit() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    driver.answer(|sent| {
        (sent.to == "reply queue reply_x").then(|| Err(fault(ErrorKind::Undeliverable)))
    });
    driver.deliver(call("echo", "m1", r#""args": {"value": 7}"#));
    let first = driver.next_sent().await;
    // The only permit is free for others.
    driver.deliver(r#"{"method": "echo", "_msg_id": "m2", "_reply_q": "elsewhere"}"#);
    let other = driver.next_sent().await;
    assert_eq!(other.to, "reply queue elsewhere");
    other.confirm();
    let second = driver.next_sent().await;
    assert_eq!(second.at - first.at, Duration::from_millis(250));
    assert_ne!(first.text("_unique_id"), second.text("_unique_id"));
    assert_eq!(
        (
            second.text("_msg_id").as_str(),
            second.message().get("result").unwrap().to_string().as_str()
        ),
        ("m1", "7")
    );
    driver.confirm_all();
    let third = driver.next_sent().await;
    assert_eq!(third.text("_msg_id"), "m1");
    let stopped = server.stop().await;
    assert_eq!((stopped.replies_dropped, driver.sent_count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reply_queue_that_stays_away_is_remembered_as_gone_for_a_minute() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let server = server(&driver, &Desk::new()).await;
    let begin = Instant::now();
    driver.deliver(call("echo", "m1", ""));
    let mut attempts = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        driver.next_sent().await;
        attempts += 1;
        if attempts == 241 {
            break;
        }
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.sent_count(), 0, "given up after 60 s");
    assert_eq!(server.stats().replies_dropped, 1);
    let next = driver.deliver(call("echo", "m2", ""));
    driver.settled(next).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (driver.sent_count(), server.stats().replies_dropped),
        (0, 2),
        "dropped without an attempt"
    );
    sleep(Duration::from_secs(60)).await;
    driver.confirm_all();
    driver.deliver(call("echo", "m3", ""));
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m3");
}

#[tokio::test(start_paused = true)]
async fn without_patience_a_reply_to_a_missing_queue_is_offered_once() {
    let mut capabilities = Capabilities::rpc();
    capabilities.mandatory = true;
    let driver = Scripted::with(capabilities);
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let server = server(&driver, &Desk::new()).await;
    driver.deliver(call("echo", "m1", ""));
    driver.next_sent().await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (driver.sent_count(), server.stats().replies_dropped),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_reply_queue_runs_and_answers_nobody() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver(request("echo", r#""_msg_id": "m1""#));
    desk.entered(1).await;
    server.stop().await;
    assert_eq!(
        (desk.ended.load(Ordering::SeqCst), driver.sent_count()),
        (1, 0)
    );
}

/// What a server gives again when it is asked, the broker need not write to its disk.
#[tokio::test(start_paused = true)]
async fn a_reply_has_to_outlive_the_broker_only_if_its_server_does_not_keep_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let small = r#""args": {"value": 7}"#.to_owned();
    let large = format!(r#""args": {{"value": "{}"}}"#, "x".repeat(1 << 20));
    let (drawn, foreign) = ("0f".repeat(16), "unique-m1");
    for (args, id, persistent) in [
        (&small, &*drawn, false),
        (&large, &*"1e".repeat(16), true),
        // Nobody can ask for it: it is not known by such an id.
        (&small, foreign, true),
    ] {
        let ids = format!(r#""_msg_id": "m1", "_reply_q": "reply_x", "_unique_id": "{id}""#);
        driver.deliver(request("echo", &format!("{args}, {ids}")));
        assert_eq!(driver.next_sent().await.persistent, persistent, "{id}");
    }
    // The same reply again, to the same caller: it asks from another queue.
    let moved =
        format!(r#"{small}, "_msg_id": "m1", "_reply_q": "reply_y", "_unique_id": "{drawn}""#);
    driver.deliver(request("echo", &moved));
    let again = driver.next_sent().await;
    assert_eq!(
        (&*again.to, again.persistent),
        ("reply queue reply_y", false)
    );
    // A sign of life is followed by another.
    driver.deliver(call("hold", "m2", r#""_timeout": 3"#));
    let beat = driver.next_sent().await;
    assert_eq!(beat.message().get("ending"), Some(&Value::Bool(false)));
    assert!(!beat.persistent);
}

/// The request is acknowledged because the bus has the reply; nobody would have either after a restart of both.
#[tokio::test(start_paused = true)]
async fn a_reply_that_stands_for_its_request_has_to_outlive_the_broker() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver).acknowledge(Acknowledge::After);
    let server = server.endpoint(Methods::new(&desk)).start().await;
    let _server = server.expect("a server");
    let ids = format!(
        r#""_msg_id": "m1", "_reply_q": "reply_x", "_unique_id": "{}""#,
        "0f".repeat(16)
    );
    driver.deliver(request(
        "echo",
        &format!(r#""args": {{"value": 7}}, {ids}"#),
    ));
    assert!(driver.next_sent().await.persistent);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_waits_for_its_queue_stays_what_it_was() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let _server = server(&driver, &Desk::new()).await;
    let ids = format!(
        r#""_msg_id": "m1", "_reply_q": "reply_x", "_unique_id": "{}""#,
        "0f".repeat(16)
    );
    driver.deliver(request("echo", &ids));
    for _ in 0..3 {
        assert!(!driver.next_sent().await.persistent);
    }
    driver.deliver(call("echo", "m2", ""));
    for _ in 0..3 {
        let mut sent = driver.next_sent().await;
        while sent.text("_msg_id") != "m2" {
            sent = driver.next_sent().await;
        }
        assert!(sent.persistent);
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_every_half_of_the_monitor_timeout_while_the_method_runs() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let begin = Instant::now();
    driver.deliver(call("hold", "m1", r#""_timeout": 3"#));
    for n in 1..=3 {
        let beat = driver.next_sent().await;
        assert_eq!(beat.at - begin, Duration::from_millis(1500) * n);
        assert_eq!(
            (beat.to.as_str(), beat.text("_msg_id").as_str()),
            ("reply queue reply_x", "m1")
        );
        assert_eq!(beat.message().get("ending"), Some(&Value::Bool(false)));
        assert_eq!(beat.message().get("result"), Some(&Value::Null));
    }
    desk.gate.add_permits(1);
    let last = driver.next_sent().await;
    assert_eq!(last.message().get("ending"), Some(&Value::Bool(true)));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(driver.sent_count(), 0, "no heartbeat after the reply");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_stop_when_the_method_is_missing_or_panics_and_short_monitors_get_none() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    for (n, method) in ["nope", "boom"].into_iter().enumerate() {
        driver.deliver(call(method, &format!("m{n}"), r#""_timeout": 2"#));
        driver.next_sent().await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(driver.sent_count(), 0);
    }
    for (n, timeout) in ["1", "1.9", "null", "\"abc\"", "[4]"]
        .into_iter()
        .enumerate()
    {
        driver.deliver(call(
            "hold",
            &format!("t{n}"),
            &format!(r#""_timeout": {timeout}"#),
        ));
        sleep(Duration::from_secs(10)).await;
        assert_eq!(driver.sent_count(), 0, "_timeout {timeout}");
        desk.gate.add_permits(1);
        driver.next_sent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_to_a_missing_queue_end_and_the_reply_is_tried_as_usual() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    driver.deliver(call("hold", "m1", r#""_timeout": 2"#));
    driver.next_sent().await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(driver.sent_count(), 0);
    driver.confirm_all();
    desk.gate.add_permits(1);
    assert_eq!(
        driver.next_sent().await.message().get("ending"),
        Some(&Value::Bool(true))
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_sent_again_to_a_caller_that_asks_again_after_the_broker_lost_its_queues() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let body = format!(
        r#"{{"method": "echo", "args": {{"value": 7}}, "_msg_id": "m1", "_reply_q": "q", "_unique_id": "{:032x}"}}"#,
        7
    );
    driver.deliver(body.clone());
    let first = driver.next_sent().await;
    let silent = driver.deliver(body.clone());
    driver.settled(silent).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        driver.sent_count(),
        0,
        "a duplicate is dropped as by the reference"
    );
    driver.event(ListenerEvent::Interrupted);
    driver.event(ListenerEvent::Restored { recreated: true });
    driver.deliver(body);
    let again = driver.next_sent().await;
    assert_eq!(again.text("_msg_id"), "m1");
    assert_eq!(again.message().get("result"), first.message().get("result"));
    assert_ne!(again.text("_unique_id"), first.text("_unique_id"));
    assert_eq!(desk.started(), 1, "it did not run twice");
}

#[tokio::test(start_paused = true)]
async fn replies_that_wait_for_their_queues_are_bounded_and_then_requests_keep_permits() {
    const LIMIT: usize = 2048;
    const PERMITS: usize = 64;
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    for n in 0..LIMIT + PERMITS {
        driver.deliver(call("echo", &format!("m{n}"), ""));
        desk.entered(1).await;
    }
    for n in 0..5 {
        driver.deliver(call("echo", &format!("more{n}"), ""));
    }
    let stats = server.stats();
    assert_eq!((stats.running, stats.waiting), (PERMITS, 5));
    assert_eq!(stats.replies_dropped, 0);
    let stopped = server.stop_within(Duration::ZERO).await;
    assert_eq!(
        (stopped.aborted, stopped.replies_dropped, stopped.requeued),
        (PERMITS, LIMIT, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_asks_again_from_another_queue_is_answered_there_and_its_request_runs_once() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let body = |method: &str, queue: &str, id: u32| {
        format!(
            r#"{{"method": "{method}", "args": {{"value": 7}}, "_msg_id": "m{id}", "_reply_q": "{queue}", "_unique_id": "{id:032x}"}}"#
        )
    };
    driver.deliver(body("echo", "old", 1));
    assert_eq!(driver.next_sent().await.to, "reply queue old");
    driver.deliver(body("echo", "new", 1));
    assert_eq!(driver.next_sent().await.to, "reply queue new");

    // Also while it still runs.
    driver.deliver(body("hold", "old", 2));
    desk.entered(2).await;
    let repeated = driver.deliver(body("hold", "new", 2));
    driver.settled(repeated).await;
    desk.gate.add_permits(1);
    assert_eq!(driver.next_sent().await.to, "reply queue new");
    assert_eq!(desk.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_given_once_more_to_who_asks_for_it_and_other_servers_stay_silent() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let id = format!("{:032x}", 7);
    driver.deliver(format!(
        r#"{{"method": "echo", "args": {{"value": 7}}, "_msg_id": "m1", "_reply_q": "q", "_unique_id": "{id}"}}"#
    ));
    let first = driver.next_sent().await;
    let ask = |request: &str, unique: u32| {
        format!(
            r#"{{"method": "oslo_rpc_reply_again_ignore_errors", "args": {{"requests": [
            {{"request": "{request}", "msg_id": "m1"}}], "reply_q": "elsewhere"}}, "_unique_id": "{unique:032x}"}}"#
        )
    };
    driver.deliver(ask(&id, 100));
    let sign = driver.next_sent().await;
    assert_eq!(sign.message().get("ending"), Some(&Value::Bool(false)));
    assert!(sign.urgent && !sign.mandatory && !sign.persistent);
    assert_eq!(sign.to, "reply queue elsewhere");
    let again = driver.next_sent().await;
    assert_eq!(again.to, "reply queue elsewhere");
    assert_eq!(again.text("_msg_id"), "m1");
    assert_eq!(again.message().get("result"), first.message().get("result"));
    let unknown = driver.deliver(ask(&format!("{:032x}", 8), 101));
    driver.settled(unknown).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((driver.sent_count(), desk.started()), (0, 1));

    // Should it still come here, its caller is known to have moved.
    driver.deliver(format!(
        r#"{{"method": "echo", "args": {{"value": 8}}, "_msg_id": "m1", "_reply_q": "q", "_unique_id": "{:032x}"}}"#,
        8
    ));
    assert_eq!(driver.next_sent().await.to, "reply queue elsewhere");
}
