//! Three private RabbitMQ nodes that form one cluster, each of which can be stopped, killed and paused by itself.
//!
//! ```no_run
//! # use oslo_messaging_testkit::rabbit::cluster::Cluster;
//! # async fn example() -> std::io::Result<()> {
//! let Some(mut cluster) = Cluster::boot_or_skip("a_dead_node_is_left").await else { return Ok(()) };
//! let vhost = cluster.create_vhost("a_dead_node_is_left").await?;
//! // connect to cluster.url(vhost.name()), which names all nodes …
//! let used = cluster.nodes_of(std::process::id())?;
//! cluster.kill(used[0]).await?;
//! # Ok(()) }
//! ```

use std::io;
use std::ops::Range;

use crate::process::connected_ports;
use crate::rabbit::Broker;
use crate::rabbit::install::Installation;
use crate::rabbit::node::{Node, NodeOptions};
use crate::rabbit::vhost::Vhost;
use crate::skip::skip;

/// Nodes of a cluster.
pub const SIZE: usize = 3;

/// A cluster that belongs to one test or run; stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts three nodes (all at once, some 15 seconds on a quiet machine), and joins the others to the first.
    ///
    /// # Errors
    ///
    /// When a node does not start or join.
    pub async fn boot() -> io::Result<Self> {
        let first = Node::boot().await?;
        let options = || NodeOptions {
            beside: Some(&first),
            ..NodeOptions::default()
        };
        let (second, third) =
            tokio::try_join!(Node::boot_with(options()), Node::boot_with(options()))?;
        for node in [&second, &third] {
            node.ctl(&["stop_app"]).await?;
            node.ctl(&["join_cluster", first.node_name()]).await?;
            node.ctl(&["start_app"]).await?;
        }
        Ok(Self {
            nodes: vec![first, second, third],
        })
    }

    /// Like [`Cluster::boot`], or `None` after one line when RabbitMQ is not installed here.
    ///
    /// # Panics
    ///
    /// When it is installed and does not start, and when it is not and `OSLO_TEST_REQUIRE_SERVICES=1`.
    pub async fn boot_or_skip(test: &str) -> Option<Self> {
        if !Installation::of_environment().is_present() {
            skip(test, "no broker (rabbitmq-server is not installed)");
            return None;
        }
        Some(Self::boot().await.expect("a cluster starts"))
    }

    /// Numbers of the nodes, as the other methods take them.
    pub fn numbers(&self) -> Range<usize> {
        0..self.nodes.len()
    }

    /// The node `number`, to look at and to administer.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn broker(&self, number: usize) -> Broker {
        self.nodes[number].broker()
    }

    /// The node `number` itself.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// A transport URL with all nodes, for the user `guest` on the virtual host `vhost`.
    pub fn url(&self, vhost: &str) -> String {
        let ports: Vec<u16> = self.nodes.iter().map(|node| node.port()).collect();
        url_of(&ports, vhost)
    }

    /// Makes a new virtual host on all nodes, looked at through the first that runs.
    ///
    /// # Errors
    ///
    /// When no node runs, or it refuses.
    pub async fn create_vhost(&self, test: &str) -> io::Result<Vhost> {
        let running = self.nodes.iter().find(|node| node.has_process());
        let node = running.ok_or_else(|| io::Error::other("no node of the cluster runs"))?;
        node.create_vhost(test).await
    }

    /// Numbers of the nodes to which the process `pid` holds connections, in ascending order.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn nodes_of(&self, pid: u32) -> io::Result<Vec<usize>> {
        let ports = connected_ports(pid)?;
        let used = |number: &usize| ports.contains(&self.nodes[*number].port());
        Ok(self.numbers().filter(used).collect())
    }

    /// How many nodes run and know each other, as the node `number` sees it.
    ///
    /// # Errors
    ///
    /// When that node cannot be reached.
    pub async fn running_seen_by(&self, number: usize) -> io::Result<usize> {
        // The function was renamed in 3.11.
        self.nodes[number]
            .eval(
                "begin code:ensure_loaded(rabbit_nodes), length(case erlang:function_exported(\
                 rabbit_nodes, list_running, 0) of true -> rabbit_nodes:list_running(); \
                 false -> rabbit_nodes:all_running() end) end",
            )
            .await
    }

    /// Kills the node `number` at once (SIGKILL) and waits for its end.
    ///
    /// # Errors
    ///
    /// When it could not be killed.
    pub async fn kill(&mut self, number: usize) -> io::Result<()> {
        self.nodes[number].kill().await
    }

    /// Stops the node `number` in good order.
    ///
    /// # Errors
    ///
    /// See [`Node::stop`].
    pub async fn stop(&mut self, number: usize) -> io::Result<()> {
        self.nodes[number].stop().await
    }

    /// Starts the node `number` again; it finds its cluster by itself.
    ///
    /// # Errors
    ///
    /// See [`Node::start`].
    pub async fn start(&mut self, number: usize) -> io::Result<()> {
        self.nodes[number].start().await
    }

    /// Stops the process of the node `number` where it stands (SIGSTOP).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&self, number: usize) -> io::Result<()> {
        self.nodes[number].pause()
    }

    /// Lets the node `number` go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&self, number: usize) -> io::Result<()> {
        self.nodes[number].resume()
    }
}

/// A transport URL with one host for each of `ports` on 127.0.0.1, for the user `guest` on the virtual host `vhost`.
pub fn url_of(ports: &[u16], vhost: &str) -> String {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("guest:guest@127.0.0.1:{port}"))
        .collect();
    format!("rabbit://{}/{vhost}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_every_host_with_its_credentials() {
        assert_eq!(
            url_of(&[1, 2], "v"),
            "rabbit://guest:guest@127.0.0.1:1,guest:guest@127.0.0.1:2/v"
        );
    }
}
