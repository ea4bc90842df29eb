//! The report of a run: tables for `docs/performance.md`, and every sample as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::args::Peer;
use crate::goals::{Met, Verdict};
use crate::series::Book;

/// What the section is written between.
const BEGIN: &str = "<!-- bench-peers: begin (written by scripts/bench-peers) -->";
const END: &str = "<!-- bench-peers: end -->";

/// Where and how a run was made.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) machine: String,
    pub(crate) rabbitmq: String,
    pub(crate) python: String,
    pub(crate) load_before: f64,
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) short: bool,
    pub(crate) commit: String,
    pub(crate) took: Duration,
}

/// Figures of a table: its rows of the book, and the columns that make sense for them.
struct Table {
    title: &'static str,
    row: &'static str,
    unit: &'static str,
    columns: &'static [Column],
}

/// A heading, and the figures under it, which are set with a plus between them.
type Column = (&'static str, &'static [&'static str]);

const BOTH: &[Column] = &[
    ("p50 µs", &["p50"]),
    ("p99 µs", &["p99"]),
    ("CPU µs, client + server", &["client_cpu", "server_cpu"]),
    ("broker µs", &["broker_cpu"]),
    ("switches", &["client_switches", "server_switches"]),
    ("RSS MiB", &["client_rss", "server_rss"]),
];
const SENDER: &[Column] = &[
    ("p50 µs", &["p50"]),
    ("p99 µs", &["p99"]),
    ("CPU µs", &["client_cpu"]),
    ("broker µs", &["broker_cpu"]),
    ("switches", &["client_switches"]),
    ("RSS MiB", &["client_rss"]),
];
const TAKER: &[Column] = &[
    ("CPU µs", &["server_cpu"]),
    ("broker µs", &["broker_cpu"]),
    ("switches", &["server_switches"]),
    ("RSS MiB", &["server_rss"]),
];
const INSIDE: &[Column] = &[
    ("p50 µs", &["p50"]),
    ("p99 µs", &["p99"]),
    ("CPU µs", &["client_cpu"]),
    ("switches", &["client_switches"]),
    ("RSS MiB", &["client_rss"]),
];

const TABLES: &[Table] = &[
    Table {
        title: "Calls of 100 B, 1 caller",
        row: "call, 1 caller",
        unit: "calls/s",
        columns: BOTH,
    },
    Table {
        title: "Calls of 100 B, 16 callers",
        row: "call, 16 callers",
        unit: "calls/s",
        columns: BOTH,
    },
    Table {
        title: "Calls of 100 B, 64 callers",
        row: "call, 64 callers",
        unit: "calls/s",
        columns: BOTH,
    },
    Table {
        title: "Calls of 64 KiB, 16 callers",
        row: "call, 64 KiB",
        unit: "calls/s",
        columns: BOTH,
    },
    Table {
        title: "Calls of 1 MiB, 16 callers",
        row: "call, 1 MiB",
        unit: "calls/s",
        columns: BOTH,
    },
    Table {
        title: "Casts of 100 B, confirmed, 16 callers",
        row: "cast, 16 callers",
        unit: "casts/s",
        columns: BOTH,
    },
    Table {
        title: "Notifications, each confirmed to its caller, 16 callers",
        row: "notify, 16 callers",
        unit: "sent/s",
        columns: SENDER,
    },
    Table {
        title: "Notifications through the notifier's buffer, until all are confirmed, 16 callers",
        row: "notify, buffered",
        unit: "sent/s",
        columns: SENDER,
    },
    Table {
        title: "Notifications drained from a full queue by one listener",
        row: "drain",
        unit: "taken/s",
        columns: TAKER,
    },
    Table {
        title: "Fanout casts to 10 servers in one process, 16 callers",
        row: "fanout, 10 servers",
        unit: "deliveries/s",
        columns: TAKER,
    },
    Table {
        title: "Calls of 100 B inside a process, 1 caller",
        row: "in memory, 1 caller",
        unit: "calls/s",
        columns: INSIDE,
    },
    Table {
        title: "Calls of 100 B inside a process, 16 callers",
        row: "in memory, 16 callers",
        unit: "calls/s",
        columns: INSIDE,
    },
    Table {
        title: "Frames and connections, 16 callers, counted by a relay",
        row: "frames",
        unit: "calls/s",
        columns: &[
            ("acks a call", &["acks"]),
            ("publishes a call", &["publishes"]),
            (
                "connections, client + server",
                &["client_relayed", "server_relayed"],
            ),
        ],
    },
    Table {
        title: "System calls a call, 64 callers",
        row: "syscalls",
        unit: "calls/s",
        columns: &[("client + server", &["client_syscalls", "server_syscalls"])],
    },
    Table {
        title: "Allocations a call, 64 callers",
        row: "allocations",
        unit: "calls/s",
        columns: &[(
            "client + server",
            &["client_allocations", "server_allocations"],
        )],
    },
    Table {
        title: "Memory of further connections",
        row: "more",
        unit: "",
        columns: &[
            ("MiB a connection", &["rss_per_connection"]),
            ("MiB a transport", &["rss_per_transport"]),
        ],
    },
    Table {
        title: "One call by a process that starts for it",
        row: "cold",
        unit: "",
        columns: &[
            ("ms, median", &["milliseconds"]),
            ("ms, fastest", &["fastest"]),
        ],
    },
    Table {
        title: "10,000 calls in flight",
        row: "flight",
        unit: "",
        columns: &[
            ("connections a side", &["connections"]),
            ("KiB a call, client + server", &["client_kib", "server_kib"]),
        ],
    },
    Table {
        title: "A service and a client without work",
        row: "idle",
        unit: "",
        columns: &[
            ("wake-ups/s of the service, heartbeats off", &["wakeups"]),
            ("heartbeats on", &["with_heartbeats"]),
            ("of a client, heartbeats on", &["client_wakeups"]),
        ],
    },
];

/// The section as it stands in the document.
pub(crate) fn markdown(
    book: &Book,
    verdicts: &[Verdict],
    setting: &Setting,
    problems: &[String],
) -> String {
    let mut text = String::new();
    introduce(&mut text, setting);
    goals(&mut text, verdicts);
    for table in TABLES.iter().filter(|table| book.has(table.row)) {
        tabulate(&mut text, book, table);
    }
    for problem in problems {
        let _ = writeln!(text, "\nNot measured: {problem}");
    }
    text
}

fn introduce(text: &mut String, setting: &Setting) {
    let Setting {
        machine,
        rabbitmq,
        python,
        load_before,
        seed,
        rounds,
        seconds,
        commit,
        ..
    } = setting;
    let (date, mode) = (date(), if setting.short { " in short mode" } else { "" });
    let _ = writeln!(
        text,
        "Measured on {date} at {commit}{mode}: {machine}; RabbitMQ {rabbitmq} on loopback; {python}; {}. {rounds} rounds of \
         {seconds} s windows, {:.0} minutes, load average {load_before} before, seed {seed}.\n",
        clients(),
        setting.took.as_secs_f64() / 60.0,
    );
}

/// The versions of the Rust clients that this program is built with.
fn clients() -> String {
    const LOCK: &str = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let rest = LOCK
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split('"').next()).unwrap_or("?")
    };
    format!("lapin {}, amqprs {}", version("lapin"), version("amqprs"))
}

fn goals(text: &mut String, verdicts: &[Verdict]) {
    text.push_str(
        "| # | goal | Python | ours | must | aim | verdict |\n|--:|---|--:|--:|--:|--:|---|\n",
    );
    for Verdict {
        number,
        figure,
        python,
        ours,
        must,
        aim,
        unit,
        met,
    } in verdicts
    {
        let shown =
            |value: &Option<f64>| value.map_or("–".to_owned(), |value| with_unit(value, unit));
        let verdict = match met {
            Met::Aim => "met aim",
            Met::Must => "met must",
            Met::Missed => "**missed**",
            Met::Unknown => "not measured",
        };
        let (python, ours) = (shown(python), shown(ours));
        let (must, aim) = (with_unit(*must, unit), with_unit(*aim, unit));
        let _ = writeln!(
            text,
            "| {number} | {figure} | {python} | {ours} | {must} | {aim} | {verdict} |"
        );
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim().to_owned()
}

fn tabulate(text: &mut String, book: &Book, table: &Table) {
    let _ = writeln!(text, "\n**{}**\n", table.title);
    let rated = !table.unit.is_empty();
    let mut heads = if rated {
        vec![table.unit, "×", "±"]
    } else {
        Vec::new()
    };
    heads.extend(table.columns.iter().map(|(head, _)| *head));
    let _ = writeln!(text, "| | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "--:|".repeat(heads.len()));
    for peer in Peer::ALL {
        let median = |figure: &str| book.median(table.row, peer, figure);
        let any = table
            .columns
            .iter()
            .flat_map(|(_, figures)| figures.iter())
            .any(|figure| median(figure).is_some());
        if !any {
            continue;
        }
        let dash = || "–".to_owned();
        let mut cells = Vec::new();
        if rated {
            cells.push(median("rate").map_or_else(dash, number));
            let times = book.ratio(table.row, "rate", peer, Peer::Python);
            cells.push(times.map_or_else(dash, number));
            let spread = book.spread(table.row, peer, "rate");
            cells.push(spread.map_or_else(dash, |share| format!("{:.0} %", share * 100.0)));
        }
        for (_, figures) in table.columns {
            let parts: Vec<String> = figures
                .iter()
                .filter_map(|figure| median(figure))
                .map(number)
                .collect();
            cells.push(if parts.is_empty() {
                dash()
            } else {
                parts.join(" + ")
            });
        }
        let _ = writeln!(text, "| {} | {} |", peer.title(), cells.join(" | "));
    }
}

/// Three digits that count, and thousands divided.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let plain = format!("{value:.digits$}");
    let (whole, rest) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut divided = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0
            && (whole.len() - at) % 3 == 0
            && digit.is_ascii_digit()
            && !divided.ends_with('-')
        {
            divided.push(',');
        }
        divided.push(digit);
    }
    if rest.is_empty() {
        divided
    } else {
        format!("{divided}.{rest}")
    }
}

/// Writes the section anew, between its markers; they must be there.
pub(crate) fn write_between_markers(file: &Path, text: &str) -> Result<(), String> {
    let fail = |why: String| format!("{}: {why}", file.display());
    let old = std::fs::read_to_string(file).map_err(|fault| fail(fault.to_string()))?;
    let new = between_markers(&old, text)
        .ok_or_else(|| fail(format!("has no lines `{BEGIN}` and `{END}`")))?;
    std::fs::write(file, new).map_err(|fault| fail(fault.to_string()))
}

fn between_markers(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        text.trim_end()
    ))
}

/// Saves every sample and every verdict.
pub(crate) fn save(
    book: &Book,
    verdicts: &[Verdict],
    setting: &Setting,
    file: &Path,
) -> Result<(), String> {
    let run = serde_json::json!({
        "date": date(), "commit": setting.commit, "machine": setting.machine, "rabbitmq": setting.rabbitmq,
        "python": setting.python, "clients": clients(), "rounds": setting.rounds, "seconds": setting.seconds,
        "seed": setting.seed, "short": setting.short, "load_before": setting.load_before,
        "goals": verdicts, "samples": book.lines().collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&run).map_err(|fault| fault.to_string())?;
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|fault| format!("{}: {fault}", folder.display()))?;
    }
    std::fs::write(file, text).map_err(|fault| format!("{}: {fault}", file.display()))
}

/// Today, in UTC, as `2026-02-03`.
fn date() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (year, month, day) = civil(i64::try_from(seconds / 86_400).unwrap_or_default());
    format!("{year}-{month:02}-{day:02}")
}

/// The day of the Gregorian calendar that lies so many days after the first of 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let (mut year, mut left) = (1970, days);
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    while left >= 365 + leap(year) {
        left -= 365 + leap(year);
        year += 1;
    }
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let shown: Vec<String> = [0.0, 0.5, 9.876, 25.04, 854.3, 17_947.2, 1_234_567.0]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(
            shown,
            ["0", "0.50", "9.88", "25.0", "854", "17,947", "1,234,567"]
        );
    }

    #[test]
    fn only_what_is_between_the_markers_is_written() {
        let old = format!("# Speed\n{BEGIN}\nold\n{END}\nmore\n");
        let new = between_markers(&old, "new\n").expect("both markers are there");
        assert_eq!(new, format!("# Speed\n{BEGIN}\nnew\n{END}\nmore\n"));
        assert_eq!(between_markers("# Speed\n", "new"), None);
    }

    #[test]
    fn days_have_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_777), (2026, 11, 20));
    }
}
