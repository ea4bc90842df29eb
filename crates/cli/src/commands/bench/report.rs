//! A run as it is saved, and as another one is compared with it.
//!
//! The file has `series` and `summary` as the reference's simulator writes them, and beside them `omsg`, which holds the
//! rounds of each level.

use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;
use oslo_messaging::RawJson;
use serde::{Deserialize, Serialize};

use super::level::Level;
use super::series::{Collected, Point, Summary};
use crate::exit::Problem;
use crate::settings::bench::{Bench, Place, Repeated};
use crate::time::now_utc;

/// The place of servers in the callers' process.
const HERE: &str = "here";

/// A run, as it is saved.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) series: IndexMap<String, Vec<Point>>,
    pub(super) summary: IndexMap<String, Summary>,
    pub(super) omsg: Run,
}

/// What only omsg knows of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    version: String,
    finished: String,
    /// The bus, without passwords.
    url: String,
    /// Processors that this program may use.
    #[serde(default)]
    processors: usize,
    servers: u32,
    /// Where they run: `apart`, `here` or `foreign`.
    #[serde(default)]
    place: String,
    warm_up: f64,
    duration: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<f64>,
    pub(super) levels: Vec<Level>,
}

impl Run {
    /// What it was asked for.
    ///
    /// # Errors
    /// Why it cannot be asked for again, in words.
    pub(super) fn repeated(&self) -> Result<Repeated, &'static str> {
        let first = self.levels.first().ok_or("nothing was measured")?;
        fn each<T: PartialEq + Copy>(values: impl Iterator<Item = T>) -> Vec<T> {
            let mut found = Vec::new();
            values.for_each(|value| {
                if !found.contains(&value) {
                    found.push(value);
                }
            });
            found
        }
        // What is no time is longer than any that may be asked for.
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let repeated = Repeated {
            what: first.what,
            manner: first.manner,
            callers: each(self.levels.iter().map(|level| level.callers)),
            sizes: each(self.levels.iter().map(|level| level.size)),
            duration: seconds(self.duration),
            warm_up: seconds(self.warm_up),
            messages: self.messages,
            rounds: u32::try_from(first.rounds.len()).unwrap_or(u32::MAX).max(1),
            rate: self.rate,
            pause: self.pause.map(seconds).unwrap_or_default(),
            servers: self.servers,
            one_process: self.place == HERE,
        };
        match repeated.could_be_typed() {
            true => Ok(repeated),
            false => Err("it was run with what omsg bench does not take, such as a rate of 0"),
        }
    }

    /// In what else than the program this run differs from an older one: what a comparison does not make up for.
    pub(super) fn differences(&self, older: &Self) -> Vec<String> {
        fn differ<T: PartialEq + std::fmt::Debug>(name: &str, old: &T, new: &T) -> Option<String> {
            (old != new).then(|| format!("{name} {old:?}, now {new:?}"))
        }
        let unknown = older.place.is_empty();
        [
            differ("bus", &older.url, &self.url),
            differ("servers", &older.servers, &self.servers),
            differ("rate", &older.rate, &self.rate),
            differ("pause", &older.pause, &self.pause),
            differ("place of servers", &older.place, &self.place).filter(|_| !unknown),
            differ("processors", &older.processors, &self.processors).filter(|_| !unknown),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Report {
    /// A run of these levels.
    pub(super) fn new(settings: &Bench, levels: Vec<Level>, collected: Collected) -> Self {
        let (sent, answered, failed) = (
            Summary::of(&collected.sent),
            Summary::of(&collected.answered),
            Summary::of(&collected.failed),
        );
        let named = |name: &str| name.to_owned();
        Self {
            series: IndexMap::from([
                (named("client_0"), collected.sent),
                (named("error_0"), collected.failed),
                (named("round_trip_0"), collected.answered),
            ]),
            summary: IndexMap::from([
                (named("client"), sent),
                (named("error"), failed),
                (named("round_trip"), answered),
            ]),
            omsg: Run {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                finished: now_utc(),
                url: settings.url().to_string(),
                processors: std::thread::available_parallelism().map_or(0, usize::from),
                servers: settings.staff.count,
                place: match settings.place {
                    Place::Apart => "apart",
                    Place::Here => HERE,
                    Place::Foreign => "foreign",
                }
                .to_owned(),
                warm_up: settings.run.warm_up.as_secs_f64(),
                duration: settings.run.duration.as_secs_f64(),
                messages: settings.run.messages,
                rate: settings.run.rate,
                pause: (!settings.run.pause.is_zero()).then_some(settings.run.pause.as_secs_f64()),
                levels,
            },
        }
    }

    /// As it is saved.
    ///
    /// # Errors
    /// A figure that JSON cannot hold.
    pub(super) fn to_json(&self) -> Result<String, Problem> {
        to_json(self)
    }

    /// One that was saved.
    ///
    /// # Errors
    /// Why the text is none, in words.
    pub(super) fn from_json(text: &str) -> Result<Self, String> {
        let json = RawJson::from_text(text).map_err(|fault| fault.to_string())?;
        json.parse().map_err(|fault| fault.to_string())
    }
}

/// What servers took, in the fields of the reference's simulator.
#[derive(Serialize)]
struct ServerReport<'a> {
    series: IndexMap<&'static str, Vec<Point>>,
    summary: &'a Summary,
}

/// What servers took, as it is saved.
///
/// # Errors
/// A figure that JSON cannot hold.
pub(super) fn server_json(points: Vec<Point>, summary: &Summary) -> Result<String, Problem> {
    to_json(&ServerReport {
        series: IndexMap::from([("server", points)]),
        summary,
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Problem> {
    let json = RawJson::from_value(value)
        .map_err(|fault| Problem::local(format!("the run cannot be written: {fault}")))?;
    Ok(format!("{}\n", json.as_str()))
}

/// Writes a file.
///
/// # Errors
/// Why it cannot be written.
pub(super) fn write(file: &Path, text: &str) -> Result<(), Problem> {
    std::fs::write(file, text)
        .map_err(|fault| Problem::local(format!("{} cannot be written: {fault}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(servers: u32, rate: Option<f64>, place: &str) -> Run {
        Run {
            version: "1".to_owned(),
            finished: String::new(),
            url: "memory://".to_owned(),
            processors: 2,
            servers,
            place: place.to_owned(),
            warm_up: 0.5,
            duration: 2.0,
            messages: None,
            rate,
            pause: None,
            levels: Vec::new(),
        }
    }

    #[test]
    fn what_a_comparison_does_not_make_up_for_is_told() {
        let old = run(1, None, "apart");
        assert!(run(1, None, "apart").differences(&old).is_empty());
        let told = run(3, Some(200.0), "here").differences(&old);
        assert_eq!(
            told,
            [
                "servers 1, now 3",
                "rate None, now Some(200.0)",
                "place of servers \"apart\", now \"here\""
            ]
        );
        // A file from before it was noted.
        assert!(
            run(1, None, "apart")
                .differences(&run(1, None, ""))
                .is_empty()
        );
    }
}
