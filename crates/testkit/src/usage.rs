//! What a process has used so far, as the system tells it: processor time, memory, wakes, page faults.
//!
//! ```
//! use oslo_messaging_testkit::usage::{cpu_ns, page_faults, status, wakeups};
//!
//! # fn main() -> std::io::Result<()> {
//! let own = std::process::id();
//! assert!(cpu_ns(own)? > 0 && page_faults(own)? > 0 && status(own, "VmRSS:")? > 0);
//! println!("{} wakes so far", wakeups(own)?);
//! # Ok(()) }
//! ```

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// CPU time, in nanoseconds, of the threads of a process that still run; a broker's live as long as it does.
///
/// # Errors
///
/// When there is no such process.
pub fn cpu_ns(process: u32) -> io::Result<u64> {
    of_threads(process, "schedstat", |text| {
        text.split_whitespace().next()?.parse().ok()
    })
}

/// How long, in nanoseconds, threads of a process that still run were ready to run and had no processor; 0 where the system
/// does not count it.
///
/// # Errors
///
/// When there is no such process.
pub fn waited_ns(process: u32) -> io::Result<u64> {
    of_threads(process, "schedstat", |text| {
        text.split_whitespace().nth(1)?.parse().ok()
    })
}

/// Measures a step of a test that others take part in, and leaves out what a busy machine adds to it.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_testkit::usage::Stopwatch;
///
/// # fn main() -> std::io::Result<()> {
/// let watch = Stopwatch::start()?;
/// assert!(watch.elapsed_without_waits()? < Duration::from_secs(2));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Stopwatch {
    started: Instant,
    waited: u64,
}

impl Stopwatch {
    /// Begins now.
    ///
    /// # Errors
    ///
    /// When the system does not tell about this process.
    pub fn start() -> io::Result<Self> {
        Ok(Self {
            started: Instant::now(),
            waited: waited_ns(std::process::id())?,
        })
    }

    /// How long it has been, without twice the time in which threads of this process waited for a processor: once for
    /// ourselves, and once for a broker, which waits as long.
    ///
    /// # Errors
    ///
    /// When the system does not tell about this process.
    pub fn elapsed_without_waits(&self) -> io::Result<Duration> {
        let elapsed = self.started.elapsed();
        // A thread may have ended, and its time with it.
        let waited = waited_ns(std::process::id())?.saturating_sub(self.waited);
        Ok(elapsed.saturating_sub(2 * Duration::from_nanos(waited)))
    }
}

/// How often threads of a process that still run woke up: the context switches that they asked for themselves.
///
/// # Errors
///
/// When there is no such process.
pub fn wakeups(process: u32) -> io::Result<u64> {
    of_threads(process, "status", |text| {
        number_after(text, "voluntary_ctxt_switches:")
    })
}

/// Pages of memory that a process touched for the first time, or again after they had been given back.
///
/// # Errors
///
/// When there is no such process.
pub fn page_faults(process: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold anything.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest);
    let count = fields.and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok());
    count.ok_or_else(|| untold(process, "page faults"))
}

/// The number after `field` in the status of a process, in the system's unit: `VmRSS:` is KiB.
///
/// # Errors
///
/// When there is no such process, or nothing of that name in its status.
pub fn status(process: u32, field: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    number_after(&text, field).ok_or_else(|| untold(process, field))
}

fn number_after(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A number of each thread, taken out of this file of its folder, all together.
fn of_threads(process: u32, file: &str, number: impl Fn(&str) -> Option<u64>) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while it is looked at.
        if let Ok(text) = fs::read_to_string(thread?.path().join(file)) {
            sum += number(&text).unwrap_or_default();
        }
    }
    Ok(sum)
}

fn untold(process: u32, what: &str) -> io::Error {
    io::Error::other(format!("the system tells no {what} of process {process}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_shows_as_time_rest_as_wakes_and_fresh_memory_as_faults() {
        let own = std::process::id();
        let cpu = cpu_ns(own).expect("our own threads");
        while cpu_ns(own).expect("our own threads") < cpu + 2_000_000 {}
        let woken = wakeups(own).expect("our own threads");
        std::thread::sleep(Duration::from_millis(1));
        assert!(wakeups(own).expect("our own threads") > woken);
        let faults = page_faults(own).expect("our own memory");
        assert_eq!(
            vec![1_u8; 8 << 20]
                .iter()
                .filter(|byte| **byte == 1)
                .count(),
            8 << 20
        );
        // A page may have 2 MiB.
        assert!(page_faults(own).expect("our own memory") >= faults + 4);
    }

    #[test]
    fn who_is_not_there_has_used_nothing() {
        for tell in [cpu_ns, wakeups, page_faults] {
            assert!(tell(u32::MAX).is_err());
        }
        assert!(status(u32::MAX, "VmRSS:").is_err());
        assert!(status(std::process::id(), "Nothing:").is_err());
    }
}
