#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod backoff;
mod brokers;
mod canary;
mod census;
mod compress;
pub mod config;
mod connection;
mod consumer;
mod declare;
mod delivery;
mod desk;
pub mod driver;
mod error;
mod exchanges;
mod facts;
mod fork;
mod inspect;
mod lane;
mod lock;
mod names;
mod parcel;
mod plain;
mod plan;
mod publisher;
mod pulse;
mod removal;
mod security;
mod subscription;
mod topology;
mod window;

pub use crate::compress::Compression;
