//! The client of the traffic: calls, casts and fanouts at steady rates, whatever becomes of those before.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oslo_messaging::{Context, Error, RpcClient, Target};
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::journal::{Journal, OK, Verb, now};
use crate::peer::{CASTS, TOPIC, count_tasks, end_of_input};

/// Operations under way at once; the same bound as the threads of the Python client.
const AT_ONCE: usize = 2048;
/// How much longer than its timeout an operation is waited for at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Texts kept of each kind of error.
const TEXTS: u32 = 3;
const START_LIMIT: Duration = Duration::from_secs(60);

/// What a client is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Transport URL.
    url: String,
    /// Its journal.
    journal: PathBuf,
    /// Calls a second.
    calls: f64,
    /// Casts a second.
    casts: f64,
    /// Fanouts a second.
    fanouts: f64,
    /// Timeout of each in seconds.
    timeout: f64,
}

#[derive(Serialize)]
struct Work {
    id: u64,
}

#[derive(Serialize)]
struct Hear {
    number: u64,
}

struct Traffic {
    client: RpcClient,
    journal: Journal,
    places: Semaphore,
    /// What is under way: when it began.
    open: Mutex<BTreeMap<(u8, u64), u64>>,
    emptied: Notify,
    texts: Mutex<HashMap<String, u32>>,
    next: [AtomicU64; 3],
}

/// Sends until standard input ends, then waits for what is under way. Says `ready` after the first call.
///
/// # Errors
///
/// When no call succeeded in the beginning.
pub(crate) async fn load(args: Load) -> Result<(), Box<dyn std::error::Error>> {
    let transport = oslo_messaging::connect(&args.url).await?;
    let patience = Duration::from_secs_f64(args.timeout);
    let client = RpcClient::new(transport.clone(), Target::topic(TOPIC)).timeout(patience);
    let first = client.prepare().timeout(START_LIMIT);
    let _: u64 = first
        .call(&Context::new(), "work", Work { id: CASTS - 1 })
        .await?;
    let traffic = Arc::new(Traffic {
        client,
        journal: Journal::open(&args.journal)?,
        places: Semaphore::new(AT_ONCE),
        open: Mutex::default(),
        emptied: Notify::new(),
        texts: Mutex::default(),
        next: [AtomicU64::new(1), AtomicU64::new(CASTS), AtomicU64::new(1)],
    });
    println!("ready");
    let counted = Arc::new(Journal::open(&args.journal)?);
    tokio::select! {
        () = traffic.pace(Verb::Call, args.calls) => {}
        () = traffic.pace(Verb::Cast, args.casts) => {}
        () = traffic.pace(Verb::Fanout, args.fanouts) => {}
        () = count_tasks(counted) => {}
        () = end_of_input() => {}
    }
    // What is still open after this is told as hung.
    let _ = timeout(patience + GRACE, traffic.drained()).await;
    traffic.tell_hung();
    let _ = timeout(GRACE, transport.close()).await;
    Ok(())
}

impl Traffic {
    /// Starts `rate` operations a second, for ever. One that the machine was too late for is made up for.
    async fn pace(self: &Arc<Self>, verb: Verb, rate: f64) {
        if rate <= 0.0 {
            return std::future::pending().await;
        }
        let mut tick = interval(Duration::from_secs_f64(1.0 / rate));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tick.tick().await;
            let id = self.next[verb as usize].fetch_add(1, Ordering::Relaxed);
            // Ends by itself, within the timeout of its operation; counted in `open` when the traffic ends.
            tokio::spawn(Arc::clone(self).send(verb, id));
        }
    }

    async fn send(self: Arc<Self>, verb: Verb, id: u64) {
        let Ok(_place) = self.places.acquire().await else {
            return;
        };
        let started = now();
        self.lock_open().insert((verb as u8, id), started);
        let ctx = Context::new();
        let outcome = match verb {
            Verb::Call => self
                .client
                .call(&ctx, "work", Work { id })
                .await
                .map(|_: u64| ()),
            Verb::Cast => self.client.cast(&ctx, "note", Work { id }).await,
            Verb::Fanout => {
                let fanout = self.client.prepare().fanout(true);
                fanout.cast(&ctx, "hear", Hear { number: id }).await
            }
        };
        let ended = now();
        let kind = outcome.map_or_else(|error| self.explain(&error), |()| OK.to_owned());
        self.tell(verb, id, started, ended, &kind);
        let mut open = self.lock_open();
        open.remove(&(verb as u8, id));
        if open.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// The kind of an error as one word; the first texts of each kind go to the journal.
    fn explain(&self, error: &Error) -> String {
        let kind = format!("{:?}", error.kind());
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let told = texts.entry(kind.clone()).or_default();
        *told += 1;
        if *told <= TEXTS {
            let text = error.to_string().replace('\n', " ");
            self.journal.line(&format!("error {kind} {text}"));
        }
        kind
    }

    fn tell(&self, verb: Verb, id: u64, start: u64, end: u64, outcome: &str) {
        let word = match verb {
            Verb::Call => "call",
            Verb::Cast => "cast",
            Verb::Fanout => "fanout",
        };
        self.journal
            .line(&format!("{word} {id} {start} {end} {outcome}"));
    }

    async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock_open().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn tell_hung(&self) {
        let hung = std::mem::take(&mut *self.lock_open());
        for ((verb, id), started) in hung {
            let verb = [Verb::Call, Verb::Cast, Verb::Fanout][usize::from(verb)];
            self.tell(verb, id, started, now(), "Hung");
        }
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, BTreeMap<(u8, u64), u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
