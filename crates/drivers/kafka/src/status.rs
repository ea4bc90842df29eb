//! How one connection of the driver to its brokers is doing, as the client library tells: for `Health`, for the events,
//! and for those who wait and need not wait longer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use oslo_messaging_core::error::Error;
use oslo_messaging_core::events::{Event, EventSource};
use tokio::sync::watch;

/// The state of one connection, which is to one or more brokers.
pub(crate) struct Status {
    purpose: &'static str,
    events: EventSource,
    state: Mutex<State>,
    /// Why the brokers do not let us in, with a number that grows with each refusal.
    refusal: watch::Sender<(u64, Option<Refusal>)>,
}

#[derive(Debug, Clone, Default)]
struct State {
    up: bool,
    host: Option<String>,
    fault: Option<String>,
}

/// The brokers do not let us in: what is told to those who wait.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The library's words.
    pub(crate) reason: String,
    /// It was TLS, not the login.
    pub(crate) is_tls: bool,
}

impl Status {
    /// A connection for this purpose, which is not up.
    pub(crate) fn new(purpose: &'static str, events: EventSource) -> Self {
        Self {
            purpose,
            events,
            state: Mutex::default(),
            refusal: watch::Sender::new((0, None)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A broker answered; `host` if it is known which. Says whether that is news.
    pub(crate) fn mark_up(&self, host: Option<&str>) -> bool {
        let was_up = {
            let mut state = self.lock();
            if let Some(host) = host {
                state.host = Some(host.to_owned());
            }
            if state.up {
                return false;
            }
            state.fault = None;
            std::mem::replace(&mut state.up, true)
        };
        self.refusal
            .send_if_modified(|(_, refusal)| refusal.take().is_some());
        let host = host.unwrap_or_default().to_owned();
        self.events.tell(Event::Connected {
            purpose: self.purpose,
            host,
        });
        !was_up
    }

    /// No broker is left. Says whether that is news.
    pub(crate) fn mark_down(&self, reason: &str) -> bool {
        let (was_up, host) = {
            let mut state = self.lock();
            let was_up = std::mem::replace(&mut state.up, false);
            if was_up || state.fault.is_none() {
                state.fault = Some(reason.to_owned());
            }
            (was_up, state.host.clone().unwrap_or_default())
        };
        if was_up {
            self.events.tell(Event::Disconnected {
                purpose: self.purpose,
                host,
                reason: reason.to_owned(),
            });
        }
        was_up
    }

    /// Something went wrong with one broker.
    pub(crate) fn note(&self, fault: &str) {
        self.lock().fault = Some(fault.to_owned());
    }

    /// The brokers do not let us in.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.note(&refusal.reason);
        self.refusal.send_modify(|(count, current)| {
            *count += 1;
            *current = Some(refusal);
        });
    }

    /// Watches refusals: how many there were, and the one in force.
    pub(crate) fn refusals(&self) -> watch::Receiver<(u64, Option<Refusal>)> {
        self.refusal.subscribe()
    }

    /// The refusal in force.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow().1.clone()
    }

    /// Whether a broker is connected, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.lock().up
    }

    /// A broker that was connected.
    pub(crate) fn host(&self) -> Option<String> {
        self.lock().host.clone()
    }

    /// The last fault since the connection was last up.
    pub(crate) fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// Adds the last fault to an error.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match self.fault() {
            Some(fault) => error.with("last error", fault),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ups_and_downs_are_told_once_each() {
        let source = EventSource::new();
        let mut events = source.subscribe();
        let status = Status::new("publish", source);
        assert!(!status.mark_down("never was up"));
        assert_eq!(status.fault().as_deref(), Some("never was up"));
        assert!(status.mark_up(Some("b:1")));
        assert!(!status.mark_up(Some("b:1")));
        assert_eq!(status.fault(), None);
        assert!(status.mark_down("gone"));
        let up = Event::Connected {
            purpose: "publish",
            host: "b:1".to_owned(),
        };
        assert_eq!(events.next().await, Some(up));
        let down = Event::Disconnected {
            purpose: "publish",
            host: "b:1".to_owned(),
            reason: "gone".to_owned(),
        };
        assert_eq!(events.next().await, Some(down));
    }

    #[tokio::test]
    async fn a_refusal_is_in_force_until_a_broker_answers() {
        let status = Status::new("publish", EventSource::new());
        let refusals = status.refusals();
        let refusal = Refusal {
            reason: "bad password".to_owned(),
            is_tls: false,
        };
        status.refuse(refusal);
        assert!(refusals.has_changed().unwrap());
        assert_eq!(status.refusal().unwrap().reason, "bad password");
        status.mark_up(None);
        assert!(status.refusal().is_none());
    }
}
