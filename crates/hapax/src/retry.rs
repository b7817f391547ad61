//! Calls to others, retried by policy.
//!
//! A [`Destination`] is one [`RetryPolicy`](crate::core::RetryPolicy) with the budget and the breaker that all calls to
//! it share. [`retry()`] makes any call under it; `RetryLayer` does so for HTTP requests and sends the idempotency key.
//! What a failure proves decides whether it is retried: see [`FailureClass`](crate::core::policy::FailureClass).
//!
//! Nothing here is durable: a call that must outlive its process is an operation with a record, run by a runner.

mod call;
mod destination;
#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod future;
#[cfg(feature = "http")]
mod judge;
#[cfg(feature = "http")]
mod layer;
#[cfg(feature = "http")]
mod service;

use std::time::Duration;

pub use call::{Attempt, Failed, GaveUp, Last, Why, retry};
pub use destination::{Destination, NotAdmitted, Permit, Snapshot};
#[cfg(feature = "http")]
pub use error::{RetryError, RetryErrorKind};
#[cfg(feature = "http")]
pub use future::ResponseFuture;
#[cfg(feature = "http")]
pub use judge::{Judgement, judge};
#[cfg(feature = "http")]
pub use layer::{DerivedKey, RetryLayer};
#[cfg(feature = "http")]
pub use service::RetryService;

/// What a record keeps of a failure for want of time: `timed out after 30 s`. One wording, so that dead letters of all
/// doors fall into one group.
#[must_use]
pub fn timed_out(after: Duration) -> String {
    match after.subsec_millis() {
        0 => format!("timed out after {} s", after.as_secs()),
        _ => format!("timed out after {} ms", after.as_millis()),
    }
}
