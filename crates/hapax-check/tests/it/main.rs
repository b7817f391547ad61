//! The exam itself, on every store of this workspace.

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
#[cfg(feature = "rabbitmq")]
mod source_rabbitmq;
#[cfg(feature = "nats")]
mod source_nats;
mod sqlite;
