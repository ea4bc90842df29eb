//! Log records as notifications: a layer of `tracing` that publishes events (parity LH1, LH2).
//!
//! Whoever logs never waits: records go into a bounded queue, and a task gives them to the notifier. What this library
//! itself logs is left out, or telling one record would cause the next.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oslo_messaging_core::context::Context;
use oslo_messaging_core::notify::Notifier;
use oslo_messaging_proto::json::value::{Object, Value};
use oslo_messaging_proto::priority::Priority;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context as Within, Layer};

/// Records that wait for the notifier; more are dropped, and counted.
const WAITING: usize = 10_000;
/// Targets whose records are left out.
const OWN: &str = "oslo_messaging";
/// Our own records of the sink `log`.
const OWN_NOTES: &str = "oslo.messaging.notification";

/// What is published of a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All of it, as event `logrecord`.
    Record,
    /// The text of errors, as event `error_notification`.
    Errors,
}

/// Publishes what is logged.
///
/// Each event becomes a notification `logrecord` of its level's priority with the members of Python's log records:
/// `name` (the target), `levelno`, `levelname`, `pathname`, `lineno`, `msg`, `thread`, `process`, …, and `extra` with the
/// event's fields. Events of level `TRACE` have no priority and are left out.
///
/// ```
/// use oslo_messaging::memory::MemoryBroker;
/// use oslo_messaging::{NotificationLayer, Notifier};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let notifier = Notifier::builder(MemoryBroker::new().transport()).topic("logs").build()?;
/// let (layer, publisher) = NotificationLayer::new(notifier);
/// let subscriber = tracing_subscriber::registry().with(layer);
/// tracing::subscriber::with_default(subscriber, || tracing::warn!(disk = 3, "nearly full"));
/// assert_eq!(publisher.close(std::time::Duration::from_secs(5)).await, 0);
/// # Ok(())
/// # }
/// ```
pub struct NotificationLayer {
    form: Form,
    records: mpsc::Sender<(Priority, Value)>,
    dropped: Arc<AtomicU64>,
}

/// The task behind a [`NotificationLayer`]; it ends when the layer is gone, or with [`LogPublisher::close`].
///
/// ```
/// use oslo_messaging::memory::MemoryBroker;
/// use oslo_messaging::{NotificationLayer, Notifier};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> oslo_messaging::Result<()> {
/// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
/// let (layer, publisher) = NotificationLayer::errors(notifier);
/// drop(layer);
/// assert_eq!(publisher.dropped(), 0);
/// # Ok(())
/// # }
/// ```
pub struct LogPublisher {
    notifier: Notifier,
    dropped: Arc<AtomicU64>,
    end: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl NotificationLayer {
    /// A layer that publishes every record. Must be made within a Tokio runtime, which then runs its task.
    ///
    /// ```
    /// # use oslo_messaging::{NotificationLayer, Notifier, memory::MemoryBroker};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging::Result<()> {
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let (layer, publisher) = NotificationLayer::new(notifier);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(notifier: Notifier) -> (Self, LogPublisher) {
        Self::of(notifier, Form::Record)
    }

    /// A layer that publishes the text of each error as event `error_notification`, by publisher `error.publisher` unless
    /// the notifier has one.
    ///
    /// ```
    /// # use oslo_messaging::{NotificationLayer, Notifier, memory::MemoryBroker};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> oslo_messaging::Result<()> {
    /// let notifier = Notifier::builder(MemoryBroker::new().transport()).build()?;
    /// let (layer, publisher) = NotificationLayer::errors(notifier);
    /// # Ok(())
    /// # }
    /// ```
    pub fn errors(notifier: Notifier) -> (Self, LogPublisher) {
        let notifier = match notifier.publisher() {
            Some(_) => notifier,
            None => notifier.publisher_id("error.publisher"),
        };
        Self::of(notifier, Form::Errors)
    }

    fn of(notifier: Notifier, form: Form) -> (Self, LogPublisher) {
        let (records, waiting) = mpsc::channel(WAITING);
        let (end, ends) = mpsc::channel(1);
        let dropped = Arc::<AtomicU64>::default();
        let task = tokio::spawn(publish(notifier.clone(), form, waiting, ends));
        let publisher = LogPublisher {
            notifier,
            dropped: Arc::clone(&dropped),
            end,
            task,
        };
        let layer = Self {
            form,
            records,
            dropped,
        };
        (layer, publisher)
    }
}

impl LogPublisher {
    /// How many records were dropped, since they came faster than the notifier took them.
    ///
    /// ```
    /// # fn example(publisher: oslo_messaging::LogPublisher) {
    /// println!("{} records dropped", publisher.dropped());
    /// # }
    /// ```
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Publishes what waits and ends; tells how many records were dropped, or are lost since they were not on the bus
    /// after `limit`.
    ///
    /// # Cancellation
    /// What waits may be lost.
    ///
    /// ```no_run
    /// # async fn example(publisher: oslo_messaging::LogPublisher) {
    /// publisher.close(std::time::Duration::from_secs(5)).await;
    /// # }
    /// ```
    pub async fn close(mut self, limit: Duration) -> u64 {
        // An error means that the task has ended by itself.
        let _ = self.end.send(()).await;
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let left = self.notifier.flush(limit).await;
        self.dropped() + left as u64
    }
}

async fn publish(
    notifier: Notifier,
    form: Form,
    mut records: mpsc::Receiver<(Priority, Value)>,
    mut ends: mpsc::Receiver<()>,
) {
    let event_type = match form {
        Form::Record => "logrecord",
        Form::Errors => "error_notification",
    };
    loop {
        let next = tokio::select! {
            biased;
            next = records.recv() => next,
            _ = ends.recv() => {
                records.close();
                records.recv().await
            }
        };
        let Some((priority, payload)) = next else {
            return;
        };
        // It was logged once already, and the notifier counts what it does not take.
        let _ = notifier
            .notify(&Context::new(), priority, event_type, &payload)
            .await;
    }
}

impl<S: Subscriber> Layer<S> for NotificationLayer {
    fn on_event(&self, event: &Event<'_>, _: Within<'_, S>) {
        let about = event.metadata();
        if about.target().starts_with(OWN) || about.target().starts_with(OWN_NOTES) {
            return;
        }
        let Some((priority, name, number)) = level(*about.level()) else {
            return;
        };
        if self.form == Form::Errors && priority != Priority::Error {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut payload = Object::new();
        let mut add = |key: &str, value: Value| drop(payload.insert(key.to_owned(), value));
        if self.form == Form::Errors {
            add("error", Value::String(fields.message));
        } else {
            let thread = std::thread::current();
            add("name", Value::from(about.target()));
            add("levelno", Value::from(number));
            add("levelname", Value::from(name));
            add("exc_info", Value::Null);
            add("pathname", about.file().map_or(Value::Null, Value::from));
            add("lineno", about.line().map_or(Value::Null, Value::from));
            add("msg", Value::String(fields.message));
            add(
                "funcName",
                about.module_path().map_or(Value::Null, Value::from),
            );
            add("thread", thread.name().map_or(Value::Null, Value::from));
            add("processName", Value::Null);
            add("process", Value::from(std::process::id()));
            add("extra", Value::Object(fields.others));
        }
        let record = (priority, Value::Object(payload));
        if self.records.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Priority, and name and number of the level in Python.
fn level(level: Level) -> Option<(Priority, &'static str, u32)> {
    match level {
        Level::ERROR => Some((Priority::Error, "ERROR", 40)),
        Level::WARN => Some((Priority::Warn, "WARNING", 30)),
        Level::INFO => Some((Priority::Info, "INFO", 20)),
        Level::DEBUG => Some((Priority::Debug, "DEBUG", 10)),
        _ => None,
    }
}

/// The message of an event, and its other fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Object,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Value::String(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
}

impl fmt::Debug for NotificationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationLayer").finish_non_exhaustive()
    }
}

impl fmt::Debug for LogPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogPublisher")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use oslo_messaging_core::memory::MemoryBroker;
    use oslo_messaging_core::notify::TestSink;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn notifier(sink: &TestSink) -> Notifier {
        let builder = Notifier::builder(MemoryBroker::new().transport());
        builder.sink(sink.clone()).build().unwrap()
    }

    #[tokio::test]
    async fn a_log_record_becomes_a_notification_of_its_level_with_pythons_members() {
        let sink = TestSink::new();
        let (layer, publisher) = NotificationLayer::new(notifier(&sink));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "nova.compute", disk = 3_u64, host = "node-1", "nearly {}", "full");
            tracing::trace!(target: "nova.compute", "no priority");
            tracing::error!(target: "oslo_messaging_core::notify", "our own");
        });
        assert_eq!(publisher.close(LIMIT).await, 0);
        let told = sink.recorded();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].priority, told[0].note.event_type()),
            (Priority::Warn, Some("logrecord"))
        );
        let payload: Value = told[0].note.parse().unwrap();
        let text = |key: &str| payload.get(key).unwrap().to_string();
        assert_eq!(
            (text("name"), text("levelname"), text("levelno")),
            ("\"nova.compute\"".into(), "\"WARNING\"".into(), "30".into())
        );
        assert_eq!(text("msg"), "\"nearly full\"");
        assert_eq!(text("extra"), r#"{"disk": 3, "host": "node-1"}"#);
        assert!(text("pathname").contains("log_layer.rs"));
    }

    #[tokio::test]
    async fn errors_alone_are_published_by_their_text() {
        let sink = TestSink::new();
        let (layer, publisher) = NotificationLayer::errors(notifier(&sink));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "nova", "fine");
            tracing::error!(target: "nova", "broken");
        });
        assert_eq!(publisher.close(LIMIT).await, 0);
        let told = sink.recorded();
        assert_eq!(told.len(), 1);
        let note = &told[0].note;
        assert_eq!(
            (note.event_type(), note.publisher_id()),
            (Some("error_notification"), Some("error.publisher"))
        );
        assert_eq!(note.payload().as_str(), r#"{"error": "broken"}"#);
    }
}
