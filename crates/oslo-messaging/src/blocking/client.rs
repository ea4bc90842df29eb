//! The client of the blocking face.

use std::fmt;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::error::{Error, Result};
use oslo_messaging_core::rpc::RpcClient as AsyncClient;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::target::Target;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blocking::{Transport, wait};

/// Calls and casts methods of a target, and waits.
///
/// Options are those of [`RpcClient`](crate::RpcClient), set with [`with`](Self::with). Can be shared by threads, each of which
/// waits for its own call.
///
/// ```no_run
/// # fn doc(transport: oslo_messaging::blocking::Transport) -> oslo_messaging::Result<()> {
/// use std::time::Duration;
/// use oslo_messaging::blocking::RpcClient;
/// use oslo_messaging::{Context, Target};
///
/// let client = RpcClient::new(&transport, Target::topic("conductor").version("1.3"));
/// let alive: bool = client.call(&Context::new(), "ping", ())?;
/// let hurried = client.with(|client| client.server("node-1").timeout(Duration::from_secs(5)));
/// let alive: bool = hurried.call(&Context::new(), "ping", ())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RpcClient {
    inner: AsyncClient,
}

impl RpcClient {
    /// A client of `target`, which needs a topic by the time of the first call.
    ///
    /// ```
    /// # fn main() -> oslo_messaging::Result<()> {
    /// use oslo_messaging::{Target, blocking};
    ///
    /// let transport = blocking::connect("memory://blocking-client")?;
    /// let client = blocking::RpcClient::new(&transport, Target::topic("conductor"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(transport: &Transport, target: Target) -> Self {
        Self::from(AsyncClient::new(transport.as_async().clone(), target))
    }

    /// A variation of this client with other options.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging::blocking::RpcClient) {
    /// let all = client.with(|client| client.fanout(true));
    /// # }
    /// ```
    #[must_use]
    pub fn with(&self, change: impl FnOnce(AsyncClient) -> AsyncClient) -> Self {
        Self::from(change(self.inner.prepare()))
    }

    /// Calls a method and waits for its result; see [`RpcClient::call`](crate::RpcClient::call).
    ///
    /// # Errors
    /// As there; [`Unsupported`](crate::ErrorKind::Unsupported) inside of an async runtime.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging::blocking::RpcClient) -> oslo_messaging::Result<()> {
    /// let alive: bool = client.call(&oslo_messaging::Context::new(), "ping", ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<A, R>(&self, ctx: &Context, method: &str, args: A) -> Result<R>
    where
        A: Serialize,
        R: DeserializeOwned + Send + 'static,
    {
        let args = RawJson::from_value(&args).map_err(Error::from)?;
        let (client, ctx, method) = (self.inner.clone(), ctx.clone(), method.to_owned());
        wait(async move { client.call(&ctx, &method, args).await })
    }

    /// Sends a request that nobody answers, and waits until the bus has it; see [`RpcClient::cast`](crate::RpcClient::cast).
    ///
    /// # Errors
    /// As there; [`Unsupported`](crate::ErrorKind::Unsupported) inside of an async runtime.
    ///
    /// ```no_run
    /// # fn doc(client: oslo_messaging::blocking::RpcClient) -> oslo_messaging::Result<()> {
    /// client.cast(&oslo_messaging::Context::new(), "forget", ())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cast<A: Serialize>(&self, ctx: &Context, method: &str, args: A) -> Result<()> {
        let args = RawJson::from_value(&args).map_err(Error::from)?;
        let (client, ctx, method) = (self.inner.clone(), ctx.clone(), method.to_owned());
        wait(async move { client.cast(&ctx, &method, args).await })
    }
}

/// A client whose options are set already.
impl From<AsyncClient> for RpcClient {
    fn from(inner: AsyncClient) -> Self {
        Self { inner }
    }
}

impl fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("blocking::RpcClient")
            .field(&self.inner)
            .finish()
    }
}
