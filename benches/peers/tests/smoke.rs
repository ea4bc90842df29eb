//! Every peer speaks the same wire, and the program refuses to run where it cannot.
//!
//! Needs what `with-services` sets; without it the tests that need it say so and pass, as those of the project do.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bench-peers");

/// A peer's process; killed when dropped.
struct Player {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Player {
    fn start(peer: &str, role: &str, topic: &str) -> Self {
        let part = json!({"topic": topic, "servers": 1, "query": ""}).to_string();
        let mut command = if peer == "python" {
            let mut command = Command::new(std::env::var("OSLO_TEST_PYTHON").unwrap());
            command
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peer.py"))
                .args([role, &part]);
            command
        } else {
            let mut command = Command::new(PROGRAM);
            command.args(["peer", peer, role, &part]);
            command
        };
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut player = Self {
            process,
            input,
            output,
        };
        assert_eq!(player.answer()["is"], "ready", "{peer} {role}");
        player
    }

    fn ask(&mut self, order: &Value) -> Value {
        writeln!(self.input, "{order}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|fault| panic!("{line:?}: {fault}"))
    }
}

/// Whether there is a broker and a Python; one line tells when not.
fn services(test: &str) -> bool {
    let there = ["OSLO_TEST_RABBIT_URL", "OSLO_TEST_PYTHON"]
        .iter()
        .all(|name| std::env::var_os(name).is_some());
    assert!(
        there || std::env::var_os("OSLO_TEST_REQUIRE_SERVICES").is_none(),
        "{test} needs services"
    );
    if !there {
        eprintln!("skipped: {test}: no broker or no Python");
    }
    there
}

fn topic(name: &str) -> String {
    format!("smoke-{}-{name}", std::process::id())
}

#[test]
fn every_client_calls_the_server_of_another_peer() {
    if !services("every_client_calls_the_server_of_another_peer") {
        return;
    }
    let pairs = [
        ("python", "lapin"),
        ("lapin", "ours"),
        ("ours", "amqprs"),
        ("amqprs", "ours-1"),
        ("ours-1", "python"),
    ];
    for (client, server) in pairs {
        let topic = topic(server);
        let mut serving = Player::start(server, "server", &topic);
        let mut calling = Player::start(client, "client", &topic);
        for (what, bytes) in [("call", 100), ("cast", 100), ("call", 1 << 20)] {
            let done = calling.ask(
                &json!({"do": "burst", "what": what, "callers": 4, "bytes": bytes, "count": 8}),
            );
            assert_eq!(
                (&done["operations"], &done["failed"]),
                (&json!(8), &json!(0)),
                "{client} to {server}: {done}"
            );
        }
        let served = serving.ask(&json!({"do": "await", "count": 24, "limit": 60.0}));
        assert_eq!(served["served"], 24, "{client} to {server}: {served}");
    }
}

#[test]
fn every_listener_drains_what_python_and_we_have_sent() {
    if !services("every_listener_drains_what_python_and_we_have_sent") {
        return;
    }
    for listener in ["python", "lapin", "amqprs", "ours"] {
        let topic = topic(&format!("notes-{listener}"));
        for (notifier, what) in [
            ("python", "notify"),
            ("ours", "notify"),
            ("ours", "notify_buffered"),
        ] {
            let order =
                json!({"do": "burst", "what": what, "callers": 2, "bytes": 100, "count": 10});
            let done = Player::start(notifier, "client", &topic).ask(&order);
            assert_eq!(
                (&done["operations"], &done["failed"]),
                (&json!(10), &json!(0)),
                "{notifier}: {done}"
            );
        }
        let done = Player::start(listener, "listener", &topic)
            .ask(&json!({"do": "drain", "count": 30, "limit": 60.0}));
        assert_eq!(done["operations"], 30, "{listener}: {done}");
    }
}

#[test]
fn it_refuses_to_run_without_a_broker_and_says_what_to_do() {
    let output = Command::new(PROGRAM)
        .env_remove("OSLO_TEST_RABBIT_URL")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("scripts/bench-peers"), "{words}");
}
