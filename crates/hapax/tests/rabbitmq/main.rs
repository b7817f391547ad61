//! RabbitMQ: what the suite for every source does not ask.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod away;
mod copies;
mod place;
mod refusals;
mod sink;
mod subscription;
mod tls;
