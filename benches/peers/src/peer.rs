//! A Rust peer's process: what is common to all of them, between the orchestrator's orders and a client library.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::load::{Callers, Operation, Outcome};
use crate::protocol::{Answer, Command, Done, Part, URL_VARIABLE, What};
use crate::usage::{HeapMeter, Usage};

mod amqprs;
mod envelope;
mod lapin;
mod memory;
mod ours;

/// How long a process may take to end once nobody orders any more.
const ENDING: Duration = Duration::from_secs(8);
/// How often a count is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How long a piece of work without a limit of its own may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a client can do.
trait Client: Clone + Send + Sync + 'static {
    /// Sends one message, and waits for what makes it done.
    fn send(&self, what: What, value: &str) -> impl Future<Output = Outcome> + Send;

    /// Waits until all that was only taken is confirmed.
    fn settle(&self) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// A further client on connections of its own.
    fn another(&self) -> impl Future<Output = Result<Self, String>> + Send;

    /// A call that the server answers when it is told to.
    fn hold(&self, _value: Arc<str>) -> impl Future<Output = Outcome> + Send {
        async { Err("this peer does not play calls in flight".to_owned()) }
    }
}

/// Messages that a server or listener has taken.
#[derive(Debug, Default)]
struct Taken {
    count: AtomicU64,
    first: OnceLock<Instant>,
}

impl Taken {
    fn one(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.get_or_init(Instant::now);
        }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there are so many.
    async fn reach(&self, count: u64, limit: f64) {
        let deadline = Instant::now() + Duration::from_secs_f64(limit);
        while self.count() < count && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Orders in, answers out.
struct Desk {
    orders: mpsc::Receiver<String>,
    url: String,
    port: u16,
    heap: Option<HeapMeter>,
}

impl Desk {
    fn open(heap: Option<HeapMeter>) -> Result<Self, String> {
        let url = std::env::var(URL_VARIABLE).map_err(|_| format!("{URL_VARIABLE} is not set"))?;
        let port = url
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| format!("{URL_VARIABLE} names no port"))?;
        let (sender, orders) = mpsc::channel(4);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                if sender.blocking_send(line).is_err() {
                    break;
                }
            }
            drop(sender);
            // Whatever hangs then ends with this.
            std::thread::sleep(ENDING);
            std::process::exit(3);
        });
        Ok(Self {
            orders,
            url,
            port,
            heap,
        })
    }

    /// The next order; none when the orchestrator has no more.
    async fn next(&mut self) -> Option<Command> {
        let line = self.orders.recv().await?;
        match serde_json::from_str(&line) {
            Ok(command) => Some(command),
            Err(fault) => {
                say(&Answer::Failed {
                    why: format!("an order cannot be read: {fault}"),
                });
                None
            }
        }
    }

    fn usage(&self, served: u64) -> Usage {
        Usage::now(self.port, served, self.heap)
    }

    /// `amqp://` for the clients that know nothing of oslo.messaging.
    fn amqp_url(&self) -> String {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        format!("amqp://{}/%2f", rest.trim_end_matches('/'))
    }
}

fn say(answer: &Answer) {
    let text = serde_json::to_string(answer).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    // Whoever does not listen any more has ended us, too.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Plays one peer until its orders end: `NAME ROLE PART`.
pub(crate) fn main(words: Vec<String>, heap: Option<HeapMeter>) -> ExitCode {
    let [name, role, part] = words.as_slice() else {
        eprintln!("usage: bench-peers peer NAME ROLE PART");
        return ExitCode::from(2);
    };
    let mut builder = if name == "ours-1" {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => {
            eprintln!("no runtime: {fault}");
            return ExitCode::FAILURE;
        }
    };
    let played = serde_json::from_str::<Part>(part)
        .map_err(|fault| fault.to_string())
        .and_then(|part| {
            let desk = Desk::open(heap)?;
            runtime.block_on(play(name, role, part, desk))
        });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&Answer::Failed { why: why.clone() });
            eprintln!("{name} {role}: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn play(name: &str, role: &str, part: Part, desk: Desk) -> Result<(), String> {
    match (name, role) {
        ("ours" | "ours-1", "server") => ours::serve(desk, &part).await,
        ("ours" | "ours-1", "client") => {
            let client =
                ours::Caller::connect(&ours::with_query(&desk.url, &part), &part.topic).await?;
            drive(desk, client).await
        }
        ("ours" | "ours-1", "listener") => ours::listen(desk, &part).await,
        ("ours" | "ours-1", "memory") => memory::play(desk).await,
        ("lapin", "server") => lapin::serve(desk, &part).await,
        ("lapin", "client") => {
            let client = lapin::Caller::connect(&desk.amqp_url(), &part.topic).await?;
            drive(desk, client).await
        }
        ("lapin", "listener") => lapin::listen(desk, &part).await,
        ("amqprs", "server") => amqprs::serve(desk, &part).await,
        ("amqprs", "client") => {
            let client = amqprs::Caller::connect(desk.port, &part.topic).await?;
            drive(desk, client).await
        }
        ("amqprs", "listener") => amqprs::listen(desk, &part).await,
        _ => Err(format!("no peer {name} plays {role}")),
    }
}

/// A server's part: it serves by itself, and only tells how far it is.
async fn tell(mut desk: Desk, taken: Arc<Taken>, release: impl Fn()) {
    say(&Answer::Ready);
    while let Some(command) = desk.next().await {
        match command {
            Command::Usage => {}
            Command::Await { count, limit } => taken.reach(count, limit).await,
            Command::Release => release(),
            other => {
                say(&Answer::Failed {
                    why: format!("no server does {other:?}"),
                });
                continue;
            }
        }
        say(&Answer::Usage(desk.usage(taken.count())));
    }
}

/// A listener's part: consumes when told, until it has so many.
async fn drain<L, F>(
    mut desk: Desk,
    taken: Arc<Taken>,
    start: impl Fn(Arc<Taken>) -> F,
) -> Result<(), String>
where
    F: Future<Output = Result<L, String>>,
{
    say(&Answer::Ready);
    let mut listening = Vec::new();
    while let Some(command) = desk.next().await {
        match command {
            Command::Usage => say(&Answer::Usage(desk.usage(taken.count()))),
            Command::Drain { count, limit } => {
                let before = desk.usage(taken.count());
                listening.push(start(Arc::clone(&taken)).await?);
                taken.reach(count, limit).await;
                let first = taken.first.get().copied().unwrap_or_else(Instant::now);
                let done = Done {
                    operations: taken.count(),
                    seconds: first.elapsed().as_secs_f64(),
                    used: desk.usage(taken.count()).since(before),
                    ..Done::default()
                };
                say(&Answer::Done(done));
            }
            other => say(&Answer::Failed {
                why: format!("no listener does {other:?}"),
            }),
        }
    }
    Ok(())
}

/// A client's part.
async fn drive<C: Client>(mut desk: Desk, client: C) -> Result<(), String> {
    say(&Answer::Ready);
    let mut others = Vec::new();
    while let Some(command) = desk.next().await {
        let answer = match command {
            Command::Usage => Ok(Answer::Usage(desk.usage(0))),
            Command::Load {
                what,
                callers,
                bytes,
                warm,
                seconds,
            } => {
                let mut load = Callers::start(callers, None, sender(&client, what, bytes));
                tokio::time::sleep(Duration::from_secs_f64(warm)).await;
                say(&Answer::Began);
                let before = desk.usage(0);
                load.begin();
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                let used = desk.usage(0).since(before);
                Ok(Answer::Done(Done {
                    used,
                    ..load.end().await
                }))
            }
            Command::Burst {
                what,
                callers,
                bytes,
                count,
            } => {
                let before = desk.usage(0);
                let mut load = Callers::start(callers, Some(count), sender(&client, what, bytes));
                load.begin();
                let began = Instant::now();
                let mut done = load.all(LIMIT).await;
                let settled = client.settle().await;
                done.seconds = began.elapsed().as_secs_f64();
                done.used = desk.usage(0).since(before);
                settled.map(|()| Answer::Done(done))
            }
            Command::More { transports } => further(&client, transports, &mut others)
                .await
                .map(|()| Answer::Usage(desk.usage(0))),
            Command::Hold { count, bytes } => {
                hold(&desk, &client, count, bytes).await.map(Answer::Done)
            }
            other => Err(format!("no client does {other:?}")),
        };
        say(&answer.unwrap_or_else(|why| Answer::Failed { why }));
    }
    Ok(())
}

/// One operation of a client, as its callers repeat it.
#[derive(Clone)]
struct Sending<C> {
    client: C,
    what: What,
    value: Arc<str>,
}

impl<C: Client> Operation for Sending<C> {
    fn once(&self) -> impl Future<Output = Outcome> + Send {
        self.client.send(self.what, &self.value)
    }
}

fn sender<C: Client>(client: &C, what: What, bytes: usize) -> Sending<C> {
    Sending {
        client: client.clone(),
        what,
        value: text(bytes),
    }
}

fn text(bytes: usize) -> Arc<str> {
    "x".repeat(bytes).into()
}

/// Opens further clients, and has each of them used as the first was: 4 callers, 50 calls each.
async fn further<C: Client>(client: &C, count: u32, kept: &mut Vec<C>) -> Result<(), String> {
    for _ in 0..count {
        let other = client.another().await?;
        let mut load = Callers::start(4, Some(200), sender(&other, What::Call, 100));
        load.begin();
        let done = load.all(LIMIT).await;
        if let Some(fault) = done.fault {
            return Err(fault);
        }
        kept.push(other);
    }
    Ok(())
}

/// Has many calls under way, until all are answered.
async fn hold<C: Client>(
    desk: &Desk,
    client: &C,
    count: u64,
    bytes: usize,
) -> Result<Done, String> {
    let mut calls = tokio::task::JoinSet::new();
    // One client for all, since it is the memory of calls that is measured.
    let client = Arc::new(client.clone());
    let before = desk.usage(0);
    let began = Instant::now();
    for _ in 0..count {
        let (client, value) = (Arc::clone(&client), text(bytes));
        calls.spawn(async move { client.hold(value).await });
    }
    let mut done = Done::default();
    let all = async {
        while let Some(ended) = calls.join_next().await {
            match ended {
                Ok(Ok(())) => done.operations += 1,
                Ok(Err(fault)) => {
                    done.failed += 1;
                    done.fault.get_or_insert(fault);
                }
                Err(_) => done.failed += 1,
            }
        }
    };
    let _ = tokio::time::timeout(LIMIT, all).await;
    done.seconds = began.elapsed().as_secs_f64();
    done.used = desk.usage(0).since(before);
    Ok(done)
}
