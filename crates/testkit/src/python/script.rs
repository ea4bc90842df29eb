//! A Python script of `interop/` that reads one JSON document and writes another.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{PYTHON_VARIABLE, interop, interpreter};
use crate::skip::skip;

/// Longer than any script takes, unless it hangs.
const SCRIPT_LIMIT: Duration = Duration::from_secs(120);

/// Runs the script `name` of `interop/` with `input`; none if there is no Python environment, which is said.
///
/// # Panics
/// If it cannot be run, takes more than two minutes, or does not answer with JSON; the text has what it printed.
///
/// ```no_run
/// # use oslo_messaging_testkit::python::script_or_skip;
/// # use serde_json::json;
/// let Some(options) = script_or_skip("example", "config_reader.py", &json!({"list": true})) else { return };
/// assert!(options.as_array().is_some_and(|options| options.len() > 50));
/// ```
pub fn script_or_skip(test: &str, name: &str, input: &Value) -> Option<Value> {
    let Some(python) = interpreter() else {
        let reason = format!("no Python environment ({PYTHON_VARIABLE} is not set)");
        skip(test, &reason);
        return None;
    };
    let answer = run(&python, &interop(name), input.to_string());
    Some(answer.unwrap_or_else(|fault| panic!("{name}: {fault}")))
}

fn run(python: &Path, script: &Path, input: String) -> io::Result<Value> {
    let mut child = Command::new(python)
        .arg("-B")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (ended, whole) = mpsc::channel();
    let (Some(mut words), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let writer = thread::spawn(move || words.write_all(input.as_bytes()));
    let errors = collect(errors, mpsc::channel().0);
    let output = collect(output, ended);
    let in_time = whole.recv_timeout(SCRIPT_LIMIT).is_ok();
    end(&mut child, in_time)?;
    let printed = joined(errors)?;
    let output = joined(output)?;
    if !in_time {
        return Err(io::Error::other("it takes too long"));
    }
    let _ = writer.join();
    serde_json::from_slice(&output).map_err(|fault| {
        io::Error::other(format!("{fault}: {}", String::from_utf8_lossy(&printed)))
    })
}

/// Reads a pipe to its end in a thread of its own.
fn collect(
    mut pipe: impl Read + Send + 'static,
    ended: mpsc::Sender<()>,
) -> thread::JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.read_to_end(&mut bytes);
        // Whoever waited may have given up.
        let _ = ended.send(());
        read.map(|_| bytes)
    })
}

fn joined(reader: thread::JoinHandle<io::Result<Vec<u8>>>) -> io::Result<Vec<u8>> {
    match reader.join() {
        Ok(read) => read,
        Err(_) => Err(io::Error::other("a reading thread panicked")),
    }
}

fn end(child: &mut Child, by_itself: bool) -> io::Result<()> {
    if !by_itself {
        child.kill()?;
    }
    child.wait().map(drop)
}
