//! Access policies: which of an endpoint's methods a caller may reach (parity D8 to D11).

use crate::rpc::endpoint::{Endpoint, MethodInfo};

/// Decides for each request whether the method may be called.
///
/// A method that may not counts as not there: the caller gets `NoSuchMethod`.
///
/// ```
/// use oslo_messaging_core::rpc::access::RpcAccessPolicy;
/// use oslo_messaging_core::rpc::endpoint::{Endpoint, MethodInfo};
///
/// struct NoDelete;
///
/// impl RpcAccessPolicy for NoDelete {
///     fn is_allowed(&self, _endpoint: &dyn Endpoint, method: &str, _info: MethodInfo) -> bool {
///         !method.starts_with('_') && !method.starts_with("delete_")
///     }
/// }
/// ```
pub trait RpcAccessPolicy: Send + Sync + 'static {
    /// Whether `method` of `endpoint`, which exists, may be called.
    fn is_allowed(&self, endpoint: &dyn Endpoint, method: &str, info: MethodInfo) -> bool;
}

/// Everything an endpoint has, names with a leading underscore included (parity D8).
///
/// ```
/// use oslo_messaging_core::rpc::{
///     DefaultRpcAccessPolicy, Endpoint, ExplicitRpcAccessPolicy, LegacyRpcAccessPolicy, MethodInfo, RpcAccessPolicy,
/// };
///
/// fn check(endpoint: &dyn Endpoint) {
///     let (plain, exposed) = (MethodInfo::new(), MethodInfo::exposed());
///     assert!(LegacyRpcAccessPolicy.is_allowed(endpoint, "_inner", plain));
///     assert!(!DefaultRpcAccessPolicy.is_allowed(endpoint, "_inner", exposed));
///     assert!(ExplicitRpcAccessPolicy.is_allowed(endpoint, "_inner", exposed));
///     assert!(!ExplicitRpcAccessPolicy.is_allowed(endpoint, "ping", plain));
/// }
/// # use oslo_messaging_core::{context::Context, driver::BoxFuture, error::RemoteError};
/// # use oslo_messaging_core::rpc::{Interface, Invocation, ReplyBody};
/// # struct Nothing;
/// # impl Endpoint for Nothing {
/// #     fn interface(&self) -> Interface { Interface::new() }
/// #     fn method(&self, _: &str) -> Option<MethodInfo> { None }
/// #     fn call<'a>(&'a self, _: &'a Context, call: Invocation<'a>) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
/// #         Box::pin(async move { Err(call.no_such_method()) })
/// #     }
/// # }
/// # check(&Nothing);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct LegacyRpcAccessPolicy;

impl RpcAccessPolicy for LegacyRpcAccessPolicy {
    fn is_allowed(&self, _endpoint: &dyn Endpoint, _method: &str, _info: MethodInfo) -> bool {
        true
    }
}

/// Everything but names with a leading underscore: the default (parity D9).
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultRpcAccessPolicy;

impl RpcAccessPolicy for DefaultRpcAccessPolicy {
    fn is_allowed(&self, _endpoint: &dyn Endpoint, method: &str, _info: MethodInfo) -> bool {
        !method.starts_with('_')
    }
}

/// Only what is marked as exposed (parity D10).
#[derive(Debug, Clone, Copy, Default)]
pub struct ExplicitRpcAccessPolicy;

impl RpcAccessPolicy for ExplicitRpcAccessPolicy {
    fn is_allowed(&self, _endpoint: &dyn Endpoint, _method: &str, info: MethodInfo) -> bool {
        info.exposed
    }
}
