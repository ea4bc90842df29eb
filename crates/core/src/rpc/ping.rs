//! The ping endpoint: answers `oslo_rpc_server_ping` with `pong` (parity D12, spec section 15).

use oslo_messaging_proto::wire::context::Context;
use oslo_messaging_proto::wire::failure::Failure;
use oslo_messaging_proto::wire::reply::ReplyBody;

use crate::driver::BoxFuture;
use crate::rpc::endpoint::{Endpoint, Interface, Invocation, MethodInfo};

/// Name of the method.
///
/// ```
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::error::Result;
/// use oslo_messaging_core::rpc::{RpcClient, ping::PING_METHOD};
///
/// async fn is_alive(client: &RpcClient) -> Result<bool> {
///     let answer: String = client.call(&Context::new(), PING_METHOD, ()).await?;
///     Ok(answer == "pong")
/// }
/// ```
pub const PING_METHOD: &str = "oslo_rpc_server_ping";

/// Null namespace, version 1.0, takes any arguments.
pub(crate) struct PingEndpoint;

impl Endpoint for PingEndpoint {
    fn interface(&self) -> Interface {
        Interface::new()
    }

    fn method(&self, name: &str) -> Option<MethodInfo> {
        (name == PING_METHOD).then(MethodInfo::exposed)
    }

    fn call<'a>(
        &'a self,
        _ctx: &'a Context,
        call: Invocation<'a>,
    ) -> BoxFuture<'a, Result<ReplyBody, Failure>> {
        Box::pin(async move { call.respond("pong") })
    }
}
