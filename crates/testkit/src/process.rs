//! Ports, programs and processes of the test services: how they are found, signalled and never left behind.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use crate::usage::status;

/// How often a condition is looked at again where nothing tells us that it holds.
pub const POLL: Duration = Duration::from_millis(20);

/// A port on 127.0.0.1 that nobody listens on now.
///
/// It lies below the range from which systems take ports of outgoing connections, so that it stays free while a
/// service is down between stop and start. No other test of this process gets it: between this look and the bind of
/// a broker lie seconds, and where nobody is meant to listen nobody may.
///
/// # Errors
///
/// When 200 tries found no free port.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..200)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| {
            let is_free = || TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
            !given.contains(port) && is_free() && given.insert(*port)
        })
        .ok_or_else(|| io::Error::other("no free port between 10000 and 32000"))
}

/// Where the program `name` is: in `PATH` or in one of `more` directories.
pub fn find_program(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
///
/// When there is no such process, or it belongs to another user.
pub fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(pid_of(pid)?, signal)?)
}

/// Sends `signal` to every process of the group that `leader` leads.
///
/// # Errors
///
/// When there is no such group, or it belongs to another user.
pub fn send_signal_to_group(leader: u32, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(
        pid_of(leader)?,
        signal,
    )?)
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other(format!("{pid} is not a process id")))
}

/// Remote ports of the TCP connections that the process `pid` holds open, in ascending order.
///
/// # Errors
///
/// When there is no such process, or it belongs to another user.
pub fn connected_ports(pid: u32) -> io::Result<Vec<u16>> {
    let mut sockets = HashSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed while we look.
        let Ok(target) = std::fs::read_link(entry?.path()) else {
            continue;
        };
        let inode = target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
        sockets.extend(inode.map(str::to_owned));
    }
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    // A system without IPv6 has no such table.
    let sixth = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default();
    let mut ports: Vec<u16> = table
        .lines()
        .skip(1)
        .chain(sixth.lines().skip(1))
        .filter_map(|line| established(line, &sockets))
        .collect();
    ports.sort_unstable();
    Ok(ports)
}

/// The remote port in a line of the kernel's table of sockets, if it is an established one of `sockets`.
fn established(line: &str, sockets: &HashSet<String>) -> Option<u16> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (remote, state, inode) = (columns.get(2)?, columns.get(3)?, columns.get(9)?);
    let (_, port) = remote.split_once(':')?;
    let ours = *state == "01" && sockets.contains(*inode);
    u16::from_str_radix(port, 16).ok().filter(|_| ours)
}

/// Resident memory of the process `pid` in bytes.
///
/// # Errors
///
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    match status(pid, "VmRSS:") {
        Ok(kilobytes) => Ok(kilobytes * 1024),
        // A process that has ended and was not waited for has no memory.
        Err(error) if error.kind() == io::ErrorKind::Other => Ok(0),
        Err(error) => Err(error),
    }
}

/// Waits until `condition` holds, looking every [`POLL`].
///
/// # Errors
///
/// `TimedOut` with `what` in its text when `limit` passes first, and any error of the condition itself.
pub async fn wait_until<F>(what: &str, limit: Duration, mut condition: F) -> io::Result<()>
where
    F: AsyncFnMut() -> io::Result<bool>,
{
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(false)) if left > POLL => tokio::time::sleep(POLL).await,
            _ => {
                let text = format!("{what}: not within {limit:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

/// Waits until `child` has ended.
///
/// # Errors
///
/// `TimedOut` when it still runs after `limit`.
pub async fn wait_for_exit(child: &mut Child, limit: Duration) -> io::Result<()> {
    let what = format!("end of process {}", child.id());
    wait_until(&what, limit, async || Ok(child.try_wait()?.is_some())).await
}

/// A small process that outlives a killed test and clears away what the test started.
///
/// It waits for the end of its standard input, which comes when this value is dropped or when the process that holds
/// it dies in whatever way; then it kills the processes registered in the folder and removes the folder.
#[derive(Debug)]
pub struct Guardian {
    folder: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
}

impl Guardian {
    /// Starts the guardian of the services whose files are in `folder`.
    ///
    /// # Errors
    ///
    /// When no shell could be started.
    pub fn start(folder: &Path) -> io::Result<Self> {
        const SCRIPT: &str = r#"trap '' INT TERM HUP
            cat >/dev/null
            for file in "$1"/*.guarded; do [ -f "$file" ] && kill -KILL "$(cat "$file")"; done
            rm -rf "$1""#;
        let mut child = command("sh")
            .args([
                OsStr::new("-c"),
                OsStr::new(SCRIPT),
                OsStr::new("guardian"),
                folder.as_os_str(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take();
        Ok(Self {
            folder: folder.to_path_buf(),
            child,
            input,
        })
    }

    /// From now on the process `pid` is killed with the test.
    ///
    /// # Errors
    ///
    /// When its file cannot be written.
    pub fn watch(&self, name: &str, pid: u32) -> io::Result<()> {
        std::fs::write(self.file(name), pid.to_string())
    }

    /// The process registered as `name` has ended; its number may belong to someone else soon.
    pub fn forget(&self, name: &str) {
        let _ = std::fs::remove_file(self.file(name));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.guarded"))
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A command in a process group of its own, so that an interrupt typed at the terminal reaches only us.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    use std::os::unix::process::CommandExt;

    let mut command = Command::new(program);
    command.process_group(0);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<u16> = (0..500).map(|_| free_port().expect("a port")).collect();
        let all: HashSet<&u16> = ports.iter().collect();
        assert_eq!(all.len(), ports.len());
    }

    #[test]
    fn the_ports_a_process_is_connected_to_are_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let own = std::process::id();
        let before = connected_ports(own).expect("our own sockets");
        assert!(!before.contains(&port), "listening is not connected");
        let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        assert!(
            connected_ports(own)
                .expect("our own sockets")
                .contains(&port)
        );
        drop(stream);
        assert!(resident_bytes(own).expect("our own status") > 100_000);
        assert!(connected_ports(u32::MAX).is_err());
    }
}
