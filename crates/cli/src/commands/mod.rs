//! One file per command, each with one `run`.

pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod cast;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod listen;
pub(crate) mod notify;
pub(crate) mod ping;
pub(crate) mod serve;
