//! Hand-written loops: what somebody would write who needs these two statements and nothing else.
//!
//! They have the store's columns, indexes, durability and batching, and none of its rules: no state machine, no checks,
//! no clock of its own, no time-outs, no second process.

pub(crate) mod postgres;
pub(crate) mod queue;
pub(crate) mod relay;
pub(crate) mod sqlite;
