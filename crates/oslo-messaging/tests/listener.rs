//! What a listener block that `#[listener]` printed gets and answers, over the bus in memory.

#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::Duration;

use oslo_messaging::memory::MemoryBroker;
use oslo_messaging::notify::{BatchNotificationEndpoint, NotificationEndpoint, RetryPolicy};
use oslo_messaging::proto::{NotificationId, Timestamp};
use oslo_messaging::{
    Context, Notification, NotificationListener, NotificationOutcome, NotificationResult, Notifier,
    Priority, Target, listener,
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Instance {
    uuid: String,
}

#[derive(Default)]
struct Audit {
    seen: Mutex<Vec<String>>,
}

impl Audit {
    fn note(&self, text: impl Into<String>) {
        self.seen.lock().unwrap().push(text.into());
    }
}

#[listener(
    event_type = r"compute\.",
    publisher_id = "api",
    context(user = "al"),
    metadata(message_id = "."),
    payload("uuid" = "i-")
)]
impl Audit {
    async fn info(&self, ctx: &Context, instance: Instance) {
        let user: String = ctx.get("user").unwrap().unwrap();
        self.note(format!("info {} {user}", instance.uuid));
    }

    #[on(error, critical)]
    fn trouble(&self, priority: Priority, note: &Notification) -> Result<(), String> {
        self.note(format!("{priority} {:?}", note.event_type()));
        Err("no".to_owned())
    }

    async fn warning(&self) -> NotificationResult {
        NotificationResult::Requeue
    }

    fn left_alone(&self) {}
}

fn note(payload: &str) -> Notification {
    let id = NotificationId::from_random(1);
    let mut context = Context::new();
    context.insert("user", "alice").unwrap();
    Notification::new(
        id,
        "compute.create",
        Priority::Info,
        Timestamp::from_unix_micros(0),
    )
    .with_publisher_id("api.node-1")
    .with_context(context)
    .with_raw_payload(oslo_messaging::RawJson::from_text(payload).unwrap())
}

#[tokio::test]
async fn handlers_get_what_their_parameters_ask_for_and_answer_in_kind() {
    let audit = Audit::default();
    audit.left_alone();
    let mut priorities = NotificationEndpoint::priorities(&audit);
    priorities.sort();
    assert_eq!(
        priorities,
        [
            Priority::Critical,
            Priority::Error,
            Priority::Info,
            Priority::Warn
        ]
    );
    let whole = note(r#"{"uuid": "i-1"}"#);
    assert_eq!(
        audit.handle(Priority::Info, &whole).await,
        NotificationOutcome::Handled
    );
    assert_eq!(
        audit.handle(Priority::Critical, &whole).await,
        NotificationOutcome::Failed("no".to_owned())
    );
    assert_eq!(
        audit.handle(Priority::Warn, &whole).await,
        NotificationOutcome::Requeue
    );
    assert_eq!(
        *audit.seen.lock().unwrap(),
        ["info i-1 alice", "critical Some(\"compute.create\")"]
    );
    let outcome = audit.handle(Priority::Info, &note("[]")).await;
    assert!(matches!(outcome, NotificationOutcome::Failed(why) if why.contains("payload")));
}

#[test]
fn the_attribute_is_the_filter() {
    let filter = NotificationEndpoint::filter(&Audit::default())
        .unwrap()
        .unwrap();
    assert!(filter.matches(&note(r#"{"uuid": "i-1"}"#)));
    assert!(!filter.matches(&note(r#"{"uuid": "x"}"#)));
    assert!(!filter.matches(&note(r#"{"uuid": "i-1"}"#).with_publisher_id("other")));
}

struct Store(Mutex<Vec<usize>>);

#[listener]
impl Store {
    async fn sample(&self, notes: &[Notification]) {
        self.0.lock().unwrap().push(notes.len());
    }
}

#[tokio::test]
async fn a_block_that_takes_lists_is_for_batches() {
    let store = std::sync::Arc::new(Store(Mutex::default()));
    assert!(BatchNotificationEndpoint::filter(&store).unwrap().is_none());
    let broker = MemoryBroker::new();
    let listening = NotificationListener::builder(broker.transport(), [Target::topic("metering")])
        .batch_endpoint(store.clone())
        .batch(2, None)
        .retry(RetryPolicy::new(2))
        .start()
        .await
        .unwrap();
    let notifier = Notifier::builder(broker.transport())
        .topic("metering")
        .build()
        .unwrap();
    for n in 0..4 {
        notifier.sample(&Context::new(), "cpu", &n).await.unwrap();
    }
    let done = async {
        while listening.stats().handled < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .unwrap();
    assert_eq!(*store.0.lock().unwrap(), [2, 2]);
    listening.stop().await;
}
