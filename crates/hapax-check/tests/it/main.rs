//! The exam itself, on every store of this workspace.

mod canaries;
mod consumer;
mod engine;
mod joined;
mod memory;
mod postgres;
mod sim;
mod source_memory;
#[cfg(feature = "nats")]
mod source_nats;
mod sqlite;
