//! The reference driver: a complete broker inside the process.
//!
//! A [`MemoryBroker`] is an explicit value: transports that share one meet, transports that do not
//! never see each other. It refuses to be more than a broker: nothing here reads a message.
//!
//! Data passes through in place. [`Driver::send`](crate::driver::Driver::send) finds the queue in
//! file `exchange.rs`, which answers with deliveries to hand out; [`driver`] hands them to their inboxes on
//! the sender's own thread, without holding a lock. There are no tasks, no timers and no polling.
//!
//! ```
//! use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
//!
//! let broker = MemoryBroker::new();
//! let server_side = MemoryDriver::new(broker.clone());
//! let client_side = MemoryDriver::new(broker);
//! # let _ = (server_side, client_side);
//! ```
//!
//! What it promises, next to the broker it stands in for:
//!
//! | | |
//! |---|---|
//! | topic queue | shared by the servers of a topic, in turn, passing over those without credit; outlives them |
//! | server queue | the same for one server's name |
//! | fanout queue | one for each subscription, not scoped by an exchange; goes with its subscription |
//! | reply queue | one for each subscription; goes with it |
//! | pool queue | shared by the listeners of a pool; has a copy of every notification of their topics, beginning with those that wait when it is made; outlives them unless it is temporary |
//! | message without a queue | dropped; `Undeliverable` if mandatory |
//! | queue without a consumer | keeps up to [`QUEUE_LIMIT`] messages, then `DeliveryFailure` |
//! | notification without a consumer | its topic's queue is made and keeps the newest [`QUEUE_LIMIT`] |
//! | expiry | a message not handed out in time is dropped |
//! | credit | a consumer holds at most its prefetch unsettled, the rest stays in the queue |
//! | requeue | back to the front, marked as redelivered; likewise all that a closed consumer had not settled |
//! | order | one sender's messages arrive in the order sent |

pub mod driver;
mod exchange;
pub(crate) mod hash;
mod queue;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

pub use self::driver::MemoryDriver;
use self::exchange::Exchange;
pub use self::queue::QUEUE_LIMIT;
use crate::lock::lock;
use crate::transport::{Transport, TransportOptions};

/// A broker in memory; clones are the same broker.
///
/// It lives as long as a clone, a driver or a subscription of it. Two brokers share nothing.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging_core::error::Result<()> {
/// use bytes::Bytes;
/// use oslo_messaging_core::driver::{Destination, Driver, Outgoing};
/// use oslo_messaging_core::memory::{MemoryBroker, MemoryDriver};
///
/// let broker = MemoryBroker::new();
/// let topic = Destination::Topic { exchange: None, topic: "conductor" };
/// // Nobody has ever listened there: the message is dropped, as a broker does.
/// MemoryDriver::new(broker.clone()).send(Outgoing::new(topic, Bytes::from_static(b"{}"))).await?;
/// assert_eq!(broker.waiting("openstack", "conductor"), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

/// What the clones of a broker have in common.
#[derive(Default)]
pub(crate) struct Shared {
    exchange: Mutex<Exchange>,
}

impl Shared {
    /// The state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Exchange> {
        lock(&self.exchange)
    }
}

impl MemoryBroker {
    /// A broker of one's own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The broker that everybody in this process gets under this name.
    ///
    /// It is what `memory://NAME` stands for, so that a server and a client that only share a URL meet
    /// (parity F1). It goes when its last user is gone, and the next one to ask gets an empty one.
    ///
    /// ```
    /// use oslo_messaging_core::memory::MemoryBroker;
    ///
    /// let one = MemoryBroker::named("cell-1");
    /// assert!(one.is_same(&MemoryBroker::named("cell-1")));
    /// assert!(!one.is_same(&MemoryBroker::named("cell-2")));
    /// ```
    pub fn named(name: &str) -> Self {
        static NAMED: OnceLock<Mutex<HashMap<String, Weak<Shared>>>> = OnceLock::new();
        let named = NAMED.get_or_init(Mutex::default);
        let mut named = lock(named);
        if let Some(shared) = named.get(name).and_then(Weak::upgrade) {
            return Self { shared };
        }
        named.retain(|_, broker| broker.strong_count() > 0);
        let broker = Self::new();
        named.insert(name.to_owned(), Arc::downgrade(&broker.shared));
        broker
    }

    /// A transport on this broker with default options, through a driver of its own.
    ///
    /// ```
    /// use oslo_messaging_core::memory::MemoryBroker;
    ///
    /// let broker = MemoryBroker::new();
    /// let (server_side, client_side) = (broker.transport(), broker.transport());
    /// assert!(client_side.capabilities().notifications);
    /// ```
    pub fn transport(&self) -> Transport {
        let driver = MemoryDriver::new(self.clone());
        Transport::new(Arc::new(driver), TransportOptions::default())
    }

    /// Whether both are the same broker.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// How many messages wait in the queue that the servers of this topic share; zero if there is none.
    pub fn waiting(&self, exchange: &str, topic: &str) -> usize {
        self.shared.lock().waiting(exchange, topic)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = self.shared.lock();
        f.debug_struct("MemoryBroker")
            .field("queues", &exchange.queue_count())
            .finish()
    }
}

#[cfg(test)]
mod tests;
