//! Servers on a real broker: when requests are acknowledged, where handlers run, and how servers begin and end.

#![cfg(feature = "macros")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use oslo_messaging::{
    Acknowledge, Context, ErrorKind, Executor, RpcClient, RpcServer, Target, Transport,
    current_context, endpoint, in_current_context,
};
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use tokio::sync::Semaphore;

use self::common::{LONG, TOPIC, client, connect, ctx, eventually, no_args};

/// Counts who comes in and lets out who has a pass.
struct Gate {
    name: &'static str,
    entered: AtomicUsize,
    pass: Semaphore,
}

impl Gate {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            entered: AtomicUsize::new(0),
            pass: Semaphore::new(0),
        })
    }

    fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }
}

struct Gated(Arc<Gate>);

#[endpoint]
impl Gated {
    async fn pass(&self) -> &'static str {
        self.0.entered.fetch_add(1, Ordering::SeqCst);
        self.0
            .pass
            .acquire()
            .await
            .expect("the gate is never closed")
            .forget();
        self.0.name
    }
}

async fn serve(transport: &Transport, gate: &Arc<Gate>, when: Acknowledge) -> RpcServer {
    RpcServer::builder(transport.clone(), Target::topic(TOPIC).server(gate.name))
        .endpoint(Gated(Arc::clone(gate)))
        .acknowledge(when)
        .start()
        .await
        .expect("the server starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_killed_server_is_answered_by_another_only_if_it_was_not_acknowledged() {
    for when in [Acknowledge::After, Acknowledge::Before] {
        let Some(vhost) = vhost_or_skip("the_request_of_a_killed_server").await else {
            return;
        };
        let proxy = Proxy::start(vhost.broker().port()).await.expect("a proxy");
        let doomed = connect(&vhost.url_through(proxy.port())).await;
        let here = connect(&vhost.url()).await;
        let (first, second) = (Gate::new("doomed"), Gate::new("heir"));
        let _doomed_server = serve(&doomed, &first, when).await;
        let timeout = match when {
            Acknowledge::After => LONG,
            _ => Duration::from_secs(3),
        };
        let caller = client(&here).timeout(timeout);
        let call = tokio::spawn(async move {
            let context = ctx();
            caller.call::<_, String>(&context, "pass", no_args()).await
        });
        eventually("the first runs it", || first.entered() == 1).await;
        let heir = serve(&here, &second, when).await;
        // As the broker sees it when a process is killed: all its connections are gone, for good.
        proxy.refuse(true).await.expect("nobody connects any more");
        proxy.cut();
        second.pass.add_permits(1);
        let answer = call.await.expect("a call does not panic");
        match when {
            Acknowledge::After => {
                assert_eq!(answer.expect("an answer"), "heir");
                assert_eq!((first.entered(), second.entered()), (1, 1));
            }
            _ => {
                let error = answer.expect_err("the request died with its server");
                assert_eq!(error.kind(), ErrorKind::Timeout);
                assert_eq!((first.entered(), second.entered()), (1, 0));
            }
        }
        assert_eq!(heir.stop_within(LONG).await.aborted, 0);
        let queue = vhost.wait_for_queue(TOPIC, |queue| queue.messages == 0);
        queue.await.expect("nothing is left");
        vhost.delete().await.expect("the virtual host is deleted");
    }
}

/// Methods of a program without async.
struct Plain {
    together: Barrier,
}

#[endpoint]
impl Plain {
    /// Returns only when four are in it together.
    fn meet(&self, ctx: &Context) -> (Option<String>, Option<String>) {
        self.together.wait();
        let name = std::thread::current().name().map(str::to_owned);
        let user = current_context().and_then(|context| context.get("user")?.ok());
        assert_eq!(ctx.get("user").and_then(Result::ok), user);
        (name, user)
    }

    /// Waits for a future as a program without async does.
    fn ask(&self) -> u32 {
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(async {
            let task = tokio::spawn(in_current_context(async { current_context().is_some() }));
            u32::from(task.await.expect("it ends"))
        })
    }
}

#[tokio::test]
async fn ordinary_functions_that_block_serve_side_by_side_on_threads() {
    let Some(vhost) = vhost_or_skip("ordinary_functions_that_block").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let plain = Plain {
        together: Barrier::new(4),
    };
    let executor: Executor = "threading".parse().expect("a name of the reference");
    let server = RpcServer::builder(transport.clone(), Target::topic(TOPIC).server("threads"))
        .endpoint(plain)
        .executor(executor)
        .start()
        .await
        .expect("the server starts");
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let client = client(&transport);
        calls.spawn(async move {
            let mut context = Context::new();
            context.insert("user", &format!("u{n}")).expect("text");
            let met: (Option<String>, Option<String>) = client
                .call(&context, "meet", no_args())
                .await
                .expect("an answer");
            assert_eq!(met, (Some("oslo-handler".into()), Some(format!("u{n}"))));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("a call does not panic");
    }
    let asked: u32 = client(&transport)
        .call(&ctx(), "ask", no_args())
        .await
        .expect("an answer");
    assert_eq!(asked, 1);
    let stopped = server.stop_within(LONG).await;
    assert_eq!((stopped.aborted, stopped.requeued), (0, 0));
    transport.close().await;
    vhost.delete().await.expect("the virtual host is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_stopped_and_started_again_by_several_and_misses_nothing() {
    let Some(vhost) = vhost_or_skip("a_server_is_stopped_and_started_again").await else {
        return;
    };
    let transport = connect(&vhost.url()).await;
    let gate = Gate::new("again");
    let server = RpcServer::builder(transport.clone(), Target::topic(TOPIC).server(gate.name))
        .endpoint(Gated(Arc::clone(&gate)))
        .executor(Executor::Blocking)
        .build()
        .expect("it can be");
    let caller: RpcClient = client(&transport);
    for round in 1..=3 {
        tokio::try_join!(server.start(), server.start()).expect("the server starts");
        caller
            .cast(&ctx(), "pass", no_args())
            .await
            .expect("a cast");
        caller
            .cast(&ctx(), "pass", no_args())
            .await
            .expect("a cast");
        eventually("one runs", || gate.entered() == 3 * round - 2).await;
        eventually("the other waits here", || server.stats().waiting == 1).await;
        let (ending, ended) = (server.clone(), server.clone());
        let ended = tokio::spawn(async move { ended.wait().await });
        tokio::join!(ending.stop(), server.stop());
        assert_eq!(server.stats().running, 1);
        gate.pass.add_permits(1);
        let stopped = ended.await.expect("a wait does not panic");
        assert_eq!((stopped.aborted, stopped.requeued), (0, 1));
        // It comes when it is started the next time, and goes before the next round begins.
        server.start().await.expect("the server starts");
        eventually("the other runs", || gate.entered() == 3 * round - 1).await;
        caller
            .cast(&ctx(), "pass", no_args())
            .await
            .expect("a cast");
        gate.pass.add_permits(2);
        eventually("all ran", || {
            gate.entered() == 3 * round && server.stats().running == 0
        })
        .await;
        server.stop().await;
        assert_eq!(server.wait().await.aborted, 0);
    }
    transport.close().await;
    vhost.delete().await.expect("the virtual host is deleted");
}
