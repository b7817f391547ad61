//! The door for HTTP: a tower layer that makes each keyed request happen once.
//!
//! ```text
//! request → service (passes, or is protected) → protect (key, scope, body, fingerprint) → engine → inner service
//!                        admit (breaker, quotas: what would run) ↗  ↑ reply (the status table) ←┘ failure (what it proves)
//!                        stored, seal: a request laid down ──────→ runner → rerun: the same run without its caller
//! ```
//!
//! It does not decide what a duplicate gets (that is [`hapax_core::decide()`]), retries within a request only what was
//! never sent, and frames nothing: a listener must have refused ambiguous requests before.

mod admit;
mod answer;
#[cfg(feature = "atomic")]
mod atomic;
mod body;
pub(crate) mod failure;
mod fingerprint;
mod key;
mod later;
mod layer;
mod limits;
mod percent;
mod perform;
mod prefer;
mod problem;
mod profile;
mod protect;
mod quota;
mod reply;
mod report;
mod rerun;
mod route;
mod scope;
mod seal;
mod service;
mod settle;
mod status;
mod stored;
#[cfg(feature = "atomic")]
mod transaction;

pub use answer::IDEMPOTENT_REPLAYED;
pub use body::Body;
pub use failure::{Failure, MAX_RETRY_AFTER, Proof};
pub use fingerprint::{Pointer, PointerError, Recipe};
#[cfg(feature = "consume")]
pub(crate) use fingerprint::{canonical_json, json_text};
pub use key::{IDEMPOTENCY_KEY, KeyError};
pub use layer::Idempotency;
pub use limits::Limits;
pub use perform::{HAPAX_FENCE, HAPAX_OPERATION};
pub use problem::{Details, Problem, whole_seconds};
pub use profile::Profile;
pub use protect::{BodyFailed, BoxError};
pub use quota::{Quota, QuotaLimit};
pub use reply::HAPAX_STATE;
pub use report::{Report, Verdict};
pub use route::{Route, RouteBuilder, RouteError, Routes, StoreDown};
pub use scope::{HeaderScope, ScopeDigest, ScopeError, ScopeExtractor, SingleTenant};
pub use seal::{InputSeal, OpenError};
#[cfg(feature = "consume")]
pub(crate) use seal::{close as seal_input, open as open_input};
pub use service::{IdempotencyService, ResponseFuture};
#[cfg(feature = "atomic")]
pub use transaction::{NoTransaction, Rollback, Transaction};
