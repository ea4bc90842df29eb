//! `omsg ping`: whether a server answers, and how fast.
//!
//! Calls the ping method that servers of oslo.messaging have if they are configured so. A server without it refuses the
//! call, and by that it shows that it lives: any answer of a server counts as one.

use std::time::{Duration, Instant};

use oslo_messaging::rpc::ping::PING_METHOD;
use oslo_messaging::{Context, ErrorKind, RpcClient};
use serde::Serialize;

use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::Ping;
use crate::time::show_duration;

/// What one ping met.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Met {
    /// The ping endpoint.
    Pong,
    /// A server whose ping endpoint is off: it knows no such method.
    PingOff,
    /// A server that answered with another failure.
    Refused,
}

/// A ping that was answered.
#[derive(Serialize)]
struct Pong<'a> {
    event: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    number: u32,
    alive: bool,
    answer: Met,
    #[serde(serialize_with = "crate::time::millis", rename = "ms")]
    took: Duration,
    /// The first one includes connecting.
    connected: bool,
}

impl Record for Pong<'_> {
    fn describe(&self, text: &mut Text) {
        let name = name(self.topic, self.server);
        text.plain(format!("{:>3}  {name}  ", self.number))
            .good("alive")
            .plain("  ")
            .bold(show_duration(self.took));
        match self.answer {
            Met::Pong => {}
            Met::PingOff => {
                text.dim("  (its ping endpoint is off: it refused the method)");
            }
            Met::Refused => {
                text.dim("  (it answered with a failure)");
            }
        }
        if self.connected {
            text.dim("  (connecting included)");
        }
    }
}

/// A ping that was not answered.
#[derive(Serialize)]
struct Silence<'a> {
    event: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    number: u32,
    alive: bool,
    reason: &'static str,
}

impl Record for Silence<'_> {
    fn describe(&self, text: &mut Text) {
        let name = name(self.topic, self.server);
        text.plain(format!("{:>3}  {name}  ", self.number))
            .bad("no answer")
            .dim(format!("  ({})", self.reason));
    }
}

/// All pings together.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    sent: u32,
    answered: u32,
    #[serde(
        serialize_with = "crate::time::some_millis",
        rename = "fastest_ms",
        skip_serializing_if = "Option::is_none"
    )]
    fastest: Option<Duration>,
    #[serde(
        serialize_with = "crate::time::some_millis",
        rename = "slowest_ms",
        skip_serializing_if = "Option::is_none"
    )]
    slowest: Option<Duration>,
}

impl Record for Summary {
    fn describe(&self, text: &mut Text) {
        text.plain(format!("{} of {} answered", self.answered, self.sent));
        if let (Some(fastest), Some(slowest)) = (self.fastest, self.slowest) {
            text.plain(format!(
                ", {} to {}",
                show_duration(fastest),
                show_duration(slowest)
            ));
        }
    }
}

/// Runs the command. Done when at least one ping was answered.
///
/// # Errors
/// The problem of the last ping if none was answered.
pub(crate) async fn run(settings: Ping, output: &Output) -> Result<Exit, Problem> {
    let transport = bus::open(&settings.url, settings.options.clone()).await?;
    let client =
        RpcClient::new(transport.clone(), settings.target.clone()).timeout(settings.timeout);
    let ended = ping_all(&client, &settings, output).await;
    bus::close(transport).await;
    ended
}

async fn ping_all(client: &RpcClient, settings: &Ping, output: &Output) -> Result<Exit, Problem> {
    let mut took: Vec<Duration> = Vec::new();
    let (mut last_problem, mut first_answered) = (None, false);
    let (topic, server) = (
        settings.target.topic_name().unwrap_or_default(),
        settings.target.server_name(),
    );
    for number in 1..=settings.count {
        if number > 1 {
            tokio::time::sleep(settings.interval).await;
        }
        match ping(client, settings).await {
            Ok((answer, duration)) => {
                took.push(duration);
                let connected = number == 1;
                first_answered |= connected;
                output.record(&Pong {
                    event: "pong",
                    topic,
                    server,
                    number,
                    alive: true,
                    answer,
                    took: duration,
                    connected,
                });
            }
            Err(problem) => {
                output.record(&Silence {
                    event: "silence",
                    topic,
                    server,
                    number,
                    alive: false,
                    reason: problem.kind,
                });
                if problem.exit == Exit::Usage {
                    return Err(problem);
                }
                last_problem = Some(problem);
            }
        }
    }
    let answered = u32::try_from(took.len()).unwrap_or(u32::MAX);
    // Connecting is no part of how fast a server answers, if there is more to judge by.
    let judged = if first_answered && took.len() > 1 {
        &took[1..]
    } else {
        &took
    };
    output.record(&Summary {
        event: "summary",
        sent: settings.count,
        answered,
        fastest: judged.iter().min().copied(),
        slowest: judged.iter().max().copied(),
    });
    match last_problem {
        Some(problem) if answered == 0 => Err(problem),
        _ => Ok(Exit::Done),
    }
}

async fn ping(client: &RpcClient, settings: &Ping) -> Result<(Met, Duration), Problem> {
    let started = Instant::now();
    let answer = client.call_raw(&Context::new(), PING_METHOD, ()).await;
    let took = started.elapsed();
    match answer {
        Ok(_) => Ok((Met::Pong, took)),
        Err(fault) if fault.kind() == ErrorKind::NoSuchMethod => Ok((Met::PingOff, took)),
        // Whatever a server answers, it lives.
        Err(fault) if fault.remote().is_some() => Ok((Met::Refused, took)),
        Err(fault) => {
            let time = (started, settings.timeout);
            Err(bus::judge(fault, client.transport(), &settings.url, time).to(&settings.target))
        }
    }
}

fn name(topic: &str, server: Option<&str>) -> String {
    match server {
        Some(server) => format!("{topic}.{server}"),
        None => format!("a server of {topic}"),
    }
}
