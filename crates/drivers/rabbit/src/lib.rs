#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod compress;
pub mod config;
mod topology;

pub use crate::compress::Compression;
