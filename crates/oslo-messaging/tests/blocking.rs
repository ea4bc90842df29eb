//! The face for programs without async: what it does, and where it refuses.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "macros")]

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use oslo_messaging::blocking::{self, RpcClient, RpcServer};
use oslo_messaging::rpc::server::Executor;
use oslo_messaging::{Context, ErrorKind, Target, Value, endpoint};

struct Adder(Option<RpcClient>);

#[endpoint]
impl Adder {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    /// Waits for another call on its own thread.
    #[rpc(blocking)]
    fn nested(&self) -> Result<i64, oslo_messaging::Error> {
        let client = self.0.as_ref().unwrap();
        client.call(&Context::new(), "add", HashMap::from([("a", 2), ("b", 3)]))
    }

    async fn never(&self) {
        std::future::pending().await
    }
}

fn add(client: &RpcClient, a: i64, b: i64) -> oslo_messaging::Result<i64> {
    client.call(&Context::new(), "add", HashMap::from([("a", a), ("b", b)]))
}

#[test]
fn threads_call_and_cast_and_wait_each_for_its_own() {
    let transport = blocking::connect("memory://blocking-threads").unwrap();
    let builder = transport.serve(Target::topic("t").server("s"));
    let server = RpcServer::start(builder.endpoint(Adder(None))).unwrap();
    let client = RpcClient::new(&transport, Target::topic("t"));
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let client = client.clone();
            thread::spawn(move || add(&client, n, 1).unwrap())
        })
        .collect();
    let sums: Vec<i64> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(sums, Vec::from_iter(1..=8));
    let all = client.with(|client| client.fanout(true));
    all.cast(&Context::new(), "add", HashMap::from([("a", 1), ("b", 1)]))
        .unwrap();
    let missing = client
        .call::<_, Value>(&Context::new(), "missing", ())
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NoSuchMethod);
    let hurried = client.with(|client| client.timeout(Duration::from_millis(50)));
    let late = hurried
        .call::<_, Value>(&Context::new(), "never", ())
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert!(server.stats().served >= 8);
    let stopped = server.stop_within(Duration::from_millis(50)).unwrap();
    assert_eq!(stopped.aborted, 1);
    transport.close().unwrap();
    assert_eq!(add(&client, 1, 1).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn handlers_on_threads_of_their_own_may_wait_for_calls() {
    let transport = blocking::connect("memory://blocking-nested").unwrap();
    let client = RpcClient::new(&transport, Target::topic("t"));
    for executor in [Executor::Async, Executor::Threading] {
        let builder = transport.serve(Target::topic("t").server("s"));
        let builder = builder
            .executor(executor)
            .endpoint(Adder(Some(client.clone())));
        let server = RpcServer::start(builder).unwrap();
        let sum: i64 = client.call(&Context::new(), "nested", ()).unwrap();
        assert_eq!(sum, 5);
        server.stop().unwrap();
    }
}

#[test]
fn inside_of_a_runtime_everything_that_waits_is_refused_and_everything_may_be_dropped() {
    let transport = blocking::connect("memory://blocking-inside").unwrap();
    let builder = transport.serve(Target::topic("t").server("s"));
    let server = RpcServer::start(builder.endpoint(Adder(None))).unwrap();
    let client = RpcClient::new(&transport, Target::topic("t"));
    assert_eq!(add(&client, 1, 2).unwrap(), 3);
    let inside = async {
        let refused = [
            blocking::connect("memory://").map(drop),
            add(&client, 1, 2).map(drop),
            client.cast(&Context::new(), "add", ()),
            transport.close(),
            RpcServer::start(
                transport
                    .serve(Target::topic("t").server("u"))
                    .endpoint(Adder(None)),
            )
            .map(drop),
            server.stop().map(drop),
        ];
        for refusal in refused {
            let error = refusal.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("async runtime"), "{error}");
        }
        // `server` is gone already; the others go here.
        drop((client, transport));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(inside);
}

#[test]
fn a_server_that_is_dropped_serves_no_more() {
    let transport = blocking::connect("memory://blocking-dropped").unwrap();
    let builder = transport.serve(Target::topic("t").server("s"));
    let server = RpcServer::start(builder.endpoint(Adder(None))).unwrap();
    let client = RpcClient::new(&transport, Target::topic("t"));
    assert_eq!(add(&client, 1, 2).unwrap(), 3);
    drop(server);
    let sure = client.with(|client| {
        client
            .server("s")
            .at_least_once(true)
            .timeout(Duration::from_secs(1))
    });
    // The end is not waited for.
    let began = Instant::now();
    while add(&sure, 1, 2).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it still serves");
        thread::yield_now();
    }
}
