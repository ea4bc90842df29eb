//! What the system tells of itself, and of who is connected to a broker on it.

use std::collections::HashSet;
use std::fs;

use oslo_messaging_testkit::process::connected_ports;

/// TCP connections of a process to this port of a broker on this machine.
pub(crate) fn connections(process: u32, port: u16) -> u64 {
    // Who has ended has none.
    let ports = connected_ports(process).unwrap_or_default();
    ports.iter().filter(|found| **found == port).count() as u64
}

/// The process that listens on this port of this machine.
pub(crate) fn listener(port: u16) -> Option<u32> {
    let read = |name| fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let table = read("tcp") + &read("tcp6");
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
        .find(|id| sockets(*id).is_some_and(|sockets| sockets.contains(&inode)))
}

/// Inodes of the sockets a process holds.
fn sockets(process: u32) -> Option<HashSet<String>> {
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

/// Name and number of the processors, and memory.
pub(crate) fn description() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let memory: u64 = memory.and_then(|kib| kib.parse().ok()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_behind_a_port_is_found_with_its_connections() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        let own = std::process::id();
        assert_eq!(listener(port), Some(own));
        assert_eq!(connections(own, port), 0);
        let _stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert_eq!(connections(own, port), 1);
    }
}
