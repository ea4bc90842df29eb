//! `omsg bench`: measures what a bus and this library carry, at several numbers of callers and sizes of messages.
//!
//! Servers run in a process of their own, so that their CPU time is told apart from the callers'; levels are played in
//! random order and several times, so that a busy machine shows as a spread and not as a finding. What a run gave can be
//! saved and compared with a later one.

mod compare;
mod crew;
mod echo;
mod kind;
mod level;
mod listener;
mod load;
mod play;
mod report;
mod series;
mod server;
mod servers;
mod sweep;
mod table;
mod taken;
mod usage;
mod workload;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hdrhistogram::Histogram;
use oslo_messaging::Transport;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::Output;
use crate::settings::bench::{Bench, BenchServer, Repeated};
use crate::signals::Signals;

pub(crate) use self::kind::{Manner, What};
use self::level::Level;
use self::load::histogram;
use self::play::Player;
use self::report::{Report, write};
use self::series::Collector;
use self::table::{Shown, percentiles};
pub(crate) use self::workload::Size;

/// Runs the command. Done if every operation succeeded and, with an older run to compare with, nothing got worse.
///
/// # Errors
/// The problem to report if the servers cannot start, a file cannot be read or written, or the bus fails at once.
pub(crate) async fn run(settings: Bench, output: &Output) -> Result<Exit, Problem> {
    // An unreadable file is told before minutes are spent.
    let older = settings.compare.as_deref().map(read_report).transpose()?;
    let mut signals = Signals::catch()?;
    let transport = bus::open(settings.url(), settings.options.clone()).await?;
    let measured = measure(&settings, &transport, &mut signals, output).await;
    let was_there = transport.health().connected;
    bus::close(transport).await;
    let swept = tokio::select! {
        _ = signals.next() => Ok(()),
        swept = sweep::sweep(&settings) => swept,
    };
    if let (Err(fault), true) = (swept, was_there) {
        let topic = settings.staff.target.topic_name().unwrap_or_default();
        output.remark(&format!("queues called {topic} may be left: {fault}"));
    }
    let report = measured?;
    output.rows(&report.omsg.levels.iter().map(Shown::of).collect::<Vec<_>>());
    if let Some(file) = &settings.save {
        write(file, &report.to_json()?)?;
        output.remark(&format!("saved as {}", file.display()));
    }
    let worse = older.is_some_and(|older| got_worse(&older, &report, output));
    let failed = report.omsg.levels.iter().any(Level::has_failures);
    Ok(if failed || worse {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// Runs `omsg bench-server`: servers for a load that is made elsewhere.
///
/// # Errors
/// The problem to report if a server cannot start.
pub(crate) async fn run_server(
    settings: BenchServer,
    output: &Arc<Output>,
) -> Result<Exit, Problem> {
    server::run(settings, output).await
}

/// Compares two saved runs, and measures nothing.
///
/// # Errors
/// The problem to report if one of them cannot be read.
pub(crate) fn compare_saved(older: &Path, newer: &Path, output: &Output) -> Result<Exit, Problem> {
    let (older, newer) = (read_report(older)?, read_report(newer)?);
    Ok(match got_worse(&older, &newer, output) {
        true => Exit::Failed,
        false => Exit::Done,
    })
}

/// What the run of this file was asked for.
///
/// # Errors
/// The problem to report if it cannot be read, measured nothing, or cannot be asked for again.
pub(crate) fn repeated(file: &Path) -> Result<Repeated, Problem> {
    read_report(file)?
        .omsg
        .repeated()
        .map_err(|why| Problem::usage(format!("--compare {}: {why}", file.display())))
}

/// Compares with an older run and prints what was found.
fn got_worse(older: &Report, report: &Report, output: &Output) -> bool {
    for difference in report.omsg.differences(&older.omsg) {
        output.remark(&format!("the runs are not alike: {difference}"));
    }
    let findings = compare::compare(older, report);
    if findings.is_empty() {
        output.remark("no level of the older run was measured again: nothing to compare");
    } else {
        output.rows(&findings);
    }
    findings.iter().any(compare::Finding::is_worse)
}

async fn measure(
    settings: &Bench,
    transport: &Transport,
    signals: &mut Signals,
    output: &Output,
) -> Result<Report, Problem> {
    let ended_by = |name| Problem::interrupted(name, "ended before all was measured");
    let collector = Arc::new(Collector::new());
    let mut player = tokio::select! {
        name = signals.next() => return Err(ended_by(name)),
        player = Player::start(settings, transport, &collector) => player?,
    };
    tracing::debug!("the servers are ready, the load begins");
    let ticking = collector.start();
    let mut levels: Vec<Level> = Vec::new();
    for size in &settings.run.sizes {
        levels.extend(
            settings
                .run
                .callers
                .iter()
                .map(|callers| Level::new(settings.run.what, settings.run.manner, *callers, *size)),
        );
    }
    let mut times = vec![histogram(); levels.len()];
    let played = tokio::select! {
        name = signals.next() => Err(ended_by(name)),
        played = play_all(settings, &mut player, (&mut levels, &mut times), output) => played,
    };
    let stopped = tokio::select! {
        // Whoever asks again does not wait for what runs in good order.
        name = signals.next() => Err(ended_by(name)),
        stopped = player.stop() => stopped,
    };
    played.and(stopped)?;
    if let Some(folder) = &settings.histograms {
        write_histograms(folder, &levels, &times)?;
    }
    Ok(Report::new(settings, levels, ticking.finish().await))
}

/// Plays all levels, in random order within each round.
async fn play_all(
    settings: &Bench,
    player: &mut Player<'_>,
    (levels, times): (&mut [Level], &mut [Histogram<u64>]),
    output: &Output,
) -> Result<(), Problem> {
    let each = settings.run.warm_up + settings.run.duration;
    let plays = u32::try_from(levels.len())
        .unwrap_or(u32::MAX)
        .saturating_mul(settings.run.rounds);
    let progress = output.progress(each.saturating_mul(plays));
    let mut played = 0;
    let mut order: Vec<usize> = (0..levels.len()).collect();
    for _ in 0..settings.run.rounds {
        fastrand::shuffle(&mut order);
        for index in &order {
            let level = &mut levels[*index];
            progress.set(&level.title(), each.saturating_mul(played));
            let once = player.play(level).await?;
            level.rounds.push(once.round);
            times[*index] += once.times;
            played += 1;
        }
    }
    Ok(())
}

fn write_histograms(
    folder: &Path,
    levels: &[Level],
    times: &[Histogram<u64>],
) -> Result<(), Problem> {
    for (level, times) in levels.iter().zip(times) {
        // A queue that is emptied has no latencies.
        if !times.is_empty() {
            let file = folder.join(format!("{}.hgrm", level.file_name()));
            write(&file, &percentiles(times))?;
        }
    }
    Ok(())
}

fn read_report(file: &Path) -> Result<Report, Problem> {
    let unusable = |why: String| Problem::usage(format!("{}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|fault| unusable(fault.to_string()))?;
    Report::from_json(&text).map_err(|fault| {
        unusable(format!("no saved run of omsg bench: {fault}"))
            .hint("make one with `omsg bench … --save FILE`")
    })
}
