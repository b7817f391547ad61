//! sqlx on PostgreSQL: its pool is the database.

use hapax_core::{Claim, Claimed, Fence, Finish, Finished, OperationId, Outcome, Ruling};
use hapax_store::joined::{Joint, JointError};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::bounds::Bounds;
use super::database::{Closed, Database, Entered, NotClosed, Opened};
use super::error::{no_connection, trouble};
use super::postgres::{UNDO, after_claim, begin, is_taken, not_committed};
use crate::failpoint::{self, Failpoint};

impl Database for PgPool {
    type Transaction = Transaction<'static, Postgres>;
    type Connection = PgConnection;

    fn connection(transaction: &mut Self::Transaction) -> &mut PgConnection {
        transaction
    }

    async fn open(
        &self,
        joint: &Joint,
        claim: &Claim,
        bounds: &Bounds,
    ) -> Result<Opened<Self::Transaction>, JointError> {
        let mut transaction = begun(self, begin(bounds, bounds.claim)).await?;
        match joint.claim(&mut transaction, claim).await {
            Ok(Claimed {
                now,
                ruling: Ruling::Won(lease),
            }) => {
                run(&mut transaction, after_claim(bounds)).await?;
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
                if is_taken(&error) {
                    Ok(Opened::Taken)
                } else {
                    Err(error)
                }
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
        let mut transaction = begun(self, "BEGIN".to_owned()).await?;
        match joint.enter(&mut transaction, claims, outcome, &bounds.of_entry()).await {
            Ok((now, new)) => Ok(Entered::Open(transaction, now, new)),
            Err(error) => {
                self.abandon(transaction).await;
                if is_taken(&error) {
                    Ok(Entered::Taken)
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn commit(&self, transaction: Self::Transaction) -> Result<(), NotClosed> {
        transaction.commit().await.map_err(|error| {
            let code = error.as_database_error().and_then(|error| error.code());
            let code = code.map(std::borrow::Cow::into_owned);
            not_committed(trouble("commit", error), code.as_deref())
        })
    }

    async fn begin(&self, bounds: &Bounds) -> Result<Self::Transaction, JointError> {
        begun(self, format!("{}; SAVEPOINT hapax", begin(bounds, bounds.lock))).await
    }

    async fn undo(&self, transaction: &mut Self::Transaction) -> Result<(), JointError> {
        run(transaction, UNDO.to_owned()).await
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

async fn begun(pool: &PgPool, text: String) -> Result<Transaction<'static, Postgres>, JointError> {
    pool.begin_with(AssertSqlSafe(text)).await.map_err(|error| match error {
        sqlx::Error::Database(_) => trouble("begin a transaction", error),
        error => no_connection(error),
    })
}

/// Runs text of ours that has nothing of a caller's in it.
async fn run(transaction: &mut Transaction<'static, Postgres>, text: String) -> Result<(), JointError> {
    sqlx::raw_sql(AssertSqlSafe(text))
        .execute(&mut **transaction)
        .await
        .map(|_| ())
        .map_err(|error| trouble("set a savepoint", error))
}
