//! The broker of a run: where it is, what it uses, and how the queues of a measurement go away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use oslo_messaging_testkit::usage::cpu_ns;

use crate::machine;
use crate::protocol::URL_VARIABLE;

/// A broker on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) url: String,
    pub(crate) port: u16,
    process: u32,
}

impl Broker {
    /// The one that the environment names.
    pub(crate) fn find() -> Result<Self, String> {
        let none = format!(
            "no RabbitMQ: {URL_VARIABLE} is not set. scripts/bench-peers starts one, and everything else that is needed"
        );
        let url = std::env::var(URL_VARIABLE)
            .ok()
            .filter(|url| !url.is_empty())
            .ok_or(none)?;
        let port = url
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let port: u16 = port.ok_or_else(|| format!("{URL_VARIABLE} must end with host:port/"))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(|fault| format!("no RabbitMQ on {address}: {fault}"))?;
        let process = machine::listener(port).ok_or_else(|| {
            format!("the process that listens on port {port} cannot be seen; its CPU time is part of the comparison")
        })?;
        Ok(Self { url, port, process })
    }

    /// CPU time it has used so far, in microseconds.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_ns(self.process).unwrap_or_default() as f64 / 1e3
    }

    /// Its version, as it tells every client that connects.
    pub(crate) fn version(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").ok()?;
        let mut start = [0; 2048];
        let count = stream.read(&mut start).ok()?;
        version_in(&start[..count])
    }

    /// Deletes the queues that a topic has left.
    pub(crate) async fn forget(&self, topic: &str, servers: u32) {
        let Some(connection) = self.connect().await else {
            return;
        };
        let mut queues = vec![topic.to_owned(), format!("{topic}.info")];
        queues.extend((0..servers).map(|number| format!("{topic}.s{number}")));
        for queue in queues {
            // A queue that does not exist is none to delete.
            let Ok(channel) = connection.create_channel().await else {
                return;
            };
            let _ = channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await;
        }
        let _ = connection.close(200, "".into()).await;
    }

    async fn connect(&self) -> Option<Connection> {
        let rest = self
            .url
            .split_once("://")
            .map_or("", |(_, rest)| rest)
            .trim_end_matches('/');
        let url = format!("amqp://{rest}/%2f");
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        tokio::time::timeout(Duration::from_secs(10), connecting)
            .await
            .ok()?
            .ok()
    }
}

/// The entry `version` in the table of `connection.start`: a long string.
fn version_in(start: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = start.windows(KEY.len()).position(|bytes| bytes == KEY)? + KEY.len();
    let length = u32::from_be_bytes(start.get(at..at + 4)?.try_into().ok()?) as usize;
    let text = start.get(at + 4..)?.get(..length)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_a_table() {
        let start = b"\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\x00";
        assert_eq!(version_in(start).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"\x07versionS\0\0\0\xff3"), None);
    }
}
