//! The long run: steady traffic, every connection lost once a minute, and whether anything grows.

use std::io;
use std::path::Path;
use std::time::Duration;

use oslo_messaging_testkit::process::resident_bytes;
use oslo_messaging_testkit::proxy::Proxy;
use oslo_messaging_testkit::rabbit::cluster::url_of;
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use serde::Serialize;
use tokio::time::{Instant, interval, sleep};

use crate::journal::{Entry, OK, read};
use crate::players::{Peer, Player, Rates};
use crate::stage::{Stage, Topology};

const SAMPLE: Duration = Duration::from_secs(5);
const RECONNECT: Duration = Duration::from_secs(60);
const CASTS: f64 = 20.0;
const MIB: u64 = 1024 * 1024;
/// Messages that may stand in all queues together at a sample, as a rule: a tenth of a second's.
const DEPTH: u64 = 50;

/// One look at everything.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    seconds: u64,
    client_memory: u64,
    server_memory: u64,
    client_tasks: u64,
    server_tasks: u64,
    queues: u64,
    depth: u64,
    connections: u64,
}

/// A measure, its medians in the middle and the last third, and whether that is flat.
#[derive(Debug, Serialize)]
struct Flatness {
    what: &'static str,
    middle: u64,
    last: u64,
    flat: bool,
}

/// What is said of a soak.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    peer: &'static str,
    seconds: u64,
    calls: usize,
    failed: usize,
    casts_taken: usize,
    casts_run: usize,
    errors: Vec<String>,
    measures: Vec<Flatness>,
    samples: Vec<Sample>,
}

impl Verdict {
    /// Whether nothing grew and no call failed.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.measures.iter().all(|measure| measure.flat)
    }

    /// As a Markdown table.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{} for {} s: {} calls, {} failed; {} casts taken by the broker, {} run.\n\n\
             | measure | middle third | last third | flat |\n|---|--:|--:|---|\n",
            self.peer, self.seconds, self.calls, self.failed, self.casts_taken, self.casts_run
        );
        for measure in &self.measures {
            let flat = if measure.flat { "yes" } else { "no" };
            text.push_str(&format!(
                "| {} | {} | {} | {flat} |\n",
                measure.what, measure.middle, measure.last
            ));
        }
        for error in &self.errors {
            text.push_str(&format!("\n{error}\n"));
        }
        text
    }
}

/// Runs for `length`.
///
/// # Errors
///
/// When processes or the broker do not do as told.
pub(crate) async fn soak(
    peer: Peer,
    length: Duration,
    rates: Rates,
    folder: &Path,
) -> io::Result<Verdict> {
    let stage = Stage::set(Topology::Single).await?;
    let vhost = stage
        .broker(0)
        .create_vhost(&format!("soak-{}", peer.name()))
        .await?;
    let proxy = Proxy::start(stage.ports()[0]).await?;
    let url = url_of(&[proxy.port()], vhost.name());
    let rates = Rates {
        casts: CASTS,
        ..rates
    };
    let (one, two) = tokio::try_join!(
        Player::server(peer, &url, "one", folder, "one"),
        Player::server(peer, &url, "two", folder, "two"),
    )?;
    let client = Player::client(peer, &url, rates, folder).await?;
    let mut players = [client, one, two];
    let started = Instant::now();
    let watch = async {
        let mut samples = Vec::new();
        let mut tick = interval(SAMPLE);
        while started.elapsed() < length {
            tick.tick().await;
            samples.push(look(started, &players, &vhost).await?);
            if samples.len() % 12 == 1 {
                eprintln!("soak: {:?}", samples[samples.len() - 1]);
            }
        }
        Ok::<_, io::Error>(samples)
    };
    let disturb = async {
        for minute in 0_u64.. {
            sleep(RECONNECT).await;
            // By turns: the broker says that it closes, and the network says nothing.
            if minute % 2 == 0 {
                vhost.close_connections("the minute is over").await?;
            } else {
                proxy.cut();
            }
        }
        Ok::<_, io::Error>(Vec::new())
    };
    let samples = tokio::select! {
        samples = watch => samples?,
        failed = disturb => failed?,
    };
    for player in &mut players {
        player.end(rates.timeout).await?;
    }
    Ok(verdict(
        peer,
        started.elapsed(),
        samples,
        players
            .iter()
            .map(|player| read(&player.journal))
            .collect::<io::Result<_>>()?,
    ))
}

async fn look(started: Instant, players: &[Player; 3], vhost: &Vhost) -> io::Result<Sample> {
    let queues = vhost.queues().await?;
    let memory = |player: &Player| player.pid().map_or(Ok(0), resident_bytes);
    let [client, one, two] = players;
    Ok(Sample {
        seconds: started.elapsed().as_secs(),
        client_memory: memory(client)?,
        server_memory: memory(one)? + memory(two)?,
        client_tasks: tasks(client)?,
        server_tasks: tasks(one)? + tasks(two)?,
        queues: queues.len() as u64,
        depth: queues.iter().map(|queue| queue.messages).sum(),
        connections: vhost.connections().await?.len() as u64,
    })
}

/// The last number of tasks that a process wrote.
fn tasks(player: &Player) -> io::Result<u64> {
    use std::io::{Read, Seek, SeekFrom};

    // A few seconds' lines are enough, however long the journal has grown.
    const TAIL: u64 = 128 * 1024;
    let mut file = std::fs::File::open(&player.journal)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let counts = tail.lines().rev().filter_map(|line| {
        let (count, _) = line.strip_prefix("tasks ")?.split_once(' ')?;
        count.parse().ok()
    });
    Ok(counts.into_iter().next().unwrap_or(0))
}

fn verdict(
    peer: Peer,
    length: Duration,
    samples: Vec<Sample>,
    journals: Vec<Vec<Entry>>,
) -> Verdict {
    let (client, servers) = journals
        .split_first()
        .map_or((&[][..], &[][..]), |(client, servers)| {
            (client.as_slice(), servers)
        });
    let sent = |wanted| {
        client.iter().filter_map(move |entry| match entry {
            Entry::Sent { verb, outcome, .. } if *verb == wanted => Some(outcome == OK),
            _ => None,
        })
    };
    let errors = client.iter().filter_map(|entry| match entry {
        Entry::Error { kind, text } => Some(format!("{kind}: {text}")),
        _ => None,
    });
    let ran = servers.iter().flatten();
    let casts = ran.filter(|entry| {
        matches!(
            entry,
            Entry::Ran {
                verb: crate::journal::Verb::Cast,
                ..
            }
        )
    });
    Verdict {
        peer: peer.name(),
        seconds: length.as_secs(),
        calls: sent(crate::journal::Verb::Call).count(),
        failed: sent(crate::journal::Verb::Call).filter(|ok| !ok).count(),
        casts_taken: sent(crate::journal::Verb::Cast).filter(|ok| *ok).count(),
        casts_run: casts.count(),
        errors: errors.collect(),
        measures: flatness(&samples),
        samples,
    }
}

/// Compares the last third with the middle one; the first is for warming up.
fn flatness(samples: &[Sample]) -> Vec<Flatness> {
    let third = samples.len() / 3;
    let compare = |what, value: fn(&Sample) -> u64, allowed: fn(u64) -> u64| {
        let middle = median(&samples[third..2 * third], value);
        let last = median(&samples[2 * third..], value);
        Flatness {
            what,
            middle,
            last,
            flat: last <= allowed(middle),
        }
    };
    let memory = |middle| middle + middle / 20 + MIB;
    let tasks = |middle| middle + middle / 20 + 4;
    vec![
        compare("memory of the client, bytes", |s| s.client_memory, memory),
        compare("memory of both servers, bytes", |s| s.server_memory, memory),
        compare("tasks of the client", |s| s.client_tasks, tasks),
        compare("tasks of both servers", |s| s.server_tasks, tasks),
        compare("queues", |s| s.queues, |middle| middle),
        compare("messages in queues", |s| s.depth, |_| DEPTH),
        compare("connections", |s| s.connections, |middle| middle),
    ]
}

fn median(samples: &[Sample], value: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(value).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u64, leak: u64) -> Sample {
        Sample {
            seconds: number,
            client_memory: 50 * MIB + number * leak,
            server_memory: 80 * MIB,
            client_tasks: 20 + number % 3,
            server_tasks: 40,
            queues: 6,
            depth: number % 20,
            connections: 6,
        }
    }

    #[test]
    fn what_grows_is_not_flat_and_what_wobbles_is() {
        let flat: Vec<Sample> = (0..60).map(|n| sample(n, 0)).collect();
        assert!(flatness(&flat).iter().all(|measure| measure.flat));
        let grown: Vec<Sample> = (0..60).map(|n| sample(n, MIB)).collect();
        let bad: Vec<&str> = flatness(&grown)
            .iter()
            .filter(|measure| !measure.flat)
            .map(|measure| measure.what)
            .collect();
        assert_eq!(bad, ["memory of the client, bytes"]);
    }
}
