//! Options against those of Python's oslo.messaging: each of its own is here with its type, default, range and former
//! names, and a service's files mean the same to both.
#![cfg(all(feature = "config-file", feature = "rabbit"))]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use oslo_messaging::config::{OptionInfo, TABLES};
use oslo_messaging::{Config, TransportUrl};
use oslo_messaging_testkit::python::script_or_skip;
use serde::Deserialize;
use serde_json::{Value, json};

/// An option as the reference declares it.
#[derive(Deserialize)]
struct Declared {
    group: String,
    name: String,
    kind: String,
    default: Vec<String>,
    min: Option<f64>,
    max: Option<f64>,
    choices: Vec<String>,
    former: Vec<(String, String)>,
    secret: bool,
    retiring: bool,
}

fn find(group: &str, name: &str) -> Option<&'static OptionInfo> {
    let table = TABLES.iter().find(|table| table.group == group)?;
    table.options.iter().find(|option| option.name == name)
}

/// The same number may be written in two ways.
fn same(ours: &[String], theirs: &[String]) -> bool {
    let number = |texts: &[String]| texts.first().and_then(|text| text.parse::<f64>().ok());
    ours == theirs || (number(ours).is_some() && number(ours) == number(theirs))
}

#[test]
fn every_option_of_the_reference_is_here_as_it_is_there() {
    let Some(answer) = script_or_skip("options", "config_reader.py", &json!({"list": true})) else {
        return;
    };
    let declared: Vec<Declared> = serde_json::from_value(answer).unwrap();
    assert!(declared.len() > 65, "{}", declared.len());
    for theirs in &declared {
        let place = format!("{}.{}", theirs.group, theirs.name);
        let ours =
            find(&theirs.group, &theirs.name).unwrap_or_else(|| panic!("{place} is missing"));
        // Durations may have fractions here.
        let finer = ours.kind == "floating point" && theirs.kind == "integer";
        assert!(finer || ours.kind == theirs.kind, "{place}: {}", ours.kind);
        let of_machine = ours.sample.is_some();
        let default = ours.default_texts();
        assert!(
            of_machine || same(&default, &theirs.default),
            "{place}: {default:?}"
        );
        assert!(
            theirs
                .min
                .is_none_or(|least| ours.min.is_some_and(|own| own >= least)
                    || ours.allowed().contains(" from 0")),
            "{place}"
        );
        assert!(
            theirs
                .max
                .is_none_or(|most| ours.max.is_some_and(|own| own <= most)),
            "{place}"
        );
        let mut choices = (ours.choices.to_vec(), theirs.choices.clone());
        choices.0.sort_unstable();
        choices.1.sort_unstable();
        if theirs.choices.is_empty() {
            assert!(choices.0.is_empty(), "{place}: {:?}", choices.0);
        }
        assert_eq!(choices.0, choices.1, "{place}");
        for (group, name) in &theirs.former {
            assert!(
                ours.former.contains(&(group.as_str(), name.as_str())),
                "{place}: {name}"
            );
        }
        assert!(ours.secret || !theirs.secret, "{place}");
        assert_eq!(ours.retiring.is_some(), theirs.retiring, "{place}");
        assert!(!ours.ours, "{place} is the reference's");
    }
    for table in TABLES {
        for option in table.options.iter().filter(|option| !option.ours) {
            let known = declared
                .iter()
                .any(|theirs| theirs.group == table.group && theirs.name == option.name);
            assert!(known, "{}.{} is ours alone", table.group, option.name);
        }
    }
}

/// Options of the service itself that its file refers to. The reference has to be told of them.
const OTHERS: [&str; 3] = ["my_ip", "host", "rabbit_pw"];

/// Files of one case and its variables.
type Case<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>);

/// What the reference makes of the options, as one would write them.
fn theirs(test: &str, cases: &[Case<'_>]) -> Option<Vec<Value>> {
    let orders: Vec<Value> = cases
        .iter()
        .map(|(files, variables)| {
            let names = (0..).map(|index| format!("{index}.conf"));
            let variables: BTreeMap<_, _> = variables.iter().copied().collect();
            json!({"files": names.zip(files).collect::<Vec<_>>(), "environment": variables})
        })
        .collect();
    let answer = script_or_skip(
        test,
        "config_reader.py",
        &json!({"cases": orders, "others": OTHERS}),
    )?;
    answer.as_array().cloned()
}

fn ours((files, variables): &Case<'_>) -> Config {
    let builder = files
        .iter()
        .enumerate()
        .fold(Config::builder(), |builder, (index, text)| {
            builder.text(format!("{index}.conf"), text)
        });
    let variables = variables.iter();
    builder
        .environment(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        .read()
}

#[test]
fn the_files_of_a_service_mean_the_same_to_both() {
    const NOVA: &str = include_str!("config/nova.conf");
    let cases: [Case<'_>; 4] = [
        (vec![], vec![]),
        (vec![NOVA], vec![]),
        (
            vec![
                NOVA,
                "[DEFAULT]\nrpc_response_timeout = 90\nmy_ip = 10.9.9.9\n[oslo_messaging_notifications]\ndriver = noop\n",
            ],
            vec![
                ("OS_OSLO_MESSAGING_RABBIT__HEARTBEAT_RATE", "5"),
                ("OS_DEFAULT__CONTROL_EXCHANGE", "nova"),
            ],
        ),
        (
            vec![
                "[OSLO_MESSAGING_KAFKA]\ncompression_codec = zstd\nproducer_batch_timeout = 1e-2\n[oslo_messaging_tracing]\notlp_protocol = grpc\ninsecure = ON\n[oslo_messaging_metrics]\nmetrics_buffer_size = 1_000\n",
            ],
            vec![],
        ),
    ];
    let Some(answers) = theirs("files", &cases) else {
        return;
    };
    for (case, answer) in cases.iter().zip(answers) {
        let config = ours(case);
        assert!(config.errors().is_empty(), "{:?}", config.errors());
        for entry in config.entries().iter().filter(|entry| !entry.info.ours) {
            let place = format!("{}.{}", entry.group, entry.info.name);
            let theirs = &answer[&place];
            if entry.info.sample.is_some() && !entry.origin.is_set() {
                continue;
            }
            let texts: Vec<String> = serde_json::from_value(theirs["texts"].clone()).unwrap();
            if entry.info.name == "transport_url" {
                let own = match entry.group {
                    "DEFAULT" => Some(config.transport_url()),
                    _ => config.notifications.transport_url.as_deref(),
                };
                let url = texts.first().map(|text| TransportUrl::parse(text).unwrap());
                assert_eq!(
                    own.map(TransportUrl::expose),
                    url.map(|url| url.expose()),
                    "{place}"
                );
                continue;
            }
            // To the reference a number set to nothing is none.
            let empty_number = texts.is_empty() && entry.is_default();
            assert!(
                empty_number || same(&entry.texts, &texts),
                "{place}: {:?} and {texts:?}",
                entry.texts
            );
        }
    }
}

#[test]
fn values_that_the_reference_refuses_are_refused_here() {
    let bad = [
        ("DEFAULT", "rpc_ping_enabled", "maybe"),
        ("DEFAULT", "executor_thread_pool_size", "many"),
        ("oslo_messaging_notifications", "retry", "often"),
        ("oslo_messaging_rabbit", "rpc_conn_pool_size", "0"),
        ("oslo_messaging_rabbit", "kombu_reconnect_delay", "4.6"),
        ("oslo_messaging_rabbit", "kombu_reconnect_splay", "-1"),
        ("oslo_messaging_rabbit", "kombu_failover_strategy", "random"),
        ("oslo_messaging_rabbit", "rabbit_login_method", "KERBEROS"),
        ("oslo_messaging_rabbit", "rabbit_retry_interval", "0"),
        ("oslo_messaging_rabbit", "rabbit_transient_queues_ttl", "-1"),
        ("oslo_messaging_rabbit", "heartbeat_rate", "3.5"),
        ("oslo_messaging_kafka", "compression_codec", "lzma"),
        ("oslo_messaging_kafka", "security_protocol", "ssl"),
        ("oslo_messaging_tracing", "otlp_protocol", "http"),
    ];
    let files: Vec<String> = bad
        .iter()
        .map(|(group, name, value)| format!("[{group}]\n{name} = {value}\n"))
        .collect();
    let cases: Vec<Case<'_>> = files
        .iter()
        .map(|file| (vec![file.as_str()], vec![]))
        .collect();
    let Some(answers) = theirs("bad values", &cases) else {
        return;
    };
    for (index, (group, name, value)) in bad.iter().enumerate() {
        assert!(
            answers[index][format!("{group}.{name}")]["error"].is_string(),
            "{name} = {value}: {}",
            answers[index]
        );
        let errors = ours(&cases[index]).errors();
        assert_eq!(errors.len(), 1, "{name} = {value}");
        assert!(
            errors[0]
                .to_string()
                .contains(&format!("0.conf:2: in [{group}] option {name}")),
            "{}",
            errors[0]
        );
    }
}
