//! RPC for programs without async: the same transports, clients and servers, waited for.
//!
//! One runtime for the process does the work on two threads of its own. It is made by the first call that needs it and never
//! dropped, so that handles can be dropped anywhere, also inside of another runtime. What would block a thread of an async
//! runtime is refused there with [`ErrorKind::Unsupported`], where a wait of Tokio's own would panic.
//!
//! ```
//! use oslo_messaging::blocking::{self, RpcClient, RpcServer};
//! use oslo_messaging::{Context, Target, endpoint};
//!
//! struct Adder;
//!
//! #[endpoint]
//! impl Adder {
//!     fn add(&self, a: i64, b: i64) -> i64 {
//!         a + b
//!     }
//! }
//!
//! # fn main() -> oslo_messaging::Result<()> {
//! let transport = blocking::connect("memory://blocking-example")?;
//! let server = RpcServer::start(transport.serve(Target::topic("adder").server("node-1")).endpoint(Adder))?;
//! let client = RpcClient::new(&transport, Target::topic("adder"));
//! let sum: i64 = client.call(&Context::new(), "add", [("a", 2), ("b", 3)].into_iter().collect::<std::collections::HashMap<_, _>>())?;
//! assert_eq!(sum, 5);
//! server.stop()?;
//! transport.close()?;
//! # Ok(())
//! # }
//! ```

mod client;
mod server;

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;

use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::rpc::RpcServerBuilder;
use oslo_messaging_core::rpc::server::may_block;
use oslo_messaging_core::transport::Transport as AsyncTransport;
use oslo_messaging_proto::target::Target;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::drivers::{ConnectOptions, IntoTransportUrl};

pub use self::client::RpcClient;
pub use self::server::RpcServer;

/// How many threads do the work of all transports; handlers that block get threads of their own.
const THREADS: usize = 2;

/// The runtime of the process.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("oslo-messaging")
            .enable_all()
            .build()
    });
    made.as_ref().map_err(|fault| {
        let text = "no thread could be started for the runtime of the blocking face";
        Error::new(ErrorKind::Config, text).with("cause", fault.to_string())
    })
}

/// Runs a future on the runtime and waits for it.
fn wait<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    check()?;
    let (sender, receiver) = sync_channel(1);
    // Joined by the receiver: it waits for the result, and for nothing if the task panicked.
    drop(runtime()?.spawn(async move {
        let _ = sender.send(future.await);
    }));
    receiver.recv().unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Interrupted,
            "the work ended without a result",
        ))
    })
}

/// Refuses to block a thread that an async runtime needs.
fn check() -> Result<()> {
    if Handle::try_current().is_ok() && !may_block() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "oslo_messaging::blocking cannot be used inside of an async runtime, whose thread it would block; await \
             oslo_messaging::connect and its clients there, or use a thread of your own (std::thread)",
        ));
    }
    Ok(())
}

/// A way to the bus; see [`Transport`](crate::Transport). Clones are handles on the same connections.
///
/// ```
/// # fn main() -> oslo_messaging::Result<()> {
/// let transport = oslo_messaging::blocking::connect("memory://blocking-transport")?;
/// assert!(transport.health().connected);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transport {
    inner: AsyncTransport,
}

/// A transport for this URL, as [`oslo_messaging::connect`](crate::connect) makes it.
///
/// # Errors
/// As there; [`Unsupported`](ErrorKind::Unsupported) inside of an async runtime.
///
/// ```
/// let error = oslo_messaging::blocking::connect("carrier-pigeon://").unwrap_err();
/// assert_eq!(error.kind(), oslo_messaging::ErrorKind::Unsupported);
/// ```
pub fn connect(url: impl IntoTransportUrl) -> Result<Transport> {
    connect_with(url, ConnectOptions::default())
}

/// As [`connect`], with options that the URL's query overrides.
///
/// # Errors
/// As [`connect`].
///
/// ```
/// use oslo_messaging::{ConnectOptions, blocking};
///
/// let mut options = ConnectOptions::default();
/// options.control_exchange = "nova".to_owned();
/// let transport = blocking::connect_with("memory://blocking-options", options);
/// assert!(transport.is_ok());
/// ```
pub fn connect_with(url: impl IntoTransportUrl, options: ConnectOptions) -> Result<Transport> {
    let url = url.into_transport_url()?;
    let inner = wait(async move { crate::drivers::connect_with(url, options).await })?;
    Ok(Transport { inner })
}

impl Transport {
    /// A server that is about to be started with [`RpcServer::start`] or run with [`RpcServer::run`].
    ///
    /// Handlers that block belong on threads: `#[rpc(blocking)]`, or
    /// [`Executor::Threading`](crate::rpc::server::Executor::Threading).
    ///
    /// ```no_run
    /// # fn doc(transport: oslo_messaging::blocking::Transport) {
    /// let builder = transport.serve(oslo_messaging::Target::topic("conductor").server("node-1"));
    /// # }
    /// ```
    pub fn serve(&self, target: Target) -> RpcServerBuilder {
        oslo_messaging_core::rpc::RpcServer::builder(self.inner.clone(), target)
    }

    /// How the driver and the calls are doing, without waiting for anything.
    ///
    /// ```no_run
    /// # fn doc(transport: oslo_messaging::blocking::Transport) {
    /// println!("{:?}", transport.health());
    /// # }
    /// ```
    pub fn health(&self) -> oslo_messaging_core::driver::Health {
        self.inner.health()
    }

    /// The transport as async code has it, for the parts that have no blocking form; to be used on a runtime.
    ///
    /// ```no_run
    /// # fn doc(transport: oslo_messaging::blocking::Transport) {
    /// let events = transport.as_async().events();
    /// # }
    /// ```
    pub fn as_async(&self) -> &AsyncTransport {
        &self.inner
    }

    /// Ends everything, as [`Transport::close`](crate::Transport::close) does. Dropping the last handle without it is fine, too.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) inside of an async runtime.
    ///
    /// ```no_run
    /// # fn doc(transport: oslo_messaging::blocking::Transport) -> oslo_messaging::Result<()> {
    /// transport.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> Result<()> {
        let inner = self.inner.clone();
        wait(async move {
            inner.close().await;
            Ok(())
        })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("blocking::Transport")
            .field(&self.inner)
            .finish()
    }
}
