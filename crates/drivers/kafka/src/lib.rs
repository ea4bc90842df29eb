#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "driver")]
mod address;
pub mod config;
#[cfg(feature = "driver")]
mod connection;
#[cfg(feature = "driver")]
mod consumer;
#[cfg(feature = "driver")]
mod desk;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "driver")]
mod error;
#[cfg(feature = "driver")]
mod ledger;
#[cfg(feature = "driver")]
mod places;
#[cfg(feature = "driver")]
mod plan;
#[cfg(feature = "driver")]
mod publisher;
#[cfg(feature = "driver")]
mod settings;
#[cfg(feature = "driver")]
mod status;
#[cfg(feature = "driver")]
mod subscription;
