//! The callers of one level: each sends as soon as its last message is done, or when its time has come.
//!
//! With a rate, latencies count from when a message was due, not from when its caller got round to it: a bus that stands
//! still for a second makes the messages of that second late, too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use oslo_messaging::{Context, Error, ErrorKind, Notifier, RawJson, RpcClient};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::lock::lock;

use super::series::Collector;
use super::workload::{Info, Message, Workload};

/// Latencies are counted up to here; none can be longer than the message's own timeout allows.
const LONGEST: Duration = Duration::from_secs(3600);

/// Longer than any level lasts.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long a caller rests at least after a message that failed at once.
const FAILED: Duration = Duration::from_millis(10);

/// One level, ready to be played.
pub(super) struct Order {
    /// Whom callers send to, in turn; never empty.
    pub(super) senders: Arc<[Sender]>,
    pub(super) callers: u32,
    pub(super) workload: Arc<Workload>,
    /// Messages a second of all callers together; as many as they can without.
    pub(super) rate: Option<f64>,
    /// How long a caller rests after each message.
    pub(super) pause: Duration,
    /// How many each caller sends, which all count; as many as it can without.
    pub(super) messages: Option<u64>,
    pub(super) collector: Arc<Collector>,
}

/// How a message is sent, and what is waited for.
#[derive(Clone)]
pub(super) enum Sender {
    /// Waits for the answer.
    Call(RpcClient),
    /// Waits until the bus has it.
    Cast(RpcClient),
    /// Waits until the notifier says so.
    Notify(Notifier),
}

/// The event that notifications of the reference's simulator tell.
const EVENT: &str = "compute.start";

impl Sender {
    /// Sends one.
    pub(super) async fn send(&self, ctx: &Context, message: Message<&str>) -> Result<(), Error> {
        match self {
            Self::Call(client) => {
                let _: RawJson = client.call(ctx, "info", &Info { message }).await?;
                Ok(())
            }
            Self::Cast(client) => client.cast(ctx, "info", &Info { message }).await,
            Self::Notify(notifier) => notifier.info(ctx, EVENT, &message).await,
        }
    }
}

/// What the callers of a level did while it was measured.
pub(super) struct Counted {
    /// When measuring began, and how long it took.
    pub(super) began: Instant,
    pub(super) length: Duration,
    /// Operations that succeeded.
    pub(super) operations: u64,
    /// Those, and those that succeeded before and after.
    pub(super) all: u64,
    /// How long they took, where that was seen.
    pub(super) times: Histogram<u64>,
    /// Operations that failed, by the kind of their error.
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) first_fault: Option<Error>,
}

/// Callers at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    callers: JoinSet<Own>,
    began: Option<Instant>,
}

/// What the callers have in common.
struct Shared {
    order: Order,
    phase: watch::Sender<Phase>,
    /// Number of the next message.
    next: AtomicU64,
    /// How long what counts took. One for all callers: it has a quarter of a megabyte, and they may be ten thousand.
    times: Mutex<Histogram<u64>>,
    started: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warming,
    Measuring,
    Ending,
}

/// What one caller did while it was measured.
struct Own {
    all: u64,
    failed: BTreeMap<&'static str, u64>,
    first_fault: Option<Error>,
}

impl Order {
    /// Starts the callers; nothing counts yet, unless their messages are numbered.
    pub(super) fn start(self) -> Load {
        let phase = match self.messages {
            Some(_) => Phase::Measuring,
            None => Phase::Warming,
        };
        let mut callers = JoinSet::new();
        let count = self.callers as usize;
        let shared = Arc::new(Shared {
            order: self,
            phase: watch::Sender::new(phase),
            next: AtomicU64::new(0),
            times: Mutex::new(histogram()),
            started: Instant::now(),
        });
        for number in 0..count {
            callers.spawn(caller(Arc::clone(&shared), number));
        }
        Load {
            shared,
            callers,
            began: None,
        }
    }
}

impl Load {
    /// From now on it counts.
    pub(super) fn begin(&mut self) {
        self.began = Some(Instant::now());
        self.shared.phase.send_replace(Phase::Measuring);
    }

    /// Waits until each caller has sent its number of messages, no longer than `limit`, then ends the level.
    pub(super) async fn finish(mut self, limit: Duration) -> Counted {
        let mut counted = self.counted();
        let _ = tokio::time::timeout(limit, counted.join(&mut self.callers)).await;
        counted.length = counted.began.elapsed();
        self.shared.phase.send_replace(Phase::Ending);
        counted.timed(&self.shared)
    }

    /// Ends the level; what is under way may take `patience`, but counts no more.
    pub(super) async fn end(mut self, patience: Duration) -> Counted {
        self.shared.phase.send_replace(Phase::Ending);
        let mut counted = self.counted();
        counted.length = counted.began.elapsed();
        // Whoever takes longer is aborted with the set.
        let _ = tokio::time::timeout(patience, counted.join(&mut self.callers)).await;
        counted.timed(&self.shared)
    }

    fn counted(&self) -> Counted {
        Counted {
            began: self.began.unwrap_or(self.shared.started),
            length: Duration::ZERO,
            operations: 0,
            all: 0,
            times: histogram(),
            failed: BTreeMap::new(),
            first_fault: None,
        }
    }
}

impl Counted {
    /// With the times of all callers.
    fn timed(mut self, shared: &Shared) -> Self {
        self.times = std::mem::replace(&mut *lock(&shared.times), histogram());
        self.operations = self.times.len();
        self
    }

    async fn join(&mut self, callers: &mut JoinSet<Own>) {
        while let Some(ended) = callers.join_next().await {
            match ended {
                Ok(own) => {
                    self.all += own.all;
                    for (kind, count) in own.failed {
                        *self.failed.entry(kind).or_default() += count;
                    }
                    self.first_fault = self.first_fault.take().or(own.first_fault);
                }
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

async fn caller(shared: Arc<Shared>, place: usize) -> Own {
    let ctx = Context::new();
    let order = &shared.order;
    let sender = &order.senders[place % order.senders.len()];
    let mut own = Own {
        all: 0,
        failed: BTreeMap::new(),
        first_fault: None,
    };
    let mut left = order.messages.unwrap_or(u64::MAX);
    while left > 0 {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = shared.wait_for(number).await;
        if shared.phase() == Phase::Ending {
            break;
        }
        let content = order.workload.content(number);
        order.collector.sent(content.len());
        let sent = sender.send(&ctx, (number, content, now(), 0.0, 0.0)).await;
        let latency = due.elapsed();
        match sent {
            Ok(()) => order.collector.answered(content.len(), latency),
            Err(_) => order.collector.failed(content.len()),
        }
        own.all += u64::from(sent.is_ok());
        let counts = shared.phase() == Phase::Measuring;
        left -= u64::from(counts);
        let mut rest = order.pause;
        match sent {
            Ok(()) if counts => {
                let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                lock(&shared.times).saturating_record(nanos);
            }
            Ok(()) => {}
            Err(fault) => {
                if fault.kind() != ErrorKind::Timeout {
                    // What fails at once would else be tried as fast as the processor can.
                    rest = rest.max(FAILED);
                }
                *own.failed.entry(fault.kind().as_str()).or_default() += u64::from(counts);
                own.first_fault.get_or_insert(fault);
            }
        }
        if !rest.is_zero() {
            shared.rest_until(Instant::now() + rest).await;
        }
    }
    own
}

impl Shared {
    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Waits until the message of this number is due, and tells when that was.
    async fn wait_for(&self, number: u64) -> Instant {
        let Some(rate) = self.order.rate else {
            return Instant::now();
        };
        // Beyond what the clock can tell is never: whoever waits for it waits for the end of the level.
        let due = Duration::try_from_secs_f64(number as f64 / rate)
            .unwrap_or(NEVER)
            .min(NEVER);
        let due = self.started + due;
        self.rest_until(due).await;
        due
    }

    /// Waits until then, or until the level ends.
    async fn rest_until(&self, then: Instant) {
        if Instant::now() >= then {
            return;
        }
        let mut phase = self.phase.subscribe();
        tokio::select! {
            () = sleep_until(then.into()) => {}
            // The sender lives as long as we do.
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => {}
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// An empty one, for nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, longest, 3)
        .expect("the bounds are in order and three digits are allowed")
}
