//! One run: a fault under traffic of one side, from the start of its processes to what they wrote.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oslo_messaging_testkit::process::connected_ports;
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::cluster::url_of;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use tokio::time::sleep;

use crate::analysis::{Outcome, Seen, Served, judge};
use crate::fault::Fault;
use crate::journal::{now, read};
use crate::peer::TOPIC;
use crate::players::{Peer, Player, Rates};
use crate::stage::{Stage, Topology};

/// Traffic before the fault.
const BEFORE: Duration = Duration::from_secs(4);
/// Traffic after it has ended.
const AFTER: Duration = Duration::from_secs(15);
const PASSWORD: &str = "of-the-suite";

/// What a fault can touch.
pub(crate) struct Scene<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) peer: Peer,
    pub(crate) vhost_name: String,
    pub(crate) url: String,
    pub(crate) proxies: Vec<Proxy>,
    /// The first is the one that may be killed.
    pub(crate) servers: Vec<Player>,
    pub(crate) folder: PathBuf,
    user: Option<String>,
    client: Player,
    prober: Player,
    /// Ports the traffic connects to, node by node.
    ports: Vec<u16>,
}

/// What is done in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) fault: Fault,
    pub(crate) peer: Peer,
    pub(crate) topology: Topology,
    pub(crate) rates: Rates,
}

/// Does it, with the files of its processes in `folder`.
///
/// # Errors
///
/// When processes or brokers do not do as told, which is no verdict on the driver.
pub(crate) async fn run(plan: Plan, stage: &mut Stage, folder: &Path) -> io::Result<Outcome> {
    stage.repair().await?;
    let mut scene = Scene::set(plan, stage, folder).await?;
    sleep(BEFORE).await;
    let struck = plan.fault.strike(&mut scene).await;
    // Whatever happened, processes end in good order and the virtual host goes.
    if struck.is_ok() {
        sleep(AFTER).await;
    }
    let end = now();
    let seen = scene.clear(plan.rates.timeout, end).await;
    let fault = struck?;
    let mut seen = seen?;
    seen.fault = fault;
    Ok(judge(plan, &seen))
}

impl<'a> Scene<'a> {
    async fn set(plan: Plan, stage: &'a mut Stage, folder: &Path) -> io::Result<Self> {
        let name = format!("{}-{}", plan.fault.name(), plan.peer.name());
        let vhost = stage.broker(0).create_vhost(&name).await?;
        let mut proxies = Vec::new();
        let mut ports = stage.ports();
        if plan.fault.needs_proxy() {
            for port in &mut ports {
                let proxy = Proxy::start(*port).await?;
                *port = proxy.port();
                proxies.push(proxy);
            }
        }
        let user = plan
            .fault
            .needs_user()
            .then(|| format!("user-of-{}", vhost.name()));
        let mut url = url_of(&ports, vhost.name());
        if let Some(user) = &user {
            let broker = stage.broker(0);
            broker.create_user(user, PASSWORD).await?;
            vhost.set_permissions(user, ".*", ".*", ".*").await?;
            url = url.replace("guest:guest@", &format!("{user}:{PASSWORD}@"));
        }
        url.push_str(plan.topology.query());
        let login = [
            user.as_deref().unwrap_or("guest"),
            if user.is_some() { PASSWORD } else { "guest" },
        ];
        let (one, two) = tokio::try_join!(
            Player::server(plan.peer, &url, "one", folder, "one"),
            Player::server(plan.peer, &url, "two", folder, "two"),
        )?;
        let client = Player::client(plan.peer, &url, plan.rates, folder).await?;
        let led = lead(plan, stage, &vhost, node_of(&client, &ports)?).await?;
        // The prober makes its queue at the first of its hosts: where the topic's queue is led, too.
        let mut hosts = ports.clone();
        hosts.rotate_left(led);
        let quorum = plan.topology == Topology::Cluster;
        let prober = Player::prober(&hosts, login, vhost.name(), quorum, folder).await?;
        Ok(Self {
            stage,
            peer: plan.peer,
            vhost_name: vhost.name().to_owned(),
            url,
            proxies,
            servers: vec![one, two],
            folder: folder.to_path_buf(),
            user,
            client,
            prober,
            ports,
        })
    }

    /// The node that holds most connections of the client; the first where the client holds none.
    ///
    /// # Errors
    ///
    /// When the client has ended.
    pub(crate) fn node_of_client(&self) -> io::Result<usize> {
        node_of(&self.client, &self.ports)
    }

    /// The virtual host, seen through a node that runs.
    pub(crate) fn vhost(&self) -> Vhost {
        self.stage.broker(0).vhost(&self.vhost_name)
    }

    /// Closes all connections on all nodes.
    ///
    /// # Errors
    ///
    /// When a node cannot be reached.
    pub(crate) async fn close_connections(&self) -> io::Result<()> {
        for number in 0..self.ports.len() {
            let vhost = self.stage.broker(number).vhost(&self.vhost_name);
            vhost.close_connections("closed by the fault suite").await?;
        }
        Ok(())
    }

    /// Deletes all queues with names that are `wanted`.
    ///
    /// # Errors
    ///
    /// When there is none: the fault would be no fault.
    pub(crate) async fn delete_queues(&self, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let vhost = self.vhost();
        let mut found = 0;
        for queue in vhost.queues().await? {
            if wanted(&queue.name) {
                vhost.delete_queue(&queue.name).await?;
                found += 1;
            }
        }
        if found == 0 {
            return Err(io::Error::other("there is no queue to delete"));
        }
        Ok(())
    }

    /// Deletes the user of the traffic.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn delete_user(&self) -> io::Result<()> {
        let user = self.user.as_deref().unwrap_or_default();
        self.stage.broker(0).delete_user(user).await
    }

    /// Makes the user of the traffic again.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn make_user(&self) -> io::Result<()> {
        let user = self.user.as_deref().unwrap_or_default();
        self.stage.broker(0).create_user(user, PASSWORD).await?;
        self.allow_user().await
    }

    /// Lets the user of the traffic, if it has one, use the virtual host.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn allow_user(&self) -> io::Result<()> {
        match &self.user {
            Some(user) => self.vhost().set_permissions(user, ".*", ".*", ".*").await,
            None => Ok(()),
        }
    }

    /// Ends all processes, the client first, and reads what they wrote.
    async fn clear(mut self, patience: Duration, end: u64) -> io::Result<Seen> {
        self.client.end(patience).await?;
        self.prober.tell_to_end();
        let mut ends = Vec::new();
        for server in &mut self.servers {
            server.tell_to_end();
        }
        for server in &mut self.servers {
            ends.push(server.end(Duration::ZERO).await?);
        }
        self.prober.end(Duration::ZERO).await?;
        let mut servers = Vec::new();
        for (number, server) in self.servers.iter().enumerate() {
            servers.push(Served {
                name: server.name.clone(),
                killed: number == 0 && self.servers.len() > 2,
                entries: read(&server.journal)?,
            });
        }
        let seen = Seen {
            client: read(&self.client.journal)?,
            servers,
            probes: read(&self.prober.journal)?,
            fault: (end, end),
            end,
            timeout: patience,
        };
        // Best effort: the next run has a virtual host of its own.
        let _ = self.vhost().delete().await;
        if let Some(user) = &self.user {
            let _ = self.stage.broker(0).delete_user(user).await;
        }
        Ok(seen)
    }
}

fn node_of(client: &Player, ports: &[u16]) -> io::Result<usize> {
    let ended = || io::Error::other("the client has ended early");
    let open = connected_ports(client.pid().ok_or_else(ended)?)?;
    let count = |number: &usize| open.iter().filter(|used| **used == ports[*number]).count();
    // Of equal ones the last would win; the first is as good and easier to follow.
    Ok((0..ports.len()).rev().max_by_key(count).unwrap_or(0))
}

/// Which node leads the queue of the topic. Where the node `struck` is going to be paused, another one is made to lead:
/// a queue with a paused leader serves nobody, and the run would say nothing of the driver.
async fn lead(plan: Plan, stage: &Stage, vhost: &Vhost, struck: usize) -> io::Result<usize> {
    if plan.topology == Topology::Single {
        return Ok(0);
    }
    let names: Vec<String> = (0..stage.ports().len())
        .map(|number| stage.broker(number).node_name().to_owned())
        .collect();
    let leader = vhost.queue_leader(TOPIC).await?;
    let unknown = || io::Error::other(format!("{leader} is no node of the cluster"));
    let led = names.iter().position(|name| *name == leader);
    let led = led.ok_or_else(unknown)?;
    if plan.fault != Fault::Pause || led != struck {
        return Ok(led);
    }
    let other = (struck + 1) % names.len();
    vhost.move_leader(TOPIC, &names[other]).await?;
    Ok(other)
}
