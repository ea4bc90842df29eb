//! The processes of a run, ours and Python's: started, told to end, killed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

const START_LIMIT: Duration = Duration::from_secs(90);
/// A server waits up to a minute for its methods when it is told to end; none of ours takes long.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Whose driver carries the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    Rust,
    Python,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
        }
    }

    /// A process of the traffic of this side, in the role `role` (`serve` or `load`).
    fn command(self, role: &str) -> io::Result<Command> {
        Ok(match self {
            Self::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["peer", role]);
                command
            }
            Self::Python => {
                let mut command = python("load.py")?;
                command.arg(role);
                command
            }
        })
    }
}

fn python(script: &str) -> io::Result<Command> {
    let interpreter = std::env::var_os(PYTHON_VARIABLE).ok_or_else(|| {
        io::Error::other(format!("{PYTHON_VARIABLE} does not name an interpreter"))
    })?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop");
    let mut command = Command::new(interpreter);
    command.arg("-B").arg(folder.join(script));
    Ok(command)
}

/// Rates of the traffic, a second, and the timeout of each operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) calls: f64,
    pub(crate) casts: f64,
    pub(crate) fanouts: f64,
    pub(crate) timeout: Duration,
}

/// One running process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) name: String,
    pub(crate) journal: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
}

impl Player {
    /// Starts the server `name` and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it ends or is not ready in time; its log tells why.
    pub(crate) async fn server(
        peer: Peer,
        url: &str,
        name: &str,
        folder: &Path,
        file: &str,
    ) -> io::Result<Self> {
        let mut command = peer.command("serve")?;
        let journal = folder.join(file);
        command.args([url, name]).arg(&journal);
        Self::start(command, name, journal).await
    }

    /// Starts the client and waits for its first call.
    ///
    /// # Errors
    ///
    /// See [`Player::server`].
    pub(crate) async fn client(
        peer: Peer,
        url: &str,
        rates: Rates,
        folder: &Path,
    ) -> io::Result<Self> {
        let mut command = peer.command("load")?;
        let journal = folder.join("client");
        let seconds = rates.timeout.as_secs_f64();
        command
            .arg(url)
            .arg(&journal)
            .args([rates.calls, rates.casts, rates.fanouts, seconds].map(|n| n.to_string()));
        Self::start(command, "client", journal).await
    }

    /// Starts the prober of the broker at `ports` and waits for its first good look.
    ///
    /// # Errors
    ///
    /// See [`Player::server`].
    pub(crate) async fn prober(
        ports: &[u16],
        login: [&str; 2],
        vhost: &str,
        quorum: bool,
        folder: &Path,
    ) -> io::Result<Self> {
        let mut command = python("prober.py")?;
        let hosts: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let journal = folder.join("prober");
        let kind = if quorum { "quorum" } else { "classic" };
        command
            .arg(hosts.join(","))
            .args(login)
            .args([vhost, kind])
            .arg(&journal);
        Self::start(command, "prober", journal).await
    }

    async fn start(mut command: Command, name: &str, journal: PathBuf) -> io::Result<Self> {
        let log = std::fs::File::create(journal.with_extension("log"))?;
        // There from the start, so that it can be read whatever happens.
        std::fs::File::create(&journal)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let output = output.ok_or_else(|| io::Error::other("the process has no output"))?;
        let ready = timeout(START_LIMIT, BufReader::new(output).lines().next_line()).await;
        if !matches!(&ready, Ok(Ok(Some(line))) if line == "ready") {
            let log = std::fs::read_to_string(journal.with_extension("log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(8).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            return Err(io::Error::other(format!(
                "{name} did not become ready:\n{}",
                tail.join("\n")
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            journal,
            child,
            input,
        })
    }

    /// Its process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Tells it to end, without waiting.
    pub(crate) fn tell_to_end(&mut self) {
        drop(self.input.take());
    }

    /// Tells it to end and waits; kills it when that takes longer than `more` beyond the usual. Says whether it ended
    /// by itself.
    ///
    /// # Errors
    ///
    /// When it could not be killed.
    pub(crate) async fn end(&mut self, more: Duration) -> io::Result<bool> {
        self.tell_to_end();
        let ended = timeout(END_LIMIT + more, self.child.wait()).await;
        if ended.is_err() {
            self.kill().await?;
        }
        Ok(ended.is_ok())
    }

    /// Kills it at once and waits for its end.
    ///
    /// # Errors
    ///
    /// When it could not be killed.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }
}
