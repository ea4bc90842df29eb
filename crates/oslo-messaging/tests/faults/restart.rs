//! The broker goes away and comes back, or stands still.

use std::net::Ipv4Addr;
use std::time::Duration;

use oslo_messaging_testkit::rabbit::Broker;
use oslo_messaging_testkit::rabbit::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

use crate::common::{self};
use crate::load::{Pair, check, first_answer_after, first_new_answer_after, slowest};
use crate::{ALONE, RATE, RECOVERY};

/// The moment when the broker takes an AMQP connection: it answers the protocol header with `connection.start`.
async fn broker_accepts(port: u16) -> Instant {
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        let attempt = async {
            let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            socket.write_all(b"AMQP\x00\x00\x09\x01").await?;
            let mut start = [0; 11];
            socket.read_exact(&mut start).await?;
            std::io::Result::Ok(start)
        };
        // Method frame of channel 0, class 10, method 10.
        if let Ok(Ok(frame)) = timeout(Duration::from_secs(1), attempt).await
            && (frame[0], &frame[7..11]) == (1, &[0, 10, 0, 10])
        {
            return Instant::now();
        }
    }
}

/// How a broker goes away.
#[derive(Clone, Copy, Debug)]
enum Fall {
    /// The broker stops within its Erlang node and starts again, which takes little time.
    Application,
    /// The process is asked to end, and a new one is started.
    Process,
    /// SIGKILL, and a new process is started.
    Kill,
}

/// Takes the broker away and brings it back; the moment when it takes connections again.
async fn fall(node: &mut Node, how: Fall) -> Instant {
    let port = node.port();
    match how {
        Fall::Application => {
            node.stop_app().await.expect("the broker stops");
            let broker = node.broker();
            let (accepted, started) = tokio::join!(broker_accepts(port), broker.start_app());
            started.expect("the broker starts");
            return accepted;
        }
        Fall::Process => node.stop().await.expect("the broker stops"),
        Fall::Kill => node.kill().await.expect("the broker is killed"),
    }
    let (accepted, started) = tokio::join!(broker_accepts(port), node.start());
    started.expect("the broker starts");
    accepted
}

/// Calls go on while the broker is away.
async fn restart_under_load(node: &mut Node, query: &str, how: Fall) {
    let queues = if query.is_empty() {
        "transient queues"
    } else {
        "durable queues"
    };
    let what = format!("{how:?}, {queues}");
    let vhost = node.create_vhost(&what).await.expect("a virtual host");
    let url = format!("{}{query}", vhost.url());
    let pair = Pair::start(&url, &url).await;
    let load = pair.load();
    load.wait_for_answers(RATE).await;
    let began = Instant::now();
    let accepted = fall(node, how).await;
    load.wait_for_answers(2 * RATE).await;
    let done = load.end().await;

    let recovery = first_answer_after(&done, accepted);
    let fresh = first_new_answer_after(&done, accepted);
    let excused = check(&what, &done, &pair.runs, Some(accepted + RECOVERY));
    println!(
        "{what}: {} calls at {RATE}/s, broker away for {:.2?}; first answer {recovery:.2?} after it accepts, first of a new \
         call {fresh:.2?}, slowest call {:.2?}, duplicates dropped {}, out of time before the broker was back {excused}",
        done.len(),
        accepted - began,
        slowest(&done),
        pair.server.stats().duplicates,
    );
    assert!(
        recovery <= RECOVERY && fresh <= RECOVERY,
        "{what}: {recovery:?}, {fresh:?}"
    );
    // Restarting the process takes some seconds more than an unlucky call has, on a busy machine; the application is
    // back in time for all.
    assert!(
        excused == 0 || !matches!(how, Fall::Application),
        "{what}: {excused} calls were out of time"
    );
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_or_run_twice_when_the_broker_restarts_under_load() {
    let _alone = ALONE.lock().await;
    let Some(mut node) = Node::boot_or_skip("no_call_is_lost_when_the_broker_restarts").await
    else {
        return;
    };
    let durable = "?amqp_durable_queues=true";
    restart_under_load(&mut node, "", Fall::Application).await;
    restart_under_load(&mut node, durable, Fall::Application).await;
    restart_under_load(&mut node, "", Fall::Process).await;
    restart_under_load(&mut node, durable, Fall::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_broker_delays_calls_and_loses_none() {
    let _alone = ALONE.lock().await;
    let Some(node) = Node::boot_or_skip("a_blocked_broker_delays_calls").await else {
        return;
    };
    let pair = Pair::start(&node.url(""), &node.url("")).await;
    let load = pair.load();
    load.wait_for_answers(RATE / 4).await;
    let broker: Broker = node.broker();
    broker.memory_alarm(true).await.expect("an alarm");
    common::eventually("publishing is blocked", || {
        pair.client_transport.health().blocked
    })
    .await;
    broker.memory_alarm(false).await.expect("no alarm");
    load.wait_for_answers(RATE).await;
    let done = load.end().await;
    check("blocked", &done, &pair.runs, None);
    assert!(!pair.client_transport.health().blocked);

    // A broker that stands still and goes on.
    let load = pair.load();
    load.wait_for_answers(RATE / 4).await;
    node.pause().expect("paused");
    tokio::time::sleep(Duration::from_secs(2)).await;
    node.resume().expect("resumed");
    load.wait_for_answers(RATE).await;
    let done = load.end().await;
    assert!(done.iter().all(|call| call.result.is_ok()), "none is lost");
    pair.end().await;
}
