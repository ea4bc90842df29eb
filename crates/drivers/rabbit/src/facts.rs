//! What is known of the broker beyond the connection in force: its version, whether it takes transient queues,
//! whether it lost some, and what was said about it in the log already.
//!
//! Shared by all subscriptions and the publisher of a driver. Learns from answers; asks nothing itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use oslo_messaging_amqp::Error as AmqpError;

use crate::config::RabbitConfig;
use crate::connection::Session;
use crate::error::is_internal;
use crate::lock::lock;
use crate::topology::Layout;

/// Internal errors in answer to transient queues that count as a refusal; one alone may be an accident.
const REFUSALS: u32 = 2;
/// How RabbitMQ names the refused feature, whatever the words around it.
const FEATURE: &str = "transient_nonexcl_queues";
/// Entities remembered as spoken of; beyond it the memory starts anew.
const MOST_TOLD: usize = 10_000;

/// Facts about the brokers of one driver, which are taken to be alike.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    transient_refused: AtomicBool,
    refusals: AtomicU32,
    version: Mutex<Option<Arc<str>>>,
    told: Mutex<HashSet<String>>,
}

impl Facts {
    /// What the options mean on this broker.
    pub(crate) fn layout<'a>(&self, config: &'a RabbitConfig) -> Layout<'a> {
        Layout {
            config,
            transient_refused: self.transient_refused(),
        }
    }

    /// Whether the broker refuses transient queues that are not exclusive.
    pub(crate) fn transient_refused(&self) -> bool {
        self.transient_refused.load(Ordering::Relaxed)
    }

    /// Reads the version the broker told when the connection was made.
    pub(crate) fn meet(&self, session: &Session) {
        let server = session.connection.server_properties();
        let name = match (server.product(), server.version()) {
            ("", "") => return,
            (product, version) => format!("{product} {version}"),
        };
        let mut known = lock(&self.version);
        if known.as_deref() != Some(&*name) {
            *known = Some(name.trim().into());
        }
    }

    /// Product and version of the broker, as errors show them.
    pub(crate) fn version(&self) -> Arc<str> {
        let known = lock(&self.version).clone();
        known.unwrap_or_else(|| "of unknown version".into())
    }

    /// Learns from the answer to the declaration of a transient queue. True if it is now clear that the broker
    /// refuses all of them.
    pub(crate) fn learn(&self, error: &AmqpError) -> bool {
        if !is_internal(error) {
            return false;
        }
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed) + 1;
        // The feature's name only saves the second attempt.
        if refusals < REFUSALS && !error.text().contains(FEATURE) {
            return false;
        }
        if !self.transient_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                broker = &*self.version(),
                "the broker refuses transient queues: existing topic queues are used as they are, missing ones declared as \
                 with rabbit_quorum_queue"
            );
        }
        true
    }

    /// The broker took a transient queue.
    pub(crate) fn transient_taken(&self) {
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// Whether this is the first time that `what` is spoken of.
    pub(crate) fn first_time(&self, what: String) -> bool {
        let mut told = lock(&self.told);
        if told.len() >= MOST_TOLD {
            told.clear();
        }
        told.insert(what)
    }
}
