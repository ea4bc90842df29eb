//! A round trip on the memory bus: encode, route, dispatch, run, reply, decode.
//!
//! `cargo bench -p oslo-messaging --bench memory`. One thread runs caller and server. What is measured
//! is that thread's processor time where the system tells it (Linux), so that a busy machine does not
//! count; elsewhere the time on the clock.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use oslo_messaging::driver::{
    Delivery, Destination, Driver, Inbox, ListenerEvent, Outgoing, Prefetch, Subscription,
};
use oslo_messaging::memory::{MemoryBroker, MemoryDriver};
use oslo_messaging::{Context, RpcClient, RpcServer, Target, endpoint};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

struct Echo;

#[endpoint]
impl Echo {
    fn echo(&self, text: String) -> String {
        text
    }
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

const TEXT: &str = "one hundred bytes of text are about what a short request carries, and so that is what is sent he";

async fn client(name: &str) -> (RpcServer, RpcClient) {
    let transport = oslo_messaging::connect(format!("memory://{name}"))
        .await
        .expect("the URL is right");
    let target = Target::topic("bench").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Echo)
        .start()
        .await;
    (
        server.expect("memory lets us serve"),
        RpcClient::new(transport, Target::topic("bench")),
    )
}

async fn call(client: &RpcClient, context: &Context) {
    let answer: String = client
        .call(context, "echo", Text { text: TEXT })
        .await
        .expect("the server answers");
    assert_eq!(answer.len(), TEXT.len());
}

/// `calls` calls by `callers` at once.
async fn load(client: &RpcClient, callers: u64, calls: u64) {
    let each = calls.div_ceil(callers);
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                let context = Context::new();
                for _ in 0..each {
                    call(&client, &context).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
}

/// Processor time of this thread, or time on the clock.
struct Clock {
    processor: Option<Duration>,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            processor: processor_time(),
            started: Instant::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        match (self.processor, processor_time()) {
            // The system may not have counted a short run yet, and Criterion takes no zero.
            (Some(before), Some(now)) => now.saturating_sub(before).max(Duration::from_nanos(1)),
            _ => self.started.elapsed(),
        }
    }
}

/// The first number of the thread's `schedstat`: nanoseconds on a processor.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(5))
        .sampling_mode(SamplingMode::Flat);
    for callers in [1, 16] {
        let runtime = runtime();
        let (_server, client) = runtime.block_on(client(&format!("bench-{callers}")));
        group.bench_function(format!("call, {callers} at once"), |bencher| {
            bencher.iter_custom(|calls| {
                let clock = Clock::start();
                runtime.block_on(load(&client, callers, calls));
                clock.elapsed()
            });
        });
        runtime.block_on(async { drop(_server) });
    }
    group.finish();
}

/// Answers each message at the reply queue, in place.
struct Answering {
    driver: Arc<MemoryDriver>,
    reply_queue: String,
}

impl Inbox for Answering {
    fn deliver(&self, delivery: Delivery) {
        let body = delivery.body().clone();
        delivery.ack();
        let queue = &self.reply_queue;
        send(&self.driver, Destination::Reply { queue }, body);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

/// Counts what arrives.
#[derive(Default)]
struct Counting(AtomicU64);

impl Inbox for Counting {
    fn deliver(&self, delivery: Delivery) {
        delivery.ack();
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn handle_event(&self, _: ListenerEvent) {}
}

/// Sends at once, as memory does.
fn send(driver: &MemoryDriver, destination: Destination<'_>, body: Bytes) {
    now(driver.send(Outgoing::new(destination, body))).expect("memory takes a message");
}

/// The value of a future that does not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the memory driver never waits"),
    }
}

/// The bus alone: a message to a topic and its answer, without envelopes, clients and tasks.
fn bus(criterion: &mut Criterion) {
    let driver = Arc::new(MemoryDriver::new(MemoryBroker::new()));
    let replies = Arc::new(Counting::default());
    let listening =
        now(driver.listen(Subscription::Replies, replies.clone())).expect("memory lets us listen");
    let answering = Arc::new(Answering {
        driver: driver.clone(),
        reply_queue: listening
            .address()
            .expect("reply queues have names")
            .to_owned(),
    });
    let what = Subscription::Rpc {
        exchange: None,
        topic: "bench".to_owned(),
        server: "one".to_owned(),
        prefetch: Prefetch::Unlimited,
    };
    let _serving = now(driver.listen(what, answering)).expect("memory lets us listen");
    let body = Bytes::from_static(TEXT.as_bytes());
    let to = Destination::Topic {
        exchange: None,
        topic: "bench",
    };
    let mut group = criterion.benchmark_group("memory");
    group.bench_function("message and answer, the bus alone", |bencher| {
        bencher.iter_custom(|messages| {
            let before = replies.0.load(Ordering::Relaxed);
            let clock = Clock::start();
            for _ in 0..messages {
                send(&driver, to, body.clone());
            }
            let spent = clock.elapsed();
            assert_eq!(replies.0.load(Ordering::Relaxed) - before, messages);
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, round_trip, bus);
criterion_main!(benches);
