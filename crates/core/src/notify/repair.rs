//! What becomes of notifications that no endpoint could handle: other tries, and the place for those that failed them all
//! (wish 30).

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use oslo_messaging_proto::json::raw::RawJson;
use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::priority::Priority;
use oslo_messaging_proto::wire::notification::{Notification, NotificationFormat};
use oslo_messaging_proto::wire::timestamp::Timestamp;
use tokio::time::Instant;

use crate::driver::{Destination, Outgoing, Retry, deadline_after};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{notification_id, unique_id};
use crate::transport::Transport;

/// For so long a dead letter is offered to its bus before the notification is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The member of a dead letter that says why it is one.
pub(crate) const MEMBER: &str = "_dead_letter";
/// The event type of a dead letter whose original is no notification.
const UNREADABLE: &str = "oslo_messaging.unreadable";

/// How often a listener tries a notification itself before it gives it up, and how long it waits between.
///
/// While it waits, the notification stays unsettled on the bus: if the listener dies, another one gets it.
///
/// ```
/// use std::time::Duration;
/// use oslo_messaging_core::notify::RetryPolicy;
///
/// let policy = RetryPolicy::new(5).pauses(Duration::from_millis(100), Duration::from_secs(10));
/// assert_eq!(policy.attempts(), 5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    most: Duration,
}

impl RetryPolicy {
    /// So many attempts in all, at least one, with pauses from 0.5 s on, doubled each time, up to 30 s.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::notify::RetryPolicy::new(0).attempts(), 1);
    /// ```
    pub fn new(attempts: u32) -> Self {
        Self {
            attempts: NonZeroU32::new(attempts).unwrap_or(NonZeroU32::MIN).get(),
            first: Duration::from_millis(500),
            most: Duration::from_secs(30),
        }
    }

    /// Pauses from `first` on, doubled each time, up to `most`; the second half of each at random.
    ///
    /// ```
    /// use std::time::Duration;
    /// use oslo_messaging_core::notify::RetryPolicy;
    ///
    /// let policy = RetryPolicy::new(3).pauses(Duration::ZERO, Duration::ZERO);
    /// ```
    #[must_use]
    pub fn pauses(mut self, first: Duration, most: Duration) -> Self {
        (self.first, self.most) = (first, most);
        self
    }

    /// How many attempts there are in all.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::notify::RetryPolicy::new(2).attempts(), 2);
    /// ```
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The pause after so many attempts; `random` is from 0 to 1.
    pub(crate) fn pause(&self, failed: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(failed.saturating_sub(1).min(31));
        let pause = self.first.saturating_mul(doubled).min(self.most);
        pause.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

/// Where a listener puts what it gives up: a topic, on its own bus or on another one.
///
/// The original goes there as it was, under `<topic>.<priority>`, with one member more, `_dead_letter`: an object with
/// `reason`, `attempts`, `topics` of the listener, `pool` and `time`. Listeners of the reference ignore that member, and
/// the notification can be published again as it is. What cannot be read goes to `<topic>.error` as the payload's
/// `body` of an event `oslo_messaging.unreadable`.
///
/// ```
/// use oslo_messaging_core::notify::DeadLetter;
///
/// let dead = DeadLetter::topic("notifications_dead");
/// assert_eq!(dead.topic_name(), "notifications_dead");
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetter {
    topic: String,
    transport: Option<Transport>,
}

impl DeadLetter {
    /// A topic on the listener's own bus.
    ///
    /// ```
    /// let dead = oslo_messaging_core::notify::DeadLetter::topic("notifications_dead");
    /// ```
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            transport: None,
        }
    }

    /// The same topic on the bus of another transport.
    ///
    /// ```
    /// use oslo_messaging_core::{memory::MemoryBroker, notify::DeadLetter};
    ///
    /// let dead = DeadLetter::topic("dead").on(MemoryBroker::new().transport());
    /// ```
    #[must_use]
    pub fn on(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// The topic.
    ///
    /// ```
    /// assert_eq!(oslo_messaging_core::notify::DeadLetter::topic("dead").topic_name(), "dead");
    /// ```
    pub fn topic_name(&self) -> &str {
        &self.topic
    }
}

/// A dead-letter target in use by one listener.
pub(crate) struct Morgue {
    topic: String,
    transport: Transport,
    topics: Vec<String>,
    pool: Option<String>,
}

impl Morgue {
    /// For a listener of these topics and this pool on `own`.
    ///
    /// # Errors
    /// `Config` for a topic without a name or one the listener itself listens to, `Unsupported` for a bus without
    /// notifications.
    pub(crate) fn new(
        dead: DeadLetter,
        own: &Transport,
        topics: Vec<String>,
        pool: Option<String>,
    ) -> Result<Self> {
        if dead.topic.is_empty() {
            let text = "the topic for dead letters has no name";
            return Err(Error::new(ErrorKind::Config, text));
        }
        if dead.transport.is_none() && topics.contains(&dead.topic) {
            let text = "dead letters must not go to a topic the listener listens to";
            return Err(Error::new(ErrorKind::Config, text).with_topic(dead.topic));
        }
        let transport = dead.transport.unwrap_or_else(|| own.clone());
        transport.check_notifications()?;
        Ok(Self {
            topic: dead.topic,
            transport,
            topics,
            pool,
        })
    }

    /// Puts a notification away, with why.
    ///
    /// # Errors
    /// What the bus says; the notification is still to be settled then.
    pub(crate) async fn bury(
        &self,
        note: &Notification,
        priority: Priority,
        reason: &str,
        attempts: u32,
        now: SystemTime,
    ) -> Result<()> {
        let why = RawJson::from_value(&self.why(reason, attempts, now))?;
        let note = note.clone().with_extra(MEMBER, why);
        self.send(&note, priority).await
    }

    /// Puts away what is no notification.
    ///
    /// # Errors
    /// As [`Morgue::bury`].
    pub(crate) async fn bury_unreadable(
        &self,
        body: &Bytes,
        reason: &str,
        now: SystemTime,
    ) -> Result<()> {
        let mut payload = Object::new();
        let text = String::from_utf8_lossy(body).into_owned();
        payload.insert("body".to_owned(), Value::String(text));
        let why = RawJson::from_value(&self.why(reason, 0, now))?;
        let note = Notification::new(
            notification_id(),
            UNREADABLE,
            Priority::Error,
            timestamp(now),
        )
        .with_payload(&Value::Object(payload))?
        .with_extra(MEMBER, why);
        self.send(&note, Priority::Error).await
    }

    async fn send(&self, note: &Notification, priority: Priority) -> Result<()> {
        let form = self.transport.capabilities().context;
        let body = note.encode(NotificationFormat::V2, form, unique_id());
        let topic = format!("{}.{priority}", self.topic);
        let destination = Destination::Notification {
            exchange: None,
            topic: &topic,
        };
        let mut message = Outgoing::new(destination, body);
        message.deadline = Some(deadline_after(Instant::now(), PATIENCE));
        message.retry = Retry::Forever;
        self.transport.driver().send(message).await
    }

    fn why(&self, reason: &str, attempts: u32, now: SystemTime) -> Value {
        let mut why = Object::new();
        let mut add = |name: &str, value: Value| drop(why.insert(name.to_owned(), value));
        add("reason", Value::from(reason));
        add("attempts", Value::from(attempts));
        let topics = self.topics.iter().map(|topic| Value::from(topic.as_str()));
        add("topics", Value::Array(topics.collect()));
        add(
            "pool",
            self.pool.as_deref().map_or(Value::Null, Value::from),
        );
        add("time", Value::from(timestamp(now).to_string()));
        Value::Object(why)
    }
}

fn timestamp(now: SystemTime) -> Timestamp {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most() {
        let second = Duration::from_secs(1);
        let policy = RetryPolicy::new(9).pauses(second, 5 * second);
        let pauses = [1, 2, 3, 4, u32::MAX].map(|failed| policy.pause(failed, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        assert_eq!(policy.pause(1, 0.0), second / 2);
    }
}
