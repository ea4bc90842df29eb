//! What objects cost the broker: connections, channels, queues, consumers, bindings one by one, and agents as a whole, with this
//! library and with the reference.
//!
//! An *agent* is a process with servers on some topics that calls another service now and then. Here many transports of one
//! process stand for many agents, since the broker cannot tell.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oslo_messaging_amqp::{
    Channel, ConnectOptions, Connection, Consumer, Delivered, Error as AmqpError, Login,
    QueueDeclare, Table,
};
use oslo_messaging_testkit::rabbit::erlang_binary;
use oslo_messaging_testkit::rabbit::vhost::Vhost;

use crate::crossing::crossing;
use crate::record::Costs;
use crate::stage::{Side, Stage, Worker};
use crate::worker::{Load, Order, TOPIC, Verb};

/// Topic of the service that agents call.
const CONTROL: &str = "control";
/// The shapes of an agent: so many topics it serves.
pub(crate) const SHAPES: [u64; 2] = [1, 5];
/// Calls a second of each agent.
const PACE: f64 = 3.0;
/// Fanouts that all agents hear, one after the other.
const FANOUTS: u64 = 40;
/// Callers that share the calls of agents.
const CALLERS: u64 = 32;

/// Whose agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driver {
    /// This library's.
    Ours,
    /// Python's oslo.messaging's.
    Reference,
}

impl Driver {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Ours, Self::Reference];

    /// First part of the keys of its costs.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "reference",
        }
    }

    /// How many agents are measured: enough to tell one's cost, and not more than a Python process can be.
    fn agents(self, short: bool) -> u64 {
        match (self, short) {
            (Self::Ours, false) => 100,
            (Self::Ours, true) => 40,
            (Self::Reference, false) => 20,
            (Self::Reference, true) => 10,
        }
    }

    /// Time to come to rest after the start, which is no part of an idle life, and time of that life that is watched.
    /// Ours look after their subscriptions after 5 s and after 10 more, and then every 30 s.
    fn rest(self, short: bool) -> (Duration, Duration) {
        let (settle, idle) = match self {
            Self::Ours => (16, 30),
            Self::Reference => (8, 15),
        };
        let seconds = |whole: u64| Duration::from_secs(if short { whole / 2 } else { whole });
        (seconds(settle), seconds(idle))
    }

    async fn start(
        self,
        stage: &Stage,
        side: Side,
        url: &str,
        transports: u64,
    ) -> io::Result<Worker> {
        match self {
            Self::Ours => Worker::start(stage, side, url, transports).await,
            Self::Reference => Worker::start_reference(url, transports).await,
        }
    }
}

/// Measures everything anew; what fails keeps the costs it had, and is told.
pub(crate) async fn objects(
    stage: &Stage,
    short: bool,
    costs: &mut Costs,
    faults: &mut Vec<String>,
) {
    let mut tell = |what: String, done: io::Result<()>| {
        if let Err(error) = done {
            eprintln!("growth: {what}: {error}");
            faults.push(format!("{what}: {error}"));
        }
    };
    for kind in Kind::ALL {
        let count = if short { 100 } else { 300 };
        let done = kind.measure(stage, count, costs).await;
        tell(kind.key().to_owned(), done);
    }
    eprintln!("growth: calls within and between nodes of a cluster");
    let done = crossing(stage, short, costs).await;
    tell("a cluster".to_owned(), done);
    for driver in Driver::ALL {
        for topics in SHAPES {
            let what = format!("agents with {topics} topics, {}", driver.key());
            eprintln!("growth: {what}");
            let done = agents(stage, driver, topics, short, costs).await;
            tell(what, done);
        }
    }
}

/// What a broker keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Channel,
    Transient,
    Durable,
    Quorum,
    Consumer,
    Binding,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connection,
        Self::Channel,
        Self::Transient,
        Self::Durable,
        Self::Quorum,
        Self::Consumer,
        Self::Binding,
    ];

    /// First part of the keys of its costs, and its name.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Channel => "channel",
            Self::Transient => "transient queue",
            Self::Durable => "durable queue",
            Self::Quorum => "quorum queue",
            Self::Consumer => "consumer",
            Self::Binding => "binding",
        }
    }

    /// Makes `count` of them on what was there before, and notes what each of them took.
    async fn measure(self, stage: &Stage, count: u16, costs: &mut Costs) -> io::Result<()> {
        eprintln!("growth: {count} of {}", self.key());
        let vhost = stage.vhost("objects").await?;
        let base = connect(stage, &vhost).await?;
        let channel = base.open_channel().await.map_err(io::Error::other)?;
        // The first of a kind may set things up that all others use.
        let first = self.make(stage, &vhost, &base, &channel, 0..4).await?;
        let (memory, processes, cpu) = (
            stage.broker_memory().await?,
            stage.broker_processes().await?,
            stage.broker_cpu_ns()?,
        );
        let made = self
            .make(stage, &vhost, &base, &channel, 4..4 + count)
            .await?;
        let cpu = stage.broker_cpu_ns()?.saturating_sub(cpu);
        let memory = stage.broker_memory().await?.saturating_sub(memory);
        let processes = stage.broker_processes().await?.saturating_sub(processes);
        let each = |amount: u64| amount as f64 / f64::from(count);
        let mut note = |what: &str, cost| costs.insert(format!("{}.{what}", self.key()), cost);
        note("memory_kib", each(memory) / 1024.0);
        note("processes", each(processes));
        note("cpu_us", each(cpu) / 1e3);
        for connection in first.0.into_iter().chain(made.0).chain([base]) {
            // Whoever does not close in time is closed with the process.
            let _ = connection.close(Duration::from_secs(1)).await;
        }
        vhost.delete().await
    }

    /// Makes those of these numbers; connections and channels last as long as what is given back.
    async fn make(
        self,
        stage: &Stage,
        vhost: &Vhost,
        base: &Connection,
        channel: &Channel,
        numbers: std::ops::Range<u16>,
    ) -> io::Result<(Vec<Connection>, Vec<Channel>)> {
        let (mut connections, mut channels) = (Vec::new(), Vec::new());
        for number in numbers {
            let queue = format!("queue-{number}");
            let made = match self {
                Self::Connection => {
                    connections.push(connect(stage, vhost).await?);
                    Ok(())
                }
                Self::Channel => base.open_channel().await.map(|open| channels.push(open)),
                Self::Transient => declare(channel, &queue, false, Table::new()).await,
                Self::Durable => declare(channel, &queue, true, Table::new()).await,
                Self::Quorum => {
                    let arguments = Table::new().with("x-queue-type", "quorum");
                    declare(channel, &queue, true, arguments).await
                }
                Self::Consumer => consume(channel, number).await,
                Self::Binding => bind(channel, number).await,
            };
            made.map_err(io::Error::other)?;
        }
        Ok((connections, channels))
    }
}

/// A consumer that nothing is ever sent to.
struct Idle;

impl Consumer for Idle {
    fn deliver(&self, _delivered: Delivered) {}
    fn cancelled(&self) {}
    fn closed(&self, _error: &AmqpError) {}
}

async fn connect(stage: &Stage, vhost: &Vhost) -> io::Result<Connection> {
    let mut options = ConnectOptions::default();
    options.login = Login::Plain {
        user: "guest".into(),
        password: "guest".into(),
    };
    options.virtual_host = vhost.name().to_owned();
    Connection::connect_tcp("127.0.0.1", stage.port(), options)
        .await
        .map_err(io::Error::other)
}

async fn declare(
    channel: &Channel,
    name: &str,
    durable: bool,
    arguments: Table,
) -> Result<(), AmqpError> {
    let declare = QueueDeclare {
        name,
        durable,
        arguments,
        ..QueueDeclare::default()
    };
    channel.queue_declare(&declare).await.map(drop)
}

/// A further consumer of one queue.
async fn consume(channel: &Channel, number: u16) -> Result<(), AmqpError> {
    if number == 0 {
        declare(channel, "consumed", false, Table::new()).await?;
    }
    channel
        .consume(
            "consumed",
            &format!("{number}"),
            &Table::new(),
            Arc::new(Idle),
        )
        .await
        .map(drop)
}

/// A further binding of one queue.
async fn bind(channel: &Channel, number: u16) -> Result<(), AmqpError> {
    if number == 0 {
        declare(channel, "bound", false, Table::new()).await?;
    }
    channel
        .queue_bind(
            "bound",
            "amq.topic",
            &format!("key-{number}"),
            &Table::new(),
        )
        .await
}

/// What agents of this shape cost: to start, to keep, and to serve.
async fn agents(
    stage: &Stage,
    driver: Driver,
    topics: u64,
    short: bool,
    costs: &mut Costs,
) -> io::Result<()> {
    let count = driver.agents(short);
    let vhost = stage.vhost("agents").await?;
    let mut control = driver.start(stage, Side::Server, &vhost.url(), 1).await?;
    let topic = CONTROL.to_owned();
    control.tell(Order::Serve { topic, servers: 1 }).await?;
    let mut agents = driver
        .start(stage, Side::Client, &vhost.url(), count)
        .await?;
    let fresh = agents.tell(Order::Report).await?;

    let before = census(stage, &vhost).await?;
    for topic in 0..topics {
        let topic = format!("{TOPIC}-{topic}");
        agents
            .tell(Order::Serve {
                topic,
                servers: count,
            })
            .await?;
    }
    let once = Load {
        topic: CONTROL.to_owned(),
        ..Load::new(Verb::Call, CALLERS.min(count), count)
    };
    let started = agents.tell(Order::Load(once)).await?;
    let cpu = stage.broker_cpu_ns()?;
    let after = census(stage, &vhost).await?;
    let mut note =
        |what: &str, cost: f64| costs.insert(format!("{}.{topics}.{what}", driver.key()), cost);
    for (what, then) in &before {
        note(what, (after[what] - then) / count as f64);
    }
    note(
        "start_ms",
        (cpu as f64 - before["cpu_ns"]) / 1e6 / count as f64,
    );
    note(
        "own_kib",
        started.usage.since(fresh.usage).rss_kib as f64 / count as f64,
    );

    let (settle, idle) = driver.rest(short);
    rest(&mut agents, settle).await?;
    let cpu = stage.broker_cpu_ns()?;
    rest(&mut agents, idle).await?;
    let idle_ns = (stage.broker_cpu_ns()? - cpu) as f64 / idle.as_secs_f64();
    note("idle_us", idle_ns / 1e3 / count as f64);

    let rate = PACE * count as f64;
    let calls = (rate * if short { 3.0 } else { 6.0 }) as u64;
    let paced = Load {
        topic: CONTROL.to_owned(),
        rate: Some(rate),
        ..Load::new(Verb::Call, CALLERS.min(count), calls)
    };
    let cpu = stage.broker_cpu_ns()?;
    let told = agents.tell(Order::Load(paced)).await?;
    let spent = (stage.broker_cpu_ns()? - cpu) as f64 - idle_ns * told.seconds;
    note("call_us", (spent / 1e3 / calls as f64).max(0.0));

    let fanout = |operations| Load {
        topic: format!("{TOPIC}-0"),
        ..Load::new(Verb::Fanout, 1, operations)
    };
    // The first of a caster declares its exchange.
    let mut served = told.served + count;
    control.tell(Order::Load(fanout(1))).await?;
    let before = agents.tell(Order::Await { served }).await?.usage;
    let deliveries = FANOUTS * count;
    served += deliveries;
    let (cpu, began) = (stage.broker_cpu_ns()?, Instant::now());
    control.tell(Order::Load(fanout(FANOUTS))).await?;
    let after = agents.tell(Order::Await { served }).await?.usage;
    let spent = (stage.broker_cpu_ns()? - cpu) as f64 - idle_ns * began.elapsed().as_secs_f64();
    note("fanout_us", (spent / 1e3 / deliveries as f64).max(0.0));
    let own = after.since(before).cpu_ns as f64;
    note("heard_us", own / 1e3 / deliveries as f64);
    agents.end().await?;
    control.end().await?;
    vhost.delete().await
}

async fn rest(worker: &mut Worker, time: Duration) -> io::Result<()> {
    let milliseconds = u64::try_from(time.as_millis()).map_err(io::Error::other)?;
    worker.tell(Order::Rest { milliseconds }).await.map(drop)
}

/// How many objects of each kind there are, and what the broker has used.
async fn census(stage: &Stage, vhost: &Vhost) -> io::Result<BTreeMap<&'static str, f64>> {
    let name = erlang_binary(vhost.name());
    let count = async |list: &str| vhost.broker().eval::<f64>(&format!("length({list})")).await;
    Ok(BTreeMap::from([
        (
            "connections",
            count("rabbit_networking:connections()").await?,
        ),
        ("channels", count("rabbit_channel:list()").await?),
        (
            "queues",
            count(&format!("rabbit_amqqueue:list({name})")).await?,
        ),
        (
            "consumers",
            count(&format!("rabbit_amqqueue:consumers_all({name})")).await?,
        ),
        (
            "exchanges",
            count(&format!("rabbit_exchange:list({name})")).await?,
        ),
        (
            "bindings",
            count(&format!("rabbit_binding:list({name})")).await?,
        ),
        ("memory_kib", stage.broker_memory().await? as f64 / 1024.0),
        ("processes", stage.broker_processes().await? as f64),
        ("cpu_ns", stage.broker_cpu_ns()? as f64),
    ]))
}
