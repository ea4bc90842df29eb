//! What hooks see and change.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oslo_messaging_core::driver::BoxFuture;
use oslo_messaging_core::error::RemoteError;
use oslo_messaging_core::rpc::hook::{Outcome, RequestInfo};
use oslo_messaging_core::rpc::{Executor, Hook, IntoFailure, ReplyBody, RpcServer};
use oslo_messaging_proto::json::value::Value;
use tracing::Level;

use crate::endpoints::{Desk, Methods};
use crate::journal::Journal;
use crate::scripted::Scripted;
use crate::serving::{builder, call, class_and_message, request};

type Notes = Arc<Mutex<Vec<String>>>;

/// Notes what it sees, and misbehaves where a test wants it.
struct Watcher {
    name: &'static str,
    notes: Notes,
    panics: &'static str,
}

impl Watcher {
    fn new(name: &'static str, notes: &Notes) -> Self {
        Self {
            name,
            notes: Arc::clone(notes),
            panics: "",
        }
    }

    fn panicking(self, panics: &'static str) -> Self {
        Self { panics, ..self }
    }

    fn note(&self, what: &str) {
        self.notes
            .lock()
            .unwrap()
            .push(format!("{} {what}", self.name));
        assert!(
            self.panics.is_empty() || !what.starts_with(self.panics),
            "hook"
        );
    }
}

impl Hook for Watcher {
    fn before(&self, request: &RequestInfo<'_>) {
        self.note(&format!("before {}", request.method()));
    }

    fn run<'a>(
        &'a self,
        request: &'a RequestInfo<'a>,
        method: BoxFuture<'a, Result<ReplyBody, RemoteError>>,
    ) -> BoxFuture<'a, Result<ReplyBody, RemoteError>> {
        Box::pin(async move {
            self.note("run");
            if request.method() == "who" {
                return Err("not today".into_failure());
            }
            let ran = method.await;
            self.note("ran");
            ran
        })
    }

    fn after(&self, _: &RequestInfo<'_>, outcome: Outcome<'_>) {
        self.note(&match outcome {
            Outcome::Done(_) => "after done".to_owned(),
            Outcome::Failed(failure) => format!("after {}", failure.class()),
            _ => "after abandoned".to_owned(),
        });
    }
}

fn take(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut *notes.lock().unwrap())
}

async fn served(driver: &Arc<Scripted>, desk: &Arc<Desk>, hooks: [Watcher; 2]) -> RpcServer {
    driver.confirm_all();
    let [outer, inner] = hooks;
    builder(driver)
        .endpoint(Methods::new(desk))
        .hook(outer)
        .hook(Arc::new(inner))
        .start()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn hooks_nest_around_every_request_and_see_how_it_ended() {
    let (driver, desk, notes) = (Scripted::new(), Desk::new(), Notes::default());
    let hooks = [Watcher::new("a", &notes), Watcher::new("b", &notes)];
    let _server = served(&driver, &desk, hooks).await;
    for (method, after) in [
        ("echo", "done"),
        ("fail", "Exception"),
        ("boom", "RuntimeError"),
        ("nope", "NoSuchMethod"),
        ("unwritable", "TypeError"),
    ] {
        driver.deliver(call(method, method, ""));
        driver.next_sent().await;
        let before = ["a", "b"].map(|hook| format!("{hook} before {method}"));
        let run = ["a run", "b run", "b ran", "a ran"].map(str::to_owned);
        let after = ["b", "a"].map(|hook| format!("{hook} after {after}"));
        let wanted: Vec<String> = before.into_iter().chain(run).chain(after).collect();
        assert_eq!(take(&notes), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_can_answer_instead_of_the_method() {
    let (driver, desk, notes) = (Scripted::new(), Desk::new(), Notes::default());
    let hooks = [Watcher::new("a", &notes), Watcher::new("b", &notes)];
    let _server = served(&driver, &desk, hooks).await;
    driver.deliver(call("who", "m1", ""));
    let (_, _, message) = class_and_message(&driver.next_sent().await);
    assert_eq!((message.as_str(), desk.started()), ("not today", 0));
    assert_eq!(
        take(&notes),
        [
            "a before who",
            "b before who",
            "a run",
            "b after Exception",
            "a after Exception"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_before_or_around_a_request_fails_that_request_alone() {
    for (panics, wanted) in [
        (
            "before",
            vec!["a before echo", "b before echo", "a after RuntimeError"],
        ),
        (
            "run",
            vec![
                "a before echo",
                "b before echo",
                "a run",
                "b run",
                "a ran",
                "b after RuntimeError",
                "a after RuntimeError",
            ],
        ),
    ] {
        let (driver, desk, notes) = (Scripted::new(), Desk::new(), Notes::default());
        let hooks = [
            Watcher::new("a", &notes),
            Watcher::new("b", &notes).panicking(panics),
        ];
        let server = served(&driver, &desk, hooks).await;
        for n in 0..2 {
            driver.deliver(call("echo", &format!("m{n}"), ""));
            let (_, class, message) = class_and_message(&driver.next_sent().await);
            assert_eq!(
                (class.as_str(), message.as_str()),
                ("RuntimeError", "the handler panicked: hook")
            );
            assert_eq!(take(&notes), wanted);
        }
        assert_eq!((server.stats().failed, desk.started()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_after_a_request_changes_nothing_and_is_logged() {
    let journal = Journal::open();
    let (driver, desk, notes) = (Scripted::new(), Desk::new(), Notes::default());
    let hooks = [
        Watcher::new("a", &notes),
        Watcher::new("b", &notes).panicking("after"),
    ];
    let server = served(&driver, &desk, hooks).await;
    driver.deliver(call("echo", "m1", ""));
    let reply = driver.next_sent().await;
    assert_eq!(reply.message().get("failure"), Some(&Value::Null));
    assert_eq!(take(&notes).last().unwrap(), "a after done");
    assert_eq!(server.stats().served, 1);
    let lines = journal.lines("a hook panicked");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].level, Level::ERROR);
    assert!(lines[0].text.contains("hooks.rs"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cut_off_is_told_as_abandoned() {
    let (driver, desk, notes) = (Scripted::new(), Desk::new(), Notes::default());
    let hooks = [Watcher::new("a", &notes), Watcher::new("b", &notes)];
    let server = served(&driver, &desk, hooks).await;
    driver.deliver(call("hold", "m1", ""));
    desk.entered(1).await;
    take(&notes);
    server.stop_within(Duration::ZERO).await;
    assert_eq!(take(&notes), ["b after abandoned", "a after abandoned"]);
}

/// Keeps what it is told of a request.
#[derive(Default)]
struct Teller(Mutex<String>);

impl Hook for Teller {
    fn after(&self, request: &RequestInfo<'_>, _: Outcome<'_>) {
        let user = request.context().get::<String>("user").and_then(Result::ok);
        *self.0.lock().unwrap() = format!(
            "{} {} {:?} {:?} {:?} {} {user:?}",
            request.topic(),
            request.method(),
            request.namespace(),
            request.version(),
            request.msg_id(),
            request.is_call(),
        );
    }
}

#[tokio::test]
async fn hooks_are_told_what_was_asked_on_threads_too() {
    for executor in [Executor::Async, Executor::Threading] {
        let driver = Scripted::new();
        driver.confirm_all();
        let teller = Arc::new(Teller::default());
        let server = builder(&driver)
            .endpoint(Methods::new(&Desk::new()))
            .executor(executor)
            .hook(Arc::clone(&teller))
            .start()
            .await
            .unwrap();
        let more = r#""namespace": "n", "version": "1.7", "_context_user": "alice""#;
        driver.deliver(call("echo", "m1", more));
        driver.next_sent().await;
        assert_eq!(
            *teller.0.lock().unwrap(),
            r#"topic-a echo Some("n") Some("1.7") Some("m1") true Some("alice")"#
        );
        driver.deliver(request("echo", ""));
        while server.stats().served < 1 {
            tokio::task::yield_now().await;
        }
        server.stop().await;
        assert_eq!(
            *teller.0.lock().unwrap(),
            r#"topic-a echo None Some("1.0") None false None"#
        );
    }
}
