//! The server of the blocking face.

use std::fmt;
use std::time::Duration;

use oslo_messaging_core::error::Result;
use oslo_messaging_core::rpc::{RpcServerBuilder, ServerHandle, ServerStats, Stopped};

use crate::blocking::{runtime, wait};
use crate::signal::shutdown_signal;

/// A server that serves on the threads of the library while its owner does something else.
///
/// Dropping it without a stop ends it without waiting for its handlers, wherever that happens.
///
/// ```no_run
/// # fn doc(transport: oslo_messaging::blocking::Transport, endpoint: impl oslo_messaging::Endpoint) -> oslo_messaging::Result<()> {
/// use oslo_messaging::Target;
/// use oslo_messaging::blocking::RpcServer;
///
/// // A whole program: until SIGTERM or SIGINT.
/// RpcServer::run(transport.serve(Target::topic("conductor").server("node-1")).endpoint(endpoint))?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a server ends it"]
pub struct RpcServer {
    handle: Option<ServerHandle>,
}

impl RpcServer {
    /// Subscribes and begins to serve, and returns: a request sent after that is taken.
    ///
    /// # Errors
    /// As [`RpcServerBuilder::start`]; [`Unsupported`](crate::ErrorKind::Unsupported) inside of an async runtime.
    ///
    /// ```no_run
    /// # fn doc(builder: oslo_messaging::rpc::RpcServerBuilder) -> oslo_messaging::Result<()> {
    /// let server = oslo_messaging::blocking::RpcServer::start(builder)?;
    /// server.stop()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(builder: RpcServerBuilder) -> Result<Self> {
        let handle = wait(async move {
            let handle = builder.build()?;
            handle.start().await?;
            Ok(handle)
        })?;
        Ok(Self {
            handle: Some(handle),
        })
    }

    /// Serves until the process gets SIGTERM or SIGINT, then stops as [`stop`](Self::stop) does.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`Listen`](crate::ErrorKind::Listen) if the driver gave the subscription up before.
    ///
    /// ```no_run
    /// # fn doc(builder: oslo_messaging::rpc::RpcServerBuilder) -> oslo_messaging::Result<()> {
    /// oslo_messaging::blocking::RpcServer::run(builder)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(builder: RpcServerBuilder) -> Result<()> {
        wait(async move {
            let server = builder.start().await?;
            server.run_until(shutdown_signal()).await
        })
    }

    /// Stops: takes nothing new, gives back what was not started, and waits for handlers and their replies, no longer than the
    /// transport's `rpc_response_timeout`.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) inside of an async runtime; the server ends there as if dropped.
    ///
    /// ```no_run
    /// # fn doc(server: oslo_messaging::blocking::RpcServer) -> oslo_messaging::Result<()> {
    /// let stopped = server.stop()?;
    /// println!("{} requests went back to the bus", stopped.requeued);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(mut self) -> Result<Stopped> {
        let handle = self.handle.clone();
        let stopped = wait(async move {
            let Some(handle) = handle else {
                return Ok(Stopped::default());
            };
            handle.stop().await;
            Ok(handle.wait().await)
        })?;
        self.handle = None;
        Ok(stopped)
    }

    /// Stops as [`stop`](Self::stop) does, but aborts what has not ended after `limit`.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    ///
    /// ```no_run
    /// # fn doc(server: oslo_messaging::blocking::RpcServer) -> oslo_messaging::Result<()> {
    /// let stopped = server.stop_within(std::time::Duration::from_secs(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop_within(mut self, limit: Duration) -> Result<Stopped> {
        let handle = self.handle.clone();
        let stopped = wait(async move {
            let Some(handle) = handle else {
                return Ok(Stopped::default());
            };
            handle.stop_within(limit).await;
            Ok(handle.wait().await)
        })?;
        self.handle = None;
        Ok(stopped)
    }

    /// What it has done and does.
    ///
    /// ```no_run
    /// # fn doc(server: &oslo_messaging::blocking::RpcServer) {
    /// println!("{} served", server.stats().served);
    /// # }
    /// ```
    pub fn stats(&self) -> ServerStats {
        self.handle
            .as_ref()
            .map_or_else(ServerStats::default, ServerHandle::stats)
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else {
            return;
        };
        // The end needs the runtime, and must not wait here.
        if let Ok(runtime) = runtime() {
            drop(runtime.spawn(async move {
                handle.abort();
                handle.wait().await;
            }));
        }
    }
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("blocking::RpcServer")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
