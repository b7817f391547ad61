//! sqlx on SQLite: its pool is the database.

use hapax_core::{Claim, Claimed, Fence, Finish, Finished, OperationId, Outcome, Ruling};
use hapax_store::joined::{Joint, JointError};
use sqlx::{AssertSqlSafe, SqlStr, Sqlite, SqliteConnection, SqlitePool, Transaction};

use super::bounds::Bounds;
use super::database::{Closed, Database, Entered, NotClosed, Opened};
use super::error::{no_connection, trouble};
use super::sqlite::not_committed;
use crate::failpoint::{self, Failpoint};

impl Database for SqlitePool {
    type Transaction = Transaction<'static, Sqlite>;
    type Connection = SqliteConnection;

    fn connection(transaction: &mut Self::Transaction) -> &mut SqliteConnection {
        transaction
    }

    async fn open(
        &self,
        joint: &Joint,
        claim: &Claim,
        bounds: &Bounds,
    ) -> Result<Opened<Self::Transaction>, JointError> {
        let mut transaction = begun(self, bounds).await?;
        match joint.claim(&mut transaction, claim).await {
            Ok(Claimed {
                now,
                ruling: Ruling::Won(lease),
            }) => {
                run(&mut transaction, "SAVEPOINT hapax".to_owned()).await?;
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
                self.abandon(transaction).await;
                Err(error)
            }
        }
    }

    async fn enter(
        &self,
        joint: &Joint,
        claims: &[Claim],
        outcome: &Outcome,
        bounds: &Bounds,
    ) -> Result<Entered<Self::Transaction>, JointError> {
        let mut transaction = begun(self, bounds).await?;
        match joint.enter(&mut transaction, claims, outcome, &bounds.of_entry()).await {
            Ok((now, new)) => Ok(Entered::Open(transaction, now, new)),
            Err(error) => {
                self.abandon(transaction).await;
                Err(error)
            }
        }
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), NotClosed> {
        transaction.commit().await.map_err(|error| {
            let code = error.as_database_error().and_then(|error| error.code());
            let code = code.and_then(|code| code.parse().ok());
            not_committed(trouble("commit", error), code)
        })
    }

    async fn begin(&self, bounds: &Bounds) -> Result<Self::Transaction, JointError> {
        let mut transaction = begun(self, bounds).await?;
        run(&mut transaction, "SAVEPOINT hapax".to_owned()).await?;
        Ok(transaction)
    }

    async fn undo(&self, transaction: &mut Self::Transaction) -> Result<(), JointError> {
        run(transaction, "ROLLBACK TO hapax".to_owned()).await
    }

    async fn close(
        &self,
        mut transaction: Self::Transaction,
        joint: &Joint,
        id: OperationId,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Closed, NotClosed> {
        let now = match joint.finish(&mut transaction, id, fence, finish).await {
            Ok(Finished::Applied { now }) => now,
            Ok(finished) => {
                self.abandon(transaction).await;
                return Ok(Closed::Refused(finished));
            }
            Err(error) => {
                self.abandon(transaction).await;
                return Err(NotClosed::RolledBack(error));
            }
        };
        failpoint::hit(Failpoint::Finished);
        self.commit(transaction).await.map(|()| Closed::Committed(now))
    }

    async fn abandon(&self, transaction: Self::Transaction) {
        // A connection on which that fails is broken, and its pool drops it.
        let _: Result<(), _> = transaction.rollback().await;
    }
}

/// Takes the database's one lock for writing, and waits no longer for it than the claim may. The connection's own busy
/// time-out is put back in either case.
async fn begun(pool: &SqlitePool, bounds: &Bounds) -> Result<Transaction<'static, Sqlite>, JointError> {
    let mut connection = pool.acquire().await.map_err(no_connection)?;
    let own: i64 = sqlx::query_scalar("PRAGMA busy_timeout")
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| trouble("read the busy time-out", error))?;
    let wait = bounds.claim.as_millis();
    let text = format!("PRAGMA busy_timeout = {wait}; BEGIN IMMEDIATE; PRAGMA busy_timeout = {own}");
    if let Err(error) = run(&mut connection, text).await {
        run(&mut connection, format!("PRAGMA busy_timeout = {own}")).await?;
        return Err(error);
    }
    // The transaction is open; this makes sqlx know it. Its commit and its rollback end the whole of it.
    Transaction::begin(connection, Some(SqlStr::from_static("SAVEPOINT hapax_begun")))
        .await
        .map_err(|error| trouble("begin a transaction", error))
}

/// Runs text of ours that has nothing of a caller's in it.
async fn run(connection: &mut SqliteConnection, text: String) -> Result<(), JointError> {
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(connection)
        .await
        .map(|_| ())
        .map_err(|error| trouble("begin a transaction", error))
}
