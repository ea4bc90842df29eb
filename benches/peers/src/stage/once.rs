//! Rows that are played once, after the rounds.
//!
//! *more*: a client that has done calls by 64 callers opens ten further transports and uses each; the growth of its resident
//! memory, divided by the growth of its TCP connections. *cold*: from the start of a process that makes one call to its end.
//! *syscalls*: `perf stat` counts those of both processes for a second of a window. *allocations*: the same program on an
//! allocator that counts. *frames*: client and server each reach the broker through a relay that counts methods by their
//! headers. *flight*: 10,000 calls whose handlers wait; resident memory with them less that before, less the payload.
//! *idle*: voluntary context switches of all threads of processes that have done calls and have nothing to do; with
//! heartbeats off, what is left is beyond heartbeats.

use std::process::Stdio;
use std::time::{Duration, Instant};

use oslo_messaging_testkit::process::find_program;
use oslo_messaging_testkit::usage::{status, wakeups};

use crate::args::Peer::{self, Amqprs, Lapin, Ours, OursOne, Python};
use crate::args::Row;
use crate::child::{Child, Start};
use crate::machine;
use crate::protocol::{Command, What};
use crate::relay::Relay;
use crate::series::Sample;
use crate::stage::{PATIENCE, Pair, Stage, whole};

const IN_FLIGHT: u64 = 10_000;
/// Payload of a call in flight.
const BYTES: usize = 100;

impl Stage {
    pub(super) async fn once(&mut self) {
        if self.args.wants(Row::More) {
            for peer in self.args.among(&Peer::ALL) {
                let outcome = self.more(peer).await;
                self.note("more", peer, 0, outcome);
            }
        }
        if self.args.wants(Row::Syscalls) {
            for peer in self.args.among(&Peer::ALL) {
                let outcome = self.syscalls(peer).await;
                self.note("syscalls", peer, 0, outcome);
            }
            for peer in self.args.among(&[Lapin, Amqprs, Ours, OursOne]) {
                let outcome = self.allocations(peer).await;
                self.note("allocations", peer, 0, outcome);
            }
        }
        if self.args.wants(Row::Frames) {
            for peer in self.args.among(&Peer::ALL) {
                let outcome = self.frames(peer).await;
                self.note("frames", peer, 0, outcome);
            }
        }
        if self.args.wants(Row::Flight) && !self.args.among(&[Ours]).is_empty() {
            let outcome = self.flight().await;
            self.note("flight", Ours, 0, outcome);
        }
        if self.args.wants(Row::Cold) {
            self.cold().await;
        }
        if self.args.wants(Row::Idle) {
            self.idle().await;
        }
    }

    async fn more(&mut self, peer: Peer) -> Result<Sample, String> {
        const TRANSPORTS: u32 = 10;
        let mut pair = self.pair(peer, 1).await?;
        let outcome = async {
            burst(&mut pair, 64, 3_000).await?;
            let before = pair.client.usage().await?;
            let after = pair
                .client
                .used(
                    &Command::More {
                        transports: TRANSPORTS,
                    },
                    PATIENCE * 2,
                )
                .await?;
            let grown = after.rss.saturating_sub(before.rss) as f64 / 1024.0;
            let connections = after.connections.saturating_sub(before.connections);
            if connections == 0 {
                return Err("further transports opened no connections".to_owned());
            }
            Ok(Sample::from([
                ("rss_per_connection", grown / connections as f64),
                ("rss_per_transport", grown / f64::from(TRANSPORTS)),
            ]))
        }
        .await;
        self.end(pair).await;
        outcome
    }

    async fn syscalls(&mut self, peer: Peer) -> Result<Sample, String> {
        if find_program("perf", &[]).is_none() {
            return Err("perf is not installed".to_owned());
        }
        let mut pair = self.pair(peer, 1).await?;
        let outcome = async {
            let (warm, seconds) = (0.5, 2.5);
            let load = Command::Load {
                what: What::Call,
                callers: 64,
                bytes: BYTES,
                warm,
                seconds,
            };
            pair.client.order(&load).await?;
            pair.client.began(PATIENCE).await?;
            let (client, server) =
                tokio::join!(count_syscalls(&pair.client), count_syscalls(&pair.server));
            let done = whole(pair.client.done(PATIENCE).await?)?;
            let rate = done.operations as f64 / done.seconds;
            let (client, server) = (client? / rate, server? / rate);
            Ok(Sample::from([
                ("rate", rate),
                ("client_syscalls", client),
                ("server_syscalls", server),
                ("syscalls", client.max(server)),
            ]))
        }
        .await;
        self.end(pair).await;
        outcome
    }

    async fn allocations(&mut self, peer: Peer) -> Result<Sample, String> {
        if self.programs.counting.is_none() {
            return Err("bench-peers-counting is not built".to_owned());
        }
        let part = self.part(1);
        let start = |role| Start {
            counting: true,
            ..self.start(peer, role, &part)
        };
        let server = Child::start(&self.programs, start("server")).await?;
        let client = Child::start(&self.programs, start("client")).await?;
        let mut pair = Pair {
            part,
            server,
            client,
        };
        let outcome = self.load(&mut pair, What::Call, 64, BYTES).await;
        self.end(pair).await;
        let mut sample = outcome?;
        let of = |figure| {
            sample
                .get(figure)
                .copied()
                .ok_or("the processes do not count")
        };
        let larger = of("client_allocations")?.max(of("server_allocations")?);
        sample.insert("allocations", larger);
        Ok(sample)
    }

    async fn frames(&mut self, peer: Peer) -> Result<Sample, String> {
        let explain = |fault: std::io::Error| format!("no relay: {fault}");
        let (for_client, for_server) = (
            Relay::start(self.broker.port).await.map_err(explain)?,
            Relay::start(self.broker.port).await.map_err(explain)?,
        );
        let part = self.part(1);
        let server_url = for_server.url(&self.broker.url);
        let client_url = for_client.url(&self.broker.url);
        let server = Start {
            url: &server_url,
            ..self.start(peer, "server", &part)
        };
        let server = Child::start(&self.programs, server).await?;
        let client = Start {
            url: &client_url,
            ..self.start(peer, "client", &part)
        };
        let client = Child::start(&self.programs, client).await?;
        let mut pair = Pair {
            part,
            server,
            client,
        };
        let outcome = async {
            let load = Command::Load {
                what: What::Call,
                callers: 16,
                bytes: BYTES,
                warm: 1.0,
                seconds: 2.0,
            };
            pair.client.order(&load).await?;
            pair.client.began(PATIENCE).await?;
            let before = (for_client.passed(), for_server.passed());
            let done = whole(pair.client.done(PATIENCE).await?)?;
            let after = (for_client.passed(), for_server.passed());
            let operations = done.operations as f64;
            let acks = after.0.acks - before.0.acks + after.1.acks - before.1.acks;
            let publishes =
                after.0.publishes - before.0.publishes + after.1.publishes - before.1.publishes;
            let (client, server) = (after.0.connections as f64, after.1.connections as f64);
            Ok(Sample::from([
                ("rate", operations / done.seconds),
                ("acks", acks as f64 / operations),
                ("publishes", publishes as f64 / operations),
                ("client_relayed", client),
                ("server_relayed", server),
                ("connections", client.max(server)),
            ]))
        }
        .await;
        self.end(pair).await;
        outcome
    }

    async fn flight(&mut self) -> Result<Sample, String> {
        let mut part = self.part(1);
        part.query = format!("executor_thread_pool_size={IN_FLIGHT}");
        let mut pair = self.pair_of(Ours, part).await?;
        let outcome = self.fly(&mut pair).await;
        self.end(pair).await;
        outcome
    }

    async fn fly(&self, pair: &mut Pair) -> Result<Sample, String> {
        const WARM: u64 = 3_000;
        burst(pair, 64, WARM).await?;
        let before = (resident(&pair.client)?, resident(&pair.server)?);
        pair.client
            .order(&Command::Hold {
                count: IN_FLIGHT,
                bytes: BYTES,
            })
            .await?;
        let awaiting = Command::Await {
            count: WARM + IN_FLIGHT,
            limit: 60.0,
        };
        let served = pair.server.used(&awaiting, PATIENCE * 2).await?.served;
        if served < WARM + IN_FLIGHT {
            return Err(format!(
                "{} of {IN_FLIGHT} calls reached the server in a minute",
                served.saturating_sub(WARM)
            ));
        }
        let after = (resident(&pair.client)?, resident(&pair.server)?);
        let of = |child: &Child| machine::connections(id(child), self.broker.port) as f64;
        let connections = (of(&pair.client), of(&pair.server));
        pair.server.used(&Command::Release, PATIENCE).await?;
        let done = whole(pair.client.done(PATIENCE * 3).await?)?;
        if done.operations != IN_FLIGHT {
            return Err(format!(
                "{} of {IN_FLIGHT} calls were answered",
                done.operations
            ));
        }
        let each = |before: f64, after: f64| {
            ((after - before) / IN_FLIGHT as f64 - BYTES as f64 / 1024.0).max(0.0)
        };
        let (client, server) = (each(before.0, after.0), each(before.1, after.1));
        Ok(Sample::from([
            ("connections", connections.0.max(connections.1)),
            ("client_kib", client),
            ("server_kib", server),
            ("kib_per_call", client.max(server)),
        ]))
    }

    /// Both kinds of process in turn, against the same server.
    async fn cold(&mut self) {
        let part = self.part(1);
        let mut server = match self.child(Ours, "server", &part).await {
            Ok(server) => server,
            Err(why) => return self.note("cold", Ours, 0, Err(why)),
        };
        let runs = if self.args.short { 5 } else { 15 };
        for peer in self.args.among(&[Python, Ours]) {
            let mut times = Vec::new();
            let mut fault = None;
            // The first loads the files.
            for run in 0..=runs {
                match self.call_once(peer, &part.topic).await {
                    Ok(took) if run > 0 => times.push(took.as_secs_f64() * 1e3),
                    Ok(_) => {}
                    Err(why) => fault = Some(why),
                }
            }
            times.sort_by(f64::total_cmp);
            let sample = match (fault, times.first(), times.get(times.len() / 2)) {
                (None, Some(fastest), Some(median)) => Ok(Sample::from([
                    ("milliseconds", *median),
                    ("fastest", *fastest),
                ])),
                (fault, ..) => Err(fault.unwrap_or_else(|| "nothing was measured".to_owned())),
            };
            self.note("cold", peer, 0, sample);
        }
        let served = server.usage().await;
        if served.is_ok_and(|usage| usage.served == 0) {
            self.note(
                "cold",
                Ours,
                0,
                Err("the server was never called".to_owned()),
            );
        }
        server.stop().await;
        self.broker.forget(&part.topic, 1).await;
    }

    /// From the start of a process to its end, a call later.
    async fn call_once(&self, peer: Peer, topic: &str) -> Result<Duration, String> {
        let value = "x".repeat(BYTES);
        let mut command = if peer == Python {
            let part = format!(r#"{{"topic": "{topic}", "servers": 1, "query": ""}}"#);
            let mut command = tokio::process::Command::new(&self.programs.python);
            command.arg(&self.programs.script).args(["once", &part]);
            command
        } else {
            let omsg = self
                .args
                .omsg
                .as_ref()
                .ok_or("--omsg does not say where the program is")?;
            let mut command = tokio::process::Command::new(omsg);
            command.args(["call", topic, "echo", &format!("value={value}")]);
            command
        };
        command
            .env(crate::protocol::URL_VARIABLE, &self.broker.url)
            .env("OSLO_TRANSPORT_URL", &self.broker.url);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let began = Instant::now();
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let took = began.elapsed();
        match output {
            Ok(Ok(output)) if String::from_utf8_lossy(&output.stdout).contains(&value) => Ok(took),
            Ok(Ok(output)) => Err(format!(
                "no answer: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err("no answer in a minute".to_owned()),
        }
    }

    /// All that shall be idle is so at the same time.
    async fn idle(&mut self) {
        let mut pairs = Vec::new();
        for peer in self.args.among(&[Python, Ours]) {
            for query in ["heartbeat_timeout_threshold=0", ""] {
                let mut part = self.part(1);
                part.query = query.to_owned();
                let started = async {
                    let mut pair = self.pair_of(peer, part).await?;
                    burst(&mut pair, 16, 500).await.map(|()| pair)
                };
                match started.await {
                    Ok(pair) => pairs.push((peer, query.is_empty(), pair)),
                    Err(why) => self.note("idle", peer, 0, Err(why)),
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let seconds = if self.args.short { 8.0 } else { 30.0 };
        let count = |child: &Child| wakeups(id(child)).unwrap_or_default() as f64;
        let before: Vec<_> = pairs
            .iter()
            .map(|(.., pair)| (count(&pair.client), count(&pair.server)))
            .collect();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let mut samples: Vec<(Peer, Sample)> = Vec::new();
        for ((peer, heartbeats, pair), (client, server)) in pairs.iter().zip(before) {
            let (client, server) = (
                (count(&pair.client) - client) / seconds,
                (count(&pair.server) - server) / seconds,
            );
            if !samples.iter().any(|(known, _)| known == peer) {
                samples.push((*peer, Sample::new()));
            }
            for (_, sample) in samples.iter_mut().filter(|(known, _)| known == peer) {
                if *heartbeats {
                    sample.extend([("with_heartbeats", server), ("client_wakeups", client)]);
                } else {
                    sample.insert("wakeups", server);
                }
            }
        }
        for (.., pair) in pairs {
            self.end(pair).await;
        }
        for (peer, sample) in samples {
            self.note("idle", peer, 0, Ok(sample));
        }
    }
}

/// Calls that warm both sides up.
async fn burst(pair: &mut Pair, callers: u32, count: u64) -> Result<(), String> {
    pair.client
        .order(&Command::Burst {
            what: What::Call,
            callers,
            bytes: BYTES,
            count,
        })
        .await?;
    whole(pair.client.done(PATIENCE).await?).map(|_| ())
}

/// Its process id; 0, which no process has, once it has ended.
fn id(child: &Child) -> u32 {
    child.id().unwrap_or_default()
}

/// Resident memory, in KiB.
fn resident(child: &Child) -> Result<f64, String> {
    let kib = status(id(child), "VmRSS:").map_err(|fault| fault.to_string())?;
    Ok(kib as f64)
}

/// System calls a second of a process, counted for one.
async fn count_syscalls(child: &Child) -> Result<f64, String> {
    let process = child.id().ok_or("a process has gone")?.to_string();
    let mut command = tokio::process::Command::new("perf");
    command.args([
        "stat",
        "-x",
        ",",
        "-e",
        "raw_syscalls:sys_enter",
        "-p",
        &process,
        "--",
        "sleep",
        "1",
    ]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let Ok(Ok(output)) = output else {
        return Err("perf does not run".to_owned());
    };
    // It reports on its standard error: the count is the first field.
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = report
        .lines()
        .find(|line| line.contains("raw_syscalls:sys_enter"));
    let count = count.and_then(|line| line.split(',').next()?.parse().ok());
    count.ok_or_else(|| {
        format!(
            "perf cannot count system calls (it takes root): {}",
            report.trim()
        )
    })
}
