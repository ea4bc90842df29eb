#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod error;
pub mod ini;
pub mod origin;
pub mod resolve;
pub mod sources;
mod substitute;
pub mod table;
pub mod value;
