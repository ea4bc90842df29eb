//! What the server runs, and what it answers when it runs nothing.

use std::num::NonZeroUsize;
use std::sync::Arc;

use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::rpc::{
    ExplicitRpcAccessPolicy, Interface, LegacyRpcAccessPolicy, RpcServer,
};
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;

use crate::endpoints::{Desk, Methods};
use crate::scripted::Scripted;
use crate::serving::{builder, call, class_and_message, server, target};

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
async fn a_panic_with_something_that_panics_when_dropped_becomes_a_failure_too() {
    let driver = Scripted::new();
    driver.confirm_all();
    let server = builder(&driver)
        .endpoint(Methods::new(&Desk::new()))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    // The second waits for the permit of the first, and nothing comes after it.
    driver.deliver(call("chain", "m1", ""));
    driver.deliver(call("echo", "m2", ""));
    let (_, class, message) = class_and_message(&driver.next_sent().await);
    assert_eq!(
        (class.as_str(), message.as_str()),
        ("RuntimeError", "the handler panicked: of unknown kind")
    );
    assert_eq!(
        driver.next_sent().await.message().get("failure"),
        Some(&Value::Null)
    );
    assert_eq!((server.stats().failed, server.stats().running), (1, 0));
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
