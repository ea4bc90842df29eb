//! Two Rust peers, calls between them at a fixed rate, and what must hold for those calls afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging::{Error, RpcClient, RpcServer, Target, Transport, endpoint};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::common::{LONG, TOPIC, args, connect, ctx};
use crate::{CALL_TIMEOUT, RATE};

/// How often each request ran.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<HashMap<u64, u32>>>);

pub(crate) struct Worker(Runs);

#[endpoint]
impl Worker {
    async fn run(&self, n: u64) -> u64 {
        *self.0.0.lock().expect("no panic").entry(n).or_default() += 1;
        n
    }
}

/// A Rust server and a Rust client on transports of their own.
pub(crate) struct Pair {
    pub(crate) server_transport: Transport,
    pub(crate) client_transport: Transport,
    pub(crate) server: RpcServer,
    pub(crate) runs: Runs,
}

impl Pair {
    pub(crate) async fn start(server_url: &str, client_url: &str) -> Self {
        let (server_transport, client_transport) =
            (connect(server_url).await, connect(client_url).await);
        let runs = Runs::default();
        let target = Target::topic(TOPIC).server("rust-1");
        let builder =
            RpcServer::builder(server_transport.clone(), target).endpoint(Worker(runs.clone()));
        let server = builder.start().await.expect("the server starts");
        Self {
            server_transport,
            client_transport,
            server,
            runs,
        }
    }

    pub(crate) fn load(&self) -> Load {
        Load::start(
            RpcClient::new(self.client_transport.clone(), Target::topic(TOPIC))
                .timeout(CALL_TIMEOUT),
        )
    }

    pub(crate) async fn end(self) {
        assert_eq!(self.client_transport.calls_in_flight(), 0);
        let stopped = self.server.stop_within(LONG).await;
        assert_eq!(
            (stopped.aborted, stopped.replies_dropped),
            (0, 0),
            "{stopped:?}"
        );
        self.client_transport.close().await;
        self.server_transport.close().await;
    }
}

/// One call of the load.
pub(crate) struct Done {
    pub(crate) n: u64,
    pub(crate) started: Instant,
    pub(crate) ended: Instant,
    pub(crate) result: Result<u64, Error>,
}

impl Done {
    pub(crate) fn about(&self, all: &[Self]) -> String {
        let first = all
            .iter()
            .map(|call| call.started)
            .min()
            .unwrap_or(self.started);
        let (started, took) = (self.started - first, self.ended - self.started);
        format!(
            "call {} made at {started:.2?}, ended after {took:.2?}",
            self.n
        )
    }
}

/// Calls at a fixed rate, whether answered or not.
pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Done>>,
    answered: watch::Receiver<u64>,
}

impl Load {
    pub(crate) fn start(client: RpcClient) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let (count, answered) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            let mut done = Vec::new();
            let mut ticks = interval(Duration::from_secs(1) / u32::try_from(RATE).expect("small"));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in 0.. {
                tokio::select! {
                    _ = &mut stopped => break,
                    _ = ticks.tick() => {}
                }
                let (client, count) = (client.clone(), count.clone());
                calls.spawn(async move {
                    let started = Instant::now();
                    let result = client.call(&ctx(), "run", args(&[("n", n)])).await;
                    if result.is_ok() {
                        count.send_modify(|count| *count += 1);
                    }
                    Done {
                        n,
                        started,
                        ended: Instant::now(),
                        result,
                    }
                });
                while let Some(ended) = calls.try_join_next() {
                    done.push(ended.expect("no panic"));
                }
            }
            done.extend(calls.join_all().await);
            done
        });
        Self {
            stop,
            task,
            answered,
        }
    }

    /// Waits until `more` further calls have been answered.
    pub(crate) async fn wait_for_answers(&self, more: u64) {
        let mut answered = self.answered.clone();
        let wanted = *answered.borrow() + more;
        // Those under way while the broker is away may take all of their time.
        let enough = timeout(
            CALL_TIMEOUT + LONG,
            answered.wait_for(|count| *count >= wanted),
        )
        .await
        .is_ok();
        assert!(
            enough,
            "{} of {wanted} calls were answered",
            *self.answered.borrow()
        );
    }

    /// Starts no more calls, and waits for the end of those under way.
    pub(crate) async fn end(self) -> Vec<Done> {
        let _ = self.stop.send(());
        self.task.await.expect("no panic")
    }
}

/// Every call was answered with what it asked for, and ran once. A call whose time was over before the broker could
/// have answered it is excused from the answer; says how many there were.
pub(crate) fn check(what: &str, done: &[Done], runs: &Runs, answerable: Option<Instant>) -> usize {
    let runs = runs.0.lock().expect("no panic");
    let is_answered = |call: &&Done| matches!(&call.result, Ok(n) if *n == call.n);
    let is_excused = |call: &&Done| {
        let no_time = |when| call.started + CALL_TIMEOUT <= when;
        call.result.is_err() && answerable.is_some_and(no_time)
    };
    let excused = done.iter().filter(is_excused).count();
    let lost: Vec<&Done> = done
        .iter()
        .filter(|call| !is_answered(call) && !is_excused(call))
        .collect();
    let twice: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).collect();
    for call in lost.iter().step_by(lost.len().div_ceil(20).max(1)) {
        let ran = runs.get(&call.n).copied().unwrap_or_default();
        eprintln!(
            "{what}: {} ran {ran} times: {:?}",
            call.about(done),
            call.result
        );
    }
    assert!(
        lost.is_empty() && twice.is_empty(),
        "{what}: of {} calls {} were lost ({} of them never ran, {excused} excused), {} ran twice",
        done.len(),
        lost.len(),
        lost.iter()
            .filter(|call| !runs.contains_key(&call.n))
            .count(),
        twice.len(),
    );
    excused
}

/// Some of the calls that took longer than `limit`, for a test that wants none.
pub(crate) fn slow(done: &[Done], limit: Duration) -> Vec<String> {
    let slow = done.iter().filter(|call| call.ended - call.started > limit);
    let all: Vec<String> = slow.map(|call| call.about(done)).collect();
    let step = all.len().div_ceil(20).max(1);
    all.into_iter().step_by(step).collect()
}

/// The longest that any call took.
pub(crate) fn slowest(done: &[Done]) -> Duration {
    done.iter()
        .map(|call| call.ended - call.started)
        .max()
        .unwrap_or_default()
}

/// From `when` to the first answer, to whatever call.
pub(crate) fn first_answer_after(done: &[Done], when: Instant) -> Duration {
    let answered = done
        .iter()
        .filter(|call| call.result.is_ok() && call.ended >= when);
    answered
        .map(|call| call.ended - when)
        .min()
        .expect("a call was answered")
}

/// From `when` to the first answer to a call that was made later.
pub(crate) fn first_new_answer_after(done: &[Done], when: Instant) -> Duration {
    let answered = done
        .iter()
        .filter(|call| call.result.is_ok() && call.started >= when);
    answered
        .map(|call| call.ended - when)
        .min()
        .expect("a call was answered")
}
