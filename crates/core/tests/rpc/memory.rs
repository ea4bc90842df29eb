//! Client and server together, over the memory driver.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::Driver;
use oslo_messaging_core::error::{ErrorKind, Result};
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{RpcClient, RpcServer};
use oslo_messaging_core::serializer::Serializer;
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::json::value::Value;
use serde::Serialize;

use crate::endpoints::{Desk, Methods};

#[derive(Serialize)]
struct Echo<T> {
    value: T,
}

fn transport(broker: &MemoryBroker) -> Transport {
    Transport::new(
        Arc::new(MemoryDriver::new(broker.clone())) as Arc<dyn Driver>,
        TransportOptions::default(),
    )
}

async fn serve(transport: &Transport, name: &str, desk: &Arc<Desk>) -> RpcServer {
    let target = Target::topic("t").server(name);
    RpcServer::builder(transport.clone(), target)
        .endpoint(Methods::new(desk))
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn values_of_every_kind_go_there_and_back() {
    let broker = MemoryBroker::new();
    let (there, here) = (transport(&broker), transport(&broker));
    let server = serve(&there, "s", &Desk::new()).await;
    let client = RpcClient::new(here, Target::topic("t"));
    for text in [
        "null",
        "true",
        "-7",
        "123456789012345678901234567890",
        "1.5",
        "\"caf\\u00e9 \\ud83d\\ude00 \\\" \\\\ \\n\"",
        "[1, [2, {\"a\": null}]]",
        "{\"x\": {\"y\": [NaN]}}",
    ] {
        let value: Value = oslo_messaging_proto::json::de::from_str(text).unwrap();
        let back: Value = client
            .call(
                &Context::new(),
                "echo",
                Echo {
                    value: value.clone(),
                },
            )
            .await
            .unwrap();
        assert_eq!(back, value, "{text}");
    }
    let raw = client
        .call_raw(&Context::new(), "echo", Echo { value: 1 })
        .await
        .unwrap();
    assert_eq!(raw.as_str(), "1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_get_each_their_own_result() {
    let broker = MemoryBroker::new();
    let here = transport(&broker);
    let server = serve(&here, "s", &Desk::new()).await;
    let client = RpcClient::new(here.clone(), Target::topic("t"));
    let calls: Vec<_> = (0..2_000)
        .map(|n: u64| {
            let client = client.clone();
            tokio::spawn(async move {
                let back: u64 = client
                    .call(&Context::new(), "echo", Echo { value: n })
                    .await
                    .unwrap();
                assert_eq!(back, n);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!((server.stats().served, here.calls_in_flight()), (2_000, 0));
    server.stop().await;
}

#[tokio::test]
async fn casts_reach_one_server_the_named_one_or_all() {
    let broker = MemoryBroker::new();
    let (desks, here) = ([Desk::new(), Desk::new()], transport(&broker));
    let servers = [
        serve(&here, "a", &desks[0]).await,
        serve(&here, "b", &desks[1]).await,
    ];
    let client = RpcClient::new(here, Target::topic("t"));
    let ctx = Context::new();
    for _ in 0..4 {
        client.cast(&ctx, "echo", ()).await.unwrap();
    }
    desks[0].entered(2).await;
    desks[1].entered(2).await;
    client
        .prepare()
        .server("b")
        .cast(&ctx, "echo", ())
        .await
        .unwrap();
    desks[1].entered(1).await;
    client
        .prepare()
        .fanout(true)
        .cast(&ctx, "echo", ())
        .await
        .unwrap();
    desks[0].entered(1).await;
    desks[1].entered(1).await;
    for server in servers {
        server.stop().await;
    }
    assert_eq!((desks[0].started(), desks[1].started()), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_a_timeout_or_with_at_least_once_an_error_at_once() {
    let broker = MemoryBroker::new();
    let client =
        RpcClient::new(transport(&broker), Target::topic("t")).timeout(Duration::from_secs(2));
    let ctx = Context::new();
    let error = client.call::<_, Value>(&ctx, "echo", ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let sure = client.prepare().at_least_once(true);
    assert_eq!(
        sure.call::<_, Value>(&ctx, "echo", ())
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::Undeliverable
    );
    assert_eq!(
        sure.cast(&ctx, "echo", ()).await.unwrap_err().kind(),
        ErrorKind::Undeliverable
    );
    client.cast(&ctx, "echo", ()).await.unwrap();
    sure.prepare()
        .fanout(true)
        .cast(&ctx, "echo", ())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_monitored_call_outlives_its_monitor_because_the_server_shows_that_it_works() {
    let broker = MemoryBroker::new();
    let (desk, here) = (Desk::new(), transport(&broker));
    let server = serve(&here, "s", &desk).await;
    let client =
        RpcClient::new(here, Target::topic("t")).call_monitor_timeout(Duration::from_secs(4));
    let call =
        tokio::spawn(async move { client.call::<_, Value>(&Context::new(), "hold", ()).await });
    desk.entered(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    desk.gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), Value::Null);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_limited_to_8_holds_8_and_its_prefetch_and_leaves_the_rest_in_the_broker() {
    let broker = MemoryBroker::new();
    let (desk, here) = (Desk::new(), transport(&broker));
    let server = RpcServer::builder(here.clone(), Target::topic("t").server("s"))
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::new(8).unwrap())
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(here, Target::topic("t"));
    for _ in 0..200 {
        client.cast(&Context::new(), "hold", ()).await.unwrap();
    }
    desk.entered(8).await;
    let stats = server.stats();
    assert_eq!((stats.running, stats.waiting), (8, 16));
    assert_eq!(broker.waiting("openstack", "t"), 200 - 24);
    let stopped = server.stop_within(Duration::from_secs(1)).await;
    assert_eq!((stopped.aborted, stopped.requeued), (8, 16));
    assert_eq!(
        broker.waiting("openstack", "t"),
        200 - 8,
        "what was not started can be served by others"
    );
    desk.gate.add_permits(1_000);
    let next = serve(&transport(&broker), "next", &desk).await;
    desk.entered(192).await;
    next.stop().await;
    assert_eq!(
        desk.ended.load(Ordering::SeqCst),
        192,
        "all but the 8 that were aborted"
    );
}

/// Marks everything that passes.
struct Marks;

impl Serializer for Marks {
    fn serialize_entity(&self, context: &Context, entity: Value) -> Result<Value> {
        Ok(Value::from(format!(
            "{entity} sent in {} entries",
            context.len()
        )))
    }

    fn deserialize_entity(&self, _: &Context, entity: Value) -> Result<Value> {
        Ok(Value::from(format!(
            "{} received",
            entity.as_str().unwrap_or("?")
        )))
    }

    fn serialize_context(&self, context: &Context) -> Result<Context> {
        let mut context = context.clone();
        context.insert("user", "marked")?;
        Ok(context)
    }
}

#[tokio::test]
async fn a_serializer_sees_context_arguments_and_result_on_both_sides() {
    let broker = MemoryBroker::new();
    let here = transport(&broker);
    let server = RpcServer::builder(here.clone(), Target::topic("t").server("s"))
        .endpoint(Methods::new(&Desk::new()))
        .serializer(Arc::new(Marks))
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(here, Target::topic("t")).serializer(Arc::new(Marks));
    let back: String = client
        .call(&Context::new(), "echo", Echo { value: 1 })
        .await
        .unwrap();
    assert_eq!(
        back,
        r#""1 sent in 0 entries received" sent in 1 entries received"#
    );
    let user: String = client.call(&Context::new(), "context", ()).await.unwrap();
    assert_eq!(user, r#""marked" sent in 1 entries received"#);
    server.stop().await;
}

#[tokio::test]
async fn remote_errors_of_every_kind_reach_the_caller() {
    let broker = MemoryBroker::new();
    let here = transport(&broker);
    let server = serve(&here, "s", &Desk::new()).await;
    let client = RpcClient::new(here, Target::topic("t"));
    let ctx = Context::new();
    for (method, version, kind, class) in [
        ("fail", "1.0", ErrorKind::Remote, "Exception"),
        ("boom", "1.0", ErrorKind::Remote, "RuntimeError"),
        ("unwritable", "1.0", ErrorKind::Remote, "TypeError"),
        ("nope", "1.0", ErrorKind::NoSuchMethod, "NoSuchMethod"),
        (
            "echo",
            "7.0",
            ErrorKind::UnsupportedVersion,
            "UnsupportedVersion",
        ),
    ] {
        let error = client
            .prepare()
            .version(version)
            .call::<_, Value>(&ctx, method, ())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.remote().unwrap().class()),
            (kind, class),
            "{method}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_runtime_that_ends_with_requests_waiting_does_not_hang() {
    let broker = MemoryBroker::new();
    let other = {
        let broker = broker.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let here = transport(&broker);
                let desk = Desk::new();
                let server = RpcServer::builder(here.clone(), Target::topic("t").server("s"))
                    .endpoint(Methods::new(&desk))
                    .concurrency(NonZeroUsize::MIN)
                    .start()
                    .await
                    .unwrap();
                let client = RpcClient::new(here, Target::topic("t"));
                for _ in 0..10 {
                    client.cast(&Context::new(), "hold", ()).await.unwrap();
                }
                desk.entered(1).await;
                // Kept beyond the runtime, as a static would be.
                server
            })
        })
    };
    let server = other.join().unwrap();
    let client = RpcClient::new(transport(&broker), Target::topic("t"));
    client.cast(&Context::new(), "hold", ()).await.unwrap();
    drop(server);
}

#[tokio::test]
async fn a_server_with_much_to_do_lets_other_tasks_run() {
    let broker = MemoryBroker::new();
    let (desk, here) = (Desk::new(), transport(&broker));
    let server = RpcServer::builder(here.clone(), Target::topic("t").server("s"))
        .endpoint(Methods::new(&desk))
        .concurrency(NonZeroUsize::MIN)
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(here, Target::topic("t"));
    for _ in 0..5_000 {
        client.cast(&Context::new(), "echo", ()).await.unwrap();
    }
    let before = desk.started();
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let after = desk.started();
    assert!(
        before < after && after < 5_000,
        "{before} and {after} of 5,000 after one turn"
    );
    desk.entered(5_000).await;
    server.stop().await;
}

#[test]
fn a_transport_outlives_the_runtime_that_made_its_first_call() {
    let broker = MemoryBroker::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (serving, first, second) = (runtime(), runtime(), runtime());
    let desk = Desk::new();
    let server = serving.block_on(serve(&transport(&broker), "s", &desk));
    let client =
        RpcClient::new(transport(&broker), Target::topic("t")).timeout(Duration::from_millis(50));
    let ctx = Context::new();
    let call = || client.call::<_, Value>(&ctx, "echo", ());
    // Nobody runs the server's tasks, so every call times out; what matters is that it does.
    let patient = client.prepare().timeout(Duration::from_secs(3600));
    let waiting =
        first.spawn(async move { patient.call::<_, Value>(&Context::new(), "echo", ()).await });
    assert_eq!(
        first.block_on(call()).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    drop(first);
    drop(waiting);
    assert_eq!(
        second.block_on(call()).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(client.transport().calls_in_flight(), 0);
    serving.block_on(server.stop());
}
