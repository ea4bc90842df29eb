//! Notifications: how they are wrapped, and a subscription to them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use oslo_messaging::driver::{
    Delivery, Driver, Inbox, Listener, ListenerEvent, Notifications, Subscription,
};
use oslo_messaging::proto::wire::envelope::seal;
use oslo_messaging::proto::{Duplicates, Request};
use oslo_messaging::{RawJson, Result};
use tokio::time::timeout;

use crate::incoming::{Item, Note};
use crate::intake::Intake;
use crate::logs;

/// How many acknowledged notifications are remembered, to tell those that come again after a lost connection.
const REMEMBERED: usize = 4096;

/// The body of a notification: `message` in an envelope (format 2.0) or as it is (1.0).
///
/// # Errors
/// That `message` is no object.
pub(crate) fn body(message: &RawJson, envelope: bool) -> Result<Bytes> {
    if envelope {
        Ok(seal(message)?)
    } else {
        Ok(Bytes::copy_from_slice(message.as_str().as_bytes()))
    }
}

/// A subscription to notifications.
pub(crate) struct Notes {
    listener: tokio::sync::Mutex<Option<Box<dyn Listener>>>,
}

impl Notes {
    /// Subscribes; what comes goes to `intake`.
    ///
    /// # Errors
    /// What the bus says.
    pub(crate) async fn start(
        driver: &dyn Driver,
        what: Notifications,
        intake: &Arc<Intake>,
    ) -> Result<Self> {
        let inbox = Arc::new(Reader {
            intake: Arc::clone(intake),
            seen: Arc::new(Mutex::new(Duplicates::new(REMEMBERED))),
        });
        let listener = driver.listen(Subscription::Notifications(what), inbox);
        Ok(Self {
            listener: tokio::sync::Mutex::new(Some(listener.await?)),
        })
    }

    /// Takes nothing new any more.
    pub(crate) async fn pause(&self) {
        if let Some(listener) = &*self.listener.lock().await {
            listener.pause().await;
        }
    }

    /// Ends the subscription within `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        if let Some(listener) = self.listener.lock().await.take()
            && timeout(limit, listener.close()).await.is_err()
        {
            logs::warn("the bus did not end a subscription in time");
        }
    }
}

/// Reads what comes.
struct Reader {
    intake: Arc<Intake>,
    seen: Arc<Mutex<Duplicates>>,
}

impl Inbox for Reader {
    fn deliver(&self, delivery: Delivery) {
        // Any message is read alike; only ids and context mean the same in all of them.
        let read = match Request::decode(delivery.body()) {
            Ok(read) => read,
            Err(fault) => {
                logs::warn(&format!(
                    "rejected a message that is no notification: {fault}"
                ));
                delivery.reject();
                return;
            }
        };
        let unique_id = read.unique_id().map(str::to_owned);
        let known = unique_id.as_ref().is_some_and(|id| {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.contains(id)
        });
        if known {
            delivery.ack();
            return;
        }
        self.intake.put(Item::Note(Note {
            delivery,
            message: read.message(),
            unique_id,
            seen: Arc::clone(&self.seen),
        }));
    }

    fn handle_event(&self, event: ListenerEvent) {
        match event {
            ListenerEvent::Interrupted => self.intake.put_aside(),
            ListenerEvent::Restored { recreated: true } => self.intake.take_up(),
            ListenerEvent::Restored { recreated: false } => self.intake.drop_stale(),
            ListenerEvent::Failed(error) => {
                logs::warn(&format!("there will be no more notifications: {error}"));
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}
