//! Layers of a transport: what stands between encoded messages and the bus.
//!
//! A [`Layer`] wraps a driver. It sees destinations and bytes, and knows nothing of calls; what stands around the requests of a
//! client is a [`ClientLayer`](crate::rpc::layer::ClientLayer), around those of a server a [`Hook`](crate::rpc::hook::Hook).
//! Files `metrics` and `trace` have the parts of observation that know nothing of requests either: where figures go, and how
//! a trace is written.

pub(crate) mod metrics;
pub mod trace;

use std::sync::Arc;

use crate::driver::Driver;

/// Something around a driver. Given to [`Transport::layer`](crate::transport::Transport::layer).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use oslo_messaging_core::driver::{
///     BoxFuture, Capabilities, Driver, Health, Inbox, Listener, Outgoing, Subscription,
/// };
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::layer::Layer;
///
/// /// Counts the bytes that are sent.
/// #[derive(Clone, Default)]
/// struct Scale(Arc<AtomicUsize>);
///
/// impl Layer for Scale {
///     fn wrap(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver> {
///         Arc::new(Weighed { inner, bytes: Arc::clone(&self.0) })
///     }
/// }
///
/// struct Weighed {
///     inner: Arc<dyn Driver>,
///     bytes: Arc<AtomicUsize>,
/// }
///
/// impl Driver for Weighed {
///     fn capabilities(&self) -> Capabilities {
///         self.inner.capabilities()
///     }
///     fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
///         self.bytes.fetch_add(message.body.len(), Ordering::Relaxed);
///         self.inner.send(message)
///     }
///     fn listen(&self, what: Subscription, inbox: Arc<dyn Inbox>) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
///         self.inner.listen(what, inbox)
///     }
///     fn health(&self) -> Health {
///         self.inner.health()
///     }
///     fn close(&self) -> BoxFuture<'_, ()> {
///         self.inner.close()
///     }
/// }
/// ```
pub trait Layer {
    /// The driver with this layer around it. Methods of [`Driver`] that have a default should be passed on as well.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::driver::Driver;
    /// use oslo_messaging_core::layer::Layer;
    ///
    /// /// Adds nothing.
    /// struct Glass;
    ///
    /// impl Layer for Glass {
    ///     fn wrap(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver> {
    ///         inner
    ///     }
    /// }
    /// ```
    fn wrap(&self, inner: Arc<dyn Driver>) -> Arc<dyn Driver>;
}
