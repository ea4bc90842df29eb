//! All commands together on RabbitMQ.

use std::io::Write;
use std::time::{Duration, Instant};

use oslo_messaging_testkit::rabbit::vhost_or_skip;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::run::{Server, run_at, run_beside};

fn record(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|fault| panic!("{line}: {fault}"))
}

fn file(suffix: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new()
        .suffix(suffix)
        .tempfile()
        .expect("a temporary file");
    file.write_all(text.as_bytes())
        .expect("room for a few lines");
    file
}

const YAML: &str = "
get_host: {result: {name: nöde-1, up: true}}
find_node:
  error: {class: NodeNotFound, module: nova.exception, message: no such nöde, kwargs: {node: n7}}
slow: {delay: 30, result: late}
brief: {delay: 1, result: in time}
";

const JSON: &str = r#"{"get_host": {"result": {"name": "nöde-1", "up": true}},
    "find_node": {"error": {"class": "NodeNotFound", "module": "nova.exception", "message": "no such nöde",
                            "kwargs": {"node": "n7"}}},
    "slow": {"delay": 30, "result": "late"}}"#;

#[tokio::test]
async fn an_echo_server_answers_calls_and_tells_of_each() {
    let Some(vhost) = vhost_or_skip("cli_echo").await else {
        return;
    };
    let url = vhost.url();
    let mut server = Server::start(&url, &["echo", "--server", "node-1", "--json"]).await;

    let words = [
        "call",
        "echo",
        "hello",
        "n=12345678901234567890123",
        "x=1.10",
        "s=Zoë",
        "o={\"a\": [null]}",
    ];
    let ended = run_beside(&url, &words).await;
    assert_eq!((ended.status, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(
        ended.out,
        "{\"n\": 12345678901234567890123, \"x\": 1.10, \"s\": \"Zoë\", \"o\": {\"a\": [null]}}\n"
    );
    let request = record(&server.line().await);
    assert_eq!(request["kind"], "call");
    assert_eq!(request["method"], "hello");
    assert_eq!(request["args"], json!({"n": 23, "x": 4, "s": 10, "o": 13}));
    assert_eq!(request["outcome"], "result");

    let ended = run_beside(
        &url,
        &[
            "--json", "call", "echo", "hello", "a=1", "--server", "node-1",
        ],
    )
    .await;
    assert_eq!(ended.out, "{\"result\": {\"a\": 1}}\n");
    server.line().await;

    let ended = run_beside(&url, &["call", "echo", "no_method"]).await;
    assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""));
    assert!(
        ended
            .errors
            .contains("NoSuchMethod (module oslo_messaging.rpc.dispatcher)"),
        "{}",
        ended.errors
    );
    assert_eq!(record(&server.line().await)["class"], "NoSuchMethod");

    let lines = server.stop().await;
    assert_eq!(record(lines.last().expect("a last word"))["served"], 3);
}

#[tokio::test]
async fn casts_reach_one_server_or_all() {
    let Some(vhost) = vhost_or_skip("cli_cast").await else {
        return;
    };
    let url = vhost.url();
    let mut one = Server::start(&url, &["notes", "--server", "one"]).await;
    let mut two = Server::start(&url, &["notes", "--server", "two"]).await;

    let ended = run_beside(
        &url,
        &[
            "cast",
            "notes",
            "to_one",
            "text=hi",
            "--server",
            "one",
            "--mandatory",
        ],
    )
    .await;
    assert_eq!((ended.status, ended.errors.as_str()), (Some(0), ""));
    assert_eq!(
        ended.out,
        "sent to_one to server one of notes; the bus has taken it\n"
    );
    let line = one.line().await;
    assert!(line.contains("cast  to_one(text 4 B)"), "{line}");

    let ended = run_beside(&url, &["--json", "cast", "notes", "to_all", "--fanout"]).await;
    assert_eq!(
        ended.records(),
        [json!({"event": "sent", "topic": "notes", "fanout": true, "method": "to_all"})]
    );
    assert!(one.line().await.contains("to_all()"));
    assert!(two.line().await.contains("to_all()"));
    one.stop().await;
    assert!(
        two.stop()
            .await
            .iter()
            .any(|line| line == "stopped after 1 requests")
    );
}

#[tokio::test]
async fn pings_tell_who_lives_with_the_ping_endpoint_on_or_off() {
    let Some(vhost) = vhost_or_skip("cli_ping").await else {
        return;
    };
    let url = vhost.url();
    let on = Server::start(&url, &["compute", "--server", "node-1.example.org"]).await;
    let off = Server::start(&url, &["storage", "--server", "node-2", "--no-ping"]).await;

    let ended = run_beside(
        &url,
        &[
            "--json",
            "ping",
            "compute.node-1.example.org",
            "-c",
            "2",
            "-i",
            "0",
        ],
    )
    .await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let records = ended.records();
    assert_eq!(
        (&records[1]["answer"], &records[1]["number"]),
        (&json!("pong"), &json!(2))
    );
    assert!(records[1]["ms"].as_f64() > Some(0.0), "{records:?}");
    assert_eq!(
        (&records[2]["sent"], &records[2]["answered"]),
        (&json!(2), &json!(2))
    );

    let ended = run_beside(&url, &["ping", "storage", "-c", "1"]).await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    assert!(
        ended.out.contains("alive") && ended.out.contains("ping endpoint is off"),
        "{}",
        ended.out
    );

    let ended = run_beside(
        &url,
        &["ping", "storage.node-3", "-c", "1", "--timeout", "1"],
    )
    .await;
    assert_eq!(ended.status, Some(3), "{ended:?}");
    assert!(ended.out.contains("0 of 1 answered"), "{}", ended.out);
    on.stop().await;
    off.stop().await;
}

#[tokio::test]
async fn canned_answers_come_from_yaml_and_json() {
    let Some(vhost) = vhost_or_skip("cli_answers").await else {
        return;
    };
    let url = vhost.url();
    for (topic, file) in [("yaml", file(".yaml", YAML)), ("json", file(".json", JSON))] {
        let path = file.path().to_str().expect("a plain path");
        let words = [
            topic,
            "--server",
            "s",
            "--answers",
            path,
            "--namespace",
            "canned",
            "--version",
            "1.2",
        ];
        let server = Server::start(&url, &words).await;
        let call = async |method: &str, more: &[&str]| {
            let words = [
                &[
                    "call",
                    topic,
                    method,
                    "--namespace",
                    "canned",
                    "--version",
                    "1.1",
                ],
                more,
            ]
            .concat();
            run_beside(&url, &words).await
        };

        let ended = call("get_host", &["host=any"]).await;
        assert_eq!(
            (ended.status, ended.out.as_str()),
            (Some(0), "{\"name\": \"nöde-1\", \"up\": true}\n")
        );

        let ended = call("find_node", &[]).await;
        assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""));
        assert!(
            ended
                .errors
                .starts_with("error: NodeNotFound (module nova.exception): no such nöde\n"),
            "{}",
            ended.errors
        );

        let ended = call("find_node", &["--json"]).await;
        let problem = record(&ended.errors);
        assert_eq!(
            (&problem["exit"], &problem["kind"]),
            (&json!(1), &json!("remote error"))
        );
        let remote = &problem["remote"];
        assert_eq!(
            (&remote["class"], &remote["module"]),
            (&json!("NodeNotFound"), &json!("nova.exception"))
        );
        assert_eq!(
            (&remote["args"], &remote["kwargs"]),
            (&json!(["no such nöde"]), &json!({"node": "n7"}))
        );

        let started = Instant::now();
        assert_eq!(call("slow", &["--timeout", "1"]).await.status, Some(3));
        assert!(started.elapsed() < Duration::from_secs(20));

        assert_eq!(call("unknown", &[]).await.status, Some(1));
        let other = run_beside(
            &url,
            &[
                "call",
                topic,
                "get_host",
                "--namespace",
                "canned",
                "--version",
                "1.3",
            ],
        )
        .await;
        assert!(
            other.status == Some(1) && other.errors.contains("UnsupportedVersion"),
            "{other:?}"
        );
        drop(server);
    }
}

#[tokio::test]
async fn the_first_signal_lets_requests_finish() {
    let Some(vhost) = vhost_or_skip("cli_drain").await else {
        return;
    };
    let url = vhost.url();
    let answers = file(".yaml", YAML);
    let path = answers.path().to_str().expect("a plain path");
    let mut server = Server::start(&url, &["drain", "--server", "s", "--answers", path]).await;
    let (ended, ()) = tokio::join!(run_beside(&url, &["call", "drain", "brief"]), async {
        server.begun().await;
        server.signal(Signal::INT).expect("the server runs");
    });
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), "\"in time\"\n"),
        "{}",
        ended.errors
    );
    let (status, lines) = server.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("SIGINT: stopping")),
        "{lines:?}"
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some("stopped after 1 requests")
    );
}

#[tokio::test]
async fn a_server_ends_when_nobody_reads_it_any_more() {
    let Some(vhost) = vhost_or_skip("cli_hang_up").await else {
        return;
    };
    let url = vhost.url();
    let server = Server::start(&url, &["hang_up", "--server", "s"]).await;
    let call = async {
        let ended = run_beside(&url, &["call", "hang_up", "echo", "a=1"]).await;
        assert_eq!(
            (ended.status, ended.out.as_str()),
            (Some(0), "{\"a\": 1}\n"),
            "{}",
            ended.errors
        );
    };
    server.hang_up(call).await;
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_keep_signals_away() {
    let Some(vhost) = vhost_or_skip("cli_stuck_reader").await else {
        return;
    };
    let url = vhost.url();
    let mut server = Server::start(&url, &["stuck", "--server", "s"]).await;
    // More than a pipe and its reader's buffer hold.
    let method = "m".repeat(20_000);
    for _ in 0..8 {
        let ended = run_beside(&url, &["cast", "stuck", &method]).await;
        assert_eq!(ended.status, Some(0), "{}", ended.errors);
        server.begun().await;
    }
    server.signal(Signal::TERM).expect("the server runs");
    server.signal(Signal::INT).expect("the server runs");
    assert_eq!(server.end_unread().await.code(), Some(1));
}

#[tokio::test]
async fn the_second_signal_ends_at_once() {
    let Some(vhost) = vhost_or_skip("cli_hard_stop").await else {
        return;
    };
    let url = vhost.url();
    let answers = file(".yaml", YAML);
    let path = answers.path().to_str().expect("a plain path");
    let mut server = Server::start(&url, &["hard", "--server", "s", "--answers", path]).await;
    assert_eq!(
        run_beside(&url, &["cast", "hard", "slow"]).await.status,
        Some(0)
    );
    server.begun().await;
    let started = Instant::now();
    server.signal(Signal::TERM).expect("the server runs");
    assert!(server.line().await.starts_with("SIGTERM: stopping"));
    server.signal(Signal::TERM).expect("the server runs");
    let (status, lines, errors) = server.end_with_errors().await;
    assert_eq!(status.code(), Some(1));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(
        errors.contains("error: SIGTERM: the second signal; what was running is abandoned"),
        "{errors}"
    );
    assert_eq!(lines, Vec::<String>::new(), "nothing was served");
}

#[tokio::test]
async fn the_demo_works_and_leaves_nothing_behind_that_does_not_expire() {
    let Some(vhost) = vhost_or_skip("cli_demo").await else {
        return;
    };
    let ended = run_beside(&vhost.url(), &["demo", "--load", "0.8"]).await;
    assert_eq!(
        (ended.status, ended.errors.as_str()),
        (Some(0), ""),
        "{}",
        ended.out
    );
    assert!(
        ended.out.ends_with("All 7 steps worked.\n"),
        "{}",
        ended.out
    );
    for queue in vhost.queues().await.expect("the broker answers") {
        let expires = queue.arguments["x-expires"].as_u64();
        assert!(
            queue.name.starts_with("reply_") && expires <= Some(60_000) && expires.is_some(),
            "{queue:?}"
        );
    }
    let left: Vec<String> = vhost
        .exchanges()
        .await
        .expect("the broker answers")
        .into_iter()
        .map(|exchange| exchange.name)
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_without_the_password() {
    let Some(vhost) = vhost_or_skip("cli_refused").await else {
        return;
    };
    let port = vhost.broker().port();
    for url in [
        format!("rabbit://guest:s3cret@127.0.0.1:{port}/{}", vhost.name()),
        vhost.broker().url("no-such-vhost"),
    ] {
        let ended = run_beside(&url, &["call", "t", "m", "--timeout", "20"]).await;
        assert_eq!(
            (ended.status, ended.out.as_str()),
            (Some(1), ""),
            "{}",
            ended.errors
        );
        assert!(
            ended.errors.contains("access refused") && ended.errors.contains("hint"),
            "{}",
            ended.errors
        );
        assert!(
            !ended.errors.contains("s3cret") && !ended.errors.contains("guest:guest"),
            "{}",
            ended.errors
        );
    }
    let ended = run_at(&vhost.url(), &["cast", "nobody", "hello", "--mandatory"]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(1), ""),
        "{}",
        ended.errors
    );
    assert!(ended.errors.contains("undeliverable"), "{}", ended.errors);
}
