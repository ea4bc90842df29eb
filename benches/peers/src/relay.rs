//! A relay between a peer and the broker that counts what passes: connections, publishes, acknowledgements.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What has passed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) connections: u64,
    pub(crate) publishes: u64,
    pub(crate) acks: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    publishes: AtomicU64,
    acks: AtomicU64,
}

/// A relay at work; ends, with all its connections, when dropped.
pub(crate) struct Relay {
    port: u16,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Starts one in front of the broker on this port.
    pub(crate) async fn start(broker: u16) -> std::io::Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = socket.local_addr()?.port();
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let task = tokio::spawn(async move {
            // Aborted with this task.
            let mut pairs = JoinSet::new();
            while let Ok((peer, _)) = socket.accept().await {
                pairs.spawn(relay(peer, broker, Arc::clone(&shared)));
                while pairs.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            port,
            counters,
            task,
        })
    }

    /// The URL of the broker, through this relay.
    pub(crate) fn url(&self, url: &str) -> String {
        let (head, _) = url
            .trim_end_matches('/')
            .rsplit_once(':')
            .unwrap_or((url, ""));
        format!("{head}:{}/", self.port)
    }

    /// What has passed so far; connections are those that are open.
    pub(crate) fn passed(&self) -> Passed {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Passed {
            connections: of(&self.counters.connections),
            publishes: of(&self.counters.publishes),
            acks: of(&self.counters.acks),
        }
    }
}

async fn relay(peer: TcpStream, port: u16, counters: Arc<Counters>) {
    let Ok(broker) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await else {
        return;
    };
    // Without it small frames wait; a socket that refuses is slower, not wrong.
    let _ = (peer.set_nodelay(true), broker.set_nodelay(true));
    counters.connections.fetch_add(1, Ordering::Relaxed);
    let (mut from_peer, mut to_peer) = peer.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let mut frames = Frames::default();
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_peer.read(&mut buffer).await {
            frames.read(&buffer[..count], &counters);
            if to_broker.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    let back = tokio::io::copy(&mut from_broker, &mut to_peer);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
    counters.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Where in the frames of a connection a peer is.
struct Frames {
    /// Bytes that tell nothing; the protocol header comes first.
    skip: usize,
    /// Type, channel and size of a frame, then class and method.
    head: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: 8,
            head: Vec::with_capacity(11),
        }
    }
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8], counters: &Counters) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            self.look(counters);
        }
    }

    fn look(&mut self, counters: &Counters) {
        let [kind, _, _, a, b, c, d, rest @ ..] = self.head.as_slice() else {
            return;
        };
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *kind == 1 && size >= 4 {
            // A method, which begins with its class and its number in it.
            let [class_high, class, method_high, method] = rest else {
                return;
            };
            match (class_high, class, method_high, method) {
                (0, 60, 0, 40) => counters.publishes.fetch_add(1, Ordering::Relaxed),
                (0, 60, 0, 80) => counters.acks.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            self.skip = size - 4 + 1;
        } else {
            self.skip = size + 1;
        }
        self.head.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 1];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xce);
        bytes
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut bytes = b"AMQP\0\0\x09\x01".to_vec();
        bytes.extend(frame(8, b""));
        bytes.extend(frame(1, &[0, 60, 0, 40, 0, 0, 0, 0, 0]));
        bytes.extend(frame(2, &[0, 60, 0, 80, 0, 0, 0, 0]));
        bytes.extend(frame(3, &[0, 60, 0, 80]));
        bytes.extend(frame(1, &[0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
        for size in [1, 3, 7, bytes.len()] {
            let (mut frames, counters) = (Frames::default(), Counters::default());
            bytes
                .chunks(size)
                .for_each(|chunk| frames.read(chunk, &counters));
            let counted = (counters.publishes.into_inner(), counters.acks.into_inner());
            assert_eq!(counted, (1, 1), "in pieces of {size}");
        }
    }
}
