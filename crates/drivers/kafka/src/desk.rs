//! What a listener's task shares with those who settle its deliveries and with the client library's callbacks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oslo_messaging_core::driver::{Settlement, Settler};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::connection::Reporter;
use crate::ledger::{Ledger, Partition, Place};
use crate::status::Status;

/// Who tells the broker what was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    /// The listener, at once.
    AtOnce,
    /// The client library, every five seconds and at the end (`enable_auto_commit`).
    Stored,
    /// Nobody: the listener has a pool of its own that ends with it.
    Never,
}

/// The shared state of one listener.
pub(crate) struct Desk {
    commits: Commits,
    ledger: Mutex<Ledger>,
    /// Something was settled, given or taken away.
    pub(crate) wake: Notify,
    /// Partitions that were given and have no place yet.
    given: Mutex<Option<Vec<Partition>>>,
    /// The listener ends; nothing new is begun.
    closing: AtomicBool,
    /// The connection.
    pub(crate) status: Arc<Status>,
}

impl Desk {
    /// An empty desk of a listener that may have `limit` messages in hand.
    pub(crate) fn new(limit: usize, commits: Commits, status: Arc<Status>) -> Self {
        Self {
            commits,
            ledger: Mutex::new(Ledger::new(limit)),
            wake: Notify::new(),
            given: Mutex::default(),
            closing: AtomicBool::new(false),
            status,
        }
    }

    /// The ledger, for moments.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Whole between any two of its operations.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes partitions that need places.
    pub(crate) fn give(&self, partitions: Vec<Partition>) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(partitions);
        self.wake.notify_one();
    }

    /// The partitions that were given since this was asked last.
    pub(crate) fn take_given(&self) -> Option<Vec<Partition>> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.take()
    }

    /// From now on nothing new is begun.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Places that the listener has to tell the broker now; what the library is to tell by itself is stored with it.
    pub(crate) fn begin_commit<X: ConsumerContext>(
        &self,
        consumer: &impl Consumer<X>,
    ) -> Vec<Place> {
        match self.commits {
            Commits::AtOnce => self.ledger().take_commits(),
            Commits::Stored => {
                self.store(consumer);
                Vec::new()
            }
            Commits::Never => Vec::new(),
        }
    }

    /// Tells the broker what was handled, for the last time, as the partitions are about to go. Without `wait` the
    /// answer is not heard of: whoever has the partitions next asks for their places.
    pub(crate) fn commit_last<X: ConsumerContext>(&self, consumer: &impl Consumer<X>, wait: bool) {
        let places = self.begin_commit(consumer);
        if places.is_empty() {
            return;
        }
        let mode = if wait {
            CommitMode::Sync
        } else {
            CommitMode::Async
        };
        if let Err(fault) = commit(consumer, &places, mode) {
            self.commit_failed(&fault);
        }
    }

    fn store<X: ConsumerContext>(&self, consumer: &impl Consumer<X>) {
        let places = self.ledger().take_commits();
        if places.is_empty() {
            return;
        }
        match list(&places).and_then(|list| consumer.store_offsets(&list)) {
            Ok(()) => self.ledger().committed(&places),
            Err(fault) => self.commit_failed(&fault),
        }
    }

    /// The broker does not know what it was told; it is told again.
    pub(crate) fn commit_failed(&self, fault: &KafkaError) {
        // A rebalance makes this happen.
        debug!(error = %fault, "a commit failed");
        self.ledger().commit_failed();
    }
}

/// Tells the broker these places.
pub(crate) fn commit<X: ConsumerContext>(
    consumer: &impl Consumer<X>,
    places: &[Place],
    mode: CommitMode,
) -> KafkaResult<()> {
    // The library's answer to nothing new.
    let nothing = KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset);
    match consumer.commit(&list(places)?, mode) {
        Err(fault) if fault != nothing => Err(fault),
        _ => Ok(()),
    }
}

impl Settler for Desk {
    fn settle(&self, tag: u64, how: Settlement) {
        self.ledger().settle(tag, how);
        self.wake.notify_one();
    }
}

/// The client library's view of a desk.
pub(crate) struct DeskContext {
    /// The desk.
    pub(crate) desk: Arc<Desk>,
    /// What happens to the connection.
    pub(crate) reporter: Reporter,
}

impl ClientContext for DeskContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reporter.log(level, facility, text);
    }

    fn stats(&self, statistics: Statistics) {
        self.reporter.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(error, reason);
    }
}

impl ConsumerContext for DeskContext {
    /// Partitions that are given are placed by the listener's task, since that takes questions to the brokers; until it
    /// did so the library waits. Those that are taken away are let go at once, after a commit of what was handled.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        change: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let given = change == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let desk = &self.desk;
        if given && !desk.closing.load(Ordering::Acquire) {
            debug!(?partitions, "partitions were given");
            desk.status.mark_up(None);
            desk.give(names(partitions));
            return;
        }
        if !given {
            let lost = consumer.assignment_lost();
            debug!(?partitions, lost, "partitions were taken away");
            if !lost {
                // Sent before the library gives them up, so it counts.
                desk.commit_last(consumer, false);
            }
            desk.ledger().revoke(lost);
            desk.wake.notify_one();
        }
        if let Err(fault) = consumer.unassign() {
            warn!(error = %fault, "partitions could not be let go");
        }
    }
}

/// Partitions as the library names them.
fn names(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements()
        .iter()
        .map(|one| (Arc::from(one.topic()), one.partition()))
        .collect()
}

/// Places as the library takes them.
pub(crate) fn list(places: &[Place]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        let (topic, number) = &place.partition;
        list.add_partition_offset(topic, *number, Offset::Offset(place.offset))?;
    }
    Ok(list)
}
