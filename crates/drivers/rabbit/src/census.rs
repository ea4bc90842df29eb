//! What all subscriptions of a driver share: how many are in force, why others are not, and what is known of the broker.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use oslo_messaging_core::events::EventSource;

use crate::canary::Canary;
use crate::connection::Link;
use crate::delivery::End;
use crate::desk::Desk;
use crate::facts::Facts;
use crate::lock::lock;
use crate::pulse::Pulse;

/// What all subscriptions of a driver share.
pub(crate) struct Census {
    /// Consumers in force.
    pub(crate) consumers: AtomicUsize,
    /// Why subscriptions are not in force that are not, by the name of their first queue.
    faults: Mutex<BTreeMap<String, String>>,
    /// What is known of the broker.
    pub(crate) facts: Arc<Facts>,
    /// Tells whether the broker lost its transient queues.
    pub(crate) canary: Arc<Canary>,
    /// Where subscriptions ask whether they are still in force.
    pub(crate) desk: Desk,
    /// Where news goes.
    pub(crate) events: EventSource,
    /// What is known of the connections.
    pub(crate) pulse: Arc<Pulse>,
    /// The connection that publishes.
    pub(crate) publishing: Arc<Link>,
}

impl Census {
    /// For a driver without subscriptions.
    pub(crate) fn new(
        facts: Arc<Facts>,
        events: EventSource,
        pulse: Arc<Pulse>,
        publishing: Arc<Link>,
    ) -> Self {
        Self {
            consumers: AtomicUsize::new(0),
            faults: Mutex::default(),
            facts,
            canary: Arc::new(Canary::new()),
            desk: Desk::new(),
            events,
            pulse,
            publishing,
        }
    }

    /// One of the faults.
    pub(crate) fn fault(&self) -> Option<String> {
        let faults = lock(&self.faults);
        let (queue, fault) = faults.first_key_value()?;
        Some(format!("subscription to {queue}: {fault}"))
    }

    /// Notes why a subscription is not in force, or that it is.
    pub(crate) fn note(&self, queue: &str, fault: Option<&End>) {
        let mut faults = lock(&self.faults);
        match fault {
            Some(fault) => drop(faults.insert(queue.to_owned(), fault.to_string())),
            None => drop(faults.remove(queue)),
        }
    }
}
