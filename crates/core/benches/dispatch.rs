//! What a server costs alone: from a delivery to the method that runs, and on to the reply that is handed to the driver.
//!
//! `cargo bench -p oslo-messaging-core --bench dispatch`. Requests are written beforehand and come over the bus in
//! memory; nobody reads the replies. One of eight endpoints is asked last, so that the search counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oslo_messaging_core::context::Context;
use oslo_messaging_core::driver::{
    BoxFuture, Delivery, Destination, Driver, Inbox, ListenerEvent, Outgoing, Subscription,
};
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging_core::rpc::{
    Endpoint, Interface, Invocation, MethodInfo, ReplyBody, RpcServer, RpcServerBuilder,
};
use oslo_messaging_core::target::Target;
use oslo_messaging_core::transport::{Transport, TransportOptions};
use oslo_messaging_proto::{CallHead, MsgId, RequestHead, UniqueId, encode_request};
use tokio::runtime::Builder;

/// So many requests are written at a time.
const BATCH: u64 = 1024;

/// One method, and how often it ran.
struct One {
    method: &'static str,
    ran: Arc<AtomicU64>,
}

impl Endpoint for One {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        (name == self.method).then(MethodInfo::new)
    }

    fn call<'a>(
        &'a self,
        _: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            self.ran.fetch_add(1, Ordering::Relaxed);
            call.respond(&true)
        })
    }
}

/// Counts replies.
#[derive(Default)]
struct Counting(AtomicU64);

impl Inbox for Counting {
    fn deliver(&self, delivery: Delivery) {
        delivery.ack();
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

fn request(number: u128, method: &str, reply_q: Option<&str>) -> Bytes {
    // As far from each other as ids drawn at random.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let call = reply_q.map(|reply_q| CallHead {
        msg_id: MsgId::from_random(spread),
        reply_q,
        monitor: None,
        deadline: None,
        cancellable: false,
    });
    let head = RequestHead {
        method,
        namespace: None,
        version: None,
        call,
        unique_id: UniqueId::from_random(!spread),
    };
    encode_request(&head, &(), &Context::new()).expect("nothing has a JSON form")
}

fn server(transport: Transport, ran: &Arc<AtomicU64>) -> RpcServerBuilder {
    const METHODS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "last"];
    let builder = RpcServer::builder(transport, Target::topic("t").server("s"));
    METHODS.into_iter().fold(builder, |builder, method| {
        let ran = Arc::clone(ran);
        builder.endpoint(One { method, ran })
    })
}

fn dispatch(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
    let transport = Transport::new(
        Arc::clone(&driver) as Arc<dyn Driver>,
        TransportOptions::default(),
    );
    let (ran, replies) = (Arc::default(), Arc::new(Counting::default()));
    let running = runtime.block_on(server(transport, &ran).start());
    let running = running.expect("the memory driver takes every subscription");
    let inbox = Arc::clone(&replies) as Arc<dyn Inbox>;
    let listener = runtime.block_on(driver.listen(Subscription::Replies, inbox));
    let listener = listener.expect("the memory driver takes every subscription");
    let queue = listener.address().expect("reply queues have names");

    let mut group = criterion.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    for (name, method, reply_q) in [
        ("a cast", "last", None),
        ("a call", "last", Some(queue)),
        ("a call of a method that nobody has", "lost", Some(queue)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|requests| {
                let (mut spent, mut left) = (std::time::Duration::ZERO, requests);
                while left > 0 {
                    let batch = left.min(BATCH);
                    let bodies: Vec<Bytes> = (0..batch)
                        .map(|_| {
                            number += 1;
                            request(number, method, reply_q)
                        })
                        .collect();
                    let of = || match reply_q {
                        Some(_) => replies.0.load(Ordering::Relaxed),
                        None => ran.load(Ordering::Relaxed),
                    };
                    let until = of() + batch;
                    let started = Instant::now();
                    runtime.block_on(async {
                        for body in bodies {
                            let to = Destination::Topic {
                                exchange: None,
                                topic: "t",
                            };
                            let sent = driver.send(Outgoing::new(to, body)).await;
                            sent.expect("memory takes a message");
                        }
                        while of() < until {
                            tokio::task::yield_now().await;
                        }
                    });
                    spent += started.elapsed();
                    left -= batch;
                }
                spent
            });
        });
    }
    group.finish();
    runtime.block_on(running.stop());
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
