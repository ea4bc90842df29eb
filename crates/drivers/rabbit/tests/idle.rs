//! What a service without work costs: how often its process wakes, as the system counts it. A process of its own, since the
//! threads of other tests would be counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_core::driver::{
    Delivery, Driver, Inbox, Listener, ListenerEvent, Prefetch, Subscription,
};
use oslo_messaging_proto::url::TransportUrl;
use oslo_messaging_rabbit::config::RabbitConfig;
use oslo_messaging_rabbit::driver::RabbitDriver;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use oslo_messaging_testkit::usage::wakeups;
use tokio::runtime::Builder;

/// Seconds between two looks at first. All times below are multiples of it.
const INTERVAL: f64 = 0.4;
/// By then the looks are as rare as they become: after one, two and six intervals.
const SETTLING: Duration = Duration::from_millis(3_600);
/// Two looks, perhaps three.
const COUNTED: Duration = Duration::from_millis(4_800);
/// A look takes a timer, which may wake three times on its way, and answers, which come one by one at worst. Asked question
/// by question, and by each subscription when it likes, these took 350 to 450.
const MOST: u64 = 60;

/// Expects nothing.
struct Quiet;

impl Inbox for Quiet {
    fn deliver(&self, delivery: Delivery) {
        delivery.ack();
    }

    fn handle_event(&self, event: ListenerEvent) {
        panic!("nothing happens to a subscription: {event:?}");
    }
}

#[test]
fn a_service_of_many_topics_without_work_wakes_rarely() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let started = runtime.block_on(async {
        let vhost = vhost_or_skip("a_service_of_many_topics_without_work_wakes_rarely").await?;
        let mut config = RabbitConfig::default();
        config.consumer_check_interval = INTERVAL;
        let url = TransportUrl::parse(&vhost.url()).unwrap();
        let driver = RabbitDriver::new(&url, config, "openstack").unwrap();
        let mut listeners: Vec<Box<dyn Listener>> = Vec::new();
        for topic in ["topic-a", "topic-b", "topic-c", "topic-d"] {
            let what = Subscription::Rpc {
                exchange: None,
                topic: topic.into(),
                server: "server-1".into(),
                prefetch: Prefetch::Unlimited,
            };
            listeners.push(driver.listen(what, Arc::new(Quiet)).await.unwrap());
        }
        let replies = driver.listen(Subscription::Replies, Arc::new(Quiet)).await;
        listeners.push(replies.unwrap());
        Some((vhost, driver, listeners))
    });
    let Some((_vhost, driver, listeners)) = started else {
        return;
    };
    // This thread has nothing to do with it, and waits without a runtime.
    std::thread::sleep(SETTLING);
    let before = wakeups(std::process::id()).unwrap();
    std::thread::sleep(COUNTED);
    let woken = wakeups(std::process::id()).unwrap() - before;
    println!("{woken} wakes in {COUNTED:?}");
    assert!(woken <= MOST, "{woken} wakes in {COUNTED:?}");
    drop(listeners);
    runtime.block_on(driver.close());
}
