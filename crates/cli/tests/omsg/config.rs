//! `omsg config`, and configuration files for every command.

use std::path::Path;

use oslo_messaging_testkit::rabbit::vhost_or_skip;
use serde_json::json;

use crate::run::{Server, end, omsg, run, run_beside};

/// Writes a file and gives its path as a word.
fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a temporary folder can be written");
    path.to_str().expect("its name is text").to_owned()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

const NOVA: &str = "\
[DEFAULT]
pw = s3cret
transport_url = rabbit://nova:$pw@broker/?heartbeat_rate=2
rpc_thread_pool_size = 8
[oslo_messaging_notifications]
driver = messagingv2
driver = log
[oslo_messaging_rabbit]
rabbit_quorum_queue = yes
";

#[test]
fn the_options_in_force_are_printed_with_who_set_them() {
    let folder = folder();
    let file = write(folder.path(), "nova.conf", NOVA);
    let ended = run(&["--config-file", &file, "config"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let line = |name: &str| {
        let found = ended.out.lines().find(|line| line.starts_with(name));
        let words: Vec<&str> = found.unwrap_or_default().split_whitespace().collect();
        words.join(" ")
    };
    assert_eq!(
        line("transport_url"),
        format!("transport_url rabbit://nova:***@broker/?heartbeat_rate=2 {file}:3")
    );
    assert_eq!(
        line("executor_thread_pool_size"),
        format!("executor_thread_pool_size 8 {file}:4")
    );
    assert_eq!(line("driver"), format!("driver messagingv2, log {file}:7"));
    assert_eq!(
        line("rabbit_quorum_queue"),
        format!("rabbit_quorum_queue true {file}:9")
    );
    assert_eq!(line("heartbeat_rate"), "heartbeat_rate 2 transport URL");
    assert_eq!(
        line("metrics_buffer_size"),
        "metrics_buffer_size 1000 default"
    );
    assert!(
        ended.out.contains("warning: ") && ended.out.contains("rpc_thread_pool_size is deprecated"),
        "{}",
        ended.out
    );
    assert!(!ended.out.contains("s3cret"), "{}", ended.out);
}

#[test]
fn only_differences_are_printed_as_json_when_asked_for() {
    let folder = folder();
    let file = write(folder.path(), "nova.conf", NOVA);
    let mut command = omsg(&[
        "--json",
        "config",
        "--diff-defaults",
        "--config-file",
        &file,
    ]);
    let ended = end(command.env("OS_DEFAULT__CONTROL_EXCHANGE", "nova"));
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let records = ended.records();
    let find = |option: &str| {
        let found = records.iter().find(|record| record["option"] == option);
        found.cloned().unwrap_or_default()
    };
    assert_eq!(records.len(), 7, "{records:?}");
    assert_eq!(
        find("control_exchange"),
        json!({
            "group": "DEFAULT", "option": "control_exchange", "value": "nova",
            "from": "environment variable OS_DEFAULT__CONTROL_EXCHANGE", "default": false,
        })
    );
    assert_eq!(find("driver")["value"], json!(["messagingv2", "log"]));
    assert_eq!(records[6]["event"], "warning");
}

#[test]
fn a_configuration_with_errors_is_told_whole_and_ends_with_status_2() {
    let folder = folder();
    let text = "[DEFAULT]\nrpc_ping_enabled = maybe\ntransport_url = rabbit://u:s3cret@h:port/\n[oslo_messaging_rabbit]\nheartbeat_rate = $nobody\n";
    let file = write(folder.path(), "nova.conf", text);
    for words in [&["config", "check"][..], &["config"]] {
        let ended = run(&[words, &["--config-file", &file]].concat());
        assert_eq!(ended.status, Some(2), "{ended:?}");
        for line in [2, 3, 5] {
            assert!(
                ended.errors.contains(&format!("{file}:{line}: ")),
                "{line}: {}",
                ended.errors
            );
        }
        assert!(
            !ended.errors.contains("s3cret") && !ended.out.contains("s3cret"),
            "{ended:?}"
        );
    }
    let ended = run(&["call", "t", "m", "--config-file", &file]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(2), ""),
        "{ended:?}"
    );
    assert!(
        ended.errors.contains(&format!("{file}:3: ")),
        "{}",
        ended.errors
    );
}

#[test]
fn a_sound_configuration_is_checked_with_status_0() {
    let folder = folder();
    let file = write(folder.path(), "nova.conf", NOVA);
    let ended = run(&["config", "check", "--config-file", &file]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(
        ended
            .out
            .contains("ok: 1 files, transport URL rabbit://nova:***@broker/"),
        "{}",
        ended.out
    );
    let bad_url = run(&["config", "check", "--url", "rabbit://h/?heartbeat_rat=1"]);
    assert_eq!(bad_url.status, Some(2), "{bad_url:?}");
    assert!(
        bad_url.errors.contains("did you mean heartbeat_rate?"),
        "{}",
        bad_url.errors
    );
}

#[test]
fn what_holds_on_the_bus_for_notifications_is_printed_when_asked_for() {
    let folder = folder();
    let text = "[DEFAULT]\ntransport_url = rabbit://rpc/?heartbeat_rate=2\n[oslo_messaging_notifications]\n\
        transport_url = rabbit://notes/?heartbeat_rate=4\n";
    let file = write(folder.path(), "nova.conf", text);
    for (words, url, rate) in [
        (&["config"][..], "rabbit://rpc/?heartbeat_rate=2", "2"),
        (
            &["config", "--notifications"],
            "rabbit://notes/?heartbeat_rate=4",
            "4",
        ),
    ] {
        let ended = run(&[&["--json", "--config-file", &file], words].concat());
        let records = ended.records();
        let value = |option: &str| {
            let found = records.iter().find(|record| record["option"] == option);
            found.map(|record| record["value"].clone())
        };
        assert_eq!(value("transport_url"), Some(json!(url)));
        assert_eq!(value("heartbeat_rate"), Some(json!(rate)));
    }
}

#[test]
fn files_and_directories_win_in_the_order_typed() {
    let folder = folder();
    let file = write(
        folder.path(),
        "nova.conf",
        "[DEFAULT]\ncontrol_exchange = file\n",
    );
    let dir = folder.path().join("conf.d");
    std::fs::create_dir(&dir).expect("a folder in it");
    write(&dir, "20.conf", "[DEFAULT]\ncontrol_exchange = twenty\n");
    write(&dir, "10.conf", "[DEFAULT]\ncontrol_exchange = ten\n");
    write(&dir, "99.ini", "nonsense");
    write(&dir, ".30.conf", "nonsense");
    let dir = dir.to_str().expect("its name is text");
    for (words, value) in [
        (["--config-file", &file, "--config-dir", dir], "twenty"),
        (["--config-dir", dir, "--config-file", &file], "file"),
    ] {
        let ended = run(&[&["--json", "config", "--diff-defaults"], &words[..]].concat());
        assert_eq!(ended.records()[0]["value"], value, "{ended:?}");
    }
}

#[test]
fn a_file_that_is_not_there_is_wrong_usage() {
    for flag in ["--config-file", "--config-dir"] {
        let ended = run(&["ping", "t", flag, "/nowhere/nova.conf"]);
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(
            ended.errors.contains("/nowhere/nova.conf"),
            "{}",
            ended.errors
        );
    }
}

#[test]
fn the_sample_is_a_configuration_without_effect() {
    let folder = folder();
    let sample = run(&["config", "sample"]);
    assert_eq!(sample.status, Some(0), "{sample:?}");
    let file = write(folder.path(), "sample.conf", &sample.out);
    let ended = run(&[
        "--json",
        "config",
        "--diff-defaults",
        "--config-file",
        &file,
    ]);
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    assert!(
        run(&["config", "reference"])
            .out
            .contains("| `rabbit_quorum_queue` |")
    );
}

#[test]
fn with_every_default_written_out_nothing_differs() {
    let folder = folder();
    let sample = run(&["config", "sample"]);
    let text: Vec<String> = sample
        .out
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(set) if !set.starts_with(' ') && !set.contains("name = ") && set != "driver =" => {
                set.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let file = write(folder.path(), "sample.conf", &text.join("\n"));
    let ended = run(&[
        "--json",
        "config",
        "--diff-defaults",
        "--config-file",
        &file,
    ]);
    let options: Vec<_> = ended
        .records()
        .into_iter()
        .filter(|record| record["event"] != "warning")
        .collect();
    assert_eq!(
        (ended.status, options),
        (Some(0), vec![]),
        "{}",
        ended.errors
    );
}

#[test]
fn a_demo_runs_on_the_bus_of_a_file() {
    let folder = folder();
    let file = write(
        folder.path(),
        "demo.conf",
        "[DEFAULT]\ntransport_url = memory://configured\n",
    );
    let ended = run(&["demo", "--load", "0", "--config-file", &file]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.out.contains("memory://configured"), "{}", ended.out);
}

#[tokio::test]
async fn servers_and_callers_meet_by_a_file_alone() {
    let Some(vhost) = vhost_or_skip("omsg_config_file").await else {
        return;
    };
    let folder = folder();
    let url = vhost.url().replace('$', "$$");
    let text = format!(
        "[DEFAULT]\ntransport_url = {url}\ncontrol_exchange = nova\n[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    );
    let file = write(folder.path(), "nova.conf", &text);
    // The file's URL wins over that of the variable, where nobody would meet.
    let elsewhere = "memory://elsewhere";
    let words = ["calculator", "--server", "one", "--config-file", &file];
    let server = Server::start(elsewhere, &words).await;
    let words = ["call", "calculator", "add", "a=2", "--config-file", &file];
    let ended = run_beside(elsewhere, &words).await;
    assert_eq!(
        (ended.status, ended.out.trim()),
        (Some(0), "{\"a\": 2}"),
        "{ended:?}"
    );
    let exchanges = vhost.exchanges().await.expect("the broker lists exchanges");
    assert!(
        exchanges
            .iter()
            .any(|exchange| exchange.name == "nova" && exchange.durable),
        "{exchanges:?}"
    );
    server.stop().await;
}
