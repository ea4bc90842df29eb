//! The broker stays, and connections and queues go.

use std::time::Duration;

use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::time::Instant;

use crate::common::{self, TOPIC};
use crate::load::{Pair, check, first_new_answer_after, slow, slowest};
use crate::{ALONE, CALL_TIMEOUT, RATE, RECOVERY};

/// What is cut.
#[derive(Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
    Both,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_or_run_twice_when_connections_are_cut_under_load() {
    let _alone = ALONE.lock().await;
    let Some(vhost) = vhost_or_skip("no_call_is_lost_when_connections_are_cut").await else {
        return;
    };
    let port = vhost.broker().port();
    let proxies = (
        Proxy::start(port).await.expect("a proxy"),
        Proxy::start(port).await.expect("a proxy"),
    );
    let (to_client, to_server) = (&proxies.0, &proxies.1);
    let pair = Pair::start(
        &vhost.url_through(to_server.port()),
        &vhost.url_through(to_client.port()),
    )
    .await;
    let load = pair.load();
    load.wait_for_answers(RATE / 2).await;

    let mut cuts = Vec::new();
    for round in 0..6 {
        let side = [Side::Client, Side::Server, Side::Both][round % 3];
        if !matches!(side, Side::Server) {
            to_client.cut();
        }
        if !matches!(side, Side::Client) {
            to_server.cut();
        }
        cuts.push((format!("{side:?}"), Instant::now()));
        load.wait_for_answers(RATE / 2).await;
    }
    // In the middle of a frame, whatever it is.
    for (name, proxy, direction) in [
        ("client, sending", to_client, Direction::ToBroker),
        ("client, receiving", to_client, Direction::ToClient),
        ("server, sending", to_server, Direction::ToBroker),
        ("server, receiving", to_server, Direction::ToClient),
    ] {
        let before = proxy.connections_ever();
        proxy.cut_after(direction, 10_007);
        let reconnected = || proxy.connections_ever() > before;
        common::eventually("the cut and a new connection", reconnected).await;
        cuts.push((name.to_owned(), Instant::now()));
        load.wait_for_answers(RATE / 2).await;
    }
    let done = load.end().await;
    for (what, when) in &cuts {
        let recovery = first_new_answer_after(&done, *when);
        println!("cut of {what}: first new answer after {recovery:.2?}");
        assert!(recovery <= RECOVERY, "{what}: {recovery:?}");
    }
    println!(
        "cuts: {} calls, slowest {:.2?}, duplicates dropped {}",
        done.len(),
        slowest(&done),
        pair.server.stats().duplicates
    );
    // A cut may leave a call unconfirmed: its reply is then asked for and waited for, up to a good second, before it is
    // sent again. Several cuts in a row may each do so.
    let slow = slow(&done, CALL_TIMEOUT / 4);
    check("cuts", &done, &pair.runs, None);
    assert!(slow.is_empty(), "no call waits longer: {slow:#?}");
    assert_eq!(
        (to_client.connections_now(), to_server.connections_now()),
        (2, 2),
        "as many as before"
    );
    pair.end().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_flow_again_within_two_seconds_after_a_port_was_closed_for_a_while() {
    let _alone = ALONE.lock().await;
    let Some(vhost) = vhost_or_skip("calls_flow_again_within_two_seconds").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
    let url = vhost.url_through(proxy.port());
    let pair = Pair::start(&url, &url).await;
    let load = pair.load();
    load.wait_for_answers(RATE / 2).await;
    proxy.refuse(true).await.expect("refuses");
    proxy.cut();
    // Longer than the first waits between attempts to connect, so that they have grown.
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.refuse(false).await.expect("accepts");
    let back = Instant::now();
    load.wait_for_answers(2 * RATE).await;
    let done = load.end().await;
    let recovery = first_new_answer_after(&done, back);
    println!(
        "port closed for 5 s: first answer {recovery:.2?} after it opened, slowest call {:.2?}",
        slowest(&done)
    );
    check("closed port", &done, &pair.runs, None);
    assert!(recovery <= RECOVERY, "{recovery:?}");
    pair.end().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_when_queues_are_deleted_or_connections_closed_by_the_broker() {
    let _alone = ALONE.lock().await;
    let Some(vhost) = vhost_or_skip("no_call_is_lost_when_queues_are_deleted").await else {
        return;
    };
    let pair = Pair::start(&vhost.url(), &vhost.url()).await;
    let load = pair.load();
    load.wait_for_answers(RATE / 2).await;

    vhost
        .close_connections("an operator says so")
        .await
        .expect("closed");
    load.wait_for_answers(RATE / 2).await;

    let queues = vhost.queues().await.expect("queues");
    let reply = queues
        .iter()
        .find(|queue| queue.name.starts_with("reply_"))
        .expect("a reply queue")
        .name
        .clone();
    vhost.delete_queue(&reply).await.expect("deleted");
    load.wait_for_answers(RATE / 2).await;
    let done = load.end().await;
    println!(
        "closed and deleted: {} calls, slowest {:.2?}",
        done.len(),
        slowest(&done)
    );
    check("closed and deleted", &done, &pair.runs, None);

    // The server's own queue: what was in it is gone with it, so only later calls count.
    vhost.delete_queue(TOPIC).await.expect("deleted");
    vhost
        .wait_for_queue(TOPIC, |queue| queue.consumers == 1)
        .await
        .expect("declared again");
    let again = pair.load();
    again.wait_for_answers(RATE / 2).await;
    let done = again.end().await;
    assert!(done.iter().all(|call| call.result.is_ok()));
    pair.end().await;
    vhost.delete().await.expect("deleted");
}
