//! The driver against a cluster that speaks Kafka: the client library's mock, with TLS and logins put in front of it.

#![allow(clippy::unwrap_used)]

mod commits;
mod groups;
mod listening;
mod notify;
mod python;
mod security;
mod sending;
mod support;
