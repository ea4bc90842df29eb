//! A private RabbitMQ node: a process of its own, ports of its own, data in a temporary folder, gone when dropped.
//!
//! Booting takes about five seconds, so a test that only needs a broker takes a virtual host on the shared one; a
//! private node is for tests that stop, kill, pause or starve their broker.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{
    Guardian, command, find_program, free_port, send_signal, wait_for_exit, wait_until,
};
use crate::rabbit::install::Installation;
use crate::rabbit::{Broker, is_installed};
use crate::skip::skip;

/// More lines for the `rabbitmq.conf` of every node that this run starts.
pub const CONFIG_VARIABLE: &str = "OSLO_TEST_RABBIT_CONFIG";

const BOOT_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether a node has stopped, a millisecond apart.
const PAUSE_LOOKS: u32 = 20_000;
const EPMD_LIMIT: Duration = Duration::from_secs(30);
const COOKIE: &str = ".erlang.cookie";

/// A broker that belongs to one test (or to a whole run); stopped when dropped. Administered through [`Broker`], to
/// which it dereferences.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: processes first, then the guardian, then the folder.
    server: Option<Child>,
    epmd: Arc<Epmd>,
    guardian: Arc<Guardian>,
    broker: Broker,
    ports: Ports,
    folder: TempDir,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
}

/// A name server of Erlang nodes, shared by the nodes of a cluster; killed with the last of them.
#[derive(Debug)]
struct Epmd {
    port: u16,
    process: Child,
    guardian: Arc<Guardian>,
}

impl Drop for Epmd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.guardian.forget("epmd");
    }
}

/// What distinguishes a node from a plain one.
#[derive(Debug)]
pub struct NodeOptions<'a> {
    /// Which RabbitMQ to start; that of the environment by default.
    pub installation: Installation,
    /// More lines for its `rabbitmq.conf`; those of `OSLO_TEST_RABBIT_CONFIG` by default.
    pub config: String,
    /// A node whose cookie and name server it shares, so that both can join one cluster.
    pub beside: Option<&'a Node>,
}

impl Default for NodeOptions<'_> {
    fn default() -> Self {
        Self {
            installation: Installation::of_environment(),
            config: std::env::var(CONFIG_VARIABLE).unwrap_or_default(),
            beside: None,
        }
    }
}

impl Deref for Node {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Whether all threads of a process stand still by a signal.
fn is_stopped(process: u32) -> io::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while it is looked at.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("stat")) else {
            continue;
        };
        // The name in brackets may hold anything.
        let state = text.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|state| state.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Node {
    /// Starts a node and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// When RabbitMQ is not installed or does not come up within three minutes; the text ends with what it printed.
    pub async fn boot() -> io::Result<Self> {
        Self::boot_with(NodeOptions::default()).await
    }

    /// Starts a node of the RabbitMQ that `scripts/setup-rabbitmq` put into the folder `root`. Needs root.
    ///
    /// # Errors
    ///
    /// See [`Node::boot`].
    pub async fn boot_version(root: &Path) -> io::Result<Self> {
        let installation = Installation::in_root(root);
        Self::boot_with(NodeOptions {
            installation,
            ..NodeOptions::default()
        })
        .await
    }

    /// Starts a node as `options` want it and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// See [`Node::boot`].
    pub async fn boot_with(options: NodeOptions<'_>) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("oslo-test-rabbit-")
            .tempdir()?;
        let guardian = Arc::new(Guardian::start(folder.path())?);
        let home = folder.path().join("home");
        fs::create_dir(&home)?;
        let cookie = match options.beside {
            Some(node) => fs::read_to_string(node.broker.home.join(COOKIE))?,
            None => format!("{:032X}", fastrand::u128(..)),
        };
        fs::write(home.join(COOKIE), cookie)?;
        fs::set_permissions(home.join(COOKIE), fs::Permissions::from_mode(0o400))?;
        fs::write(folder.path().join("enabled_plugins"), "[].")?;
        let config = format!("log.console = false\n{}\n", options.config);
        fs::write(folder.path().join("rabbitmq.conf"), config)?;
        let ports = Ports {
            amqp: free_port()?,
            distribution: free_port()?,
        };
        let epmd = match options.beside {
            Some(node) => Arc::clone(&node.epmd),
            None => Arc::new(start_epmd(free_port()?, &guardian).await?),
        };
        let broker = Broker {
            port: ports.amqp,
            node: format!("test{}@localhost", ports.amqp),
            home,
            epmd_port: epmd.port,
            installation: options.installation,
        };
        let mut node = Self {
            server: None,
            epmd,
            guardian,
            broker,
            ports,
            folder,
        };
        node.start().await?;
        Ok(node)
    }

    /// Like [`Node::boot`], or `None` after one line when RabbitMQ is not installed here.
    ///
    /// # Panics
    ///
    /// When it is installed and does not start, and when it is not and `OSLO_TEST_REQUIRE_SERVICES=1`.
    pub async fn boot_or_skip(test: &str) -> Option<Self> {
        if !is_installed() {
            skip(test, "no broker (rabbitmq-server is not installed)");
            return None;
        }
        Some(Self::boot().await.expect("a private broker starts"))
    }

    /// A handle on this broker for other tasks; it does not keep the node alive.
    pub fn broker(&self) -> Broker {
        self.broker.clone()
    }

    /// Whether its process runs (or is paused).
    pub fn has_process(&self) -> bool {
        self.server.is_some()
    }

    /// The process id of the broker, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Starts the node again after [`Node::stop`] or [`Node::kill`], on the same ports and data, and waits until it
    /// takes connections.
    ///
    /// # Errors
    ///
    /// When it does not come up within three minutes.
    pub async fn start(&mut self) -> io::Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let process = self.spawn()?;
        self.guardian.watch("server", process.id())?;
        let server = self.server.insert(process);
        let (broker, port) = (&self.broker, self.ports.amqp);
        let ready = wait_until("start of the broker", BOOT_LIMIT, async || {
            if let Some(status) = server.try_wait()? {
                return Err(io::Error::other(format!("the broker ended with {status}")));
            }
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
                && broker.is_running().await)
        })
        .await;
        ready.map_err(|error| {
            let printed =
                fs::read_to_string(self.folder.path().join("printed")).unwrap_or_default();
            io::Error::new(error.kind(), format!("{error}\n{printed}"))
        })
    }

    /// Stops the node in good order, as an operator would, and waits for its end.
    ///
    /// # Errors
    ///
    /// When it still runs after a minute (it is killed then).
    pub async fn stop(&mut self) -> io::Result<()> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        send_signal(server.id(), Signal::TERM)?;
        let ended = wait_for_exit(server, STOP_LIMIT).await;
        self.kill().await?;
        ended
    }

    /// Kills the node at once (SIGKILL) and waits for its end.
    ///
    /// # Errors
    ///
    /// When it could not be killed.
    pub async fn kill(&mut self) -> io::Result<()> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        server.kill()?;
        wait_for_exit(&mut server, STOP_LIMIT).await?;
        self.guardian.forget("server");
        Ok(())
    }

    /// Stops the node's process where it stands (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When the node does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        // The thread that gets the signal stops the others, and on a busy machine they run until it does.
        let process = self.server.as_ref().map_or(0, Child::id);
        for _ in 0..PAUSE_LOOKS {
            if is_stopped(process)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the broker runs on",
        ))
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When the node does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let server = self
            .server
            .as_ref()
            .ok_or_else(|| io::Error::other("the broker does not run"))?;
        send_signal(server.id(), signal)
    }

    fn spawn(&self) -> io::Result<Child> {
        let folder = self.folder.path();
        let printed = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("printed"))?;
        self.broker
            .installation
            .command("rabbitmq-server", folder)?
            .env("HOME", &self.broker.home)
            .env("RABBITMQ_NODENAME", &self.broker.node)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports.amqp.to_string())
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                folder.join("enabled_plugins"),
            )
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("ERL_EPMD_PORT", self.epmd.port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // With this the start script becomes the broker instead of waiting for it: the process id is the broker's.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(printed.try_clone()?)
            .stderr(printed)
            .spawn()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = self.server.as_mut() {
            let _ = server.kill();
            let _ = server.wait();
            self.guardian.forget("server");
        }
    }
}

/// Starts the node's own name server and waits for it: a node that finds none would start one that stays behind.
async fn start_epmd(port: u16, guardian: &Arc<Guardian>) -> io::Result<Epmd> {
    let program =
        find_program("epmd", &[]).ok_or_else(|| io::Error::other("epmd is not installed"))?;
    let process = command(program)
        .env("ERL_EPMD_PORT", port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // From here on its end is the owner's.
    let epmd = Epmd {
        port,
        process,
        guardian: Arc::clone(guardian),
    };
    guardian.watch("epmd", epmd.process.id())?;
    wait_until("start of epmd", EPMD_LIMIT, async || {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_ok())
    })
    .await?;
    Ok(epmd)
}
