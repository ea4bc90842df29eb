//! What a driver is asked to listen to.

use std::num::NonZeroU16;
use std::time::SystemTime;

/// What a subscription is for.
///
/// ```
/// use oslo_messaging_core::driver::{Prefetch, Subscription};
///
/// let serve = Subscription::Rpc {
///     exchange: None,
///     topic: "conductor".to_owned(),
///     server: "node-1".to_owned(),
///     prefetch: Prefetch::Unlimited,
/// };
/// assert_ne!(serve, Subscription::Replies);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscription {
    /// What an RPC server takes: its topic, itself by name, and the topic's fanouts.
    Rpc {
        /// Exchange; the driver's control exchange if absent.
        exchange: Option<String>,
        /// Topic.
        topic: String,
        /// The server's name.
        server: String,
        /// How many unsettled deliveries the bus may hand out.
        prefetch: Prefetch,
    },
    /// A reply queue of one's own; [`Listener::address`](crate::driver::Listener::address) tells its name.
    Replies,
    /// What a notification listener takes.
    Notifications(Notifications),
}

/// What a notification listener takes, and with whom it shares it.
///
/// ```
/// use oslo_messaging_core::driver::{Notifications, Pool};
///
/// let mut what = Notifications::new([(None, "notifications.info".to_owned())]);
/// what.pool = Some(Pool::shared("audit"));
/// assert_eq!(what.sources.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notifications {
    /// Exchange (the driver's control exchange if absent) and topic with priority, `notifications.info`; each once.
    pub sources: Vec<(Option<String>, String)>,
    /// The pool whose members share one copy of everything; without one, all listeners without a pool do.
    pub pool: Option<Pool>,
    /// How many unsettled deliveries the bus may hand out; for a batch at least its size.
    pub prefetch: Prefetch,
    /// Begin with what was sent then, on a bus with [`Capabilities::history`](crate::driver::Capabilities::history); others refuse.
    pub since: Option<SystemTime>,
}

impl Notifications {
    /// Everything from these sources, without a pool.
    ///
    /// ```
    /// use oslo_messaging_core::driver::{Notifications, Prefetch};
    ///
    /// let what = Notifications::new([(Some("nova".to_owned()), "notifications.error".to_owned())]);
    /// assert_eq!((what.pool, what.prefetch), (None, Prefetch::Unlimited));
    /// ```
    pub fn new(sources: impl IntoIterator<Item = (Option<String>, String)>) -> Self {
        Self {
            sources: sources.into_iter().collect(),
            pool: None,
            prefetch: Prefetch::Unlimited,
            since: None,
        }
    }
}

/// Listeners that share one copy of the notifications they ask for (parity NL10).
///
/// ```
/// use oslo_messaging_core::driver::Pool;
///
/// assert!(!Pool::shared("audit").temporary);
/// assert!(Pool::temporary("omsg-7").temporary);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Pool {
    /// Its name: the queue's on RabbitMQ, the consumer group's on Kafka.
    pub name: String,
    /// It ends with its listener, with what it has not taken, and has only one.
    pub temporary: bool,
}

impl Pool {
    /// A pool that outlives its listeners.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::driver::Pool::shared("audit").name, "audit");
    /// ```
    pub fn shared(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            temporary: false,
        }
    }

    /// A pool of one listener's own.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::driver::Pool::temporary("look-1").name, "look-1");
    /// ```
    pub fn temporary(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            temporary: true,
        }
    }
}

/// How many unsettled deliveries the bus hands out on each queue of a subscription.
///
/// ```
/// use std::num::NonZeroU16;
/// use oslo_messaging_core::driver::Prefetch;
///
/// let at_most_eight = Prefetch::Limited(NonZeroU16::new(8).unwrap());
/// assert_ne!(at_most_eight, Prefetch::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefetch {
    /// The driver's own option decides, else no limit.
    #[default]
    Unlimited,
    /// This many, unless the driver's own option asks for another number.
    Limited(NonZeroU16),
}
