use std::time::Duration;

use oslo_messaging_core::error::ErrorKind;

use super::*;

/// What a compute host of a real deployment has, other services' options included.
const NOVA: &str = include_str!("../../tests/config/nova.conf");

fn read(text: &str) -> Config {
    Config::builder().text("a.conf", text).read()
}

fn only_error(config: &Config) -> String {
    let errors = config.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].kind(), ErrorKind::Config);
    errors[0].to_string()
}

#[test]
fn a_nova_conf_of_a_deployment_works_as_it_is() {
    let config = Config::builder().text("nova.conf", NOVA).load().unwrap();
    let hosts = config.transport_url().hosts();
    assert_eq!(hosts.len(), 3);
    assert_eq!(hosts[2].hostname(), Some("10.20.0.13"));
    assert_eq!(hosts[2].password(), Some("p$ss/w0rd"));
    assert_eq!(config.transport_url().virtual_host(), Some("nova"));
    assert_eq!(config.default.rpc_response_timeout.as_secs(), 180);
    assert_eq!(config.default.executor_thread_pool_size, 32);
    assert_eq!(*config.notifications.driver, ["messagingv2", "log"]);
    assert_eq!(config.notifications.topics, ["notifications", "ceilometer"]);
    assert_eq!(
        config.notification_transport_url().virtual_host(),
        Some("notify")
    );
    assert_eq!(config.metrics.metrics_process_name, "nova-compute");
    assert_eq!(config.warnings().len(), 5, "{:?}", config.warnings());
}

#[cfg(feature = "rabbit")]
#[test]
fn the_rabbit_group_of_a_nova_conf_reaches_the_driver() {
    let config = Config::builder().text("nova.conf", NOVA).load().unwrap();
    assert!(config.rabbit.rabbit_quorum_queue && config.rabbit.rabbit_transient_quorum_queue);
    assert_eq!(config.rabbit.kombu_missing_consumer_retry_timeout, 45);
    assert_eq!(config.rabbit.ssl_ca_file, "/etc/ssl/certs/compute-7.pem");
    assert!((config.rabbit.kombu_reconnect_delay - 0.5).abs() < 1e-9);
    assert!(config.errors().is_empty(), "{:?}", config.errors());
    let options = config.connect_options();
    assert_eq!(options.rabbit, config.rabbit);
    assert_eq!(
        options.transport.rpc_response_timeout,
        Duration::from_secs(180)
    );
}

#[test]
fn a_printed_configuration_has_no_secret_and_says_who_set_what() {
    let text = format!(
        "{NOVA}\n[oslo_messaging_kafka]\nssl_client_key_password = hunter2\nconsumer_group = x$ssl_client_key_password\n"
    );
    let config = Config::builder().text("nova.conf", &text).load().unwrap();
    for printed in [
        config.to_string(),
        format!("{config:?}"),
        format!("{:?}", config.entries()),
    ] {
        for secret in ["hunter2", "w0rd", "s3cret"] {
            assert!(!printed.contains(secret), "{secret}: {printed}");
        }
    }
    let printed = config.to_string();
    assert!(printed.contains("# nova.conf:"), "{printed}");
    assert!(printed.contains("consumer_group = ***"), "{printed}");
    assert!(
        printed.contains("driver = messagingv2\ndriver = log\n"),
        "{printed}"
    );
}

#[test]
fn a_printed_configuration_is_read_back_as_the_same() {
    let text = "[DEFAULT]\nrpc_response_timeout = 7\n[oslo_messaging_notifications]\ndriver = a\ndriver = b\ntopics = x, y\n";
    let once = read(text);
    let twice = Config::builder()
        .text("b.conf", &once.to_string())
        .load()
        .unwrap();
    assert_eq!(
        (once.default, once.notifications),
        (twice.default, twice.notifications)
    );
}

#[test]
fn a_bad_value_names_file_and_line_or_variable() {
    let error = only_error(&read("[DEFAULT]\n\nrpc_response_timeout = soon\n"));
    assert!(
        error.contains("a.conf:3: in [DEFAULT] option rpc_response_timeout cannot be \"soon\""),
        "{error}"
    );
    let variable = (
        "OS_OSLO_MESSAGING_KAFKA__COMPRESSION_CODEC".to_owned(),
        "lzma".to_owned(),
    );
    let error = only_error(&Config::builder().environment([variable]).read());
    assert!(
        error.contains("environment variable OS_OSLO_MESSAGING_KAFKA__COMPRESSION_CODEC"),
        "{error}"
    );
    assert!(error.contains("none, gzip, snappy, lz4 or zstd"), "{error}");
}

#[test]
fn a_bad_url_names_its_line_and_never_its_password() {
    let config =
        read("[oslo_messaging_notifications]\ntransport_url = rabbit://u:hunter2@h:port/\n");
    let error = only_error(&config);
    assert!(
        error.contains("a.conf:2") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn an_empty_notification_url_falls_back_and_an_empty_rpc_url_is_an_error() {
    let config = read(
        "[oslo_messaging_notifications]\ntransport_url =\n[DEFAULT]\ntransport_url = rabbit://rpc/\n",
    );
    assert_eq!(
        config.notification_transport_url().hosts()[0].hostname(),
        Some("rpc")
    );
    assert!(config.errors().is_empty() && config.warnings().is_empty());
    assert!(only_error(&read("[DEFAULT]\ntransport_url =\n")).contains("a.conf:2"));
}

#[test]
fn all_errors_are_found_and_loading_tells_how_many_more() {
    let text = "[DEFAULT]\nrpc_ping_enabled = 2\n[oslo_messaging_kafka]\nmax_poll_records = x\n[oslo_messaging_tracing]\notlp_protocol = http\n";
    assert_eq!(read(text).errors().len(), 3);
    let error = Config::builder()
        .file("/nowhere/x.conf")
        .text("a.conf", text)
        .load()
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.conf"), "{error}");
    assert!(error.to_string().contains("further errors 3"), "{error}");
}

#[test]
fn the_query_of_the_url_wins_and_is_named_as_origin() {
    let config = read(
        "[DEFAULT]\nrpc_response_timeout = 7\ntransport_url = memory://?rpc_response_timeout=9&control_exchange=x\n",
    );
    assert_eq!(config.default.rpc_response_timeout.as_secs(), 7);
    let applied = config.at(config.transport_url());
    assert_eq!(applied.default.rpc_response_timeout.as_secs(), 9);
    assert_eq!(
        *applied.origin("DEFAULT", "rpc_response_timeout"),
        Origin::Url
    );
    assert_eq!(applied.default.control_exchange, "x");
}

#[test]
fn an_unknown_or_bad_option_in_the_url_is_an_error() {
    for (url, part) in [
        ("memory://?nonsense=1", "no option \"nonsense\""),
        (
            "kafka://h/?max_poll_record=5",
            "did you mean max_poll_records?",
        ),
        ("memory://?rpc_ping_enabled=maybe", "rpc_ping_enabled"),
        ("memory://?transport_url=x", "transport_url"),
    ] {
        let config = read("");
        let applied = config.at(&TransportUrl::parse(url).unwrap());
        assert!(
            only_error(&applied).contains(part),
            "{url}: {}",
            only_error(&applied)
        );
    }
}

#[cfg(feature = "rabbit")]
#[test]
fn options_of_the_driver_that_cannot_go_together_are_an_error() {
    let config =
        read("[oslo_messaging_rabbit]\nrabbit_ha_queues = true\nrabbit_quorum_queue = true\n");
    let error = only_error(&config);
    assert!(error.contains("rabbit_ha_queues"), "{error}");
    assert!(error.contains("set by a.conf:2, a.conf:3"), "{error}");
    let elsewhere = config.at(&TransportUrl::parse("memory://").unwrap());
    assert!(elsewhere.errors().is_empty());
}

#[test]
fn options_of_kafka_that_cannot_go_together_are_an_error_where_it_is_in_use() {
    let group = "[oslo_messaging_kafka]\nssl_client_cert_file = /cert.pem\n";
    for default in [
        "[DEFAULT]\ntransport_url = kafka://h/\n",
        "[oslo_messaging_notifications]\ntransport_url = kafka://h/\n",
    ] {
        let config = read(&format!("{default}{group}"));
        assert!(only_error(&config).contains("ssl_client_key_file"));
    }
    assert!(read(group).errors().is_empty());
}

#[test]
fn what_old_releases_read_is_told_and_not_honoured() {
    let config = read(
        "[DEFAULT]\nrpc_backend = rabbit\nnotification_driver = messaging\n[oslo_messaging_rabbit]\nrabbit_use_ssl = true\n",
    );
    assert!(config.notifications.driver.is_empty());
    let told: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[1]
            .starts_with("a.conf:3: [DEFAULT] notification_driver is no longer read; set driver"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_transport_is_made_from_a_configuration() {
    let config = read(
        "[DEFAULT]\ntransport_url = memory://config-test?rpc_response_timeout=3\nexecutor_thread_pool_size = 5\n",
    );
    let transport = connect_config(&config).await.unwrap();
    assert_eq!(transport.options().executor_thread_pool_size.get(), 5);
    assert_eq!(
        transport.options().rpc_response_timeout,
        Duration::from_secs(3)
    );
    let bad = read("[DEFAULT]\ntransport_url = memory://?nonsense=1\n");
    let error = connect_config(&bad).await.unwrap_err();
    assert!(
        error.to_string().contains("transport_url of a.conf:2"),
        "{error}"
    );
    let error = connect_config_notifications(&bad).await.unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn figures_and_spans_are_what_the_configuration_wants() {
    let text = "[oslo_messaging_metrics]\nmetrics_enabled = true\nmetrics_buffer_size = 5\n[oslo_messaging_tracing]\ntracing_enabled = on\n";
    let config = read(text);
    let options = config.connect_options().transport;
    assert!(options.metrics.metrics_enabled && options.tracing.tracing_enabled);
    assert_eq!(
        (options.metrics, options.tracing),
        (config.metrics, config.tracing)
    );
}

#[test]
fn tables_have_every_group_once_and_every_option_can_be_printed() {
    let config = read("");
    assert!(
        config
            .entries()
            .iter()
            .all(|entry| entry.is_default() || entry.info.sample.is_some())
    );
    assert_eq!(config.to_string(), "");
    let mut groups: Vec<&str> = TABLES.iter().map(|table| table.group).collect();
    groups.dedup();
    assert_eq!(groups.len(), TABLES.len());
    for table in TABLES {
        for option in table.options {
            assert!(!option.about.trim().is_empty(), "{}", option.name);
        }
    }
}
