//! What a server tells callers who ask, after a lost connection, who has their requests.

use std::num::NonZeroUsize;
use std::time::Duration;

use oslo_messaging_core::driver::Settlement;
use oslo_messaging_proto::json::value::Value;
use tokio::time::sleep;

use crate::endpoints::{Desk, Methods};
use crate::scripted::Scripted;
use crate::serving::{builder, server};

#[tokio::test(start_paused = true)]
async fn a_server_says_which_requests_it_has_though_it_can_run_nothing_more() {
    let driver = Scripted::new();
    driver.confirm_all();
    let desk = Desk::new();
    let server = builder(&driver)
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    let ids: Vec<_> = (1..=3).map(|n| format!("{n:032x}")).collect();
    let hold = |n: usize| {
        format!(
            r#"{{"method": "hold", "args": {{}}, "_msg_id": "m{n}", "_reply_q": "q", "_unique_id": "{}"}}"#,
            ids[n]
        )
    };
    driver.deliver(hold(0));
    desk.entered(1).await;
    driver.deliver(hold(1));
    assert_eq!((server.stats().running, server.stats().waiting), (1, 1));
    let asked: Vec<_> = (0..3)
        .map(|n| format!(r#"{{"request": "{}", "msg_id": "m{n}"}}"#, ids[n]))
        .collect();
    let ask = |unique: u32| {
        format!(
            r#"{{"method": "oslo_rpc_reply_again_ignore_errors", "args": {{"requests": [{}], "reply_q": "new"}},
            "_unique_id": "{unique:032x}"}}"#,
            asked.join(",")
        )
    };
    let question = driver.deliver(ask(100));
    assert_eq!(driver.settled(question).await, Settlement::Ack);
    for id in ["m0", "m1"] {
        let sign = driver.next_sent().await;
        assert_eq!(sign.text("_msg_id"), id);
        assert_eq!(sign.to, "reply queue new");
        assert!(sign.urgent);
        assert_eq!(sign.message().get("ending"), Some(&Value::Bool(false)));
    }
    assert_eq!(driver.sent_count(), 0, "the third is not here");
    assert_eq!((desk.started(), server.stats().waiting), (1, 1));
    desk.gate.add_permits(2);
    for id in ["m0", "m1"] {
        let reply = driver.next_sent().await;
        assert_eq!(reply.text("_msg_id"), id);
        assert_eq!(reply.to, "reply queue new", "the caller has moved there");
        assert_eq!(reply.message().get("ending"), Some(&Value::Bool(true)));
    }
    assert_eq!(desk.started(), 2);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_on_its_way_is_not_sent_a_second_time_to_who_asks_for_it() {
    let driver = Scripted::new();
    let desk = Desk::new();
    let _server = server(&driver, &desk).await;
    let id = format!("{:032x}", 7);
    driver.deliver(format!(
        r#"{{"method": "echo", "args": {{"value": 7}}, "_msg_id": "m1", "_reply_q": "q", "_unique_id": "{id}"}}"#
    ));
    let reply = driver.next_sent().await;
    driver.answer(|sent| sent.urgent.then_some(Ok(())));
    let ask = |unique: u32, queue: &str| {
        format!(
            r#"{{"method": "oslo_rpc_reply_again_ignore_errors", "args": {{"requests": [
            {{"request": "{id}", "msg_id": "m1"}}], "reply_q": "{queue}"}}, "_unique_id": "{unique:032x}"}}"#
        )
    };
    driver.deliver(ask(100, "q"));
    assert!(driver.next_sent().await.urgent);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(driver.sent_count(), 0, "the bus will have it yet");
    // Nobody waits any more where it goes.
    driver.deliver(ask(101, "elsewhere"));
    assert!(driver.next_sent().await.urgent);
    let moved = driver.next_sent().await;
    assert_eq!(moved.to, "reply queue elsewhere");
    moved.confirm();
    reply.confirm();
    sleep(Duration::from_secs(1)).await;
    // Now the bus may have lost it.
    driver.deliver(ask(102, "elsewhere"));
    assert!(driver.next_sent().await.urgent);
    assert_eq!(driver.next_sent().await.text("_msg_id"), "m1");
}
