//! How the server takes requests, bounds and drops them.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::driver::{
    Capabilities, ListenerEvent, Prefetch, Settlement, Subscription,
};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::{Interface, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_proto::json::value::Value;
use tokio::time::{advance, sleep};

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, fault};
use crate::serving::{builder, call, request, server};

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
