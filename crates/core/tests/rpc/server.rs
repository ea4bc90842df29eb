//! What the server does, seen from the bus.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::driver::{
    Capabilities, Driver, ListenerEvent, Prefetch, Settlement, Subscription,
};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::{
    ExplicitRpcAccessPolicy, Interface, LegacyRpcAccessPolicy, RpcServer, RpcServerBuilder,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use tokio::time::{Instant, advance, sleep};

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, Sent, fault};

fn target() -> Target {
    Target::topic("topic-a").server("node-1")
}

fn builder(driver: &Arc<Scripted>) -> RpcServerBuilder {
    RpcServer::builder(driver.transport(), target())
}

async fn server(driver: &Arc<Scripted>, desk: &Arc<Desk>) -> RpcServer {
    builder(driver)
        .endpoint(Methods::new(desk))
        .start()
        .await
        .unwrap()
}

/// A request without envelope, with these further members.
fn request(method: &str, more: &str) -> String {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(", {more}")
    };
    format!(r#"{{"method": "{method}"{more}}}"#)
}

/// A call with this id.
fn call(method: &str, id: &str, more: &str) -> String {
    let ids = format!(r#""_msg_id": "{id}", "_reply_q": "reply_x", "_unique_id": "unique-{id}""#);
    let more = if more.is_empty() {
        ids
    } else {
        format!("{more}, {ids}")
    };
    request(method, &more)
}

fn class_and_message(sent: &Sent) -> (String, String, String) {
    let failure = sent.failure();
    let text = |key: &str| {
        failure
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("module"), text("class"), text("message"))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_acknowledged_run_and_answered() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    let tag = driver.deliver(call("add", "m1", r#""args": {"a": 2, "b": 3}"#));
    let reply = driver.next_sent().await;
    assert_eq!(driver.settlement(tag), Some(Settlement::Ack));
    assert_eq!(
        (reply.to.as_str(), reply.mandatory, reply.expires),
        ("reply queue reply_x", true, None)
    );
    let message = reply.message();
    assert_eq!(message.get("result").unwrap().to_string(), "5");
    assert_eq!(message.get("failure"), Some(&Value::Null));
    assert_eq!(message.get("ending"), Some(&Value::Bool(true)));
    assert_eq!(reply.text("_msg_id"), "m1");
    assert_eq!(reply.text("_unique_id").len(), 32);
    assert_eq!(server.stats().served, 1);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_request_is_acknowledged_before_the_method_runs_and_a_cast_is_not_answered() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    let tag = driver.deliver(request("hold", ""));
    desk.entered(1).await;
    assert_eq!(driver.settlement(tag), Some(Settlement::Ack));
    assert_eq!(server.stats().running, 1);
    desk.gate.add_permits(1);
    server.stop().await;
    assert_eq!(desk.ended.load(Ordering::SeqCst), 1);
    assert_eq!(driver.sent_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_target_needs_topic_and_server_and_a_server_an_endpoint() {
    let driver = Scripted::new();
    for target in [
        Target::topic("t"),
        Target::new().server("s"),
        Target::topic("").server("s"),
    ] {
        let builder = RpcServer::builder(driver.transport(), target);
        let error = builder
            .endpoint(Methods::new(&Desk::new()))
            .start()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTarget);
        assert!(
            error.message().starts_with(
                "A server's target must have topic and server names specified:<Target"
            )
        );
    }
    assert_eq!(
        builder(&driver).start().await.unwrap_err().kind(),
        ErrorKind::Config
    );
    let odd = Methods::new(&Desk::new()).interface(Interface::new().version("one"));
    assert_eq!(
        builder(&driver)
            .endpoint(odd)
            .start()
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Config
    );
    let without = Scripted::with(Capabilities::NONE);
    let error = builder(&without)
        .endpoint(Methods::new(&Desk::new()))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    driver.on_listen(|| Box::pin(async { Err(fault(ErrorKind::AccessRefused)) }));
    let error = builder(&driver)
        .endpoint(Methods::new(&Desk::new()))
        .start()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert!(
        error.to_string().contains("topic topic-a, server node-1"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_subscription_names_the_target_and_a_prefetch_of_the_concurrency_but_at_least_16() {
    let driver = Scripted::new();
    let number = |n| NonZeroUsize::new(n).unwrap();
    let limit = |n| Prefetch::Limited(NonZeroU16::new(n).unwrap());
    for (builder, wanted) in [
        (builder(&driver), limit(64)),
        (builder(&driver).concurrency(number(8)), limit(16)),
        (
            builder(&driver).concurrency(number(100_000)),
            limit(u16::MAX),
        ),
        (
            builder(&driver)
                .concurrency(number(8))
                .prefetch(NonZeroU16::MIN),
            limit(1),
        ),
    ] {
        let server = builder
            .endpoint(Methods::new(&Desk::new()))
            .start()
            .await
            .unwrap();
        let Subscription::Rpc {
            exchange,
            topic,
            server: name,
            prefetch,
        } = driver.subscription()
        else {
            panic!("an RPC server subscribes for RPC");
        };
        assert_eq!(
            (exchange, topic.as_str(), name.as_str()),
            (None, "topic-a", "node-1")
        );
        assert_eq!(prefetch, wanted);
        server.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_rejected_and_the_next_one_served() {
    let driver = Scripted::new();
    driver.confirm_all();
    let server = server(&driver, &Desk::new()).await;
    for body in [
        "not json",
        "[1, 2]",
        "",
        r#"[["method", "echo"]]"#,
        r#"{"oslo.version": "2.1", "oslo.message": "{}"}"#,
    ] {
        let tag = driver.deliver(body);
        assert_eq!(driver.settled(tag).await, Settlement::Reject, "{body}");
    }
    driver.deliver(call("echo", "m1", ""));
    driver.next_sent().await;
    assert_eq!(server.stats().rejected, 5);
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_dispatched_are_answered_as_the_reference_does() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    const DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";
    let version_1 = "Endpoint does not support RPC version";
    let cases = [
        (
            call("nope", "1", ""),
            (
                DISPATCHER,
                "NoSuchMethod",
                "Endpoint does not support RPC method nope".to_owned(),
            ),
        ),
        (
            call("_private", "2", ""),
            (
                DISPATCHER,
                "NoSuchMethod",
                "Endpoint does not support RPC method _private".to_owned(),
            ),
        ),
        (
            call("echo", "3", r#""version": "1.1""#),
            (
                DISPATCHER,
                "UnsupportedVersion",
                format!("{version_1} 1.1. Attempted method: echo"),
            ),
        ),
        (
            call("echo", "4", r#""namespace": "other""#),
            (
                DISPATCHER,
                "UnsupportedVersion",
                format!("{version_1} 1.0. Attempted method: echo"),
            ),
        ),
        (
            call("echo", "5", r#""version": null"#),
            (
                DISPATCHER,
                "UnsupportedVersion",
                format!("{version_1} None. Attempted method: echo"),
            ),
        ),
        (
            r#"{"args": {}, "_msg_id": "6", "_reply_q": "q"}"#.to_owned(),
            (
                "builtins",
                "TypeError",
                "attribute name must be string, not 'NoneType'".to_owned(),
            ),
        ),
        (
            r#"{"method": 7, "_msg_id": "7", "_reply_q": "q"}"#.to_owned(),
            (
                "builtins",
                "TypeError",
                "attribute name must be string, not 'int'".to_owned(),
            ),
        ),
        (
            call("echo", "8", r#""args": null"#),
            (
                "builtins",
                "AttributeError",
                "'NoneType' object has no attribute 'items'".to_owned(),
            ),
        ),
        (
            call("echo", "9", r#""version": 1.0"#),
            (
                "builtins",
                "AttributeError",
                "'float' object has no attribute 'split'".to_owned(),
            ),
        ),
        (
            call("echo", "10", r#""version": "1""#),
            (
                "builtins",
                "IndexError",
                "list index out of range".to_owned(),
            ),
        ),
        (
            call("echo", "11", r#""version": "x.y""#),
            (
                "builtins",
                "ValueError",
                "invalid literal for int() with base 10: 'x'".to_owned(),
            ),
        ),
        (
            call("echo", "12", r#""args": {"b": 1}"#),
            (
                "builtins",
                "TypeError",
                "echo() got an unexpected keyword argument 'b'".to_owned(),
            ),
        ),
        (
            call("add", "13", r#""args": {"a": 1}"#),
            (
                "builtins",
                "TypeError",
                "add() missing 1 required argument: 'b'".to_owned(),
            ),
        ),
        (
            call("fail", "14", ""),
            ("builtins", "Exception", "on purpose".to_owned()),
        ),
    ];
    for (body, (module, class, message)) in cases {
        driver.deliver(body.clone());
        let reply = driver.next_sent().await;
        assert_eq!(
            class_and_message(&reply),
            (module.to_owned(), class.to_owned(), message.clone()),
            "{body}"
        );
        let failure = reply.failure();
        assert_eq!(
            failure.get("args").unwrap().to_string(),
            format!("[{}]", Value::from(message))
        );
        assert_eq!(failure.get("kwargs").unwrap().to_string(), "{}");
        let traceback = failure.get("tb").and_then(Value::as_array).unwrap();
        assert!(
            !traceback.is_empty()
                && traceback
                    .iter()
                    .all(|line| line.as_str().unwrap().ends_with('\n'))
        );
        assert_eq!(reply.message().get("result"), Some(&Value::Null));
    }
    assert_eq!(desk.started(), 3, "echo with b, add without b, and fail");
}

#[tokio::test(start_paused = true)]
async fn odd_but_acceptable_requests_are_served() {
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = server(&driver, &Desk::new()).await;
    let value = r#""args": {"value": 1}"#;
    for (n, more) in [
        "\"version\": \"1.0.0\"".to_owned(),
        "\"namespace\": null, \"version\": \"1.0\"".to_owned(),
        "\"_timeout\": \"abc\"".to_owned(),
        "\"_timeout\": [1]".to_owned(),
        "\"other\": {\"x\": 1}, \"_other\": 2".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        driver.deliver(call("echo", &format!("m{n}"), &format!("{value}, {more}")));
        assert_eq!(
            driver
                .next_sent()
                .await
                .message()
                .get("result")
                .unwrap()
                .to_string(),
            "1",
            "{more}"
        );
    }
    // No `_unique_id`: never a duplicate.
    for _ in 0..2 {
        driver.deliver(r#"{"method": "echo", "_msg_id": "m", "_reply_q": "q"}"#);
        driver.next_sent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_becomes_a_failure_and_the_server_goes_on() {
    let driver = Scripted::new();
    driver.confirm_all();
    let server = builder(&driver)
        .endpoint(Methods::new(&Desk::new()))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    for n in 0..3 {
        driver.deliver(call("boom", &format!("m{n}"), ""));
        let reply = driver.next_sent().await;
        let (module, class, message) = class_and_message(&reply);
        assert_eq!(
            (module.as_str(), class.as_str()),
            ("builtins", "RuntimeError")
        );
        assert_eq!(message, "the handler panicked: the sky fell");
    }
    driver.deliver(call("echo", "m9", ""));
    assert_eq!(
        driver.next_sent().await.message().get("failure"),
        Some(&Value::Null)
    );
    assert_eq!((server.stats().failed, server.stats().running), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_written_is_told_to_the_caller() {
    let driver = Scripted::new();
    driver.confirm_all();
    let _server = server(&driver, &Desk::new()).await;
    driver.deliver(call("unwritable", "m1", ""));
    let (module, class, message) = class_and_message(&driver.next_sent().await);
    assert_eq!((module.as_str(), class.as_str()), ("builtins", "TypeError"));
    assert_eq!(
        message,
        "the result of unwritable() cannot be sent: this cannot be written"
    );
    driver.deliver(call("nan", "m2", ""));
    let message = driver.next_sent().await.message();
    assert_eq!(message.get("result").unwrap().to_string(), "NaN");
}

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
    assert_eq!(told.text("_msg_id"), "m1");
    assert!(
        class_and_message(&told)
            .2
            .starts_with("the reply cannot be sent: message too large")
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_is_acknowledged_and_dropped_also_while_the_first_runs() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let again = driver.deliver(call("hold", "m1", ""));
    assert_eq!(driver.settled(again).await, Settlement::Ack);
    desk.gate.add_permits(1);
    driver.next_sent().await;
    let third = driver.deliver(call("hold", "m1", ""));
    assert_eq!(driver.settled(third).await, Settlement::Ack);
    assert_eq!(
        (
            desk.started(),
            server.stats().duplicates,
            driver.sent_count()
        ),
        (1, 2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn only_as_many_run_as_permitted_and_what_waits_is_not_acknowledged() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::new(8).unwrap())
        .start()
        .await
        .unwrap();
    let tags: Vec<u64> = (0..24)
        .map(|n| driver.deliver(call("hold", &format!("m{n}"), "")))
        .collect();
    desk.entered(8).await;
    assert_eq!(driver.acks(), 8);
    assert_eq!((server.stats().running, server.stats().waiting), (8, 16));
    for tag in &tags[8..] {
        assert_eq!(
            driver.settlement(*tag),
            None,
            "it can still go to another server"
        );
    }
    desk.gate.add_permits(1);
    desk.entered(1).await;
    assert_eq!((driver.acks(), server.stats().waiting), (9, 15));
    desk.gate.add_permits(100);
    for _ in 0..24 {
        driver.next_sent().await;
    }
    assert_eq!(desk.most_running.load(Ordering::SeqCst), 8);
    assert_eq!(server.stop().await.aborted, 0);
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
async fn a_request_whose_caller_gave_up_while_it_waited_is_not_served() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let late = driver.deliver_with(call("hold", "m2", ""), Some(Duration::from_secs(5)));
    let patient = driver.deliver_with(call("hold", "m3", ""), Some(Duration::from_secs(60)));
    advance(Duration::from_secs(6)).await;
    desk.gate.add_permits(2);
    assert_eq!(driver.settled(late).await, Settlement::Ack);
    assert_eq!(driver.settled(patient).await, Settlement::Ack);
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m3");
    assert_eq!((server.stats().expired, desk.started()), (1, 2));
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
async fn a_stop_waits_for_what_runs_and_gives_back_what_has_not_started() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let backlog: Vec<u64> = (2..5)
        .map(|n| driver.deliver(call("hold", &format!("m{n}"), "")))
        .collect();
    let stop = tokio::spawn(server.stop());
    for tag in backlog {
        assert_eq!(driver.settled(tag).await, Settlement::Requeue);
    }
    assert!(!stop.is_finished(), "one still runs");
    desk.gate.add_permits(1);
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.aborted, stopped.requeued), (0, 3));
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
    assert_eq!((driver.closed_listeners(), desk.started()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_aborts_what_has_not_ended_at_its_deadline_and_says_how_much() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    for n in 0..3 {
        driver.deliver(call("hold", &format!("m{n}"), r#""_timeout": 20"#));
    }
    driver.deliver(call("echo", "late", ""));
    desk.entered(4).await;
    driver.next_sent().await;
    let begin = Instant::now();
    let stopped = server.stop_within(Duration::from_secs(5)).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
    assert_eq!((stopped.aborted, stopped.replies_dropped), (3, 1));
    assert_eq!(
        desk.running.load(Ordering::SeqCst),
        0,
        "their futures are gone"
    );
    let sent = driver.sent_count();
    sleep(Duration::from_secs(100)).await;
    assert_eq!(driver.sent_count(), sent, "no retry goes on");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_server_stops_is_not_started() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let stop = tokio::spawn(server.stop());
    tokio::task::yield_now().await;
    let late = driver.deliver(call("echo", "m2", ""));
    desk.gate.add_permits(1);
    stop.await.unwrap();
    assert_eq!(driver.settled(late).await, Settlement::Requeue);
    assert_eq!(desk.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_server_starts_nothing_more() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    drop(server);
    tokio::task::yield_now().await;
    driver.deliver(call("echo", "m2", ""));
    tokio::task::yield_now().await;
    assert_eq!(
        (desk.started(), desk.running.load(Ordering::SeqCst)),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn run_until_ends_with_its_future_or_with_the_subscription() {
    let driver = Scripted::new();
    let server = server(&driver, &Desk::new()).await;
    server
        .run_until(sleep(Duration::from_secs(3)))
        .await
        .unwrap();
    let server = self::server(&driver, &Desk::new()).await;
    driver.event(ListenerEvent::Failed(fault(ErrorKind::AccessRefused)));
    let error = server
        .run_until(std::future::pending::<()>())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
    assert!(error.to_string().contains("as the script wants"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_asked_in_order_by_namespace_and_version() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let with = |interface: Interface| Methods::new(&desk).interface(interface).names(&["who"]);
    let _server = builder(&driver)
        .endpoint(with(Interface::new().version("1.1")))
        .endpoint(with(Interface::new().version("2.3")))
        .endpoint(with(Interface::new().namespace("n").version("1.5")))
        .endpoint(with(
            Interface::new()
                .namespace("n2")
                .legacy_namespace("n")
                .legacy_null_namespace()
                .version("3.0"),
        ))
        .endpoint(with(Interface::new().version("1.9")))
        .start()
        .await
        .unwrap();
    for (n, (more, wanted)) in [
        ("", "\"1.1\""),
        (r#""version": "1.1""#, "\"1.1\""),
        (r#""version": "1.2""#, "\"1.9\""),
        (r#""version": "2.0""#, "\"2.3\""),
        (r#""version": "1.0", "namespace": "n""#, "\"1.5\""),
        (r#""version": "3.0", "namespace": "n""#, "\"3.0\""),
        (r#""version": "3.0""#, "\"3.0\""),
        (r#""version": "3.0", "namespace": "n2""#, "\"3.0\""),
    ]
    .into_iter()
    .enumerate()
    {
        driver.deliver(call("who", &format!("m{n}"), more));
        assert_eq!(
            driver
                .next_sent()
                .await
                .message()
                .get("result")
                .unwrap()
                .to_string(),
            wanted,
            "{more}"
        );
    }
    driver.deliver(call("who", "x", r#""version": "4.0""#));
    assert_eq!(
        class_and_message(&driver.next_sent().await).1,
        "UnsupportedVersion"
    );
}

#[tokio::test(start_paused = true)]
async fn access_policies_decide_what_can_be_reached() {
    for (policy, echo, fail, private) in [
        ("default", true, true, false),
        ("legacy", true, true, true),
        ("explicit", true, false, false),
    ] {
        let driver = Scripted::new();
        driver.confirm_all();
        let builder = builder(&driver).endpoint(Methods::new(&Desk::new()));
        let builder = match policy {
            "legacy" => builder.access_policy(LegacyRpcAccessPolicy),
            "explicit" => builder.access_policy(ExplicitRpcAccessPolicy),
            _ => builder,
        };
        let _server = builder.start().await.unwrap();
        for (method, allowed) in [("echo", echo), ("fail", fail), ("_private", private)] {
            driver.deliver(call(method, method, ""));
            let reply = driver.next_sent().await;
            let missing = reply.text("failure").contains("NoSuchMethod");
            assert_eq!(!missing, allowed, "{policy} {method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ping_is_answered_if_enabled_and_not_if_any_endpoint_defines_it() {
    let driver = Scripted::new();
    driver.confirm_all();
    let mut options = TransportOptions::default();
    options.rpc_ping_enabled = true;
    let pinging = Transport::new(Arc::clone(&driver) as Arc<dyn Driver>, options);
    let own: &[&str] = &["oslo_rpc_server_ping"];
    let desk = Desk::new();
    let plain = || Methods::new(&desk);
    for (builder, wanted) in [
        (
            RpcServer::builder(pinging.clone(), target()).endpoint(plain()),
            Some("\"pong\""),
        ),
        (builder(&driver).endpoint(plain()), None),
        // The first of two defines it; the reference looks at the last one only.
        (
            RpcServer::builder(pinging.clone(), target())
                .endpoint(plain().names(own))
                .endpoint(plain()),
            Some("\"oslo_rpc_server_ping\""),
        ),
    ] {
        let server = builder.start().await.unwrap();
        driver.deliver(r#"{"method": "oslo_rpc_server_ping", "args": {"any": 1}, "_msg_id": "m", "_reply_q": "q"}"#);
        let reply = driver.next_sent().await;
        match wanted {
            Some(result) => assert_eq!(reply.message().get("result").unwrap().to_string(), result),
            None => assert_eq!(class_and_message(&reply).1, "NoSuchMethod"),
        }
        server.stop().await;
    }
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
async fn expiries_and_monitors_beyond_the_clock_are_as_good_as_never() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver_with(
        call("hold", "m1", r#""_timeout": 1e300"#),
        Some(Duration::MAX),
    );
    desk.entered(1).await;
    desk.gate.add_permits(1);
    driver.next_sent().await;
    server.stop_within(Duration::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_connection_is_lost_is_run_here_only_if_the_broker_lost_it_too() {
    for recreated in [false, true] {
        let driver = Scripted::new();
        driver.confirm_all();
        let desk = Desk::new();
        let server = builder(&driver)
            .endpoint(Methods::new(&desk))
            .concurrency(NonZeroUsize::MIN)
            .start()
            .await
            .unwrap();
        driver.deliver(call("hold", "m1", ""));
        desk.entered(1).await;
        driver.deliver(call("hold", "m2", ""));
        driver.deliver(call("hold", "m3", ""));
        driver.event(ListenerEvent::Interrupted);
        desk.gate.add_permits(10);
        assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            desk.started(),
            1,
            "another server may have the other two by now"
        );
        driver.event(ListenerEvent::Restored { recreated });
        if recreated {
            assert_eq!(driver.next_sent().await.text("_msg_id"), "m2");
            assert_eq!(driver.next_sent().await.text("_msg_id"), "m3");
        } else {
            driver.deliver(call("hold", "m2", ""));
            assert_eq!(driver.next_sent().await.text("_msg_id"), "m2");
        }
        sleep(Duration::from_secs(1)).await;
        let stats = server.stats();
        assert_eq!(
            (driver.sent_count(), stats.waiting, stats.running),
            (0, 0, 0)
        );
        assert_eq!(stats.served, if recreated { 3 } else { 2 });
    }
}
