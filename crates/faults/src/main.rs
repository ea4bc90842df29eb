//! omsg-faults: breaks RabbitMQ nodes of its own under traffic, and tells what the traffic noticed.
//!
//! `scripts/faults` builds and runs it. Each run is one fault, one side (this driver on both ends, or Python's) and one
//! topology; the traffic of both sides is the same. Exit status: 0 when this driver met every goal, 1 when it missed
//! one, 2 when a run could not be done.

mod analysis;
mod fault;
mod journal;
mod peer;
mod players;
mod report;
mod run;
mod soak;
mod stage;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::analysis::Outcome;
use crate::fault::Fault;
use crate::players::{Peer, Rates};
use crate::run::Plan;
use crate::stage::{Stage, Topology};

#[derive(Debug, Parser)]
#[command(
    name = "omsg-faults",
    version,
    about = "Breaks a RabbitMQ under traffic and counts what the traffic noticed"
)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Only this fault; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<Fault>,
    /// Whose driver carries the traffic
    #[arg(long, value_enum, default_value = "both")]
    peer: Peers,
    /// Three nodes with quorum queues instead of one node
    #[arg(long)]
    cluster: bool,
    /// Writes the table to this file, and JSON beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keeps the journals and logs of all processes in this folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Calls a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Timeout of a call in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// Instead of faults: steady traffic for so long (`90s`, `30m`, `2h`), connections lost every minute
    #[arg(long, value_name = "TIME", value_parser = time)]
    soak: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A process of the traffic; the suite starts these
    #[command(hide = true, subcommand)]
    Peer(Part),
}

#[derive(Debug, Subcommand)]
enum Part {
    Serve(peer::Serve),
    Load(peer::Load),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Peers {
    Rust,
    Python,
    Both,
}

impl Peers {
    fn each(self) -> &'static [Peer] {
        match self {
            Self::Rust => &[Peer::Rust],
            Self::Python => &[Peer::Python],
            Self::Both => &[Peer::Rust, Peer::Python],
        }
    }
}

/// `90s`, `30m`, `2h`, or a number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.trim_end_matches(['s', 'm', 'h']) {
        digits if digits.len() + 1 >= text.len() => (digits, &text[digits.len()..]),
        _ => return Err("one unit is enough: 90s, 30m, 2h".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "takes a number and s, m or h".to_owned())?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("omsg-faults: {error}");
            return ExitCode::from(2);
        }
    };
    let code = match runtime.block_on(act(args)) {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(error) => {
            eprintln!("omsg-faults: {error}");
            ExitCode::from(2)
        }
    };
    // What a hung operation left behind must not keep the process.
    runtime.shutdown_background();
    code
}

async fn act(args: Args) -> Result<bool, Box<dyn std::error::Error>> {
    match args.role {
        Some(Role::Peer(Part::Serve(serve))) => peer::serve(serve).await.map(|()| true),
        Some(Role::Peer(Part::Load(load))) => peer::load(load).await.map(|()| true),
        None if args.soak.is_some() => soak_all(&args).await.map_err(Into::into),
        None => suite(&args).await.map_err(Into::into),
    }
}

/// Runs all that was asked for. Says whether this driver met every goal.
async fn suite(args: &Args) -> io::Result<bool> {
    let topology = if args.cluster {
        Topology::Cluster
    } else {
        Topology::Single
    };
    let mut faults = Fault::of(topology);
    if !args.only.is_empty() {
        faults.clone_from(&args.only);
    }
    let folder = Folder::of(args)?;
    let mut stage = Stage::set(topology).await?;
    let version = stage.broker(0).version().await?;
    eprintln!("omsg-faults: RabbitMQ {version}, {}", topology.name());
    let (mut outcomes, mut undone) = (Vec::<Outcome>::new(), 0);
    for fault in faults {
        for peer in args.peer.each() {
            let plan = Plan {
                fault,
                peer: *peer,
                topology,
                rates: rates(args),
            };
            let place = folder.make(&format!("{}-{}", fault.name(), peer.name()))?;
            eprintln!(
                "omsg-faults: {}, {}: {}",
                fault.name(),
                peer.name(),
                fault.about()
            );
            match run::run(plan, &mut stage, &place).await {
                Ok(outcome) => {
                    eprintln!("omsg-faults: {}", report::goals(&outcome));
                    outcomes.push(outcome);
                }
                Err(error) => {
                    undone += 1;
                    eprintln!("omsg-faults: {} was not done: {error}", fault.name());
                }
            }
            // After every run, so that an interrupted suite has something to show.
            if let Some(out) = &args.out {
                report::write(out, &outcomes)?;
            }
        }
    }
    println!("{}", report::markdown(&outcomes));
    if undone > 0 {
        return Err(io::Error::other(format!("{undone} runs could not be done")));
    }
    let ours = outcomes.iter().filter(|one| one.peer == Peer::Rust.name());
    let missed: Vec<&Outcome> = ours.filter(|one| !one.is_good()).collect();
    for one in &missed {
        println!("{}: {}", one.fault, report::goals(one));
        for error in &one.errors {
            println!("    {error}");
        }
    }
    Ok(missed.is_empty())
}

async fn soak_all(args: &Args) -> io::Result<bool> {
    let folder = Folder::of(args)?;
    let length = args.soak.unwrap_or_default();
    let mut good = true;
    let mut verdicts = Vec::new();
    for peer in args.peer.each() {
        let place = folder.make(&format!("soak-{}", peer.name()))?;
        let verdict = soak::soak(*peer, length, rates(args), &place).await?;
        println!("{}", verdict.markdown());
        good &= *peer != Peer::Rust || verdict.is_good();
        verdicts.push(verdict);
    }
    if let Some(out) = &args.out {
        let text: Vec<String> = verdicts.iter().map(soak::Verdict::markdown).collect();
        std::fs::write(out, text.join("\n"))?;
        let json = serde_json::to_string_pretty(&verdicts)?;
        std::fs::write(out.with_extension("json"), json + "\n")?;
    }
    Ok(good)
}

fn rates(args: &Args) -> Rates {
    Rates {
        calls: args.rate,
        casts: 0.0,
        fanouts: 5.0,
        timeout: Duration::try_from_secs_f64(args.timeout).unwrap_or(Duration::from_secs(10)),
    }
}

/// Where the files of all processes go: a folder that is kept, or one that goes with the program.
struct Folder {
    path: PathBuf,
    _own: Option<tempfile::TempDir>,
}

impl Folder {
    fn of(args: &Args) -> io::Result<Self> {
        Ok(match &args.keep {
            Some(path) => Self {
                path: path.clone(),
                _own: None,
            },
            None => {
                let own = tempfile::Builder::new().prefix("omsg-faults-").tempdir()?;
                Self {
                    path: own.path().to_path_buf(),
                    _own: Some(own),
                }
            }
        })
    }

    /// An empty folder for one run.
    fn make(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_unit() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(time("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "m", "1mm", "1hs", "x"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;

        Args::command().debug_assert();
    }
}
