//! The dispatcher: finds the endpoint that answers a request and runs the method.
//!
//! Pure selection and invocation: it sees a decoded request and gives a reply body or a failure. Words
//! and order of the failures are the reference's (parity D2 to D7, spec section 8.2).

use std::future::Future;
use std::sync::Arc;

use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::version::{Version, VersionError};
use oslo_messaging_proto::wire::args::Args;
use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;
use oslo_messaging_proto::wire::request::Request;
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};
use crate::rpc::access::RpcAccessPolicy;
use crate::rpc::endpoint::{Endpoint, Interface, Invocation};
use crate::rpc::failure::{IntoFailure, no_such_method, unsupported_version};
use crate::rpc::ping::{PING_METHOD, PingEndpoint};
use crate::serializer::Serializer;

/// Endpoints in the order they are asked, and who may reach what.
pub(crate) struct Dispatcher {
    endpoints: Vec<Served>,
    policy: Arc<dyn RpcAccessPolicy>,
    serializer: Option<Arc<dyn Serializer>>,
}

struct Served {
    endpoint: Arc<dyn Endpoint>,
    interface: Interface,
    version: Version,
}

/// Why there is no result.
pub(crate) enum Refused {
    /// No method ran.
    Dispatch(Failure),
    /// The method's own failure.
    Method(Failure),
    /// Whoever took the request lets go of it without a word, and so does the server.
    Unanswered,
}

/// Who a request is for.
pub(crate) trait Dispatch: Send + Sync + 'static {
    /// Finds the method and runs it.
    fn dispatch(
        &self,
        request: &mut Request,
    ) -> impl Future<Output = Result<ReplyBody, Refused>> + Send;
}

impl Dispatcher {
    /// Checks the endpoints' interfaces; adds the ping endpoint if it is wanted and nobody defines it.
    pub(crate) fn new(
        endpoints: Vec<Arc<dyn Endpoint>>,
        policy: Arc<dyn RpcAccessPolicy>,
        serializer: Option<Arc<dyn Serializer>>,
        ping: bool,
    ) -> Result<Self> {
        let mut served = endpoints
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
            endpoints: served,
            policy,
            serializer,
        })
    }

    fn find<'a>(&'a self, request: &'a Request) -> Result<(&'a dyn Endpoint, &'a str), Failure> {
        let mut compatible = false;
        for served in &self.endpoints {
            if !served.takes(request)? {
                continue;
            }
            compatible = true;
            let method = request.method().map_err(|fault| fault.to_failure())?;
            if let Some(info) = served.endpoint.method(method)
                && self.policy.is_allowed(&*served.endpoint, method, info)
            {
                return Ok((&*served.endpoint, method));
            }
        }
        let method = request.method().unwrap_or("None");
        if compatible {
            return Err(no_such_method(method));
        }
        let version = request.version().ok().flatten().unwrap_or("None");
        Err(unsupported_version(version, method))
    }
}

impl Dispatch for Dispatcher {
    async fn dispatch(&self, request: &mut Request) -> Result<ReplyBody, Refused> {
        let (context, args) = (request.take_context(), request.take_args());
        let is_call = request.msg_id().is_some();
        let (endpoint, method) = self.find(request).map_err(Refused::Dispatch)?;
        // Only now, since the reference looks for the method before it looks at the arguments.
        let args = args.map_err(|fault| Refused::Dispatch(fault.to_failure()))?;
        let Some(serializer) = self.serializer.as_deref() else {
            let invocation = Invocation::new(method, &context, args).awaited(is_call);
            return endpoint
                .call(&context, invocation)
                .await
                .map_err(Refused::Method);
        };
        let context = serializer.deserialize_context(context).map_err(refused)?;
        let args = deserialize_args(serializer, &context, args).map_err(refused)?;
        let invocation = Invocation::new(method, &context, args)
            .awaited(is_call)
            .with_serializer(Some(serializer));
        endpoint
            .call(&context, invocation)
            .await
            .map_err(Refused::Method)
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
            Some(asked) => {
                let asked: Version = asked
                    .parse()
                    .map_err(|fault: VersionError| fault.to_failure())?;
                Ok(self.version.accepts(&asked))
            }
        }
    }
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

fn refused(error: Error) -> Refused {
    Refused::Dispatch(error.into_failure())
}
