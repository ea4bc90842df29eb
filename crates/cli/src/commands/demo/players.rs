//! The servers of the demo, and what they saw.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{Context, IntoFailure, RpcServer, Target, Transport, endpoint};
use tokio::sync::{mpsc, watch};

/// Names of the servers.
pub(super) const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Notes that nobody looked at yet; no step sends more.
const NOTES: usize = 16;

/// A cast that a server saw.
pub(super) struct Seen {
    pub(super) server: &'static str,
    pub(super) text: String,
}

/// The servers, running.
pub(super) struct Stage {
    target: Target,
    servers: Vec<RpcServer>,
    notes: mpsc::Receiver<Seen>,
    release: Arc<watch::Sender<bool>>,
}

impl Stage {
    /// Starts all servers, on an exchange and topic called `name`.
    ///
    /// # Errors
    /// What kept one from starting.
    pub(super) async fn set(transport: &Transport, name: &str) -> oslo_messaging::Result<Self> {
        let target = Target::topic(name).exchange(name);
        let (sender, notes) = mpsc::channel(NOTES);
        let release = Arc::new(watch::Sender::new(false));
        let mut servers = Vec::with_capacity(NAMES.len());
        for name in NAMES {
            let player = Player {
                name,
                notes: sender.clone(),
                release: release.subscribe(),
            };
            let own = target.clone().server(name);
            servers.push(
                RpcServer::builder(transport.clone(), own)
                    .endpoint(player)
                    .start()
                    .await?,
            );
        }
        Ok(Self {
            target,
            servers,
            notes,
            release,
        })
    }

    /// Where they are reached.
    pub(super) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Waits until `count` casts were seen.
    ///
    /// # Errors
    /// How many came, if the others did not in time.
    pub(super) async fn seen(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Seen>, String> {
        let mut seen = Vec::with_capacity(count);
        let all = async {
            while seen.len() < count {
                match self.notes.recv().await {
                    Some(note) => seen.push(note),
                    None => break,
                }
            }
        };
        let in_time = tokio::time::timeout(patience, all).await.is_ok();
        if in_time {
            Ok(seen)
        } else {
            Err(format!("{} of {count} came in time", seen.len()))
        }
    }

    /// Lets the methods that hang go on.
    pub(super) fn release(&self) {
        self.release.send_replace(true);
    }

    /// Stops all servers.
    pub(super) async fn clear(self) {
        self.release();
        for server in self.servers {
            server.stop().await;
        }
    }
}

/// One server's endpoint.
struct Player {
    name: &'static str,
    notes: mpsc::Sender<Seen>,
    release: watch::Receiver<bool>,
}

#[endpoint(version = "1.0")]
impl Player {
    fn add(&self, _ctx: &Context, a: i64, b: i64) -> Result<i64, &'static str> {
        a.checked_add(b).ok_or("the sum is too large")
    }

    fn who(&self, _ctx: &Context) -> &'static str {
        self.name
    }

    async fn note(&self, _ctx: &Context, text: String) -> Result<(), &'static str> {
        let seen = Seen {
            server: self.name,
            text,
        };
        self.notes.send(seen).await.map_err(|_| "the demo is over")
    }

    fn evacuate(&self, _ctx: &Context, node: String) -> Result<(), NodeNotFound> {
        Err(NodeNotFound { node })
    }

    async fn hang(&self, _ctx: &Context) {
        // An error means that the demo is over, which is as good.
        let _ = self.release.clone().wait_for(|released| *released).await;
    }
}

/// The error that the demo raises on purpose.
#[derive(Debug)]
struct NodeNotFound {
    node: String,
}

impl fmt::Display for NodeNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no node is called {}", self.node)
    }
}

impl IntoFailure for NodeNotFound {
    fn module(&self) -> Cow<'_, str> {
        "omsg.demo".into()
    }

    fn is_expected(&self) -> bool {
        true
    }
}
