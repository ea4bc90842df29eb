#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod blocking;
#[cfg(feature = "config-file")]
pub mod config;
mod drivers;
#[cfg(feature = "http-layer")]
mod http_layer;
#[cfg(feature = "tracing-layer")]
mod log_layer;
mod signal;

pub use oslo_messaging_core::context::{
    Context, current_context, in_context, in_current_context, run_in_context,
};
pub use oslo_messaging_core::driver::{Health, Retry};
pub use oslo_messaging_core::error::{Error, ErrorKind, RemoteError, Result};
pub use oslo_messaging_core::events::{Event, Events};
#[doc(inline)]
pub use oslo_messaging_core::layer::{self, trace};
pub use oslo_messaging_core::notify::{
    NotificationEndpoint, NotificationFilter, NotificationListener, NotificationOutcome,
    NotificationResult, Notifier,
};
pub use oslo_messaging_core::request_context::RequestContext;
pub use oslo_messaging_core::rpc::{
    Acknowledge, DefaultRpcAccessPolicy, Endpoint, Executor, ExplicitRpcAccessPolicy, FromRemote,
    Hook, IntoFailure, LegacyRpcAccessPolicy, RpcAccessPolicy, RpcClient, RpcServer, ServerHandle,
};
pub use oslo_messaging_core::serializer::{
    JsonPayloadSerializer, NoOpSerializer, RequestContextSerializer, Serializer,
};
pub use oslo_messaging_core::transport::{ReplyStyle, Transport, TransportOptions};
#[doc(inline)]
pub use oslo_messaging_core::{driver, events, memory, notify, rpc};
#[cfg(feature = "kafka")]
pub use oslo_messaging_kafka as kafka;
#[cfg(feature = "macros")]
#[doc(inline)]
pub use oslo_messaging_macros::{RemoteError, client, endpoint, listener};
pub use oslo_messaging_proto as proto;
pub use oslo_messaging_proto::json::raw::RawJson;
pub use oslo_messaging_proto::json::value::Value;
#[doc(inline)]
pub use oslo_messaging_proto::primitive;
pub use oslo_messaging_proto::priority::Priority;
pub use oslo_messaging_proto::target::Target;
pub use oslo_messaging_proto::url::TransportUrl;
pub use oslo_messaging_proto::version::Version;
pub use oslo_messaging_proto::wire::failure::Failure;
pub use oslo_messaging_proto::wire::notification::Notification;
#[cfg(feature = "rabbit")]
pub use oslo_messaging_rabbit as rabbit;

#[cfg(feature = "config-file")]
pub use crate::config::{Config, connect_config, connect_config_notifications};
pub use crate::drivers::{ConnectOptions, IntoTransportUrl, connect, connect_with};
#[cfg(feature = "http-layer")]
pub use crate::http_layer::{RequestNotification, RequestNotificationLayer};
#[cfg(feature = "tracing-layer")]
pub use crate::log_layer::{LogPublisher, NotificationLayer};
pub use crate::signal::shutdown_signal;

/// The examples of the project's front page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
