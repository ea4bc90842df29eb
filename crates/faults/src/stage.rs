//! The brokers of the suite: one node or a cluster of three, started once and used by run after run.

use std::io;
use std::time::Duration;

use oslo_messaging_testkit::process::wait_until;
use oslo_messaging_testkit::rabbit::Broker;
use oslo_messaging_testkit::rabbit::cluster::Cluster;
use oslo_messaging_testkit::rabbit::node::Node;

const WHOLE_LIMIT: Duration = Duration::from_secs(90);

/// How many brokers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    Single,
    Cluster,
}

impl Topology {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "one node",
            Self::Cluster => "three nodes, quorum queues",
        }
    }

    /// Options of the driver under test, as the query of a transport URL; Python's reads the same.
    pub(crate) fn query(self) -> &'static str {
        match self {
            Self::Single => "",
            Self::Cluster => "?rabbit_quorum_queue=true&rabbit_transient_quorum_queue=true",
        }
    }
}

/// Running brokers; stopped when dropped.
#[derive(Debug)]
pub(crate) enum Stage {
    Single(Box<Node>),
    Cluster(Cluster),
}

impl Stage {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub(crate) async fn set(topology: Topology) -> io::Result<Self> {
        Ok(match topology {
            Topology::Single => Self::Single(Box::new(Node::boot().await?)),
            Topology::Cluster => Self::Cluster(Cluster::boot().await?),
        })
    }

    /// AMQP ports of all nodes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        match self {
            Self::Single(node) => vec![node.port()],
            Self::Cluster(cluster) => cluster
                .numbers()
                .map(|number| cluster.broker(number).port())
                .collect(),
        }
    }

    /// The node `number`, to look at and to administer.
    pub(crate) fn broker(&self, number: usize) -> Broker {
        match self {
            Self::Single(node) => node.broker(),
            Self::Cluster(cluster) => cluster.broker(number),
        }
    }

    /// Kills the node `number` (SIGKILL).
    ///
    /// # Errors
    ///
    /// When it could not be killed.
    pub(crate) async fn kill(&mut self, number: usize) -> io::Result<()> {
        match self {
            Self::Single(node) => node.kill().await,
            Self::Cluster(cluster) => cluster.kill(number).await,
        }
    }

    /// Stops the node `number` in good order.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub(crate) async fn stop(&mut self, number: usize) -> io::Result<()> {
        match self {
            Self::Single(node) => node.stop().await,
            Self::Cluster(cluster) => cluster.stop(number).await,
        }
    }

    /// Starts the node `number` again.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub(crate) async fn start(&mut self, number: usize) -> io::Result<()> {
        match self {
            Self::Single(node) => node.start().await,
            Self::Cluster(cluster) => cluster.start(number).await,
        }
    }

    /// Stops the process of the node `number` where it stands, or lets it go on.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub(crate) fn freeze(&self, number: usize, frozen: bool) -> io::Result<()> {
        match (self, frozen) {
            (Self::Single(node), true) => node.pause(),
            (Self::Single(node), false) => node.resume(),
            (Self::Cluster(cluster), true) => cluster.pause(number),
            (Self::Cluster(cluster), false) => cluster.resume(number),
        }
    }

    /// Starts what a failed run left dead, and waits until all nodes work together.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub(crate) async fn repair(&mut self) -> io::Result<()> {
        for number in 0..self.ports().len() {
            // A node that is not paused takes no harm; one that does not run is started below.
            let _ = self.freeze(number, false);
            self.start(number).await?;
        }
        let Self::Cluster(cluster) = self else {
            return Ok(());
        };
        for number in cluster.numbers() {
            let broker = cluster.broker(number);
            if broker.is_running().await {
                continue;
            }
            // A node that saw a partition end may have stopped its application.
            broker.ctl(&["start_app"]).await?;
        }
        wait_until("a whole cluster", WHOLE_LIMIT, async || {
            for number in cluster.numbers() {
                let seen = cluster.running_seen_by(number).await.unwrap_or(0);
                if seen < cluster.numbers().len() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }
}
