//! A TCP proxy between a client and a broker that fails on demand: cuts, refuses, goes silent, delays, slows down.
//!
//! One task accepts; one task per connection moves bytes both ways. Every command has taken effect when its future
//! resolves or, where there is none, when the function returns.
//!
//! ```no_run
//! # use oslo_messaging_testkit::{proxy::Proxy, rabbit::vhost_or_skip};
//! # async fn example() -> std::io::Result<()> {
//! let Some(vhost) = vhost_or_skip("client_survives_a_cut").await else { return Ok(()) };
//! let proxy = Proxy::start(vhost.broker().port()).await?;
//! let url = vhost.url_through(proxy.port());
//! // connect to url …
//! proxy.cut();
//! # Ok(()) }
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::process::free_port;

/// Pieces that may wait in one direction of one connection while they are delayed.
const PIECES: usize = 256;
const PIECE: usize = 16 * 1024;
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// A running proxy; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: mpsc::Sender<(bool, oneshot::Sender<io::Result<()>>)>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    rules: watch::Sender<Rules>,
    accepted: AtomicUsize,
    open: watch::Sender<usize>,
    bytes: [AtomicU64; 2],
}

/// What holds for every connection now.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    /// How often all connections were cut.
    cuts: u64,
    /// How often all connections were forsaken.
    forsaken: u64,
    /// Per [`Direction`]: nothing passes.
    paused: [bool; 2],
    /// How long every piece takes on its way.
    delay: Duration,
    /// Bytes per second and direction; 0 is no limit.
    bandwidth: u64,
    /// Per [`Direction`]: how many bytes in all may still pass before all connections are cut.
    cut_after: [Option<u64>; 2],
}

impl Proxy {
    /// Starts a proxy to the broker on `broker_port` of 127.0.0.1, on a free port of its own.
    ///
    /// # Errors
    ///
    /// When no port could be bound.
    pub async fn start(broker_port: u16) -> io::Result<Self> {
        // Not port 0: the port must stay free while the proxy refuses connections.
        let port = free_port()?;
        let listener = bind(port).await?;
        let shared = Arc::new(Shared {
            broker: (Ipv4Addr::LOCALHOST, broker_port).into(),
            rules: watch::Sender::new(Rules::default()),
            accepted: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let (listening, commands) = mpsc::channel(4);
        let task = tokio::spawn(accept(port, listener, commands, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            listening,
            task,
        })
    }

    /// The port on 127.0.0.1 that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets every connection that is open now, on both sides (RST). New ones are taken.
    pub fn cut(&self) {
        self.shared.rules.send_modify(|rules| rules.cuts += 1);
    }

    /// Cuts every connection in the middle of the stream: after `bytes` more bytes have gone in `direction`.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.shared
            .rules
            .send_modify(|rules| rules.cut_after[direction as usize] = Some(bytes));
    }

    /// Refuses new connections as a closed port does (`true`), or takes them again. Open ones go on.
    ///
    /// # Errors
    ///
    /// When the port cannot be bound again.
    pub async fn refuse(&self, refuse: bool) -> io::Result<()> {
        let ended = || io::Error::other("the proxy has ended");
        let (done, answer) = oneshot::channel();
        self.listening
            .send((!refuse, done))
            .await
            .map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Lets nothing pass any more in both directions; connections stay open and new ones are taken, as behind a
    /// firewall that drops packets.
    pub fn pause(&self) {
        self.shared
            .rules
            .send_modify(|rules| rules.paused = [true; 2]);
    }

    /// Lets nothing pass any more in one direction: a half-open connection.
    pub fn pause_direction(&self, direction: Direction) {
        self.shared
            .rules
            .send_modify(|rules| rules.paused[direction as usize] = true);
    }

    /// Lets bytes pass again, those that waited first.
    pub fn resume(&self) {
        self.shared
            .rules
            .send_modify(|rules| rules.paused = [false; 2]);
    }

    /// Lets nothing pass any more on the connections that are open now, for good, without telling either side: a
    /// firewall that has forgotten them. New connections are not touched. They end when the proxy or a cut ends them.
    pub fn forsake(&self) {
        self.shared.rules.send_modify(|rules| rules.forsaken += 1);
    }

    /// Delays everything by `delay` in each direction, keeping the order.
    pub fn delay(&self, delay: Duration) {
        self.shared.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Limits each direction of each connection to `bytes` a second; 0 lifts the limit.
    pub fn bandwidth(&self, bytes: u64) {
        self.shared
            .rules
            .send_modify(|rules| rules.bandwidth = bytes);
    }

    /// How many connections clients have made so far.
    pub fn connections_ever(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn connections_now(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// Bytes that have passed in `direction` on all connections.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.bytes[direction as usize].load(Ordering::SeqCst)
    }

    /// Waits until `condition` holds for the number of open connections.
    ///
    /// # Errors
    ///
    /// `TimedOut` after a minute.
    pub async fn wait_for_connections(
        &self,
        condition: impl FnMut(&usize) -> bool,
    ) -> io::Result<usize> {
        let mut open = self.shared.open.subscribe();
        if let Ok(Ok(number)) = timeout(WAIT_LIMIT, open.wait_for(condition)).await {
            return Ok(*number);
        }
        let text = format!("{} connections are open", self.connections_now());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

async fn accept(
    port: u16,
    listener: TcpListener,
    mut commands: mpsc::Receiver<(bool, oneshot::Sender<io::Result<()>>)>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let client = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = client => if let Ok((client, _)) = accepted {
                connections.spawn(serve(client, Arc::clone(&shared), shared.rules.subscribe()));
            },
            command = commands.recv() => {
                let Some((listen, done)) = command else { return };
                let result = match (listen, &listener) {
                    (true, None) => bind(port).await.map(|bound| listener = Some(bound)),
                    (true, Some(_)) => Ok(()),
                    (false, _) => { listener = None; Ok(()) },
                };
                let _ = done.send(result);
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as long as it is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.send_modify(|number| *number += 1);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.send_modify(|number| *number -= 1);
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>, mut rules: watch::Receiver<Rules>) {
    let open = Open::new(&shared);
    let Rules { cuts, forsaken, .. } = *rules.borrow_and_update();
    let cut = {
        let mut rules = rules.clone();
        async move { rules.wait_for(|rules| rules.cuts != cuts).await.map(drop) }
    };
    tokio::pin!(cut);
    let mut broker = tokio::select! {
        connected = TcpStream::connect(shared.broker) => match connected {
            Ok(broker) => broker,
            Err(_) => return reset(&client),
        },
        _ = &mut cut => return reset(&client),
    };
    let _ = client.set_nodelay(true);
    let _ = broker.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    let forth = Pump::new(&shared, Direction::ToBroker, forsaken).run(from_client, to_broker);
    let back = Pump::new(&shared, Direction::ToClient, forsaken).run(from_broker, to_client);
    tokio::select! {
        _ = async { tokio::try_join!(forth, back) } => {}
        _ = cut => {
            reset(&client);
            reset(&broker);
        }
    }
    // Closed before they count as closed, so that a test which saw the count drop sees no open socket.
    drop((client, broker));
    drop(open);
}

/// Makes the coming close of `stream` a reset.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// One direction of one connection.
struct Pump<'a> {
    shared: &'a Shared,
    direction: Direction,
    rules: watch::Receiver<Rules>,
    /// Value of [`Rules::forsaken`] when the connection was made.
    era: u64,
}

impl<'a> Pump<'a> {
    fn new(shared: &'a Shared, direction: Direction, era: u64) -> Self {
        Self {
            shared,
            direction,
            rules: shared.rules.subscribe(),
            era,
        }
    }

    /// Moves bytes until the sender has ended (and says so to the receiver) or either side has failed.
    async fn run(self, mut from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (queue, pieces) = mpsc::channel(PIECES);
        let rules = self.rules.clone();
        let read = async move {
            let mut buffer = vec![0; PIECE];
            loop {
                let length = from.read(&mut buffer).await?;
                let due = Instant::now() + rules.borrow().delay;
                if length == 0 || queue.send((due, buffer[..length].to_vec())).await.is_err() {
                    return Ok(());
                }
            }
        };
        tokio::try_join!(read, self.write(to, pieces)).map(drop)
    }

    async fn write(
        mut self,
        mut to: WriteHalf<'_>,
        mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>,
    ) -> io::Result<()> {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                let rules = self.passable().await?;
                let (now, later) = rest.split_at(allowance(&rules, self.direction, rest.len()));
                to.write_all(now).await?;
                rest = later;
                self.count(now.len()).await;
                if rules.bandwidth > 0 {
                    sleep(Duration::from_secs_f64(
                        now.len() as f64 / rules.bandwidth as f64,
                    ))
                    .await;
                }
            }
        }
        to.shutdown().await
    }

    async fn passable(&mut self) -> io::Result<Rules> {
        let (way, era) = (self.direction as usize, self.era);
        let passable = |rules: &Rules| !rules.paused[way] && rules.forsaken == era;
        let rules = self.rules.wait_for(passable).await;
        rules.map(|rules| *rules).map_err(io::Error::other)
    }

    /// Counts what has passed, and cuts when that was the last byte to pass.
    async fn count(&self, length: usize) {
        let way = self.direction as usize;
        let length = length as u64;
        self.shared.bytes[way].fetch_add(length, Ordering::SeqCst);
        let cut = self.shared.rules.send_if_modified(|rules| {
            let Some(left) = &mut rules.cut_after[way] else {
                return false;
            };
            *left = left.saturating_sub(length);
            let spent = *left == 0;
            if spent {
                rules.cut_after[way] = None;
                rules.cuts += 1;
            }
            spent
        });
        if cut {
            // The connection's task drops this pump when it sees the cut; nothing more may pass before.
            std::future::pending::<()>().await;
        }
    }
}

/// How many of `wanted` bytes may be written at once: a tenth of a second's worth, and no more than before a cut.
fn allowance(rules: &Rules, direction: Direction, wanted: usize) -> usize {
    let most = |limit: u64| usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
    let slice = if rules.bandwidth > 0 {
        most(rules.bandwidth / 10)
    } else {
        wanted
    };
    let left = rules.cut_after[direction as usize].map_or(wanted, most);
    wanted.min(slice).min(left)
}
