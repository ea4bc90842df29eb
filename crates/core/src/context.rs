//! The request context: what a caller tells about itself with every request; and the one in force for this task.
//!
//! The type belongs to the wire; this file is where users of this crate find it. While a handler runs, the context of its
//! request is at hand for whatever it calls in the same task, as the reference's `localcontext` had it. What the handler
//! spawns has no context unless it is wrapped: [`in_current_context`].

use std::future::Future;
use std::sync::Arc;

pub use oslo_messaging_proto::wire::context::Context;

tokio::task_local! {
    static CURRENT: Arc<Context>;
}

/// The context of the request that this task is serving; `None` outside of a handler.
///
/// It is the one the handler got: read by the server's serializer, if it has one.
///
/// ```
/// use oslo_messaging_core::context::{Context, current_context, in_context};
///
/// fn who() -> Option<String> {
///     current_context()?.get("user")?.ok()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut context = Context::new();
/// context.insert("user", "alice").unwrap();
/// assert_eq!(who(), None);
/// // As the server does it around each handler.
/// assert_eq!(in_context(context, async { who() }).await.as_deref(), Some("alice"));
/// # }
/// ```
pub fn current_context() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs a future with this context as the current one.
///
/// # Cancellation
/// As the future itself.
///
/// ```
/// use oslo_messaging_core::context::{Context, current_context, in_context};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let inside = in_context(Context::new(), async { current_context().is_some() });
/// assert!(inside.await);
/// # }
/// ```
pub fn in_context<F: Future>(
    context: impl Into<Arc<Context>>,
    future: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope(context.into(), future)
}

/// Runs a future with the context that is current now, if there is one: for what a handler spawns.
///
/// # Cancellation
/// As the future itself.
///
/// ```
/// use oslo_messaging_core::context::{Context, current_context, in_context, in_current_context};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let handler = async {
///     let bare = tokio::spawn(async { current_context().is_some() });
///     let wrapped = tokio::spawn(in_current_context(async { current_context().is_some() }));
///     (bare.await.unwrap(), wrapped.await.unwrap())
/// };
/// assert_eq!(in_context(Context::new(), handler).await, (false, true));
/// # }
/// ```
pub fn in_current_context<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let context = current_context();
    async move {
        match context {
            Some(context) => in_context(context, future).await,
            None => future.await,
        }
    }
}

/// Runs a function with this context as the current one: for threads.
///
/// ```
/// use oslo_messaging_core::context::{Context, current_context, run_in_context};
///
/// let thread = std::thread::spawn(|| run_in_context(Context::new(), || current_context().is_some()));
/// assert!(thread.join().unwrap());
/// ```
pub fn run_in_context<T>(context: impl Into<Arc<Context>>, function: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context.into(), function)
}
