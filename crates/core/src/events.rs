//! News of a driver for whoever wants to watch it: connections and consumers that come and go.
//!
//! Bounded: a subscriber that does not keep up loses the oldest news and is told how many, and nobody waits for it.

use std::fmt;

use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};

/// How many unread events a subscriber can have.
const KEPT: usize = 256;

/// Something happened between a driver and its bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A connection is up.
    Connected {
        /// What it is for, such as `publish`.
        purpose: &'static str,
        /// The broker, as `host:port`.
        host: String,
    },
    /// A connection was lost; the driver is making it again.
    Disconnected {
        /// What it was for.
        purpose: &'static str,
        /// The broker, as `host:port`.
        host: String,
        /// Why, in words without secrets.
        reason: String,
    },
    /// The broker asks publishers to wait; sends do so, until their deadlines.
    Blocked {
        /// The broker's reason.
        reason: String,
    },
    /// The broker takes messages again.
    Unblocked,
    /// A subscription gets nothing at present; the driver is repairing it.
    ConsumerLost {
        /// Its first queue.
        queue: String,
        /// Why, in words without secrets.
        reason: String,
    },
    /// A subscription that was lost is in force again.
    ConsumerRestored {
        /// Its first queue.
        queue: String,
        /// Whether messages the bus had taken may be lost.
        recreated: bool,
    },
    /// The reply queue cannot be had any more; another one takes its place.
    ReplyQueueReplaced {
        /// The name it had.
        old: String,
        /// The name of its successor.
        new: String,
    },
    /// This subscriber did not keep up: so many events were dropped.
    Missed(u64),
}

/// Where a driver tells its news. Clones tell the same subscribers.
#[derive(Clone)]
pub struct EventSource(Sender<Event>);

impl EventSource {
    /// A source without subscribers.
    pub fn new() -> Self {
        Self(Sender::new(KEPT))
    }

    /// Tells all subscribers. Never waits.
    pub fn tell(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.0.send(event);
    }

    /// A subscription to what is told from now on.
    pub fn subscribe(&self) -> Events {
        Events(Some(self.0.subscribe()))
    }
}

impl Default for EventSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource")
            .field("subscribers", &self.0.receiver_count())
            .finish()
    }
}

/// A subscription to the news of a driver.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use oslo_messaging_core::events::{Event, Events, EventSource};
///
/// let source = EventSource::new();
/// let mut events = source.subscribe();
/// source.tell(Event::Unblocked);
/// assert_eq!(events.next().await, Some(Event::Unblocked));
/// drop(source);
/// assert_eq!(events.next().await, None);
/// assert_eq!(Events::none().next().await, None);
/// # }
/// ```
pub struct Events(Option<Receiver<Event>>);

impl Events {
    /// A subscription that never has news.
    pub fn none() -> Self {
        Self(None)
    }

    /// The next event; `None` when the driver is gone.
    ///
    /// # Cancellation
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => Some(Event::Missed(count)),
            Err(RecvError::Closed) => {
                self.0 = None;
                None
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("unread", &self.0.as_ref().map_or(0, Receiver::len))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_does_not_keep_up_is_told_how_much_it_missed() {
        let source = EventSource::new();
        let mut events = source.subscribe();
        for n in 0..KEPT + 3 {
            source.tell(Event::Missed(n as u64));
        }
        assert_eq!(events.next().await, Some(Event::Missed(3)));
        assert_eq!(
            events.next().await,
            Some(Event::Missed(3)),
            "the oldest kept"
        );
    }

    #[tokio::test]
    async fn events_of_a_driver_without_news_end_at_once() {
        assert_eq!(Events::none().next().await, None);
    }
}
