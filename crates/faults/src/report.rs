//! What is shown of runs: a Markdown table, JSON, and what was missed.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::analysis::{Goal, Outcome};

const HEAD: &str = "\
| fault | driver | calls | succeeded | of these late | failed | of these excused | ran twice | not flagged | never ran | longest gap | outage | fanouts missed | fanout gap | goals |
|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|
";

/// The table of all runs.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = HEAD.to_owned();
    for one in outcomes {
        let failed: Vec<String> = one
            .failed
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let failed = if failed.is_empty() {
            "0".to_owned()
        } else {
            failed.join(", ")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {failed} | {} | {} | {} | {} | {:.2} s | {:.2} s | {} of {} | {:.2} s | {} |",
            one.fault,
            one.peer,
            one.calls,
            one.succeeded,
            one.late,
            one.excused,
            one.twice,
            one.twice_unflagged,
            one.never_ran,
            one.gap,
            one.outage,
            one.fanouts_missed,
            one.fanouts * 2,
            one.fanout_gap,
            goals(one)
        );
    }
    text
}

/// `met`, or the goals missed.
pub(crate) fn goals(one: &Outcome) -> String {
    let missed: Vec<&str> = one
        .goals()
        .into_iter()
        .filter(|(_, goal)| *goal == Goal::Missed)
        .map(|(name, _)| name)
        .collect();
    if missed.is_empty() {
        "met".to_owned()
    } else {
        format!("missed: {}", missed.join(", "))
    }
}

/// Writes the table to `path`, and the same as JSON beside it (`.json`).
///
/// # Errors
///
/// When a file cannot be written.
pub(crate) fn write(path: &Path, outcomes: &[Outcome]) -> io::Result<()> {
    std::fs::write(path, markdown(outcomes))?;
    let json = serde_json::to_string_pretty(outcomes)?;
    std::fs::write(path.with_extension("json"), json + "\n")
}
