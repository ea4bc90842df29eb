//! The client library's side of a connection: how its clients are made, and what they report.
//!
//! Reports become state in [`Status`]; log lines go to `tracing` under the target `librdkafka`.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::{Broker, Statistics};
use tracing::{debug, info, warn};

use crate::error::refusal_kind;
use crate::settings::Property;
use crate::status::{Refusal, Status};

/// The properties as the library takes them.
pub(crate) fn client_config(properties: Vec<Property>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// What a client of the library reports to. Clones report to the same.
#[derive(Clone)]
pub(crate) struct Reporter {
    /// Where it is kept.
    pub(crate) status: Arc<Status>,
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{text}"),
            RDKafkaLogLevel::Notice => info!(target: "librdkafka", facility, "{text}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(target: "librdkafka", facility, "{text}");
            }
        }
    }

    fn stats(&self, statistics: Statistics) {
        let up = |broker: &&Broker| broker.state == "UP" && broker.nodeid >= 0;
        if let Some(broker) = statistics.brokers.values().find(up) {
            self.status.mark_up(Some(&broker.nodename));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        debug!(?code, reason, "fault of a connection");
        if let Some(is_tls) = refusal_kind(code) {
            self.status.refuse(Refusal {
                reason: reason.to_owned(),
                is_tls,
            });
        } else if code == RDKafkaErrorCode::AllBrokersDown {
            self.status.mark_down(reason);
        } else {
            self.status.note(reason);
        }
    }
}
