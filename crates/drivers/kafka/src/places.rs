//! Where listeners begin: which topics and partitions exist, and the place of a group in each of them.
//!
//! Everything here asks the brokers and waits for their answers, on a thread that may wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::ledger::Partition;

/// How long one question may take.
pub(crate) const QUESTION_LIMIT: Duration = Duration::from_secs(3);

/// The topics of a subscription as the brokers know them.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// How many partitions each has that exists.
    pub(crate) partitions: HashMap<Arc<str>, i32>,
    /// Those that do not, or are being made.
    pub(crate) missing: Vec<Arc<str>>,
}

impl Topics {
    /// All partitions of all topics.
    pub(crate) fn all(&self) -> Vec<Partition> {
        let mut all: Vec<Partition> = self
            .partitions
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(|n| (Arc::clone(topic), n)))
            .collect();
        all.sort();
        all
    }

    /// Whether a partition was there.
    pub(crate) fn has(&self, partition: &Partition) -> bool {
        self.partitions
            .get(&partition.0)
            .is_some_and(|count| partition.1 < *count)
    }
}

/// Asks for the topics, which makes brokers create missing ones if they do that at all.
pub(crate) fn look_up<X: ConsumerContext>(
    consumer: &impl Consumer<X>,
    topics: &[Arc<str>],
) -> KafkaResult<Topics> {
    let mut found = Topics::default();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), QUESTION_LIMIT)?;
        let Some(one) = metadata.topics().iter().find(|one| one.name() == &**topic) else {
            found.missing.push(Arc::clone(topic));
            continue;
        };
        match one.error() {
            None if !one.partitions().is_empty() => {
                let count = i32::try_from(one.partitions().len()).unwrap_or(i32::MAX);
                found.partitions.insert(Arc::clone(topic), count);
            }
            None
            | Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            ) => found.missing.push(Arc::clone(topic)),
            Some(error) => return Err(KafkaError::MetadataFetch(error.into())),
        }
    }
    Ok(found)
}

/// Where a partition without a place begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With what is sent from now on.
    End,
    /// With what was sent then.
    Since(SystemTime),
    /// With all there is: the partition came into being after the listener.
    Start,
}

/// The place of a partition.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which.
    pub(crate) partition: Partition,
    /// The place the group has, if it has one that counts.
    pub(crate) committed: Option<i64>,
    /// Where to begin if not.
    pub(crate) fallback: i64,
}

/// Finds the places of these partitions; those of the group only if it has one (`is_group`).
pub(crate) fn find<X: ConsumerContext>(
    consumer: &impl Consumer<X>,
    partitions: &[(Partition, Beginning)],
    is_group: bool,
) -> KafkaResult<Vec<Found>> {
    let known = if is_group {
        committed(consumer, partitions)?
    } else {
        HashMap::new()
    };
    let mut open = TopicPartitionList::new();
    for ((topic, number), beginning) in partitions {
        let place = known.get(&(Arc::clone(topic), *number));
        if place.is_none() || matches!(beginning, Beginning::Since(_)) {
            open.add_partition_offset(topic, *number, question(*beginning))?;
        }
    }
    let found = ask(consumer, open)?;
    let mut places = Vec::with_capacity(partitions.len());
    for (partition, beginning) in partitions {
        let committed = known.get(partition).copied();
        let asked = found.get(partition).copied();
        places.push(Found {
            partition: partition.clone(),
            // Whoever asks for the past is not held back by what the group had.
            committed: committed.filter(|_| !matches!(beginning, Beginning::Since(_))),
            fallback: asked.or(committed).unwrap_or_default(),
        });
    }
    Ok(places)
}

fn committed<X: ConsumerContext>(
    consumer: &impl Consumer<X>,
    partitions: &[(Partition, Beginning)],
) -> KafkaResult<HashMap<Partition, i64>> {
    let mut list = TopicPartitionList::new();
    for ((topic, number), _) in partitions {
        list.add_partition(topic, *number);
    }
    if list.count() == 0 {
        return Ok(HashMap::new());
    }
    read(&consumer.committed_offsets(list, QUESTION_LIMIT)?)
}

/// What to ask for in place of a time.
fn question(beginning: Beginning) -> Offset {
    match beginning {
        Beginning::End => Offset::End,
        Beginning::Start => Offset::Beginning,
        Beginning::Since(time) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            let millis = since.unwrap_or_default().as_millis();
            Offset::Offset(i64::try_from(millis).unwrap_or(i64::MAX))
        }
    }
}

/// Asks for offsets by time; those with nothing after that time are at their ends.
fn ask<X: ConsumerContext>(
    consumer: &impl Consumer<X>,
    list: TopicPartitionList,
) -> KafkaResult<HashMap<Partition, i64>> {
    if list.count() == 0 {
        return Ok(HashMap::new());
    }
    let wanted: Vec<Partition> = list
        .elements()
        .iter()
        .map(|one| (Arc::from(one.topic()), one.partition()))
        .collect();
    let mut found = read(&consumer.offsets_for_times(list, QUESTION_LIMIT)?)?;
    let mut rest = TopicPartitionList::new();
    for partition in &wanted {
        if !found.contains_key(partition) {
            rest.add_partition_offset(&partition.0, partition.1, Offset::End)?;
        }
    }
    if rest.count() > 0 {
        found.extend(read(&consumer.offsets_for_times(rest, QUESTION_LIMIT)?)?);
    }
    for partition in wanted {
        if !found.contains_key(&partition) {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
        }
    }
    Ok(found)
}

/// The offsets of a list that has some.
fn read(list: &TopicPartitionList) -> KafkaResult<HashMap<Partition, i64>> {
    let mut places = HashMap::new();
    for one in list.elements() {
        one.error()?;
        if let Offset::Offset(offset) = one.offset() {
            places.insert((Arc::from(one.topic()), one.partition()), offset);
        }
    }
    Ok(places)
}
