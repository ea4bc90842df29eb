//! While a subscription is in force: waits for its end, looks after it, and keeps a spare queue ready.

use std::sync::Arc;
use std::time::Duration;

use oslo_messaging_amqp::Consume;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::Session;
use crate::declare::{SetupFault, declare_all, table};
use crate::delivery::End;
use crate::inspect::inspect;
use crate::subscription::{
    Active, CLOSE_LIMIT, History, SubscriptionTask, Wish, close, jittered, until_not_running,
};
use crate::topology::ConsumerSpec;

/// For about so long, or two heartbeats, a broker believes that a client is alive that is gone.
const BELIEF: Duration = Duration::from_secs(60);

/// Trouble comes together: for so long after a subscription was set up again it is looked after closely.
const CLOSELY: Duration = Duration::from_secs(120);
/// One to which nothing was delivered since the last look is looked after this many times less often,
const LESS_OFTEN: u32 = 2;
/// and this many times from the next look on: thousands of quiet subscriptions may share a broker.
const SELDOM: u32 = 6;

/// So soon after the subscription is in force the queue that is kept ready is declared: the connection that publishes comes
/// up with the first call;
const SPARE_SOON: Duration = Duration::from_millis(300);
/// so often it is seen to then, which also keeps it from expiring,
const SPARE_EVERY: Duration = Duration::from_secs(60);
/// and so often while it cannot be had.
const SPARE_AGAIN: Duration = Duration::from_secs(2);

impl SubscriptionTask {
    /// Waits until the subscription is lost, or `None`: not wanted any more.
    pub(super) async fn hold(
        &mut self,
        active: &Active,
        session: &Session,
        history: &History,
    ) -> Option<End> {
        let mut ends = active.ends.watch();
        let interval = self.plan.config().check_interval();
        let mut counts = Vec::new();
        let heartbeat = session.connection.heartbeat().unwrap_or(BELIEF);
        let mut relax_at = history
            .haunted
            .then(|| Instant::now() + 2 * heartbeat + BELIEF / 4);
        let census = Arc::clone(&self.census);
        let desk = &census.desk;
        let mut pace = 1;
        let mut next_look = desk.next_look(interval.unwrap_or_default(), pace);
        let wants_spare = self.plan.is_replies() && self.link.brokers().are_several();
        let mut next_spare = Instant::now() + SPARE_SOON;
        loop {
            tokio::select! {
                end = told(&mut ends) => return Some(end),
                changed = self.wishes.changed() => {
                    let wish = *self.wishes.borrow_and_update();
                    if changed.is_err() || wish == Wish::End {
                        return None;
                    }
                    if wish == Wish::Pause {
                        self.cancel(&active.channel).await;
                        self.wait_for_end().await;
                        return None;
                    }
                }
                () = sleep_until(relax_at.unwrap_or(next_look)), if relax_at.is_some() => {
                    relax_at = None;
                    if let Err(fault) = self.relax(active).await {
                        return Some(fault.end);
                    }
                }
                () = sleep_until(next_spare), if wants_spare => {
                    let wishes = self.wishes.clone();
                    let ready = tokio::select! {
                        ready = self.keep_spare(session) => ready,
                        end = told(&mut ends) => return Some(end),
                        () = until_not_running(wishes) => continue,
                    };
                    next_spare = Instant::now() + if ready { jittered(SPARE_EVERY) } else { SPARE_AGAIN };
                }
                () = sleep_until(next_look), if interval.is_some() => {
                    let found = tokio::select! {
                        found = inspect(&census, session, &self.spec, &mut counts) => found,
                        end = told(&mut ends) => Some(end),
                        () = until_not_running(self.wishes.clone()) => continue,
                    };
                    if found.is_some() {
                        return found;
                    }
                    let closely = history.times > 1 && active.since.elapsed() < CLOSELY;
                    pace = next_pace(pace, closely || active.ends.take_heard());
                    next_look = desk.next_look(interval.unwrap_or_default(), pace);
                }
            }
        }
    }

    /// Has a queue ready on another node than the one we consume at, whether that one hangs or dies: in a cluster of
    /// which a node hangs no queue can be declared. The connection that publishes is there, see [`Brokers::round`].
    ///
    /// [`Brokers::round`]: crate::brokers::Brokers::round
    async fn keep_spare(&mut self, session: &Session) -> bool {
        let publishing = &self.census.publishing;
        let Some(elsewhere) = publishing
            .with_status(|status| status.session().cloned())
            .filter(|elsewhere| elsewhere.host != session.host)
        else {
            return self.plan.has_spare();
        };
        let Ok(spec) = self.plan.spare_spec(&self.census.facts) else {
            return false;
        };
        let declare = async {
            let declared = declare_all(&elsewhere.connection, &spec, &self.census.facts).await?;
            close(&declared.channel).await;
            Ok::<_, SetupFault>(())
        };
        let ready = matches!(timeout(CLOSE_LIMIT, declare).await, Ok(Ok(())));
        if ready && !self.plan.has_spare() {
            tracing::debug!(
                queue = spec.address,
                host = &*elsewhere.host,
                "a spare reply queue is kept ready"
            );
        }
        self.plan.note_spare(ready);
        ready
    }

    /// Takes no more than its share of what several servers consume, now that the broker has given up its predecessors.
    async fn relax(&self, active: &Active) -> Result<(), SetupFault> {
        let shared =
            |(_, consumer): &(usize, &ConsumerSpec)| !consumer.alone && !consumer.queue.is_stream();
        for (number, consumer) in self.spec.consumers.iter().enumerate().filter(shared) {
            active.channel.cancel(&consumer.tag).await?;
            let consume = Consume {
                queue: &consumer.queue.name,
                tag: &consumer.tag,
                arguments: table(&consumer.arguments),
                ..Consume::default()
            };
            let sink = active.ends.sink(number, None);
            active.channel.consume_with(&consume, sink).await?;
        }
        Ok(())
    }
}

/// How many times less often than at first a subscription is looked after next; `lively` if something was delivered to it
/// since the last look, or it was in trouble lately.
fn next_pace(pace: u32, lively: bool) -> u32 {
    match (lively, pace) {
        (true, _) => 1,
        (false, 1) => LESS_OFTEN,
        (false, _) => SELDOM,
    }
}

/// Why the engine will deliver nothing more.
async fn told(ends: &mut watch::Receiver<Option<End>>) -> End {
    // An error means that the engine let go of the sinks, which it does after telling why.
    let told = ends.wait_for(Option::is_some).await;
    told.ok()
        .and_then(|end| (*end).clone())
        .unwrap_or(End::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_looked_after_less_often_the_longer_nothing_was_delivered() {
        let mut pace = 1;
        for (lively, expected) in [
            (true, 1),
            (false, LESS_OFTEN),
            (false, SELDOM),
            (false, SELDOM),
            (true, 1),
            (false, LESS_OFTEN),
        ] {
            pace = next_pace(pace, lively);
            assert_eq!(pace, expected);
        }
    }
}
