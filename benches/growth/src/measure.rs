//! The measurements: one function for each axis, all points in random order in each round, medians over the rounds.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use oslo_messaging_testkit::rabbit::vhost::Vhost;

use crate::axes::Axis;
use crate::record::{Curve, Point};
use crate::stage::{Stage, Worker};
use crate::worker::{Load, Order, TOPIC, Told, Verb};

/// Callers where it is not their number that grows.
const CALLERS: u64 = 64;
/// Transports that many servers share.
const SHARED: u64 = 4;
/// How long what is idle is watched.
const IDLE: Duration = Duration::from_secs(3);
/// Longest wait for messages to reach a queue.
const ARRIVAL: Duration = Duration::from_secs(60);

type Costs = BTreeMap<String, f64>;

/// Measures one axis.
///
/// # Errors
/// What kept a point from being measured.
pub(crate) async fn curve(
    stage: &Stage,
    axis: &Axis,
    rounds: usize,
    short: bool,
) -> io::Result<Curve> {
    let points = if short { axis.short } else { axis.points };
    let mut found: BTreeMap<u64, Vec<Costs>> = BTreeMap::new();
    for round in 1..=rounds {
        let mut order = points.to_vec();
        fastrand::shuffle(&mut order);
        for x in order {
            let began = Instant::now();
            let costs = point(stage, axis, x, short).await;
            let costs = costs
                .map_err(|error| io::Error::other(format!("{} at {x}: {error}", axis.name)))?;
            eprintln!(
                "growth: {} {x}, round {round} of {rounds}, {:.1} s",
                axis.name,
                began.elapsed().as_secs_f64()
            );
            found.entry(x).or_default().push(costs);
        }
    }
    let points = found.into_iter().map(|(x, rounds)| Point {
        x,
        costs: medians(&rounds),
    });
    Ok(Curve {
        rounds,
        points: points.collect(),
    })
}

async fn point(stage: &Stage, axis: &Axis, x: u64, short: bool) -> io::Result<Costs> {
    let vhost = stage.vhost("growth").await?;
    // A short run is content with half the operations.
    let scene = Scene {
        stage,
        vhost,
        share: if short { 2 } else { 1 },
    };
    let costs = match axis.name {
        "calls" => scene.calls(x).await,
        "servers" => scene.servers(x).await,
        "fanout" => scene.fanout(x).await,
        "payload" => scene.payload(x).await,
        "transports" => scene.transports(x).await,
        other => Err(io::Error::other(format!("{other} is not measured"))),
    };
    scene.vhost.delete().await?;
    costs
}

/// One point of one round.
struct Scene<'a> {
    stage: &'a Stage,
    vhost: Vhost,
    share: u64,
}

/// CPU time, in nanoseconds, of one piece of work.
struct Spent {
    client: u64,
    server: u64,
    broker: u64,
}

impl Spent {
    /// Of one operation out of many, in microseconds.
    fn note(&self, costs: &mut Costs, prefix: &str, operations: u64) {
        let each = |nanoseconds: u64| nanoseconds as f64 / 1e3 / operations as f64;
        costs.insert(format!("{prefix}client"), each(self.client));
        costs.insert(format!("{prefix}server"), each(self.server));
        costs.insert(format!("{prefix}broker"), each(self.broker));
    }
}

impl Scene<'_> {
    async fn worker(&self, transports: u64) -> io::Result<Worker> {
        Worker::start(&self.vhost.url(), transports).await
    }

    async fn server(&self) -> io::Result<Worker> {
        let mut server = self.worker(1).await?;
        server.tell(serve(1)).await?;
        Ok(server)
    }

    /// The cost of this traffic after a fifth of it to warm up; with fanouts, until all of them were heard.
    async fn load(
        &self,
        client: &mut Worker,
        server: &mut Worker,
        load: Load,
        heard: u64,
    ) -> io::Result<Spent> {
        let operations = (load.operations / 5).max(load.callers.min(load.operations));
        client
            .tell(Order::Load(Load {
                operations,
                ..load.clone()
            }))
            .await?;
        let mut served = server.tell(Order::Report).await?.served;
        if load.verb == Verb::Fanout {
            served = server
                .tell(Order::Await {
                    served: operations * heard,
                })
                .await?
                .served;
        }
        let before = (
            client.tell(Order::Report).await?,
            server.tell(Order::Report).await?,
            self.stage.broker_cpu_ns()?,
        );
        let operations = load.operations;
        client.tell(Order::Load(load)).await?;
        if heard > 0 {
            server
                .tell(Order::Await {
                    served: served + operations * heard,
                })
                .await?;
        }
        let broker = self.stage.broker_cpu_ns()?;
        let after = (
            client.tell(Order::Report).await?,
            server.tell(Order::Report).await?,
        );
        Ok(Spent {
            client: after.0.cpu_ns.saturating_sub(before.0.cpu_ns),
            server: after.1.cpu_ns.saturating_sub(before.1.cpu_ns),
            broker: broker.saturating_sub(before.2),
        })
    }

    async fn calls(&self, callers: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let (mut server, mut client) = (self.server().await?, self.worker(1).await?);
        if callers >= 1_000 {
            costs.insert(
                "held".to_owned(),
                self.hold(&mut client, &mut server, callers).await?,
            );
        }
        let load = Load::new(
            Verb::Call,
            callers,
            (callers * 5).clamp(3_000, 50_000) / self.share,
        );
        let operations = load.operations;
        self.load(&mut client, &mut server, load, 0)
            .await?
            .note(&mut costs, "", operations);
        client.end().await?;
        server.end().await?;
        Ok(costs)
    }

    /// KiB that a client takes for so many calls that wait.
    async fn hold(&self, client: &mut Worker, server: &mut Worker, calls: u64) -> io::Result<f64> {
        let one = Load::new(Verb::Call, 1, 1);
        let before = client.tell(Order::Load(one)).await?;
        let taken = server.tell(Order::Report).await?.served;
        client.tell(Order::Hold { calls }).await?;
        let deadline = Instant::now() + ARRIVAL;
        loop {
            let held = server.tell(Order::Report).await?.served - taken;
            // What was taken was acknowledged; the rest stands in the queue.
            if self.vhost.queue_depth(TOPIC).await?.unwrap_or(0) + held >= calls {
                break;
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("held calls did not reach the broker"));
            }
        }
        let after = client.tell(Order::Report).await?;
        server.tell(Order::Release).await?;
        client.tell(Order::Release).await?;
        Ok(after.rss_kib.saturating_sub(before.rss_kib) as f64)
    }

    /// Starts servers on a few transports; notes what that took, of memory beyond the first server's of each transport.
    async fn start_servers(&self, servers: u64, costs: &mut Costs) -> io::Result<Worker> {
        let before = self.stage.broker_memory().await?;
        let mut worker = self.worker(servers.min(SHARED)).await?;
        let fresh = worker.tell(Order::Report).await?;
        let cpu = self.stage.broker_cpu_ns()?;
        let started = worker.tell(serve(servers)).await?;
        costs.insert(
            "start_broker".to_owned(),
            milliseconds(cpu, self.stage.broker_cpu_ns()?),
        );
        let after = self.stage.broker_memory().await?;
        costs.insert(
            "start".to_owned(),
            milliseconds(fresh.cpu_ns, started.cpu_ns),
        );
        costs.insert("memory".to_owned(), kib(fresh.rss_kib, started.rss_kib));
        costs.insert("memory_broker".to_owned(), kib(before, after) / 1024.0);
        Ok(worker)
    }

    async fn servers(&self, servers: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut server = self.start_servers(servers, &mut costs).await?;
        let mut client = self.worker(1).await?;
        for (prefix, verb) in [("", Verb::Call), ("direct_", Verb::Direct(servers))] {
            let load = Load::new(verb, CALLERS, 8_000 / self.share);
            let operations = load.operations;
            self.load(&mut client, &mut server, load, 0)
                .await?
                .note(&mut costs, prefix, operations);
        }
        client.end().await?;
        server.end().await?;
        Ok(costs)
    }

    async fn fanout(&self, queues: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut server = self.start_servers(queues, &mut Costs::new()).await?;
        let mut client = self.worker(1).await?;
        let load = Load::new(
            Verb::Fanout,
            4,
            (40_000 / queues).clamp(60, 2_000) / self.share,
        );
        let operations = load.operations;
        self.load(&mut client, &mut server, load, queues)
            .await?
            .note(&mut costs, "", operations);
        client.end().await?;
        server.end().await?;
        Ok(costs)
    }

    async fn payload(&self, bytes: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let (mut server, mut client) = (self.server().await?, self.worker(1).await?);
        let load = Load {
            size: usize::try_from(bytes).map_err(io::Error::other)?,
            ..Load::new(
                Verb::Call,
                4,
                ((192 << 20) / bytes).clamp(16, 4_000) / self.share,
            )
        };
        let operations = load.operations;
        self.load(&mut client, &mut server, load, 0)
            .await?
            .note(&mut costs, "", operations);
        client.end().await?;
        server.end().await?;
        Ok(costs)
    }

    async fn transports(&self, transports: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut server = self.server().await?;
        let before = self.stage.broker_memory().await?;
        let mut client = self.worker(transports).await?;
        let fresh = client.tell(Order::Report).await?;
        let connect = Load::new(Verb::Call, CALLERS, transports);
        let cpu = self.stage.broker_cpu_ns()?;
        let connected = client.tell(Order::Load(connect)).await?;
        costs.insert(
            "start_broker".to_owned(),
            milliseconds(cpu, self.stage.broker_cpu_ns()?),
        );
        let after = self.stage.broker_memory().await?;
        costs.insert(
            "start".to_owned(),
            milliseconds(fresh.cpu_ns, connected.cpu_ns),
        );
        costs.insert("memory".to_owned(), kib(fresh.rss_kib, connected.rss_kib));
        costs.insert("memory_broker".to_owned(), kib(before, after) / 1024.0);
        self.idle(&mut client, &mut costs).await?;
        let load = Load::new(
            Verb::Call,
            CALLERS,
            (transports * 5).clamp(8_000, 12_000) / self.share,
        );
        let operations = load.operations;
        self.load(&mut client, &mut server, load, 0)
            .await?
            .note(&mut costs, "", operations);
        client.end().await?;
        server.end().await?;
        Ok(costs)
    }

    /// What a process and the broker do while nobody asks anything of them, each second.
    async fn idle(&self, worker: &mut Worker, costs: &mut Costs) -> io::Result<()> {
        let before: Told = worker.tell(Order::Report).await?;
        let cpu = self.stage.broker_cpu_ns()?;
        let milliseconds = u64::try_from(IDLE.as_millis()).map_err(io::Error::other)?;
        let after = worker.tell(Order::Rest { milliseconds }).await?;
        let broker = self.stage.broker_cpu_ns()?.saturating_sub(cpu);
        let a_second = |count: u64| count as f64 / after.seconds;
        costs.insert(
            "idle".to_owned(),
            a_second(after.cpu_ns - before.cpu_ns) / 1e3,
        );
        costs.insert("idle_broker".to_owned(), a_second(broker) / 1e3);
        costs.insert(
            "idle_wakeups".to_owned(),
            a_second(after.wakeups.saturating_sub(before.wakeups)),
        );
        Ok(())
    }
}

/// Starts servers of the topic [`TOPIC`].
fn serve(servers: u64) -> Order {
    Order::Serve {
        topic: TOPIC.to_owned(),
        servers,
    }
}

fn milliseconds(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64 / 1e6
}

fn kib(before: u64, after: u64) -> f64 {
    after.saturating_sub(before) as f64
}

/// For each cost its median over the rounds.
fn medians(rounds: &[Costs]) -> Costs {
    let mut by_key: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (key, value) in rounds.iter().flatten() {
        by_key.entry(key).or_default().push(*value);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        }
    };
    by_key
        .into_iter()
        .map(|(key, values)| (key.to_owned(), median(values)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Costs, medians};

    #[test]
    fn medians_are_taken_cost_by_cost() {
        let round = |a: f64, b: f64| Costs::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let found = medians(&[round(3.0, 1.0), round(1.0, 5.0), round(2.0, 9.0)]);
        assert_eq!(found, round(2.0, 5.0));
        assert_eq!(
            medians(&[round(3.0, 1.0), round(1.0, 5.0)]),
            round(2.0, 3.0)
        );
    }
}
