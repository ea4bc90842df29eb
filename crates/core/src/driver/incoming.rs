//! A message that arrived, until it is settled, and the news of the subscription it came by.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging_proto::wire::body::Body;

use crate::error::Error;

/// Where the driver puts what arrives.
///
/// Both methods are called from the driver's reading task, in place: they must not block. They may
/// settle deliveries and start sends.
///
/// ```
/// use std::sync::Mutex;
/// use oslo_messaging_core::driver::{Delivery, Inbox, ListenerEvent};
///
/// /// Keeps what arrives.
/// #[derive(Default)]
/// struct Tray(Mutex<Vec<bytes::Bytes>>);
///
/// impl Inbox for Tray {
///     fn deliver(&self, delivery: Delivery) {
///         self.0.lock().unwrap().push(delivery.body().clone());
///         delivery.ack();
///     }
///
///     fn handle_event(&self, event: ListenerEvent) {
///         if let ListenerEvent::Failed(error) = event {
///             eprintln!("no more deliveries: {error}");
///         }
///     }
/// }
/// # let tray = Tray::default();
/// # tray.handle_event(ListenerEvent::Interrupted);
/// ```
pub trait Inbox: Send + Sync + 'static {
    /// Takes one delivery.
    fn deliver(&self, delivery: Delivery);

    /// Takes news of the subscription.
    fn handle_event(&self, event: ListenerEvent);
}

/// News of a subscription.
///
/// ```
/// use oslo_messaging_core::driver::ListenerEvent;
///
/// fn may_have_lost_messages(event: &ListenerEvent) -> bool {
///     matches!(event, ListenerEvent::Restored { recreated: true } | ListenerEvent::Emptied)
/// }
/// assert!(!may_have_lost_messages(&ListenerEvent::Restored { recreated: false }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// Deliveries have stopped: the connection or the consumer was lost. The driver is repairing it.
    Interrupted,
    /// The old queue cannot be had any more, and another one takes its place: from now on this is the
    /// subscription's address. What was sent to the old one does not arrive. Comes before the `Restored` that follows.
    Renamed {
        /// What [`Listener::address`](crate::driver::Listener::address) would say of a new subscription.
        address: String,
    },
    /// Of all queues only the subscription's own was lost, with what stood in it, and is there again under its name.
    /// Comes before the `Restored` that follows.
    Emptied,
    /// What was to be delivered lately may come late or not at all: it went to a connection that was dead without anybody
    /// knowing, and comes again only when the bus has given that up, or it was not [persistent](crate::driver::Outgoing::persistent), and
    /// nothing tells whether the bus was restarted meanwhile. What was persistent is where it was. Comes before the
    /// `Restored` that follows.
    Astray,
    /// Deliveries flow again.
    Restored {
        /// Messages that the bus had taken may be lost: those in the subscription's own queue, or, for
        /// [`Subscription::Replies`](crate::driver::Subscription::Replies), requests in the queues of servers.
        recreated: bool,
    },
    /// The driver gave up; there will be no more deliveries.
    Failed(Error),
}

/// A message that arrived, to be settled exactly once.
///
/// Dropped without a word, it goes back to the bus for another consumer.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use bytes::Bytes;
/// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
///
/// /// Notes what became of each delivery.
/// #[derive(Default)]
/// struct Ledger(Mutex<Vec<(u64, Settlement)>>);
///
/// impl Settler for Ledger {
///     fn settle(&self, tag: u64, how: Settlement) {
///         self.0.lock().unwrap().push((tag, how));
///     }
/// }
///
/// let ledger = Arc::new(Ledger::default());
/// let delivery = |tag| Delivery::new(Bytes::from_static(b"{}"), tag, ledger.clone());
/// let first = delivery(1).redelivered(true).expires(Some(Duration::from_secs(60)));
/// assert_eq!(first.body(), "{}");
/// assert!(first.is_redelivered());
/// assert_eq!(first.expiry(), Some(Duration::from_secs(60)));
/// first.ack();
/// delivery(2).reject();
/// delivery(3).requeue();
/// drop(delivery(4));
/// let settled = ledger.0.lock().unwrap().clone();
/// let requeue = Settlement::Requeue;
/// assert_eq!(settled, [(1, Settlement::Ack), (2, Settlement::Reject), (3, requeue), (4, requeue)]);
/// ```
pub struct Delivery {
    body: Body,
    redelivered: bool,
    expires: Option<Duration>,
    tag: u64,
    settler: Option<Arc<dyn Settler>>,
}

impl Delivery {
    /// A delivery with this body, settled through `settler` under `tag`.
    pub fn new(body: Bytes, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self::of(body.into(), tag, settler)
    }

    /// The same of a message that need not be bytes.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
    /// use oslo_messaging_proto::Body;
    ///
    /// struct Nobody;
    /// impl Settler for Nobody {
    ///     fn settle(&self, _tag: u64, _how: Settlement) {}
    /// }
    ///
    /// let delivery = Delivery::of(Body::from("{}"), 1, Arc::new(Nobody));
    /// assert_eq!(delivery.body(), "{}");
    /// ```
    pub fn of(body: Body, tag: u64, settler: Arc<dyn Settler>) -> Self {
        Self {
            body,
            redelivered: false,
            expires: None,
            tag,
            settler: Some(settler),
        }
    }

    /// Marks it as delivered before.
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Notes the expiry the sender gave it.
    #[must_use]
    pub fn expires(mut self, expires: Option<Duration>) -> Self {
        self.expires = expires;
        self
    }

    /// Puts another message in its place, which is settled as the one that came: for a driver whose bus carries another form.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use oslo_messaging_core::driver::{Delivery, Settlement, Settler};
    ///
    /// struct Nobody;
    /// impl Settler for Nobody {
    ///     fn settle(&self, _tag: u64, _how: Settlement) {}
    /// }
    ///
    /// let delivery = Delivery::new("plain".into(), 1, Arc::new(Nobody)).with_body("ours".into());
    /// assert_eq!(delivery.body(), "ours");
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.body = body.into();
        self
    }

    /// The encoded message; one that came open is written for it.
    pub fn body(&self) -> &Bytes {
        self.body.bytes()
    }

    /// The message in the form in which it came.
    ///
    /// ```
    /// use oslo_messaging_core::driver::Delivery;
    ///
    /// fn method(delivery: &Delivery) -> Option<String> {
    ///     let request = delivery.message().request().ok()?;
    ///     request.method().ok().map(str::to_owned)
    /// }
    /// ```
    pub fn message(&self) -> &Body {
        &self.body
    }

    /// Whether the bus says that it handed it out before.
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// How long after its sending nobody waits for it any more, if the sender said so.
    pub fn expiry(&self) -> Option<Duration> {
        self.expires
    }

    /// Done with: the bus forgets it.
    pub fn ack(mut self) {
        self.settle(Settlement::Ack);
    }

    /// Cannot be read: the bus drops it.
    pub fn reject(mut self) {
        self.settle(Settlement::Reject);
    }

    /// Not now, or not here: the bus hands it out again.
    pub fn requeue(mut self) {
        self.settle(Settlement::Requeue);
    }

    fn settle(&mut self, how: Settlement) {
        if let Some(settler) = self.settler.take() {
            settler.settle(self.tag, how);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.settle(Settlement::Requeue);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag)
            .field("bytes", &self.body.size())
            .field("redelivered", &self.redelivered)
            .field("expires", &self.expires)
            .finish()
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The bus forgets it.
    Ack,
    /// The bus drops it (or dead-letters it, if a policy says so).
    Reject,
    /// The bus hands it out again.
    Requeue,
}

/// The driver's side of a [`Delivery`].
pub trait Settler: Send + Sync + 'static {
    /// Settles the delivery of this tag. Cheap, never blocks; the driver may gather settlements into
    /// one write. A tag of a connection that is gone is ignored: the bus has taken it back already.
    fn settle(&self, tag: u64, how: Settlement);
}
