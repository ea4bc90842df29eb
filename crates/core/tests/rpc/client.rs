//! What the client sends, and what ends a call.

use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{ListenerEvent, Retry, Settlement};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::RpcClient;
use oslo_messaging_core::target::Target;
use oslo_messaging_proto::json::value::Value;
use tokio::time::{Instant, sleep};

use crate::calling::{ADD, call, client, result};
use crate::scripted::{Scripted, fault};

#[tokio::test(start_paused = true)]
async fn a_call_sends_a_request_and_returns_the_result() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver).namespace("n").version("1.3");
    let call = call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(sent.to, "topic topic-a");
    assert_eq!(sent.text("method"), "add");
    assert_eq!(sent.text("namespace"), "n");
    assert_eq!(sent.text("version"), "1.3");
    assert_eq!(sent.text("_reply_q"), "reply_1");
    assert_eq!(
        sent.message().get("args").unwrap().to_string(),
        r#"{"a": 2, "b": 3}"#
    );
    assert_eq!(sent.message().get("_timeout"), Some(&Value::Null));
    assert_eq!(sent.expires, Some(Duration::from_secs(60)));
    assert!(sent.mandatory, "so that the bus tells if no queue takes it");
    let tag = driver.deliver(result(&sent, 5));
    assert_eq!(
        driver.settlement(tag),
        Some(Settlement::Ack),
        "a reply is acknowledged in place"
    );
    assert_eq!(call.await.unwrap().unwrap(), 5);
    assert_eq!(client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_before_the_confirmation_ends_the_call() {
    let driver = Scripted::new();
    let call = call(&client(&driver));
    let sent = driver.next_sent().await;
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
    assert!(!sent.is_awaited());
}

#[tokio::test(start_paused = true)]
async fn a_send_error_ends_the_call_at_once() {
    let driver = Scripted::new();
    let client = client(&driver).at_least_once(true);
    let call = call(&client);
    let sent = driver.next_sent().await;
    assert!(sent.mandatory);
    let before = Instant::now();
    sent.settle(Err(fault(ErrorKind::Undeliverable)));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undeliverable);
    assert!(
        error.to_string().contains("topic topic-a") && error.to_string().contains("method add"),
        "{error}"
    );
    assert_eq!(Instant::now(), before);
    assert_eq!(client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_times_out_and_says_what_it_waited_for() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver).timeout(Duration::from_secs(3));
    let before = Instant::now();
    let call = call(&client);
    let sent = driver.next_sent().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_retryable());
    let id = sent.text("_msg_id");
    assert_eq!(
        error.message(),
        format!("Timed out waiting for a reply to message ID {id}")
    );
    let fields: Vec<_> = error.fields().collect();
    let wanted = [
        ("msg_id", id.as_str()),
        ("reply_queue", "reply_1"),
        ("elapsed", "3.000s"),
        ("method", "add"),
    ];
    for field in wanted {
        assert!(fields.contains(&field), "{field:?} in {fields:?}");
    }
    assert_eq!(client.transport().calls_in_flight(), 0);
    // The reply that comes later is acknowledged and dropped.
    let tag = driver.deliver(result(&sent, 5));
    assert_eq!(driver.settlement(tag), Some(Settlement::Ack));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_could_not_be_sent_in_time_says_so() {
    let driver = Scripted::new();
    let call = call(&client(&driver).timeout(Duration::from_secs(1)));
    let sent = driver.next_sent().await;
    assert_eq!(sent.deadline, Some(sent.at + Duration::from_secs(1)));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("has not taken the request"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_deadline_covers_the_start_of_the_reply_listener_too() {
    let driver = Scripted::new();
    driver.on_listen(|| Box::pin(std::future::pending()));
    let before = Instant::now();
    let error = call(&client(&driver).timeout(Duration::from_secs(2)))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.to_string().contains("the script says so"),
        "the driver's last error: {error}"
    );
    assert_eq!(driver.sent_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_reply_listener_is_started_by_one_call_while_the_others_wait() {
    let driver = Scripted::new();
    driver.confirm_all();
    driver.on_listen(|| {
        Box::pin(async {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        })
    });
    let client = client(&driver);
    let hasty = call(&client.prepare().timeout(Duration::from_millis(500)));
    tokio::task::yield_now().await;
    let calls: Vec<_> = (0..5).map(|_| call(&client)).collect();
    assert_eq!(hasty.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    for _ in 0..5 {
        let sent = driver.next_sent().await;
        driver.deliver(result(&sent, 1));
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
    assert_eq!(
        driver.listens(),
        2,
        "the hasty one's, and one for all others"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_of_the_reply_listener_is_not_sticky() {
    let driver = Scripted::new();
    driver.confirm_all();
    driver.on_listen(|| Box::pin(async { Err(fault(ErrorKind::Unreachable)) }));
    let client = client(&driver);
    assert_eq!(
        call(&client).await.unwrap().unwrap_err().kind(),
        ErrorKind::Unreachable
    );
    driver.on_listen(|| Box::pin(async { Ok(()) }));
    let call = call(&client);
    let sent = driver.next_sent().await;
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn calls_fail_when_the_driver_gives_the_reply_queue_up_and_the_next_call_starts_anew() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let first = call(&client);
    driver.next_sent().await;
    driver.event(ListenerEvent::Failed(fault(ErrorKind::AccessRefused)));
    assert_eq!(
        first.await.unwrap().unwrap_err().kind(),
        ErrorKind::AccessRefused
    );
    let second = call(&client);
    let sent = driver.next_sent().await;
    driver.deliver(result(&sent, 5));
    assert_eq!(second.await.unwrap().unwrap(), 5);
    assert_eq!(driver.listens(), 2);
    assert_eq!(
        driver.ended_listeners(),
        1,
        "nobody keeps the one that died"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_frees_its_place() {
    let driver = Scripted::new();
    let client = client(&driver);
    let call = call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(client.transport().calls_in_flight(), 1);
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(client.transport().calls_in_flight(), 0);
    assert!(!sent.is_awaited());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_wait_at_once_and_leave_nothing_behind() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let calls: Vec<_> = (0..10_000).map(|_| call(&client)).collect();
    let mut sent = Vec::new();
    while sent.len() < 10_000 {
        sent.push(driver.next_sent().await);
    }
    assert_eq!(client.transport().calls_in_flight(), 10_000);
    for (n, sent) in sent.iter().rev().enumerate() {
        if n % 2 == 0 {
            driver.deliver(result(sent, 7));
        }
    }
    let (mut answered, mut timed_out) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(7) => answered += 1,
            Ok(other) => panic!("got somebody else's result {other}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Timeout);
                timed_out += 1;
            }
        }
    }
    assert_eq!((answered, timed_out), (5_000, 5_000));
    assert_eq!(client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_is_refused_before_anything_is_sent() {
    let driver = Scripted::new();
    let ctx = Context::new();
    let none = RpcClient::new(driver.transport(), Target::new());
    let error = none.cast(&ctx, "add", ADD).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (
            ErrorKind::InvalidTarget,
            "A topic is required to send:<Target>"
        )
    );
    let empty = RpcClient::new(driver.transport(), Target::topic(""));
    assert_eq!(
        empty.cast(&ctx, "add", ADD).await.unwrap_err().kind(),
        ErrorKind::InvalidTarget
    );
    let fanout = client(&driver).fanout(true);
    let error = fanout.call::<_, i64>(&ctx, "add", ADD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget);
    assert_eq!(
        error.message(),
        "A call cannot be used with fanout:<Target topic=topic-a, fanout=True>"
    );
    for version in ["x.y", "1", ""] {
        let error = client(&driver)
            .version(version)
            .cast(&ctx, "add", ADD)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTarget);
        assert_eq!(
            error.message(),
            format!("Version must contain a major and minor integer. Got {version}")
        );
    }
    let error = client(&driver).cast(&ctx, "add", 7).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert_eq!((driver.sent_count(), driver.listens()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn versions_above_the_cap_are_not_sent() {
    let driver = Scripted::new();
    driver.confirm_all();
    let ctx = Context::new();
    let capped = client(&driver).version("1.2").version_cap("1.5");
    assert!(capped.can_send_version(None).unwrap());
    assert!(capped.can_send_version("1.5").unwrap());
    assert!(!capped.can_send_version("1.6").unwrap());
    assert!(!capped.can_send_version("2.0").unwrap());
    assert!(capped.can_send_version("1.4.9").unwrap());
    assert!(!capped.can_send_version("1.5.1").unwrap());
    assert!(
        client(&driver).can_send_version("9.9").unwrap(),
        "no cap, no limit"
    );
    let error = capped
        .prepare()
        .version("1.6")
        .cast(&ctx, "add", ADD)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionCap);
    assert_eq!(
        error.message(),
        "Requested message version, 1.6 is incompatible.  It needs to be equal in major version and less \
         than or equal in minor version as the specified version cap 1.5."
    );
    let error = capped
        .prepare()
        .version(None)
        .cast(&ctx, "add", ADD)
        .await
        .unwrap_err();
    assert!(
        error
            .message()
            .starts_with("Requested message version, None is incompatible.")
    );
    capped.cast(&ctx, "add", ADD).await.unwrap();
    capped
        .prepare()
        .version("2.0")
        .version_cap(None)
        .cast(&ctx, "add", ADD)
        .await
        .unwrap();
    assert_eq!(driver.sent_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn prepare_inherits_sets_and_clears() {
    let driver = Scripted::new();
    driver.confirm_all();
    let ctx = Context::new();
    let target = Target::topic("t")
        .server("s")
        .namespace("n")
        .version("1.0")
        .exchange("e");
    let base = RpcClient::new(driver.transport(), target)
        .at_least_once(true)
        .retry(Retry::Times(2));
    base.prepare()
        .server(None)
        .namespace(None)
        .version(None)
        .cast(&ctx, "m", ())
        .await
        .unwrap();
    let sent = driver.next_sent().await;
    assert_eq!(sent.to, "topic t");
    assert_eq!(
        (sent.mandatory, sent.persistent, sent.retry, sent.expires),
        (true, true, Retry::Times(2), None)
    );
    let message = sent.message();
    assert!(message.get("namespace").is_none() && message.get("version").is_none());
    assert!(message.get("_msg_id").is_none() && message.get("_reply_q").is_none());
    assert!(
        message.get("_timeout").is_none(),
        "a cast differs from a call by these three keys"
    );
    assert_eq!(message.get("args").unwrap().to_string(), "{}");
    base.cast(&ctx, "m", ()).await.unwrap();
    assert_eq!(driver.next_sent().await.to, "topic t server s");
    base.prepare()
        .fanout(true)
        .cast(&ctx, "m", ())
        .await
        .unwrap();
    let sent = driver.next_sent().await;
    assert_eq!(
        (sent.to.as_str(), sent.mandatory, sent.persistent),
        ("fanout t", false, false),
        "fanout wins over server, never mandatory, not written by each of its queues"
    );
    assert_eq!(
        base.prepare().topic("other").target().topic_name(),
        Some("other")
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_to_send_are_unlimited_unless_the_client_says_otherwise() {
    let driver = Scripted::new();
    driver.confirm_all();
    let ctx = Context::new();
    let base = client(&driver);
    for (client, retry) in [
        (base.clone(), Retry::Forever),
        (base.prepare().retry(Retry::Never), Retry::Never),
        (base.prepare().retry(Retry::Times(3)), Retry::Times(3)),
        (base.prepare(), Retry::Forever),
    ] {
        client.cast(&ctx, "m", ()).await.unwrap();
        assert_eq!(driver.next_sent().await.retry, retry);
    }
}

#[tokio::test(start_paused = true)]
async fn the_context_goes_along_and_every_message_has_its_own_id() {
    let driver = Scripted::new();
    driver.confirm_all();
    let mut ctx = Context::new();
    ctx.insert("user", "alice").unwrap();
    let client = client(&driver);
    client.cast(&ctx, "m", ()).await.unwrap();
    client.cast(&ctx, "m", ()).await.unwrap();
    let (first, second) = (driver.next_sent().await, driver.next_sent().await);
    assert_eq!(first.text("_context_user"), "alice");
    assert_eq!(first.text("_unique_id").len(), 32);
    assert_ne!(first.text("_unique_id"), second.text("_unique_id"));
}

#[tokio::test(start_paused = true)]
async fn a_cast_waits_for_the_bus_and_gives_its_error() {
    let driver = Scripted::new();
    let client = client(&driver);
    let cast = tokio::spawn({
        let client = client.clone();
        async move { client.cast(&Context::new(), "m", ()).await }
    });
    let sent = driver.next_sent().await;
    tokio::task::yield_now().await;
    assert!(!cast.is_finished());
    sent.settle(Err(fault(ErrorKind::DeliveryFailure)));
    assert_eq!(
        cast.await.unwrap().unwrap_err().kind(),
        ErrorKind::DeliveryFailure
    );
}

#[tokio::test(start_paused = true)]
async fn closing_the_transport_fails_what_waits_and_what_comes() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = client(&driver);
    let waiting = call(&client);
    driver.next_sent().await;
    client.transport().close().await;
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(driver.closed_listeners(), 1);
    assert_eq!(
        call(&client).await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    let cast = client.cast(&Context::new(), "m", ()).await;
    assert_eq!(cast.unwrap_err().kind(), ErrorKind::Closed);
    client.transport().close().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_without_rpc_is_refused_before_anything_is_sent() {
    let driver = Scripted::with(oslo_messaging_core::driver::Capabilities::NONE);
    assert_eq!(
        call(&client(&driver)).await.unwrap().unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!((driver.sent_count(), driver.listens()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn timeouts_beyond_the_clock_are_as_good_as_never() {
    let driver = Scripted::new();
    driver.confirm_all();
    let call = call(
        &client(&driver)
            .timeout(Duration::MAX)
            .call_monitor_timeout(Duration::MAX),
    );
    let sent = driver.next_sent().await;
    driver.deliver(result(&sent, 5));
    assert_eq!(call.await.unwrap().unwrap(), 5);
}
