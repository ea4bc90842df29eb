//! The handle of a connection: opening, watching, closing.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connection::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::channel::Channel;
use crate::handle::socket;
use crate::handshake::ServerProperties;
use crate::options::ConnectOptions;
use crate::outlet::Writer;
use crate::task::{Shared, Status, Task};

/// Time that the task has, beyond the deadline of a close, to see that it is over.
const JOIN_GRACE: Duration = Duration::from_millis(1500);

/// A connection to a broker. Clones are handles of the same one; when the last is dropped, the connection is closed.
///
/// Channels do not keep it alive: after its end they answer everything with the reason of the end.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_amqp::{ConnectOptions, Connection, Error};
///
/// async fn watch(stream: tokio::net::TcpStream) -> oslo_messaging_amqp::Result<Option<Error>> {
///     let connection = Connection::handshake(stream, ConnectOptions::default()).await?;
///     println!("{} {}", connection.server_properties().product(), connection.server_properties().version());
///     println!("frames of {} bytes, {} channels", connection.frame_max(), connection.channel_max());
///     println!("heartbeats every {:?}, silent for {:?}", connection.heartbeat(), connection.silence());
///     let mut blocked = connection.watch_blocked();
///     tokio::select! {
///         Ok(()) = blocked.changed() => println!("blocked: {:?}", connection.blocked_reason()),
///         error = connection.closed() => return Ok(Some(error)),
///     }
///     if connection.is_open() {
///         connection.close(Duration::from_secs(1)).await?;
///     }
///     Ok(connection.closed_reason())
/// }
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
    close_timeout: Duration,
}

impl Connection {
    /// Connects over TCP and logs in, all within [`ConnectOptions::connect_timeout`].
    ///
    /// Cancel safe: dropping the future closes the socket.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when no socket could be opened, otherwise as [`handshake`](Self::handshake).
    ///
    /// ```no_run
    /// # async fn example() -> oslo_messaging_amqp::Result<()> {
    /// use oslo_messaging_amqp::{ConnectOptions, Connection};
    /// let connection = Connection::connect_tcp("127.0.0.1", 5672, ConnectOptions::default()).await?;
    /// let channel = connection.open_channel().await?;
    /// # Ok(()) }
    /// ```
    pub async fn connect_tcp(host: &str, port: u16, options: ConnectOptions) -> Result<Self> {
        let deadline = Instant::now() + options.connect_timeout;
        let stream = socket::open(host, port, &options, deadline).await?;
        let (reader, writer) = stream.into_split();
        let connection = Self::start(reader, Writer::Tcp(writer), options)?;
        connection.opened(deadline).await.map(|()| connection)
    }

    /// Connects over TLS and logs in, all within [`ConnectOptions::connect_timeout`]. The broker's certificate must be valid for `host`.
    ///
    /// Files of certificates are read anew with each call.
    ///
    /// Cancel safe: dropping the future closes the socket.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] when TLS failed, see [`Error::tls_fault`]; otherwise as [`connect_tcp`](Self::connect_tcp).
    ///
    /// ```no_run
    /// # async fn example() -> oslo_messaging_amqp::Result<()> {
    /// use oslo_messaging_amqp::{ConnectOptions, Connection, TlsOptions};
    /// let tls = TlsOptions::default();
    /// let connection = Connection::connect_tls("broker-1", 5671, &tls, ConnectOptions::default()).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "tls")]
    pub async fn connect_tls(
        host: &str,
        port: u16,
        tls: &crate::tls::TlsOptions,
        options: ConnectOptions,
    ) -> Result<Self> {
        let deadline = Instant::now() + options.connect_timeout;
        let stream = socket::open(host, port, &options, deadline).await?;
        let (stream, asked) = socket::secure(stream, host, tls, deadline).await?;
        let connection = Self::start_whole(stream, options)?;
        match connection.opened(deadline).await {
            // Nothing was heard yet: in TLS 1.3 a certificate is refused only after this side thinks that all is well.
            Err(error)
                if asked && *connection.server_properties() == ServerProperties::default() =>
            {
                Err(error.after_certificate_request())
            }
            result => result.map(|()| connection),
        }
    }

    /// Logs in over any stream (TLS, a pipe) within [`ConnectOptions::connect_timeout`].
    ///
    /// Cancel safe: dropping the future drops the stream.
    ///
    /// # Errors
    /// [`ErrorKind::AccessRefused`], [`ErrorKind::VhostRefused`], [`ErrorKind::VersionMismatch`], [`ErrorKind::Timeout`],
    /// [`ErrorKind::ConnectionClosed`] (refused for another reason, with the broker's code), [`ErrorKind::Protocol`], [`ErrorKind::Io`];
    /// [`ErrorKind::InvalidArgument`] when an option does not fit on the wire.
    pub async fn handshake<S>(stream: S, options: ConnectOptions) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = Instant::now() + options.connect_timeout;
        let connection = Self::start_whole(stream, options)?;
        connection.opened(deadline).await.map(|()| connection)
    }

    fn start_whole<S>(stream: S, options: ConnectOptions) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        Self::start(reader, Writer::Other(Box::new(writer)), options)
    }

    /// Starts the task; a drop of the handle ends it.
    fn start<R>(reader: R, writer: Writer, options: ConnectOptions) -> Result<Self>
    where
        R: AsyncRead + Unpin + Send + 'static,
    {
        let close_timeout = options.close_timeout;
        let shared = Arc::new(Shared::new(Engine::new(options, Instant::now())?, writer));
        let task = tokio::spawn(Task::new(reader, shared.clone()).run());
        Ok(Self(Arc::new(Inner {
            shared,
            task: Mutex::new(Some(task)),
            close_timeout,
        })))
    }

    /// Waits for the end of the handshake.
    async fn opened(&self, deadline: Instant) -> Result<()> {
        let mut status = self.0.shared.status.subscribe();
        let opened = status.wait_for(|status| !matches!(status, Status::Opening));
        match tokio::time::timeout_at(deadline.into(), opened).await {
            Ok(Ok(status)) => match &*status {
                Status::Closed(error) => Err(error.clone()),
                Status::Opening | Status::Open => Ok(()),
            },
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "the broker did not finish the handshake in time",
            )),
        }
    }

    /// Opens a channel.
    ///
    /// Cancel safe: a channel that nobody gets is closed again.
    ///
    /// # Errors
    /// [`ErrorKind::NoFreeChannel`] when `channel_max` channels are open, or the reason why the connection is over.
    pub async fn open_channel(&self) -> Result<Channel> {
        Channel::open(self.0.shared.clone()).await
    }

    /// Resolves with the reason when the connection is over, however it ended.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> Error {
        let mut status = self.0.shared.status.subscribe();
        match status
            .wait_for(|status| matches!(status, Status::Closed(_)))
            .await
            .as_deref()
        {
            Ok(Status::Closed(error)) => error.clone(),
            _ => ended(),
        }
    }

    /// The reason why the connection is over, if it is.
    pub fn closed_reason(&self) -> Option<Error> {
        match &*self.0.shared.status.borrow() {
            Status::Closed(error) => Some(error.clone()),
            Status::Opening | Status::Open => None,
        }
    }

    /// Whether the connection is open; not any more from the moment [`close`](Self::close) is asked for.
    pub fn is_open(&self) -> bool {
        let shared = &self.0.shared;
        !shared.closing.load(Ordering::Acquire) && matches!(*shared.status.borrow(), Status::Open)
    }

    /// Watches whether the broker takes publishes: `Some` with its reason while it does not (`connection.blocked`: short of memory or disk).
    pub fn watch_blocked(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.shared.blocked.subscribe()
    }

    /// The broker's reason for taking no publishes at present, if it does not.
    pub fn blocked_reason(&self) -> Option<Arc<str>> {
        self.0.shared.blocked.borrow().clone()
    }

    /// What the broker told about itself.
    pub fn server_properties(&self) -> Arc<ServerProperties> {
        self.0.shared.with(|engine| engine.server())
    }

    /// How long not a single byte has come.
    pub fn silence(&self) -> Duration {
        self.0.shared.with(|engine| engine.silence(Instant::now()))
    }

    /// The largest frame agreed on, bytes.
    pub fn frame_max(&self) -> u32 {
        self.0.shared.with(|engine| engine.tuned().frame_max)
    }

    /// The most channels agreed on.
    pub fn channel_max(&self) -> u16 {
        self.0.shared.with(|engine| engine.tuned().channel_max)
    }

    /// The heartbeat interval agreed on; `None` when heartbeats are off.
    pub fn heartbeat(&self) -> Option<Duration> {
        let seconds = self.0.shared.with(|engine| engine.tuned().heartbeat);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Closes the connection with the closing handshake and waits until its task has ended, for `patience` at most (and a moment of grace to end).
    /// Acks asked for before are written; all else under way ends with [`ErrorKind::Closed`].
    ///
    /// Cancel safe: the close goes on without the future. Closing twice is fine.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the broker did not answer in time (the socket is closed all the same), or why the connection had ended
    /// before.
    pub async fn close(&self, patience: Duration) -> Result<()> {
        // Whoever's wait ends with it finds it closed.
        self.0.shared.closing.store(true, Ordering::Release);
        self.0
            .shared
            .with(|engine| engine.close(Instant::now(), patience));
        let reason = match timeout(patience + JOIN_GRACE, self.closed()).await {
            Ok(reason) => reason,
            Err(_) => Error::new(
                ErrorKind::Timeout,
                "the task of the connection did not end in time",
            ),
        };
        let task = self
            .0
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut task) = task
            && timeout(JOIN_GRACE, &mut task).await.is_err()
        {
            task.abort();
        }
        if reason.kind() == ErrorKind::Closed {
            Ok(())
        } else {
            Err(reason)
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("status", &*self.0.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The task ends by itself: it has the answer or the deadline of the close.
        self.shared
            .with(|engine| engine.close(Instant::now(), self.close_timeout));
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the task of the connection has ended")
}
