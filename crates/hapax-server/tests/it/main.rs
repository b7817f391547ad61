//! The real binary, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod admin;
mod bad_input;
mod browser;
mod consume;
#[cfg(feature = "failpoints")]
mod crash;
mod dead;
mod demo;
mod doctor;
mod drain;
mod http2;
mod jwt;
mod languages;
mod later;
mod logs;
mod outage;
mod outbox;
mod probing;
mod protect;
mod quotas;
mod receipts;
mod records;
mod resolve;
mod startup;
mod stores;
mod support;
mod tls;
