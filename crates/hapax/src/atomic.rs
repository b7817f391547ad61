//! Claim, business writes and finish in one transaction of the caller's own database: the effect happens once, whatever
//! crashes.
//!
//! ```text
//! arrival → cache → turn (one run of an operation per process; the others wait without a connection)
//!         → claim: begin, bounds, claim, savepoint → handler → close: finish, commit
//!         → settle: what a failure, a conflict or a lost answer comes to
//! ```
//!
//! The transaction is the lease: the database's own time-outs end it when its holder dies or hangs ([`Bounds`]). What a
//! duplicate is told is decided where it always is ([`hapax_core::decide()`]); the statements are those of
//! [`Joint`]. What this does not do: undo what a handler did outside its transaction, and keep an operation in the
//! database of one store and its writes in another.

mod attempt;
mod bounds;
mod claim;
mod database;
mod decision;
mod drive;
mod early;
mod error;
mod failure;
#[cfg(any(feature = "tokio-postgres", feature = "sqlx-postgres"))]
mod postgres;
mod settle;
pub(crate) mod work;

#[cfg(feature = "rusqlite")]
mod rusqlite;
#[cfg(any(feature = "rusqlite", feature = "sqlx-sqlite"))]
mod sqlite;
#[cfg(feature = "sqlx-postgres")]
mod sqlx_postgres;
#[cfg(feature = "sqlx-sqlite")]
mod sqlx_sqlite;
#[cfg(feature = "tokio-postgres")]
mod tokio_postgres;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax_core::policy::{Backoff, Classes, Limits};
use hapax_core::{AfterFailure, RetryPolicy, Starter};
use hapax_store::joined::Joint;
use tokio::sync::oneshot;

use crate::engine::{Arrival, Engine, Inner, Reply, Run};

pub use bounds::{Bounds, BoundsError};
pub use database::{Closed, Database, Entered, NotClosed, Opened};
pub use decision::Decision;
pub use error::AtomicError;
#[cfg(feature = "http")]
pub(crate) use error::chain;
#[cfg(feature = "rusqlite")]
pub use rusqlite::{Rusqlite, RusqliteTransaction};
#[cfg(feature = "tokio-postgres")]
pub use tokio_postgres::{PostgresTransaction, TokioPostgres};
use work::{Failed, Work};

/// Any error of a handler.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How operations are run in transactions. Every field has a default.
#[derive(Debug, Clone)]
pub struct AtomicOptions {
    /// What ends a transaction whose holder does not.
    pub bounds: Bounds,
    /// How a run is repeated that the database chose to give way (a serialization failure, a deadlock) or that lost its
    /// connection before the commit. Nothing of it happened, and it does not count as a try. (5 tries, 10 ms to 1 s
    /// apart. Only `backoff` and `limits.tries` matter.)
    pub conflicts: RetryPolicy,
    /// When an operation whose handler failed is run again, and when it is given up. `None`: a caller's own retry runs it
    /// at once, as often as it comes. (`None`. Only `backoff` and `limits.tries` matter.)
    pub failures: Option<RetryPolicy>,
    /// How long a commit whose answer was lost is looked into before its caller is told that nobody knows (30 s).
    pub commit_patience: Duration,
    /// Claim in a transaction of its own before the handler begins, so that a crash in the middle is counted as a try
    /// (no). Costs a commit; takes [`Arrival::options`]'s lease to recover from a crash.
    pub count_crashes: bool,
}

impl Default for AtomicOptions {
    fn default() -> Self {
        let conflicts = RetryPolicy {
            retry: Classes::ALL,
            backoff: Backoff {
                base: Duration::from_millis(10),
                cap: Duration::from_secs(1),
                ..Backoff::default()
            },
            limits: Limits {
                tries: 5,
                ..Limits::default()
            },
            ..RetryPolicy::default()
        };
        Self {
            bounds: Bounds::default(),
            conflicts,
            failures: None,
            commit_patience: Duration::from_secs(30),
            count_crashes: false,
        }
    }
}

/// Runs operations in transactions of one database. Cheap to clone.
pub struct Atomic<D> {
    pub(crate) shared: Arc<Shared<D>>,
}

pub(crate) struct Shared<D> {
    pub(crate) engine: Arc<Inner>,
    pub(crate) joint: Joint,
    pub(crate) database: D,
    pub(crate) options: AtomicOptions,
}

impl<D: Database> Atomic<D> {
    /// Runs on `database` what the engine would run. `joint` is of the engine's store, which must keep its records in
    /// the same database: [`PostgresStore::joint`](hapax_store::PostgresStore::joint),
    /// [`SqliteStore::joint`](hapax_store::SqliteStore::joint).
    ///
    /// # Errors
    /// [`BoundsError`] if the bounds contradict each other.
    pub fn new(engine: &Engine, joint: Joint, database: D, options: AtomicOptions) -> Result<Self, BoundsError> {
        options.bounds.check()?;
        Ok(Self {
            shared: Arc::new(Shared {
                engine: Arc::clone(&engine.inner),
                joint,
                database,
                options,
            }),
        })
    }

    /// Runs the operation with `handler` in a transaction, unless it is a duplicate: then says what the record says,
    /// after waiting up to [`Arrival::wait`] if it is in progress.
    ///
    /// The handler gets the open transaction and the run. It MUST do all that has to happen once through that
    /// transaction, MUST NOT end it, and may be called again from the top when the database rolled it back.
    /// - [`Decision::Done`]: what it wrote and the answer are committed together.
    /// - [`Decision::Rejected`]: a final answer of which nothing may stay (a 4xx): what it wrote is rolled back, the
    ///   answer is kept.
    /// - An error, or a panic: everything is rolled back, and counted; a later arrival runs it again.
    ///
    /// Once claimed, it runs to its end in a task of its own, even if this future is dropped. Must be called within a
    /// Tokio runtime.
    ///
    /// # Errors
    /// [`AtomicError`] says what is known: in all of its cases but one nothing happened.
    pub fn run<R, E, H>(&self, arrival: Arrival, handler: H) -> BoxFuture<'static, Result<Reply<R>, AtomicError>>
    where
        R: Send + 'static,
        E: Into<BoxError> + Send + 'static,
        H: for<'t> FnMut(&'t mut D::Connection, &'t Run) -> BoxFuture<'t, Result<Decision<R>, E>> + Send + 'static,
    {
        // Boxed here, where the compiler can tell that it may go to another thread.
        let (atomic, work) = (self.clone(), work::Borrowing::new(handler));
        Box::pin(async move {
            atomic
                .perform(arrival, work)
                .await
                .map_err(|error| error.map(|failed| failed.error))
        })
    }

    /// Runs what a door made of an arrival.
    pub(crate) async fn perform<W: Work<D>>(
        &self,
        arrival: Arrival,
        work: W,
    ) -> Result<Reply<W::Reply>, AtomicError<Failed<W::Error>>> {
        let mut claim = arrival.claim().map_err(AtomicError::not_claimed)?;
        // A transaction that did not commit did not happen: whoever comes next may run it.
        claim.after_failure = AfterFailure::Retry;
        if let Some(refusal) = self.shared.engine.cached(&claim) {
            return Ok(Reply::Refused(refusal));
        }
        let (reply, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        if self.shared.options.count_crashes {
            claim.starter = Starter::System;
            early::spawn(shared, claim, arrival.refingerprint, arrival.wait, work, reply);
        } else {
            let drive = drive::Drive::new(shared, claim, arrival.refingerprint, arrival.wait, work);
            tokio::spawn(drive.run(reply));
        }
        answered.await.unwrap_or(Err(AtomicError::Lost))
    }
}

#[cfg(feature = "consume")]
impl<D: Database + Clone> Atomic<D> {
    /// The same with other options; the bounds were checked.
    pub(crate) fn with(&self, options: AtomicOptions) -> Self {
        let shared = &self.shared;
        Self {
            shared: Arc::new(Shared {
                engine: Arc::clone(&shared.engine),
                joint: shared.joint.clone(),
                database: shared.database.clone(),
                options,
            }),
        }
    }

    /// Runs what was claimed before. What it comes to is committed, or was rolled back and is the caller's to record.
    pub(crate) async fn rerun<W: Work<D>>(&self, work: W, run: Run) -> Result<W::Reply, AtomicError<Failed<W::Error>>> {
        early::transact(Arc::clone(&self.shared), work, run).await.reply
    }
}

impl<D> Clone for Atomic<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<D> fmt::Debug for Atomic<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Atomic")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
