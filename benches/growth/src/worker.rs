//! One side of a measurement, as a process of its own: reads an order a line, answers each with what it did and has used.
//!
//! A worker holds transports, and servers or callers on them. It ends when its standard input does.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oslo_messaging::{Context, RpcClient, RpcServer, Target, Transport, endpoint};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::usage::Usage;

/// The topic of everything measured but what agents call.
pub(crate) const TOPIC: &str = "growth";
/// Bytes of a small argument.
pub(crate) const SMALL: usize = 100;
/// A call that waits longer has failed.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that a server works on at once.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");
/// How often a worker looks whether what it waits for has happened.
const LOOK: Duration = Duration::from_millis(2);

/// What a worker is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To make transports; they connect when they are first used.
    Connect {
        /// Where to.
        url: String,
        /// How many.
        transports: u64,
    },
    /// To start servers, spread over the transports.
    Serve {
        /// Their topic.
        topic: String,
        /// How many.
        servers: u64,
    },
    /// To send, each caller one after the other, in turn over the transports.
    Load(Load),
    /// To begin calls of a method that does not return before [`Order::Release`]; answered when all are in flight.
    Hold {
        /// How many.
        calls: u64,
    },
    /// To let held methods return (a server), to wait for the calls held (a client).
    Release,
    /// To wait until so many messages were taken since the worker began.
    Await {
        /// How many.
        served: u64,
    },
    /// To do nothing for a while.
    Rest {
        /// How long.
        milliseconds: u64,
    },
    /// To say what was used.
    Report,
}

/// Traffic of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) topic: String,
    /// What is sent.
    pub(crate) verb: Verb,
    /// Callers at once.
    pub(crate) callers: u64,
    /// Messages of all callers together.
    pub(crate) operations: u64,
    /// Bytes of the argument.
    pub(crate) size: usize,
    /// Messages a second of all callers together; as many as they can without.
    pub(crate) rate: Option<f64>,
}

impl Load {
    /// Of small messages of the topic [`TOPIC`], as fast as they can.
    pub(crate) fn new(verb: Verb, callers: u64, operations: u64) -> Self {
        Self {
            topic: TOPIC.to_owned(),
            verb,
            callers,
            operations,
            size: SMALL,
            rate: None,
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verb {
    /// Calls to any server of the topic.
    Call,
    /// Calls to each of so many servers in turn, by name.
    Direct(u64),
    /// Casts to all servers.
    Fanout,
}

/// What a worker answers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What the process has used.
    pub(crate) usage: Usage,
    /// Messages taken so far.
    pub(crate) served: u64,
    /// Duration of the order.
    pub(crate) seconds: f64,
    /// Why it could not be done.
    pub(crate) error: Option<String>,
}

/// The methods that are called.
struct Echo {
    served: Arc<AtomicU64>,
    gate: watch::Receiver<bool>,
}

#[endpoint]
impl Echo {
    async fn echo(&self, content: String) -> String {
        self.served.fetch_add(1, Ordering::Relaxed);
        content
    }

    async fn hold(&self) -> bool {
        self.served.fetch_add(1, Ordering::Relaxed);
        // The gate goes with the worker.
        self.gate.clone().wait_for(|open| *open).await.is_ok()
    }
}

#[derive(Serialize)]
struct Content<'a> {
    content: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

/// Carries out orders until standard input ends.
pub(crate) async fn run() -> io::Result<()> {
    let mut worker = Worker::new();
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    while let Some(line) = orders.next_line().await? {
        let order: Order = serde_json::from_str(&line)?;
        let began = Instant::now();
        let done = worker.carry_out(order).await;
        let told = Told {
            usage: Usage::own()?,
            served: worker.served.load(Ordering::Relaxed),
            seconds: began.elapsed().as_secs_f64(),
            error: done.err().map(|error| error.to_string()),
        };
        answers
            .write_all(format!("{}\n", serde_json::to_string(&told)?).as_bytes())
            .await?;
        answers.flush().await?;
    }
    worker.end().await;
    Ok(())
}

struct Worker {
    transports: Vec<Transport>,
    servers: Vec<RpcServer>,
    served: Arc<AtomicU64>,
    gate: watch::Sender<bool>,
    held: JoinSet<oslo_messaging::Result<bool>>,
}

impl Worker {
    fn new() -> Self {
        Self {
            transports: Vec::new(),
            servers: Vec::new(),
            served: Arc::default(),
            gate: watch::Sender::new(false),
            held: JoinSet::new(),
        }
    }

    async fn carry_out(&mut self, order: Order) -> oslo_messaging::Result<()> {
        match order {
            Order::Connect { url, transports } => {
                for _ in 0..transports {
                    self.transports.push(oslo_messaging::connect(&url).await?);
                }
            }
            Order::Serve { topic, servers } => self.serve(&topic, servers).await?,
            Order::Load(load) => self.load(load).await?,
            Order::Hold { calls } => self.hold(calls).await,
            Order::Release => {
                self.gate.send_replace(true);
                while let Some(ended) = self.held.join_next().await {
                    ended.expect("a held call does not panic")?;
                }
            }
            Order::Await { served } => {
                while self.served.load(Ordering::Relaxed) < served {
                    tokio::time::sleep(LOOK).await;
                }
            }
            Order::Rest { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await
            }
            Order::Report => {}
        }
        Ok(())
    }

    async fn serve(&mut self, topic: &str, servers: u64) -> oslo_messaging::Result<()> {
        for (number, transport) in (0..servers).zip(self.transports.iter().cycle()) {
            let echo = Echo {
                served: Arc::clone(&self.served),
                gate: self.gate.subscribe(),
            };
            let target = Target::topic(topic.to_owned()).server(format!("server-{number}"));
            let server = RpcServer::builder(transport.clone(), target)
                .endpoint(echo)
                .concurrency(AT_ONCE);
            self.servers.push(server.start().await?);
        }
        Ok(())
    }

    fn clients(&self, topic: &str) -> Arc<[RpcClient]> {
        let client = |transport: &Transport| {
            RpcClient::new(transport.clone(), Target::topic(topic.to_owned())).timeout(TIMEOUT)
        };
        self.transports.iter().map(client).collect()
    }

    async fn load(&self, load: Load) -> oslo_messaging::Result<()> {
        let clients = self.clients(&load.topic);
        let content: Arc<str> = (0..load.size)
            .map(|_| fastrand::lowercase())
            .collect::<String>()
            .into();
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let mut callers: JoinSet<oslo_messaging::Result<()>> = JoinSet::new();
        for _ in 0..load.callers.min(load.operations) {
            let (clients, content, next) = (
                Arc::clone(&clients),
                Arc::clone(&content),
                Arc::clone(&next),
            );
            let (verb, operations, rate) = (load.verb, load.operations, load.rate);
            callers.spawn(async move {
                let ctx = Context::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= operations {
                        return Ok(());
                    }
                    if let Some(rate) = rate {
                        let due = began + Duration::from_secs_f64(number as f64 / rate);
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let place = usize::try_from(number).unwrap_or_default() % clients.len();
                    send(&clients[place], verb, &ctx, number, &content).await?;
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.expect("a caller does not panic")?;
        }
        Ok(())
    }

    async fn hold(&mut self, calls: u64) {
        let clients = self.clients(TOPIC);
        for (_, client) in (0..calls).zip(clients.iter().cycle()) {
            let client = client.clone();
            self.held
                .spawn(async move { client.call(&Context::new(), "hold", Nothing {}).await });
        }
        let in_flight = || {
            self.transports
                .iter()
                .map(Transport::calls_in_flight)
                .sum::<usize>()
        };
        while (in_flight() as u64) < calls {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn end(self) {
        for transport in &self.transports {
            transport.close().await;
        }
    }
}

async fn send(
    client: &RpcClient,
    verb: Verb,
    ctx: &Context,
    number: u64,
    content: &str,
) -> oslo_messaging::Result<()> {
    let content = Content { content };
    let _: oslo_messaging::RawJson = match verb {
        Verb::Call => client.call(ctx, "echo", content).await?,
        Verb::Direct(servers) => {
            let one = client
                .prepare()
                .server(format!("server-{}", number % servers));
            one.call(ctx, "echo", content).await?
        }
        Verb::Fanout => {
            return client
                .prepare()
                .fanout(true)
                .cast(ctx, "echo", content)
                .await;
        }
    };
    Ok(())
}
