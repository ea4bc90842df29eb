//! The look that a subscription takes at the broker now and then: are its queues still there, bound, and consumed?
//!
//! A broker does not tell when it lost a binding with its exchange, nor, in rare states, a queue or a consumer. What is
//! found missing is for the subscription to set up again; bindings are made again in place, which changes nothing
//! where they exist. Nothing is ever deleted.

use std::sync::Mutex;
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Connection, Error as AmqpError, ErrorKind as AmqpKind, Table};
use tokio::time::{sleep, timeout};

use crate::connection::Session;
use crate::declare::{Variant, passive};
use crate::delivery::End;
use crate::error::{is_mismatch, is_missing};
use crate::facts::Facts;
use crate::lock::lock;
use crate::topology::{ConsumerSpec, ExchangeSpec, SubscriptionSpec};

/// Longest a look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A consumer has to be missing twice, so far apart.
const TWICE: Duration = Duration::from_millis(500);

/// The channel on which the subscriptions of a driver ask.
///
/// It stays open from one look to the next: a channel costs a broker several times what the questions do. A closed one is the
/// answer to a question about something that is gone, so that no two may be asked on it at once: a look that finds it taken opens
/// one of its own, and waits for no queue but those it asks for.
#[derive(Default)]
pub(crate) struct Desk {
    /// With the connection it is on; `None` while a look has it.
    kept: Mutex<Option<(u64, Channel)>>,
}

impl Desk {
    fn take(&self, generation: u64) -> Option<Channel> {
        let kept = lock(&self.kept).take();
        let ours = kept.filter(|(other, _)| *other == generation);
        ours.map(|(_, channel)| channel)
    }

    fn keep(&self, generation: u64, channel: Channel) {
        // One that is there already is let go, which closes it.
        let _other = lock(&self.kept).replace((generation, channel));
    }
}

/// Asks on one channel, as long as the broker leaves it open.
struct Inquiry<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

/// Why the subscription is not what it should be; `None` if it is. A connection that is lost meanwhile tells itself.
///
/// `counts` are the consumers found on each queue the last time.
///
/// # Cancellation
/// Safe: the channel with the open question is given up.
pub(crate) async fn inspect(
    desk: &Desk,
    session: &Session,
    spec: &SubscriptionSpec,
    facts: &Facts,
    counts: &mut Vec<u32>,
) -> Option<End> {
    counts.resize(spec.consumers.len(), 0);
    let mut inquiry = Inquiry {
        connection: &session.connection,
        channel: desk.take(session.generation),
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
        Ok(Ok(end)) => {
            if let Some(channel) = inquiry.channel {
                desk.keep(session.generation, channel);
            }
            end
        }
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
            match found.map(|queue| queue.consumers) {
                // Streams do not count their readers.
                Ok(0) if !consumer.queue.is_stream() => {}
                // A quorum queue that is deleted does not tell all its consumers, and others may have made it anew.
                Ok(now) if now < *count && consumer.queue.is_quorum() => {
                    return dead("has fewer consumers than before, and ours may be among the lost");
                }
                Ok(now) => {
                    *count = now;
                    return Ok(None);
                }
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
