//! How a server ends.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::driver::{ListenerEvent, Settlement};
use oslo_messaging_core::error::ErrorKind;
use tokio::time::{Instant, sleep};

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, fault};
use crate::serving::{builder, call, server};

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
async fn an_idle_server_stops_at_once() {
    let driver = Scripted::new();
    let server = server(&driver, &Desk::new()).await;
    sleep(Duration::from_secs(3600)).await;
    let begin = Instant::now();
    let stopped = server.stop().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!((stopped.aborted, stopped.requeued), (0, 0));
    assert_eq!(driver.closed_listeners(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_is_started_again_under_its_name() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    for epoch in 1..=3 {
        let server = server(&driver, &desk).await;
        driver.deliver(call("echo", &format!("m{epoch}"), ""));
        let reply = driver.next_sent().await;
        assert_eq!(reply.text("_msg_id"), format!("m{epoch}"));
        assert_eq!(server.stats().served, 1, "each epoch counts for itself");
        server.stop().await;
        assert_eq!(
            (driver.listens(), driver.closed_listeners()),
            (epoch, epoch)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_long_for_callers_that_are_gone() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    for n in 0..5 {
        driver.deliver(call("echo", &format!("m{n}"), ""));
    }
    desk.entered(5).await;
    for _ in 0..5 {
        driver.next_sent().await;
    }
    let begin = Instant::now();
    let stopped = server.stop().await;
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!((stopped.aborted, stopped.replies_dropped), (0, 5));
    let offered = driver.sent_count();
    assert!(
        (1..=5).contains(&offered),
        "once more, not for a minute: {offered}"
    );
}
