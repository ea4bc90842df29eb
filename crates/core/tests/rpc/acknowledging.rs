//! Requests that are acknowledged when their methods have ended: at least once.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{Driver, ListenerEvent, Prefetch, Settlement, Subscription};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{Acknowledge, Executor, RpcClient, RpcServer, RpcServerBuilder};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::endpoints::{Desk, Methods};
use crate::scripted::{Scripted, fault};
use crate::serving::{builder, call, request};

fn after(driver: &Arc<Scripted>, desk: &Arc<Desk>) -> RpcServerBuilder {
    builder(driver)
        .endpoint(Methods::new(desk))
        .acknowledge(Acknowledge::After)
}

#[tokio::test(start_paused = true)]
async fn a_request_is_acknowledged_when_the_bus_has_its_reply() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = after(&driver, &desk).start().await.unwrap();
    let tag = driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    assert_eq!(driver.settlement(tag), None);
    desk.gate.add_permits(1);
    let reply = driver.next_sent().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.settlement(tag), None, "the bus does not have it yet");
    reply.confirm();
    assert_eq!(driver.settled(tag).await, Settlement::Ack);
    // A cast has no reply to wait for; a failure is a reply like others.
    let cast = driver.deliver(request("echo", ""));
    assert_eq!(driver.settled(cast).await, Settlement::Ack);
    driver.confirm_all();
    for method in ["fail", "boom", "nope"] {
        let tag = driver.deliver(call(method, method, ""));
        assert_eq!(driver.settled(tag).await, Settlement::Ack, "{method}");
    }
    let stats = server.stats();
    assert_eq!((stats.served, stats.failed, stats.running), (2, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_is_gone_does_not_keep_its_request_unacknowledged() {
    let driver = Scripted::new();
    driver.answer(|_| Some(Err(fault(ErrorKind::Undeliverable))));
    let desk = Desk::new();
    let _server = after(&driver, &desk).start().await.unwrap();
    let begin = Instant::now();
    let tag = driver.deliver(call("echo", "m1", ""));
    assert_eq!(driver.settled(tag).await, Settlement::Ack);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_goes_back_to_the_bus() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = after(&driver, &desk).start().await.unwrap();
    let tag = driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    assert_eq!(server.stop_within(Duration::ZERO).await.aborted, 1);
    assert_eq!(driver.settlement(tag), Some(Settlement::Requeue));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_comes_while_the_first_runs_is_settled_with_it() {
    for completed in [true, false] {
        let driver = Scripted::new();
        driver.confirm_all();
        let desk = Desk::new();
        let server = after(&driver, &desk).start().await.unwrap();
        let first = driver.deliver(call("hold", "m1", ""));
        desk.entered(1).await;
        // As when the connection was lost and the bus hands it out again.
        driver.event(ListenerEvent::Interrupted);
        driver.event(ListenerEvent::Restored { recreated: false });
        let copy = driver.deliver(call("hold", "m1", ""));
        while server.stats().duplicates < 1 {
            yield_now().await;
        }
        assert_eq!(driver.settlement(copy), None);
        if completed {
            desk.gate.add_permits(1);
            assert_eq!(driver.settled(copy).await, Settlement::Ack);
            assert_eq!(driver.settled(first).await, Settlement::Ack);
            // One that comes later is settled at once.
            let late = driver.deliver(call("hold", "m1", ""));
            assert_eq!(driver.settled(late).await, Settlement::Ack);
        } else {
            server.stop_within(Duration::ZERO).await;
            assert_eq!(driver.settlement(copy), Some(Settlement::Requeue));
            assert_eq!(driver.settlement(first), Some(Settlement::Requeue));
        }
        assert_eq!(desk.started(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_rejected_and_what_is_late_acknowledged_as_ever() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let server = after(&driver, &desk)
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    let bad = driver.deliver("not json");
    assert_eq!(driver.settled(bad).await, Settlement::Reject);
    driver.deliver(request("hold", ""));
    desk.entered(1).await;
    let late = driver.deliver_with(request("echo", ""), Some(Duration::from_secs(1)));
    sleep(Duration::from_secs(2)).await;
    desk.gate.add_permits(1);
    assert_eq!(driver.settled(late).await, Settlement::Ack);
    assert_eq!((server.stats().expired, desk.started()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_runs_counts_against_the_prefetch() {
    let driver = Scripted::new();
    for (executor, concurrency, wanted) in [
        (Executor::Async, 64, 128),
        (Executor::Async, 8, 24),
        (Executor::Async, 65_535, 65_535),
        (Executor::Blocking, 64, 1),
    ] {
        let server = after(&driver, &Desk::new())
            .executor(executor)
            .concurrency(NonZeroUsize::new(concurrency).unwrap())
            .start()
            .await
            .unwrap();
        let Subscription::Rpc { prefetch, .. } = driver.subscription() else {
            panic!("an RPC server subscribes for RPC");
        };
        assert_eq!(
            prefetch,
            Prefetch::Limited(NonZeroU16::new(wanted).unwrap())
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn the_request_of_a_server_that_dies_runs_on_another() {
    let broker = MemoryBroker::new();
    let transport = || {
        let driver = Arc::new(MemoryDriver::new(broker.clone())) as Arc<dyn Driver>;
        Transport::new(driver, TransportOptions::default())
    };
    let serve = async |name: &str, desk: &Arc<Desk>, when| {
        RpcServer::builder(transport(), Target::topic("t").server(name))
            .endpoint(Methods::new(desk))
            .acknowledge(when)
            .start()
            .await
            .unwrap()
    };
    let client = RpcClient::new(transport(), Target::topic("t"));
    for (when, runs_again) in [(Acknowledge::After, true), (Acknowledge::Before, false)] {
        let (first, second) = (Desk::new(), Desk::new());
        let dying = serve("a", &first, when).await;
        client.cast(&Context::new(), "hold", ()).await.unwrap();
        first.entered(1).await;
        let other = serve("b", &second, when).await;
        drop(dying);
        if runs_again {
            second.entered(1).await;
            second.gate.add_permits(1);
        }
        assert_eq!(other.stop().await.aborted, 0);
        assert_eq!(second.started(), usize::from(runs_again));
        assert_eq!(broker.waiting("openstack", "t"), 0);
    }
}
