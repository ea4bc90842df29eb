//! Several sinks and buses at once, and formats.

use oslo_messaging_core::driver::{
    BoxFuture, Destination, Driver, Notifications, Outgoing, Subscription,
};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::memory::MemoryBroker;
use oslo_messaging_core::notify::{
    ListenerStats, MessagingSink, Notifier, Posting, Sink, TestSink,
};
use oslo_messaging_proto::{NotificationFormat, Priority};
use std::sync::Arc;

use crate::support::*;

#[tokio::test]
async fn a_bus_that_is_stuck_holds_up_neither_the_caller_nor_the_other_bus() {
    let broker = MemoryBroker::new();
    let (info, mut hears) = ear(&[Priority::Info]);
    let listening = listener(&broker).endpoint(info).start().await.unwrap();
    let (stuck, far) = Stuck::transport();
    let notifier = Notifier::builder(broker.transport())
        .drivers(["messagingv2"])
        .sink(MessagingSink::new(&far, NotificationFormat::V2).unwrap())
        .build()
        .unwrap();
    notifier.info(&ctx(), "both", &()).await.unwrap();
    assert_eq!(heard(&mut hears).await, "both");
    until(|| notifier.stats().buffered == 1).await;
    stuck.let_go();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    assert_eq!(stuck.events(), ["both"]);
    listening.stop().await;
}

#[tokio::test]
async fn both_formats_at_once_are_two_copies_that_a_listener_reads_alike() {
    let broker = MemoryBroker::new();
    let driver = broker.transport();
    let held = Arc::new(Held::default());
    let what = Notifications::new([(None, "notifications.info".to_owned())]);
    let _look = driver
        .driver()
        .listen(Subscription::Notifications(what), held.clone())
        .await
        .unwrap();
    let notifier = Notifier::builder(broker.transport())
        .drivers(["messaging", "messagingv2"])
        .build()
        .unwrap();
    notifier.info(&ctx(), "e", &()).await.unwrap();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    let mut bodies: Vec<String> = held
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|delivery| String::from_utf8(delivery.body().to_vec()).unwrap())
        .collect();
    bodies.sort();
    assert!(bodies[0].starts_with(r#"{"message_id": "#), "{bodies:?}");
    assert!(
        bodies[1].starts_with(r#"{"oslo.version": "2.0""#),
        "{bodies:?}"
    );
}

/// A sink that never takes anything.
struct Full;

impl Sink for Full {
    fn name(&self) -> &str {
        "full"
    }

    fn post<'a>(&'a self, _: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Err(Error::new(ErrorKind::DeliveryFailure, "full")) })
    }
}

#[tokio::test]
async fn a_sink_that_fails_keeps_nothing_from_the_others_and_is_told() {
    let test = TestSink::new();
    let notifier = Notifier::builder(MemoryBroker::new().transport())
        .sink(Full)
        .sink(test.clone())
        .build()
        .unwrap();
    let error = notifier.info(&ctx(), "e", &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeliveryFailure);
    assert_eq!(test.recorded().len(), 1);
}

#[tokio::test]
async fn a_routing_file_reaches_sinks_that_really_load_and_those_given_by_name() {
    let file = std::env::temp_dir().join(format!("oslo-routing-{}.yaml", std::process::id()));
    std::fs::write(
        &file,
        "all: {test: {accepted_priorities: [error]}, messagingv2: {accepted_events: ['compute.*'], topics: [audit]}}\n",
    )
    .unwrap();
    let broker = MemoryBroker::new();
    let test = TestSink::new();
    let notifier = Notifier::builder(broker.transport())
        .drivers(["routing"])
        .sink(test.clone())
        .routing_config(&file)
        .build()
        .unwrap();
    let _ = std::fs::remove_file(&file);
    notifier.info(&ctx(), "compute.create", &()).await.unwrap();
    notifier.error(&ctx(), "volume.create", &()).await.unwrap();
    assert_eq!(notifier.flush(LIMIT).await, 0);
    assert_eq!(broker.waiting("openstack", "audit.info"), 1);
    assert_eq!(broker.waiting("openstack", "notifications.info"), 0);
    // Once by itself for each, and once more by the route.
    assert_eq!(test.recorded().len(), 3);
}

#[tokio::test]
async fn a_bus_without_notifications_is_refused_when_built() {
    struct RpcOnly(MemoryBroker);
    impl Driver for RpcOnly {
        fn capabilities(&self) -> oslo_messaging_core::driver::Capabilities {
            oslo_messaging_core::driver::Capabilities::rpc()
        }
        fn send<'a>(&'a self, _: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
            Box::pin(async { Ok(()) })
        }
        fn listen(
            &self,
            _: Subscription,
            _: Arc<dyn oslo_messaging_core::driver::Inbox>,
        ) -> BoxFuture<'_, Result<Box<dyn oslo_messaging_core::driver::Listener>>> {
            Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "")) })
        }
        fn health(&self) -> oslo_messaging_core::driver::Health {
            self.0.transport().health()
        }
        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }
    let transport = oslo_messaging_core::transport::Transport::new(
        Arc::new(RpcOnly(MemoryBroker::new())),
        Default::default(),
    );
    let refused = Notifier::builder(transport.clone()).build();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    let (info, _hears) = ear(&[Priority::Info]);
    let targets = [oslo_messaging_proto::Target::topic("t")];
    let refused = oslo_messaging_core::notify::NotificationListener::builder(transport, targets)
        .endpoint(info)
        .start()
        .await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(ListenerStats::default().handled, 0);
    let _ = Destination::Fanout { topic: "t" };
}
