//! Where handlers run: in tasks, on threads, one after the other.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use oslo_messaging_core::driver::{Prefetch, Subscription};
use oslo_messaging_core::rpc::{Executor, MethodInfo, RpcServer};
use oslo_messaging_proto::json::value::Value;
use tokio::runtime::Handle;
use tokio::time::{advance, sleep, timeout};
use tracing::Level;

use crate::endpoints::{Desk, Methods, acts};
use crate::journal::Journal;
use crate::scripted::Scripted;
use crate::serving::{builder, call};

const LONG: Duration = Duration::from_secs(20);

fn number(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn result(sent: &crate::scripted::Sent) -> String {
    sent.message().get("result").unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn the_blocking_executor_takes_no_request_before_the_bus_has_the_last_reply() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .executor(Executor::Blocking)
        .concurrency(number(64))
        .start()
        .await
        .unwrap();
    let Subscription::Rpc { prefetch, .. } = driver.subscription() else {
        panic!("an RPC server subscribes for RPC");
    };
    assert_eq!(prefetch, Prefetch::Limited(std::num::NonZeroU16::MIN));
    let tags: Vec<u64> = (0..3)
        .map(|n| driver.deliver(call("hold", &format!("m{n}"), "")))
        .collect();
    desk.gate.add_permits(3);
    for (n, tag) in tags.iter().enumerate() {
        let reply = driver.next_sent().await;
        assert_eq!(reply.text("_msg_id"), format!("m{n}"));
        advance(Duration::from_secs(5)).await;
        sleep(Duration::from_secs(5)).await;
        assert!(driver.settlement(*tag).is_some());
        assert_eq!((driver.acks(), desk.started()), (n + 1, n + 1));
        reply.confirm();
    }
    assert_eq!(desk.most_running.load(Ordering::SeqCst), 1);
    assert_eq!(server.stop().await.aborted, 0);
}

#[tokio::test]
async fn the_threading_executor_runs_handlers_that_block_on_as_many_threads_as_its_pool_has() {
    let driver = Scripted::new();
    driver.confirm_all();
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let names = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    // Passes only when four are in it together.
    let together = Arc::new(Barrier::new(4));
    let endpoint = {
        let (most, names) = (Arc::clone(&most), Arc::clone(&names));
        acts(&[("block", MethodInfo::new())], move |_, call| {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            names
                .lock()
                .unwrap()
                .insert(format!("{:?}", thread::current().id()));
            together.wait();
            inside.fetch_sub(1, Ordering::SeqCst);
            Box::pin(async move { call.respond(&thread::current().name()) })
        })
    };
    let server = builder(&driver)
        .endpoint(endpoint)
        .executor(Executor::Threading)
        .concurrency(number(4))
        .start()
        .await
        .unwrap();
    for n in 0..12 {
        driver.deliver(call("block", &format!("m{n}"), ""));
    }
    for _ in 0..12 {
        assert_eq!(result(&driver.next_sent().await), "\"oslo-handler\"");
    }
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert_eq!(names.lock().unwrap().len(), 4, "threads are used again");
    let stopped = server.stop().await;
    assert_eq!((stopped.aborted, stopped.requeued), (0, 0));
}

#[tokio::test]
async fn a_handler_on_a_thread_may_wait_spawn_and_block_on_futures_of_the_runtime() {
    let driver = Scripted::new();
    driver.confirm_all();
    let endpoint = acts(&[("mixed", MethodInfo::new())], |_, call| {
        let spawned = Handle::current().block_on(async { tokio::spawn(async { 20 }).await });
        Box::pin(async move {
            sleep(Duration::from_millis(5)).await;
            call.respond(&(spawned.unwrap() + 1))
        })
    });
    let server = builder(&driver)
        .endpoint(endpoint)
        .executor(Executor::Threading)
        .start()
        .await
        .unwrap();
    driver.deliver(call("mixed", "m1", ""));
    assert_eq!(result(&driver.next_sent().await), "21");
    server.stop().await;
}

#[tokio::test]
async fn a_method_marked_as_blocking_gets_a_thread_and_does_not_keep_others_waiting() {
    let driver = Scripted::new();
    driver.confirm_all();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let names = [
        ("block", MethodInfo::new().blocks()),
        ("quick", MethodInfo::new()),
    ];
    let endpoint = acts(&names, move |_, call| {
        if call.method() == "block" {
            wait.lock().unwrap().recv_timeout(LONG).unwrap();
        }
        Box::pin(async move { call.respond(&thread::current().name()) })
    });
    let server = builder(&driver).endpoint(endpoint).start().await.unwrap();
    driver.deliver(call("block", "slow", ""));
    // The only thread of this runtime is free meanwhile.
    driver.deliver(call("quick", "m1", ""));
    let quick = driver.next_sent().await;
    assert_eq!(quick.text("_msg_id"), "m1");
    assert_ne!(result(&quick), "\"oslo-handler\"");
    go.send(()).unwrap();
    assert_eq!(result(&driver.next_sent().await), "\"oslo-handler\"");
    assert_eq!(server.stop().await.aborted, 0);
}

#[tokio::test]
async fn a_panic_on_a_thread_becomes_a_failure_and_the_thread_goes_on() {
    let driver = Scripted::new();
    driver.confirm_all();
    let server = builder(&driver)
        .endpoint(Methods::new(&Desk::new()))
        .executor(Executor::Threading)
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    for n in 0..3 {
        driver.deliver(call("boom", &format!("m{n}"), ""));
        assert!(
            driver
                .next_sent()
                .await
                .text("failure")
                .contains("the sky fell")
        );
    }
    driver.deliver(call("echo", "m9", ""));
    let reply = driver.next_sent().await.message();
    assert_eq!(reply.get("failure"), Some(&Value::Null));
    let stats = server.stats();
    assert_eq!((stats.failed, stats.served), (3, 1));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_drops_what_waits_on_a_thread_and_leaves_what_blocks_it() {
    let journal = Journal::open();
    let driver = Scripted::new();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (entered, inside) = mpsc::channel();
    let (gone, ended) = mpsc::channel();
    let names = ["block", "wait"].map(|name| (name, MethodInfo::new()));
    let endpoint = acts(&names, move |_, call| {
        let leaves = Leaves(call.method().to_owned(), gone.clone());
        entered.send(leaves.0.clone()).unwrap();
        if leaves.0 == "block" {
            let _ = wait.lock().unwrap().recv();
        }
        Box::pin(async move {
            let _leaves = leaves;
            std::future::pending().await
        })
    });
    let server: RpcServer = builder(&driver)
        .endpoint(endpoint)
        .executor(Executor::Threading)
        .concurrency(number(2))
        .start()
        .await
        .unwrap();
    driver.deliver(call("wait", "m1", ""));
    driver.deliver(call("block", "m2", ""));
    let both = tokio::task::spawn_blocking(move || {
        let mut both = [
            inside.recv_timeout(LONG).unwrap(),
            inside.recv_timeout(LONG).unwrap(),
        ];
        both.sort_unstable();
        both
    });
    assert_eq!(both.await.unwrap(), ["block", "wait"]);
    let stopped = timeout(LONG, server.stop_within(Duration::from_millis(10)));
    assert_eq!(stopped.await.unwrap().aborted, 2);
    let lines = journal.lines("threads=1");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].level, Level::ERROR);
    assert_eq!(ended.try_recv().unwrap(), "wait");
    assert!(ended.try_recv().is_err(), "it blocks");
    // The blocked one ends as soon as it returns.
    drop(go);
    let last = tokio::task::spawn_blocking(move || ended.recv_timeout(LONG));
    assert_eq!(last.await.unwrap().unwrap(), "block");
}

/// Tells when it goes.
struct Leaves(String, mpsc::Sender<String>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.clone());
    }
}
