//! The table of `docs/parity.md` as data, and the rules it must keep.

use std::collections::{BTreeMap, BTreeSet};

/// The states a row can have, as the summary counts them.
const STATES: [&str; 5] = ["done", "done (part)", "better", "better (part)", "not yet"];
/// How the note of a row begins that nothing in this project can correspond to.
const WITHOUT: &str = "no counterpart";

/// One row.
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    state: &'a str,
    note: &'a str,
    /// The last cell: what shows it.
    shown: &'a str,
}

/// The cells of a line that is part of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Everything that is wrong with the table, one line each.
pub(crate) fn faults(text: &str, ids: &str, exists: &dyn Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut rows = Vec::new();
    let mut summary = BTreeMap::new();
    let mut header: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some(cells) = cells(line.trim_end()) else {
            header.clear();
            continue;
        };
        if header.is_empty() {
            header = cells;
        } else if cells.iter().all(|cell| cell.chars().all(|c| c == '-')) && cells[0].len() > 1 {
            continue;
        } else if header[0] == "id" {
            match cells[..] {
                [id, name, state, note, shown] => rows.push(Row {
                    id,
                    name,
                    state,
                    note,
                    shown,
                }),
                _ => found.push(format!("{}: {} cells instead of 5", cells[0], cells.len())),
            }
        } else if header[..] == ["state", "rows"] && cells.len() == 2 {
            summary.insert(cells[0], cells[1]);
        }
    }
    for row in &rows {
        row_faults(row, exists, &mut found);
    }
    id_faults(&rows, ids, &mut found);
    summary_faults(&rows, &summary, &mut found);
    found
}

fn row_faults(row: &Row<'_>, exists: &dyn Fn(&str, &str) -> bool, found: &mut Vec<String>) {
    let Row {
        id, state, note, ..
    } = row;
    let mut fault = |text: String| found.push(format!("{id}: {text}"));
    if !STATES.contains(state) {
        fault(format!("unknown state {state:?}"));
    }
    if row.name.is_empty() {
        fault("has no name".into());
    }
    let mut tests = 0;
    for (place, piece) in row.shown.split('`').enumerate() {
        let reference = piece.trim();
        if place % 2 == 0 {
            if !reference.is_empty() {
                fault(format!("{reference:?} is no `file::test`"));
            }
        } else if let Some((file, name)) = reference.split_once("::") {
            tests += 1;
            if !exists(file, name) {
                fault(format!("no test {reference}"));
            }
        } else {
            fault(format!("`{reference}` is no `file::test`"));
        }
    }
    match (*state, tests) {
        ("not yet", 1..) => fault("not yet, and yet a test".into()),
        ("not yet", 0) => {}
        (_, 0) => fault(format!("{state} without a test")),
        _ => {}
    }
    if note.is_empty() && state.ends_with("(part)") {
        fault(format!("{state} without a word what is missing"));
    } else if note.is_empty() && *state == "better" {
        fault("better without a word how".into());
    }
}

fn id_faults(rows: &[Row<'_>], ids: &str, found: &mut Vec<String>) {
    let mut wanted = BTreeSet::new();
    for id in ids.lines().map(str::trim) {
        if !id.is_empty() && !id.starts_with('#') && !wanted.insert(id) {
            found.push(format!("{id}: is in the list of ids twice"));
        }
    }
    let mut seen = BTreeSet::new();
    for row in rows {
        if !seen.insert(row.id) {
            found.push(format!("{}: is there twice", row.id));
        }
        if !wanted.contains(row.id) {
            found.push(format!("{}: no such row in the list of ids", row.id));
        }
    }
    for id in wanted.difference(&seen) {
        found.push(format!("{id}: the row is missing"));
    }
}

fn summary_faults(rows: &[Row<'_>], summary: &BTreeMap<&str, &str>, found: &mut Vec<String>) {
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    let without = rows
        .iter()
        .filter(|row| row.note.starts_with(WITHOUT))
        .count();
    let mut counts: Vec<(&str, usize)> =
        STATES.iter().map(|state| (*state, count(state))).collect();
    counts.extend([
        ("of them without counterpart", without),
        ("all", rows.len()),
    ]);
    for (line, counted) in counts {
        match summary.get(line) {
            None => found.push(format!("the summary has no line {line:?}")),
            Some(said) if *said != counted.to_string() => found.push(format!(
                "the summary says {said} for {line:?}, the table {counted}"
            )),
            Some(_) => {}
        }
    }
}

/// Whether this line begins the function of this name.
fn begins(line: &str, name: &str) -> bool {
    let after = line
        .trim_start_matches("pub ")
        .trim_start_matches("async ")
        .strip_prefix("fn ")
        .and_then(|rest| rest.strip_prefix(name));
    !name.is_empty() && after.is_some_and(|rest| rest.starts_with(['(', '<']))
}

/// Whether a source has a test of this name: a function under a `test` attribute.
pub(crate) fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let is_test = |attribute: &&str| {
        let word = attribute
            .trim_start_matches("#[")
            .split(['(', ']'])
            .next()
            .unwrap_or_default();
        attribute.starts_with("#[") && (word == "test" || word.ends_with("::test"))
    };
    lines.iter().enumerate().any(|(at, line)| {
        let above = lines[..at].iter().rev();
        let mut attributes =
            above.take_while(|above| above.starts_with("#[") || above.starts_with("///"));
        begins(line, name) && attributes.any(is_test)
    })
}

/// Whether a source of the conformance suite has a case of this name, and the suite's list runs it.
pub(crate) fn has_case(source: &str, list: &str, name: &str) -> bool {
    let case = |line: &str| line.starts_with("pub async fn ") && begins(line, name);
    source.lines().any(case) && list.lines().any(|line| line.trim() == name)
}

/// What stands between backticks in the last cell of each line of a table.
pub(crate) fn named_in_last_cells(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(cells)
        .filter_map(|cells| cells.last().copied())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
}
