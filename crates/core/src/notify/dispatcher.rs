//! From notifications to endpoints: who is called with what, and what that comes to (parity NL4 to NL8).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::notification::Notification;
use tracing::error;

use crate::driver::BoxFuture;
use crate::error::{Error, ErrorKind, Result};
use crate::notify::endpoint::{
    BatchNotificationEndpoint, NotificationEndpoint, NotificationOutcome,
};
use crate::notify::filter::NotificationFilter;
use crate::serializer::Serializer;

/// Handlers of one kind or the other.
#[derive(Clone)]
pub(crate) enum Handler {
    One(Arc<dyn NotificationEndpoint>),
    Batch(Arc<dyn BatchNotificationEndpoint>),
}

struct Entry {
    handler: Handler,
    priorities: Vec<Priority>,
    filter: Option<NotificationFilter>,
}

/// The endpoints of a listener.
pub(crate) struct Dispatcher {
    entries: Vec<Entry>,
    serializer: Option<Arc<dyn Serializer>>,
}

impl Dispatcher {
    /// Asks the endpoints what they want.
    ///
    /// # Errors
    /// `Config` without endpoints, with one that has no handler, or with a filter that cannot be read.
    pub(crate) fn new(
        handlers: Vec<Handler>,
        serializer: Option<Arc<dyn Serializer>>,
    ) -> Result<Self> {
        let mut entries = Vec::with_capacity(handlers.len());
        for handler in handlers {
            let (priorities, filter) = match &handler {
                Handler::One(endpoint) => (endpoint.priorities(), endpoint.filter()?),
                Handler::Batch(endpoint) => (endpoint.priorities(), endpoint.filter()?),
            };
            if priorities.is_empty() {
                let text = "an endpoint of a notification listener handles no priority";
                return Err(Error::new(ErrorKind::Config, text));
            }
            entries.push(Entry {
                handler,
                priorities,
                filter,
            });
        }
        if entries.is_empty() {
            let text = "a notification listener needs at least one endpoint";
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(Self {
            entries,
            serializer,
        })
    }

    /// Priorities for which any endpoint has a handler (parity NL3).
    pub(crate) fn priorities(&self) -> BTreeSet<Priority> {
        let all = self.entries.iter().flat_map(|entry| &entry.priorities);
        all.copied().collect()
    }

    /// The notification as endpoints see it.
    ///
    /// # Errors
    /// What the serializer says.
    pub(crate) fn read(&self, note: Notification) -> Result<Notification> {
        let Some(serializer) = &self.serializer else {
            return Ok(note);
        };
        let context = serializer.deserialize_context(note.context().clone())?;
        let payload = if serializer.wants_entities() {
            let entity = note.payload().to_value()?;
            RawJson::from_value(&serializer.deserialize_entity(&context, entity)?)?
        } else {
            note.payload().clone()
        };
        Ok(note.with_context(context).with_raw_payload(payload))
    }

    /// Gives notifications of one priority to all endpoints that want them, until one asks for another try.
    pub(crate) async fn dispatch(
        &self,
        priority: Priority,
        notes: &[Notification],
    ) -> Vec<NotificationOutcome> {
        let mut outcomes = vec![NotificationOutcome::Handled; notes.len()];
        let entries = self.entries.iter();
        for entry in entries.filter(|entry| entry.priorities.contains(&priority)) {
            match &entry.handler {
                Handler::One(endpoint) => {
                    for (note, outcome) in notes.iter().zip(&mut outcomes) {
                        if *outcome == NotificationOutcome::Handled && entry.wants(note) {
                            *outcome = guarded(endpoint.handle(priority, note)).await;
                        }
                    }
                }
                Handler::Batch(endpoint) => {
                    let wanted = entry.wanted(notes);
                    if wanted.is_empty() {
                        continue;
                    }
                    let outcome = guarded(endpoint.handle(priority, &wanted)).await;
                    if outcome != NotificationOutcome::Handled {
                        // Wire: it holds for the whole group, and ends it (parity NL8).
                        outcomes.fill(outcome);
                        break;
                    }
                }
            }
        }
        outcomes
    }
}

impl Entry {
    fn wants(&self, note: &Notification) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.matches(note))
    }

    fn wanted<'a>(&self, notes: &'a [Notification]) -> Cow<'a, [Notification]> {
        if self.filter.is_none() {
            return Cow::Borrowed(notes);
        }
        let wanted = notes.iter().filter(|note| self.wants(note));
        Cow::Owned(wanted.cloned().collect())
    }
}

/// What a handler answers; a panic is a failure.
async fn guarded(handled: BoxFuture<'_, NotificationOutcome>) -> NotificationOutcome {
    match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic without words".to_owned());
            error!(panic = text, "a notification handler panicked");
            // What the payload of a panic does when it goes must not end the listener.
            std::mem::forget(panic);
            NotificationOutcome::Failed(format!("the handler panicked: {text}"))
        }
    }
}
