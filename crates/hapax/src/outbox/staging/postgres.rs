//! The staging table in PostgreSQL. Every statement is a transaction of its own and works through a pooler.

use hapax_core::{BoxFuture, Name, StoreError, StoreErrorKind};
use hapax_store::postgres::connect_plainly;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{
    PATIENCE, Refused, Staged, StagedCount, Staging, count, millis, not_installed, read_only, silent, statements,
};
use crate::receipts::{Dialect, Installed};

type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

pub(super) struct PostgresStaging {
    url: String,
    label: String,
    client: Mutex<Option<Client>>,
}

/// Makes or rewrites everything in one transaction.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let (mut client, label) = connect_plainly(url).await?;
    let failed = |error: tokio_postgres::Error| explain(&error, "cannot install the outbox", &label);
    let there = look(&client, &label).await?;
    let transaction = client.transaction().await.map_err(failed)?;
    for statement in statements(Dialect::Postgres) {
        transaction.batch_execute(statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(if there { Installed::Again } else { Installed::Fresh })
}

/// Whether the outbox is there. Refuses what cannot have one.
async fn look(client: &Client, label: &str) -> Result<bool, StoreError> {
    let failed = |error: tokio_postgres::Error| explain(&error, "cannot look for an outbox", label);
    let rows = client.query_typed(include_str!("../postgres/look.sql"), &[]).await;
    let rows = rows.map_err(failed)?;
    let row = rows.first().ok_or_else(|| not_installed(label))?;
    if row.get("read_only") {
        return Err(read_only(label));
    }
    if row.get::<_, Option<String>>("schema").is_none() {
        let message = format!(
            "{label} has no schema in the search path of this user: create it, or name one in the URL with \
             options=-csearch_path%3DNAME"
        );
        return Err(StoreError::new(StoreErrorKind::Invalid, message));
    }
    Ok(row.get("installed"))
}

impl PostgresStaging {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let (client, label) = connect_plainly(url).await?;
        if !look(&client, &label).await? {
            return Err(not_installed(&label));
        }
        Ok(Self {
            url: url.to_owned(),
            label,
            client: Mutex::new(Some(client)),
        })
    }

    async fn run(&self, doing: &str, sql: &str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let mut place = self.client.lock().await;
        let done = timeout(PATIENCE, async {
            let client = match place.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => connect_plainly(&self.url).await?.0,
            };
            let rows = client.query_typed(sql, params).await;
            let rows = rows.map_err(|error| explain(&error, doing, &self.label))?;
            Ok::<_, StoreError>((rows, client))
        });
        let (rows, client) = done.await.map_err(|_| silent(doing, &self.label))??;
        // One that failed is not kept.
        *place = Some(client);
        Ok(rows)
    }
}

impl Staging for PostgresStaging {
    fn label(&self) -> &str {
        &self.label
    }

    fn read<'a>(&'a self, effects: &'a [Name], limit: u32) -> BoxFuture<'a, Result<Vec<Staged>, StoreError>> {
        Box::pin(async move {
            let effects: Vec<&str> = effects.iter().map(Name::as_str).collect();
            let limit = i64::from(limit);
            let params: Params<'_> = &[(&effects, Type::TEXT_ARRAY), (&limit, Type::INT8)];
            let sql = include_str!("../postgres/read.sql");
            let rows = self.run("cannot read the outbox", sql, params).await?;
            Ok(rows.iter().map(staged).collect())
        })
    }

    fn remove<'a>(&'a self, ids: &'a [i64]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let sql = "DELETE FROM hapax_outbox WHERE id = ANY ($1)";
            let params: Params<'_> = &[(&ids, Type::INT8_ARRAY)];
            self.run("cannot empty the outbox", sql, params).await.map(|_| ())
        })
    }

    fn refuse<'a>(&'a self, refused: &'a [(i64, String)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let (ids, errors): (Vec<i64>, Vec<&str>) = refused.iter().map(|(id, error)| (*id, error.as_str())).unzip();
            let sql = "UPDATE hapax_outbox SET error = refused.error \
                       FROM unnest($1, $2) AS refused (id, error) WHERE hapax_outbox.id = refused.id";
            let params: Params<'_> = &[(&ids, Type::INT8_ARRAY), (&errors, Type::TEXT_ARRAY)];
            self.run("cannot mark a row of the outbox", sql, params)
                .await
                .map(|_| ())
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<StagedCount>, StoreError>> {
        Box::pin(async move {
            let sql = include_str!("../postgres/counts.sql");
            let rows = self.run("cannot count the outbox", sql, &[]).await?;
            let counts = rows.iter().map(|row| StagedCount {
                effect: row.get("effect"),
                waiting: count(row.get("waiting")),
                refused: count(row.get("failed")),
                oldest: millis(row.get("oldest_ms")),
            });
            Ok(counts.collect())
        })
    }

    fn refused(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Refused>, StoreError>> {
        Box::pin(async move {
            let limit = i64::from(limit);
            let sql = "SELECT id, effect, key, error FROM hapax_outbox WHERE error IS NOT NULL ORDER BY id LIMIT $1";
            let rows = self.run("cannot read the outbox", sql, &[(&limit, Type::INT8)]).await?;
            let refused = rows.iter().map(|row| Refused {
                id: row.get("id"),
                effect: row.get("effect"),
                key: row.get("key"),
                error: row.get("error"),
            });
            Ok(refused.collect())
        })
    }
}

fn staged(row: &Row) -> Staged {
    Staged {
        id: row.get("id"),
        effect: Ok(row.get("effect")),
        key: Ok(row.get("key")),
        payload: row.get::<_, Vec<u8>>("payload").into(),
        content_type: Ok(row.get("content_type")),
        aggregate: row.get::<_, Option<String>>("aggregate").map(Ok),
    }
}

fn explain(error: &tokio_postgres::Error, doing: &str, label: &str) -> StoreError {
    let Some(db) = error.as_db_error() else {
        let message = format!("{doing}: the connection to {label} failed: {error}");
        return StoreError::new(StoreErrorKind::Unavailable, message);
    };
    let (code, said) = (db.code().code(), db.message());
    let (kind, next) = match (code, &code[..2]) {
        ("25006", _) => return read_only(label),
        ("42P01" | "42883", _) => return not_installed(label),
        ("42501", _) => (
            StoreErrorKind::Invalid,
            ": grant this user SELECT, UPDATE, DELETE on hapax_outbox; to install, let a role that may create in this \
             schema do it, or run the output of `hapax outbox sql`",
        ),
        (_, "08" | "25" | "40" | "53" | "55" | "57" | "58") => (StoreErrorKind::Unavailable, ""),
        _ => (StoreErrorKind::Invalid, ""),
    };
    StoreError::new(kind, format!("{doing}: {label} says: {said} (SQLSTATE {code}){next}"))
}
