//! A driver around a driver that notes which deliveries the broker flagged as redelivered: methods do not see the flag.

use std::sync::Arc;

use oslo_messaging::driver::{
    BoxFuture, Capabilities, Delivery, Driver, Health, Inbox, Listener, ListenerEvent, Outgoing,
    Subscription,
};
use oslo_messaging::{Events, Result};

use crate::journal::{Journal, now};

/// Passes everything on.
pub(super) struct Watched {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) journal: Arc<Journal>,
}

impl Driver for Watched {
    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn send<'a>(&'a self, message: Outgoing<'a>) -> BoxFuture<'a, Result<()>> {
        self.driver.send(message)
    }

    fn listen(
        &self,
        what: Subscription,
        inbox: Arc<dyn Inbox>,
    ) -> BoxFuture<'_, Result<Box<dyn Listener>>> {
        let journal = Arc::clone(&self.journal);
        self.driver.listen(what, Arc::new(Watch { inbox, journal }))
    }

    fn health(&self) -> Health {
        self.driver.health()
    }

    fn events(&self) -> Events {
        self.driver.events()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.driver.close()
    }
}

struct Watch {
    inbox: Arc<dyn Inbox>,
    journal: Arc<Journal>,
}

impl Inbox for Watch {
    fn deliver(&self, delivery: Delivery) {
        if delivery.is_redelivered()
            && let Some(id) = id_in(delivery.body())
        {
            self.journal.line(&format!("again {id} {}", now()));
        }
        self.inbox.deliver(delivery);
    }

    fn handle_event(&self, event: ListenerEvent) {
        self.inbox.handle_event(event);
    }
}

/// The argument `id` of a request, found in the escaped text of its envelope.
fn id_in(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(r#"\"id\": "#)?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .map(|end| &rest[..end])?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_in_an_envelope() {
        let body = br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"work\", \"args\": {\"id\": 42}, \"_msg_id\": \"1\"}"}"#;
        assert_eq!(id_in(body), Some(42));
        assert_eq!(id_in(br#"{\"args\": {\"number\": 42}}"#), None);
        assert_eq!(id_in(b"\xff"), None);
    }
}
