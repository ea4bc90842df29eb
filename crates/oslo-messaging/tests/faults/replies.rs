//! Replies that stood in their queue when the broker went down: it does not write them to its disk, and their servers have them.

use std::num::{NonZeroU16, NonZeroUsize};
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
    node.restart_app().await.expect("the broker restarts");
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

/// Gives as much as it is asked for, when the test lets it.
struct Heavy {
    runs: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
}

#[endpoint]
impl Heavy {
    async fn fetch(&self, bytes: u64) -> String {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let passed = self.gate.acquire().await;
        passed.expect("the gate is never closed").forget();
        "x".repeat(usize::try_from(bytes).expect("a size"))
    }
}

/// What keeps replies from their callers after the restart.
struct Delay {
    calls: usize,
    /// Size of a reply,
    bytes: u64,
    /// and how many of them a server's link carries in a second.
    bandwidth: u64,
    /// How many of the calls each of two servers can run.
    concurrency: usize,
    /// How long the methods run on.
    runs_on: Duration,
    /// It is the caller's link that is slow.
    at_caller: bool,
}

/// Calls that run on two servers when the broker restarts, and whose replies come later than callers wait for a sign that
/// somebody has their requests.
async fn late_replies(node: &Node, name: &str, delay: Delay) {
    let vhost = node.create_vhost(name).await.expect("a virtual host");
    let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
    let through = |slow| match slow {
        true => vhost.url_through(proxy.port()),
        false => vhost.url(),
    };
    let (runs, gate) = (Arc::<AtomicU32>::default(), Arc::new(Semaphore::new(0)));
    let mut servers = Vec::new();
    for server in ["rust-1", "rust-2"] {
        let url = through(!delay.at_caller);
        let transport = connect(&url).await;
        let target = Target::topic(TOPIC).server(server);
        let heavy = Heavy {
            runs: Arc::clone(&runs),
            gate: Arc::clone(&gate),
        };
        let concurrency = NonZeroUsize::new(delay.concurrency).expect("some run");
        let server = RpcServer::builder(transport.clone(), target)
            .endpoint(heavy)
            .concurrency(concurrency)
            .prefetch(NonZeroU16::MIN)
            .start();
        servers.push((server.await.expect("the server starts"), transport));
    }
    let client_side = connect(&through(delay.at_caller)).await;
    let client = RpcClient::new(client_side.clone(), Target::topic(TOPIC)).timeout(2 * LONG);
    let calls: Vec<_> = (0..delay.calls)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let args = args(&[("bytes", delay.bytes)]);
                let called: Result<String, _> = client.call(&ctx(), "fetch", args).await;
                called
            })
        })
        .collect();
    let running = delay.calls.min(2 * delay.concurrency);
    let all_run = || runs.load(Ordering::SeqCst) as usize == running;
    eventually("as many run as can", all_run).await;
    proxy.bandwidth(delay.bandwidth);
    node.restart_app().await.expect("the broker restarts");
    let began = Instant::now();
    let over = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            sleep(delay.runs_on).await;
            gate.add_permits(10 * delay.calls);
        }
    });
    for call in calls {
        let reply = call.await.expect("no panic").expect("a reply");
        assert_eq!(reply.len() as u64, delay.bytes, "{name}");
    }
    println!("{name}: all replies after {:.2?}", began.elapsed());
    over.await.expect("no panic");
    let runs = runs.load(Ordering::SeqCst) as usize;
    assert_eq!(runs, delay.calls, "{name}: nothing ran twice");
    for (server, transport) in servers {
        server.stop_within(LONG).await;
        transport.close().await;
    }
    client_side.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_server_lives_runs_once_however_late_its_reply_is_after_a_restart() {
    let _alone = ALONE.lock().await;
    let test = "a_request_whose_server_lives_runs_once_however_late_its_reply_is";
    let Some(node) = Node::boot_or_skip(test).await else {
        return;
    };
    // Larger than what servers keep.
    let large = Delay {
        calls: 16,
        bytes: 1 << 20,
        bandwidth: 1_000_000,
        concurrency: 16,
        runs_on: Duration::ZERO,
        at_caller: false,
    };
    late_replies(&node, "large-replies", large).await;
    // Kept, and asked for while they are on their way.
    let kept = Delay {
        calls: 64,
        bytes: 100 << 10,
        bandwidth: 400_000,
        concurrency: 64,
        runs_on: Duration::ZERO,
        at_caller: false,
    };
    late_replies(&node, "kept-replies", kept).await;
    // Nothing else can run: the question may not wait for one that ends. One more waits in each server.
    let busy = Delay {
        calls: 18,
        bytes: 10,
        bandwidth: 0,
        concurrency: 8,
        runs_on: Duration::from_secs(6),
        at_caller: false,
    };
    late_replies(&node, "busy-servers", busy).await;
    // The servers' words stand behind the replies of others.
    let behind = Delay {
        calls: 16,
        bytes: 1 << 20,
        bandwidth: 2_000_000,
        concurrency: 16,
        runs_on: Duration::ZERO,
        at_caller: true,
    };
    late_replies(&node, "slow-caller", behind).await;
}
