//! The handles that callers hold: a connection, its channels, and confirms to wait for.

pub(crate) mod channel;
pub(crate) mod confirm;
pub(crate) mod connection;
pub(crate) mod socket;
