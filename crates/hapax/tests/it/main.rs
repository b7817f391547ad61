//! The library as its users have it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

#[cfg(all(feature = "failpoints", feature = "postgres", feature = "sqlite"))]
mod checkout;
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(all(feature = "rusqlite", feature = "webhook"))]
mod outbox;
#[cfg(feature = "sqlite")]
mod program;
#[cfg(feature = "mysql")]
mod receipts;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod worker;
