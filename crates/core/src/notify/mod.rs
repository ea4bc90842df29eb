//! Notifications: what happened, told to whoever wants to know (spec section 16).
//!
//! A [`Notifier`] gives each one to its [`Sink`]s, most of which put it into a bounded buffer before a bus; a
//! [`NotificationListener`] takes them from a bus and gives them to endpoints.

mod dispatcher;
pub mod endpoint;
pub mod filter;
mod glob;
mod hall;
pub mod listener;
pub mod log;
pub mod messaging;
pub mod notifier;
mod outbox;
pub mod redact;
mod repair;
pub mod routing;
pub mod sink;

pub use self::endpoint::{
    BatchNotificationEndpoint, IntoNotificationOutcome, NotificationEndpoint, NotificationOutcome,
    NotificationResult,
};
pub use self::filter::NotificationFilter;
pub use self::listener::{
    ListenerStats, NotificationListener, NotificationListenerBuilder, StoppedListener,
};
pub use self::log::LogSink;
pub use self::messaging::MessagingSink;
pub use self::notifier::{Notifier, NotifierBuilder};
pub use self::outbox::{BufferOptions, NotifierStats, WhenFull};
pub use self::redact::ContextPolicy;
pub use self::repair::{DeadLetter, RetryPolicy};
pub use self::routing::{RoutingSink, RoutingSinkBuilder};
pub use self::sink::{NoopSink, Posting, Recorded, Sink, TestSink};
