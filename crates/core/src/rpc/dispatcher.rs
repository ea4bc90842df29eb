//! The dispatcher: finds the endpoint that answers a request and runs the method.
//!
//! Pure selection and invocation: it sees a decoded request and finds a method, or runs one that was found. Words
//! and order of the failures are the reference's (parity D2 to D7, spec section 8.2).

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::version::{Version, VersionError};
use oslo_messaging_proto::wire::args::Args;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use oslo_messaging_proto::wire::request::{Request, RequestFault};
use tracing::warn;

use crate::context::in_context;
use crate::error::{Error, ErrorKind, Result};
use crate::rpc::access::RpcAccessPolicy;
use crate::rpc::endpoint::{Endpoint, Interface, Invocation, MethodInfo};
use crate::rpc::failure::{IntoFailure, no_such_method, unsupported_version};
use crate::rpc::hook::{Hooks, RequestInfo};
use crate::rpc::panics::caught;
use crate::rpc::ping::{PING_METHOD, PingEndpoint};
use crate::serializer::Serializer;

/// Who a request is for.
pub(crate) trait Dispatch: Send + Sync + 'static {
    /// Finds the method. Runs nothing.
    fn find(&self, request: &Request) -> Result<Found, Failure>;

    /// Runs what was found, or gives the failure that nothing was. `None` if whoever took the request let go of it without
    /// a word: then the server does so too.
    fn run(
        &self,
        request: &mut Request,
        found: Result<Found, Failure>,
    ) -> impl Future<Output = Result<Option<ReplyBody>, Failure>> + Send;
}

/// Endpoints in the order they are asked, who may reach what, and the hooks around all of it.
pub(crate) struct Dispatcher {
    topic: String,
    hooks: Hooks,
    endpoints: Vec<Served>,
    policy: Arc<dyn RpcAccessPolicy>,
    serializer: Option<Arc<dyn Serializer>>,
    /// How many of a method may run at once, whatever the endpoint says.
    limits: HashMap<String, NonZeroUsize>,
}

struct Served {
    endpoint: Arc<dyn Endpoint>,
    interface: Interface,
    version: Version,
}

/// A method that a request may call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Which endpoint has it.
    pub(crate) endpoint: usize,
    pub(crate) info: MethodInfo,
}

/// What a dispatcher is made of.
pub(crate) struct Parts {
    pub(crate) endpoints: Vec<Arc<dyn Endpoint>>,
    pub(crate) policy: Arc<dyn RpcAccessPolicy>,
    pub(crate) serializer: Option<Arc<dyn Serializer>>,
    pub(crate) limits: HashMap<String, NonZeroUsize>,
    pub(crate) hooks: Hooks,
}

impl Dispatcher {
    /// Checks the endpoints' interfaces; adds the ping endpoint if it is wanted and nobody defines it.
    pub(crate) fn new(topic: &str, parts: Parts, ping: bool) -> Result<Self> {
        let mut served = parts
            .endpoints
            .into_iter()
            .map(Served::new)
            .collect::<Result<Vec<_>>>()?;
        if served.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a server needs at least one endpoint",
            ));
        }
        let own_ping = served
            .iter()
            .any(|own| own.endpoint.method(PING_METHOD).is_some());
        if own_ping {
            warn!(
                method = PING_METHOD,
                "an endpoint defines a reserved method name"
            );
        }
        if ping && !own_ping {
            served.push(Served::new(Arc::new(PingEndpoint))?);
        }
        Ok(Self {
            topic: topic.to_owned(),
            hooks: parts.hooks,
            endpoints: served,
            policy: parts.policy,
            serializer: parts.serializer,
            limits: parts.limits,
        })
    }

    /// Runs a method that was found, with the request's context as the current one.
    async fn invoke(
        &self,
        request: &Request,
        found: Result<Found, Failure>,
        context: Arc<Context>,
        args: Result<Args, RequestFault>,
    ) -> Result<ReplyBody, Failure> {
        // In this order, since the reference looks for the method before it looks at the arguments.
        let endpoint = &*self.endpoints[found?.endpoint].endpoint;
        let args = args.map_err(|fault| fault.to_failure())?;
        let method = request.method().map_err(|fault| fault.to_failure())?;
        let is_call = request.msg_id().is_some();
        let serializer = self.serializer.as_deref();
        let (context, args) = match serializer {
            None => (context, args),
            Some(serializer) => deserialize(serializer, context, args)?,
        };
        let invocation = Invocation::new(method, &context, args)
            .awaited(is_call)
            .open(request.is_open())
            .with_serializer(serializer);
        in_context(Arc::clone(&context), async {
            endpoint.call(&context, invocation).await
        })
        .await
    }
}

impl Dispatch for Dispatcher {
    fn find(&self, request: &Request) -> Result<Found, Failure> {
        let mut compatible = false;
        for (endpoint, served) in self.endpoints.iter().enumerate() {
            if !served.takes(request)? {
                continue;
            }
            compatible = true;
            let method = request.method().map_err(|fault| fault.to_failure())?;
            if let Some(mut info) = served.endpoint.method(method)
                && self.policy.is_allowed(&*served.endpoint, method, info)
            {
                info.limit = self.limits.get(method).copied().or(info.limit);
                return Ok(Found { endpoint, info });
            }
        }
        let method = request.method().unwrap_or("None");
        if compatible {
            return Err(no_such_method(method));
        }
        let version = request.version().ok().flatten().unwrap_or("None");
        Err(unsupported_version(version, method))
    }

    async fn run(
        &self,
        request: &mut Request,
        found: Result<Found, Failure>,
    ) -> Result<Option<ReplyBody>, Failure> {
        let context = Arc::new(request.take_context());
        let args = request.take_args();
        let request = &*request;
        if self.hooks.is_empty() {
            return self.invoke(request, found, context, args).await.map(Some);
        }
        let info = RequestInfo::new(&self.topic, request, &context, found.is_ok());
        let method = self.invoke(request, found, Arc::clone(&context), args);
        // In a box, so that requests without hooks have no room for it.
        Box::pin(self.hooks.around(&info, caught(method)))
            .await
            .map(Some)
    }
}

impl Served {
    fn new(endpoint: Arc<dyn Endpoint>) -> Result<Self> {
        let interface = endpoint.interface();
        let Some(version) = interface.parse_version() else {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "an endpoint's version must be major.minor, not {:?}",
                    interface.version_text()
                ),
            ));
        };
        Ok(Self {
            endpoint,
            interface,
            version,
        })
    }

    /// Whether the request's namespace and version are this endpoint's. Fails as the reference does for a
    /// version that is none; only an endpoint of the right namespace looks at it.
    fn takes(&self, request: &Request) -> Result<bool, Failure> {
        // A namespace that is no string is nobody's.
        if !request
            .namespace()
            .is_ok_and(|namespace| self.interface.accepts_namespace(namespace))
        {
            return Ok(false);
        }
        match request.version().map_err(|fault| fault.to_failure())? {
            None => Ok(false),
            // Nearly always, and then it need not be read: every version accepts itself.
            Some(asked) if asked == self.interface.version_text() => Ok(true),
            Some(asked) => {
                let asked: Version = asked
                    .parse()
                    .map_err(|fault: VersionError| fault.to_failure())?;
                Ok(self.version.accepts(&asked))
            }
        }
    }
}

fn deserialize(
    serializer: &dyn Serializer,
    context: Arc<Context>,
    args: Args,
) -> Result<(Arc<Context>, Args), Failure> {
    let context = serializer
        .deserialize_context(Arc::unwrap_or_clone(context))
        .map_err(Error::into_failure)?;
    let args = deserialize_args(serializer, &context, args).map_err(Error::into_failure)?;
    Ok((Arc::new(context), args))
}

fn deserialize_args(serializer: &dyn Serializer, context: &Context, args: Args) -> Result<Args> {
    if !serializer.wants_entities() {
        return Ok(args);
    }
    let through = |(name, raw): (String, RawJson)| {
        let value = serializer.deserialize_entity(context, raw.to_value()?)?;
        Ok((name, RawJson::from_value(&value)?))
    };
    args.into_entries().into_iter().map(through).collect()
}
