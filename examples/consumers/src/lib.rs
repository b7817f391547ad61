//! A shop's consumers: points, stock and email for its orders, each with its own copy of the shop's events.
//!
//! Messages come more than once, out of order, and some make no sense. What each consumer does is committed together with
//! the record that says so: once.

mod consumers;
mod event;
mod handlers;
mod sources;

pub use consumers::{CONSUMERS, Consumers, Options, SetupError};
pub use event::Event;
pub use sources::source;
