//! Remote procedure calls: client and server, over any driver.

pub mod access;
mod address;
mod again;
pub mod batch;
mod call;
mod cancellation;
pub mod client;
pub mod deadline;
mod dispatcher;
pub mod endpoint;
mod failure;
pub mod foreign;
mod handle;
pub mod hedge;
pub mod hook;
mod intake;
pub mod layer;
mod observe;
mod panics;
pub mod ping;
mod place;
mod recent;
pub mod remote;
mod replier;
pub mod retry;
pub mod server;
mod service;
mod under_way;

pub use self::access::{
    DefaultRpcAccessPolicy, ExplicitRpcAccessPolicy, LegacyRpcAccessPolicy, RpcAccessPolicy,
};
pub use self::client::RpcClient;
pub use self::endpoint::{Endpoint, Interface, IntoFailure, Invocation, MethodInfo};
pub use self::hook::Hook;
pub use self::remote::FromRemote;
pub use self::server::{
    Acknowledge, Executor, RpcServer, RpcServerBuilder, ServerHandle, ServerStats, Stopped,
};
pub use oslo_messaging_proto::wire::reply::ReplyBody;
