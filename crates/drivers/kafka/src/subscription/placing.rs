//! How a listener comes to its partitions: which topics there are, which of their partitions are its own, and where in each it begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_core::error::{Error, ErrorKind, Result};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Answer, Work};
use crate::desk::list;
use crate::error::listen_error;
use crate::ledger::{Partition, Place};
use crate::places::{self, Beginning, Found, Topics};

/// How long missing topics are waited for that the broker may be creating.
const CREATION_LIMIT: Duration = Duration::from_secs(5);
/// How often a listener outside of groups looks for new topics and partitions; for those in groups the library does.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

impl Work {
    /// Asks which topics there are.
    pub(super) fn look(&mut self) {
        let (consumer, topics) = (Arc::clone(&self.consumer), self.task.plan.topics.clone());
        self.next_look = Instant::now() + LOOK_INTERVAL;
        self.question = Some(spawn_blocking(move || {
            Answer::Topics(places::look_up(&*consumer, &topics))
        }));
    }

    pub(super) fn handle(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Topics(Ok(topics)) if self.known.is_none() => self.begin(topics),
            Answer::Topics(Ok(topics)) => {
                self.join_new(&topics);
                Ok(())
            }
            Answer::Places(partitions, Ok(found)) => {
                if let Err(fault) = self.assign(found) {
                    warn!(error = %fault, "partitions could not be placed; trying again");
                    self.given = Some(partitions);
                }
                Ok(())
            }
            Answer::Topics(Err(fault)) => self.suffer(&fault),
            Answer::Places(partitions, Err(fault)) => {
                debug!(error = %fault, "places could not be found; asking again");
                self.given = Some(partitions);
                self.suffer(&fault)
            }
        }
    }

    /// The topics are known: joins the group, or takes all partitions.
    fn begin(&mut self, topics: Topics) -> Result<()> {
        if !topics.missing.is_empty() {
            let none = topics.partitions.is_empty();
            if self.started.elapsed() < CREATION_LIMIT {
                // The broker may be creating them; asked again by the next tick.
                return Ok(());
            }
            if none {
                let code = RDKafkaErrorCode::UnknownTopicOrPartition;
                let names = self.task.plan.names();
                return Err(listen_error(
                    code,
                    &self.task.plan.group,
                    self.task.place(&names),
                ));
            }
            warn!(topics = ?topics.missing, "some topics do not exist; they are listened to once they do");
        }
        self.task.desk.status.mark_up(None);
        if self.task.plan.is_group {
            let names: Vec<&str> = self.task.plan.topics.iter().map(|topic| &**topic).collect();
            if let Err(fault) = self.consumer.subscribe(&names) {
                let names = self.task.plan.names();
                let text = "the client library does not subscribe to these topics";
                let error = Error::new(ErrorKind::Listen, text).with_topic(names);
                return Err(error.with_source(fault));
            }
        } else {
            self.given = Some(topics.all());
        }
        self.known = Some(topics);
        self.place_given();
        Ok(())
    }

    /// Takes partitions that came into being, outside of groups.
    fn join_new(&mut self, topics: &Topics) {
        let all = topics.all();
        let is_new = {
            let ledger = self.task.desk.ledger();
            all.iter().any(|partition| !ledger.has(partition))
        };
        if is_new && !self.task.plan.is_group {
            self.task.desk.ledger().revoke(false);
            self.given = Some(all);
            self.place_given();
        }
    }

    /// Asks for the places of what was given, if nothing else is being asked.
    pub(super) fn place_given(&mut self) {
        if self.question.is_some() {
            return;
        }
        if let Some(given) = self.task.desk.take_given() {
            self.given = Some(given);
        }
        let Some(partitions) = self.given.take() else {
            return;
        };
        let with_beginnings: Vec<(Partition, Beginning)> = partitions
            .iter()
            .map(|partition| (partition.clone(), self.beginning(partition)))
            .collect();
        let (consumer, is_group) = (Arc::clone(&self.consumer), self.task.plan.is_group);
        self.question = Some(spawn_blocking(move || {
            let found = places::find(&*consumer, &with_beginnings, is_group);
            Answer::Places(partitions, found)
        }));
    }

    fn beginning(&self, partition: &Partition) -> Beginning {
        let known = self.known.as_ref();
        match self.task.plan.since {
            _ if !known.is_some_and(|known| known.has(partition)) => Beginning::Start,
            Some(time) if !self.placed => Beginning::Since(time),
            _ => Beginning::End,
        }
    }

    /// Begins to fetch at these places.
    fn assign(&mut self, found: Vec<Found>) -> KafkaResult<()> {
        let mut starts = Vec::with_capacity(found.len());
        {
            let mut ledger = self.task.desk.ledger();
            for one in found {
                let partition = one.partition;
                let offset = ledger.assign(partition.clone(), one.committed, one.fallback);
                starts.push(Place { partition, offset });
            }
            ledger.drop_aside();
        }
        debug!(?starts, "listening");
        self.consumer.assign(&list(&starts)?)?;
        self.placed = true;
        self.holding = false;
        // A group's place is fixed before its first message: what is sent from now on is not missed by its next listener.
        self.settle_up();
        if self.task.ready.is_some() {
            self.task.common.active.fetch_add(1, Ordering::Relaxed);
            self.task.answer(Ok(()));
        }
        self.restored();
        Ok(())
    }
}
