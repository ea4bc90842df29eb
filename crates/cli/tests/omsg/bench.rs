//! `omsg bench`: what it prints, saves and compares; on memory and with servers of its own on RabbitMQ.

use std::fs;

use oslo_messaging_testkit::python::{Call, peer_or_skip};
use oslo_messaging_testkit::rabbit::vhost::Vhost;
use oslo_messaging_testkit::rabbit::vhost_or_skip;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::run::{Ended, Server, run, run_beside};

/// Short, for what a level does does not depend on how long it does it.
const QUICK: [&str; 8] = [
    "--duration",
    "0.2",
    "--warm-up",
    "0.05",
    "--rounds",
    "3",
    "--callers",
    "2",
];

fn bench(words: &[&str]) -> Ended {
    run(&[&["--url", "memory://", "bench"], words, &QUICK].concat())
}

#[test]
fn every_kind_of_message_is_measured_and_shown_in_eighty_columns() {
    for what in ["call", "cast", "fanout"] {
        let ended = bench(&[what, "--servers", "3", "--size", "100,4K", "--rate", "500"]);
        assert_eq!(
            (ended.status, ended.errors.as_str()),
            (Some(0), ""),
            "{}",
            ended.out
        );
        for row in [format!("{what} 100 B × 2"), format!("{what} 4K × 2")] {
            assert!(ended.out.contains(&row), "{row}: {}", ended.out);
        }
        assert!(
            ended.out.lines().all(|line| line.chars().count() <= 80),
            "{}",
            ended.out
        );
    }
}

#[test]
fn notifications_are_measured_as_they_are_sent_and_as_they_are_taken() {
    for (words, row) in [
        (&["notify", "--callers", "2"][..], "notify 100 B × 2"),
        (
            &["notify", "--callers", "2", "--buffered"],
            "notify buffered 100 B × 2",
        ),
        (
            &["notify", "--callers", "2", "--held", "--rate", "500"],
            "notify held 100 B × 2",
        ),
        (
            &["listen", "--callers", "2", "--live", "--rate", "500"],
            "listen live 100 B × 2",
        ),
        (&["listen", "--messages", "2000"], "listen 100 B × 1"),
        (
            &[
                "listen",
                "--messages",
                "2000",
                "--batch",
                "50",
                "--servers",
                "2",
            ],
            "listen batch 50 100 B × 2",
        ),
    ] {
        let times = ["--warm-up", "0.05", "--rounds", "2"];
        let long = ["--duration", "0.2"];
        let long = match words.contains(&"--messages") {
            true => &[][..],
            false => &long,
        };
        let ended = run(&[&["--url", "memory://", "bench"], words, &times, long].concat());
        assert_eq!(
            (ended.status, ended.errors.as_str()),
            (Some(0), ""),
            "{}",
            ended.out
        );
        // A long title takes two lines of its column.
        let title: String = ended
            .out
            .lines()
            .filter_map(|line| line.strip_prefix('│')?.split('┆').next())
            .map(|cell| format!("{} ", cell.trim()))
            .collect();
        assert_eq!(title.trim(), format!("load {row}"), "{}", ended.out);
        assert!(
            ended.out.lines().all(|line| line.chars().count() <= 80),
            "{}",
            ended.out
        );
    }
}

#[test]
fn a_number_of_messages_ends_a_level_when_each_caller_has_sent_them() {
    let words = [
        "--url",
        "memory://",
        "bench",
        "call",
        "--callers",
        "3",
        "--messages",
        "7",
        "--rounds",
        "2",
        "--warm-up",
        "0",
        "--pause",
        "0.001",
        "--json",
    ];
    let ended = run(&words);
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let level = &ended.records()[0];
    for round in level["rounds"].as_array().expect("rounds") {
        assert_eq!(round["operations"], 21, "{round}");
        assert!(round["seconds"].as_f64() > Some(0.006), "{round}");
    }
}

#[test]
fn a_saved_run_has_the_simulators_fields_and_can_be_compared_with() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("run.json");
    let name = file.to_str().expect("a name in UTF-8");
    let ended = bench(&["call", "--size", "simulator", "--save", name]);
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("it was saved")).expect("JSON");
    let summary = &saved["summary"];
    for series in ["client", "round_trip"] {
        for field in [
            "count",
            "size",
            "duration",
            "count_p_s",
            "size_p_s",
            "start",
            "end",
        ] {
            assert!(
                summary[series][field]
                    .as_f64()
                    .is_some_and(|value| value > 0.0),
                "{series} {field}: {summary}"
            );
        }
    }
    assert!(
        summary["round_trip"]["max_latency"].as_f64()
            >= summary["round_trip"]["min_latency"].as_f64()
    );
    assert_eq!(summary["error"]["count"], 0);
    let points = saved["series"]["round_trip_0"]
        .as_array()
        .expect("a series");
    let busy = points
        .iter()
        .find(|point| point["count"].as_u64() > Some(0));
    assert!(busy.is_some_and(|point| point["latency"].is_f64() && point["seq"].is_u64()));
    let mean = summary["client"]["size"].as_f64().expect("a size")
        / summary["client"]["count"].as_f64().expect("a count");
    assert!((2_000.0..5_000.0).contains(&mean), "mean size {mean}");
    let rounds = saved["omsg"]["levels"][0]["rounds"]
        .as_array()
        .expect("rounds");
    assert_eq!(rounds.len(), 3);
    assert!(
        rounds
            .iter()
            .all(|round| round["operations"].as_u64() > Some(0)
                && round["served"].as_u64() > Some(0))
    );

    // Against a run a million times faster than this one, every figure of time is worse; against a slower one, better. On a
    // busy machine a call that had to wait for a processor takes a thousand times as long as others.
    let scaled = |factor: f64| {
        let mut other = saved.clone();
        for round in other["omsg"]["levels"][0]["rounds"]
            .as_array_mut()
            .expect("rounds")
        {
            for (field, power) in [
                ("rate", 1),
                ("p50_us", -1),
                ("p99_us", -1),
                ("client_cpu_us", -1),
            ] {
                round[field] = json!(round[field].as_f64().expect("a figure") * factor.powi(power));
            }
        }
        fs::write(&file, other.to_string()).expect("room for a run");
        let ended = bench(&["call", "--size", "simulator", "--json", "--compare", name]);
        let records = ended.records();
        let verdicts = records
            .iter()
            .filter(|record| record["event"] == "comparison");
        let verdicts: Vec<String> = verdicts
            .map(|record| record["verdict"].to_string())
            .collect();
        (ended.status, verdicts)
    };
    assert_eq!(scaled(1e6), (Some(1), vec!["\"worse\"".to_owned(); 4]));
    assert_eq!(scaled(1e-6), (Some(0), vec!["\"better\"".to_owned(); 4]));
}

#[test]
fn a_saved_run_can_be_repeated_as_it_was_and_two_of_them_compared_without_a_third() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (older, newer) = (path("older.json"), path("newer.json"));
    let words = ["cast", "--size", "64,2K", "--servers", "2", "--rate", "400"];
    let ended = bench(&[&words[..], &["--save", &older]].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let again = [
        "--url",
        "memory://",
        "bench",
        "--compare",
        &older,
        "--save",
        &newer,
        "--json",
    ];
    let ended = run(&again);
    // Noise may make a figure worse.
    assert!(matches!(ended.status, Some(0 | 1)), "{}", ended.errors);
    let saved = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(name).expect("it was saved")).expect("JSON")
    };
    let (older_run, newer_run) = (&saved(&older)["omsg"], &saved(&newer)["omsg"]);
    for field in ["servers", "rate", "duration", "warm_up", "place"] {
        assert_eq!(older_run[field], newer_run[field], "{field}");
    }
    for (old, new) in (0..2).map(|n| (&older_run["levels"][n], &newer_run["levels"][n])) {
        for field in ["what", "callers", "size"] {
            assert_eq!(old[field], new[field], "{field}");
        }
        assert_eq!(new["rounds"].as_array().map(Vec::len), Some(3));
    }
    let compared: Vec<Value> = (ended.records().into_iter())
        .filter(|record| record["event"] == "comparison")
        .collect();
    assert_eq!(compared.len(), 8, "{compared:?}");
    let words = ["bench", "--compare", &older, "--saved", &newer, "--json"];
    let without = run(&words);
    assert_eq!(
        (without.status, without.records()),
        (ended.status, compared)
    );
    // What is said wins.
    let ended = run(&[&again[..], &["--size", "64", "--rounds", "1"]].concat());
    let one: Vec<Value> = (ended.records().into_iter())
        .filter(|record| record["event"] == "level")
        .collect();
    assert_eq!(
        (one.len(), one[0]["rounds"].as_array().map(Vec::len)),
        (1, Some(1))
    );
}

#[test]
fn a_run_that_nobody_could_have_typed_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = folder.path().join("run.json");
    let file = name.to_str().expect("a name in UTF-8");
    let short = ["call", "--rate", "400", "--save", file];
    assert_eq!(bench(&short).status, Some(0));
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(&name).expect("saved")).expect("JSON");
    for (place, value) in [
        ("/omsg/rate", json!(0)),
        ("/omsg/rate", json!(-3.5)),
        ("/omsg/duration", json!(-1)),
        ("/omsg/warm_up", json!(1e300)),
        ("/omsg/servers", json!(u32::MAX)),
        ("/omsg/levels/0/callers", json!(u32::MAX)),
        ("/omsg/levels/0/callers", json!(0)),
        ("/omsg/levels", json!([])),
        ("/omsg/levels/0/rounds/0", json!({})),
        ("/omsg", json!(null)),
    ] {
        let mut broken = saved.clone();
        *broken.pointer_mut(place).expect("it is there") = value.clone();
        fs::write(&name, broken.to_string()).expect("written");
        let ended = run(&["--url", "memory://", "bench", "--compare", file]);
        assert_eq!(ended.status, Some(2), "{place} {value}: {}", ended.errors);
        assert!(ended.errors.contains(file), "{place}: {}", ended.errors);
    }
}

#[test]
fn a_message_that_is_due_after_the_end_of_time_is_not_waited_for() {
    let ended = bench(&["cast", "--rate", "1e-300", "--json"]);
    assert_eq!((ended.status, ended.errors.as_str()), (Some(0), ""));
}

#[test]
fn a_rate_is_kept_and_histograms_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let name = folder.path().to_str().expect("a name in UTF-8");
    let ended = bench(&["call", "--rate", "100", "--json", "--histograms", name]);
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let rounds = ended.records()[0]["rounds"].clone();
    for round in rounds.as_array().expect("rounds") {
        let operations = round["operations"].as_u64().expect("a count");
        assert!(
            (1..=30).contains(&operations),
            "0.2 s at 100 a second: {operations}"
        );
    }
    let histogram =
        fs::read_to_string(folder.path().join("call-100-2.hgrm")).expect("it was written");
    assert!(histogram.contains("1/(1-Percentile)"), "{histogram}");
}

#[test]
fn what_cannot_be_measured_is_told_before_anything_starts() {
    for (words, told) in [
        (&["bench", "call", "--servers", "0"][..], "--topic"),
        (&["bench", "call", "--size", "lots"], "simulator"),
        (&["bench", "call", "--callers", "0"], "--callers"),
        (&["bench", "call", "--rate", "0"], "--rate"),
        (
            &["bench", "call", "--compare", "/nowhere/run.json"],
            "/nowhere/run.json",
        ),
        (&["bench", "walk"], "call, cast, fanout, notify, listen"),
        (&["bench"], "<WHAT>"),
        (&["bench", "--saved", "x.json"], "--compare"),
        (&["bench", "call", "--buffered"], "--buffered"),
        (&["bench", "notify", "--batch", "5"], "--batch"),
        (&["bench", "listen", "--callers", "5"], "--live"),
        (
            &["bench", "listen", "--servers", "0", "--topic", "t"],
            "listeners",
        ),
        (
            &["bench", "listen", "--batch", "500", "--messages", "1000"],
            "ten times",
        ),
        (&["bench", "call", "--sync", "call"], "--servers 0"),
        (
            &["bench", "call", "--messages", "5", "--duration", "1"],
            "--duration",
        ),
    ] {
        let ended = run(&[&["--url", "memory://"], words].concat());
        assert_eq!(ended.status, Some(2), "{words:?}");
        assert!(ended.errors.contains(told), "{words:?}: {}", ended.errors);
    }
}

#[tokio::test]
async fn servers_run_in_a_process_of_their_own_whose_cpu_time_is_told_apart() {
    let Some(vhost) = vhost_or_skip("cli_bench").await else {
        return;
    };
    let words = [&["bench", "call", "--json", "--servers", "2"][..], &QUICK].concat();
    let ended = run_beside(&vhost.url(), &words).await;
    assert_eq!(
        (ended.status, ended.errors.as_str()),
        (Some(0), ""),
        "{}",
        ended.out
    );
    let level = &ended.records()[0];
    for round in level["rounds"].as_array().expect("rounds") {
        for figure in [
            "rate",
            "client_cpu_us",
            "server_cpu_us",
            "server_rss_kib",
            "served",
        ] {
            assert!(
                round[figure].as_f64().is_some_and(|value| value > 0.0),
                "{figure}: {round}"
            );
        }
    }
    // Nothing of it is left on the broker but the reply queue, which expires.
    let left = vhost.queues().await.expect("the broker lists queues");
    assert!(
        left.iter().all(|queue| queue.name.starts_with("reply_")),
        "{left:?}"
    );
}

#[tokio::test]
async fn listeners_in_a_process_of_their_own_empty_a_queue_and_leave_nothing() {
    let Some(vhost) = vhost_or_skip("cli_bench_listen").await else {
        return;
    };
    let tell = [
        "bench",
        "notify",
        "--callers",
        "2",
        "--duration",
        "0.2",
        "--warm-up",
        "0.05",
    ];
    for (words, latencies) in [
        (&["bench", "listen", "--messages", "3000"][..], false),
        (
            &["bench", "listen", "--messages", "3000", "--batch", "100"],
            false,
        ),
        (
            &[
                "bench",
                "listen",
                "--live",
                "--callers",
                "2",
                "--rate",
                "300",
                "--duration",
                "0.3",
            ],
            true,
        ),
        (&tell, true),
        (&[&tell[..], &["--held"]].concat(), true),
        (&[&tell[..], &["--buffered"]].concat(), true),
    ] {
        let ended = run_beside(
            &vhost.url(),
            &[words, &["--json", "--rounds", "2"]].concat(),
        )
        .await;
        assert_eq!(
            (ended.status, ended.errors.as_str()),
            (Some(0), ""),
            "{words:?}: {}",
            ended.out
        );
        let rounds = ended.records()[0]["rounds"].clone();
        for round in rounds.as_array().expect("rounds") {
            for figure in [
                "rate",
                "server_cpu_us",
                "server_rss_kib",
                "server_connections",
            ] {
                assert!(
                    round[figure].as_f64().is_some_and(|value| value > 0.0),
                    "{words:?} {figure}: {round}"
                );
            }
            assert_eq!(
                round["p50_us"].as_f64() > Some(0.0),
                latencies,
                "{words:?}: {round}"
            );
            // One connection to publish and one to consume, of which a process may need only one.
            for side in ["client_connections", "server_connections"] {
                assert!(round[side].as_u64() <= Some(2), "{words:?}: {round}");
            }
        }
        if words.contains(&"--messages") {
            assert!(rounds[0]["operations"].as_u64() >= Some(2_500), "{rounds}");
        }
    }
    let left = vhost.queues().await.expect("the broker lists queues");
    assert!(
        left.iter().all(|queue| queue.name.starts_with("reply_")),
        "{left:?}"
    );
}

#[tokio::test]
async fn servers_elsewhere_count_a_load_and_end_with_it() {
    let Some(vhost) = vhost_or_skip("cli_bench_elsewhere").await else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("server.json");
    let name = file.to_str().expect("a name in UTF-8");
    let mut serving = Server::start_as(
        "bench-server",
        &vhost.url(),
        &["--server", "b", "--save", name, "--json"],
    )
    .await;
    let words = [
        "bench",
        "call",
        "--servers",
        "0",
        "--target",
        "profiler_topic.b,profiler_topic",
        "--callers",
        "2",
        "--messages",
        "10",
        "--rounds",
        "1",
        "--warm-up",
        "0",
        "--sync",
        "call",
        "--json",
    ];
    let ended = run_beside(&vhost.url(), &words).await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    assert_eq!(ended.records()[0]["rounds"][0]["operations"], 20);
    let second: Value = serde_json::from_str(&serving.line().await).expect("JSON");
    assert_eq!(second["event"], "second");
    let (status, lines) = serving.end().await;
    assert_eq!(status.code(), Some(0), "{lines:?}");
    let sum: Value = serde_json::from_str(lines.last().expect("a sum")).expect("JSON");
    assert_eq!(
        (&sum["event"], &sum["count"]),
        (&json!("summary"), &json!(20))
    );
    assert!(sum["max_latency"].as_f64() >= sum["min_latency"].as_f64());
    let saved: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("it was saved")).expect("JSON");
    assert_eq!(saved["summary"]["count"], 20);
    assert_eq!(saved["summary"]["size"], 2_000);
    assert!(saved["series"]["server"].is_array());
}

#[tokio::test]
async fn a_python_caller_loads_servers_as_the_references_simulator_does() {
    let Some(vhost) = vhost_or_skip("cli_bench_python").await else {
        return;
    };
    let Some(peer) = peer_or_skip("cli_bench_python", &vhost.url()).await else {
        return;
    };
    let serving = Server::start_as("bench-server", &vhost.url(), &["--json"]).await;
    let call = |method: &str, message: Value| {
        Call::new("profiler_topic", method).args(json!({ "message": message }))
    };
    let started = peer
        .call(&call("sync_start", json!({"id": "1 7f@host"})))
        .await;
    started.expect("the peer runs").expect("an answer");
    let answer = peer
        .call(&call("info", json!([3, "abcdef", 17.25, 0, 0])))
        .await;
    let answer = answer.expect("the peer runs").expect("an answer").value;
    assert_eq!(
        (&answer[0], &answer[1], &answer[2]),
        (&json!(3), &json!("abcdef"), &json!(17.25))
    );
    assert!(answer[3].as_f64() > Some(1.7e9), "{answer}");
    let done = peer
        .call(&call("sync_done", json!({"id": "1 7f@host"})))
        .await;
    done.expect("the peer runs").expect("an answer");
    let (status, lines) = serving.end().await;
    assert_eq!(status.code(), Some(0), "{lines:?}");
    let sum: Value = serde_json::from_str(lines.last().expect("a sum")).expect("JSON");
    assert_eq!((&sum["count"], &sum["size"]), (&json!(1), &json!(6)));
}

#[tokio::test]
async fn listeners_elsewhere_give_each_notification_back_once() {
    let Some(vhost) = vhost_or_skip("cli_bench_requeue").await else {
        return;
    };
    let words = ["--listen", "--requeue", "--json"];
    let mut serving = Server::start_as("bench-server", &vhost.url(), &words).await;
    let words = [
        "bench",
        "notify",
        "--servers",
        "0",
        "--topic",
        "profiler_topic",
        "--callers",
        "1",
        "--messages",
        "10",
        "--rounds",
        "1",
        "--warm-up",
        "0",
    ];
    let ended = run_beside(&vhost.url(), &words).await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    // Each of the ten, and once more.
    let mut count = 0;
    while count < 20 {
        let second: Value = serde_json::from_str(&serving.line().await).expect("JSON");
        assert_eq!(second["event"], "second");
        count += second["count"].as_u64().expect("a count");
    }
    let lines = serving.stop().await;
    let sum: Value = serde_json::from_str(lines.last().expect("a sum")).expect("JSON");
    assert_eq!(sum["count"], 20, "{lines:?}");
}

/// No run left anything but reply queues, which expire.
async fn assert_nothing_left(vhost: &Vhost, after: &str) {
    for queue in vhost.queues().await.expect("the broker lists queues") {
        assert!(queue.name.starts_with("reply_"), "{after}: {queue:?}");
    }
    let exchanges = vhost.exchanges().await.expect("the broker lists exchanges");
    assert!(exchanges.is_empty(), "{after}: {exchanges:?}");
}

#[tokio::test]
async fn quorum_queues_are_measured_and_go_with_the_run() {
    let Some(vhost) = vhost_or_skip("cli_bench_quorum").await else {
        return;
    };
    let url = format!("{}?rabbit_quorum_queue=true", vhost.url());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bench.conf");
    let option = "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\n";
    fs::write(&file, option).expect("room for a line");
    let option = ["--config-file", file.to_str().expect("a name in UTF-8")];
    for (url, words) in [
        (url.as_str(), &["call", "--servers", "2"][..]),
        (&url, &["cast", "--one-process"]),
        (&url, &["notify"]),
        (&vhost.url(), &[&["notify"][..], &option].concat()),
    ] {
        let ended = run_beside(url, &[&["bench"], words, &QUICK].concat()).await;
        assert_eq!(ended.status, Some(0), "{words:?}: {}", ended.errors);
        assert!(!ended.out.contains("may be left"), "{}", ended.out);
        assert_nothing_left(&vhost, &format!("{words:?}")).await;
    }
}

#[tokio::test]
async fn what_was_named_by_the_user_is_not_deleted() {
    let Some(vhost) = vhost_or_skip("cli_bench_named").await else {
        return;
    };
    let url = format!("{}?rabbit_quorum_queue=true", vhost.url());
    let words = [&["bench", "cast", "--topic", "theirs"][..], &QUICK].concat();
    let ended = run_beside(&url, &words).await;
    assert_eq!(ended.status, Some(0), "{}", ended.errors);
    let theirs = vhost.queue("theirs").await.expect("the broker answers");
    assert!(theirs.is_some());
}

#[tokio::test]
async fn a_run_that_is_interrupted_ends_its_servers_and_leaves_nothing() {
    let Some(vhost) = vhost_or_skip("cli_bench_interrupted").await else {
        return;
    };
    let url = format!("{}?rabbit_quorum_queue=true", vhost.url());
    for signal in [Signal::INT, Signal::TERM] {
        let words = ["fanout", "--duration", "60", "--callers", "1"];
        let mut running = Server::spawn("bench", &url, &words);
        running.logged("the load begins").await;
        running.signal(signal).expect("it runs");
        let (status, _, errors) = running.end_with_errors().await;
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains("ended before all was measured"), "{errors}");
        assert_nothing_left(&vhost, &format!("{signal:?}")).await;
    }
}

#[tokio::test]
async fn a_run_that_fails_leaves_nothing() {
    let Some(vhost) = vhost_or_skip("cli_bench_failed").await else {
        return;
    };
    // Its servers may have all but the queue of fanouts, which comes last.
    let user = format!("bench-{}", std::process::id());
    let broker = vhost.broker();
    broker
        .create_user(&user, "secret-word")
        .await
        .expect("a user");
    let name = "^omsg-bench-[0-9a-f]*(.server)?$";
    vhost
        .set_permissions(&user, name, ".*", ".*")
        .await
        .expect("its rights");
    let url = vhost
        .url()
        .replace("guest:guest", &format!("{user}:secret-word"));
    let url = format!("{url}?rabbit_quorum_queue=true");
    for place in [&[][..], &["--one-process"]] {
        let words = [&["bench", "call", "--timeout", "20"][..], place, &QUICK].concat();
        let ended = run_beside(&url, &words).await;
        assert_eq!(ended.status, Some(1), "{place:?}: {}", ended.errors);
        assert!(ended.errors.contains("access refused"), "{}", ended.errors);
        assert!(!ended.errors.contains("secret-word"), "{}", ended.errors);
        assert_nothing_left(&vhost, &format!("{place:?}")).await;
    }
}

#[tokio::test]
async fn servers_that_cannot_start_in_time_end_the_run_alike_wherever_they_are() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = silent.local_addr().map(|at| (at, silent));
    let (at, _listening) = silent.expect("an address");
    for broker in ["127.0.0.1:1".to_owned(), at.to_string()] {
        for place in [&[][..], &["--one-process"]] {
            let words = [&["bench", "call", "--timeout", "1"][..], place, &QUICK].concat();
            let ended = run_beside(&format!("rabbit://joe:s3cret@{broker}/"), &words).await;
            assert_eq!(ended.status, Some(3), "{broker} {place:?}: {ended:?}");
            assert!(ended.errors.contains("in time"), "{}", ended.errors);
            assert!(!ended.errors.contains("s3cret"), "{}", ended.errors);
            let apart = ended.errors.contains("the process of the servers failed");
            assert_eq!(apart, place.is_empty(), "{}", ended.errors);
        }
    }
}

#[cfg(feature = "kafka")]
#[tokio::test]
async fn notifications_on_kafka_are_measured_as_on_any_other_bus() {
    let kafka = oslo_messaging_testkit::kafka::MockKafka::start(1).expect("a cluster");
    for words in [
        &["bench", "notify", "--callers", "2", "--duration", "0.3"][..],
        &["bench", "listen", "--messages", "500"],
    ] {
        let more = ["--rounds", "2", "--json"];
        let ended = run_beside(&kafka.url(""), &[words, &more].concat()).await;
        assert_eq!(
            (ended.status, ended.errors.as_str()),
            (Some(0), ""),
            "{words:?}: {}",
            ended.out
        );
        let rounds = ended.records()[0]["rounds"].clone();
        for round in rounds.as_array().expect("rounds") {
            assert!(round["rate"].as_f64() > Some(0.0), "{words:?}: {round}");
        }
    }
    let ended = run_beside("kafka://127.0.0.1:1/", &["bench", "call", "--rounds", "1"]).await;
    assert_ne!(ended.status, Some(0), "{}", ended.out);
    assert!(ended.errors.contains("RPC"), "{}", ended.errors);
}
