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
mod ids;
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
pub use self::server::{RpcServer, RpcServerBuilder, ServerStats, Stopped};
pub use oslo_messaging_proto::wire::reply::ReplyBody;
