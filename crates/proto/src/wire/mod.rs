//! The messages: what is in the body of an AMQP message (wire spec 6 to 12, 17).

pub mod args;
pub mod body;
pub mod context;
pub mod envelope;
pub mod failure;
pub mod ids;
pub mod notification;
pub mod plain;
pub mod reply;
pub mod request;
mod tags;
pub mod timestamp;
