//! The protocol of hapax: its words, the life of a record, what a store must do, and the reference model.
//!
//! Nothing here does I/O, reads a clock, or draws a random number: time is an argument (`now`), identifiers
//! are made by the caller. What may happen to an operation is decided in [`decide()`] and in the transitions of
//! [`Record`]; a store races those decisions in one atomic step, and [`model::Model`] is the plainest store that
//! does so.

pub mod answer;
pub mod clock;
pub mod decide;
pub mod fingerprint;
pub mod model;
pub mod policy;
pub mod record;
#[cfg(test)]
mod sample;
pub mod store;
pub mod time;
pub mod words;

pub use answer::{Answer, NotKept, Outcome};
pub use clock::StoreClock;
pub use decide::{Refusal, Verdict, decide};
pub use fingerprint::{Fingerprint, RecipeId};
pub use policy::{RetryPolicy, derive_key};
pub use record::{AfterFailure, Cause, DeadReason, Record, Retention, State, StateName};
pub use store::{
    Amend, Amended, BoxFuture, Claim, Claimed, Cursor, Filter, Finish, Finished, Lease, Page, Renewed, Ruling, Starter,
    Store, StoreError, StoreErrorKind, Summary, Swept,
};
pub use time::Timestamp;
pub use words::{AttemptId, Fence, Key, Name, Operation, OperationId, Scope, WordError};
