//! rusqlite: one connection that writes, and a thread for whoever blocks.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use hapax_core::{Claim, Claimed, Fence, Finish, Finished, OperationId, Outcome, Ruling, StoreErrorKind};
use hapax_store::joined::{Connection as Joinable, Fault, Joint, JointError, Row, Statement, Value};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::bounds::Bounds;
use super::database::{Closed, Database, Entered, NotClosed, Opened};
use super::decision::Decision;
use super::error::{AtomicError, trouble};
use super::sqlite::not_committed;
use super::{Atomic, BoxError};
use crate::engine::{Arrival, Reply, Run};
use crate::failpoint::{self, Failpoint};

/// A SQLite file. It has one writer at a time, so that this keeps one connection, for which transactions wait in the
/// order in which they came.
#[derive(Clone)]
pub struct Rusqlite {
    home: Arc<Home>,
}

struct Home {
    turns: Arc<Semaphore>,
    connection: Mutex<Option<Connection>>,
}

impl Rusqlite {
    /// Opens the file, in WAL mode and with every commit flushed (`synchronous = FULL`). The hapax store's tables must be
    /// in it.
    ///
    /// # Errors
    /// rusqlite's, if it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        Ok(Self::new(connection))
    }

    /// Uses a connection that was opened otherwise; it must be durable enough for the caller.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self {
            home: Arc::new(Home {
                turns: Arc::new(Semaphore::new(1)),
                connection: Mutex::new(Some(connection)),
            }),
        }
    }

    /// The connection, when it is this one's turn.
    async fn get(&self, bounds: &Bounds) -> Result<RusqliteTransaction, JointError> {
        let gone = || {
            let message = "the connection is gone: it could not be rolled back; open the file again";
            JointError::new(Fault::Other, StoreErrorKind::Unavailable, message)
        };
        let turn = timeout(bounds.longest, Arc::clone(&self.home.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| {
            let message = format!(
                "the connection was not free for {:?}: a handler keeps its transaction",
                bounds.longest
            );
            JointError::new(Fault::Busy, StoreErrorKind::Unavailable, message)
        })?;
        let turn = turn.map_err(|_| gone())?;
        let mut connection = self.home.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.take().ok_or_else(gone)?;
        let held = Held {
            connection: Some(connection),
            home: Arc::clone(&self.home),
            _turn: turn,
        };
        Ok(RusqliteTransaction { held: Some(held) })
    }
}

impl fmt::Debug for Rusqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rusqlite").finish_non_exhaustive()
    }
}

/// An open transaction.
pub struct RusqliteTransaction {
    held: Option<Held>,
}

/// The connection, until it goes home.
struct Held {
    connection: Option<Connection>,
    home: Arc<Home>,
    _turn: OwnedSemaphorePermit,
}

impl RusqliteTransaction {
    /// Does something with the connection on a thread that may block. `BEGIN`, `COMMIT` and `ROLLBACK` are not the
    /// handler's; savepoints are, by any name but `hapax`.
    ///
    /// # Panics
    /// If `work` does.
    pub async fn call<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Connection) -> T + Send + 'static) -> T {
        // Gone only while a call is under way, or was given up.
        let Some(mut held) = self.held.take() else {
            return std::future::pending().await;
        };
        // Given up in the middle, it goes home from there.
        let blocking = tokio::task::spawn_blocking(move || {
            let connection = held.connection.as_mut()?;
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(connection)));
            Some((held, done))
        });
        let (held, done) = match blocking.await {
            Ok(Some(done)) => done,
            // The runtime ends.
            Ok(None) | Err(_) => std::future::pending().await,
        };
        self.held = Some(held);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let whole = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        if whole {
            let mut home = self.home.connection.lock().unwrap_or_else(PoisonError::into_inner);
            *home = Some(connection);
        }
    }
}

/// The steps of a store in the handler's transaction, such as those of an outbox.
impl Joinable for RusqliteTransaction {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        let own: Vec<Own> = values.iter().map(|value| Own::of(*value)).collect();
        Box::pin(self.call(move |connection| {
            let values: Vec<Value<'_>> = own.iter().map(Own::value).collect();
            let ran = connection.run(statement, &values, keep).now_or_never();
            // rusqlite never pends.
            ran.unwrap_or_else(|| {
                let message = "the connection kept its caller waiting";
                Err(JointError::new(Fault::Other, StoreErrorKind::Invalid, message))
            })
        }))
    }
}

/// A value for a parameter that goes to another thread.
enum Own {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    Bool(bool),
}

impl Own {
    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Int(number) => Self::Int(number),
            Value::Text(text) => Self::Text(text.map(str::to_owned)),
            Value::Bytes(bytes) => Self::Bytes(bytes.map(<[u8]>::to_vec)),
            Value::Bool(truth) => Self::Bool(truth),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(text.as_deref()),
            Self::Bytes(bytes) => Value::Bytes(bytes.as_deref()),
            Self::Bool(truth) => Value::Bool(*truth),
        }
    }
}

impl fmt::Debug for RusqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RusqliteTransaction").finish_non_exhaustive()
    }
}

impl Database for Rusqlite {
    type Transaction = RusqliteTransaction;
    type Connection = RusqliteTransaction;

    fn connection(transaction: &mut RusqliteTransaction) -> &mut RusqliteTransaction {
        transaction
    }

    async fn open(
        &self,
        joint: &Joint,
        claim: &Claim,
        bounds: &Bounds,
    ) -> Result<Opened<RusqliteTransaction>, JointError> {
        let mut transaction = self.get(bounds).await?;
        let (joint, claim, wait) = (joint.clone(), claim.clone(), bounds.claim);
        let claimed = transaction
            .call(move |connection| {
                begin(connection, wait)?;
                let claimed = joint.claim_now(connection, &claim)?;
                execute(connection, "SAVEPOINT hapax")?;
                Ok(claimed)
            })
            .await?;
        Ok(match claimed {
            Claimed {
                now,
                ruling: Ruling::Won(lease),
            } => Opened::Won(transaction, now, lease),
            Claimed {
                now,
                ruling: Ruling::Refused(refusal),
            } => Opened::Refused(now, refusal),
        })
    }

    async fn enter(
        &self,
        joint: &Joint,
        claims: &[Claim],
        outcome: &Outcome,
        bounds: &Bounds,
    ) -> Result<Entered<RusqliteTransaction>, JointError> {
        let mut transaction = self.get(bounds).await?;
        let (joint, claims, outcome, bounds) = (joint.clone(), claims.to_vec(), outcome.clone(), *bounds);
        let (now, new) = transaction
            .call(move |connection| {
                begin(connection, bounds.claim)?;
                joint.enter_now(connection, &claims, &outcome, &bounds.of_entry())
            })
            .await?;
        Ok(Entered::Open(transaction, now, new))
    }

    async fn commit(&self, mut transaction: RusqliteTransaction) -> Result<(), NotClosed> {
        transaction.call(|connection| commit(connection)).await
    }

    async fn begin(&self, bounds: &Bounds) -> Result<RusqliteTransaction, JointError> {
        let mut transaction = self.get(bounds).await?;
        let wait = bounds.claim;
        transaction
            .call(move |connection| {
                begin(connection, wait)?;
                execute(connection, "SAVEPOINT hapax")
            })
            .await?;
        Ok(transaction)
    }

    async fn undo(&self, transaction: &mut RusqliteTransaction) -> Result<(), JointError> {
        transaction
            .call(|connection| execute(connection, "ROLLBACK TO hapax"))
            .await
    }

    async fn close(
        &self,
        mut transaction: RusqliteTransaction,
        joint: &Joint,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Closed, NotClosed> {
        let (joint, finish) = (joint.clone(), finish.clone());
        transaction
            .call(move |connection| {
                let finished = joint.finish_now(connection, id, fence, &finish);
                match finished.map_err(NotClosed::RolledBack)? {
                    Finished::Applied { now } => {
                        failpoint::hit(Failpoint::Finished);
                        commit(connection).map(|()| Closed::Committed(now))
                    }
                    finished => Ok(Closed::Refused(finished)),
                }
            })
            .await
    }

    async fn abandon(&self, mut transaction: RusqliteTransaction) {
        // What fails here is closed when it is dropped.
        let _: Result<(), _> = transaction.call(|connection| execute(connection, "ROLLBACK")).await;
    }
}

fn begin(connection: &Connection, wait: Duration) -> Result<(), JointError> {
    let busy = |error| trouble("set the busy time-out", error);
    connection.busy_timeout(wait).map_err(busy)?;
    execute(connection, "BEGIN IMMEDIATE")
}

fn commit(connection: &Connection) -> Result<(), NotClosed> {
    connection.execute_batch("COMMIT").map_err(|error| {
        let code = error.sqlite_error().map(|error| error.extended_code);
        not_committed(trouble("commit", error), code)
    })
}

fn execute(connection: &Connection, text: &str) -> Result<(), JointError> {
    connection
        .execute_batch(text)
        .map_err(|error| trouble("begin or end a transaction", error))
}

impl Atomic<Rusqlite> {
    /// As [`run`](Self::run), with a handler that blocks: it runs on a thread where it may.
    ///
    /// # Errors
    /// [`AtomicError`] says what is known: in all of its cases but one nothing happened.
    pub fn run_blocking<R, E, H>(
        &self,
        arrival: Arrival,
        handler: H,
    ) -> BoxFuture<'static, Result<Reply<R>, AtomicError>>
    where
        R: Send + 'static,
        E: Into<BoxError> + Send + 'static,
        H: Fn(&mut Connection, &Run) -> Result<Decision<R>, E> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.run(arrival, move |transaction, run| {
            let (handler, run) = (Arc::clone(&handler), run.clone());
            Box::pin(transaction.call(move |connection| handler(connection, &run)))
        })
    }
}
