//! The program `growth`: measures how costs grow and draws it.
//!
//! `scripts/growth` runs it. It starts a broker of its own, and for each point a server process and a client process (itself, with
//! the word `worker`), so that CPU time and memory of each are its own.

mod axes;
mod crossing;
mod fit;
mod measure;
mod objects;
mod plot;
mod record;
mod region;
mod report;
mod stage;
mod usage;
mod worker;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::axes::{AXES, Axis};
use crate::measure::Plan;
use crate::plot::quantity;
use crate::record::Record;
use crate::stage::{Stage, Wrappers};

/// Measures how costs grow, and draws it.
#[derive(Parser)]
struct Arguments {
    /// What to let grow: calls, servers, fanout, payload, transports; all if none is named
    #[arg(value_parser = axis)]
    axes: Vec<&'static Axis>,
    /// Measures what objects and agents cost the broker; alone only that
    #[arg(long)]
    objects: bool,
    /// Fewer points and rounds: some two minutes instead of some ten
    #[arg(long)]
    short: bool,
    /// Measures each point so often
    #[arg(long)]
    rounds: Option<usize>,
    /// The folder of the documents that are written
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// Only at these points of the axes, whose costs are printed; writes nothing
    #[arg(long, value_delimiter = ',')]
    at: Vec<u64>,
    /// With --at: a command the clients run under, as `strace -f -c` or `perf stat -e page-faults`
    #[arg(long, value_name = "COMMAND", requires = "at")]
    client: Option<String>,
    /// With --at: likewise for the servers
    #[arg(long, value_name = "COMMAND", requires = "at")]
    server: Option<String>,
    /// Measures nothing: draws and writes again what is in growth.json
    #[arg(long)]
    redraw: bool,
    #[command(subcommand)]
    internal: Option<Internal>,
}

#[derive(Subcommand)]
enum Internal {
    /// One side of a measurement; the program starts it itself
    #[command(hide = true)]
    Worker,
}

fn axis(name: &str) -> Result<&'static Axis, String> {
    let found = AXES.iter().find(|axis| axis.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
        format!("expected {}", names.join(", "))
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.internal {
        Some(Internal::Worker) => worker::run().await,
        None => run(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    /// What is to grow.
    fn chosen(&self) -> Vec<&'static Axis> {
        match self.axes.as_slice() {
            [] if self.objects => Vec::new(),
            [] => AXES.iter().collect(),
            named => named.to_vec(),
        }
    }

    fn plan(&self, axis: &Axis) -> Plan {
        // A short run is content with half the operations.
        let (points, rounds, share) = match self.short {
            true => (axis.short, 1, 2),
            false => (axis.points, axis.rounds, 1),
        };
        Plan {
            points: points.to_vec(),
            rounds: self.rounds.unwrap_or(rounds).max(1),
            share,
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let docs = arguments.docs.clone();
    let json = docs.join("plots/growth.json");
    let mut record = Record::read(&json)?;
    if arguments.redraw {
        return report::write(&docs, &record);
    }
    if !arguments.at.is_empty() {
        return look(arguments).await;
    }
    let mut stage = Stage::open(Wrappers::default()).await?;
    record.conditions = stage.conditions().await?;
    let mut faults = Vec::new();
    if arguments.objects || arguments.axes.is_empty() {
        objects::objects(&stage, arguments.short, &mut record.objects, &mut faults).await;
        record.write(&json)?;
    }
    for axis in arguments.chosen() {
        match measure::curve(&stage, axis, &arguments.plan(axis), &mut faults).await {
            Ok(curve) => {
                record.curves.insert(axis.name.to_owned(), curve);
            }
            Err(fault) => {
                faults.push(format!("{}: given up: {fault}", axis.name));
                // The rest has a broker that works, or none.
                match Stage::open(Wrappers::default()).await {
                    Ok(opened) => stage = opened,
                    Err(fault) => {
                        faults.push(format!("no broker for the rest: {fault}"));
                        break;
                    }
                }
            }
        }
        // What is measured is kept, whatever becomes of the rest.
        record.write(&json)?;
    }
    report::write(&docs, &record)?;
    match faults.as_slice() {
        [] => Ok(()),
        faults => Err(io::Error::other(format!(
            "what could be measured is written; failed:\n{}",
            faults.join("\n")
        ))),
    }
}

/// Measures single points, maybe under another program, and prints what they cost.
async fn look(arguments: Arguments) -> io::Result<()> {
    let stage = Stage::open(Wrappers {
        client: arguments.client.clone(),
        server: arguments.server.clone(),
    })
    .await?;
    for axis in arguments.chosen() {
        let plan = Plan {
            points: arguments.at.clone(),
            ..arguments.plan(axis)
        };
        let mut faults = Vec::new();
        let curve = measure::curve(&stage, axis, &plan, &mut faults).await?;
        for point in curve.points {
            println!("{} {}", axis.name, point.x);
            for (key, cost) in point.costs {
                println!("  {key:<24} {}", quantity(cost, false));
            }
        }
    }
    Ok(())
}
