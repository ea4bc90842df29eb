//! The faults: what each does to the brokers, the network and the processes of a run.

use std::io;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::sleep;

use crate::journal::now;
use crate::players::Player;
use crate::run::Scene;
use crate::stage::Topology;

/// How long a paused broker is paused.
const PAUSE: Duration = Duration::from_secs(20);
/// How long other states of a fault last.
const WHILE: Duration = Duration::from_secs(5);
/// How long the link is slow.
const SLOW: Duration = Duration::from_secs(10);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// The broker is stopped in good order and started again (in a cluster: the node the client is on)
    Restart,
    /// kill -9 of the node the client is on, which is started again
    Kill,
    /// SIGSTOP of the node the client is on, for 20 seconds
    Pause,
    /// The broker closes every connection
    CloseConnections,
    /// The client's reply queue is deleted
    ReplyQueue,
    /// The queue of the topic is deleted
    TopicQueue,
    /// The fanout queues of both servers are deleted
    FanoutQueue,
    /// The exchange of calls and the one of fanouts are deleted
    Exchange,
    /// Memory alarm for 5 seconds: the broker blocks all who publish
    MemoryAlarm,
    /// Every TCP connection is reset
    TcpCut,
    /// Packets of the connections open now are dropped for good; new connections work
    HalfOpen,
    /// All packets are dropped for 5 seconds, then go on
    DroppedPackets,
    /// 10 seconds of 100 ms delay each way and 200 kB/s
    SlowLink,
    /// The virtual host is deleted, and made again after 2 seconds
    Vhost,
    /// The user is deleted, and made again after 5 seconds
    Credentials,
    /// One of two servers is killed with work in hand; a new one starts after 3 seconds
    ServerKilled,
}

impl Fault {
    /// All that make sense there, in the order of the table.
    pub(crate) fn of(topology: Topology) -> Vec<Self> {
        let everywhere = |fault: &Self| {
            matches!(
                fault,
                Self::Restart
                    | Self::Kill
                    | Self::Pause
                    | Self::CloseConnections
                    | Self::ReplyQueue
                    | Self::TopicQueue
                    | Self::FanoutQueue
                    | Self::HalfOpen
                    | Self::ServerKilled
            )
        };
        let all = Self::value_variants().iter().copied();
        all.filter(|fault| topology == Topology::Single || everywhere(fault))
            .collect()
    }

    /// Its name, as the command line takes it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What it does, in a sentence.
    pub(crate) fn about(self) -> String {
        let value = self.to_possible_value();
        value
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// Whether it needs a proxy between the traffic and the brokers.
    pub(crate) fn needs_proxy(self) -> bool {
        matches!(
            self,
            Self::TcpCut | Self::HalfOpen | Self::DroppedPackets | Self::SlowLink
        )
    }

    /// Whether it needs a user that can be deleted.
    pub(crate) fn needs_user(self) -> bool {
        matches!(self, Self::Credentials)
    }

    /// Makes it happen and, where it ends, end; gives its begin and end.
    ///
    /// # Errors
    ///
    /// When the brokers do not do as told.
    pub(crate) async fn strike(self, scene: &mut Scene<'_>) -> io::Result<(u64, u64)> {
        let used = scene.node_of_client()?;
        let begin = now();
        match self {
            Self::Restart => {
                scene.stage.stop(used).await?;
                scene.stage.start(used).await?;
            }
            Self::Kill => {
                scene.stage.kill(used).await?;
                scene.stage.start(used).await?;
            }
            Self::Pause => {
                scene.stage.freeze(used, true)?;
                sleep(PAUSE).await;
                scene.stage.freeze(used, false)?;
            }
            Self::CloseConnections => scene.close_connections().await?,
            Self::ReplyQueue => {
                scene
                    .delete_queues(|name| name.starts_with("reply_"))
                    .await?
            }
            Self::TopicQueue => {
                scene
                    .delete_queues(|name| name == crate::peer::TOPIC)
                    .await?
            }
            Self::FanoutQueue => {
                let fanouts = format!("{}_fanout", crate::peer::TOPIC);
                scene
                    .delete_queues(|name| name.starts_with(&fanouts))
                    .await?;
            }
            Self::Exchange => {
                let vhost = scene.vhost();
                vhost.delete_exchange("openstack").await?;
                let fanouts = format!("{}_fanout", crate::peer::TOPIC);
                vhost.delete_exchange(&fanouts).await?;
            }
            Self::MemoryAlarm => {
                scene.stage.broker(used).memory_alarm(true).await?;
                sleep(WHILE).await;
                scene.stage.broker(used).memory_alarm(false).await?;
            }
            Self::TcpCut => scene.proxies.iter().for_each(|proxy| proxy.cut()),
            Self::HalfOpen => scene.proxies.iter().for_each(|proxy| proxy.forsake()),
            Self::DroppedPackets => {
                scene.proxies.iter().for_each(|proxy| proxy.pause());
                sleep(WHILE).await;
                scene.proxies.iter().for_each(|proxy| proxy.resume());
            }
            Self::SlowLink => {
                let set = |delay, bandwidth| {
                    for proxy in &scene.proxies {
                        proxy.delay(delay);
                        proxy.bandwidth(bandwidth);
                    }
                };
                set(Duration::from_millis(100), 200_000);
                sleep(SLOW).await;
                set(Duration::ZERO, 0);
            }
            Self::Vhost => {
                scene.vhost().delete().await?;
                sleep(Duration::from_secs(2)).await;
                scene
                    .stage
                    .broker(used)
                    .add_vhost(&scene.vhost_name)
                    .await?;
                scene.allow_user().await?;
            }
            Self::Credentials => {
                scene.delete_user().await?;
                sleep(WHILE).await;
                scene.make_user().await?;
            }
            Self::ServerKilled => {
                scene.servers[0].kill().await?;
                sleep(Duration::from_secs(3)).await;
                let next =
                    Player::server(scene.peer, &scene.url, "one", &scene.folder, "one-again");
                let next = next.await?;
                scene.servers.push(next);
            }
        }
        Ok((begin, now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_and_a_sentence() {
        for fault in Fault::of(Topology::Single) {
            assert!(
                !fault.name().is_empty() && fault.about().len() > 20,
                "{fault:?}"
            );
        }
        assert!(Fault::of(Topology::Cluster).len() < Fault::of(Topology::Single).len());
    }
}
