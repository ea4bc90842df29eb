//! Replies that stood in their queue when the broker went down: it does not write them to its disk, and their servers have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oslo_messaging::{RpcClient, RpcServer, Target, endpoint};
use oslo_messaging_testkit::proxy::{Direction, Proxy};
use oslo_messaging_testkit::rabbit::node::Node;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::ALONE;
use crate::common::{LONG, TOPIC, args, connect, ctx, eventually};

/// Answers when the test lets it.
struct Waiter {
    runs: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
}

#[endpoint]
impl Waiter {
    async fn run(&self, n: u64) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let passed = self.gate.acquire().await;
        passed.expect("the gate is never closed").forget();
        n
    }
}

/// Calls whose replies the broker has, and the caller has not, when the broker restarts; how they end.
async fn restart_between_reply_and_caller(node: &Node, query: &str, to_one: bool) {
    let vhost = node.create_vhost(query).await.expect("a virtual host");
    let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
    let server_side = connect(&format!("{}{query}", vhost.url())).await;
    let client_side = connect(&format!("{}{query}", vhost.url_through(proxy.port()))).await;
    let (runs, gate) = (Arc::<AtomicU32>::default(), Arc::new(Semaphore::new(0)));
    let waiter = Waiter {
        runs: Arc::clone(&runs),
        gate: Arc::clone(&gate),
    };
    let target = Target::topic(TOPIC).server("rust-1");
    let builder = RpcServer::builder(server_side.clone(), target).endpoint(waiter);
    let server = builder.start().await.expect("the server starts");
    let mut client = RpcClient::new(client_side.clone(), Target::topic(TOPIC)).timeout(LONG);
    if to_one {
        client = client.server("rust-1");
    }

    let calls: Vec<_> = (0..3_u64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let called: Result<u64, _> = client.call(&ctx(), "run", args(&[("n", n)])).await;
                called
            })
        })
        .collect();
    eventually("all run", || runs.load(Ordering::SeqCst) == 3).await;
    let queue = client_side.health().reply_queue.expect("calls are waiting");
    // Whatever the broker sends from now on does not arrive.
    proxy.pause_direction(Direction::ToClient);
    gate.add_permits(2);
    let standing = vhost
        .wait_for_queue(&queue, |queue| queue.messages == 2)
        .await;
    standing.expect("two replies are with the broker");
    node.run("ok = rabbit:stop(), ok = rabbit:start()")
        .await
        .expect("the broker restarts");
    proxy.resume();
    let began = Instant::now();
    // One method runs on over the restart.
    let over = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            sleep(Duration::from_secs(8)).await;
            gate.add_permits(1);
        }
    });
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.expect("no panic"));
        println!(
            "{query:?}, one server {to_one}: {:?} after {:.2?}",
            results.last(),
            began.elapsed()
        );
    }
    over.await.expect("no panic");
    for (n, result) in (0..).zip(results) {
        assert_eq!(
            result.expect("a reply"),
            n,
            "{query:?}, one server {to_one}"
        );
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3, "nothing ran twice");
    server.stop_within(LONG).await;
    client_side.close().await;
    server_side.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_a_restarted_broker_lost_comes_from_the_server_that_has_it() {
    let _alone = ALONE.lock().await;
    let test = "a_reply_that_a_restarted_broker_lost_comes_from_the_server_that_has_it";
    let Some(node) = Node::boot_or_skip(test).await else {
        return;
    };
    for query in ["", "?amqp_durable_queues=true"] {
        for to_one in [false, true] {
            restart_between_reply_and_caller(&node, query, to_one).await;
        }
    }
}
