//! Hooks: what an application does before, around and after each request of a server.
//!
//! They are the place of what the reference's dispatchers did in their executor context: something before a request is
//! worked on, something around it in the same task, something with its result. Hooks know nothing of the bus, and a hook
//! that panics harms its own request at most.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use oslo_messaging_proto::wire::request::Request;
use tracing::error;

use crate::driver::BoxFuture;
use crate::rpc::panics::{caught, failure_of};

/// What a hook does. Every method has a default that does nothing.
///
/// Hooks nest in the order they were added to the server: the first one's [`before`](Self::before) comes first, its
/// [`run`](Self::run) is the outermost, its [`after`](Self::after) comes last. All of it happens where the handler
/// runs, after the request was taken and for requests that no endpoint serves as well.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use oslo_messaging_core::rpc::hook::{Hook, Outcome, RequestInfo};
///
/// #[derive(Default)]
/// struct Failures(AtomicUsize);
///
/// impl Hook for Failures {
///     fn after(&self, _request: &RequestInfo<'_>, outcome: Outcome<'_>) {
///         if matches!(outcome, Outcome::Failed(_)) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
///
/// One that keeps casts from another:
///
/// ```
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::error::RemoteError;
/// use oslo_messaging_core::rpc::hook::{Hook, Outcome, RequestInfo};
/// use oslo_messaging_core::rpc::ReplyBody;
///
/// struct CallsOnly<H>(H);
///
/// impl<H: Hook> Hook for CallsOnly<H> {
///     fn before(&self, request: &RequestInfo<'_>) {
///         if request.is_call() {
///             self.0.before(request);
///         }
///     }
///
///     fn run<'a>(
///         &'a self,
///         request: &'a RequestInfo<'a>,
///         method: BoxFuture<'a, Result<ReplyBody, RemoteError>>,
///     ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
///         if request.is_call() { self.0.run(request, method) } else { method }
///     }
///
///     fn after(&self, request: &RequestInfo<'_>, outcome: Outcome<'_>) {
///         if request.is_call() {
///             self.0.after(request, outcome);
///         }
///     }
/// }
/// ```
pub trait Hook: Send + Sync + 'static {
    /// Before the request is worked on. A panic becomes the request's failure: its method does not run then.
    fn before(&self, request: &RequestInfo<'_>) {
        let _ = request;
    }

    /// Around the method: `method` runs it, and gives what it gave. Not awaited, the method does not run, and what is
    /// returned instead is answered. The method's own panic is a failure here already; one of the hook becomes one.
    fn run<'a>(
        &'a self,
        request: &'a RequestInfo<'a>,
        method: BoxFuture<'a, Result<ReplyBody, Failure>>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        let _ = request;
        method
    }

    /// After it, with what will be answered. Called once for each `before` that returned, also when the request was
    /// abandoned half-way. A panic is logged and changes nothing.
    fn after(&self, request: &RequestInfo<'_>, outcome: Outcome<'_>) {
        let _ = (request, outcome);
    }
}

/// One that others hold as well.
impl<H: Hook + ?Sized> Hook for Arc<H> {
    fn before(&self, request: &RequestInfo<'_>) {
        (**self).before(request);
    }

    fn run<'a>(
        &'a self,
        request: &'a RequestInfo<'a>,
        method: BoxFuture<'a, Result<ReplyBody, Failure>>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        (**self).run(request, method)
    }

    fn after(&self, request: &RequestInfo<'_>, outcome: Outcome<'_>) {
        (**self).after(request, outcome);
    }
}

/// How a request ended.
///
/// ```
/// use oslo_messaging_core::rpc::hook::Outcome;
///
/// fn is_trouble(outcome: Outcome<'_>) -> bool {
///     match outcome {
///         Outcome::Done(_) => false,
///         Outcome::Failed(failure) => !failure.is_expected(),
///         _ => true,
///     }
/// }
/// assert!(is_trouble(Outcome::Abandoned));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// The method gave this result.
    Done(&'a ReplyBody),
    /// The method, a hook or the dispatcher failed.
    Failed(&'a Failure),
    /// The server's stop came to its deadline, or whoever asked wants no answer any more.
    Abandoned,
}

/// What a hook is told of a request.
///
/// ```
/// use oslo_messaging_core::rpc::hook::RequestInfo;
///
/// fn label(request: &RequestInfo<'_>) -> String {
///     format!("{}.{} {}", request.topic(), request.method(), if request.is_call() { "call" } else { "cast" })
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RequestInfo<'a> {
    topic: &'a str,
    request: &'a Request,
    context: &'a Context,
    is_served: bool,
}

impl<'a> RequestInfo<'a> {
    pub(crate) fn new(
        topic: &'a str,
        request: &'a Request,
        context: &'a Context,
        is_served: bool,
    ) -> Self {
        Self {
            topic,
            request,
            context,
            is_served,
        }
    }

    /// Whether an endpoint has the method, and the caller may reach it.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_lost(request: &RequestInfo<'_>) -> bool {
    ///     !request.is_served()
    /// }
    /// ```
    pub fn is_served(&self) -> bool {
        self.is_served
    }

    /// The server's topic.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_ours(request: &RequestInfo<'_>) -> bool {
    ///     request.topic() == "conductor"
    /// }
    /// ```
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The method's name as the caller wrote it; empty if that was no text.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_ping(request: &RequestInfo<'_>) -> bool {
    ///     request.method() == "oslo_rpc_server_ping"
    /// }
    /// ```
    pub fn method(&self) -> &'a str {
        self.request.method().unwrap_or("")
    }

    /// The namespace, if there is one.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_null(request: &RequestInfo<'_>) -> bool {
    ///     request.namespace().is_none()
    /// }
    /// ```
    pub fn namespace(&self) -> Option<&'a str> {
        self.request.namespace().ok().flatten()
    }

    /// The version that was asked for; 1.0 if the caller said nothing.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_old(request: &RequestInfo<'_>) -> bool {
    ///     request.version() == Some("1.0")
    /// }
    /// ```
    pub fn version(&self) -> Option<&'a str> {
        self.request.version().ok().flatten()
    }

    /// The id of the call; `None` for a cast.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn id(request: &RequestInfo<'_>) -> String {
    ///     request.msg_id().unwrap_or("cast").to_owned()
    /// }
    /// ```
    pub fn msg_id(&self) -> Option<&'a str> {
        self.request.msg_id()
    }

    /// Whether somebody waits for the result.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn is_cast(request: &RequestInfo<'_>) -> bool {
    ///     !request.is_call()
    /// }
    /// ```
    pub fn is_call(&self) -> bool {
        self.msg_id().is_some()
    }

    /// The request's context as it came, before any serializer.
    ///
    /// ```
    /// # use oslo_messaging_core::rpc::hook::RequestInfo;
    /// fn user(request: &RequestInfo<'_>) -> Option<String> {
    ///     request.context().get("user")?.ok()
    /// }
    /// ```
    pub fn context(&self) -> &'a Context {
        self.context
    }
}

/// The hooks of a server, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<Arc<dyn Hook>>);

impl Hooks {
    pub(crate) fn push(&mut self, hook: Arc<dyn Hook>) {
        self.0.push(hook);
    }

    /// Adds one around all others.
    pub(crate) fn surround(&mut self, hook: Arc<dyn Hook>) {
        self.0.insert(0, hook);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs the method inside of all hooks.
    pub(crate) async fn around<'a>(
        &'a self,
        request: &'a RequestInfo<'a>,
        method: impl Future<Output = Result<ReplyBody, Failure>> + Send + 'a,
    ) -> Result<ReplyBody, Failure> {
        let mut after = After {
            hooks: &[],
            request,
        };
        for (n, hook) in self.0.iter().enumerate() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook.before(request))) {
                return after.finish(Err(failure_of(panic)));
            }
            after.hooks = &self.0[..=n];
        }
        let mut run: BoxFuture<'a, _> = Box::pin(method);
        for hook in self.0.iter().rev() {
            run = Box::pin(caught(async move { hook.run(request, run).await }));
        }
        after.finish(run.await)
    }
}

/// Owes `after` to the hooks whose `before` returned.
struct After<'a> {
    hooks: &'a [Arc<dyn Hook>],
    request: &'a RequestInfo<'a>,
}

impl After<'_> {
    fn finish(mut self, ran: Result<ReplyBody, Failure>) -> Result<ReplyBody, Failure> {
        self.tell(match &ran {
            Ok(body) => Outcome::Done(body),
            Err(failure) => Outcome::Failed(failure),
        });
        ran
    }

    fn tell(&mut self, outcome: Outcome<'_>) {
        for hook in std::mem::take(&mut self.hooks).iter().rev() {
            let told = catch_unwind(AssertUnwindSafe(|| hook.after(self.request, outcome)));
            if let Err(panic) = told {
                let failure = failure_of(panic);
                error!(
                    method = self.request.method(),
                    traceback = failure.traceback().concat(),
                    "a hook panicked after the request"
                );
            }
        }
    }
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        self.tell(Outcome::Abandoned);
    }
}
