//! The PostgreSQL store against real servers.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests; the lint sees only their outermost functions"
)]

mod faults;
mod joined;
mod queue;
mod races;
mod schema;
mod time;
mod world;
