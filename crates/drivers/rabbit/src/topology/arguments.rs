//! The arguments tables of queues and consumers, as the options ask for them.

use super::{Argument, Arguments, Layout};
use crate::config::RabbitConfig;

pub(super) fn topic_arguments(layout: Layout<'_>) -> Arguments {
    let mut arguments = if layout.quorum_instead() {
        Vec::new()
    } else {
        ha_arguments(layout.config)
    };
    if layout.topics_quorum() {
        push_quorum(layout.config, &mut arguments);
    }
    arguments
}

pub(super) fn transient_arguments(config: &RabbitConfig) -> Arguments {
    let mut arguments = ha_arguments(config);
    if config.rabbit_transient_quorum_queue {
        push_quorum(config, &mut arguments);
    }
    if config.rabbit_transient_queues_ttl > 0 {
        let milliseconds = i64::from(config.rabbit_transient_queues_ttl) * 1000;
        arguments.push(("x-expires", Argument::Number(milliseconds)));
    }
    arguments
}

pub(super) fn stream_arguments(config: &RabbitConfig) -> Arguments {
    let mut arguments = vec![("x-queue-type", Argument::Text("stream".to_owned()))];
    if config.rabbit_transient_queues_ttl > 0 {
        arguments.push((
            "x-max-age",
            Argument::Text(format!("{}s", config.rabbit_transient_queues_ttl)),
        ));
    }
    arguments
}

fn ha_arguments(config: &RabbitConfig) -> Arguments {
    if config.rabbit_ha_queues {
        vec![("x-ha-policy", Argument::Text("all".to_owned()))]
    } else {
        Vec::new()
    }
}

fn push_quorum(config: &RabbitConfig, arguments: &mut Arguments) {
    arguments.push(("x-queue-type", Argument::Text("quorum".to_owned())));
    let limits = [
        ("x-delivery-limit", config.rabbit_quorum_delivery_limit),
        (
            "x-max-in-memory-length",
            config.rabbit_quorum_max_memory_length,
        ),
        (
            "x-max-in-memory-bytes",
            config.rabbit_quorum_max_memory_bytes,
        ),
    ];
    arguments.extend(
        limits
            .into_iter()
            .filter(|(_, limit)| *limit != 0)
            .map(|(name, limit)| (name, Argument::Number(limit))),
    );
}

pub(super) fn consumer_arguments(config: &RabbitConfig) -> Arguments {
    if config.enable_cancel_on_failover {
        vec![("x-cancel-on-ha-failover", Argument::Flag(true))]
    } else {
        Vec::new()
    }
}
