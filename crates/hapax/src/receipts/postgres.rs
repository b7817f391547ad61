//! Receipts in PostgreSQL. Every statement works through a pooler in transaction mode.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hapax_core::{BoxFuture, Fence, OperationId, StoreError, StoreErrorKind};
use hapax_store::postgres::connect_plainly;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{
    BODIES, CONNECTIONS, Dialect, Installed, LOCK_TIMEOUT, LONG_PATIENCE, NO_BODY, PATIENCE, Raw, Receipt, Receipts,
    Sealing, check_version, invalid, no_function, no_number, not_installed, read_only, sealing, stored,
};

type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

pub(super) struct PostgresReceipts {
    url: String,
    label: String,
    idle: Mutex<Vec<Client>>,
    places: Semaphore,
}

/// Makes or rewrites everything in one transaction.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let (mut client, label) = connect_plainly(url).await?;
    let failed = |error: tokio_postgres::Error| explain(&error, "cannot install receipts", &label);
    let there = look(&client, &label).await?;
    check_version(there.version, &label, true)?;
    let transaction = client.transaction().await.map_err(failed)?;
    let fresh = there.version.is_none();
    let functions = || {
        Dialect::Postgres
            .functions()
            .iter()
            .map(|&text| text.to_owned())
            .collect()
    };
    let statements: Vec<String> = if fresh {
        Dialect::Postgres.statements()
    } else {
        functions()
    };
    for statement in statements {
        transaction.batch_execute(&statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(if fresh { Installed::Fresh } else { Installed::Again })
}

/// What is there.
struct There {
    version: Option<i64>,
    /// The function is there.
    callable: bool,
    schemas: Option<String>,
}

async fn look(client: &Client, label: &str) -> Result<There, StoreError> {
    let failed = |error: tokio_postgres::Error| explain(&error, "cannot look for receipts", label);
    let rows = client.query_typed(include_str!("postgres/server.sql"), &[]).await;
    let rows = rows.map_err(failed)?;
    let row = rows
        .first()
        .ok_or_else(|| invalid(format!("{label} says nothing of itself")))?;
    if row.get("read_only") {
        return Err(read_only(label));
    }
    if row.get::<_, Option<String>>("schema").is_none() {
        return Err(invalid(format!(
            "{label} has no schema in the search path of this user: create it, or name one in the URL with \
             options=-csearch_path%3DNAME"
        )));
    }
    let version = if row.get("installed") {
        let sql = "SELECT max(version)::bigint AS version FROM hapax_receipt_version";
        let rows = client.query_typed(sql, &[]).await.map_err(failed)?;
        rows.first().and_then(|row| row.get("version"))
    } else {
        None
    };
    Ok(There {
        version,
        callable: row.get("callable"),
        schemas: row.get("schemas"),
    })
}

impl PostgresReceipts {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let (client, label) = connect_plainly(url).await?;
        let there = look(&client, &label).await?;
        if let Some(schemas) = there.schemas.filter(|schemas| schemas.contains(", ")) {
            return Err(invalid(format!(
                "{label} has hapax_receipt in several schemas ({schemas}), and the backend may write to another than \
                 is read here: keep one"
            )));
        }
        check_version(there.version, &label, false)?;
        if !there.callable {
            return Err(no_function("the function hapax_receipt", &label));
        }
        Ok(Self {
            url: url.to_owned(),
            label,
            idle: Mutex::new(vec![client]),
            places: Semaphore::new(CONNECTIONS),
        })
    }

    /// Runs one statement in a transaction of its own.
    async fn run(&self, doing: &str, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.run_within(PATIENCE, doing, sql, params).await
    }

    async fn run_within(
        &self,
        patience: Duration,
        doing: &str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| invalid("the receipts are closed"))?;
        let done = timeout(patience, async {
            let mut client = self.client().await?;
            let failed = |error: tokio_postgres::Error| explain(&error, doing, &self.label);
            let transaction = client.transaction().await.map_err(failed)?;
            let limit = format!("SET LOCAL lock_timeout = {}", LOCK_TIMEOUT.as_millis());
            transaction.batch_execute(&limit).await.map_err(failed)?;
            let rows = transaction.query_typed(sql, params).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok::<_, StoreError>((rows, client))
        });
        let (rows, client) = match done.await {
            Ok(done) => done?,
            Err(_) => {
                let (label, limit) = (&self.label, patience.as_secs());
                let message = format!("{doing}: {label} did not answer within {limit} s");
                return Err(StoreError::new(StoreErrorKind::Unavailable, message));
            }
        };
        // One that failed is not kept: whatever it was, a new one has it behind itself.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        Ok(rows)
    }

    async fn client(&self) -> Result<Client, StoreError> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(client) if client.is_closed() => {}
                Some(client) => return Ok(client),
                None => return Ok(connect_plainly(&self.url).await?.0),
            }
        }
    }

    async fn rows(&self, doing: &str, sql: &str, params: Params<'_>) -> Result<Vec<Receipt>, StoreError> {
        let rows = self.run(doing, sql, params).await?;
        rows.iter().map(|row| raw(row).receipt(&self.label)).collect()
    }

    async fn find(&self, operations: &[OperationId], limit: i64) -> Result<Vec<Receipt>, StoreError> {
        let ids: Vec<String> = operations.iter().map(OperationId::to_string).collect();
        let params: Params<'_> = &[(&ids, Type::TEXT_ARRAY), (&limit, Type::INT8)];
        self.rows("cannot look for a receipt", include_str!("postgres/find.sql"), params)
            .await
    }

    async fn seal(&self, operation: OperationId, fence: Fence) -> Result<Sealing, StoreError> {
        let (id, number) = (operation.to_string(), stored(fence)?);
        let params: Params<'_> = &[(&id, Type::TEXT), (&number, Type::INT8)];
        self.run("cannot seal an operation", include_str!("postgres/seal.sql"), params)
            .await?;
        let row = self.find(&[operation], BODIES).await?.pop();
        sealing(row, fence, &self.label)
    }
}

impl Receipts for PostgresReceipts {
    fn label(&self) -> &str {
        &self.label
    }

    fn find<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        Box::pin(self.find(operations, BODIES))
    }

    fn heads<'a>(&'a self, operations: &'a [OperationId]) -> BoxFuture<'a, Result<Vec<Receipt>, StoreError>> {
        Box::pin(self.find(operations, NO_BODY))
    }

    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Sealing, StoreError>> {
        Box::pin(self.seal(operation, fence))
    }

    fn list(&self, after: Option<OperationId>, limit: u32) -> BoxFuture<'_, Result<Vec<Receipt>, StoreError>> {
        Box::pin(async move {
            let (after, limit) = (after.map_or(String::new(), |id| id.to_string()), i64::from(limit));
            let params: Params<'_> = &[(&after, Type::TEXT), (&limit, Type::INT8)];
            self.rows("cannot list receipts", include_str!("postgres/list.sql"), params)
                .await
        })
    }

    fn purge<'a>(&'a self, rows: &'a [(OperationId, Fence)]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let ids: Vec<String> = rows.iter().map(|(id, _)| id.to_string()).collect();
            let fences: Vec<i64> = rows.iter().map(|(_, fence)| stored(*fence)).collect::<Result<_, _>>()?;
            let params: Params<'_> = &[(&ids, Type::TEXT_ARRAY), (&fences, Type::INT8_ARRAY)];
            let gone = self.run("cannot purge receipts", include_str!("postgres/purge.sql"), params);
            Ok(gone.await?.len() as u64)
        })
    }

    fn number<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let rows = self.run_within(LONG_PATIENCE, "cannot count", sql, &[]).await?;
            let number = rows.first().and_then(|row| match row.try_get::<_, i64>(0) {
                Ok(number) => Some(number),
                Err(_) => row.try_get::<_, i32>(0).ok().map(i64::from),
            });
            number.ok_or_else(|| no_number(&self.label))
        })
    }

    fn highest_fence(&self) -> BoxFuture<'_, Result<Option<Fence>, StoreError>> {
        Box::pin(async move {
            let sql = include_str!("postgres/highest.sql");
            let rows = self.run_within(LONG_PATIENCE, "cannot read receipts", sql, &[]).await?;
            let highest: Option<i64> = rows.first().and_then(|row| row.get("fence"));
            Ok(highest.map(|fence| Fence::new(fence.unsigned_abs())))
        })
    }
}

fn raw(row: &Row) -> Raw {
    Raw {
        operation: row.get("operation"),
        fence: row.get("fence"),
        sealed: row.get("sealed"),
        status: row.get::<_, Option<i32>>("status").map(i64::from),
        content_type: row.get("content_type"),
        body: row.get("body"),
        bytes: row.get("bytes"),
        at_ms: row.get("at_ms"),
        now_ms: row.get("now_ms"),
    }
}

fn explain(error: &tokio_postgres::Error, doing: &str, label: &str) -> StoreError {
    let Some(db) = error.as_db_error() else {
        let message = format!("{doing}: the connection to {label} failed");
        return StoreError::new(StoreErrorKind::Unavailable, message).caused_by(chain(error));
    };
    let (code, said) = (db.code().code(), db.message());
    if code == "25006" {
        return read_only(label);
    }
    if matches!(code, "42P01" | "42883") && said.contains("hapax_receipt") {
        return not_installed(label);
    }
    let (kind, next) = match (code, &code[..2]) {
        ("42501", _) => (
            StoreErrorKind::Invalid,
            ": grant this user SELECT, INSERT, UPDATE, DELETE on hapax_receipt and SELECT on hapax_receipt_version; to \
             install, let a role that may create in this schema do it, or run the output of `hapax receipts sql`",
        ),
        ("55P03", _) => (
            StoreErrorKind::Unavailable,
            ": a transaction of the backend that writes this receipt is still open",
        ),
        (_, "08" | "25" | "40" | "53" | "55" | "57" | "58") => (StoreErrorKind::Unavailable, ""),
        _ => (StoreErrorKind::Invalid, ""),
    };
    StoreError::new(kind, format!("{doing}: {label} says: {said} (SQLSTATE {code}){next}"))
}

/// An error with the errors underneath, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
