//! Runs a command with the test services up: one RabbitMQ node and the Python environment.
//!
//! `with-services -- cargo test --workspace` starts a node, tells the command by environment variables where it is,
//! passes on the command's exit code, and stops everything whatever ends first: the command, an interrupt, a
//! termination or even the kill of this program.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use oslo_messaging_testkit::process::send_signal_to_group;
use oslo_messaging_testkit::python::PYTHON_VARIABLE;
use oslo_messaging_testkit::rabbit::node::Node;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

const END_LIMIT: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os()
        .skip(1)
        .skip_while(|argument| argument == "--");
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-services -- COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match run(command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("with-services: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut command: Command) -> io::Result<ExitCode> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    let stop = async {
        tokio::select! {
            _ = interrupted.recv() => 130,
            _ = terminated.recv() => 143,
            _ = hung_up.recv() => 129,
        }
    };
    tokio::pin!(stop);

    let started = Instant::now();
    let node = tokio::select! {
        node = Node::boot() => node?,
        code = &mut stop => return Ok(ExitCode::from(code)),
    };
    eprintln!(
        "with-services: broker on 127.0.0.1:{} after {:.1?}",
        node.port(),
        started.elapsed()
    );
    command.envs(node.environment());
    if let Some(python) = python() {
        command.env(PYTHON_VARIABLE, python);
    }

    // A group of its own, so that one signal ends the command with all it started.
    let mut child = command.process_group(0).spawn()?;
    let group = child.id();
    let code = tokio::select! {
        status = child.wait() => exit_code(status?),
        code = &mut stop => {
            let end = |signal| group.map(|group| send_signal_to_group(group, signal));
            end(Signal::TERM);
            let _ = tokio::time::timeout(END_LIMIT, child.wait()).await;
            end(Signal::KILL);
            code
        }
    };
    drop(node);
    Ok(ExitCode::from(code))
}

/// The code a shell would report: the command's own, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;

    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The interpreter named by the environment, or the one `scripts/setup-test-services` made beside this program's
/// target folder.
fn python() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(PYTHON_VARIABLE) {
        return Some(named.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.parent()?;
    Some(root.join("target/test-services/venv/bin/python")).filter(|path| path.is_file())
}
