//! The program `growth`: measures how costs grow and draws it.
//!
//! `scripts/growth` runs it. It starts a broker of its own, and for each point a server process and a client process (itself, with
//! the word `worker`), so that CPU time and memory of each are its own.

mod axes;
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
use crate::record::Record;
use crate::stage::Stage;

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

async fn run(arguments: Arguments) -> io::Result<()> {
    let json = arguments.docs.join("plots/growth.json");
    let mut record = Record::read(&json)?;
    if !arguments.redraw {
        let stage = Stage::open().await?;
        record.conditions = stage.conditions().await?;
        let chosen = match arguments.axes.as_slice() {
            [] if arguments.objects => Vec::new(),
            [] => AXES.iter().collect(),
            named => named.to_vec(),
        };
        if arguments.objects || arguments.axes.is_empty() {
            record.objects = objects::objects(&stage, arguments.short).await?;
            record.write(&json)?;
        }
        for axis in chosen {
            let rounds = arguments
                .rounds
                .unwrap_or(if arguments.short { 1 } else { axis.rounds });
            let curve = measure::curve(&stage, axis, rounds.max(1), arguments.short).await?;
            record.curves.insert(axis.name.to_owned(), curve);
            // What is measured is kept, whatever becomes of the rest.
            record.write(&json)?;
        }
    }
    report::write(&arguments.docs, &record)
}
