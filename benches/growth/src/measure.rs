//! The measurements: one function for each axis, all points in random order in each round, medians over the rounds.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use oslo_messaging_testkit::rabbit::vhost::Vhost;

use crate::axes::Axis;
use crate::record::{Costs, Curve, Point};
use crate::stage::{Side, Stage, Worker};
use crate::usage::Usage;
use crate::worker::{Load, Order, TOPIC, Told, Verb};

/// Callers where it is not their number that grows.
const CALLERS: u64 = 64;
/// Transports that many servers share.
const SHARED: u64 = 4;
/// How long what is idle is watched.
const IDLE: Duration = Duration::from_secs(3);
/// The topic of the lone server that hears casts at the pace of wide ones.
const PACED: &str = "paced";
/// From so many bytes on it is measured, too, what a call costs where freed memory is kept.
const LARGE: u64 = 1 << 18;
/// Longest wait for messages to reach a queue.
const ARRIVAL: Duration = Duration::from_secs(60);
/// So many faults in a row are not a point's fault.
const HOPELESS: usize = 3;

/// How an axis is measured.
pub(crate) struct Plan {
    /// Where.
    pub(crate) points: Vec<u64>,
    /// How often.
    pub(crate) rounds: usize,
    /// So many times fewer operations.
    pub(crate) share: u64,
}

/// Measures one axis; a point that fails is told, and left to the other rounds.
///
/// # Errors
/// Those of the points, when nothing else came of the last ones.
pub(crate) async fn curve(
    stage: &Stage,
    axis: &Axis,
    plan: &Plan,
    faults: &mut Vec<String>,
) -> io::Result<Curve> {
    let rounds = plan.rounds;
    let mut found: BTreeMap<u64, Vec<Costs>> = BTreeMap::new();
    let mut in_a_row = 0;
    for round in 1..=rounds {
        let mut order = plan.points.clone();
        fastrand::shuffle(&mut order);
        for x in order {
            let began = Instant::now();
            let what = format!("{} {x}, round {round} of {rounds}", axis.name);
            match point(stage, axis, x, plan.share).await {
                Ok(costs) => {
                    eprintln!("growth: {what}, {:.1} s", began.elapsed().as_secs_f64());
                    found.entry(x).or_default().push(costs);
                    in_a_row = 0;
                }
                Err(error) => {
                    let fault = format!("{what}: {error}");
                    eprintln!("growth: {fault}");
                    in_a_row += 1;
                    if in_a_row == HOPELESS {
                        return Err(io::Error::other(fault));
                    }
                    faults.push(fault);
                }
            }
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

async fn point(stage: &Stage, axis: &Axis, x: u64, share: u64) -> io::Result<Costs> {
    let scene = Scene {
        stage,
        vhost: stage.vhost("growth").await?,
        share,
    };
    let costs = match axis.name {
        "calls" => scene.calls(x).await,
        "servers" => scene.servers(x).await,
        "fanout" => scene.fanout(x).await,
        "payload" => scene.payload(x).await,
        "transports" => scene.transports(x).await,
        other => Err(io::Error::other(format!("{other} is not measured"))),
    };
    // Why there are no costs is what matters, if both fail.
    let deleted = scene.vhost.delete().await;
    let costs = costs?;
    deleted.map(|()| costs)
}

/// One point of one round.
struct Scene<'a> {
    stage: &'a Stage,
    vhost: Vhost,
    share: u64,
}

/// The two processes of a point.
struct Pair {
    client: Worker,
    server: Worker,
}

impl Pair {
    /// What the client and the server have used so far.
    async fn usage(&mut self) -> io::Result<[Usage; 2]> {
        let client = self.client.tell(Order::Report).await?.usage;
        Ok([client, self.server.tell(Order::Report).await?.usage])
    }

    async fn end(self) -> io::Result<()> {
        self.client.end().await?;
        self.server.end().await
    }
}

/// CPU time spent while nobody asks anything, in microseconds a second.
#[derive(Debug, Clone, Copy, Default)]
struct Idle {
    client: f64,
    broker: f64,
}

/// Traffic whose cost is noted.
struct Traffic {
    load: Load,
    /// How many servers hear each message; the cost ends when they have. 0 for calls, whose answers say so.
    heard: u64,
    /// What is spent without it, and is none of its cost.
    idle: Idle,
    /// First part of the keys of its costs.
    prefix: &'static str,
}

impl Traffic {
    fn of(load: Load) -> Self {
        Self {
            load,
            heard: 0,
            idle: Idle::default(),
            prefix: "",
        }
    }
}

impl Scene<'_> {
    async fn worker(&self, side: Side, transports: u64) -> io::Result<Worker> {
        Worker::start(self.stage, side, &self.vhost.url(), transports).await
    }

    /// A server and a client, with one transport each.
    async fn pair(&self) -> io::Result<Pair> {
        let mut server = self.worker(Side::Server, 1).await?;
        server.tell(serve(1)).await?;
        let client = self.worker(Side::Client, 1).await?;
        Ok(Pair { client, server })
    }

    /// Notes the cost of an operation of this traffic after a fifth of it to warm up; gives operations a second.
    async fn traffic(
        &self,
        pair: &mut Pair,
        traffic: Traffic,
        costs: &mut Costs,
    ) -> io::Result<f64> {
        let Traffic {
            load,
            heard,
            idle,
            prefix,
        } = traffic;
        let load = Load {
            operations: (load.operations / self.share).max(1),
            ..load
        };
        let warm_up = (load.operations / 5).max(load.callers.min(load.operations));
        self.play(pair, &load, warm_up, heard).await?;
        let before = (pair.usage().await?, self.stage.broker_cpu_ns()?);
        let began = Instant::now();
        self.play(pair, &load, load.operations, heard).await?;
        let seconds = began.elapsed().as_secs_f64();
        let broker = self.stage.broker_cpu_ns()?.saturating_sub(before.1);
        let after = pair.usage().await?;
        let operations = load.operations as f64;
        let mut note = |key: &str, amount: f64| {
            costs.insert(format!("{prefix}{key}"), (amount / operations).max(0.0))
        };
        for (side, (after, before)) in ["client", "server"]
            .into_iter()
            .zip(after.into_iter().zip(before.0))
        {
            let used = after.since(before);
            let rest = if side == "client" { idle.client } else { 0.0 };
            note(side, used.cpu_ns as f64 / 1e3 - rest * seconds);
            note(&format!("{side}_wakes"), used.wakeups as f64);
            note(&format!("{side}_faults"), used.faults as f64);
        }
        note("broker", broker as f64 / 1e3 - idle.broker * seconds);
        Ok(operations / seconds)
    }

    /// Has so many messages sent, and waits until they are heard.
    async fn play(
        &self,
        pair: &mut Pair,
        load: &Load,
        operations: u64,
        heard: u64,
    ) -> io::Result<()> {
        let served = pair.server.tell(Order::Report).await?.served + operations * heard;
        let load = Load {
            operations,
            ..load.clone()
        };
        pair.client.tell(Order::Load(load)).await?;
        if heard > 0 {
            pair.server.tell(Order::Await { served }).await?;
        }
        Ok(())
    }

    /// Notes what it takes a worker and the broker to carry out an order that makes things which stay.
    async fn making(&self, worker: &mut Worker, order: Order, costs: &mut Costs) -> io::Result<()> {
        let memory = self.stage.broker_memory().await?;
        let fresh = worker.tell(Order::Report).await?.usage;
        let cpu = self.stage.broker_cpu_ns()?;
        let took = worker.tell(order).await?.usage.since(fresh);
        let cpu = self.stage.broker_cpu_ns()?.saturating_sub(cpu);
        let memory = self.stage.broker_memory().await?.saturating_sub(memory);
        for (key, cost) in [
            ("start", took.cpu_ns as f64 / 1e6),
            ("start_broker", cpu as f64 / 1e6),
            ("memory", took.rss_kib as f64),
            ("memory_broker", memory as f64 / 1024.0),
        ] {
            costs.insert(key.to_owned(), cost);
        }
        Ok(())
    }

    async fn calls(&self, callers: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut pair = self.pair().await?;
        if callers >= 1_000 {
            let held = self.hold(&mut pair, callers).await?;
            costs.insert("held".to_owned(), held);
        }
        let load = Load::new(Verb::Call, callers, (callers * 5).clamp(3_000, 50_000));
        self.traffic(&mut pair, Traffic::of(load), &mut costs)
            .await?;
        pair.end().await?;
        Ok(costs)
    }

    /// KiB that a client takes for so many calls that wait.
    async fn hold(&self, pair: &mut Pair, calls: u64) -> io::Result<f64> {
        let Pair { client, server } = pair;
        let one = Load::new(Verb::Call, 1, 1);
        let before = client.tell(Order::Load(one)).await?.usage;
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
        let after = client.tell(Order::Report).await?.usage;
        server.tell(Order::Release).await?;
        client.tell(Order::Release).await?;
        Ok(after.since(before).rss_kib as f64)
    }

    /// Servers on a few transports, with what it took to start them, and a client.
    async fn many_servers(&self, servers: u64, costs: &mut Costs) -> io::Result<Pair> {
        let mut server = self.worker(Side::Server, servers.min(SHARED)).await?;
        self.making(&mut server, serve(servers), costs).await?;
        let client = self.worker(Side::Client, 1).await?;
        Ok(Pair { client, server })
    }

    async fn servers(&self, servers: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut pair = self.many_servers(servers, &mut costs).await?;
        for (prefix, verb) in [("", Verb::Call), ("direct_", Verb::Direct(servers))] {
            let traffic = Traffic {
                prefix,
                ..Traffic::of(Load::new(verb, CALLERS, 8_000))
            };
            self.traffic(&mut pair, traffic, &mut costs).await?;
        }
        pair.end().await?;
        Ok(costs)
    }

    async fn fanout(&self, queues: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let mut pair = self.many_servers(queues, &mut Costs::new()).await?;
        let operations = (20_000 / queues).clamp(40, 2_000);
        let traffic = Traffic {
            heard: queues,
            ..Traffic::of(Load::new(Verb::Fanout, 4, operations))
        };
        let pace = self.traffic(&mut pair, traffic, &mut costs).await?;
        // The same casts, as seldom, with nothing else to do for anybody: what is the width's fault, and what the pace's?
        let Pair { client, server } = pair;
        let mut lone = self.worker(Side::Server, 1).await?;
        let topic = PACED.to_owned();
        lone.tell(Order::Serve { topic, servers: 1 }).await?;
        let mut pair = Pair {
            client,
            server: lone,
        };
        let load = Load {
            topic: PACED.to_owned(),
            rate: Some(pace),
            ..Load::new(Verb::Fanout, 4, operations)
        };
        let traffic = Traffic {
            heard: 1,
            prefix: "paced_",
            ..Traffic::of(load)
        };
        self.traffic(&mut pair, traffic, &mut costs).await?;
        pair.end().await?;
        server.end().await?;
        Ok(costs)
    }

    async fn payload(&self, bytes: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let load = Load {
            size: usize::try_from(bytes).map_err(io::Error::other)?,
            ..Load::new(Verb::Call, 4, ((192 << 20) / bytes).clamp(16, 4_000))
        };
        let mut pair = self.pair().await?;
        self.traffic(&mut pair, Traffic::of(load.clone()), &mut costs)
            .await?;
        pair.end().await?;
        if bytes >= LARGE {
            let url = self.vhost.url();
            let mut server = Worker::start_keeping(self.stage, Side::Server, &url, 1).await?;
            server.tell(serve(1)).await?;
            let client = Worker::start_keeping(self.stage, Side::Client, &url, 1).await?;
            let mut pair = Pair { client, server };
            let traffic = Traffic {
                prefix: "kept_",
                ..Traffic::of(load)
            };
            self.traffic(&mut pair, traffic, &mut costs).await?;
            pair.end().await?;
        }
        Ok(costs)
    }

    async fn transports(&self, transports: u64) -> io::Result<Costs> {
        let mut costs = Costs::new();
        let Pair { client, server } = self.pair().await?;
        client.end().await?;
        let mut client = self.worker(Side::Client, transports).await?;
        let connect = Load::new(Verb::Call, CALLERS, transports);
        self.making(&mut client, Order::Load(connect), &mut costs)
            .await?;
        let idle = self.idle(&mut client, &mut costs).await?;
        let operations = (transports * 5).clamp(8_000, 12_000);
        let load = Load::new(Verb::Call, CALLERS, operations);
        let mut pair = Pair { client, server };
        let traffic = Traffic {
            idle,
            ..Traffic::of(load)
        };
        self.traffic(&mut pair, traffic, &mut costs).await?;
        pair.end().await?;
        Ok(costs)
    }

    /// What a process and the broker do while nobody asks anything of them, each second.
    async fn idle(&self, worker: &mut Worker, costs: &mut Costs) -> io::Result<Idle> {
        let before: Told = worker.tell(Order::Report).await?;
        let cpu = self.stage.broker_cpu_ns()?;
        let milliseconds = u64::try_from(IDLE.as_millis()).map_err(io::Error::other)?;
        let after = worker.tell(Order::Rest { milliseconds }).await?;
        let broker = self.stage.broker_cpu_ns()?.saturating_sub(cpu);
        let used = after.usage.since(before.usage);
        let idle = Idle {
            client: used.cpu_ns as f64 / 1e3 / after.seconds,
            broker: broker as f64 / 1e3 / after.seconds,
        };
        for (key, amount) in [
            ("idle", idle.client),
            ("idle_broker", idle.broker),
            ("idle_wakeups", used.wakeups as f64 / after.seconds),
        ] {
            costs.insert(key.to_owned(), amount);
        }
        Ok(idle)
    }
}

/// Starts servers of the topic [`TOPIC`].
fn serve(servers: u64) -> Order {
    Order::Serve {
        topic: TOPIC.to_owned(),
        servers,
    }
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
    use super::medians;
    use crate::record::Costs;

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
