//! `omsg notify` and `omsg listen` on RabbitMQ, and what they say about words that do not fit.

use oslo_messaging_testkit::rabbit::vhost_or_skip;
use serde_json::{Value, json};

use crate::run::{end, omsg, run_at, run_beside};

fn records(out: &str) -> Vec<Value> {
    let record =
        |line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    out.lines().map(record).collect()
}

#[tokio::test]
async fn what_is_told_waits_for_a_listener_that_takes_it_and_a_look_takes_nothing() {
    let Some(vhost) = vhost_or_skip("cli_notify").await else {
        return;
    };
    let url = vhost.url();
    let words = [
        "notify",
        "notifications,audit",
        "compute.create",
        "{\"host\": \"nöde-1\"}",
        "-p",
        "error",
    ];
    let ended = run_beside(&url, &words).await;
    assert_eq!(
        (ended.status, ended.errors.as_str()),
        (Some(0), ""),
        "{}",
        ended.out
    );
    assert_eq!(
        ended.out,
        "sent compute.create to notifications, audit, priority error; the bus has taken it\n"
    );

    // A look of its own sees what comes from now on only, and leaves nothing behind.
    let words = ["listen", "notifications", "--for", "1", "--json"];
    let ended = run_beside(&url, &words).await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let told = records(&ended.out);
    assert_eq!(
        (&told[0]["event"], &told[1]["notifications"]),
        (&json!("ready"), &json!(0))
    );
    let queues = vhost.queues().await.expect("the broker answers");
    assert!(
        queues.iter().all(|queue| !queue.name.starts_with("omsg-")),
        "{queues:?}"
    );

    let words = [
        "listen",
        "notifications",
        "--take",
        "--count",
        "1",
        "--json",
    ];
    let told = records(&run_beside(&url, &words).await.out);
    assert_eq!(told[1]["event"], "notification");
    assert_eq!(told[1]["priority"], "error");
    assert_eq!(told[1]["event_type"], "compute.create");
    assert_eq!(told[1]["payload"], json!({"host": "nöde-1"}));
    assert_eq!(told[2]["notifications"], 1);
    let left = vhost
        .queue("notifications.error")
        .await
        .expect("the broker answers");
    assert_eq!(left.expect("the queue stays").messages, 0);
    vhost.delete().await.expect("the virtual host is deleted");
}

#[tokio::test]
async fn lines_become_notifications_and_filters_and_counts_choose_among_them() {
    let Some(vhost) = vhost_or_skip("cli_notify_lines").await else {
        return;
    };
    let url = vhost.url();
    let lines = "{\"state\": \"active\"}\n\n{\"state\": \"error\"}\n[1, 2]\n";
    let told = {
        let url = url.clone();
        let words = [
            "notify",
            "notifications",
            "vm.update",
            "-",
            "--publisher-id",
            "me",
        ];
        let task = move || {
            end(omsg(&words)
                .env("OSLO_TRANSPORT_URL", url)
                .write_stdin(lines))
        };
        tokio::task::spawn_blocking(task).await.expect("no panic")
    };
    assert_eq!((told.status, told.errors.as_str()), (Some(0), ""));
    assert!(
        told.out.starts_with("sent 3 × vm.update to notifications"),
        "{}",
        told.out
    );
    let words = [
        "listen",
        "notifications",
        "--take",
        "-p",
        "info",
        "--where",
        "state=err",
        "--count",
        "1",
    ];
    let heard = run_beside(&url, &words).await;
    assert_eq!((heard.status, heard.errors.as_str()), (Some(0), ""));
    assert!(
        heard
            .out
            .contains("info vm.update from me\n  {\"state\": \"error\"}\n"),
        "{}",
        heard.out
    );
    assert!(
        heard.out.contains("stopped after 1 notifications"),
        "{}",
        heard.out
    );
    assert!(!heard.out.contains('\x1b'), "no colours in a pipe");
    vhost.delete().await.expect("the virtual host is deleted");
}

#[test]
fn words_that_do_not_fit_are_wrong_usage() {
    for words in [
        &["notify", "t", "e", "1", "-p", "urgent"][..],
        &["notify", "t", "e", "@/no/such/file"],
        &["notify", "t", "", "1"],
        &["notify", "t", "e"],
        &["notify", "t", "e", "1", "--lines", "f"],
        &["listen", "t", "--event-type", "("],
        &["listen", "t", "--where", "state"],
        &["listen", "t", "--pool", "p", "--take"],
        &["listen"],
        &["listen", "t", "--since", "5"],
    ] {
        let ended = run_at("memory://", words);
        assert_eq!(
            ended.status,
            Some(2),
            "{words:?}: {}{}",
            ended.out,
            ended.errors
        );
    }
}
