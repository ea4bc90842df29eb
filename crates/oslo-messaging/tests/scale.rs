//! Many calls, few connections, and bounds that reach back to the broker.

mod common;

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oslo_messaging::{ErrorKind, RpcClient, RpcServer, Target, Transport, endpoint};
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::common::{LONG, TOPIC, args, connect, ctx, eventually};

/// A method whose calls wait at a gate until the test lets them through.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    ran: Arc<AtomicUsize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Arc::new(Semaphore::new(0)),
            running: Arc::default(),
            most: Arc::default(),
            ran: Arc::default(),
        }
    }
}

impl Gate {
    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::SeqCst)
    }

    fn let_through(&self, calls: usize) {
        self.open.add_permits(calls);
    }
}

struct Gated(Gate);

#[endpoint]
impl Gated {
    async fn pass(&self, n: u64) -> u64 {
        let gate = &self.0;
        let running = gate.running.fetch_add(1, Ordering::SeqCst) + 1;
        gate.most.fetch_max(running, Ordering::SeqCst);
        gate.open
            .acquire()
            .await
            .expect("the gate is never closed")
            .forget();
        gate.running.fetch_sub(1, Ordering::SeqCst);
        gate.ran.fetch_add(1, Ordering::SeqCst);
        n
    }
}

fn client(transport: &Transport) -> RpcClient {
    RpcClient::new(transport.clone(), Target::topic(TOPIC)).timeout(4 * LONG)
}

async fn serve(
    transport: &Transport,
    name: &str,
    gate: &Gate,
    concurrency: usize,
    prefetch: Option<u16>,
) -> RpcServer {
    let concurrency = NonZeroUsize::new(concurrency).expect("not zero");
    let target = Target::topic(TOPIC).server(name);
    let mut builder = RpcServer::builder(transport.clone(), target)
        .endpoint(Gated(gate.clone()))
        .concurrency(concurrency);
    if let Some(prefetch) = prefetch {
        builder = builder.prefetch(NonZeroU16::new(prefetch).expect("not zero"));
    }
    builder.start().await.expect("the server starts")
}

/// Calls `pass` for each number, each call in a task of its own that checks its answer.
fn call_all(client: &RpcClient, numbers: std::ops::Range<u64>) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for n in numbers {
        let client = client.clone();
        calls.spawn(async move {
            let answer: u64 = client
                .call(&ctx(), "pass", args(&[("n", n)]))
                .await
                .expect("an answer");
            assert_eq!(answer, n);
        });
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls_are_in_flight_at_once_over_two_connections() {
    let Some(vhost) = vhost_or_skip("ten_thousand_calls_are_in_flight").await else {
        return;
    };
    let port = vhost.broker().port();
    let (to_client, to_server) = (
        Proxy::start(port).await.expect("a proxy"),
        Proxy::start(port).await.expect("a proxy"),
    );
    let server_transport = connect(&vhost.url_through(to_server.port())).await;
    let client_transport = connect(&vhost.url_through(to_client.port())).await;
    let gate = Gate::default();
    let server = serve(&server_transport, "rust-1", &gate, 64, None).await;

    const CALLS: u64 = 10_000;
    let started = Instant::now();
    let calls = call_all(&client(&client_transport), 0..CALLS);
    eventually("all are in flight", || {
        client_transport.calls_in_flight() == CALLS as usize
    })
    .await;
    eventually("handlers run", || gate.running() == 64).await;
    // With 64 running (acknowledged) and a prefetch of 64, the broker has all but 64 in its hands.
    let queue = vhost
        .wait_for_queue(TOPIC, |queue| {
            queue.messages == CALLS - 64 && queue.unacknowledged == 64
        })
        .await;
    queue.expect("the rest stays in the broker");
    let in_flight = started.elapsed();
    assert_eq!(client_transport.calls_in_flight(), CALLS as usize);
    // The server has not replied yet, so that it needs no connection to publish.
    assert_eq!(
        (to_client.connections_ever(), to_server.connections_ever()),
        (2, 1)
    );

    let released = Instant::now();
    gate.let_through(CALLS as usize);
    calls.join_all().await;
    println!(
        "{CALLS} calls in flight after {in_flight:.2?}, all answered {:.2?} after the gate opened ({:.0}/s)",
        released.elapsed(),
        CALLS as f64 / released.elapsed().as_secs_f64()
    );
    assert_eq!((gate.ran(), gate.most()), (CALLS as usize, 64));
    assert_eq!(
        (to_client.connections_ever(), to_server.connections_ever()),
        (2, 2)
    );
    let connections = vhost.connections().await.expect("connections");
    assert_eq!(
        connections.len(),
        4,
        "two for each transport: {connections:?}"
    );
    assert_eq!(client_transport.calls_in_flight(), 0);
    server.stop().await;
    client_transport.close().await;
    server_transport.close().await;
    vhost
        .wait_for_connections(<[_]>::is_empty)
        .await
        .expect("all are closed");
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_eight_handlers_never_runs_nor_holds_more_and_the_rest_stays_in_the_broker() {
    let Some(vhost) = vhost_or_skip("a_server_of_eight_handlers").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    for (prefetch, held) in [(None, 16), (Some(1), 1), (Some(50), 50)] {
        let gate = Gate::default();
        let server = serve(&transport, "rust-1", &gate, 8, prefetch).await;
        const CALLS: u64 = 300;
        let calls = call_all(&client(&transport), 0..CALLS);
        let settled = |queue: &oslo_messaging_testkit::rabbit::vhost::Queue| {
            queue.messages == CALLS - 8 && queue.unacknowledged == held
        };
        vhost
            .wait_for_queue(TOPIC, settled)
            .await
            .expect("8 run, and the prefetch is held");
        assert_eq!(
            (
                gate.running(),
                server.stats().running,
                server.stats().waiting as u64
            ),
            (8, 8, held)
        );

        // While they go through one by one, no more is ever held.
        for let_through in 1..=20 {
            gate.let_through(1);
            eventually("one went through", || gate.ran() == let_through).await;
            let queue = vhost
                .queue(TOPIC)
                .await
                .expect("queues")
                .expect("the queue");
            assert!(queue.unacknowledged <= 8 + held, "{queue:?}");
            assert!(gate.running() <= 8);
        }
        gate.let_through(CALLS as usize);
        calls.join_all().await;
        assert_eq!((gate.ran(), gate.most()), (CALLS as usize, 8));
        server.stop().await;
    }
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_gives_back_what_it_has_not_started() {
    let Some(vhost) = vhost_or_skip("a_server_that_stops_gives_back").await else {
        return;
    };
    let (transport, second_transport) = (connect(&vhost.url()).await, connect(&vhost.url()).await);
    let (gate, second_gate) = (Gate::default(), Gate::default());
    let server = serve(&transport, "rust-1", &gate, 2, None).await;
    let calls = call_all(&client(&transport), 0..60);
    vhost
        .wait_for_queue(TOPIC, |queue| {
            queue.messages == 58 && queue.unacknowledged == 16
        })
        .await
        .expect("2 run, 16 are held, 42 stay");

    let stopping = tokio::spawn(server.stop_within(LONG));
    vhost
        .wait_for_queue(TOPIC, |queue| {
            queue.messages == 58 && queue.unacknowledged == 0 && queue.consumers == 0
        })
        .await
        .expect("what was held is back");
    gate.let_through(2);
    let stopped = stopping.await.expect("no panic");
    assert_eq!(
        (stopped.requeued, stopped.aborted, stopped.replies_dropped),
        (16, 0, 0)
    );
    assert_eq!(gate.ran(), 2, "what ran came to its end");

    second_gate.let_through(58);
    let second = serve(&second_transport, "rust-2", &second_gate, 8, None).await;
    calls.join_all().await;
    assert_eq!((gate.ran(), second_gate.ran()), (2, 58));
    assert_eq!(second.stats().duplicates, 0);
    second.stop().await;
    transport.close().await;
    second_transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_may_wait_no_longer_aborts_what_runs() {
    let Some(vhost) = vhost_or_skip("a_stop_that_may_wait_no_longer").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let gate = Gate::default();
    let server = serve(&transport, "rust-1", &gate, 3, None).await;
    let mut calls = call_all(&client(&transport).timeout(LONG), 0..3);
    eventually("all run", || gate.running() == 3).await;
    let started = Instant::now();
    let stopped = server.stop_within(Duration::from_millis(200)).await;
    assert_eq!((stopped.aborted, stopped.requeued), (3, 0));
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    assert_eq!(gate.ran(), 0);
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_servers_and_clients_share_the_two_connections_of_their_transport() {
    let Some(vhost) = vhost_or_skip("twenty_servers_and_clients_share").await else {
        return;
    };
    let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
    let transport = connect(&vhost.url_through(proxy.port())).await;
    let gate = Gate::default();
    gate.let_through(20 * 20);
    let mut servers = Vec::new();
    for n in 0..20 {
        let target = Target::topic(format!("topic-{n}")).server(format!("rust-{n}"));
        let builder = RpcServer::builder(transport.clone(), target).endpoint(Gated(gate.clone()));
        servers.push(builder.start().await.expect("the server starts"));
    }
    let mut calls = JoinSet::new();
    for n in 0..20 * 20_u64 {
        let client = RpcClient::new(
            transport.clone(),
            Target::topic(format!("topic-{}", n % 20)),
        )
        .timeout(LONG);
        calls.spawn(async move {
            let answer: u64 = client
                .call(&ctx(), "pass", args(&[("n", n)]))
                .await
                .expect("an answer");
            assert_eq!(answer, n);
        });
    }
    calls.join_all().await;
    assert_eq!(proxy.connections_ever(), 2);
    assert_eq!(vhost.connections().await.expect("connections").len(), 2);
    for server in servers {
        assert_eq!(server.stats().served, 20);
        server.stop().await;
    }
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_dropped_give_their_places_up() {
    let Some(vhost) = vhost_or_skip("calls_that_are_dropped").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let gate = Gate::default();
    let server = serve(&transport, "rust-1", &gate, 500, Some(500)).await;
    let mut calls = call_all(&client(&transport), 0..500);
    eventually("all run", || gate.running() == 500).await;
    assert_eq!(transport.calls_in_flight(), 500);
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    assert_eq!(transport.calls_in_flight(), 0);

    // Their replies come to nobody, and the next calls get their own.
    gate.let_through(600);
    call_all(&client(&transport), 500..600).join_all().await;
    eventually("all ended", || gate.ran() == 600).await;
    // Dropped while it is being sent, at whatever point.
    for turns in 0..20 {
        let (client, context) = (client(&transport), ctx());
        let mut call = Box::pin(client.call::<_, u64>(&context, "pass", args(&[("n", 1)])));
        for _ in 0..turns {
            if poll_once(call.as_mut()).await {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        assert_eq!(transport.calls_in_flight(), 0);
    }
    gate.let_through(20);
    call_all(&client(&transport), 600..601).join_all().await;
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}

/// Polls once; whether that was the end.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_whose_callers_gave_up_while_they_waited_are_not_served() {
    let Some(vhost) = vhost_or_skip("requests_whose_callers_gave_up").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let gate = Gate::default();
    let server = serve(&transport, "rust-1", &gate, 1, None).await;
    let first = call_all(&client(&transport), 0..1);
    eventually("the first runs", || gate.running() == 1).await;

    const PATIENCE: Duration = Duration::from_secs(2);
    let mut given_up = JoinSet::new();
    for n in 1..=40_u64 {
        let client = client(&transport).timeout(PATIENCE);
        given_up.spawn(async move {
            let error = client
                .call::<_, u64>(&ctx(), "pass", args(&[("n", n)]))
                .await
                .expect_err("no answer");
            assert_eq!(error.kind(), ErrorKind::Timeout);
        });
    }
    eventually("16 are held here", || server.stats().waiting == 16).await;
    let held = Instant::now();
    given_up.join_all().await;
    // The broker has dropped the other 24.
    vhost
        .wait_for_queue(TOPIC, |queue| queue.messages == 16)
        .await
        .expect("the others expired");
    // The server counts from when it got them, which may be later than when their callers began.
    tokio::time::sleep_until(held + PATIENCE).await;
    gate.let_through(2);
    first.join_all().await;
    call_all(&client(&transport), 41..42).join_all().await;
    assert_eq!(gate.ran(), 2, "nobody waits for the others any more");
    assert_eq!(server.stats().expired, 16);
    server.stop().await;
    transport.close().await;
    vhost.delete().await.expect("deleted");
}
