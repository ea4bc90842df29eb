//! What a server serves: the [`Endpoint`] trait, and the pieces an endpoint is written with.
//!
//! Knows nothing of messages and buses. The macro `#[endpoint]` prints an `impl Endpoint` that anyone
//! could write by hand; a binding that finds its methods at run time implements the same trait.
//!
//! A request comes in as an [`Invocation`]: the endpoint takes its arguments from it by name, runs, and
//! answers with [`Invocation::respond`]. What goes wrong on purpose is a [`Failure`], made from the
//! handler's own error type by [`IntoFailure`].

use std::num::NonZeroUsize;
use std::sync::Arc;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::Value;
use oslo_messaging_proto::version::Version;
use oslo_messaging_proto::wire::args::Args;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::driver::BoxFuture;
use crate::rpc::failure::no_such_method;
use crate::serializer::Serializer;

pub use crate::rpc::failure::{IntoFailure, causes};

/// A set of methods that can be called from afar, under one namespace and version.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::driver::BoxFuture;
/// use oslo_messaging_core::error::RemoteError;
/// use oslo_messaging_core::rpc::endpoint::{Endpoint, Interface, Invocation, MethodInfo};
/// use oslo_messaging_core::rpc::ReplyBody;
///
/// struct Adder;
///
/// impl Endpoint for Adder {
///     fn interface(&self) -> Interface {
///         Interface::new().namespace("math").version("1.1")
///     }
///
///     fn method(&self, name: &str) -> Option<MethodInfo> {
///         matches!(name, "add").then(MethodInfo::new)
///     }
///
///     fn call<'a>(&'a self, _ctx: &'a Context, mut call: Invocation<'a>) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
///         Box::pin(async move {
///             let a: i64 = call.take("a")?;
///             let b: i64 = call.take_or_else("b", || 1)?;
///             call.finish_args()?;
///             call.respond(&(a + b))
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // As its server does it.
/// assert_eq!(Adder.interface().version_text(), "1.1");
/// assert!(Adder.method("add").is_some() && Adder.method("subtract").is_none());
/// let context = Context::new();
/// let args = [("a", 2)].into_iter().map(|(name, value)| (name.to_owned(), RawJson::from_value(&value).unwrap())).collect();
/// let answered = Adder.call(&context, Invocation::new("add", &context, args)).await;
/// assert!(answered.is_ok());
/// # }
/// # use oslo_messaging_proto::RawJson;
/// ```
pub trait Endpoint: Send + Sync + 'static {
    /// Namespace, legacy namespaces and version. Asked once, when the server is built.
    fn interface(&self) -> Interface;

    /// Tells whether the endpoint has a method of this name; `None` if not.
    ///
    /// Must not run anything: it is asked for every request, before access is checked.
    fn method(&self, name: &str) -> Option<MethodInfo>;

    /// Runs a method that [`Endpoint::method`] has.
    ///
    /// # Errors
    /// What the caller is to get as a remote exception. A panic becomes one as well.
    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        invocation: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>>;
}

/// One that others hold as well.
impl<E: Endpoint + ?Sized> Endpoint for Arc<E> {
    fn interface(&self) -> Interface {
        (**self).interface()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        (**self).method(name)
    }

    fn call<'a>(
        &'a self,
        ctx: &'a Context,
        invocation: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        (**self).call(ctx, invocation)
    }
}

/// Under which namespace and version an endpoint answers (parity T2, T3, D3).
///
/// The default is the null namespace and version 1.0.
///
/// ```
/// use oslo_messaging_core::rpc::Interface;
///
/// assert_eq!(Interface::new(), Interface::default());
/// let interface =
///     Interface::new().namespace("conductor").version("1.3").legacy_namespace("compute").legacy_null_namespace();
/// let namespaces: Vec<_> = interface.accepted_namespaces().collect();
/// assert_eq!(namespaces, [Some("conductor"), Some("compute"), None]);
/// assert_eq!(interface.version_text(), "1.3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    namespaces: Vec<Option<String>>,
    version: String,
}

impl Default for Interface {
    fn default() -> Self {
        Self::new()
    }
}

impl Interface {
    /// The null namespace, version 1.0.
    pub fn new() -> Self {
        Self {
            namespaces: vec![None],
            version: "1.0".to_owned(),
        }
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespaces[0] = Some(namespace.into());
        self
    }

    /// Takes requests to this older namespace, too.
    #[must_use]
    pub fn legacy_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespaces.push(Some(namespace.into()));
        self
    }

    /// Takes requests without a namespace, too.
    #[must_use]
    pub fn legacy_null_namespace(mut self) -> Self {
        self.namespaces.push(None);
        self
    }

    /// Sets the version, `major.minor` or `major.minor.revision`. Checked when the server is built.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// All namespaces it answers to, its own first; `None` is the null namespace.
    pub fn accepted_namespaces(&self) -> impl Iterator<Item = Option<&str>> {
        self.namespaces.iter().map(Option::as_deref)
    }

    /// The version as it was set.
    pub fn version_text(&self) -> &str {
        &self.version
    }

    /// Whether a request to this namespace is for this interface.
    pub(crate) fn accepts_namespace(&self, namespace: Option<&str>) -> bool {
        self.namespaces
            .iter()
            .any(|own| own.as_deref() == namespace)
    }

    pub(crate) fn parse_version(&self) -> Option<Version> {
        self.version.parse().ok()
    }
}

/// What is known of a method without running it.
///
/// ```
/// use std::num::NonZeroUsize;
/// use oslo_messaging_core::rpc::MethodInfo;
///
/// let info = MethodInfo::exposed().blocks().limited(NonZeroUsize::MIN);
/// assert!(info.exposed && info.blocking);
/// assert_eq!(info.limit, Some(NonZeroUsize::MIN));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MethodInfo {
    /// Marked as meant for callers: what [`ExplicitRpcAccessPolicy`](crate::rpc::access::ExplicitRpcAccessPolicy)
    /// asks for (parity D10, RS22).
    pub exposed: bool,
    /// It blocks its thread, so it gets one of its own while it runs, whatever the server's
    /// [`Executor`](crate::rpc::server::Executor).
    pub blocking: bool,
    /// How many of this method of this endpoint may run at once in a server; `None` for no bound but the server's own.
    ///
    /// What comes beyond waits without keeping requests for other methods from running, and is not acknowledged
    /// meanwhile, so that the prefetch bounds it: set it above the sum of what may wait.
    pub limit: Option<NonZeroUsize>,
}

impl MethodInfo {
    /// A method that exists and is not marked.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::MethodInfo;
    ///
    /// assert_eq!(MethodInfo::new(), MethodInfo::default());
    /// ```
    pub const fn new() -> Self {
        Self {
            exposed: false,
            blocking: false,
            limit: None,
        }
    }

    /// A method that exists and is marked as exposed.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::MethodInfo;
    ///
    /// assert!(MethodInfo::exposed().exposed);
    /// ```
    pub const fn exposed() -> Self {
        let mut this = Self::new();
        this.exposed = true;
        this
    }

    /// The same of a method that blocks its thread.
    ///
    /// ```
    /// use oslo_messaging_core::rpc::MethodInfo;
    ///
    /// assert!(MethodInfo::new().blocks().blocking);
    /// ```
    #[must_use]
    pub const fn blocks(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// The same of a method of which only `limit` may run at once.
    ///
    /// ```
    /// use std::num::NonZeroUsize;
    /// use oslo_messaging_core::rpc::MethodInfo;
    ///
    /// assert_eq!(MethodInfo::new().limited(NonZeroUsize::MIN).limit, Some(NonZeroUsize::MIN));
    /// ```
    #[must_use]
    pub const fn limited(mut self, limit: NonZeroUsize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// One request to an endpoint: the method's name, its arguments, and the way to answer.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::error::RemoteError;
/// use oslo_messaging_core::rpc::{Invocation, ReplyBody};
/// use oslo_messaging_proto::RawJson;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Both { a: i64, b: i64 }
///
/// fn answer(mut call: Invocation<'_>) -> Result<ReplyBody, RemoteError> {
///     match call.method() {
///         "add" => {
///             let (a, b): (i64, i64) = (call.take("a")?, call.take_or_else("b", || 1)?);
///             call.finish_args()?;
///             call.respond(&(a + b))
///         }
///         "times" => {
///             let Both { a, b } = call.parse_args()?;
///             call.respond(&(a * b))
///         }
///         _ => Err(call.no_such_method()),
///     }
/// }
///
/// let context = Context::new();
/// let invocation = |method| {
///     let args = [("a", 2)].into_iter().map(|(name, value)| (name.to_owned(), RawJson::from_value(&value).unwrap()));
///     Invocation::new(method, &context, args.collect())
/// };
/// assert!(invocation("add").is_call());
/// assert_eq!(invocation("add").args().names(), ["a"]);
/// assert!(answer(invocation("add")).is_ok());
/// assert_eq!(answer(invocation("times")).unwrap_err().class(), "TypeError");
/// assert_eq!(answer(invocation("shrink")).unwrap_err().class(), "NoSuchMethod");
/// ```
pub struct Invocation<'a> {
    method: &'a str,
    context: &'a Context,
    args: Args,
    is_call: bool,
    serializer: Option<&'a dyn Serializer>,
    /// The bus takes the reply open.
    is_open: bool,
}

impl<'a> Invocation<'a> {
    /// A request for `method` with these arguments, as an endpoint's own tests make it.
    pub fn new(method: &'a str, context: &'a Context, args: Args) -> Self {
        Self {
            method,
            context,
            args,
            is_call: true,
            serializer: None,
            is_open: false,
        }
    }

    /// Notes that the request came open, so that its reply may go so.
    pub(crate) fn open(mut self, is_open: bool) -> Self {
        self.is_open = is_open;
        self
    }

    /// Notes whether somebody waits for the result.
    pub(crate) fn awaited(mut self, is_call: bool) -> Self {
        self.is_call = is_call;
        self
    }

    /// Lets results pass through `serializer`.
    pub(crate) fn with_serializer(mut self, serializer: Option<&'a dyn Serializer>) -> Self {
        self.serializer = serializer;
        self
    }

    /// The method's name as the caller wrote it.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// Whether somebody waits for the result: a call, not a cast. One made by [`Invocation::new`] is a call.
    pub fn is_call(&self) -> bool {
        self.is_call
    }

    /// The arguments that nobody took yet.
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Reads all arguments as one value, such as a struct or a map, which may borrow from the message.
    ///
    /// # Errors
    /// A `TypeError` if they do not fit.
    pub fn parse_args<'b, T: Deserialize<'b>>(&'b self) -> Result<T, Failure> {
        self.args
            .parse()
            .map_err(|fault| Failure::builtin("TypeError", format!("{}() {fault}", self.method)))
    }

    /// Takes the argument `name`, which the caller must have sent.
    ///
    /// # Errors
    /// A `TypeError` if it is missing or does not fit.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        match self.args.take(name) {
            Some(raw) => self.read(name, &raw),
            None => Err(Failure::builtin(
                "TypeError",
                format!("{}() missing 1 required argument: '{name}'", self.method),
            )),
        }
    }

    /// Takes the argument `name`, or the default if the caller left it out.
    ///
    /// # Errors
    /// A `TypeError` if it does not fit.
    pub fn take_or_else<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: impl FnOnce() -> T,
    ) -> Result<T, Failure> {
        match self.args.take(name) {
            Some(raw) => self.read(name, &raw),
            None => Ok(default()),
        }
    }

    /// Checks that no argument is left over, as Python does with keyword arguments.
    ///
    /// # Errors
    /// A `TypeError` that names the first argument that the method does not have.
    pub fn finish_args(&self) -> Result<(), Failure> {
        match self.args.names().first() {
            Some(name) => Err(Failure::builtin(
                "TypeError",
                format!(
                    "{}() got an unexpected keyword argument '{name}'",
                    self.method
                ),
            )),
            None => Ok(()),
        }
    }

    /// The failure of a method the endpoint does not have after all, as the dispatcher words it (parity D5).
    pub fn no_such_method(&self) -> Failure {
        no_such_method(self.method)
    }

    /// Writes the result for the caller.
    ///
    /// # Errors
    /// A `TypeError` that says why the result cannot be written: the caller is told instead of being left
    /// to wait (parity A21).
    pub fn respond<T: Serialize + ?Sized>(&self, result: &T) -> Result<ReplyBody, Failure> {
        let written = match self
            .serializer
            .filter(|serializer| serializer.wants_entities())
        {
            None => self.write(result),
            Some(serializer) => self.respond_through(serializer, result),
        };
        written.map_err(|why| {
            Failure::builtin(
                "TypeError",
                format!("the result of {}() cannot be sent: {why}", self.method),
            )
        })
    }

    fn respond_through<T: Serialize + ?Sized>(
        &self,
        serializer: &dyn Serializer,
        result: &T,
    ) -> Result<ReplyBody, String> {
        let plain = RawJson::from_value(result).map_err(|fault| fault.to_string())?;
        let value: Value = plain.parse().map_err(|fault| fault.to_string())?;
        let value = serializer
            .serialize_entity(self.context, value)
            .map_err(|fault| fault.to_string())?;
        self.write(&value)
    }

    fn write<T: Serialize + ?Sized>(&self, result: &T) -> Result<ReplyBody, String> {
        let written = if self.is_open {
            ReplyBody::open_result(result)
        } else {
            ReplyBody::encode_result(result)
        };
        written.map_err(|fault| fault.to_string())
    }

    fn read<T: DeserializeOwned>(&self, name: &str, raw: &RawJson) -> Result<T, Failure> {
        raw.parse().map_err(|fault| {
            Failure::builtin(
                "TypeError",
                format!("{}() argument '{name}': {fault}", self.method),
            )
        })
    }
}
