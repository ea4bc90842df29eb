//! What the system tells of processes and of itself.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The number after `field` in the status of a process (`self` or an id).
pub(crate) fn status(process: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    number_after(&text, field)
}

fn number_after(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Times that threads of a process gave up the processor of their own accord, since their start.
pub(crate) fn wakeups(process: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        // A thread may end while it is looked at.
        if let Ok(text) = fs::read_to_string(thread.ok()?.path().join("status")) {
            sum += number_after(&text, "voluntary_ctxt_switches:").unwrap_or_default();
        }
    }
    Some(sum)
}

/// TCP connections of a process to this port of a broker on this machine.
pub(crate) fn connections(process: &str, port: u16) -> Option<u64> {
    let sockets = sockets(process)?;
    let ours = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let remote = columns.get(2).and_then(|remote| remote.rsplit(':').next());
        let port = remote.and_then(|digits| u16::from_str_radix(digits, 16).ok()) == Some(port);
        port && columns.get(3) == Some(&"01")
            && columns.get(9).is_some_and(|inode| sockets.contains(*inode))
    };
    Some(tcp_table(process).lines().skip(1).filter(ours).count() as u64)
}

/// The process that listens on this port of this machine.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let table = tcp_table("self");
    let inode = table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let digits = columns.get(1)?.rsplit(':').next()?;
        let listens =
            u16::from_str_radix(digits, 16).ok()? == port && columns.get(3) == Some(&"0A");
        listens.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
    })?;
    let processes = fs::read_dir("/proc").ok()?;
    let ids = processes.filter_map(|entry| {
        entry
            .ok()?
            .file_name()
            .into_string()
            .ok()?
            .parse::<u32>()
            .ok()
    });
    ids.into_iter()
        .find(|id| sockets(&id.to_string()).is_some_and(|sockets| sockets.contains(&inode)))
}

fn tcp_table(process: &str) -> String {
    let read = |name| fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap_or_default();
    format!("{}{}", read("tcp"), read("tcp6"))
}

/// Inodes of the sockets a process holds.
fn sockets(process: &str) -> Option<HashSet<String>> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let inode = |target: std::path::PathBuf| {
        let text = target.to_str()?.strip_prefix("socket:[")?;
        Some(text.strip_suffix(']')?.to_owned())
    };
    Some(
        entries
            .filter_map(|entry| inode(fs::read_link(entry.ok()?.path()).ok()?))
            .collect(),
    )
}

/// User and system time of a process so far, in microseconds, from its `stat`.
pub(crate) fn cpu_time(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // 100 ticks a second on every Linux of today.
    Some(ticks as f64 * 10_000.0)
}

/// Name and number of the processors, and memory.
pub(crate) fn description() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").ok();
    let memory = memory
        .and_then(|text| number_after(&text, "MemTotal:"))
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{count} × {name}, {} GiB, Linux {}",
        (memory + (1 << 19)) >> 20,
        kernel.trim()
    )
}

/// Processes that wanted a processor in the last minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

/// The program `name` in the search path.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file: &std::path::PathBuf| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_behind_a_port_is_found_with_its_connections() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        let own = std::process::id();
        assert_eq!(listener(port), Some(own));
        assert_eq!(connections("self", port), Some(0));
        let _stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert_eq!(connections("self", port), Some(1));
        assert!(cpu_time(own).is_some() && wakeups(own).is_some());
        assert!(status("self", "VmRSS:").is_some_and(|kib| kib > 100));
    }
}
