//! Calls that are given up, and the handlers that ran for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{Driver, Settlement};
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{RpcClient, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::calling;
use crate::endpoints::{Desk, Methods};
use crate::scripted::Scripted;
use crate::serving;

const LIMIT: Duration = Duration::from_secs(20);

struct Stage {
    desk: Arc<Desk>,
    server: RpcServer,
    client: RpcClient,
}

impl Stage {
    async fn new() -> Self {
        let broker = MemoryBroker::new();
        let transport = || {
            let driver = Arc::new(MemoryDriver::new(broker.clone())) as Arc<dyn Driver>;
            Transport::new(driver, TransportOptions::default())
        };
        let desk = Desk::new();
        let server = RpcServer::builder(transport(), Target::topic("t").server("s"))
            .endpoint(Methods::new(&desk))
            .start()
            .await
            .unwrap();
        let client = RpcClient::new(transport(), Target::topic("t")).cancellable(true);
        Self {
            desk,
            server,
            client,
        }
    }

    /// A call whose handler has begun.
    async fn hold(&self, client: RpcClient) -> JoinHandle<Result<Value, ErrorKind>> {
        let call = tokio::spawn(async move {
            let called = client.call(&Context::new(), "hold", ()).await;
            called.map_err(|error| error.kind())
        });
        self.desk.entered(1).await;
        call
    }

    async fn until_cancelled(&self) {
        let cancelled = async {
            while self.server.stats().cancelled == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, cancelled)
            .await
            .expect("the handler is dropped");
        assert_eq!(self.desk.running.load(Ordering::SeqCst), 0);
        assert_eq!(self.desk.ended.load(Ordering::SeqCst), 0);
        assert_eq!(self.server.stats().running, 0, "its permit is free again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_ends_its_handler() {
    let stage = Stage::new().await;
    let call = stage.hold(stage.client.clone()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.server.stats().cancelled, 0);
    call.abort();
    stage.until_cancelled().await;
    assert_eq!(stage.client.transport().calls_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_ends_its_handler() {
    let stage = Stage::new().await;
    let call = stage
        .hold(stage.client.prepare().timeout(Duration::from_secs(2)))
        .await;
    assert_eq!(call.await.unwrap(), Err(ErrorKind::Timeout));
    stage.until_cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_its_server_told_where_to_cancel_is_cancelled_when_it_tells() {
    let stage = Stage::new().await;
    let call = stage.hold(stage.client.clone()).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    stage.until_cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_answered_cancels_nothing_and_others_leave_their_handlers_alone() {
    let stage = Stage::new().await;
    let answered = stage.hold(stage.client.clone()).await;
    let plain = stage
        .hold(
            stage
                .client
                .prepare()
                .cancellable(false)
                .timeout(Duration::from_secs(1)),
        )
        .await;
    sleep(Duration::from_millis(200)).await;
    stage.desk.gate.add_permits(1);
    assert!(answered.await.unwrap().is_ok());
    assert_eq!(plain.await.unwrap(), Err(ErrorKind::Timeout));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.server.stats().cancelled, 0);
    assert_eq!(stage.desk.running.load(Ordering::SeqCst), 1);
    // The one whose caller is gone runs to its end.
    stage.desk.gate.add_permits(1);
    while stage.desk.ended.load(Ordering::SeqCst) < 2 {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_tell_where_to_cancel_is_told_nothing() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = calling::client(&driver).cancellable(true);
    let call = calling::call(&client);
    let sent = driver.next_sent().await;
    assert_eq!(sent.message().get("_cancellable"), Some(&Value::Bool(true)));
    // A sign of life, as a server of the reference gives.
    driver.deliver(calling::heartbeat(&sent));
    call.abort();
    let _ = call.await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(driver.sent_count(), 0);

    let plain = calling::call(&client.cancellable(false));
    let sent = driver.next_sent().await;
    assert_eq!(sent.message().get("_cancellable"), None);
    plain.abort();
}

#[tokio::test(start_paused = true)]
async fn the_words_for_cancelling_are_signs_of_life_between_the_two_reply_queues() {
    let driver = Scripted::new();
    driver.confirm_all();
    let client = calling::client(&driver).cancellable(true);
    let call = calling::call(&client);
    let sent = driver.next_sent().await;
    let told = r#""result": null, "failure": null, "ending": false, "_control_q": "reply_server""#;
    driver.deliver(calling::reply(&sent, told));
    call.abort();
    let word = driver.next_sent().await;
    assert_eq!(word.to, "reply queue reply_server");
    assert_eq!(word.text("_msg_id"), sent.text("_msg_id"));
    let message = word.message();
    let fields = ["result", "failure", "ending", "_cancel"].map(|key| message.get(key).cloned());
    let wanted = [
        Value::Null,
        Value::Null,
        Value::Bool(false),
        Value::Bool(true),
    ];
    assert_eq!(fields, wanted.map(Some));
}

#[tokio::test(start_paused = true)]
async fn a_server_tells_only_callers_that_asked_and_only_when_it_takes_long() {
    let (driver, desk) = (Scripted::new(), Desk::new());
    driver.confirm_all();
    let server = serving::server(&driver, &desk).await;
    let id = "0f".repeat(16);
    let tag = driver.deliver(serving::call("echo", &id, r#""_cancellable": true"#));
    assert_eq!(driver.settled(tag).await, Settlement::Ack);
    assert!(
        driver.next_sent().await.text("_control_q").is_empty(),
        "the reply came first"
    );
    let other = "0a".repeat(16);
    driver.deliver(serving::call("hold", &other, ""));
    desk.entered(2).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((driver.sent_count(), driver.listens()), (0, 1));

    let third = "0b".repeat(16);
    driver.deliver(serving::call("hold", &third, r#""_cancellable": true"#));
    let told = driver.next_sent().await;
    assert_eq!(told.to, "reply queue reply_x");
    assert_eq!(
        (told.text("_control_q"), told.text("_msg_id")),
        ("reply_1".to_owned(), third.clone())
    );
    // The scripted bus now delivers to the queue that the server listens at for such words.
    assert_eq!(driver.listens(), 2);
    driver.deliver(format!(r#"{{"_cancel": true, "_msg_id": "{other}"}}"#));
    driver.deliver(format!(r#"{{"_cancel": true, "_msg_id": "{third}"}}"#));
    while server.stats().cancelled == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(desk.running.load(Ordering::SeqCst), 1);
    assert_eq!(
        driver.sent_count(),
        0,
        "nobody is answered who does not wait"
    );
}
