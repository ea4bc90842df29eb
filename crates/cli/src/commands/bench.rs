//! `omsg bench`: measures what a bus and this library carry, at several numbers of callers and sizes of messages.
//!
//! Servers run in a process of their own, so that their CPU time is told apart from the callers'; levels are played in
//! random order and several times, so that a busy machine shows as a spread and not as a finding. What a run gave can be
//! saved and compared with a later one.

mod compare;
mod load;
mod report;
mod series;
mod server;
mod servers;
mod usage;
mod workload;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{RpcClient, Transport};

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::Output;
use crate::settings::{Bench, BenchServer};

use self::load::Order;
use self::report::{Level, Report, Round, Shown};
use self::series::Collector;
use self::servers::Servers;
use self::usage::Usage;
use self::workload::Workload;
pub(crate) use self::workload::{Size, What};

/// Runs the command. Done if every operation succeeded and, with an older run to compare with, nothing got worse.
///
/// # Errors
/// The problem to report if the servers cannot start, a file cannot be read or written, or the bus fails at once.
pub(crate) async fn run(settings: Bench, output: &Output) -> Result<Exit, Problem> {
    // An unreadable file is told before minutes are spent.
    let older = settings.compare.as_deref().map(read_report).transpose()?;
    let mut options = settings.options.clone();
    options.transport.rpc_response_timeout = settings.timeout;
    options.rabbit.amqp_auto_delete = !options.rabbit.rabbit_quorum_queue;
    let transport = bus::open(&settings.url, options).await?;
    let measured = measure(&settings, &transport, output).await;
    bus::close(transport).await;
    let report = measured?;
    output.rows(&report.omsg.levels.iter().map(Shown::of).collect::<Vec<_>>());
    if let Some(file) = &settings.save {
        write(file, &report.to_json()?)?;
        output.remark(&format!("saved as {}", file.display()));
    }
    let mut worse = false;
    if let Some(older) = older {
        let findings = compare::compare(&older, &report);
        worse = findings.iter().any(compare::Finding::is_worse);
        if findings.is_empty() {
            output.remark("no level of the older run was measured again: nothing to compare");
        } else {
            output.rows(&findings);
        }
    }
    let failed = report.omsg.levels.iter().any(Level::has_failures);
    Ok(if failed || worse {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// Runs the hidden command behind it: servers for another process of ours, until standard input ends.
///
/// # Errors
/// The problem to report if a server cannot start.
pub(crate) async fn run_server(settings: BenchServer, output: &Output) -> Result<Exit, Problem> {
    server::run(settings, output).await
}

async fn measure(
    settings: &Bench,
    transport: &Transport,
    output: &Output,
) -> Result<Report, Problem> {
    let mut servers = Servers::start(settings, transport).await?;
    let client =
        RpcClient::new(transport.clone(), settings.target.clone()).timeout(settings.timeout);
    let mut levels: Vec<Level> = Vec::new();
    for size in &settings.sizes {
        levels.extend(
            settings
                .callers
                .iter()
                .map(|callers| Level::new(settings.what, *callers, *size)),
        );
    }
    let each = settings.warm_up + settings.duration;
    let plays = u32::try_from(levels.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(settings.rounds);
    let progress = output.progress(each * plays);
    let collector = Arc::new(Collector::new());
    let ticking = collector.start();
    let mut played = 0;
    let mut order: Vec<usize> = (0..levels.len()).collect();
    for _ in 0..settings.rounds {
        fastrand::shuffle(&mut order);
        for index in &order {
            let level = &mut levels[*index];
            progress.set(&level.title(), each * played);
            let round = play(settings, level, &client, &mut servers, &collector).await;
            match round {
                Ok(round) => level.rounds.push(round),
                Err(problem) => {
                    servers.stop().await;
                    return Err(problem);
                }
            }
            played += 1;
        }
    }
    drop(progress);
    servers.stop().await;
    Ok(Report::new(settings, levels, ticking.finish().await))
}

/// Plays one level once.
async fn play(
    settings: &Bench,
    level: &Level,
    client: &RpcClient,
    servers: &mut Servers,
    collector: &Arc<Collector>,
) -> Result<Round, Problem> {
    let order = Order {
        what: settings.what,
        callers: level.callers,
        workload: Arc::new(Workload::new(level.size)),
        rate: settings.rate,
        collector: Arc::clone(collector),
    };
    let mut load = order.start(client);
    tokio::time::sleep(settings.warm_up).await;
    let before = (Usage::of_process(), servers.usage().await?);
    load.begin();
    tokio::time::sleep(settings.duration).await;
    let counted = load.end(settings.timeout + Duration::from_secs(1)).await;
    let after = (Usage::of_process(), servers.usage().await?);
    servers.drain().await?;
    if counted.operations() == 0
        && let Some(fault) = counted.first_fault
    {
        return Err(bus::judge(
            fault,
            client.transport(),
            &settings.url,
            (counted.began, settings.timeout),
        ));
    }
    if let Some(folder) = &settings.histograms {
        let file = folder.join(format!("{}.hgrm", level.file_name()));
        write(&file, &report::percentiles(&counted.times))?;
    }
    Ok(Round::of(
        &counted,
        after.0.since(before.0),
        after.1.since(before.1),
        servers.are_apart(),
    ))
}

fn read_report(file: &Path) -> Result<Report, Problem> {
    let unusable = |why: String| Problem::usage(format!("--compare {}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|fault| unusable(fault.to_string()))?;
    Report::from_json(&text).map_err(|fault| {
        unusable(format!("no saved run of omsg bench: {fault}"))
            .hint("make one with `omsg bench … --save FILE`")
    })
}

fn write(file: &Path, text: &str) -> Result<(), Problem> {
    fs::write(file, text)
        .map_err(|fault| Problem::local(format!("{} cannot be written: {fault}", file.display())))
}
