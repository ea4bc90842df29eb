//! Remote procedure calls: client and server, over any driver.

pub mod access;
mod address;
mod again;
mod call;
pub mod client;
mod dispatcher;
pub mod endpoint;
mod failure;
pub mod foreign;
mod handle;
pub mod hook;
mod ids;
mod intake;
mod panics;
pub mod ping;
mod recent;
mod replier;
pub mod server;
mod service;

pub use self::access::{
    DefaultRpcAccessPolicy, ExplicitRpcAccessPolicy, LegacyRpcAccessPolicy, RpcAccessPolicy,
};
pub use self::client::RpcClient;
pub use self::endpoint::{Endpoint, Interface, IntoFailure, Invocation, MethodInfo};
pub use self::hook::Hook;
pub use self::server::{
    Acknowledge, Executor, RpcServer, RpcServerBuilder, ServerHandle, ServerStats, Stopped,
};
pub use oslo_messaging_proto::wire::reply::ReplyBody;
