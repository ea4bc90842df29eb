//! A run: what is measured, of whom, in which order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use crate::args::{Args, Peer};
use crate::broker::Broker;
use crate::child::{Child, Programs, Start};
use crate::protocol::{Command, Done, Part, What};
use crate::report::{self, Setting};
use crate::series::{Book, Sample};
use crate::usage::Usage;
use crate::{goals, machine};

mod once;
mod rounds;

/// How long work may take beyond what it was ordered to.
const PATIENCE: Duration = Duration::from_secs(60);
/// Callers warm up for this share of the window.
const WARM: f64 = 0.3;

/// A run that is under way.
pub(crate) struct Stage {
    args: Args,
    broker: Broker,
    programs: Programs,
    pub(crate) book: Book,
    /// What went wrong.
    problems: Vec<String>,
    topics: u32,
}

/// A server and a client of one peer.
struct Pair {
    part: Part,
    server: Child,
    client: Child,
}

/// Runs, reports, and tells by the exit status: 0 all was measured, 1 some was not, 2 it cannot run here.
pub(crate) fn main(args: Args) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(fault) => Err(format!("no runtime: {fault}")),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench-peers: {why}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: Args) -> Result<bool, String> {
    let broker = Broker::find()?;
    let programs = programs()?;
    let python = versions(&programs.python).await?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    fastrand::seed(seed);
    let before = machine::load_average();
    let started = Instant::now();
    let version = broker
        .version()
        .unwrap_or_else(|| "of unknown version".to_owned());
    eprintln!("bench-peers: RabbitMQ {version}, {python}, seed {seed}, load average {before}");
    let mut stage = Stage {
        args,
        broker,
        programs,
        book: Book::default(),
        problems: Vec::new(),
        topics: 0,
    };
    for round in 0..stage.args.rounds() {
        eprintln!(
            "bench-peers: round {} of {}, after {:.0?}",
            round + 1,
            stage.args.rounds(),
            started.elapsed()
        );
        stage.round(round).await;
    }
    stage.once().await;
    let setting = Setting {
        machine: machine::description(),
        rabbitmq: version,
        python,
        load_before: before,
        seed,
        rounds: stage.args.rounds(),
        seconds: stage.args.seconds(),
        short: stage.args.short,
        commit: stage.args.commit.clone(),
        took: started.elapsed(),
    };
    let verdicts = goals::verdicts(&stage.book);
    let text = report::markdown(&stage.book, &verdicts, &setting, &stage.problems);
    println!("{text}");
    if let Some(file) = &stage.args.json {
        report::save(&stage.book, &verdicts, &setting, file)?;
    }
    if let Some(file) = stage.args.writes() {
        report::write_between_markers(file, &text)?;
    }
    Ok(stage.problems.is_empty())
}

impl Stage {
    /// A topic of its own for each measurement.
    fn part(&mut self, servers: u32) -> Part {
        self.topics += 1;
        let topic = format!("bench-{}-{}", std::process::id(), self.topics);
        Part {
            topic,
            servers,
            query: String::new(),
        }
    }

    fn start<'a>(&'a self, peer: Peer, role: &'static str, part: &'a Part) -> Start<'a> {
        Start {
            peer,
            role,
            part,
            url: &self.broker.url,
            counting: false,
        }
    }

    async fn child(&self, peer: Peer, role: &'static str, part: &Part) -> Result<Child, String> {
        Child::start(&self.programs, self.start(peer, role, part)).await
    }

    async fn pair(&mut self, peer: Peer, servers: u32) -> Result<Pair, String> {
        let part = self.part(servers);
        self.pair_of(peer, part).await
    }

    async fn pair_of(&self, peer: Peer, part: Part) -> Result<Pair, String> {
        let server = self.child(peer, "server", &part).await?;
        let client = self.child(peer, "client", &part).await?;
        Ok(Pair {
            part,
            server,
            client,
        })
    }

    /// Ends both, and removes what they leave.
    async fn end(&self, pair: Pair) {
        pair.client.stop().await;
        pair.server.stop().await;
        self.broker
            .forget(&pair.part.topic, pair.part.servers)
            .await;
    }

    /// Writes down what a measurement came to.
    fn note(&mut self, row: &str, peer: Peer, round: u32, outcome: Result<Sample, String>) {
        match outcome {
            Ok(sample) => {
                let rate = sample
                    .get("rate")
                    .map_or(String::new(), |rate| format!(" {rate:.0}/s"));
                let cpu = sample
                    .get("cpu")
                    .map_or(String::new(), |cpu| format!(", CPU {cpu:.1} µs"));
                eprintln!("  {row:<24} {:<8}{rate}{cpu}", peer.name());
                self.book.add(row, peer, round, sample);
            }
            Err(why) => {
                eprintln!("  {row:<24} {:<8} FAILED: {why}", peer.name());
                self.problems.push(format!("{row}, {}: {why}", peer.name()));
            }
        }
    }

    /// Callers at work for a window, seen from all sides.
    async fn load(
        &self,
        pair: &mut Pair,
        what: What,
        callers: u32,
        bytes: usize,
    ) -> Result<Sample, String> {
        let seconds = self.args.seconds();
        let warm = seconds * WARM;
        pair.client
            .order(&Command::Load {
                what,
                callers,
                bytes,
                warm,
                seconds,
            })
            .await?;
        pair.client
            .began(Duration::from_secs_f64(warm) + PATIENCE)
            .await?;
        let (broker, server) = (self.broker.cpu(), pair.server.usage().await?);
        let done = pair
            .client
            .done(Duration::from_secs_f64(seconds) + PATIENCE)
            .await?;
        let server = pair.server.usage().await?.since(server);
        let broker = self.broker.cpu() - broker;
        let done = whole(done)?;
        let mut sample = client_side(&done);
        server_side(&mut sample, &server, server.served.max(1) as f64);
        sample.insert("cpu", sample["client_cpu"] + sample["server_cpu"]);
        sample.insert("broker_cpu", broker / done.operations as f64);
        Ok(sample)
    }

    /// Waits until a server has taken what is left for it.
    async fn settle(&self, server: &mut Child) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut served = server.usage().await?.served;
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = server.usage().await?.served;
            if now == served {
                return Ok(());
            }
            served = now;
        }
        Err("the server has not taken all after a minute".to_owned())
    }
}

/// A piece of work that succeeded altogether.
fn whole(done: Done) -> Result<Done, String> {
    if done.failed > 0 {
        let fault = done.fault.as_deref().unwrap_or("without a word");
        return Err(format!(
            "{} of {} failed: {fault}",
            done.failed,
            done.failed + done.operations
        ));
    }
    if done.operations == 0 || done.seconds <= 0.0 {
        return Err("nothing was done".to_owned());
    }
    Ok(done)
}

/// What the client's side of a piece of work came to, each operation.
fn client_side(done: &Done) -> Sample {
    let operations = done.operations as f64;
    let mut sample = Sample::from([
        ("operations", operations),
        ("rate", operations / done.seconds),
        ("p50", done.p50),
        ("p99", done.p99),
        ("client_cpu", done.used.cpu / operations),
        ("client_switches", done.used.switches() / operations),
        ("client_rss", mebibytes(done.used.rss)),
        ("client_connections", done.used.connections as f64),
        ("client_threads", done.used.threads as f64),
    ]);
    if let Some(allocations) = done.used.allocations {
        sample.insert("client_allocations", allocations as f64 / operations);
    }
    sample
}

/// The server's side, each message it took.
fn server_side(sample: &mut Sample, used: &Usage, served: f64) {
    sample.insert("server_cpu", used.cpu / served);
    sample.insert("server_switches", used.switches() / served);
    sample.insert("server_rss", mebibytes(used.rss));
    sample.insert("server_connections", used.connections as f64);
    sample.insert("server_threads", used.threads as f64);
    if let Some(allocations) = used.allocations {
        sample.insert("server_allocations", allocations as f64 / served);
    }
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn programs() -> Result<Programs, String> {
    let own = std::env::current_exe()
        .map_err(|fault| format!("this program cannot find itself: {fault}"))?;
    let counting = own.with_file_name("bench-peers-counting");
    let named = std::env::var_os("OSLO_TEST_PYTHON")
        .map(PathBuf::from)
        .filter(|path| path.is_file());
    let python = named.ok_or(
        "no Python with oslo.messaging: OSLO_TEST_PYTHON names no interpreter. scripts/bench-peers makes one, and \
         everything else that is needed",
    )?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer.py");
    if !script.is_file() {
        return Err(format!(
            "{} is gone; this program runs from its checkout only",
            script.display()
        ));
    }
    Ok(Programs {
        own,
        counting: Some(counting).filter(|path| path.is_file()),
        python,
        script,
    })
}

/// Versions of Python and oslo.messaging.
async fn versions(python: &Path) -> Result<String, String> {
    const ASK: &str = "import platform, importlib.metadata as m; \
                       print('Python', platform.python_version(), 'with oslo.messaging', m.version('oslo.messaging'))";
    let mut command = tokio::process::Command::new(python);
    command.args(["-c", ASK]).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    match output {
        Ok(Ok(output)) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Err(format!(
            "{} has no oslo.messaging; scripts/setup-test-services installs it",
            python.display()
        )),
    }
}
