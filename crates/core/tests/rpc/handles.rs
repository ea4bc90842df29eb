//! Start, stop and wait of a server that several tasks hold.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oslo_messaging_core::driver::{ListenerEvent, Prefetch, Settlement, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::rpc::{MethodInfo, RpcServer, ServerHandle};
use oslo_messaging_core::target::Target;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tracing::Level;

use crate::endpoints::{Desk, Methods, acts};
use crate::journal::Journal;
use crate::scripted::{Scripted, fault};
use crate::serving::{builder, call, request, server};

fn build(driver: &Arc<Scripted>, desk: &Arc<Desk>) -> ServerHandle {
    let builder = builder(driver).endpoint(Methods::new(desk));
    builder.build().unwrap()
}

/// Does something with the server in a task of its own, which has begun when this returns.
async fn aside<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    server: &ServerHandle,
    step: impl FnOnce(ServerHandle) -> F,
) -> JoinHandle<T> {
    let task = tokio::spawn(step(server.clone()));
    yield_now().await;
    task
}

#[tokio::test(start_paused = true)]
async fn starts_at_once_are_one_and_a_further_one_changes_nothing() {
    let driver = Scripted::new();
    driver.on_listen(|| {
        Box::pin(async {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        })
    });
    let server = build(&driver, &Desk::new());
    assert!(!server.is_serving());
    let mut starts = Vec::new();
    for _ in 0..5 {
        starts.push(aside(&server, |server| async move { server.start().await }).await);
    }
    for start in starts {
        start.await.unwrap().unwrap();
    }
    server.start().await.unwrap();
    assert!(server.is_serving());
    assert_eq!(driver.listens(), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_the_start_and_wait_for_the_stop_and_the_log_says_so_once() {
    let journal = Journal::open();
    let driver = Scripted::new();
    let server = build(&driver, &Desk::new());
    let wait = aside(&server, |server| async move { server.wait().await }).await;
    let stop = aside(&server, |server| async move { server.stop().await }).await;
    sleep(Duration::from_secs(29)).await;
    assert_eq!(journal.lines("waits for").len(), 0);
    sleep(Duration::from_secs(3600)).await;
    let lines = journal.lines("for 30 s by now");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.level == Level::WARN));
    assert!(!wait.is_finished() && !stop.is_finished());
    server.start().await.unwrap();
    stop.await.unwrap();
    assert_eq!(wait.await.unwrap().aborted, 0);
    // Done, each of them.
    let begin = Instant::now();
    server.stop().await;
    server.wait().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!((driver.listens(), driver.closed_listeners()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_runs_until_it_is_told_serves_for_hours_without_a_word() {
    let journal = Journal::open();
    let driver = Scripted::new();
    let server = server(&driver, &Desk::new()).await;
    let hours = sleep(Duration::from_secs(7200));
    server.run_until(hours).await.unwrap();
    assert_eq!(journal.lines("by now").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn stop_gives_back_what_has_not_started_and_wait_waits_for_what_has() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let builder = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN);
    let server = builder.build().unwrap();
    server.start().await.unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let waiting = driver.deliver(call("hold", "m2", ""));
    let waits = [
        aside(&server, |server| async move { server.wait().await }).await,
        aside(&server, |server| async move { server.wait().await }).await,
    ];
    server.stop().await;
    assert_eq!(driver.settlement(waiting), Some(Settlement::Requeue));
    assert!(!server.is_serving());
    sleep(Duration::from_secs(5)).await;
    assert!(waits.iter().all(|wait| !wait.is_finished()));
    assert_eq!(driver.closed_listeners(), 0, "the reply is still to come");
    desk.gate.add_permits(1);
    for wait in waits {
        let stopped = wait.await.unwrap();
        assert_eq!((stopped.aborted, stopped.requeued), (0, 1));
    }
    assert_eq!(driver.closed_listeners(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_started_again_is_a_new_one_and_the_old_one_still_ends_in_peace() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = build(&driver, &desk);
    server.start().await.unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let old = aside(&server, |server| async move { server.wait().await }).await;
    server.stop().await;
    server.start().await.unwrap();
    assert!(server.is_serving());
    assert_eq!(driver.listens(), 2);
    driver.deliver(call("echo", "m2", ""));
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m2");
    assert_eq!(server.stats().served, 1, "counts begin anew");
    assert!(!old.is_finished());
    desk.gate.add_permits(1);
    assert_eq!(old.await.unwrap().aborted, 0);
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
    assert!(server.is_serving());
    server.stop().await;
    server.wait().await;
    assert_eq!(driver.closed_listeners(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_releases_those_who_wait_and_can_be_tried_again() {
    let driver = Scripted::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    driver.on_listen(move || {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            sleep(Duration::from_secs(1)).await;
            if first {
                Err(fault(ErrorKind::AccessRefused))
            } else {
                Ok(())
            }
        })
    });
    let server = build(&driver, &Desk::new());
    let refused = aside(&server, |server| async move { server.start().await }).await;
    let tried = aside(&server, |server| async move { server.start().await }).await;
    let error = refused.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessRefused);
    assert!(!server.is_serving());
    tried.await.unwrap().unwrap();
    assert!(server.is_serving());
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_leaves_the_server_as_it_was() {
    let driver = Scripted::new();
    driver.on_listen(|| Box::pin(std::future::pending()));
    let server = build(&driver, &Desk::new());
    let limit = Duration::from_secs(1);
    assert!(tokio::time::timeout(limit, server.start()).await.is_err());
    assert!(!server.is_serving());
    driver.on_listen(|| Box::pin(async { Ok(()) }));
    server.start().await.unwrap();
    assert!(server.is_serving());
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_at_once_what_a_stop_lets_go_on() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = build(&driver, &desk);
    server.abort();
    server.start().await.unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    server.stop_within(Duration::MAX).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(server.stats().running, 1);
    let begin = Instant::now();
    server.abort();
    assert_eq!(server.wait().await.aborted, 1);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(desk.running.load(Ordering::SeqCst), 0);
    // Without a stop before it.
    server.start().await.unwrap();
    driver.deliver(call("hold", "m2", ""));
    desk.entered(1).await;
    server.abort();
    assert_eq!(server.wait().await.aborted, 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_limits_the_sooner_holds() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = build(&driver, &desk);
    server.start().await.unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let begin = Instant::now();
    server.stop_within(Duration::from_secs(50)).await;
    server.stop_within(Duration::from_secs(5)).await;
    server.stop_within(Duration::from_secs(500)).await;
    assert_eq!(server.wait().await.aborted, 1);
    assert_eq!(begin.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_what_the_first_let_go_on() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = server(&driver, &desk).await;
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    let begin = Instant::now();
    let signal = || sleep(Duration::from_secs(3));
    // The second is heard after the first.
    let second = async { signal().await };
    let stopped = server.run_until_or_abort(signal(), second).await.unwrap();
    assert_eq!(stopped.aborted, 1);
    assert_eq!(begin.elapsed(), Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_stop_its_own_server() {
    let driver = Scripted::new();
    driver.confirm_all();
    let own = Arc::new(OnceLock::<ServerHandle>::new());
    let known = Arc::clone(&own);
    let control = acts(&[("stop", MethodInfo::new())], move |_, call| {
        let known = Arc::clone(&known);
        Box::pin(async move {
            known.get().expect("it is set").stop().await;
            call.respond("stopped")
        })
    });
    let server = builder(&driver).endpoint(control).start().await.unwrap();
    own.set(server.handle()).unwrap();
    driver.deliver(call("stop", "m1", ""));
    // Ends without its own future.
    server
        .run_until(std::future::pending::<()>())
        .await
        .unwrap();
    let reply = driver.next_sent().await;
    assert_eq!(
        reply.message().get("result").unwrap().to_string(),
        "\"stopped\""
    );
    assert_eq!(driver.closed_listeners(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_server_with_it() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = build(&driver, &desk);
    let other = server.clone();
    server.start().await.unwrap();
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    drop(server);
    yield_now().await;
    assert_eq!(desk.running.load(Ordering::SeqCst), 1);
    drop(other);
    yield_now().await;
    driver.deliver(request("echo", ""));
    yield_now().await;
    assert_eq!(
        (desk.running.load(Ordering::SeqCst), desk.started()),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_can_ask_for_another_concurrency() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = build(&driver, &desk);
    server
        .start_with(NonZeroUsize::new(100).unwrap())
        .await
        .unwrap();
    let Subscription::Rpc { prefetch, .. } = driver.subscription() else {
        panic!("an RPC server subscribes for RPC");
    };
    assert_eq!(prefetch, Prefetch::Limited(NonZeroU16::new(100).unwrap()));
    for n in 0..101 {
        driver.deliver(call("hold", &format!("m{n}"), ""));
    }
    desk.entered(100).await;
    assert_eq!((server.stats().running, server.stats().waiting), (100, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_subscription_is_told_to_who_watches_for_it() {
    let driver = Scripted::new();
    let server = build(&driver, &Desk::new());
    let watching = aside(&server, |server| async move { server.failure().await }).await;
    server.start().await.unwrap();
    driver.event(ListenerEvent::Failed(fault(ErrorKind::AccessRefused)));
    assert_eq!(watching.await.unwrap().kind(), ErrorKind::AccessRefused);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_is_refused_before_it_is_started() {
    let driver = Scripted::new();
    let error = builder(&driver).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let without = RpcServer::builder(driver.transport(), Target::topic("t"));
    let error = without
        .endpoint(Methods::new(&Desk::new()))
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget);
    assert_eq!(driver.listens(), 0);
}
