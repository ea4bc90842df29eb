//! From what the processes of a run wrote to what is said of it: counts, gaps, goals. Pure.
//!
//! The goals: no call fails whose broker was back within its timeout, nothing runs twice that the broker did not deliver
//! twice by itself, calls succeed again within a second of the end of the outage, and fanouts are heard again within five.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::journal::{Entry, OK, Verb};
use crate::run::Plan;

const SECOND: u64 = 1_000_000;
/// What a driver may take to notice that the broker is back.
const GRACE: u64 = SECOND;
/// What servers may take to hear fanouts again.
const FANOUT_GRACE: u64 = 5 * SECOND;
/// Gaps are looked for from this long before the fault.
const LEAD: u64 = SECOND;

/// What one server wrote.
#[derive(Debug)]
pub(crate) struct Served {
    /// Its name; the successor of a killed one has the same.
    pub(crate) name: String,
    /// It was killed by the fault.
    pub(crate) killed: bool,
    pub(crate) entries: Vec<Entry>,
}

/// All that was written in a run. Times in microseconds.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) client: Vec<Entry>,
    pub(crate) servers: Vec<Served>,
    pub(crate) probes: Vec<Entry>,
    /// Begin and end of the fault.
    pub(crate) fault: (u64, u64),
    /// End of the traffic.
    pub(crate) end: u64,
    /// Timeout of a call.
    pub(crate) timeout: Duration,
}

/// What became of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Goal {
    Met,
    Missed,
}

impl Goal {
    fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }
}

/// What is said of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) fault: String,
    pub(crate) peer: &'static str,
    pub(crate) topology: &'static str,
    /// Calls that the client made.
    pub(crate) calls: usize,
    pub(crate) succeeded: usize,
    /// Of the succeeded: the reply came more than a second after the call's timeout, which was not kept.
    pub(crate) late: usize,
    /// Calls that failed, by kind of error.
    pub(crate) failed: BTreeMap<String, usize>,
    /// Of the failed: the broker was away until their timeout, or the killed server had begun them.
    pub(crate) excused: usize,
    /// Calls whose method ran more than once.
    pub(crate) twice: usize,
    /// Of these: the broker had not flagged a redelivery.
    pub(crate) twice_unflagged: usize,
    /// Calls whose method never ran.
    pub(crate) never_ran: usize,
    /// Longest time without a successful call, in seconds.
    pub(crate) gap: f64,
    /// Longest time for which the prober did not get through, in seconds.
    pub(crate) outage: f64,
    /// Fanouts the bus took.
    pub(crate) fanouts: usize,
    /// Fanouts that a server which ran did not hear, server by server.
    pub(crate) fanouts_missed: usize,
    /// Longest time for which a server heard no fanout, in seconds.
    pub(crate) fanout_gap: f64,
    /// How long the fault itself lasted, in seconds.
    pub(crate) fault_lasted: f64,
    pub(crate) goal_failed: Goal,
    pub(crate) goal_twice: Goal,
    pub(crate) goal_gap: Goal,
    pub(crate) goal_fanouts: Goal,
    /// What errors said, the first of each kind.
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    /// Whether every goal is met.
    pub(crate) fn is_good(&self) -> bool {
        self.goals().iter().all(|(_, goal)| *goal == Goal::Met)
    }

    /// All goals with short names.
    pub(crate) fn goals(&self) -> [(&'static str, Goal); 4] {
        [
            ("failed", self.goal_failed),
            ("twice", self.goal_twice),
            ("gap", self.goal_gap),
            ("fanouts", self.goal_fanouts),
        ]
    }
}

/// One operation as the client saw it.
struct Call {
    id: u64,
    start: u64,
    end: u64,
    outcome: String,
}

/// Judges a run.
pub(crate) fn judge(plan: Plan, seen: &Seen) -> Outcome {
    let calls = sent(&seen.client, Verb::Call);
    let fanouts = sent(&seen.client, Verb::Fanout);
    let outages = outages(&seen.probes);
    let runs = runs(&seen.servers);
    let flagged = flagged(&seen.servers);
    let (mut failed, mut excused, mut twice, mut unflagged, mut never) =
        (BTreeMap::new(), 0, 0, 0, 0);
    for call in &calls {
        let ran = runs.get(&call.id);
        match ran.map_or(0, |ran| ran.times) {
            0 => never += 1,
            1 => {}
            _ => {
                twice += 1;
                unflagged += usize::from(!flagged.contains(&call.id));
            }
        }
        if call.outcome != OK {
            *failed.entry(call.outcome.clone()).or_default() += 1;
            let died = ran.is_some_and(|ran| ran.on_killed);
            excused += usize::from(died || was_away(call, &outages, seen.timeout));
        }
    }
    let failures: usize = failed.values().sum();
    let limit = micros(seen.timeout).saturating_add(GRACE);
    let late = |call: &&Call| call.outcome == OK && call.end.saturating_sub(call.start) > limit;
    let from = seen.fault.0.saturating_sub(LEAD);
    let successes = calls.iter().filter(|call| call.outcome == OK);
    let gap = longest_gap(successes.map(|call| call.end), from, seen.end);
    let outage = outages.iter().map(|(from, to)| to - from).max();
    let outage = outage.unwrap_or(0);
    let (fanouts_missed, fanout_gap) = fanout_losses(seen, &fanouts, from);
    Outcome {
        fault: plan.fault.name(),
        peer: plan.peer.name(),
        topology: plan.topology.name(),
        calls: calls.len(),
        succeeded: calls.len() - failures,
        late: calls.iter().filter(late).count(),
        failed,
        excused,
        twice,
        twice_unflagged: unflagged,
        never_ran: never,
        gap: seconds(gap),
        outage: seconds(outage),
        fanouts: fanouts.iter().filter(|call| call.outcome == OK).count(),
        fanouts_missed,
        fanout_gap: seconds(fanout_gap),
        fault_lasted: seconds(seen.fault.1.saturating_sub(seen.fault.0)),
        goal_failed: Goal::of(failures == excused),
        goal_twice: Goal::of(unflagged == 0),
        goal_gap: Goal::of(gap <= outage + GRACE),
        goal_fanouts: Goal::of(fanout_gap <= outage + FANOUT_GRACE),
        errors: texts(&seen.client),
    }
}

fn sent(entries: &[Entry], wanted: Verb) -> Vec<Call> {
    let calls = entries.iter().filter_map(|entry| match entry {
        Entry::Sent {
            verb,
            id,
            start,
            end,
            outcome,
        } if *verb == wanted => Some(Call {
            id: *id,
            start: *start,
            end: *end,
            outcome: outcome.clone(),
        }),
        _ => None,
    });
    calls.collect()
}

/// How often a call's method ran, and whether on the server that was killed.
#[derive(Default)]
struct Ran {
    times: usize,
    on_killed: bool,
}

fn runs(servers: &[Served]) -> HashMap<u64, Ran> {
    let mut runs: HashMap<u64, Ran> = HashMap::new();
    for server in servers {
        for entry in &server.entries {
            if let Entry::Ran {
                verb: Verb::Call,
                id,
                ..
            } = entry
            {
                let ran = runs.entry(*id).or_default();
                ran.times += 1;
                ran.on_killed |= server.killed;
            }
        }
    }
    runs
}

fn flagged(servers: &[Served]) -> HashSet<u64> {
    let entries = servers.iter().flat_map(|server| &server.entries);
    let ids = entries.filter_map(|entry| match entry {
        Entry::Again { id } => Some(*id),
        _ => None,
    });
    ids.collect()
}

/// When the prober did not get through: from the start of the first bad look to the end of the next good one.
fn outages(probes: &[Entry]) -> Vec<(u64, u64)> {
    let mut outages = Vec::new();
    let mut since = None;
    let mut last = 0;
    for entry in probes {
        let Entry::Probe { start, end, ok } = entry else {
            continue;
        };
        last = *end;
        if !ok {
            since.get_or_insert(*start);
        } else if let Some(since) = since.take() {
            outages.push((since, *end));
        }
    }
    outages.extend(since.map(|since| (since, last)));
    outages
}

/// Whether the broker was away while the call ran, and until less than the grace before its timeout.
fn was_away(call: &Call, outages: &[(u64, u64)], timeout: Duration) -> bool {
    let deadline = call.start.saturating_add(micros(timeout));
    outages
        .iter()
        .any(|(from, to)| *from <= deadline && *to >= call.start && deadline <= *to + GRACE)
}

/// The longest time between two of `times`, the borders included, from `from` to `to`.
fn longest_gap(times: impl Iterator<Item = u64>, from: u64, to: u64) -> u64 {
    let mut within: Vec<u64> = times.filter(|time| (from..=to).contains(time)).collect();
    within.push(to);
    within.sort_unstable();
    let mut last = from;
    let gaps = within.into_iter().map(|time| {
        let gap = time - last;
        last = time;
        gap
    });
    gaps.max().unwrap_or(0)
}

/// Fanouts missed and the longest time without one, over the servers that were not killed.
fn fanout_losses(seen: &Seen, fanouts: &[Call], from: u64) -> (usize, u64) {
    let (mut missed, mut gap) = (0, 0);
    if fanouts.is_empty() {
        return (missed, gap);
    }
    let killed: HashSet<&str> = seen
        .servers
        .iter()
        .filter(|server| server.killed)
        .map(|server| server.name.as_str())
        .collect();
    for server in &seen.servers {
        if killed.contains(server.name.as_str()) {
            continue;
        }
        let heard: HashMap<u64, u64> = server
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Ran {
                    verb: Verb::Fanout,
                    id,
                    at,
                } => Some((*id, *at)),
                _ => None,
            })
            .collect();
        let taken = fanouts.iter().filter(|fanout| fanout.outcome == OK);
        missed += taken
            .filter(|fanout| !heard.contains_key(&fanout.id))
            .count();
        gap = gap.max(longest_gap(heard.values().copied(), from, seen.end));
    }
    (missed, gap)
}

fn texts(entries: &[Entry]) -> Vec<String> {
    let mut known = HashSet::new();
    let texts = entries.iter().filter_map(|entry| match entry {
        Entry::Error { kind, text } if known.insert(kind) => Some(format!("{kind}: {text}")),
        _ => None,
    });
    texts.collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> f64 {
    // Milliseconds are as exact as any of this is.
    Duration::from_millis(micros / 1000).as_secs_f64()
}

#[cfg(test)]
#[path = "analysis/tests.rs"]
mod tests;
