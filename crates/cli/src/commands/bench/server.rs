//! `omsg bench-server`: servers or listeners in a process of their own.
//!
//! For people on another host it prints what comes each second, as the reference's simulator does (parity 1.17). For
//! `omsg bench`, which starts it, it answers questions: a line each on standard input, JSON on standard output, and it
//! ends when its standard input does.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use oslo_messaging::{RawJson, Transport};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::sleep;

use super::crew::Crew;
use super::report;
use super::series::{Collector, Point, Summary};
use crate::bus;
use crate::exit::{Exit, Problem};
use crate::output::{Output, Record, Text};
use crate::settings::bench::{BenchServer, Work};
use crate::signals::Signals;

/// After the last load is done there may be answers under way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A question of `omsg bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// What was used so far?
    Usage,
    /// How long was what came under way?
    Times,
    /// Take nothing from now on.
    Hold,
    /// Take again.
    Release,
    /// Take so many, and say what it took.
    Drain(u64),
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage => f.write_str("usage"),
            Self::Times => f.write_str("times"),
            Self::Hold => f.write_str("hold"),
            Self::Release => f.write_str("release"),
            Self::Drain(messages) => write!(f, "drain {messages}"),
        }
    }
}

impl FromStr for Question {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        match line.split_once(' ') {
            None => match line {
                "usage" => Ok(Self::Usage),
                "times" => Ok(Self::Times),
                "hold" => Ok(Self::Hold),
                "release" => Ok(Self::Release),
                _ => Err(()),
            },
            Some(("drain", count)) => count.parse().map(Self::Drain).map_err(|_| ()),
            Some(_) => Err(()),
        }
    }
}

/// What the process says to the other one.
struct Said(String);

impl Serialize for Said {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Record for Said {
    fn describe(&self, text: &mut Text) {
        text.plain(&self.0);
    }
}

/// It can be loaded.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    what: &'static str,
    count: u32,
    topic: String,
    url: String,
}

impl Record for Ready {
    fn describe(&self, text: &mut Text) {
        text.good("ready")
            .plain(format!(
                ", {} {}{} of topic ",
                self.count,
                self.what,
                if self.count == 1 { "" } else { "s" }
            ))
            .bold(&self.topic)
            .plain(format!(", at {}", self.url));
    }
}

/// A second in which something came.
#[derive(Serialize)]
struct Second<'a> {
    event: &'static str,
    #[serde(flatten)]
    point: &'a Point,
}

impl Record for Second<'_> {
    fn describe(&self, text: &mut Text) {
        let point = self.point;
        text.plain(format!(
            "{:>5}  {:>8} messages  {:>11} bytes",
            point.seq, point.count, point.size
        ));
        describe_latency(text, (point.latency, point.min_latency, point.max_latency));
    }
}

/// All of them.
#[derive(Serialize)]
struct Sum<'a> {
    event: &'static str,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Record for Sum<'_> {
    fn describe(&self, text: &mut Text) {
        let sum = self.summary;
        text.bold(format!("{} messages", sum.count)).plain(format!(
            " in {:.1} s: {:.1} a second, {:.0} bytes a second",
            sum.duration, sum.count_p_s, sum.size_p_s
        ));
        describe_latency(text, (sum.latency, sum.min_latency, sum.max_latency));
    }
}

fn describe_latency(text: &mut Text, latency: (Option<f64>, Option<f64>, Option<f64>)) {
    if let (Some(mean), Some(min), Some(max)) = latency {
        text.dim(format!(
            "  latency {:.3} ms, {:.3} to {:.3}",
            1e3 * mean,
            1e3 * min,
            1e3 * max
        ));
    }
}

/// Runs the command.
///
/// # Errors
/// What kept a server from starting, or a file from being written.
pub(super) async fn run(settings: BenchServer, output: &Arc<Output>) -> Result<Exit, Problem> {
    let transport = bus::open(&settings.staff.url, settings.options.clone()).await?;
    let ended = match settings.piped {
        true => answer(&settings, &transport, output).await,
        false => serve(&settings, &transport, output).await,
    };
    bus::close(transport).await;
    ended.map(|()| Exit::Done)
}

/// Answers the process at the other end of standard input.
async fn answer(
    settings: &BenchServer,
    transport: &Transport,
    output: &Output,
) -> Result<(), Problem> {
    let crew = Crew::start(transport, &settings.staff, None).await?;
    output.record(&Said("ready".to_owned()));
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    // A line that cannot be read ends it as well.
    while let Ok(Some(line)) = asked.next_line().await {
        let Ok(question) = line.parse() else { break };
        let answer = match question {
            Question::Usage => json(&crew.usage())?,
            Question::Times => json(&crew.taken.take_times())?,
            Question::Hold => {
                crew.taken.hold();
                json(&())?
            }
            Question::Release => {
                crew.taken.release();
                json(&())?
            }
            Question::Drain(messages) => json(&crew.drain(messages).await)?,
        };
        output.record(&Said(answer));
    }
    crew.stop().await;
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Result<String, Problem> {
    RawJson::from_value(value)
        .map(|json| json.as_str().to_owned())
        .map_err(|fault| Problem::local(format!("what was counted cannot be told: {fault}")))
}

/// Serves whoever comes, until it is told to end.
async fn serve(
    settings: &BenchServer,
    transport: &Transport,
    output: &Arc<Output>,
) -> Result<(), Problem> {
    let mut signals = Signals::catch()?;
    let told = Arc::clone(output);
    let collector = Arc::new(Collector::telling(move |point| {
        if point.count > 0 {
            told.record(&Second {
                event: "second",
                point,
            });
        }
    }));
    let ticking = collector.start();
    let crew = tokio::select! {
        _ = signals.next() => return Ok(()),
        crew = Crew::start(transport, &settings.staff, Some(Arc::clone(&collector))) => crew?,
    };
    output.record(&Ready {
        event: "ready",
        what: match settings.staff.work {
            Work::Answer => "server",
            Work::Listen { .. } => "listener",
        },
        count: settings.staff.count,
        topic: settings
            .staff
            .target
            .topic_name()
            .unwrap_or_default()
            .to_owned(),
        url: settings.staff.url.to_string(),
    });
    let time_is_up = async {
        match settings.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signals.next() => {}
        () = time_is_up => {}
        () = output.closed() => {}
        () = crew.loads.all_done() => sleep(LAST_WORDS).await,
    }
    crew.stop().await;
    let points = ticking.finish().await.answered;
    let summary = Summary::of(&points);
    output.record(&Sum {
        event: "summary",
        summary: &summary,
    });
    if let Some(file) = &settings.save {
        report::write(file, &report::server_json(points, &summary)?)?;
        output.remark(&format!("saved as {}", file.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_they_are_asked() {
        use Question::{Drain, Hold, Release, Times, Usage};
        for question in [Usage, Times, Hold, Release, Drain(50_000)] {
            assert_eq!(question.to_string().parse(), Ok(question));
        }
        for bad in ["", "drain", "drain x", "usage now"] {
            assert!(bad.parse::<Question>().is_err(), "{bad}");
        }
    }
}
