//! `omsg demo`: shows on a real bus that everything works, step by step, then under a short load.
//!
//! Three servers and their client share one transport and a topic and exchange of their own; on a broker those vanish
//! with the program. A step that fails does not stop the others, but the command then ends as failed.

mod load;
mod players;

use std::future::Future;
use std::time::{Duration, Instant};

use oslo_messaging::{Context, ErrorKind, RpcClient, Transport};
use serde::Serialize;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Demo;
use crate::time::show_duration;
use crate::values::clean;

use self::players::{NAMES, Stage};

/// How long the call that times out waits.
const IMPATIENT: Duration = Duration::from_millis(300);

/// One thing shown.
#[derive(Serialize)]
struct Step {
    event: &'static str,
    step: &'static str,
    ok: bool,
    detail: String,
    #[serde(serialize_with = "crate::time::millis", rename = "ms")]
    took: Duration,
}

impl Record for Step {
    fn describe(&self, text: &mut Text) {
        if self.ok {
            text.good("  ok  ");
        } else {
            text.bad("FAIL  ");
        }
        text.bold(format!("{:<13}", self.step))
            .dim(format!("{:>8}  ", show_duration(self.took)));
        text.plain(clean(&self.detail));
    }
}

/// How it went.
#[derive(Serialize)]
struct Verdict {
    event: &'static str,
    ok: bool,
    steps: usize,
    failed: usize,
}

impl Record for Verdict {
    fn describe(&self, text: &mut Text) {
        if self.ok {
            text.good(format!("All {} steps worked.", self.steps));
        } else {
            text.bad(format!("{} of {} steps failed.", self.failed, self.steps));
        }
    }
}

#[derive(Serialize)]
struct Sum {
    a: i64,
    b: i64,
}

#[derive(Serialize)]
struct Note<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Node<'a> {
    node: &'a str,
}

/// Runs the command. Done only if every step worked.
///
/// # Errors
/// The problem to report if the servers could not even start.
pub(crate) async fn run(settings: Demo, output: &Output) -> Result<Exit, Problem> {
    let mut options = settings.options.clone();
    options.transport.rpc_response_timeout = settings.timeout;
    // What the demo makes on a broker goes with its last user; only the reply queue, which never does so, is left for
    // the broker to expire.
    options.rabbit.amqp_auto_delete = !options.rabbit.rabbit_quorum_queue;
    let transport = bus::open(&settings.url, options).await?;
    let played = play(&settings, &transport, output).await;
    bus::close(transport).await;
    let steps = played?;
    let failed = steps.iter().filter(|worked| !**worked).count();
    output.record(&Verdict {
        event: "verdict",
        ok: failed == 0,
        steps: steps.len(),
        failed,
    });
    Ok(if failed == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Plays all steps; tells for each whether it worked.
async fn play(
    settings: &Demo,
    transport: &Transport,
    output: &Output,
) -> Result<Vec<bool>, Problem> {
    output.remark(&format!("omsg demo on {}", settings.url));
    let name = format!("omsg-demo-{:08x}", fastrand::u32(..));
    let stage = tokio::time::timeout(settings.timeout, Stage::set(transport, &name)).await;
    let mut stage = match stage {
        Ok(stage) => stage.map_err(|fault| Problem::of(fault, &settings.url))?,
        Err(_) => return Err(bus::not_started(transport, &settings.url)),
    };
    output.remark(&format!("servers {} of topic {name}", NAMES.join(", ")));
    let client =
        RpcClient::new(transport.clone(), stage.target().version("1.0")).timeout(settings.timeout);
    let mut show = Show {
        output,
        worked: Vec::new(),
    };
    play_steps(&mut show, &client, &mut stage, settings.timeout).await;
    let mut worked = show.worked;
    if !settings.load.is_zero() {
        worked.push(play_load(&client, settings.load, output).await);
    }
    stage.clear().await;
    Ok(worked)
}

async fn play_steps(
    show: &mut Show<'_>,
    client: &RpcClient,
    stage: &mut Stage,
    patience: Duration,
) {
    let ctx = Context::new();
    show.step("call", call(client, &ctx)).await;
    show.step("named server", call_named(client, &ctx)).await;
    show.step("cast", cast(client, &ctx, stage, patience)).await;
    show.step("fanout", fan_out(client, &ctx, stage, patience))
        .await;
    show.step("remote error", fail(client, &ctx)).await;
    show.step("timeout", time_out(client, &ctx)).await;
    stage.release();
}

/// Runs steps and prints how each went.
struct Show<'a> {
    output: &'a Output,
    worked: Vec<bool>,
}

impl Show<'_> {
    async fn step(
        &mut self,
        step: &'static str,
        play: impl Future<Output = Result<String, String>>,
    ) {
        let started = Instant::now();
        let played = play.await;
        let took = started.elapsed();
        let (ok, detail) = match played {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        self.output.record(&Step {
            event: "step",
            step,
            ok,
            detail,
            took,
        });
        self.worked.push(ok);
    }
}

async fn call(client: &RpcClient, ctx: &Context) -> Result<String, String> {
    let sum: i64 = client
        .call(ctx, "add", Sum { a: 20, b: 22 })
        .await
        .map_err(told)?;
    expect(sum == 42, format!("add(a=20, b=22) gave {sum}"))
}

async fn call_named(client: &RpcClient, ctx: &Context) -> Result<String, String> {
    let mut answers = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        let answer: String = client
            .prepare()
            .server(name)
            .call(ctx, "who", ())
            .await
            .map_err(told)?;
        answers.push(answer);
    }
    expect(
        answers == NAMES,
        format!("each answered for itself: {}", answers.join(", ")),
    )
}

async fn cast(
    client: &RpcClient,
    ctx: &Context,
    stage: &mut Stage,
    patience: Duration,
) -> Result<String, String> {
    let text = "cast to one";
    client
        .cast(ctx, "note", Note { text })
        .await
        .map_err(told)?;
    let seen = stage.seen(1, patience).await?;
    let note = seen.first().ok_or("nobody saw it")?;
    expect(
        note.text == text,
        format!("{} saw {:?}", note.server, note.text),
    )
}

async fn fan_out(
    client: &RpcClient,
    ctx: &Context,
    stage: &mut Stage,
    patience: Duration,
) -> Result<String, String> {
    let text = "cast to all";
    client
        .prepare()
        .fanout(true)
        .cast(ctx, "note", Note { text })
        .await
        .map_err(told)?;
    let seen = stage.seen(NAMES.len(), patience).await?;
    let mut servers: Vec<&str> = seen
        .iter()
        .filter(|note| note.text == text)
        .map(|note| note.server)
        .collect();
    servers.sort_unstable();
    expect(
        servers == NAMES,
        format!(
            "{} of {} servers saw it: {}",
            servers.len(),
            NAMES.len(),
            servers.join(", ")
        ),
    )
}

async fn fail(client: &RpcClient, ctx: &Context) -> Result<String, String> {
    let answer: oslo_messaging::Result<()> =
        client.call(ctx, "evacuate", Node { node: "node-7" }).await;
    let Err(fault) = answer else {
        return Err("the method should have failed".to_owned());
    };
    let Some(remote) = fault.remote() else {
        return Err(told(fault));
    };
    let expected = remote.class() == "NodeNotFound" && remote.module() == "omsg.demo";
    expect(
        expected,
        format!(
            "{} of {}: {}",
            remote.class(),
            remote.module(),
            remote.message()
        ),
    )
}

async fn time_out(client: &RpcClient, ctx: &Context) -> Result<String, String> {
    let answer: oslo_messaging::Result<()> = client
        .prepare()
        .timeout(IMPATIENT)
        .call(ctx, "hang", ())
        .await;
    match answer {
        Ok(()) => Err("a method that hangs gave an answer".to_owned()),
        Err(fault) if fault.kind() == ErrorKind::Timeout => Ok(format!(
            "a call that hangs ended after {}",
            show_duration(IMPATIENT)
        )),
        Err(fault) => Err(told(fault)),
    }
}

async fn play_load(client: &RpcClient, total: Duration, output: &Output) -> bool {
    let (rows, fault) = load::run(client, total, output).await;
    if !rows.is_empty() {
        output.rows(&rows);
    }
    if let Some(fault) = fault {
        let detail = told(fault);
        output.record(&Step {
            event: "step",
            step: "load",
            ok: false,
            detail,
            took: total,
        });
        return false;
    }
    true
}

fn told(fault: oslo_messaging::Error) -> String {
    fault.to_string()
}

fn expect(right: bool, detail: String) -> Result<String, String> {
    if right { Ok(detail) } else { Err(detail) }
}
