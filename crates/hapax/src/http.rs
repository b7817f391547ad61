//! The door for HTTP: a tower layer that makes each keyed request happen once.
//!
//! ```text
//! request → service (passes, or is protected) → protect (key, scope, body, fingerprint) → engine → inner service
//!                                                   ↑ reply (the status table)  ←────────────┘ failure (what it proves)
//! ```
//!
//! It does not decide what a duplicate gets (that is [`hapax_core::decide()`]), does not retry, and frames nothing: a
//! listener must have refused ambiguous requests before.

mod answer;
mod body;
mod failure;
mod fingerprint;
mod key;
mod layer;
mod limits;
mod percent;
mod prefer;
mod problem;
mod profile;
mod protect;
mod reply;
mod report;
mod route;
mod scope;
mod service;
mod status;

pub use answer::IDEMPOTENT_REPLAYED;
pub use body::Body;
pub use failure::{Failure, MAX_RETRY_AFTER, Proof};
pub use fingerprint::{Pointer, PointerError, Recipe};
pub use key::{IDEMPOTENCY_KEY, KeyError};
pub use layer::Idempotency;
pub use limits::Limits;
pub use problem::{Details, Problem, whole_seconds};
pub use profile::Profile;
pub use protect::{BodyFailed, BoxError, HAPAX_FENCE, HAPAX_OPERATION};
pub use reply::HAPAX_STATE;
pub use report::{Report, Verdict};
pub use route::{Route, RouteBuilder, RouteError, Routes, StoreDown};
pub use scope::{HeaderScope, ScopeDigest, ScopeError, ScopeExtractor, SingleTenant};
pub use service::{IdempotencyService, ResponseFuture};
