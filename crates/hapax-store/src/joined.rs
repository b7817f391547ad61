//! The contract's steps inside the caller's own transaction, beside the caller's own statements: what is decided here
//! is committed, or rolled back, together with the business rows.
//!
//! Nothing here begins, commits, or changes a setting of the session, so that it works through PgBouncer in
//! transaction mode. The transaction is the lease: another transaction's claim of the same operation waits until this
//! one ends, at most as long as the caller's `lock_timeout` (PostgreSQL) or busy time-out (SQLite) says.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let claim: hapax_core::Claim = todo!();
//! # let outcome: hapax_core::Outcome = todo!();
//! use hapax_core::{Finish, Ruling};
//! use hapax_store::postgres::{PostgresOptions, PostgresStore};
//!
//! let url = "postgres://shop@127.0.0.1/shop";
//! let joint = PostgresStore::connect(url, PostgresOptions::default()).await?.joint();
//!
//! let (mut client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
//! tokio::spawn(connection);
//! let mut transaction = client.transaction().await?;
//! match joint.claim(&mut transaction, &claim).await?.ruling {
//!     Ruling::Won(lease) => {
//!         transaction.execute("UPDATE stock SET left = left - 1 WHERE item = 7", &[]).await?;
//!         let id = claim.operation.id();
//!         joint.finish(&mut transaction, id, lease.fence, &Finish::Done(outcome)).await?;
//!         transaction.commit().await?;
//!     }
//!     Ruling::Refused(refusal) => println!("not run: {refusal:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # PostgreSQL
//!
//! A claim waits for another transaction's uncommitted claim of the same operation. At READ COMMITTED it then sees what
//! the other left, and is refused or wins; at REPEATABLE READ and SERIALIZABLE the database says [`Fault::Conflict`],
//! and the caller runs its transaction again from the top. A failed step aborts the transaction, as any failed
//! statement does. The first step should come first in the transaction, and the fence of a finish decides: one that
//! is answered with [`Finished::Fenced`] must be followed by a rollback.
//!
//! # SQLite
//!
//! There is one writer at a time: begin with `BEGIN IMMEDIATE`. A transaction that began by reading gets
//! [`Fault::Conflict`] if somebody wrote since, and [`Fault::Busy`] if somebody is writing. The number of a fence that
//! was drawn in a transaction which was rolled back may be drawn again by another process.

mod columns;
mod fault;
#[cfg(feature = "postgres")]
mod postgres;
mod protocol;
mod record;
#[cfg(feature = "sqlite")]
mod rusqlite;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlx")]
mod sqlx;
mod statement;
#[cfg(feature = "postgres")]
mod tokio_postgres;
mod value;

use std::time::Duration;

use hapax_core::{
    BoxFuture, Claim, Claimed, Enqueue, Enqueued, Fence, Finish, Finished, Lease, OperationId, Outcome, Record,
    Timestamp,
};

use crate::clock::Clock;

#[cfg(feature = "sqlite")]
pub(crate) use sqlite::Drawn;

pub use fault::{Fault, JointError};
#[cfg(feature = "postgres")]
pub use postgres::postgres_statements;
#[cfg(feature = "sqlite")]
pub use sqlite::sqlite_statements;
pub use statement::Statement;
pub use value::{Cell, Row, Value};

/// One connection in the caller's open transaction.
///
/// An implementation MUST
/// - run exactly the statement it is given, with the values in the order of its parameters, and give all its rows;
/// - neither begin nor end a transaction, and run nothing else;
/// - say what a failure means ([`JointError::of_sqlstate`], [`JointError::of_sqlite`], [`JointError::lost`]).
pub trait Connection {
    /// Runs a statement. Whether it may stay prepared on the connection is for the joint to say (see
    /// [`Joint::prepared`]); an implementation that keeps none may ignore `keep`.
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>>;
}

/// A connection whose answers never pend: for callers without a runtime.
pub trait Immediate: Connection {}

/// The steps of the contract for callers' transactions. Cheap to clone; shares the clock of the store that made it.
#[derive(Debug, Clone)]
pub struct Joint {
    clock: Clock,
    label: String,
    dialect: Dialect,
    prepared: bool,
}

/// Whose SQL it is.
#[derive(Debug, Clone)]
enum Dialect {
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "sqlite")]
    Sqlite(Drawn),
}

/// What ends a transaction whose holder does not, on PostgreSQL; it is set for the transaction, which was just begun.
/// SQLite has no such time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOuts {
    /// `lock_timeout`.
    pub lock: Duration,
    /// `idle_in_transaction_session_timeout`.
    pub idle: Duration,
    /// `statement_timeout`.
    pub statement: Duration,
}

/// Whether a record is held, and locked until the transaction ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// The run with this fence goes on.
    Yes {
        /// The store's time.
        now: Timestamp,
        /// Its lease.
        lease: Lease,
    },
    /// The fence is not (or no longer) that run's: roll back.
    Fenced {
        /// The store's time.
        now: Timestamp,
        /// The record as it is; `None` if it was forgotten.
        record: Option<Box<Record>>,
    },
}

impl Joint {
    #[cfg(feature = "postgres")]
    pub(crate) fn postgres(clock: Clock, label: String) -> Self {
        Self {
            clock,
            label,
            dialect: Dialect::Postgres,
            prepared: false,
        }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite(clock: Clock, label: String, drawn: Drawn) -> Self {
        Self {
            clock,
            label,
            dialect: Dialect::Sqlite(drawn),
            prepared: true,
        }
    }

    /// Whether statements may stay prepared on the callers' connections. Off by default on PostgreSQL, since a pooler
    /// in transaction mode mixes them up; saves the server the parsing where connections go to it directly.
    #[must_use]
    pub fn prepared(mut self, prepared: bool) -> Self {
        self.prepared = prepared;
        self
    }

    /// Where the store is, without secrets.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Claims an operation ([`decide`](hapax_core::decide())). The claim is the transaction's: rolled back, it was
    /// never made.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn claim<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        claim: &Claim,
    ) -> Result<Claimed, JointError> {
        let doing = || format!("claim {}", claim.operation.id());
        protocol::claim(self, connection, claim)
            .await
            .map_err(|error| error.during(&doing(), &self.label))
    }

    /// Claims operations and finishes them as done, before the transaction does them: for a transaction that commits only
    /// if it did. Gives, in their order, which of them are new; the others are not touched, and their records decide
    /// ([`claim`](Self::claim)). The time is known if one of them is.
    ///
    /// All are of one scope, name, recipe and retention: the first one's. Copies of one operation are one. On PostgreSQL
    /// who enters several SHOULD give them in the order of their identities, lest two that wait for each other are told
    /// of a conflict.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn enter<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        claims: &[Claim],
        outcome: &Outcome,
        time_outs: &TimeOuts,
    ) -> Result<(Option<Timestamp>, Vec<bool>), JointError> {
        protocol::enter(self, connection, claims, outcome, time_outs)
            .await
            .map_err(|error| error.during("enter operations", &self.label))
    }

    /// Ends the run of the holder of `fence` ([`Record::finish`]). Unless the answer is [`Finished::Applied`], the
    /// transaction has nothing to commit: roll it back.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn finish<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Finished, JointError> {
        protocol::finish(self, connection, id, fence, finish)
            .await
            .map_err(|error| error.during(&format!("finish {id}"), &self.label))
    }

    /// Lays an operation before the runners ([`Record::enqueue`]), who see it once the transaction is committed.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn enqueue<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        enqueue: &Enqueue,
    ) -> Result<Enqueued, JointError> {
        let doing = || format!("enqueue {}", enqueue.operation.id());
        protocol::enqueue(self, connection, enqueue)
            .await
            .map_err(|error| error.during(&doing(), &self.label))
    }

    /// The record as the transaction sees it, with the store's time; a lapsed one as it stands.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn read<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
    ) -> Result<(Timestamp, Option<Record>), JointError> {
        protocol::read(self, connection, id)
            .await
            .map_err(|error| error.during(&format!("read {id}"), &self.label))
    }

    /// Checks that a run which was claimed and committed before still holds its fence, and locks its record, so that
    /// nobody takes it over before this transaction ends.
    ///
    /// # Errors
    /// [`JointError`] says what it means for the transaction.
    pub async fn hold<C: Connection + ?Sized>(
        &self,
        connection: &mut C,
        id: OperationId,
        fence: Fence,
    ) -> Result<Held, JointError> {
        protocol::hold(self, connection, id, fence)
            .await
            .map_err(|error| error.during(&format!("hold {id}"), &self.label))
    }
}
