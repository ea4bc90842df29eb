//! The callers of one level: each sends as soon as its last message is done, or when its time has come.
//!
//! With a rate, latencies count from when a message was due, not from when its caller got round to it: a bus that stands
//! still for a second makes the messages of that second late, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use oslo_messaging::{Context, Error, ErrorKind, RpcClient};
use tokio::task::JoinSet;

use super::series::Collector;
use super::workload::{Info, Message, What, Workload};

/// Latencies are counted up to here; none can be longer than the message's own timeout allows.
const LONGEST: Duration = Duration::from_secs(3600);

/// One level, ready to be played.
pub(super) struct Order {
    pub(super) what: What,
    pub(super) callers: u32,
    pub(super) workload: Arc<Workload>,
    /// Messages a second of all callers together; as many as they can without.
    pub(super) rate: Option<f64>,
    pub(super) collector: Arc<Collector>,
}

/// What the callers of a level did while it was measured.
pub(super) struct Counted {
    /// When measuring began, and how long it took.
    pub(super) began: Instant,
    pub(super) length: Duration,
    pub(super) times: Histogram<u64>,
    /// Operations that failed, by the kind of their error.
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) first_fault: Option<Error>,
}

impl Counted {
    /// How many succeeded.
    pub(super) fn operations(&self) -> u64 {
        self.times.len()
    }
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
    phase: AtomicU8,
    /// Number of the next message.
    next: AtomicU64,
    started: Instant,
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const ENDING: u8 = 2;

/// What one caller did while it was measured.
struct Own {
    times: Histogram<u64>,
    failed: BTreeMap<&'static str, u64>,
    first_fault: Option<Error>,
}

impl Order {
    /// Starts the callers; nothing counts yet.
    pub(super) fn start(self, client: &RpcClient) -> Load {
        let client = match self.what {
            What::Fanout => client.prepare().fanout(true),
            What::Call | What::Cast => client.clone(),
        };
        let mut callers = JoinSet::new();
        let count = self.callers;
        let shared = Arc::new(Shared {
            order: self,
            phase: AtomicU8::new(WARMING),
            next: AtomicU64::new(0),
            started: Instant::now(),
        });
        for _ in 0..count {
            callers.spawn(caller(Arc::clone(&shared), client.clone()));
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
        self.shared.phase.store(MEASURING, Ordering::Release);
    }

    /// Ends the level; what is under way may take `patience`, but counts no more.
    pub(super) async fn end(mut self, patience: Duration) -> Counted {
        self.shared.phase.store(ENDING, Ordering::Release);
        let began = self.began.unwrap_or(self.shared.started);
        let mut counted = Counted {
            began,
            length: began.elapsed(),
            times: histogram(),
            failed: BTreeMap::new(),
            first_fault: None,
        };
        let all = async {
            while let Some(ended) = self.callers.join_next().await {
                match ended {
                    Ok(own) => {
                        counted.times += own.times;
                        for (kind, count) in own.failed {
                            *counted.failed.entry(kind).or_default() += count;
                        }
                        counted.first_fault = counted.first_fault.take().or(own.first_fault);
                    }
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
        };
        // Whoever takes longer is aborted with the set.
        let _ = tokio::time::timeout(patience, all).await;
        counted
    }
}

async fn caller(shared: Arc<Shared>, client: RpcClient) -> Own {
    let ctx = Context::new();
    let mut own = Own {
        times: histogram(),
        failed: BTreeMap::new(),
        first_fault: None,
    };
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let due = shared.wait_for(number).await;
        if shared.phase.load(Ordering::Acquire) == ENDING {
            return own;
        }
        let content = shared.order.workload.content(number);
        shared.order.collector.sent(content.len());
        let sent = shared
            .order
            .send(&client, &ctx, (number, content, now(), 0.0, 0.0))
            .await;
        let latency = due.elapsed();
        match sent {
            Ok(()) => shared.order.collector.answered(content.len(), latency),
            Err(_) => shared.order.collector.failed(content.len()),
        }
        let counts = shared.phase.load(Ordering::Acquire) == MEASURING;
        match sent {
            Ok(()) if counts => {
                let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                own.times.saturating_record(nanos);
            }
            Ok(()) => {}
            Err(fault) => {
                let pause = fault.kind() != ErrorKind::Timeout;
                *own.failed.entry(fault.kind().as_str()).or_default() += u64::from(counts);
                own.first_fault.get_or_insert(fault);
                if pause {
                    // What fails at once would else be tried as fast as the processor can.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

impl Shared {
    /// Waits until the message of this number is due, and tells when that was.
    async fn wait_for(&self, number: u64) -> Instant {
        let Some(rate) = self.order.rate else {
            return Instant::now();
        };
        let due = self.started + Duration::from_secs_f64(number as f64 / rate);
        while Instant::now() < due && self.phase.load(Ordering::Acquire) != ENDING {
            // Looks up now and then whether the level has ended.
            let look = Instant::now() + Duration::from_millis(50);
            tokio::time::sleep_until(due.min(look).into()).await;
        }
        due
    }
}

impl Order {
    async fn send(
        &self,
        client: &RpcClient,
        ctx: &Context,
        message: Message<&str>,
    ) -> Result<(), Error> {
        let info = Info { message };
        match self.what {
            What::Call => {
                let _: oslo_messaging::RawJson = client.call(ctx, "info", &info).await?;
                Ok(())
            }
            What::Cast | What::Fanout => client.cast(ctx, "info", &info).await,
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

fn histogram() -> Histogram<u64> {
    let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, longest, 3)
        .expect("the bounds are in order and three digits are allowed")
}
