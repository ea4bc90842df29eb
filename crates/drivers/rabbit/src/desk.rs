//! Where the subscriptions of a driver ask the broker after themselves, and when: on one channel, at the same times.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use oslo_messaging_amqp::{Channel, Error as AmqpError, QueueInfo, Table};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::Session;
use crate::declare::passive;
use crate::topology::SubscriptionSpec;

/// A shared channel on which a question is open for so long is left to who asked it.
const STUCK: Duration = Duration::from_millis(500);

/// Where the subscriptions of a driver ask, and when.
///
/// The channel stays open from one look to the next: a channel costs a broker several times what the questions do. It is closed as the
/// answer to a question about something that is gone, and one who asks about a queue that hangs holds it up; whoever else
/// asked on it then asks again on a channel of its own, and waits for no queue but those it asks for.
pub(crate) struct Desk {
    kept: Mutex<Option<Kept>>,
    /// All looks are taken at multiples of a step after this,
    origin: Instant,
    /// which is this share of the interval: thousands of drivers may have started at the same time.
    share: f64,
}

/// The channel on which many ask at once.
struct Kept {
    /// Of the connection it is on.
    generation: u64,
    channel: Channel,
    /// Looks under way on it, for as long as that was not none.
    open: Arc<AtomicUsize>,
    since: Instant,
}

/// A look on the shared channel, while it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// For a driver without subscriptions.
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            origin: Instant::now(),
            share: 0.65 + 0.2 * fastrand::f64(),
        }
    }

    /// When to look, if that is done `every` time that `interval` has passed, or a little earlier: at the same time for all
    /// who ask, but those who look less often, who then look with the others.
    pub(crate) fn next_look(&self, interval: Duration, every: u32) -> Instant {
        let step = interval
            .mul_f64(self.share)
            .max(Duration::from_millis(1))
            .as_nanos();
        let steps = self.origin.elapsed().as_nanos() / step;
        let every = u128::from(every.max(1));
        let nanos = u64::try_from((steps / every + 1) * every * step).unwrap_or(u64::MAX);
        self.origin + Duration::from_nanos(nanos)
    }

    async fn channel(&self, session: &Session) -> Result<(Channel, Open), AmqpError> {
        let mut kept = self.kept.lock().await;
        let usable = kept.take().filter(|kept| {
            let stuck = kept.open.load(Ordering::Relaxed) > 0 && kept.since.elapsed() > STUCK;
            kept.generation == session.generation
                && kept.channel.closed_reason().is_none()
                && !stuck
        });
        let mut shared = match usable {
            Some(shared) => shared,
            None => Kept {
                generation: session.generation,
                channel: session.connection.open_channel().await?,
                open: Arc::default(),
                since: Instant::now(),
            },
        };
        if shared.open.fetch_add(1, Ordering::Relaxed) == 0 {
            shared.since = Instant::now();
        }
        let shared = kept.insert(shared);
        Ok((shared.channel.clone(), Open(Arc::clone(&shared.open))))
    }

    /// Binds all again, and asks for all queues, with one write; the queues as they are.
    ///
    /// # Errors
    /// The first refusal, with which the channel is closed, or why the connection is gone.
    ///
    /// # Cancellation
    /// Safe: the answers are dropped.
    pub(crate) async fn ask(
        &self,
        session: &Session,
        spec: &SubscriptionSpec,
    ) -> Result<Vec<QueueInfo>, AmqpError> {
        let (channel, _open) = self.channel(session).await?;
        for consumer in &spec.consumers {
            for (exchange, key) in &consumer.bindings {
                let (queue, none) = (&consumer.queue.name, Table::new());
                channel.bind_unanswered(queue, &exchange.name, key, &none)?;
            }
        }
        let queues = spec.consumers.iter().map(|consumer| async {
            let look = passive(&consumer.queue.name);
            channel.queue_declare(&look).await
        });
        join_all(queues).await.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_look_at_the_same_times_and_those_who_look_less_often_with_the_others() {
        let desk = Desk::new();
        let interval = Duration::from_secs(5);
        let mut last: Option<Instant> = None;
        for _ in 0..20 {
            let next = desk.next_look(interval, 1);
            if let Some(last) = last {
                let wait = next - last;
                assert!(wait <= interval, "{wait:?}");
                assert!(wait >= interval.mul_f64(0.65), "{wait:?}");
            }
            let rare = desk.next_look(interval, 6);
            assert!(rare >= next && rare - Instant::now() <= 6 * interval);
            // A subscription that starts a little later looks with the others.
            tokio::time::sleep(interval / 10).await;
            assert_eq!(desk.next_look(interval, 6), rare);
            tokio::time::sleep_until(next).await;
            last = Some(next);
            if next == rare {
                let wait = desk.next_look(interval, 6) - rare;
                assert!(wait <= 6 * interval && wait > 3 * interval, "{wait:?}");
            }
        }
        assert_ne!(desk.share, Desk::new().share);
    }
}
