//! Declares and consumes what a subscription wants, in time and as long as it is wanted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Consume};
use tokio::time::{Instant, timeout};

use crate::connection::Session;
use crate::declare::{Declared, SetupFault, declare_all, in_time, missing, table};
use crate::delivery::{Ends, Offsets};
use crate::subscription::{
    Active, CLOSE_LIMIT, History, SubscriptionTask, Wish, close, until_not_running,
};
use crate::topology::{Argument, Arguments, ConsumerSpec};

/// While another queue is kept ready, the own one may take no longer to be had.
const HURRY: Duration = Duration::from_millis(1500);
/// Longest such a channel may then take to close.
const TELL: Duration = Duration::from_millis(100);
/// With so large a prefetch, acks of replies may wait for each other.
const ROOMY: u16 = 256;

impl SubscriptionTask {
    /// Declares and consumes. Notes what was lost meanwhile, also when the rest fails: the next attempt will find what
    /// this one declared. `None` if it is not wanted any more.
    pub(super) async fn set_up(
        &self,
        session: &Session,
        history: &mut History,
    ) -> Option<Result<Active, SetupFault>> {
        let Declared { channel, .. } = match self.look_and_declare(session, history).await? {
            Ok(declared) => declared,
            Err(fault) => return Some(Err(fault)),
        };
        let roomy = self.spec.prefetch.is_none_or(|most| most >= ROOMY);
        let answers = self.plan.is_replies();
        let ends = Ends::new(Arc::clone(&self.inbox), &channel, answers, roomy);
        history.haunted = self.census.pulse.left_dead_consumers(history.generation);
        let patience = self.patience();
        // Not given up half-way: RabbitMQ lets the answer to a consume be overtaken by the answer to the close.
        let consumed = timeout(patience, self.consume(&channel, &ends, history)).await;
        let wanted = *self.wishes.borrow() == Wish::Run;
        if !wanted || !matches!(consumed, Ok(Ok(()))) {
            // Consumers in force hold their channel, so it has to be told. One that waits for a queue that hangs does not
            // answer that either.
            let told = if self.plan.has_spare() {
                TELL
            } else {
                CLOSE_LIMIT
            };
            let _ = timeout(told, close(&channel)).await;
        }
        match consumed {
            _ if !wanted => return None,
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Some(Err(fault)),
            Err(_) => return Some(Err(self.silent())),
        }
        let count = self.spec.consumers.len();
        self.census.consumers.fetch_add(count, Ordering::Relaxed);
        Some(Ok(Active {
            ends,
            channel,
            since: Instant::now(),
            count,
            census: Arc::clone(&self.census),
        }))
    }

    /// Looks after the canary, and declares. At the start the canary has nothing to tell yet, so both are done at once, on
    /// channels of their own; later the declaring asks it what was lost.
    async fn look_and_declare(
        &self,
        session: &Session,
        history: &mut History,
    ) -> Option<Result<Declared, SetupFault>> {
        let look = async {
            tokio::select! {
                seen = self.look_for_canary(session) => Some(seen),
                () = until_not_running(self.wishes.clone()) => None,
            }
        };
        let (seen, declared) = if self.ready.is_some() {
            // Both to their ends: a refusal that ends the connection is learnt by the canary, whoever hears of it first.
            let declare = self.bounded(self.declare(session, history));
            let (seen, declared) = tokio::join!(look, declare);
            (seen?, declared)
        } else {
            let seen = look.await?;
            if seen.is_err() {
                (seen, None)
            } else {
                (seen, self.bounded(self.declare(session, history)).await)
            }
        };
        match seen {
            Err(fault) => Some(Err(fault)),
            Ok(()) => declared,
        }
    }

    async fn look_for_canary(&self, session: &Session) -> Result<(), SetupFault> {
        let census = &self.census;
        if self.plan.needs_canary(&census.facts) {
            census.canary.look(session, &census.facts).await?;
        }
        Ok(())
    }

    /// How long a part of the set-up may take.
    fn patience(&self) -> Duration {
        let patience = self.plan.config().listen_deadline();
        if self.plan.has_spare() {
            patience.min(HURRY)
        } else {
            patience
        }
    }

    /// The broker left a question unanswered: about the queue, if there is another one.
    fn silent(&self) -> SetupFault {
        match self.spec.consumers.first() {
            Some(consumer) if self.plan.has_spare() => SetupFault::stuck(consumer),
            _ => SetupFault::silent(),
        }
    }

    async fn declare(
        &self,
        session: &Session,
        history: &mut History,
    ) -> Result<Declared, SetupFault> {
        let (connection, census) = (&session.connection, &self.census);
        if self.ready.is_none() {
            if self.plan.is_replies() || history.transient {
                let missed = census.canary.missed_since(history.generation).await;
                history.losses.transient |= missed;
            }
            let same_connection = history.generation == session.generation;
            if self.plan.may_lose_transient(&census.facts) {
                let canary = &census.canary;
                // It is not looked after again on the same connection, where the queue may be at a node that was restarted.
                let told = !same_connection && canary.tells(history.generation, session).await;
                history.losses.perhaps |= !told;
            }
            let missing = missing(connection, &self.spec).await?;
            // A new name has no queue yet.
            let renamed = history.losses.renamed;
            let all = self.spec.consumers.iter().zip(missing);
            for (consumer, _) in
                all.filter(|(consumer, missing)| *missing && !(consumer.private && renamed))
            {
                history.losses.note(consumer, same_connection);
            }
        }
        let declared = declare_all(connection, &self.spec, &census.facts).await?;
        history.transient = declared.transient;
        let starting = self.ready.is_some() && self.plan.may_clash();
        let taken = |(consumer, count): (&ConsumerSpec, u32)| consumer.private && count > 0;
        let counts = declared.consumers.iter().copied();
        if starting && self.spec.consumers.iter().zip(counts).any(taken) {
            close(&declared.channel).await;
            return Err(SetupFault::taken(self.name()));
        }
        Ok(declared)
    }

    async fn consume(
        &self,
        channel: &Channel,
        ends: &Ends,
        history: &History,
    ) -> Result<(), SetupFault> {
        for (number, consumer) in self.spec.consumers.iter().enumerate() {
            let prior = consumer.alone || history.haunted;
            let times = if prior { history.times } else { 0 };
            let is_stream = consumer.queue.is_stream();
            let offsets = is_stream.then_some(&self.offsets);
            let sink = ends.sink(number, offsets);
            let consume = Consume {
                queue: &consumer.queue.name,
                tag: &consumer.tag,
                arguments: table(&consumer_arguments(consumer, offsets, times)),
                ..Consume::default()
            };
            let consumed = in_time(consumer, channel.consume_with(&consume, sink)).await?;
            consumed.map_err(|error| SetupFault::queue(error, &consumer.queue.name))?;
        }
        Ok(())
    }

    /// The outcome of a part of the set-up in time; `None` if it is not wanted any more.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, SetupFault>>,
    ) -> Option<Result<T, SetupFault>> {
        tokio::select! {
            done = timeout(self.patience(), work) => Some(done.unwrap_or_else(|_| Err(self.silent()))),
            () = until_not_running(self.wishes.clone()) => None,
        }
    }
}

/// The arguments of a consumer: from where its stream was read to, or before the predecessors it had, `times` above 0 of
/// them, which the broker may believe to be alive for minutes and would go on serving.
fn consumer_arguments(
    consumer: &ConsumerSpec,
    offsets: Option<&Arc<Offsets>>,
    times: u16,
) -> Arguments {
    let mut arguments = consumer.arguments.clone();
    if let Some(offsets) = offsets {
        if let Some(next) = offsets.attach() {
            let next = i64::try_from(next).unwrap_or(i64::MAX);
            arguments = vec![("x-stream-offset", Argument::Number(next))];
        }
    } else if times > 0 {
        arguments.push(("x-priority", Argument::Number(times.into())));
    }
    arguments
}
