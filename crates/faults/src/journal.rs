//! The files in which the processes of a run write what happened to them, one event a line, in one form for Rust and
//! Python.
//!
//! | line | written by | means |
//! |---|---|---|
//! | `call ID START END OUTCOME` | client | a call ended: `ok`, or the kind of its error |
//! | `cast ID START END OUTCOME` | client | a cast ended |
//! | `fanout NUMBER START END OUTCOME` | client | a fanout ended |
//! | `error KIND TEXT` | client | what an error of this kind says |
//! | `run ID AT` | server | a call's method began |
//! | `took ID AT` | server | a cast's method began |
//! | `heard NUMBER AT` | server | a fanout's method began |
//! | `again ID AT` | server | the broker delivered this call or cast with the flag `redelivered` |
//! | `tasks COUNT AT` | both | tasks of the runtime, or threads of Python |
//! | `probe START END OUTCOME` | prober | an attempt to connect and publish: `ok` or why not |
//!
//! Times are microseconds since 1970: all processes are on one machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// How an operation of the client is told.
pub(crate) const OK: &str = "ok";

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// What a client does to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Call,
    Cast,
    Fanout,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The client's view of one operation.
    Sent {
        verb: Verb,
        id: u64,
        start: u64,
        end: u64,
        outcome: String,
    },
    /// A server's view of one.
    Ran { verb: Verb, id: u64, at: u64 },
    /// A redelivery.
    Again { id: u64 },
    /// The text of an error.
    Error { kind: String, text: String },
    /// Tasks or threads.
    Tasks { count: u64, at: u64 },
    /// One look of the prober.
    Probe { start: u64, end: u64, ok: bool },
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let sent = |verb, id, start, end, outcome: &str| Self::Sent {
            verb,
            id,
            start,
            end,
            outcome: outcome.to_owned(),
        };
        Some(match kind {
            "call" | "cast" | "fanout" => {
                let verb = match kind {
                    "call" => Verb::Call,
                    "cast" => Verb::Cast,
                    _ => Verb::Fanout,
                };
                let (id, start, end) = (number()?, number()?, number()?);
                sent(verb, id, start, end, words.next()?)
            }
            "run" | "took" | "heard" => {
                let verb = match kind {
                    "run" => Verb::Call,
                    "took" => Verb::Cast,
                    _ => Verb::Fanout,
                };
                Self::Ran {
                    verb,
                    id: number()?,
                    at: number()?,
                }
            }
            "again" => Self::Again { id: number()? },
            "tasks" => Self::Tasks {
                count: number()?,
                at: number()?,
            },
            "probe" => Self::Probe {
                start: number()?,
                end: number()?,
                ok: words.next()? == OK,
            },
            "error" => Self::Error {
                kind: words.next()?.to_owned(),
                text: words.collect::<Vec<_>>().join(" "),
            },
            _ => return None,
        })
    }
}

/// What a process wrote so far. A last line that is not whole (its writer was killed) is left out.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(whole.lines().filter_map(Entry::parse).collect())
}

/// The file of one process. Every line is written at once, so that a kill loses none.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Appends to the file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }

    /// Writes one line. A full disk shows as missing lines, which the counts tell.
    pub(crate) fn line(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(format!("{text}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_but_for_a_torn_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let journal = Journal::open(&path).expect("a new file");
        journal.line("call 7 10 20 ok");
        journal.line("error Timeout no reply in time");
        journal.line("something else");
        journal.line("probe 1 2 refused");
        std::fs::write(
            &path,
            [
                &std::fs::read(&path).expect("written"),
                b"run 7 1".as_slice(),
            ]
            .concat(),
        )
        .expect("writable");
        let expected = [
            Entry::Sent {
                verb: Verb::Call,
                id: 7,
                start: 10,
                end: 20,
                outcome: OK.to_owned(),
            },
            Entry::Error {
                kind: "Timeout".to_owned(),
                text: "no reply in time".to_owned(),
            },
            Entry::Probe {
                start: 1,
                end: 2,
                ok: false,
            },
        ];
        assert_eq!(read(&path).expect("readable"), expected);
    }
}
