//! What routing files mean, and what becomes of files that mean nothing.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use oslo_messaging_proto::wire::notification::{Notification, NotificationId};
use oslo_messaging_proto::wire::timestamp::Timestamp;
use tokio::time::timeout;

use super::*;
use crate::driver::Retry;
use crate::notify::sink::TestSink;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("oslo-messaging-routing-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.0.join("routing.yaml");
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn post(sink: &RoutingSink, event_type: &str, priority: Priority) {
    let id = NotificationId::from_random(0);
    let note = Notification::new(id, event_type, priority, Timestamp::from_unix_micros(0));
    let topics = ["notifications".to_owned()];
    let posting = Posting {
        note: &note,
        priority,
        topics: &topics,
        retry: Retry::Never,
        deadline: Instant::now(),
        confirm: false,
    };
    sink.post(posting).await.unwrap();
}

fn taken(sink: &TestSink) -> Vec<(String, String, Vec<String>)> {
    let all = sink.recorded();
    sink.reset();
    all.into_iter()
        .map(|one| {
            let event = one.note.event_type().unwrap().to_owned();
            (event, one.priority.to_string(), one.topics)
        })
        .collect()
}

#[tokio::test]
async fn rules_of_a_sink_must_all_be_met_and_any_group_will_do() {
    let folder = Folder::new();
    let file = folder.file(
        "one:\n  a: {accepted_events: ['compute.*', 'volume.create'], accepted_priorities: [INFO, err*]}\n  b:\n\
         two:\n  a: {accepted_priorities: [critical]}\nempty:\n",
    );
    let (a, b) = (TestSink::new(), TestSink::new());
    let sink = RoutingSink::builder(file)
        .target("a", a.clone())
        .target("b", b.clone())
        .build()
        .unwrap();
    let cases = [
        ("compute.x", Priority::Info, 1),
        ("compute.x", Priority::Error, 1),
        ("compute.x", Priority::Warn, 0),
        ("volume.create", Priority::Info, 1),
        ("volume.create.end", Priority::Info, 0),
        ("volume.delete", Priority::Critical, 1),
        // Two groups name it, and it gets it once.
        ("compute.x", Priority::Critical, 1),
    ];
    for (event, priority, expected) in cases {
        post(&sink, event, priority).await;
        assert_eq!(taken(&a).len(), expected, "{event} {priority}");
        assert_eq!(taken(&b).len(), 1, "a sink without rules gets all");
    }
}

#[tokio::test]
async fn topics_of_a_route_stand_in_for_the_notifiers_and_are_joined_over_groups() {
    let folder = Folder::new();
    let file = folder.file(
        "one: {a: {accepted_events: ['x*'], topics: [audit, billing]}}\ntwo: {a: {accepted_events: ['xy*']}}\n",
    );
    let a = TestSink::new();
    let sink = RoutingSink::builder(file)
        .target("a", a.clone())
        .build()
        .unwrap();
    post(&sink, "x", Priority::Info).await;
    assert_eq!(taken(&a)[0].2, ["audit", "billing"]);
    post(&sink, "xy", Priority::Info).await;
    assert_eq!(taken(&a)[0].2, ["audit", "billing", "notifications"]);
}

#[test]
fn files_that_cannot_work_are_refused_with_what_is_wrong() {
    let folder = Folder::new();
    let refused = |text: &str| {
        let file = folder.file(text);
        let builder = RoutingSink::builder(file).target("log", TestSink::new());
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refused("g: {rpc: {}}").contains("which is no sink here; there are log"));
    assert!(refused("g: {log: {accepted_event: ['*']}}").contains("accepted_event"));
    assert!(refused("g: [log]").contains("not of the form"));
    assert!(refused("g: {log: ").contains("not of the form"));
    for empty in ["", "{}", "# nothing\n", "g:\n"] {
        let file = folder.file(empty);
        assert!(RoutingSink::builder(file).build().is_ok(), "{empty}");
    }
}

#[tokio::test]
async fn a_file_that_changed_is_read_again_and_a_broken_one_changes_nothing() {
    let folder = Folder::new();
    let file = folder.file("g: {a: {accepted_events: [old]}}");
    let a = TestSink::new();
    let sink = RoutingSink::builder(&file)
        .target("a", a.clone())
        .build()
        .unwrap();
    folder.file("g: {a: {accepted_events: [brandnew]}}");
    let reads_it = async {
        while taken(&a).is_empty() {
            post(&sink, "brandnew", Priority::Info).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), reads_it).await.unwrap();
    folder.file("g: {nobody: {}}");
    assert_eq!(sink.reload().await.unwrap_err().kind(), ErrorKind::Config);
    post(&sink, "brandnew", Priority::Info).await;
    assert_eq!(taken(&a).len(), 1, "the former rules are in force");
    folder.file("g: {a: {accepted_events: [newest]}}");
    sink.reload().await.unwrap();
    post(&sink, "brandnew", Priority::Info).await;
    assert!(taken(&a).is_empty());
}
