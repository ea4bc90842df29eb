//! The look that a subscription takes at the broker now and then: are its queues still there, bound, and consumed?
//!
//! A broker does not tell when it lost a binding with its exchange, nor, in rare states, a queue or a consumer. What is
//! found missing is for the subscription to set up again; bindings are made again in place, which changes nothing
//! where they exist. Nothing is ever deleted.
//!
//! All is asked at once where all subscriptions ask ([`Desk`]): a look costs an idle process few wakes. Only what that finds is
//! looked into question by question.
//!
//! [`Desk`]: crate::desk::Desk

use std::time::Duration;

use oslo_messaging_amqp::{
    Channel, Connection, Error as AmqpError, ErrorKind as AmqpKind, QueueInfo, Table,
};
use tokio::time::{sleep, timeout};

use crate::census::Census;
use crate::connection::Session;
use crate::declare::{Variant, passive};
use crate::delivery::End;
use crate::error::{is_mismatch, is_missing};
use crate::facts::Facts;
use crate::topology::{ConsumerSpec, ExchangeSpec, SubscriptionSpec};

/// Longest all questions at once may take before the connection is doubted, and each is asked on its own,
const QUICK: Duration = Duration::from_secs(2);
/// and longest those may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A consumer has to be missing twice, so far apart.
const TWICE: Duration = Duration::from_millis(500);

/// Asks on one channel, as long as the broker leaves it open.
struct Inquiry<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

/// What the consumers of a queue tell about ours.
enum Verdict {
    Alive,
    /// There is none, perhaps for a moment only.
    Missing,
    /// A quorum queue that is deleted does not tell all its consumers, and others may have made it anew.
    Fewer,
}

/// Judges the consumers found on a queue by those found the last time, and notes them.
fn judge(consumer: &ConsumerSpec, found: u32, count: &mut u32) -> Verdict {
    // Streams do not count their readers.
    if found == 0 && !consumer.queue.is_stream() {
        return Verdict::Missing;
    }
    if found < *count && consumer.queue.is_quorum() {
        return Verdict::Fewer;
    }
    *count = found;
    Verdict::Alive
}

/// Why the subscription is not what it should be; `None` if it is. A connection that is lost meanwhile tells itself; one
/// that does not answer is told to the watch of its pulse.
///
/// `counts` are the consumers found on each queue the last time.
///
/// # Cancellation
/// Safe: the answers to open questions are dropped.
pub(crate) async fn inspect(
    census: &Census,
    session: &Session,
    spec: &SubscriptionSpec,
    counts: &mut Vec<u32>,
) -> Option<End> {
    counts.resize(spec.consumers.len(), 0);
    match timeout(QUICK, census.desk.ask(session, spec)).await {
        Ok(Ok(queues)) => {
            let alive = |((consumer, queue), count): ((_, &QueueInfo), _)| {
                matches!(judge(consumer, queue.consumers, count), Verdict::Alive)
            };
            let mut all = spec.consumers.iter().zip(&queues).zip(counts.iter_mut());
            if all.all(alive) {
                return None;
            }
        }
        Ok(Err(_)) => {}
        // The connection is asked for a sign of life, the queues for theirs.
        Err(_) => census.pulse.doubt(),
    }
    look_closely(session, spec, &census.facts, counts).await
}

/// Asks one question after the other, on a channel of its own.
async fn look_closely(
    session: &Session,
    spec: &SubscriptionSpec,
    facts: &Facts,
    counts: &mut [u32],
) -> Option<End> {
    let mut inquiry = Inquiry {
        connection: &session.connection,
        channel: None,
    };
    let all = async {
        for (consumer, count) in spec.consumers.iter().zip(counts) {
            if let Some(end) = inquiry.consumer_is_dead(consumer, count).await? {
                return Ok(Some(end));
            }
        }
        for consumer in &spec.consumers {
            for (exchange, key) in &consumer.bindings {
                inquiry
                    .bind_again(&consumer.queue.name, exchange, key, facts)
                    .await?;
            }
        }
        Ok::<_, AmqpError>(None)
    };
    match timeout(LIMIT, all).await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => {
            // What may not be asked is not looked at; what is wrong with a queue shows when it is declared.
            tracing::debug!(%error, "a look at the subscription failed");
            None
        }
        // A queue may be without its leader while the connection is well; that has a watch of its own.
        Err(_) => {
            tracing::debug!("a look at the subscription was not answered in time");
            None
        }
    }
}

impl Inquiry<'_> {
    async fn channel(&mut self) -> Result<Channel, AmqpError> {
        let open = self
            .channel
            .take()
            .filter(|channel| channel.closed_reason().is_none());
        let channel = match open {
            Some(channel) => channel,
            None => self.connection.open_channel().await?,
        };
        Ok(self.channel.insert(channel).clone())
    }

    async fn consumer_is_dead(
        &mut self,
        consumer: &ConsumerSpec,
        count: &mut u32,
    ) -> Result<Option<End>, AmqpError> {
        let queue = &consumer.queue.name;
        let dead = |why: &str| Ok(Some(End::Dead(format!("queue {queue} {why}"))));
        for attempt in 0..2 {
            let found = self.channel().await?.queue_declare(&passive(queue)).await;
            match found.map(|queue| judge(consumer, queue.consumers, count)) {
                Ok(Verdict::Missing) => {}
                Ok(Verdict::Fewer) => {
                    return dead("has fewer consumers than before, and ours may be among the lost");
                }
                Ok(Verdict::Alive) => return Ok(None),
                Err(error) if is_missing(&error) => return dead("is gone, and nobody told"),
                Err(error) if error.kind() == AmqpKind::ChannelClosed => return Ok(None),
                Err(error) => return Err(error),
            }
            if attempt == 0 {
                sleep(TWICE).await;
            }
        }
        dead("has lost its consumer, and nobody told")
    }

    async fn bind_again(
        &mut self,
        queue: &str,
        exchange: &ExchangeSpec,
        key: &str,
        facts: &Facts,
    ) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        match channel
            .queue_bind(queue, &exchange.name, key, &Table::new())
            .await
        {
            // The exchange is gone, and its bindings with it.
            Err(error) if is_missing(&error) => {}
            bound => return bound,
        }
        let mut variant = Variant::default();
        loop {
            let channel = self.channel().await?;
            match variant.declare(&channel, exchange, facts).await {
                Ok(true) => {
                    tracing::warn!(
                        exchange = exchange.name,
                        queue,
                        "exchange had vanished; its queue is bound again"
                    );
                    return channel
                        .queue_bind(queue, &exchange.name, key, &Table::new())
                        .await;
                }
                Ok(false) => {}
                Err(error) if is_mismatch(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
