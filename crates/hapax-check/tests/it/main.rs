//! The exam itself, on every store of this workspace, and on every source of messages.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod canaries;
mod consumer;
mod engine;
mod joined;
mod memory;
mod postgres;
mod sim;
#[cfg(feature = "kafka")]
mod source_kafka;
mod source_memory;
#[cfg(feature = "nats")]
mod source_nats;
#[cfg(feature = "rabbitmq")]
mod source_rabbitmq;
mod sqlite;
