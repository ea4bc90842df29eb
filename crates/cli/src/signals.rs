//! The signals that ask this program to end.

#[cfg(unix)]
use std::io;

use crate::exit::Problem;

/// SIGINT and SIGTERM, caught from the making of this value on.
#[cfg(unix)]
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// A problem of this machine.
    pub(crate) fn catch() -> Result<Self, Problem> {
        use tokio::signal::unix::{SignalKind, signal};

        let caught = |kind| signal(kind).map_err(not_caught);
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
        })
    }

    /// Resolves at the next signal, with its name. Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Ctrl-C, where there are no signals.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Nothing to prepare.
    ///
    /// # Errors
    /// None.
    pub(crate) fn catch() -> Result<Self, Problem> {
        Ok(Self)
    }

    /// Resolves at the next Ctrl-C, with its name. Cancel safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}

#[cfg(unix)]
fn not_caught(fault: io::Error) -> Problem {
    Problem::local(format!(
        "cannot catch the signals that end this server: {fault}"
    ))
}
