//! The servers of a run: in a process of their own, in this one, or somebody else's.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oslo_messaging::{RawJson, RpcServer, Transport};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::server::start_servers;
use super::usage::Usage;
use crate::exit::Problem;
use crate::settings::{Bench, BenchServer, Place, URL_OPTION_VARIABLE, URL_VARIABLE};

/// How long the process may take to end in good order.
const ENDING: Duration = Duration::from_secs(10);
/// How long servers may work on what a level left them with, before the next one begins,
const DRAINING: Duration = Duration::from_secs(10);
/// and how often they are looked at: nothing taken between two looks is an empty queue.
const LOOK: Duration = Duration::from_millis(50);

/// Servers at work.
pub(super) enum Servers {
    /// In a process of their own.
    Apart(Box<Apart>),
    /// In this one.
    Here {
        servers: Vec<RpcServer>,
        served: Arc<AtomicU64>,
    },
    /// Somebody else's; nothing is known of what they use.
    Foreign,
}

/// A process with servers.
pub(super) struct Apart {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    patience: Duration,
}

impl Servers {
    /// Starts them, and waits until they listen.
    ///
    /// # Errors
    /// What kept them from starting.
    pub(super) async fn start(settings: &Bench, transport: &Transport) -> Result<Self, Problem> {
        match settings.place {
            Place::Foreign => Ok(Self::Foreign),
            Place::Here => {
                let served = Arc::new(AtomicU64::new(0));
                let own = BenchServer {
                    url: settings.url.clone(),
                    options: settings.options.clone(),
                    target: settings.target.clone(),
                    servers: settings.servers,
                    timeout: settings.timeout,
                };
                let servers = start_servers(transport, &own, &served).await?;
                Ok(Self::Here { servers, served })
            }
            Place::Apart => Ok(Self::Apart(Box::new(Apart::start(settings).await?))),
        }
    }

    /// Whether they use a processor of their own account.
    pub(super) fn are_apart(&self) -> bool {
        matches!(self, Self::Apart(_))
    }

    /// What they have used so far. Servers in this process share its account.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn usage(&mut self) -> Result<Usage, Problem> {
        match self {
            Self::Apart(apart) => apart.usage().await,
            Self::Here { served, .. } => Ok(Usage {
                served: served.load(Ordering::Relaxed),
                ..Usage::default()
            }),
            Self::Foreign => Ok(Usage::default()),
        }
    }

    /// Waits until they have taken what is left of a level, within reason: casts can be sent faster than they are taken.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn drain(&mut self) -> Result<(), Problem> {
        let until = Instant::now() + DRAINING;
        let mut served = self.usage().await?.served;
        while Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            let now = self.usage().await?.served;
            if now == served {
                break;
            }
            served = now;
        }
        Ok(())
    }

    /// Stops them and waits for their end.
    pub(super) async fn stop(self) {
        match self {
            Self::Apart(apart) => apart.stop().await,
            Self::Here { servers, .. } => {
                for server in servers {
                    server.stop_within(ENDING).await;
                }
            }
            Self::Foreign => {}
        }
    }
}

impl Apart {
    async fn start(settings: &Bench) -> Result<Self, Problem> {
        let own = std::env::current_exe()
            .map_err(|fault| Problem::local(format!("this program cannot find itself: {fault}")))?;
        let target = &settings.target;
        let exchange = target.exchange_name().map(|name| ["--exchange", name]);
        let mut child = Command::new(own)
            .arg("bench-server")
            .args(["--topic", target.topic_name().unwrap_or_default()])
            .args(exchange.into_iter().flatten())
            .args(["--servers", &settings.servers.to_string()])
            .args(["--timeout", &settings.timeout.as_secs_f64().to_string()])
            .args(settings.sources.iter().flat_map(|source| source.words()))
            // Not in the words, which all users of the machine can read.
            .env(URL_VARIABLE, settings.url.expose())
            .env(
                URL_OPTION_VARIABLE,
                settings.url.expose().replace('$', "$$"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|fault| {
                Problem::local(format!("the process of the servers cannot start: {fault}"))
            })?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) =
            pipes.ok_or_else(|| Problem::local("the process of the servers has no pipes"))?;
        let mut apart = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            patience: settings.timeout + Duration::from_secs(5),
        };
        match apart.line().await {
            Some(line) if line == "ready" => Ok(apart),
            _ => Err(apart.died().await),
        }
    }

    async fn usage(&mut self) -> Result<Usage, Problem> {
        let asked = self.input.write_all(b"usage\n").await;
        let line = match asked {
            Ok(()) => self.line().await,
            Err(_) => None,
        };
        let usage = line.and_then(|line| RawJson::from_text(line).ok()?.parse().ok());
        match usage {
            Some(usage) => Ok(usage),
            None => Err(self.died().await),
        }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(self.patience, self.output.next_line())
            .await
            .ok()?
            .ok()?
    }

    /// Why it is gone, in its own words.
    async fn died(&mut self) -> Problem {
        let _ = self.child.start_kill();
        let mut words = String::new();
        if let Some(errors) = self.child.stderr.take() {
            // A process that was killed has closed it.
            let _ = timeout(ENDING, errors.take(4096).read_to_string(&mut words)).await;
        }
        let words = words.trim();
        let why = if words.is_empty() {
            "it said nothing"
        } else {
            words
        };
        Problem::local(format!("the process of the servers failed: {why}"))
    }

    async fn stop(self) {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        if timeout(ENDING, child.wait()).await.is_err() {
            // Killed when dropped, and nothing is left to tell.
            let _ = child.start_kill();
        }
    }
}
