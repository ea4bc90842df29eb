//! Fanouts over a stream: every server reads all of it, once, from where it began or left off.

use oslo_messaging_core::driver::{Destination, Driver};
use oslo_messaging_rabbit::driver::RabbitDriver;
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::vhost_or_skip;

use crate::support::*;

const QUERY: &str =
    "rabbit_stream_fanout=true&rabbit_transient_quorum_queue=true&rabbit_qos_prefetch_count=10";

async fn fanout(driver: &RabbitDriver, body: &'static str) {
    let to = Destination::Fanout { topic: "topic-a" };
    send(driver, message(to, body)).await.unwrap();
}

#[tokio::test]
async fn every_server_reads_what_is_cast_after_its_start_and_nothing_older() {
    let Some(vhost) = vhost_or_skip("every_server_reads_what_is_cast_after_its_start").await else {
        return;
    };
    let url = format!("{}?{QUERY}", vhost.url());
    let (one, two) = (driver(&url), driver(&url));
    let (_first, early) = serve(&one, "topic-a", "server-1").await;
    fanout(&one, "old").await;
    assert_eq!(early.body().await, "old");
    let (_second, late) = serve(&two, "topic-a", "server-2").await;
    fanout(&one, "new").await;
    assert_eq!(early.body().await, "new");
    assert_eq!(late.body().await, "new", "`old` was cast before its start");
    let stream = vhost.queue("topic-a_fanout").await.unwrap().unwrap();
    assert_eq!(stream.arguments["x-queue-type"], "stream");
    assert_eq!(stream.arguments["x-max-age"], "1800s");
    within(one.close()).await;
    assert!(
        vhost.queue("topic-a_fanout").await.unwrap().is_some(),
        "it is all servers'"
    );
    within(two.close()).await;
}

#[tokio::test]
async fn a_stream_is_read_on_after_a_lost_connection_without_loss_or_repetition() {
    let Some(vhost) = vhost_or_skip("a_stream_is_read_on_after_a_lost_connection").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.unwrap();
    let server = driver(&format!("{}?{QUERY}", vhost.url_through(proxy.port())));
    let client = driver(&format!("{}?{QUERY}", vhost.url()));
    let (_listener, inbox) = serve(&server, "topic-a", "server-1").await;
    for body in ["1", "2"] {
        fanout(&client, body).await;
        assert_eq!(inbox.body().await, body);
    }
    fanout(&client, "unsettled").await;
    let unsettled = inbox.next().await;
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    fanout(&client, "meanwhile").await;
    proxy.refuse(false).await.unwrap();
    assert!(!inbox.restored().await);
    drop(unsettled);
    assert_eq!(inbox.body().await, "unsettled");
    assert_eq!(inbox.body().await, "meanwhile");
    fanout(&client, "after").await;
    assert_eq!(inbox.body().await, "after");
    assert!(inbox.is_empty().await);
    within(server.close()).await;
}
