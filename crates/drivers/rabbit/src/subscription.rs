//! The life of one subscription: declare, consume, wait for the end of its channel, begin again.
//!
//! Only this subscription is repaired when the broker closes its channel or cancels a consumer; after
//! a lost connection it waits for the next one. Repairs wait longer each time, longest where they cost others their
//! connection. The task ends when its owner wants it to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oslo_messaging_amqp::{Channel, Error as AmqpError};
use oslo_messaging_core::driver::{Inbox, ListenerEvent, Retry};
use oslo_messaging_core::error::{Error, ErrorKind, Result};
use oslo_messaging_core::events::Event;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::census::Census;
use crate::connection::{Link, Patience, Session};
use crate::declare::SetupFault;
use crate::delivery::{End, Ends, Offsets};
use crate::error::{Place, is_final_for_listener, is_internal, listen_error};
use crate::plan::{Losses, Plan};
use crate::topology::{ConsumerSpec, SubscriptionSpec};

mod hold;
mod set_up;

/// Longest an orderly end of a subscription may take.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A subscription that held this long was no failure; the waits before repairs begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// So often a starting subscription may meet an internal error of the broker.
const INTERNAL_ERRORS: u32 = 3;

/// What the owner of a subscription wants of its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Deliveries.
    Run,
    /// No more deliveries; those handed out are still settled.
    Pause,
    /// The end.
    End,
}

/// What whoever subscribes is told: the address, if others reach the subscription by one.
pub(crate) type Ready = oneshot::Sender<Result<Option<String>>>;

/// Keeps one subscription in force.
pub(crate) struct SubscriptionTask {
    /// The consuming connection.
    pub(crate) link: Arc<Link>,
    /// What it is for.
    pub(crate) plan: Plan,
    /// What to declare and consume, by the plan.
    pub(crate) spec: SubscriptionSpec,
    /// Where deliveries go.
    pub(crate) inbox: Arc<dyn Inbox>,
    /// What the owner wants.
    pub(crate) wishes: watch::Receiver<Wish>,
    /// Says that nothing is delivered any more.
    pub(crate) paused: watch::Sender<bool>,
    /// Told of the first success or final failure, and gone then.
    pub(crate) ready: Option<Ready>,
    /// Shared with the driver's other subscriptions.
    pub(crate) census: Arc<Census>,
    /// How far streams were read.
    pub(crate) offsets: Arc<Offsets>,
}

/// What a subscription remembers from one attempt to the next.
#[derive(Default)]
struct History {
    /// The connection it was last in force on.
    generation: u64,
    /// Failures since it held.
    failures: u32,
    /// Of those, connections the broker closed over it.
    offences: u32,
    /// It is known that the broker refuses transient queues.
    refused: bool,
    losses: Losses,
    /// The address the owner knows.
    address: Option<String>,
    /// A queue that others use as well is transient.
    transient: bool,
    /// How often it was in force.
    times: u16,
    /// The broker may still believe that its former consumers are alive, and serve them.
    haunted: bool,
}

/// A subscription in force, counted as such while it lives.
struct Active {
    channel: Channel,
    ends: Ends,
    since: Instant,
    count: usize,
    census: Arc<Census>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.census
            .consumers
            .fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl SubscriptionTask {
    /// Keeps the subscription in force until its owner wants the end.
    pub(crate) async fn run(mut self) {
        let mut keeper = None;
        let mut after = 0;
        let mut history = History::default();
        loop {
            let session = match self.session(after).await {
                Some(Ok(session)) => session,
                Some(Err(error)) => {
                    self.give_up(error);
                    break;
                }
                None => break,
            };
            self.census.facts.meet(&session);
            match self.plan.spec(&self.census.facts) {
                Ok(spec) => self.spec = spec,
                Err(error) => {
                    self.give_up(error);
                    break;
                }
            }
            let lost = match self.set_up(&session, &mut history).await {
                Some(Ok(active)) => {
                    keeper.get_or_insert_with(|| self.link.keep());
                    self.announce(&mut history);
                    history.generation = session.generation;
                    history.times = history.times.saturating_add(1);
                    let Some(end) = self.hold(&active, &session, &history).await else {
                        return self.end(&active.channel).await;
                    };
                    // A lost connection is nothing the subscription did; the link has waits of its own.
                    if active.since.elapsed() > STEADY || !session.connection.is_open() {
                        (history.failures, history.offences) = (0, 0);
                    }
                    self.lose(active, end, &mut history).await
                }
                Some(Err(fault)) => match self.judge(fault, &session, &mut history) {
                    Some(end) => end,
                    None => break,
                },
                None => break,
            };
            tracing::warn!(error = %lost, queue = self.name(), "subscription is not in force, setting it up again");
            self.census.note(self.name(), Some(&lost));
            if !session.connection.is_open() {
                after = session.generation;
            }
            history.failures += 1;
            tokio::select! {
                () = sleep(repair_pause(history.failures, history.offences)) => {}
                () = until_not_running(self.wishes.clone()) => break,
            }
        }
        self.census.note(self.name(), None);
        self.wait_for_end().await;
    }

    /// A connection; `None` if it is not wanted any more.
    async fn session(&self, after: u64) -> Option<Result<Arc<Session>>> {
        let mut patience = match self.ready {
            Some(_) => Patience::new(Retry::Forever),
            // A refused login must not end a service that ran, nor make it knock without a pause.
            None => Patience::endless(),
        };
        tokio::select! {
            session = self.link.session(after, &mut patience) => Some(session),
            () = until_not_running(self.wishes.clone()) => None,
        }
    }

    fn announce(&mut self, history: &mut History) {
        self.census.note(self.name(), None);
        let losses = std::mem::take(&mut history.losses);
        let address = self.spec.address.clone();
        let old = std::mem::replace(&mut history.address, address.clone());
        if let Some(ready) = self.ready.take() {
            // Whoever asked may have gone; the wish to end says so.
            return drop(ready.send(Ok(address)));
        }
        if let Some((old, new)) = old.zip(address).filter(|(old, new)| old != new) {
            tracing::warn!(old, new, "the reply queue is replaced by another one");
            self.census.events.tell(Event::ReplyQueueReplaced {
                old,
                new: new.clone(),
            });
            self.inbox
                .handle_event(ListenerEvent::Renamed { address: new });
        }
        let recreated = losses.concern(self.plan.is_replies());
        let queue = self.name();
        tracing::info!(queue, recreated, ?losses, "subscription is in force again");
        self.census.events.tell(Event::ConsumerRestored {
            queue: queue.to_owned(),
            recreated,
        });
        if losses.emptied && self.plan.is_replies() && !recreated {
            self.inbox.handle_event(ListenerEvent::Emptied);
        } else if history.haunted || losses.perhaps {
            self.inbox.handle_event(ListenerEvent::Astray);
        }
        self.inbox
            .handle_event(ListenerEvent::Restored { recreated });
    }

    /// Lets go of a subscription that was lost.
    async fn lose(&mut self, active: Active, end: End, history: &mut History) -> End {
        self.inbox.handle_event(ListenerEvent::Interrupted);
        self.census.events.tell(Event::ConsumerLost {
            queue: self.name().to_owned(),
            reason: end.to_string(),
        });
        // With that argument a consumer is cancelled also when its queue moves, and then nothing is lost.
        let moves = self.plan.config().enable_cancel_on_failover;
        if let End::Cancelled(number) = &end
            && let Some(consumer) = self.spec.consumers.get(*number)
            && !moves
        {
            history.losses.note(consumer, true);
        }
        // After a cancel the other consumers of the channel end with it; what they held goes back.
        close(&active.channel).await;
        end
    }

    /// Stops deliveries; those handed out can still be settled.
    async fn cancel(&self, channel: &Channel) {
        let cancelled = async {
            for consumer in &self.spec.consumers {
                channel.cancel(&consumer.tag).await?;
            }
            Ok::<(), AmqpError>(())
        };
        // A consumer that cannot be cancelled is on a dead channel and delivers nothing.
        if timeout(CLOSE_LIMIT, cancelled).await.is_err() {
            tracing::warn!(
                queue = self.name(),
                "the broker did not confirm the cancel of a consumer"
            );
        }
    }

    /// Ends a subscription in force: own fanout queue first, then the channel (spec 4.7). A spare queue never held a message.
    async fn end(&mut self, channel: &Channel) {
        let spare = match self.plan.has_spare() {
            true => self.plan.spare_spec(&self.census.facts).ok(),
            false => None,
        };
        let own = |consumer: &&ConsumerSpec| consumer.delete_on_close;
        let orderly = async {
            for consumer in self.spec.consumers.iter().filter(own) {
                let queue = &consumer.queue.name;
                channel.queue_delete(queue, false, false).await?;
            }
            for consumer in spare.iter().flat_map(|spare| &spare.consumers) {
                let queue = &consumer.queue.name;
                channel.queue_delete(queue, false, false).await?;
            }
            channel.close().await
        };
        match timeout(CLOSE_LIMIT, orderly).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, queue = self.name(), "subscription ended without the broker");
            }
            Err(_) => tracing::warn!(
                queue = self.name(),
                "the broker did not confirm the end of a subscription"
            ),
        }
    }

    /// Nothing is delivered any more; the task lives until its owner lets go.
    async fn wait_for_end(&mut self) {
        self.paused.send_replace(true);
        // An error means that all owners are gone, which is the end as well.
        let _ = self.wishes.wait_for(|wish| *wish == Wish::End).await;
    }

    /// Decides about a failed set-up: `None` if the one who started was told that it is final.
    fn judge(
        &mut self,
        fault: SetupFault,
        session: &Session,
        history: &mut History,
    ) -> Option<End> {
        if fault.name_is_taken {
            if let Err(error) = self.plan.rename() {
                self.give_up(error);
                return None;
            }
            history.losses.renamed = true;
            return Some(fault.end);
        }
        if let End::Closed(error) = &fault.end {
            let internal = is_internal(error);
            // A refusal of transient queues is learnt from, and none is declared again: that is a reason to go on at once.
            let refused = self.census.facts.transient_refused();
            let learnt = internal && refused && !std::mem::replace(&mut history.refused, refused);
            // The connection of all subscriptions went with it.
            history.offences += u32::from(internal && !learnt);
            let worn_out = internal && history.offences >= INTERNAL_ERRORS;
            if self.ready.is_some() && (is_final_for_listener(error) || worn_out) {
                let mut told = listen_error(error.clone(), self.place(&fault, session))
                    .with("broker", &*self.census.facts.version());
                if let Some(asked) = fault.asked {
                    told = told.with("asked for", asked);
                }
                self.give_up(told);
                return None;
            }
        }
        tracing::debug!(error = %fault.end, entity = fault.entity, "set-up of a subscription failed");
        Some(fault.end)
    }

    fn place<'a>(&'a self, fault: &'a SetupFault, session: &'a Session) -> Place<'a> {
        Place {
            host: &session.host,
            vhost: self.link.brokers().vhost(),
            entity: &fault.entity,
        }
    }

    /// Tells the one who started; one who runs has nobody to tell but the inbox.
    fn give_up(&mut self, error: Error) {
        match self.ready.take() {
            // Whoever asked may have gone; the task ends all the same.
            Some(ready) => drop(ready.send(Err(error))),
            None if error.kind() == ErrorKind::Closed => {}
            None => self.inbox.handle_event(ListenerEvent::Failed(error)),
        }
    }

    fn name(&self) -> &str {
        let first = self.spec.consumers.first();
        first.map_or("", |consumer| &consumer.queue.name)
    }
}

impl Losses {
    /// Notes that a queue is gone.
    fn note(&mut self, consumer: &ConsumerSpec, connection_stayed: bool) {
        match (consumer.private, connection_stayed) {
            // A stream that was deleted held nothing that was not settled.
            (false, _) => self.shared |= !consumer.queue.is_stream(),
            (true, true) => self.emptied = true,
            (true, false) => self.own = true,
        }
    }
}

/// Closes a channel that may be closed already.
async fn close(channel: &Channel) {
    if channel.closed_reason().is_none() {
        // Without an answer the channel is as good as gone; its connection's heartbeat decides.
        let _ = timeout(CLOSE_LIMIT, channel.close()).await;
    }
}

/// Resolves when the subscription is to pause or end.
async fn until_not_running(mut wishes: watch::Receiver<Wish>) {
    // An error means that all owners are gone, which is the end as well.
    let _ = wishes.wait_for(|wish| *wish != Wish::Run).await;
}

/// At once the first time, then slower, always jittered; slowest after internal errors of the broker, each of which
/// costs all subscriptions their connection.
fn repair_pause(failures: u32, offences: u32) -> Duration {
    let doubling =
        |first: f64, times: u32, cap: f64| (first * 2_f64.powi(times.min(16) as i32)).min(cap);
    let most = match (failures, offences) {
        (0 | 1, 0) => 0.05,
        (_, 0) => doubling(0.25, failures - 1, 15.0),
        (_, offences) => doubling(1.0, offences, 300.0),
    };
    jittered(Duration::from_secs_f64(most))
}

/// The second half of a wait at random.
fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_wait_longer_each_time_and_longest_where_they_cost_others_their_connection() {
        let between = |failures, offences, most: f64| {
            let pause = repair_pause(failures, offences).as_secs_f64();
            assert!(
                (most / 2.0..=most).contains(&pause),
                "{failures} {offences}: {pause}"
            );
        };
        between(1, 0, 0.05);
        between(2, 0, 0.5);
        between(3, 0, 1.0);
        between(u32::MAX, 0, 15.0);
        between(1, 1, 2.0);
        between(2, 2, 4.0);
        between(9, 9, 300.0);
    }
}
