use super::*;

fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(pairs: &[(&str, &str)]) -> Error {
    match KafkaConfig::from_query(&query(pairs)) {
        Ok(config) => config
            .validate()
            .expect_err(&format!("{pairs:?} cannot work")),
        Err(error) => error,
    }
}

#[test]
fn every_option_has_the_default_of_the_reference() {
    let config = KafkaConfig::default();
    config.validate().unwrap();
    assert_eq!(config.kafka_max_fetch_bytes, 1024 * 1024);
    assert_eq!(config.kafka_consumer_timeout, 1.0);
    assert_eq!(config.consumer_group, "oslo_messaging_consumer");
    assert_eq!(config.producer_batch_timeout, 0.0);
    assert_eq!(config.producer_batch_size, 16_384);
    assert_eq!(config.compression_codec, CompressionCodec::None);
    assert!(!config.enable_auto_commit);
    assert_eq!(config.max_poll_records, 500);
    assert_eq!(config.security_protocol, SecurityProtocol::Plaintext);
    assert_eq!(config.sasl_mechanism, "PLAIN");
    for file in [
        &config.ssl_cafile,
        &config.ssl_client_cert_file,
        &config.ssl_client_key_file,
    ] {
        assert_eq!(file, "");
    }
    assert_eq!(config.ssl_client_key_password.expose(), "");
}

#[test]
fn every_option_of_the_reference_can_be_set_by_the_query() {
    let config = KafkaConfig::from_query(&query(&[
        ("kafka_max_fetch_bytes", "2048"),
        ("kafka_consumer_timeout", "0.5"),
        ("consumer_group", "audit"),
        ("producer_batch_timeout", "0.25"),
        ("producer_batch_size", "10"),
        ("compression_codec", "lz4"),
        ("enable_auto_commit", "Yes"),
        ("max_poll_records", "7"),
        ("security_protocol", "SASL_SSL"),
        ("sasl_mechanism", "SCRAM-SHA-512"),
        ("ssl_cafile", "/ca.pem"),
        ("ssl_client_cert_file", "/cert.pem"),
        ("ssl_client_key_file", "/key.pem"),
        ("ssl_client_key_password", "hunter2"),
    ]))
    .unwrap();
    config.validate().unwrap();
    assert_eq!(config.kafka_max_fetch_bytes, 2048);
    assert_eq!(config.kafka_consumer_timeout, 0.5);
    assert_eq!(config.consumer_group, "audit");
    assert_eq!(config.producer_batch_timeout, 0.25);
    assert_eq!(config.producer_batch_size, 10);
    assert_eq!(config.compression_codec, CompressionCodec::Lz4);
    assert!(config.enable_auto_commit);
    assert_eq!(config.max_poll_records, 7);
    assert_eq!(config.security_protocol, SecurityProtocol::SaslSsl);
    assert_eq!(config.sasl_mechanism, "SCRAM-SHA-512");
    assert_eq!(config.ssl_cafile, "/ca.pem");
    assert_eq!(config.ssl_client_cert_file, "/cert.pem");
    assert_eq!(config.ssl_client_key_file, "/key.pem");
    assert_eq!(config.ssl_client_key_password.expose(), "hunter2");
}

#[test]
fn choices_are_those_of_the_reference_and_others_are_refused() {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let config = KafkaConfig::from_query(&query(&[("compression_codec", codec)])).unwrap();
        assert_eq!(config.compression_codec.as_str(), codec);
    }
    for protocol in ["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"] {
        let config = KafkaConfig::from_query(&query(&[("security_protocol", protocol)])).unwrap();
        assert_eq!(config.security_protocol.as_str(), protocol);
    }
    let error = refused(&[("compression_codec", "brotli")]);
    assert!(
        error
            .to_string()
            .contains("none, gzip, snappy, lz4 or zstd"),
        "{error}"
    );
    let error = refused(&[("security_protocol", "TLS")]);
    assert!(error.to_string().contains("SASL_SSL"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    for (name, value) in [
        ("kafka_max_fetch_bytes", "0"),
        ("kafka_max_fetch_bytes", "1000000001"),
        ("kafka_consumer_timeout", "-1"),
        ("consumer_group", ""),
        ("producer_batch_timeout", "901"),
        ("producer_batch_timeout", "NaN"),
        ("producer_batch_size", "0"),
        ("producer_batch_size", "many"),
        ("enable_auto_commit", "perhaps"),
        ("max_poll_records", "0"),
        ("delivery_timeout", "0"),
        ("listen_timeout", "inf"),
        ("session_timeout", "0.5"),
        ("max_message_size", "1"),
    ] {
        let error = refused(&[(name, value)]);
        assert_eq!(error.kind(), ErrorKind::Config, "{name}={value}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let error = refused(&[("ssl_client_cert_file", "/cert.pem")]);
    assert!(error.to_string().contains("ssl_client_key_file"), "{error}");
    let error = refused(&[("producer_batch_timeout", "2"), ("delivery_timeout", "1")]);
    assert!(error.to_string().contains("delivery_timeout"), "{error}");
}

#[test]
fn logins_that_this_driver_does_not_do_are_refused_when_it_would_log_in() {
    for mechanism in ["GSSAPI", "OAUTHBEARER"] {
        let error = refused(&[
            ("security_protocol", "SASL_SSL"),
            ("sasl_mechanism", mechanism),
        ]);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{mechanism}");
        // Without a login the option has no say.
        let config = KafkaConfig::from_query(&query(&[("sasl_mechanism", mechanism)])).unwrap();
        config.validate().unwrap();
    }
    let error = refused(&[
        ("security_protocol", "SASL_PLAINTEXT"),
        ("sasl_mechanism", "plain text"),
    ]);
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn an_unknown_option_is_an_error_that_names_its_likeness() {
    let error = refused(&[("consumer_groups", "x")]);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("did you mean consumer_group?"),
        "{error}"
    );
    let error = refused(&[("colour", "green")]);
    assert!(
        error.to_string().contains("oslo_messaging_kafka"),
        "{error}"
    );
}

#[test]
fn the_password_of_the_key_is_never_shown() {
    let config =
        KafkaConfig::from_query(&query(&[("ssl_client_key_password", "hunter2")])).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("oslo_messaging_consumer"), "{shown}");
}

#[test]
fn options_are_read_from_a_file_by_their_names() {
    let config: KafkaConfig = serde_json::from_str(
        r#"{"compression_codec": "snappy", "security_protocol": "SSL", "max_poll_records": 3}"#,
    )
    .unwrap();
    assert_eq!(config.compression_codec, CompressionCodec::Snappy);
    assert_eq!(config.security_protocol, SecurityProtocol::Ssl);
    assert_eq!(config.max_poll_records, 3);
    assert!(serde_json::from_str::<KafkaConfig>(r#"{"max_pol_records": 3}"#).is_err());
}
