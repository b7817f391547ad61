//! tokio-postgres, through any pool: two round trips a run beside the handler's own.
//!
//! What needs no answer goes out with what comes next: the bounds with the claim and the savepoint, the commit with the
//! finish.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join, join3};
use hapax_core::{Claim, Claimed, Fence, Finish, Finished, OperationId, Outcome, Ruling};
use hapax_store::joined::{Cell, Connection, Fault, Joint, JointError, Row, Statement, Value};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement as Prepared};

use super::bounds::Bounds;
use super::database::{Closed, Database, Entered, NotClosed, Opened};
use super::error::{no_connection, trouble};
use super::postgres::{UNDO, after_claim, begin, is_taken, not_committed, settings};
use crate::failpoint::{self, Failpoint};

type BoxError = Box<dyn Error + Send + Sync>;
type Get<C> = Arc<dyn Fn() -> BoxFuture<'static, Result<C, BoxError>> + Send + Sync>;
type Prepare<C> = for<'a> fn(&'a C, &'a str, &'a [Type]) -> BoxFuture<'a, Result<Prepared, tokio_postgres::Error>>;

/// Connections of tokio-postgres, from wherever they come: a function that gives a client fits any pool. Cheap to clone.
///
/// ```
/// use hapax::atomic::TokioPostgres;
/// # fn with(pool: deadpool_postgres::Pool) -> impl hapax::atomic::Database {
/// TokioPostgres::new(
///     move || {
///         let pool = pool.clone();
///         async move { pool.get().await }
///     },
///     |client: &deadpool_postgres::Object| client,
/// )
/// .prepared(|client, text, types| Box::pin(client.prepare_typed_cached(text, types)))
/// # }
/// ```
pub struct TokioPostgres<C> {
    get: Get<C>,
    client: fn(&C) -> &Client,
    prepare: Option<Prepare<C>>,
}

impl<C: Send + Sync + 'static> TokioPostgres<C> {
    /// Takes what `get` gives as a connection, and finds the client in it with `client`. What it gave is dropped when
    /// its transaction has ended.
    pub fn new<F, E>(get: impl Fn() -> F + Send + Sync + 'static, client: fn(&C) -> &Client) -> Self
    where
        F: Future<Output = Result<C, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            get: Arc::new(move || {
                let got = get();
                Box::pin(async move { got.await.map_err(Into::into) })
            }),
            client,
            prepare: None,
        }
    }

    /// Keeps hapax's statements prepared, with what the pool has for that. Without it each is parsed anew, which works
    /// through a pooler in transaction mode.
    #[must_use]
    pub fn prepared(mut self, prepare: Prepare<C>) -> Self {
        self.prepare = Some(prepare);
        self
    }

    async fn get(&self) -> Result<PostgresTransaction<C>, JointError> {
        let lent = (self.get)().await.map_err(no_connection)?;
        Ok(PostgresTransaction {
            lent: Some(lent),
            client: self.client,
            claimed: false,
        })
    }

    fn piped<'a>(&self, lent: &'a C, begin: Option<Begin<'a>>, after: Option<&'a str>) -> Piped<'a, C> {
        Piped {
            lent,
            client: (self.client)(lent),
            prepare: self.prepare,
            begin,
            after,
            statements: 0,
            afterwards: Ok(()),
        }
    }
}

impl<C> Clone for TokioPostgres<C> {
    fn clone(&self) -> Self {
        Self {
            get: Arc::clone(&self.get),
            client: self.client,
            prepare: self.prepare,
        }
    }
}

impl<C> fmt::Debug for TokioPostgres<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioPostgres").finish_non_exhaustive()
    }
}

/// An open transaction: the client, to run statements on. `BEGIN`, `COMMIT` and `ROLLBACK` are not the handler's;
/// savepoints are, by any name but `hapax`.
pub struct PostgresTransaction<C: Send + Sync + 'static> {
    /// Until it has ended.
    lent: Option<C>,
    client: fn(&C) -> &Client,
    /// Whether the record's row is this transaction's own.
    claimed: bool,
}

impl<C: Send + Sync + 'static> PostgresTransaction<C> {
    /// What the pool gave: for statements that it keeps prepared.
    #[must_use]
    #[allow(clippy::expect_used, reason = "what ends the transaction takes all of it")]
    pub fn pooled(&self) -> &C {
        self.lent
            .as_ref()
            .expect("only what ends a transaction takes the connection out of it")
    }

    /// It has ended: the connection goes back to where it came from.
    fn ended(mut self) {
        self.lent = None;
    }
}

impl<C: Send + Sync + 'static> Deref for PostgresTransaction<C> {
    type Target = Client;

    fn deref(&self) -> &Client {
        (self.client)(self.pooled())
    }
}

impl<C: Send + Sync + 'static> Drop for PostgresTransaction<C> {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else { return };
        let client = self.client;
        // Dropped in the middle. Not to go back to its pool before it is rolled back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Without the connection there is no transaction.
                let _: Result<(), _> = client(&lent).batch_execute("ROLLBACK").await;
            });
        }
    }
}

impl<C: Send + Sync + 'static> fmt::Debug for PostgresTransaction<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresTransaction").finish_non_exhaustive()
    }
}

/// The steps of a store in the handler's transaction, such as those of an outbox.
impl<C: Send + Sync + 'static> Connection for PostgresTransaction<C> {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        keep: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        Box::pin(async move {
            let mut client: &Client = self;
            client.run(statement, values, keep).await
        })
    }
}

/// How a transaction is begun.
#[derive(Clone, Copy)]
enum Begin<'a> {
    /// With these settings.
    With(&'a str),
    /// As it is: the first statement sets them.
    Plain,
}

/// A connection whose first statement takes others along, before and after it.
struct Piped<'a, C> {
    lent: &'a C,
    client: &'a Client,
    prepare: Option<Prepare<C>>,
    /// Begins a transaction.
    begin: Option<Begin<'a>>,
    after: Option<&'a str>,
    /// How many have run.
    statements: usize,
    /// What came of the one after the first.
    afterwards: Result<(), tokio_postgres::Error>,
}

impl<C: Sync> Piped<'_, C> {
    /// A statement of ours, prepared where that is wanted.
    async fn prepared(&self, text: &str, types: &[Type]) -> Result<Option<Prepared>, JointError> {
        match self.prepare {
            Some(prepare) => prepare(self.lent, text, types).await.map(Some).map_err(explain),
            None => Ok(None),
        }
    }
}

impl<C: Sync> Connection for Piped<'_, C> {
    fn run<'a>(
        &'a mut self,
        statement: &'static Statement,
        values: &'a [Value<'a>],
        _: bool,
    ) -> BoxFuture<'a, Result<Vec<Row>, JointError>> {
        Box::pin(async move {
            let (begin, after) = (self.begin.take(), self.after.take());
            // Prepared before anything is sent, so that all of it goes out at once.
            let prepared = self.prepared(statement.text(), statement.types()).await?;
            let settings = match begin {
                Some(Begin::With(settings)) => self.prepared(settings, &[]).await?,
                Some(Begin::Plain) | None => None,
            };
            let client = self.client;
            let before = async {
                match (begin, &settings) {
                    (None, _) => Ok(()),
                    (Some(Begin::Plain), _) => client.batch_execute("BEGIN").await,
                    (Some(Begin::With(_)), Some(settings)) => {
                        let (begun, set) = join(client.batch_execute("BEGIN"), client.query(settings, &[])).await;
                        begun.and(set).map(|_| ())
                    }
                    (Some(Begin::With(settings)), None) => client.batch_execute(&format!("BEGIN; {settings}")).await,
                }
            };
            let params: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
            let rows = async {
                match &prepared {
                    Some(prepared) => client.query(prepared, &params).await,
                    None => {
                        let typed: Vec<_> = params.iter().copied().zip(statement.types().iter().cloned()).collect();
                        client.query_typed(statement.text(), &typed).await
                    }
                }
            };
            self.statements += 1;
            // Polled, and so sent, in this order.
            let (before, rows, after) = join3(before, rows, batch(client, after)).await;
            before.map_err(explain)?;
            self.afterwards = after;
            rows.map_err(explain)?.iter().map(row).collect()
        })
    }
}

/// What a commit comes to.
fn ended<C: Send + Sync + 'static>(
    transaction: PostgresTransaction<C>,
    committed: Result<(), tokio_postgres::Error>,
) -> Result<(), NotClosed> {
    match committed {
        Ok(()) => {
            transaction.ended();
            Ok(())
        }
        Err(error) => {
            let code = error.code().cloned();
            Err(not_committed(explain(error), code.as_ref().map(|code| code.code())))
        }
    }
}

async fn batch(client: &Client, text: Option<&str>) -> Result<(), tokio_postgres::Error> {
    match text {
        Some(text) => client.batch_execute(text).await,
        None => Ok(()),
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, JointError> {
    let cells: Result<Vec<Cell>, _> = (0..row.len()).map(|column| row.try_get(column)).collect();
    cells.map(Row).map_err(explain)
}

fn explain(error: tokio_postgres::Error) -> JointError {
    match error.as_db_error() {
        Some(db) => JointError::of_sqlstate(db.code().code(), db.message()).caused_by(error),
        None => trouble("reach the database", error),
    }
}

impl<C: Send + Sync + 'static> Database for TokioPostgres<C> {
    type Transaction = PostgresTransaction<C>;
    type Connection = PostgresTransaction<C>;

    fn connection(transaction: &mut PostgresTransaction<C>) -> &mut PostgresTransaction<C> {
        transaction
    }

    async fn open(
        &self,
        joint: &Joint,
        claim: &Claim,
        bounds: &Bounds,
    ) -> Result<Opened<PostgresTransaction<C>>, JointError> {
        let mut transaction = self.get().await?;
        let (settings, after) = (settings(bounds, bounds.claim), after_claim(bounds));
        let mut piped = self.piped(transaction.pooled(), Some(Begin::With(&settings)), Some(&after));
        let claimed = joint.claim(&mut piped, claim).await;
        let (statements, afterwards) = (piped.statements, piped.afterwards);
        match claimed {
            Ok(Claimed {
                now,
                ruling: Ruling::Won(lease),
            }) => {
                afterwards.map_err(explain)?;
                if statements > 1 {
                    // The savepoint is older than the claim.
                    transaction.batch_execute("SAVEPOINT hapax").await.map_err(explain)?;
                }
                transaction.claimed = true;
                Ok(Opened::Won(transaction, now, lease))
            }
            Ok(Claimed {
                now,
                ruling: Ruling::Refused(refusal),
            }) => {
                self.abandon(transaction).await;
                Ok(Opened::Refused(now, refusal))
            }
            Err(error) => {
                let taken = is_taken(&error);
                self.abandon(transaction).await;
                if taken { Ok(Opened::Taken) } else { Err(error) }
            }
        }
    }

    async fn enter(
        &self,
        joint: &Joint,
        claims: &[Claim],
        outcome: &Outcome,
        bounds: &Bounds,
    ) -> Result<Entered<PostgresTransaction<C>>, JointError> {
        let transaction = self.get().await?;
        let mut piped = self.piped(transaction.pooled(), Some(Begin::Plain), None);
        let entered = joint.enter(&mut piped, claims, outcome, &bounds.of_entry()).await;
        match entered {
            Ok((now, new)) => Ok(Entered::Open(transaction, now, new)),
            Err(error) => {
                let taken = is_taken(&error);
                self.abandon(transaction).await;
                if taken { Ok(Entered::Taken) } else { Err(error) }
            }
        }
    }

    async fn commit(&self, transaction: PostgresTransaction<C>) -> Result<(), NotClosed> {
        let committed = transaction.batch_execute("COMMIT").await;
        ended(transaction, committed)
    }

    async fn begin(&self, bounds: &Bounds) -> Result<PostgresTransaction<C>, JointError> {
        let transaction = self.get().await?;
        let text = format!("{}; SAVEPOINT hapax", begin(bounds, bounds.lock));
        transaction.batch_execute(&text).await.map_err(explain)?;
        Ok(transaction)
    }

    async fn undo(&self, transaction: &mut PostgresTransaction<C>) -> Result<(), JointError> {
        transaction.batch_execute(UNDO).await.map_err(explain)
    }

    async fn close(
        &self,
        transaction: PostgresTransaction<C>,
        joint: &Joint,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Closed, NotClosed> {
        // The row is locked by the claim that this transaction made, so that its finish applies: the commit need not
        // wait for the answer. Otherwise it must.
        let commit = transaction.claimed.then_some("COMMIT");
        let mut piped = self.piped(transaction.pooled(), None, commit);
        let finished = joint.finish(&mut piped, id, fence, finish).await;
        let mut committed = piped.afterwards;
        let now = match finished {
            Ok(Finished::Applied { now }) => now,
            Ok(finished) => {
                self.abandon(transaction).await;
                return Ok(Closed::Refused(finished));
            }
            // The commit may have been on its way.
            Err(error) if error.fault() == Fault::Lost && commit.is_some() => return Err(NotClosed::Unknown(error)),
            Err(error) => {
                self.abandon(transaction).await;
                return Err(NotClosed::RolledBack(error));
            }
        };
        if commit.is_none() {
            failpoint::hit(Failpoint::Finished);
            committed = transaction.batch_execute("COMMIT").await;
        }
        ended(transaction, committed).map(|()| Closed::Committed(now))
    }

    async fn abandon(&self, transaction: PostgresTransaction<C>) {
        if transaction.batch_execute("ROLLBACK").await.is_ok() {
            transaction.ended();
        }
    }
}
