//! The sink `routing`: which notifications go to which sinks, by a YAML file (parity ND6, wish 38).
//!
//! The file has the reference's form, and its targets really load, each with topics of its own if the file says so. It is
//! looked at again when it changed; a file that cannot be read then leaves the former rules in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use oslo_messaging_proto::priority::Priority;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, error, info};

use crate::driver::BoxFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::lock;
use crate::notify::glob::matches;
use crate::notify::outbox::NotifierStats;
use crate::notify::sink::{Posting, Sink};

/// So often, at most, the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A routing file is written by hand.
const LARGEST_FILE: u64 = 1 << 20;

/// What a notification must be to go to a sink; a rule that is absent is met by all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rules {
    accepted_events: Option<Vec<String>>,
    accepted_priorities: Option<Vec<String>>,
    /// Ours: topics instead of the notifier's.
    topics: Option<Vec<String>>,
}

impl Rules {
    fn accept(&self, event_type: &str, priority: Priority) -> bool {
        let any = |patterns: &Option<Vec<String>>, text: &str, lower: bool| {
            patterns.as_ref().is_none_or(|patterns| {
                let mut patterns = patterns.iter();
                patterns.any(|pattern| match lower {
                    true => matches(&pattern.to_lowercase(), text),
                    false => matches(pattern, text),
                })
            })
        };
        any(&self.accepted_events, event_type, false)
            && any(&self.accepted_priorities, priority.as_str(), true)
    }
}

/// Groups, then sinks by name, then rules.
type Table = BTreeMap<String, Option<BTreeMap<String, Option<Rules>>>>;

/// Sends each notification to the sinks its rules name.
///
/// ```yaml
/// audit:                                  # groups only order the file
///   messagingv2:                          # a sink by name
///     accepted_events: ["compute.*"]      # shell patterns; without, all
///     accepted_priorities: [info, error]
///     topics: [audit]                     # ours: instead of the notifier's topics
///   log:
///     accepted_priorities: [critical]
/// ```
///
/// Within a sink all rules must be met; a sink that several groups name gets a notification once, with all topics.
///
/// ```
/// use oslo_messaging_core::notify::{RoutingSink, TestSink};
///
/// # let folder = std::env::temp_dir().join(format!("routing-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let file = folder.join("routing.yaml");
/// std::fs::write(&file, "audit: {archive: {accepted_events: ['compute.*']}}").unwrap();
/// let sink = RoutingSink::builder(&file).target("archive", TestSink::new()).build()?;
/// std::fs::write(&file, "audit: {archiv: {}}").unwrap();
/// assert!(RoutingSink::builder(&file).target("archive", TestSink::new()).build().is_err());
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), oslo_messaging_core::error::Error>(())
/// ```
#[derive(Clone)]
pub struct RoutingSink {
    inner: Arc<Inner>,
}

struct Inner {
    file: PathBuf,
    targets: BTreeMap<String, Arc<dyn Sink>>,
    table: Mutex<Arc<Table>>,
    looked: Mutex<Looked>,
    looking: AtomicBool,
}

/// What was found when the file was last looked at.
struct Looked {
    at: Instant,
    stamp: Option<Stamp>,
}

type Stamp = (SystemTime, u64);

/// A routing sink to be.
///
/// ```
/// use oslo_messaging_core::notify::RoutingSink;
///
/// // A file that is not there is told when the sink is built, not with the first notification.
/// assert!(RoutingSink::builder("/nowhere/routing.yaml").build().is_err());
/// ```
#[must_use = "a sink routes only when it is built"]
pub struct RoutingSinkBuilder {
    file: PathBuf,
    targets: BTreeMap<String, Arc<dyn Sink>>,
}

impl RoutingSinkBuilder {
    /// Lets the file send to this sink by this name.
    ///
    /// ```
    /// use oslo_messaging_core::notify::{LogSink, RoutingSink};
    ///
    /// let builder = RoutingSink::builder("/etc/nova/routing.yaml").target("log", LogSink);
    /// ```
    pub fn target(mut self, name: impl Into<String>, sink: impl Sink) -> Self {
        self.targets.insert(name.into(), Arc::new(sink));
        self
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if it cannot be read, is not of the form, or names a sink that there is not.
    ///
    /// ```
    /// use oslo_messaging_core::error::ErrorKind;
    /// use oslo_messaging_core::notify::RoutingSink;
    ///
    /// let refused = RoutingSink::builder("/there/is/no/such.yaml").build();
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    /// ```
    pub fn build(self) -> Result<RoutingSink> {
        let stamp = stamp(&self.file);
        let table = read(&self.file, &self.targets)?;
        Ok(RoutingSink {
            inner: Arc::new(Inner {
                file: self.file,
                targets: self.targets,
                table: Mutex::new(Arc::new(table)),
                looked: Mutex::new(Looked {
                    at: Instant::now(),
                    stamp,
                }),
                looking: AtomicBool::new(false),
            }),
        })
    }
}

impl RoutingSink {
    /// A sink that routes by this file (option `routing_config`).
    ///
    /// ```
    /// use oslo_messaging_core::notify::RoutingSink;
    ///
    /// let builder = RoutingSink::builder("/etc/nova/routing.yaml");
    /// ```
    pub fn builder(file: impl Into<PathBuf>) -> RoutingSinkBuilder {
        RoutingSinkBuilder {
            file: file.into(),
            targets: BTreeMap::new(),
        }
    }

    /// Reads the file now, whether it changed or not.
    ///
    /// # Errors
    /// As [`RoutingSinkBuilder::build`]; the former rules stay in force then.
    ///
    /// # Cancellation
    /// Safe; the rules may or may not be replaced.
    ///
    /// ```no_run
    /// # async fn example(sink: oslo_messaging_core::notify::RoutingSink) -> oslo_messaging_core::error::Result<()> {
    /// sink.reload().await
    /// # }
    /// ```
    pub async fn reload(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let read = tokio::task::spawn_blocking(move || inner.read());
        read.await.unwrap_or_else(|_| {
            let text = "reading the routing file was broken off";
            Err(Error::new(ErrorKind::Config, text))
        })
    }

    /// Looks at the file if it is time to, beside what is going on.
    fn look(&self) {
        {
            let mut looked = lock(&self.inner.looked);
            if looked.at.elapsed() < LOOK_EVERY {
                return;
            }
            looked.at = Instant::now();
        }
        if self.inner.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            inner.look();
            inner.looking.store(false, Ordering::Release);
        });
    }

    /// The sinks for a notification, each with whether the notifier's own topics are meant, and others.
    fn route(&self, event_type: &str, priority: Priority) -> Vec<Route<'_>> {
        let table = Arc::clone(&lock(&self.inner.table));
        let mut found: BTreeMap<&str, Route<'_>> = BTreeMap::new();
        for (name, rules) in table.values().flatten().flatten() {
            let Some((name, sink)) = self.inner.targets.get_key_value(name) else {
                continue;
            };
            let rules = rules.as_ref();
            if rules.is_some_and(|rules| !rules.accept(event_type, priority)) {
                continue;
            }
            let route = found.entry(name).or_insert_with(|| Route {
                sink,
                usual: false,
                topics: BTreeSet::new(),
            });
            match rules.and_then(|rules| rules.topics.as_ref()) {
                Some(own) => route.topics.extend(own.iter().cloned()),
                None => route.usual = true,
            }
        }
        found.into_values().collect()
    }
}

/// Where a notification goes.
struct Route<'a> {
    sink: &'a Arc<dyn Sink>,
    /// To the notifier's topics.
    usual: bool,
    /// To these.
    topics: BTreeSet<String>,
}

impl Inner {
    fn look(&self) {
        let now = stamp(&self.file);
        let changed = {
            let mut looked = lock(&self.looked);
            std::mem::replace(&mut looked.stamp, now) != now
        };
        if !changed {
            return;
        }
        match self.read() {
            Ok(()) => info!(file = %self.file.display(), "the routing of notifications changed"),
            Err(error) => {
                error!(%error, "the routing of notifications stays as it was");
            }
        }
    }

    fn read(&self) -> Result<()> {
        let table = read(&self.file, &self.targets)?;
        *lock(&self.table) = Arc::new(table);
        Ok(())
    }
}

impl Sink for RoutingSink {
    fn name(&self) -> &str {
        "routing"
    }

    fn post<'a>(&'a self, post: Posting<'a>) -> BoxFuture<'a, Result<()>> {
        self.look();
        Box::pin(async move {
            let event_type = post.note.event_type().unwrap_or_default();
            let mut first = Ok(());
            for mut route in self.route(event_type, post.priority) {
                debug!(
                    event_type,
                    sink = route.sink.name(),
                    "routing a notification"
                );
                if route.usual {
                    route.topics.extend(post.topics.iter().cloned());
                }
                let topics: Vec<String> = route.topics.into_iter().collect();
                let mut post = post;
                post.topics = &topics;
                // The other sinks get theirs all the same.
                first = first.and(route.sink.post(post).await);
            }
            first
        })
    }

    fn stats(&self) -> NotifierStats {
        let all = self.inner.targets.values().map(|sink| sink.stats());
        all.fold(NotifierStats::default(), NotifierStats::plus)
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            let mut left = 0;
            for sink in self.inner.targets.values() {
                left += sink.flush(deadline).await;
            }
            left
        })
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, usize> {
        Box::pin(async move {
            let mut left = 0;
            for sink in self.inner.targets.values() {
                left += sink.close(deadline).await;
            }
            left
        })
    }
}

impl fmt::Debug for RoutingSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingSink")
            .field("file", &self.inner.file)
            .field("targets", &self.inner.targets.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RoutingSinkBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingSinkBuilder")
            .field("file", &self.file)
            .field("targets", &self.targets.keys().collect::<Vec<_>>())
            .finish()
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len()))
}

fn read(file: &Path, targets: &BTreeMap<String, Arc<dyn Sink>>) -> Result<Table> {
    let refuse = |text: String| {
        Error::new(ErrorKind::Config, text)
            .with("option", "routing_config")
            .with("file", file.display().to_string())
    };
    let broken = |cause: std::io::Error| {
        refuse("the routing file cannot be read".to_owned()).with_source(cause)
    };
    if std::fs::metadata(file).map_err(broken)?.len() > LARGEST_FILE {
        return Err(refuse(
            "the routing file is larger than a mebibyte".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(file).map_err(broken)?;
    let table: Option<Table> = yaml_serde::from_str(&text).map_err(|fault| {
        let text = "the routing file is not of the form group: {sink: {accepted_events: […], accepted_priorities: […], \
                    topics: […]}}";
        refuse(text.to_owned()).with_source(fault)
    })?;
    let table = table.unwrap_or_default();
    for (group, sinks) in &table {
        for name in sinks.iter().flat_map(BTreeMap::keys) {
            if !targets.contains_key(name) {
                let known: Vec<&str> = targets.keys().map(String::as_str).collect();
                return Err(refuse(format!(
                    "group {group} sends to {name:?}, which is no sink here; there are {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
