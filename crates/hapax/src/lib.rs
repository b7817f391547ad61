//! **Retry anything; it happens once.**
//!
//! hapax recognises a duplicate of what was asked before, answers it with the first result, and says so when nobody
//! knows whether it happened. [`Engine`] does this for any door; `http` (a tower layer) is the door for HTTP.

#[cfg(feature = "atomic")]
pub mod atomic;
#[cfg(feature = "consume")]
pub mod consume;
pub mod engine;
pub mod event;
pub mod failpoint;
#[cfg(any(
    feature = "tokio-postgres",
    feature = "rusqlite",
    feature = "sqlx-postgres",
    feature = "sqlx-sqlite"
))]
pub mod guard;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "outbox")]
pub mod outbox;
#[cfg(feature = "receipts")]
pub mod receipts;
pub mod resolver;
pub mod retry;
pub mod runner;
pub mod steps;
pub mod sweeper;

pub use engine::{Arrival, Ended, Engine, EngineOptions, Reply, Run, RunError, RunOptions};
pub use event::{Event, Observer};
pub use hapax_core as core;
pub use hapax_store as store;
pub use resolver::{Found, ResolveError, Resolver, Sealer};
pub use runner::{Attempted, Failure, Handling, Runner, RunnerOptions};
pub use sweeper::Sweeper;
