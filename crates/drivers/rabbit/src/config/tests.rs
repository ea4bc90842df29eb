use super::*;

fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(pairs: &[(&str, &str)]) -> Error {
    let config = match RabbitConfig::from_query(&query(pairs)) {
        Ok(config) => config,
        Err(error) => return error,
    };
    config.validate().expect_err("these options cannot work")
}

#[test]
fn defaults_are_those_of_the_reference_and_valid() {
    let config = RabbitConfig::default();
    config.validate().unwrap();
    assert_eq!(config.rabbit_transient_queues_ttl, 1800);
    assert_eq!(
        (config.heartbeat_timeout_threshold, config.heartbeat_rate),
        (60, 3)
    );
    assert_eq!(config.rabbit_login_method, LoginMethod::Amqplain);
    assert_eq!(
        (
            config.rabbit_retry_interval,
            config.rabbit_retry_backoff,
            config.rabbit_interval_max
        ),
        (1, 2, 30)
    );
    assert!(config.direct_mandatory_flag && config.ssl_enforce_hostname_verification);
    assert_eq!(config.kombu_compression, None);
}

#[test]
fn a_query_sets_every_type_of_option() {
    let config = RabbitConfig::from_query(&query(&[
        ("amqp_durable_queues", "Yes"),
        ("rabbit_qos_prefetch_count", "10"),
        ("rabbit_quorum_delivery_limit", "-1"),
        ("kombu_reconnect_delay", "0.5"),
        ("kombu_compression", "bzip2"),
        ("kombu_failover_strategy", "shuffle"),
        ("rabbit_login_method", "plain"),
        ("hostname", "node-7"),
        ("kombu_reconnect_timeout", "7"),
    ]))
    .unwrap();
    assert!(config.amqp_durable_queues);
    assert_eq!(config.rabbit_qos_prefetch_count, 10);
    assert_eq!(config.rabbit_quorum_delivery_limit, -1);
    assert_eq!(config.kombu_reconnect_delay, 0.5);
    assert_eq!(config.kombu_compression, Some(Compression::Bzip2));
    assert_eq!(config.kombu_failover_strategy, FailoverStrategy::Shuffle);
    assert_eq!(config.rabbit_login_method, LoginMethod::Plain);
    assert_eq!(config.hostname.as_deref(), Some("node-7"));
    assert_eq!(config.kombu_missing_consumer_retry_timeout, 7);
}

#[test]
fn an_unknown_option_is_an_error_that_names_it_and_its_likeness() {
    let error = refused(&[("amqp_durable_queue", "true")]);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("amqp_durable_queue\""),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("did you mean amqp_durable_queues?"),
        "{error}"
    );
}

#[test]
fn a_bad_value_is_an_error_that_names_what_is_allowed() {
    let cases = [
        ("amqp_durable_queues", "maybe", "yes"),
        ("rabbit_qos_prefetch_count", "-1", "0 to 65535"),
        ("rabbit_qos_prefetch_count", "70000", "0 to 65535"),
        ("kombu_reconnect_delay", "5", "0 to 4.5"),
        ("kombu_reconnect_delay", "NaN", "from 0"),
        ("kombu_reconnect_splay", "-1", "from 0"),
        ("rabbit_retry_interval", "0", "from 1"),
        ("rabbit_interval_max", "0", "from 1"),
        ("rabbit_transient_queues_ttl", "5000000", "4294967"),
        ("kombu_compression", "lzma", "bzip2"),
        ("rabbit_login_method", "KERBEROS", "AMQPLAIN"),
        ("kombu_failover_strategy", "random", "shuffle"),
        ("connect_timeout", "0", "0.01"),
        ("private_queues", "exclusive", "classic or reference"),
        ("consumer_check_interval", "100000", "0 to 86400"),
        ("rabbit_quorum_delivery_limit", "-2", "from -1"),
        ("rabbit_quorum_max_memory_length", "-1", "from 0"),
        ("rabbit_quorum_max_memory_bytes", "-1", "from 0"),
        ("max_message_size", "0", "from 1"),
        ("max_message_size", "536870913", "536870912"),
    ];
    for (name, value, allowed) in cases {
        let error = refused(&[(name, value)]);
        assert_eq!(error.kind(), ErrorKind::Config, "{name}={value}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.to_string().contains(allowed), "{error}");
    }
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    let cases: [&[(&str, &str)]; 8] = [
        &[("amqp_auto_delete", "1"), ("rabbit_quorum_queue", "1")],
        &[("rabbit_quorum_queue", "1"), ("rabbit_ha_queues", "1")],
        &[
            ("rabbit_transient_quorum_queue", "1"),
            ("rabbit_ha_queues", "1"),
        ],
        &[
            ("rabbit_stream_fanout", "1"),
            ("rabbit_transient_quorum_queue", "1"),
        ],
        &[
            ("rabbit_stream_fanout", "1"),
            ("rabbit_qos_prefetch_count", "5"),
        ],
        &[
            ("enable_cancel_on_failover", "1"),
            ("rabbit_quorum_queue", "1"),
        ],
        &[
            ("enable_cancel_on_failover", "1"),
            ("rabbit_transient_quorum_queue", "1"),
        ],
        &[("conn_pool_min_size", "3"), ("rpc_conn_pool_size", "2")],
    ];
    for pairs in cases {
        let error = refused(pairs);
        assert_eq!(error.kind(), ErrorKind::Config, "{pairs:?}");
        assert!(error.to_string().contains(pairs[0].0), "{error}");
    }
}

#[test]
fn what_this_build_lacks_is_refused_as_unsupported() {
    let cases: [&[(&str, &str)]; 1] = [&[("rabbit_login_method", "RABBIT-CR-DEMO")]];
    for pairs in cases {
        assert_eq!(refused(pairs).kind(), ErrorKind::Unsupported, "{pairs:?}");
    }
}

#[test]
fn combinations_that_work_are_taken() {
    let cases: [&[(&str, &str)]; 4] = [
        &[
            ("rabbit_quorum_queue", "1"),
            ("rabbit_transient_quorum_queue", "1"),
            ("rabbit_quorum_delivery_limit", "-1"),
        ],
        &[
            ("rabbit_stream_fanout", "1"),
            ("rabbit_transient_quorum_queue", "1"),
            ("rabbit_qos_prefetch_count", "5"),
        ],
        &[("use_queue_manager", "1"), ("private_queues", "reference")],
        &[
            ("rabbit_ha_queues", "1"),
            ("enable_cancel_on_failover", "1"),
        ],
    ];
    for pairs in cases {
        let config = RabbitConfig::from_query(&query(pairs));
        config.unwrap().validate().unwrap();
    }
}

#[test]
fn every_option_of_the_struct_can_be_set_by_its_listed_name() {
    for option in RabbitConfig::OPTIONS {
        let mut config = RabbitConfig::default();
        let taken = ["1", "gzip", "PLAIN", "shuffle", "reference", "plain"]
            .iter()
            .any(|text| config.set(option.name, &[(*text).to_owned()]).is_ok());
        assert!(taken, "{}", option.name);
        assert!(!option.about.trim().is_empty(), "{}", option.name);
    }
}
