//! The RabbitMQ driver of oslo-messaging
