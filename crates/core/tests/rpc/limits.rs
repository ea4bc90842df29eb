//! How many of one method run at once, and who waits meanwhile.

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{Driver, ListenerEvent, Settlement};
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{Interface, MethodInfo, RpcClient, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::advance;

use crate::endpoints::{Acts, Desk, Methods, acts};
use crate::scripted::Scripted;
use crate::serving::{builder, call, target};

fn number(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

async fn limited(driver: &Arc<Scripted>, desk: &Arc<Desk>, concurrency: usize) -> RpcServer {
    builder(driver)
        .endpoint(Methods::new(desk))
        .concurrency(number(concurrency))
        .method_limit("hold", NonZeroUsize::MIN)
        .start()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_exceeds_its_methods_limit_waits_unacknowledged_without_a_permit() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = limited(&driver, &desk, 2).await;
    let tags: Vec<u64> = (0..4)
        .map(|n| driver.deliver(call("hold", &format!("m{n}"), "")))
        .collect();
    desk.entered(1).await;
    // One of two permits is left for others.
    for n in 0..3 {
        driver.deliver(call("echo", &format!("e{n}"), ""));
        assert_eq!(driver.next_sent().await.text("_msg_id"), format!("e{n}"));
    }
    desk.entered(3).await;
    assert_eq!((server.stats().running, server.stats().waiting), (1, 3));
    for tag in &tags[1..] {
        assert_eq!(driver.settlement(*tag), None);
    }
    desk.gate.add_permits(4);
    for n in 0..4 {
        let reply = driver.next_sent().await;
        assert_eq!(reply.text("_msg_id"), format!("m{n}"), "in their order");
    }
    assert_eq!(desk.most_running.load(Ordering::SeqCst), 2);
    let stats = server.stats();
    assert_eq!((stats.waiting, stats.served, stats.failed), (0, 7, 0));
    let stopped = server.stop().await;
    assert_eq!((stopped.requeued, stopped.aborted), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_on_when_its_holder_fails_or_panics() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .method_limit("boom", NonZeroUsize::MIN)
        .method_limit("fail", NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    for n in 0..3 {
        driver.deliver(call("boom", &format!("b{n}"), ""));
        driver.deliver(call("fail", &format!("f{n}"), ""));
    }
    for _ in 0..6 {
        driver.next_sent().await;
    }
    let stats = server.stats();
    assert_eq!((stats.failed, stats.running, stats.waiting), (6, 0, 0));
}

/// Holds at a gate; notes the most that were inside at once.
fn gated(
    names: &[(&'static str, MethodInfo)],
    gate: &Arc<Semaphore>,
    most: &Arc<AtomicUsize>,
) -> Acts {
    let (gate, most) = (Arc::clone(gate), Arc::clone(most));
    let inside = Arc::new(AtomicUsize::new(0));
    acts(names, move |_, call| {
        let (gate, most, inside) = (Arc::clone(&gate), Arc::clone(&most), Arc::clone(&inside));
        Box::pin(async move {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            inside.fetch_sub(1, Ordering::SeqCst);
            call.respond(&())
        })
    })
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_names_its_limits_and_the_builder_overrules_them() {
    for (overruled, wanted) in [(None, 2), (Some(3), 3)] {
        let driver = Scripted::new();
        driver.confirm_all();
        let (gate, most) = (Arc::new(Semaphore::new(0)), Arc::default());
        let info = MethodInfo::new().limited(number(2));
        let mut builder = builder(&driver).endpoint(gated(&[("work", info)], &gate, &most));
        if let Some(limit) = overruled {
            builder = builder.method_limit("work", number(limit));
        }
        let server = builder.start().await.unwrap();
        for n in 0..5 {
            driver.deliver(call("work", &format!("m{n}"), ""));
        }
        while server.stats().waiting < 5 - wanted {
            yield_now().await;
        }
        gate.add_permits(5);
        for _ in 0..5 {
            driver.next_sent().await;
        }
        assert_eq!(most.load(Ordering::SeqCst), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_one_name_on_two_endpoints_do_not_share_a_limit() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let other = Methods::new(&desk).interface(Interface::new().namespace("other"));
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .endpoint(other)
        .method_limit("hold", NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    for n in 0..2 {
        driver.deliver(call("hold", &format!("a{n}"), ""));
        driver.deliver(call("hold", &format!("b{n}"), r#""namespace": "other""#));
    }
    desk.entered(2).await;
    assert_eq!((server.stats().running, server.stats().waiting), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_place_goes_back_when_the_server_stops() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = limited(&driver, &desk, 8).await;
    driver.deliver(call("hold", "m0", ""));
    desk.entered(1).await;
    let tags = [
        driver.deliver(call("hold", "m1", "")),
        driver.deliver(call("hold", "m2", "")),
    ];
    while server.stats().waiting < 2 {
        yield_now().await;
    }
    let stop = tokio::spawn(server.stop());
    for tag in tags {
        assert_eq!(driver.settled(tag).await, Settlement::Requeue);
    }
    desk.gate.add_permits(1);
    let stopped = stop.await.unwrap();
    assert_eq!(
        (stopped.requeued, stopped.aborted, desk.started()),
        (2, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_place_when_the_connection_is_lost_is_run_only_if_the_broker_lost_it() {
    for recreated in [false, true] {
        let driver = Scripted::new();
        driver.confirm_all();
        let desk = Desk::new();
        let server = limited(&driver, &desk, 8).await;
        driver.deliver(call("hold", "m0", ""));
        desk.entered(1).await;
        driver.deliver(call("hold", "m1", ""));
        while server.stats().waiting < 1 {
            yield_now().await;
        }
        driver.event(ListenerEvent::Interrupted);
        desk.gate.add_permits(10);
        assert_eq!(driver.next_sent().await.text("_msg_id"), "m0");
        driver.event(ListenerEvent::Restored { recreated });
        if !recreated {
            driver.deliver(call("hold", "m1", ""));
        }
        assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
        // Its place is free again.
        driver.deliver(call("hold", "m2", ""));
        assert_eq!(driver.next_sent().await.text("_msg_id"), "m2");
        assert_eq!(server.stats().waiting, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_gave_up_while_it_waited_for_a_place_hands_it_on() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = limited(&driver, &desk, 8).await;
    driver.deliver(call("hold", "m0", ""));
    desk.entered(1).await;
    let late = driver.deliver_with(call("hold", "m1", ""), Some(Duration::from_secs(5)));
    driver.deliver(call("hold", "m2", ""));
    while server.stats().waiting < 2 {
        yield_now().await;
    }
    advance(Duration::from_secs(6)).await;
    desk.gate.add_permits(2);
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m0");
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m2");
    assert_eq!(driver.settlement(late), Some(Settlement::Ack));
    assert_eq!((server.stats().expired, desk.started()), (1, 2));
}

#[tokio::test]
async fn the_prefetch_bounds_what_waits_for_a_place_and_the_rest_stays_with_the_bus() {
    let broker = MemoryBroker::new();
    let driver = Arc::new(MemoryDriver::new(broker.clone())) as Arc<dyn Driver>;
    let transport = Transport::new(driver, TransportOptions::default());
    let desk = Desk::new();
    let server = RpcServer::builder(transport.clone(), target())
        .endpoint(Methods::new(&desk))
        .method_limit("hold", NonZeroUsize::MIN)
        .prefetch(NonZeroU16::new(3).unwrap())
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(transport, Target::topic("topic-a"));
    for _ in 0..10 {
        client.cast(&Context::new(), "hold", ()).await.unwrap();
    }
    desk.entered(1).await;
    while server.stats().waiting < 3 {
        yield_now().await;
    }
    assert_eq!(broker.waiting("openstack", "topic-a"), 6);
    assert_eq!((server.stats().running, server.stats().waiting), (1, 3));
    desk.gate.add_permits(10);
    desk.entered(9).await;
    server.stop().await;
    assert_eq!(
        (desk.started(), broker.waiting("openstack", "topic-a")),
        (10, 0)
    );
}
