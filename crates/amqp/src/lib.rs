//! An AMQP 0-9-1 connection engine: a sans-IO state machine and one tokio task around it
