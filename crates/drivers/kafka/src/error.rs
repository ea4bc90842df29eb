//! The one place where faults of the client library become ours, and where it is decided by their codes whether trying
//! again can help.

use oslo_messaging_core::error::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::status::Refusal;

/// What something was about, for the fields of an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The brokers, `host:port,…`.
    pub(crate) brokers: &'a str,
    /// The topic, or several.
    pub(crate) topic: &'a str,
}

impl Place<'_> {
    fn fill(self, error: Error) -> Error {
        error.with_topic(self.topic).with_host(self.brokers)
    }
}

/// The error of everything that is asked of a closed driver.
pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}

/// The error of something that Kafka does not carry.
pub(crate) fn unsupported(what: &str) -> Error {
    let text = format!("Kafka carries notifications only, not {what}; use rabbit:// for RPC");
    Error::new(ErrorKind::Unsupported, text)
}

/// The client could not be made: an option or a file is wrong.
///
/// The library's text of a wrong option holds its value, which may be a password; so only the option's name is kept.
pub(crate) fn client_error(error: KafkaError, brokers: &str) -> Error {
    let text = match error {
        KafkaError::ClientConfig(_, _, key, _) => {
            format!("the client library does not take the value of {key}")
        }
        KafkaError::ClientCreation(why) => {
            format!("the client library refuses the options (files, protocol or mechanism): {why}")
        }
        other => format!("the client library refuses the options: {other}"),
    };
    Error::new(ErrorKind::Config, text).with_host(brokers)
}

/// The brokers do not let us in.
pub(crate) fn refused_error(refusal: &Refusal, place: Place<'_>) -> Error {
    let text = if refusal.is_tls {
        "TLS to the broker failed; see ssl_cafile, ssl_client_cert_file, ssl_client_key_file and security_protocol"
    } else {
        "the broker refused the login; see user and password of the transport URL, security_protocol and sasl_mechanism"
    };
    place
        .fill(Error::new(ErrorKind::AccessRefused, text))
        .with("reason", refusal.reason.clone())
}

/// Whether a fault of a connection means that the brokers do not let us in; then whether it is TLS.
pub(crate) fn refusal_kind(code: RDKafkaErrorCode) -> Option<bool> {
    match code {
        RDKafkaErrorCode::SSL => Some(true),
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::IllegalSASLState => Some(false),
        _ => None,
    }
}

/// What a failed delivery means.
pub(crate) struct Failed {
    /// The error, if nothing more is tried.
    pub(crate) error: Error,
    /// Sending the same again can help.
    pub(crate) may_pass: bool,
    /// The producer is of no use any more.
    pub(crate) is_fatal: bool,
}

/// The error of a message that was not delivered.
pub(crate) fn delivery_error(error: &KafkaError, place: Place<'_>, is_up: bool) -> Failed {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    let (kind, advice, may_pass) = match code {
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => (
            ErrorKind::AccessRefused,
            "the user may not write to the topic; grant it Write (and Create, where topics are made on the fly)",
            false,
        ),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => (
            ErrorKind::TooLarge,
            "the message is larger than max_message_size or than the topic takes (max.message.bytes)",
            false,
        ),
        Some(Code::InvalidTopic) => (
            ErrorKind::InvalidTarget,
            "the broker does not take this name of a topic",
            false,
        ),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => (
            ErrorKind::DeliveryFailure,
            "the topic does not exist and the broker does not create it; create it, or set auto.create.topics.enable there",
            false,
        ),
        Some(Code::PolicyViolation | Code::InvalidRecord | Code::UnsupportedCompressionType) => (
            ErrorKind::DeliveryFailure,
            "the broker does not take the message",
            false,
        ),
        Some(Code::PurgeQueue | Code::PurgeInflight) => {
            (ErrorKind::Closed, "the transport was closed", false)
        }
        _ if !is_up => (
            ErrorKind::Unreachable,
            "no broker could be reached in time",
            true,
        ),
        Some(Code::MessageTimedOut | Code::OperationTimedOut) => (
            ErrorKind::DeliveryFailure,
            "the broker did not confirm the message in time",
            true,
        ),
        _ => (
            ErrorKind::DeliveryFailure,
            "the broker did not take the message",
            true,
        ),
    };
    Failed {
        error: place
            .fill(Error::new(kind, advice).retryable(may_pass))
            .with_source(error.clone()),
        may_pass,
        is_fatal: code == Some(Code::Fatal),
    }
}

/// The error of a message whose deadline passed; it may have arrived, or may do so yet.
pub(crate) fn late_error(place: Place<'_>, is_up: bool) -> Error {
    let error = if is_up {
        let text = "the broker did not confirm the message by its deadline; it may have arrived";
        Error::new(ErrorKind::Timeout, text)
    } else {
        Error::new(
            ErrorKind::Unreachable,
            "no broker could be reached by the deadline",
        )
    };
    place.fill(error)
}

/// Whether a listener that starts need not wait any longer, by the fault that it met.
pub(crate) fn is_final_for_listener(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidTopic
            | Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
            | Code::InvalidSessionTimeout
            | Code::Fatal
    )
}

/// The error of a listener that may not listen.
pub(crate) fn listen_error(code: RDKafkaErrorCode, group: &str, place: Place<'_>) -> Error {
    use RDKafkaErrorCode as Code;
    let (kind, advice) = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => (
            ErrorKind::AccessRefused,
            "the user may not read the topics; grant it Read and Describe",
        ),
        Code::GroupAuthorizationFailed => (
            ErrorKind::AccessRefused,
            "the user may not join the group; grant it Read on the group",
        ),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => (
            ErrorKind::Listen,
            "none of the topics exists and the broker does not create them; create them, or set auto.create.topics.enable \
             there",
        ),
        Code::InvalidSessionTimeout => (
            ErrorKind::Config,
            "the broker does not take session_timeout (group.min.session.timeout.ms, group.max.session.timeout.ms there)",
        ),
        Code::InconsistentGroupProtocol => (
            ErrorKind::Listen,
            "the group's other members share partitions in a way that is not known here; take another pool or consumer_group",
        ),
        _ => (
            ErrorKind::Listen,
            "the broker does not let this listener be",
        ),
    };
    place
        .fill(Error::new(kind, advice))
        .with("group", group)
        .with_source(KafkaError::Global(code))
}

/// The error of a listener whose start took too long.
pub(crate) fn late_listener(group: &str, place: Place<'_>, is_up: bool) -> Error {
    let error = if is_up {
        let text = "the group did not let the listener in within listen_timeout; a member that died holds its place for \
                    session_timeout";
        Error::new(ErrorKind::Timeout, text)
    } else {
        Error::new(
            ErrorKind::Unreachable,
            "no broker could be reached within listen_timeout",
        )
    };
    place.fill(error).with("group", group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        brokers: "b:1",
        topic: "t",
    };

    #[test]
    fn faults_of_a_delivery_are_told_apart_by_code() {
        use RDKafkaErrorCode as Code;
        let cases = [
            (
                Code::TopicAuthorizationFailed,
                ErrorKind::AccessRefused,
                false,
            ),
            (Code::MessageSizeTooLarge, ErrorKind::TooLarge, false),
            (Code::InvalidTopic, ErrorKind::InvalidTarget, false),
            (
                Code::UnknownTopicOrPartition,
                ErrorKind::DeliveryFailure,
                false,
            ),
            (Code::MessageTimedOut, ErrorKind::DeliveryFailure, true),
            (Code::NotEnoughReplicas, ErrorKind::DeliveryFailure, true),
        ];
        for (code, kind, may_pass) in cases {
            let failed = delivery_error(&KafkaError::MessageProduction(code), PLACE, true);
            assert_eq!(failed.error.kind(), kind, "{code:?}");
            assert_eq!(failed.may_pass, may_pass, "{code:?}");
            assert_eq!(failed.error.is_retryable(), may_pass, "{code:?}");
            let text = failed.error.to_string();
            assert!(text.contains("topic t") && text.contains("b:1"), "{text}");
        }
        let timed_out = KafkaError::MessageProduction(Code::MessageTimedOut);
        let failed = delivery_error(&timed_out, PLACE, false);
        assert_eq!(failed.error.kind(), ErrorKind::Unreachable);
    }

    #[test]
    fn a_wrong_option_is_told_without_its_value() {
        let mut config = rdkafka::ClientConfig::new();
        config.set("ssl.key.password.of.mine", "hunter2");
        let fault = config.create_native_config().err().unwrap();
        let error = client_error(fault, "b:1");
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = format!("{error} {error:?}");
        assert!(text.contains("ssl.key.password.of.mine"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
