//! What every measurement needs: a broker, and worker processes on a virtual host of their own.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::rabbit::node::{Node, NodeOptions};
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::usage::cpu_ns;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::worker::{Order, Told};

/// No order takes longer.
const ORDER_LIMIT: Duration = Duration::from_secs(300);
/// What the broker's sockets have towards a network card of 1,500 bytes. Of the loopback device Linux lets it have 2.5 MiB, and
/// RabbitMQ takes a buffer of that size for each connection. The first four lines are RabbitMQ's defaults, which go when others are set.
const SOCKETS: &str = "tcp_listen_options.backlog = 1024
tcp_listen_options.nodelay = true
tcp_listen_options.linger.on = true
tcp_listen_options.linger.timeout = 0
tcp_listen_options.sndbuf = 65536
tcp_listen_options.recbuf = 65536";
/// Memory of the broker's processes counts after each has collected its garbage: what is live, not what is lying about.
const MEMORY: &str =
    "begin [erlang:garbage_collect(P) || P <- erlang:processes()], erlang:memory(total) end";

/// Settings of glibc's allocator that let it keep what was freed.
const KEEPING: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
    ("MALLOC_TRIM_THRESHOLD_", "4294967296"),
];

/// Which process of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that sends.
    Client,
    /// The one that has servers.
    Server,
}

/// Commands under which the workers run, to look into them; nothing is an ordinary run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wrappers {
    /// Program and arguments, with spaces between.
    pub(crate) client: Option<String>,
    /// Likewise.
    pub(crate) server: Option<String>,
}

/// A broker that nobody else uses.
pub(crate) struct Stage {
    node: Node,
    process: u32,
    wrappers: Wrappers,
}

impl Stage {
    /// Starts a broker that takes as many connections as the system lets us open.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn open(wrappers: Wrappers) -> io::Result<Self> {
        // The broker and the workers inherit it.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
        let node = Node::boot_with(NodeOptions {
            config: SOCKETS.to_owned(),
            ..NodeOptions::default()
        })
        .await?;
        let process = node
            .process_id()
            .ok_or_else(|| io::Error::other("the broker has ended"))?;
        Ok(Self {
            node,
            process,
            wrappers,
        })
    }

    /// `program`, under what was asked for this side.
    fn command(&self, side: Side, program: &Path) -> Command {
        let wrapper = match side {
            Side::Client => &self.wrappers.client,
            Side::Server => &self.wrappers.server,
        };
        let mut words = wrapper.iter().flat_map(|words| words.split_whitespace());
        match words.next() {
            None => Command::new(program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
        }
    }

    /// A virtual host of its own.
    pub(crate) async fn vhost(&self, name: &str) -> io::Result<Vhost> {
        self.node.create_vhost(name).await
    }

    /// CPU time of the broker so far, in nanoseconds.
    pub(crate) fn broker_cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(self.process)
    }

    /// Live memory of the broker in bytes.
    pub(crate) async fn broker_memory(&self) -> io::Result<u64> {
        self.node.eval(MEMORY).await
    }

    /// Processes of the broker's runtime.
    pub(crate) async fn broker_processes(&self) -> io::Result<u64> {
        self.node.eval("erlang:system_info(process_count)").await
    }

    /// The port of the broker.
    pub(crate) fn port(&self) -> u16 {
        self.node.port()
    }

    /// Where this is measured, in words.
    pub(crate) async fn conditions(&self) -> io::Result<String> {
        let cores = std::thread::available_parallelism()?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().next().unwrap_or("?").to_owned();
        Ok(format!(
            "RabbitMQ {} on loopback, {cores} cores, load average {load} at the start, at most {} open files a process",
            self.node.version().await?,
            getrlimit(Resource::Nofile)
                .current
                .map_or_else(|| "any".to_owned(), |most| most.to_string()),
        ))
    }
}

/// A worker process; killed when dropped.
pub(crate) struct Worker {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    process: Child,
}

impl Worker {
    /// Starts one and lets it make `transports` transports to `url`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn start(
        stage: &Stage,
        side: Side,
        url: &str,
        transports: u64,
    ) -> io::Result<Self> {
        let mut command = stage.command(side, &std::env::current_exe()?);
        command.arg("worker");
        Self::spawn(command, url, transports).await
    }

    /// As [`Worker::start`], with an allocator that gives no memory back to the system: pages are fresh only once.
    ///
    /// # Errors
    /// As [`Worker::start`].
    pub(crate) async fn start_keeping(
        stage: &Stage,
        side: Side,
        url: &str,
        transports: u64,
    ) -> io::Result<Self> {
        let mut command = stage.command(side, &std::env::current_exe()?);
        command.arg("worker").envs(KEEPING);
        Self::spawn(command, url, transports).await
    }

    /// As [`Worker::start`], on Python's oslo.messaging.
    ///
    /// # Errors
    /// As [`Worker::start`], and without its environment.
    pub(crate) async fn start_reference(url: &str, transports: u64) -> io::Result<Self> {
        let python = std::env::var_os(PYTHON_VARIABLE)
            .ok_or_else(|| io::Error::other(format!("{PYTHON_VARIABLE} is not set")))?;
        let mut command = Command::new(python);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference.py");
        command.args(["-W", "ignore", "-B"]).arg(script);
        Self::spawn(command, url, transports).await
    }

    async fn spawn(mut command: Command, url: &str, transports: u64) -> io::Result<Self> {
        let mut process = command
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::Error::other("the worker has no pipes"));
        };
        let output = BufReader::new(output).lines();
        let mut worker = Self {
            input,
            output,
            process,
        };
        let url = url.to_owned();
        worker.tell(Order::Connect { url, transports }).await?;
        Ok(worker)
    }

    /// Gives an order and waits until it is carried out.
    ///
    /// # Errors
    /// When it could not be, or not in time.
    pub(crate) async fn tell(&mut self, order: Order) -> io::Result<Told> {
        self.input
            .write_all(format!("{}\n", serde_json::to_string(&order)?).as_bytes())
            .await?;
        let line = timeout(ORDER_LIMIT, self.output.next_line()).await;
        let line = line.map_err(|_| io::Error::other(format!("{order:?} took too long")))??;
        let line =
            line.ok_or_else(|| io::Error::other(format!("the worker ended at {order:?}")))?;
        let told: Told = serde_json::from_str(&line)?;
        match told.error {
            Some(error) => Err(io::Error::other(format!("{order:?}: {error}"))),
            None => Ok(told),
        }
    }

    /// Lets it end in good order.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn end(mut self) -> io::Result<()> {
        drop(self.input);
        match timeout(ORDER_LIMIT, self.process.wait()).await {
            Ok(status) => status.map(drop),
            Err(_) => Err(io::Error::other("a worker did not end")),
        }
    }
}
