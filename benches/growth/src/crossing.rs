//! What it costs a cluster that a message's client is at another node than its queue.

use std::io;

use oslo_messaging_testkit::rabbit::cluster::Cluster;
use oslo_messaging_testkit::usage::cpu_ns;

use crate::record::Costs;
use crate::stage::{Side, Stage, Worker};
use crate::worker::{Load, Order, TOPIC, Verb};

/// Keys of the costs: of a call whose client and server are at one node, and of one whose messages both go to another.
pub(crate) const NEAR: &str = "crossing.near_us";
/// See [`NEAR`].
pub(crate) const FAR: &str = "crossing.far_us";

const CALLERS: u64 = 64;
const CALLS: u64 = 4_000;
/// How often each is measured, in turn.
const ROUNDS: u64 = 3;

/// Measures both on a cluster of its own.
///
/// # Errors
/// What kept it from being measured.
pub(crate) async fn crossing(stage: &Stage, short: bool, costs: &mut Costs) -> io::Result<()> {
    let cluster = Cluster::boot().await?;
    let nodes = cluster
        .numbers()
        .map(|number| cluster.node(number).process_id());
    let nodes: Vec<u32> = nodes
        .collect::<Option<_>>()
        .ok_or_else(|| io::Error::other("a node of the cluster has ended"))?;
    let spent = || {
        nodes
            .iter()
            .map(|node| cpu_ns(*node))
            .sum::<io::Result<u64>>()
    };
    let vhost = cluster.create_vhost("crossing").await?;
    let url = |node: usize| vhost.url_through(cluster.node(node).port());

    // A queue is at the node where it was declared: its server's, its caller's.
    let mut server = Worker::start(stage, Side::Server, &url(0), 1).await?;
    let topic = TOPIC.to_owned();
    server.tell(Order::Serve { topic, servers: 1 }).await?;
    let mut near = Worker::start(stage, Side::Client, &url(0), 1).await?;
    let mut far = Worker::start(stage, Side::Client, &url(1), 1).await?;
    let rounds = if short { 1 } else { ROUNDS };
    let mut sums = [0, 0];
    for round in 0..=rounds {
        for (client, sum) in [&mut near, &mut far].into_iter().zip(&mut sums) {
            let before = spent()?;
            client
                .tell(Order::Load(Load::new(Verb::Call, CALLERS, CALLS)))
                .await?;
            // The first round warms up.
            if round > 0 {
                *sum += spent()? - before;
            }
        }
    }
    for (key, sum) in [NEAR, FAR].into_iter().zip(sums) {
        costs.insert(key.to_owned(), sum as f64 / 1e3 / (CALLS * rounds) as f64);
    }
    for worker in [near, far, server] {
        worker.end().await?;
    }
    vhost.delete().await
}
