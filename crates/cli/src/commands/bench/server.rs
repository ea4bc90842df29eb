//! What answers the load: an endpoint with the method of the reference's simulator, and the process it runs in.
//!
//! `omsg bench` starts this process and talks to it by lines: the process says `ready` when its servers listen, answers
//! each line with what it has used so far, and ends when its standard input does.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oslo_messaging::driver::BoxFuture;
use oslo_messaging::rpc::{Interface, Invocation, MethodInfo, ReplyBody};
use oslo_messaging::{Context, Endpoint, RemoteError, RpcServer, Transport};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::load::now;
use super::usage::Usage;
use super::workload::{Info, Message};
use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::BenchServer;

/// Requests that one server works on at once.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not zero");

/// How long a server may work on what it has begun when the run is over.
const STOPPING: Duration = Duration::from_secs(2);

/// Counts and echoes.
pub(super) struct Echo {
    pub(super) served: Arc<AtomicU64>,
}

impl Endpoint for Echo {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    /// `info` carries the load; with the other two the reference's simulator says that it begins and ends.
    fn method(&self, name: &str) -> Option<MethodInfo> {
        matches!(name, "info" | "sync_start" | "sync_done").then(MethodInfo::exposed)
    }

    fn call<'a>(
        &'a self,
        _ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            if call.method() != "info" {
                return call.respond(&());
            }
            self.served.fetch_add(1, Ordering::Relaxed);
            let Info {
                message: (number, content, sent, _, _),
            }: Info<Cow<'_, str>> = call.parse_args()?;
            let answer: Message<&str> = (number, content.as_ref(), sent, now(), 0.0);
            call.respond(&answer)
        })
    }
}

/// Starts the servers on this transport, all counting into `served`.
///
/// # Errors
/// What kept one from starting.
pub(super) async fn start_servers(
    transport: &Transport,
    settings: &BenchServer,
    served: &Arc<AtomicU64>,
) -> Result<Vec<RpcServer>, Problem> {
    let mut servers = Vec::new();
    for number in 1..=settings.servers {
        let own = settings.target.clone().server(format!("server-{number}"));
        let echo = Echo {
            served: Arc::clone(served),
        };
        let starting = RpcServer::builder(transport.clone(), own)
            .endpoint(echo)
            .concurrency(AT_ONCE)
            .start();
        match timeout(settings.timeout, starting).await {
            Ok(started) => {
                servers.push(started.map_err(|fault| Problem::of(fault, &settings.url))?)
            }
            Err(_) => return Err(bus::not_started(transport, &settings.url)),
        }
    }
    Ok(servers)
}

/// What the process says.
struct Said(String);

impl serde::Serialize for Said {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Record for Said {
    fn describe(&self, text: &mut Text) {
        text.plain(&self.0);
    }
}

/// Serves until standard input ends.
///
/// # Errors
/// What kept a server from starting.
pub(super) async fn run(settings: BenchServer, output: &Output) -> Result<Exit, Problem> {
    let mut options = settings.options.clone();
    options.transport.rpc_response_timeout = settings.timeout;
    options.rabbit.amqp_auto_delete = !options.rabbit.rabbit_quorum_queue;
    let transport = bus::open(&settings.url, options).await?;
    let served = Arc::new(AtomicU64::new(0));
    let servers = match start_servers(&transport, &settings, &served).await {
        Ok(servers) => servers,
        Err(problem) => {
            bus::close(transport).await;
            return Err(problem);
        }
    };
    output.record(&Said("ready".to_owned()));
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    // A line that cannot be read ends it as well.
    while let Ok(Some(_)) = asked.next_line().await {
        let usage = Usage {
            served: served.load(Ordering::Relaxed),
            ..Usage::of_process()
        };
        let line = oslo_messaging::proto::json::ser::to_string(&usage)
            .map_err(|fault| Problem::local(format!("what was used cannot be told: {fault}")))?;
        output.record(&Said(line));
    }
    for server in servers {
        server.stop_within(STOPPING).await;
    }
    bus::close(transport).await;
    Ok(Exit::Done)
}
