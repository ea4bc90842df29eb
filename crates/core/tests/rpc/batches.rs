//! Many calls at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::ErrorKind;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{Interface, RpcClient, RpcServer};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use serde::Serialize;
use serde::ser::Error as _;
use tokio::time::Instant;

use crate::endpoints::{Desk, Methods};

#[derive(Serialize)]
struct Echo {
    value: u64,
}

struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("this cannot be written"))
    }
}

fn transport() -> Transport {
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new())) as Arc<dyn Driver>;
    Transport::new(driver, TransportOptions::default())
}

async fn serve(transport: &Transport, server: &str, desk: &Arc<Desk>) -> RpcServer {
    let methods = Methods::new(desk).interface(Interface::new().version("1.5"));
    let target = Target::topic("t").server(server);
    let builder = RpcServer::builder(transport.clone(), target).endpoint(methods);
    builder.start().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn results_come_in_the_order_of_the_calls_and_only_so_many_run_at_once() {
    let (here, desk) = (transport(), Desk::new());
    let _server = serve(&here, "s", &desk).await;
    let (client, ctx) = (RpcClient::new(here, Target::topic("t")), Context::new());
    let mut batch = client.batch(&ctx).concurrency(8);
    for value in 0..100 {
        batch.call("echo", Echo { value });
    }
    assert_eq!(batch.len(), 100);
    let results: Vec<u64> = batch.run().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, Vec::from_iter(0..100));
    assert!(desk.most_running.load(Ordering::SeqCst) <= 8);
    assert!(client.batch(&ctx).run::<Value>().await.is_empty());

    let mut held = client.batch(&ctx).concurrency(3);
    for _ in 0..5 {
        held.call("hold", ());
    }
    desk.entered(100).await;
    let release = async {
        desk.entered(3).await;
        assert_eq!(desk.running.load(Ordering::SeqCst), 3);
        desk.gate.add_permits(5);
    };
    let (results, ()) = tokio::join!(held.run::<Value>(), release);
    assert_eq!(results.into_iter().filter(Result::is_ok).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_fails_alone_and_targets_may_differ() {
    let (here, desks) = (transport(), [Desk::new(), Desk::new()]);
    let _servers = [
        serve(&here, "a", &desks[0]).await,
        serve(&here, "b", &desks[1]).await,
    ];
    let (client, ctx) = (RpcClient::new(here, Target::topic("t")), Context::new());
    let mut batch = client.batch(&ctx);
    batch
        .call_on(&client.prepare().server("a"), "echo", Echo { value: 1 })
        .call_on(&client.prepare().server("b"), "echo", Echo { value: 2 })
        .call("fail", ())
        .call("echo", [Unwritable])
        .call_on(&client.prepare().version("9.0"), "echo", ());
    let results = batch.run::<u64>().await;
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().map_err(|error| error.kind()))
        .collect();
    let failed = [
        ErrorKind::Remote,
        ErrorKind::Encode,
        ErrorKind::UnsupportedVersion,
    ];
    assert_eq!(kinds[..2], [Ok(&1), Ok(&2)]);
    assert_eq!(kinds[2..], failed.map(Err));
    assert!(desks.iter().all(|desk| desk.started() >= 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_results_as_they_come() {
    let (here, desk) = (transport(), Desk::new());
    let _server = serve(&here, "s", &desk).await;
    let (client, ctx) = (
        RpcClient::new(here.clone(), Target::topic("t")),
        Context::new(),
    );
    let mut batch = client.batch(&ctx);
    batch.call("hold", ()).call("echo", Echo { value: 7 });
    let mut results = batch.stream::<Option<u64>>();
    let (index, result) = results.next().await.unwrap();
    assert_eq!((index, result.unwrap()), (1, Some(7)));
    desk.gate.add_permits(1);
    let (index, result) = results.next().await.unwrap();
    assert_eq!((index, result.unwrap()), (0, None));
    assert!(results.next().await.is_none());

    let mut batch = client.batch(&ctx);
    batch.call("hold", ()).call("echo", Echo { value: 8 });
    let mut results = batch.stream::<Option<u64>>();
    results.next().await.unwrap().1.unwrap();
    assert_eq!(here.calls_in_flight(), 1);
    drop(results);
    assert_eq!(
        here.calls_in_flight(),
        0,
        "the rest is given up with the stream"
    );
}

#[tokio::test(start_paused = true)]
async fn one_deadline_holds_for_all_or_each_call_has_its_own() {
    let (here, desk) = (transport(), Desk::new());
    let _server = serve(&here, "s", &desk).await;
    let (client, ctx) = (RpcClient::new(here, Target::topic("t")), Context::new());
    let second = Duration::from_secs(1);
    let batch = |concurrency| {
        let mut batch = client.batch(&ctx).concurrency(concurrency);
        batch.call("hold", ()).call("hold", ()).call("hold", ());
        batch
    };
    for (batch, took) in [
        (batch(1).timeout(2 * second), 2),
        (batch(1).each(second), 3),
        (batch(3).each(second), 1),
    ] {
        let before = Instant::now();
        for result in batch.run::<Value>().await {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
        }
        assert_eq!(before.elapsed().as_secs(), took);
    }
}
