//! `omsg serve`: answers requests until a signal ends it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::rpc::Interface;
use oslo_messaging::{LegacyRpcAccessPolicy, RpcServer, Transport};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::warn;

use crate::bus;
use crate::desk::{Desk, Served};
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Serve;
use crate::signals::Signals;

/// Requests served and not yet told of; beyond it handlers wait.
const UNTOLD: usize = 1024;
/// One remark and the end.
const NOTES: usize = 2;
/// How long the last lines may take after the server has stopped.
const TELL_LIMIT: Duration = Duration::from_secs(5);

/// The server listens.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    topic: &'a str,
    server: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<&'a str>,
    url: String,
    /// Methods with canned answers; absent for the echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    methods: Option<usize>,
}

impl Record for Ready<'_> {
    fn describe(&self, text: &mut Text) {
        text.good("ready").plain(": ");
        match self.methods {
            None => text.plain("echo"),
            Some(count) => text.plain(format!("answers for {count} methods")),
        };
        text.plain(" on topic ")
            .bold(self.topic)
            .plain(", server ")
            .bold(self.server);
        if let Some(exchange) = self.exchange {
            text.plain(format!(", exchange {exchange}"));
        }
        text.plain(format!(", at {}", self.url));
    }
}

/// The server has stopped.
#[derive(Serialize)]
struct Stopped {
    event: &'static str,
    served: u64,
}

impl Record for Stopped {
    fn describe(&self, text: &mut Text) {
        text.plain(format!("stopped after {} requests", self.served));
    }
}

/// Runs the command. Done when a signal ended it, or the reader of its output went away.
///
/// # Errors
/// The problem to report: the server could not start, or lost its subscription for good.
pub(crate) async fn run(settings: Serve, output: &Arc<Output>) -> Result<Exit, Problem> {
    let mut signals = Signals::catch()?;
    let mut options = settings.options.clone();
    options.transport.rpc_ping_enabled = settings.ping;
    options.transport.rpc_response_timeout = settings.timeout;
    let transport = bus::open(&settings.url, options).await?;
    let served = serve(settings, &transport, &mut signals, output).await;
    match served {
        Ok(End::AtOnce(name)) => {
            let what = "the second signal; what was running is abandoned";
            return Err(Problem::interrupted(name, what));
        }
        Ok(End::Unread) => return Ok(Exit::Failed),
        Ok(End::Done) | Err(_) => bus::close(transport).await,
    }
    served.map(|_| Exit::Done)
}

/// How serving ended.
enum End {
    /// All requests are done, and all is told.
    Done,
    /// All requests are done, but nobody read what was told of them.
    Unread,
    /// By a second signal, of this name.
    AtOnce(&'static str),
}

async fn serve(
    settings: Serve,
    transport: &Transport,
    signals: &mut Signals,
    output: &Arc<Output>,
) -> Result<End, Problem> {
    let mut interface = Interface::new().version(&settings.version);
    if let Some(namespace) = &settings.namespace {
        interface = interface.namespace(namespace);
    }
    let methods = settings.answers.as_ref().map(|answers| answers.len());
    let (served, lines) = mpsc::channel(UNTOLD);
    let starting = RpcServer::builder(transport.clone(), settings.target.clone())
        .endpoint(Desk::new(interface, settings.answers, served))
        .access_policy(LegacyRpcAccessPolicy)
        .concurrency(settings.concurrency)
        .start();
    let server = tokio::select! {
        _ = signals.next() => return Ok(End::Done),
        started = timeout(settings.timeout, starting) => match started {
            Ok(started) => started.map_err(|fault| Problem::of(fault, &settings.url).to(&settings.target))?,
            Err(_) => return Err(bus::not_started(transport, &settings.url).to(&settings.target)),
        },
    };
    output.record(&Ready {
        event: "ready",
        topic: settings.target.topic_name().unwrap_or_default(),
        server: settings.target.server_name().unwrap_or_default(),
        exchange: settings.target.exchange_name(),
        url: settings.url.to_string(),
        methods,
    });
    tell_until_stopped(server, lines, signals, output)
        .await
        .map_err(|fault| Problem::of(fault, &settings.url).to(&settings.target))
}

/// Serves until a signal comes, then until the last request is done. A second signal ends it at once.
async fn tell_until_stopped(
    server: RpcServer,
    lines: mpsc::Receiver<Served>,
    signals: &mut Signals,
    output: &Arc<Output>,
) -> oslo_messaging::Result<End> {
    let (notes, heard) = mpsc::channel(NOTES);
    let mut telling = tell_aside(lines, heard, Arc::clone(output));
    let stop = Notify::new();
    let mut running = pin!(server.run_until(stop.notified()));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut running => {
                ended?;
                break;
            }
            name = signals.next() => {
                if stopping {
                    return Ok(End::AtOnce(name));
                }
                stopping = true;
                let remark = format!("{name}: stopping, running requests may finish; a second signal ends at once");
                // Only a signal brings a remark: there is room for it.
                let _ = notes.try_send(Note::Remark(remark));
                stop.notify_one();
            }
            () = output.closed(), if !stopping => {
                stopping = true;
                stop.notify_one();
            }
        }
    }
    let _ = notes.try_send(Note::End);
    tokio::select! {
        told = timeout(TELL_LIMIT, &mut telling) => match told {
            Ok(_) => Ok(End::Done),
            Err(_) => {
                warn!("standard output is open but nobody reads it: what was served last is not told");
                Ok(End::Unread)
            }
        },
        name = signals.next() => Ok(End::AtOnce(name)),
    }
}

/// What is told between the requests.
enum Note {
    Remark(String),
    /// All is over.
    End,
}

/// Prints on a thread of its own: a reader that stands still must not keep signals from being heard.
fn tell_aside(
    lines: mpsc::Receiver<Served>,
    notes: mpsc::Receiver<Note>,
    output: Arc<Output>,
) -> JoinHandle<()> {
    let runtime = Handle::current();
    spawn_blocking(move || runtime.block_on(tell(lines, notes, &output)))
}

/// Prints what is served and what is noted until the end, or until nobody is left to note it.
async fn tell(mut lines: mpsc::Receiver<Served>, mut notes: mpsc::Receiver<Note>, output: &Output) {
    let mut served = 0;
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Some(Note::Remark(remark)) => output.remark(&remark),
                Some(Note::End) => break,
                None => return,
            },
            Some(line) = lines.recv() => {
                served += 1;
                output.record(&line);
            }
        }
    }
    while let Ok(line) = lines.try_recv() {
        served += 1;
        output.record(&line);
    }
    output.record(&Stopped {
        event: "stopped",
        served,
    });
}
