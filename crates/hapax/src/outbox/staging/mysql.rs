//! The staging table in MySQL and MariaDB.

use hapax_core::{BoxFuture, Name, StoreError, StoreErrorKind};
use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Executor, MySql, Row};
use tokio::time::timeout;

use super::{
    PATIENCE, Refused, Staged, StagedCount, Staging, Text, count, millis, not_installed, read_only, silent, statements,
    text,
};
use crate::receipts::mysql::{prepare, target};
use crate::receipts::{Dialect, Installed};

/// One reads while another removes.
const CONNECTIONS: u32 = 2;

pub(super) struct MysqlStaging {
    label: String,
    pool: MySqlPool,
}

/// Makes what is missing. Definitions are no part of a transaction here.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let (options, label) = target(url)?;
    let failed = |error: sqlx::Error| explain(&error, "cannot install the outbox", &label);
    let connected = timeout(PATIENCE, MySqlConnection::connect_with(&options)).await;
    let mut connection = connected
        .map_err(|_| silent("cannot connect", &label))?
        .map_err(failed)?;
    let there = look(&mut connection, &label).await?;
    for statement in statements(Dialect::Mysql) {
        connection.execute(*statement).await.map_err(failed)?;
    }
    // Closing well is a courtesy.
    let _ = connection.close().await;
    Ok(if there { Installed::Again } else { Installed::Fresh })
}

/// Whether the outbox is there. Refuses what cannot have one.
async fn look(connection: &mut MySqlConnection, label: &str) -> Result<bool, StoreError> {
    let failed = |error: sqlx::Error| explain(&error, "cannot look for an outbox", label);
    let sql = "SELECT CAST(@@global.read_only AS SIGNED) + CAST(@@innodb_read_only AS SIGNED) AS read_only, \
               (SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.tables WHERE table_schema = DATABASE() \
                AND table_name = 'hapax_outbox') AS installed, \
               (SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.tables WHERE table_schema = DATABASE() \
                AND table_name = 'hapax_outbox' AND engine <> 'InnoDB') AS foreign_engine";
    let row = connection.fetch_one(sql).await.map_err(failed)?;
    let number = |name: &str| row.try_get::<i64, _>(name).map_err(failed);
    if number("read_only")? != 0 {
        return Err(read_only(label));
    }
    if number("foreign_engine")? != 0 {
        let message = format!(
            "hapax_outbox in {label} is not in InnoDB, and so in no transaction: ALTER TABLE hapax_outbox ENGINE = InnoDB"
        );
        return Err(StoreError::new(StoreErrorKind::Invalid, message));
    }
    Ok(number("installed")? != 0)
}

impl MysqlStaging {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let (options, label) = target(url)?;
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect_lazy_with(options);
        let connected = pool.acquire().await;
        let mut connection = connected.map_err(|error| explain(&error, "cannot connect", &label))?;
        if !look(&mut connection, &label).await? {
            return Err(not_installed(&label));
        }
        drop(connection);
        Ok(Self { label, pool })
    }

    async fn rows(&self, doing: &str, query: Query<'_, MySql, MySqlArguments>) -> Result<Vec<MySqlRow>, StoreError> {
        let rows = timeout(PATIENCE, query.fetch_all(&self.pool)).await;
        let rows = rows.map_err(|_| silent(doing, &self.label))?;
        rows.map_err(|error| explain(&error, doing, &self.label))
    }

    async fn all<T>(
        &self,
        doing: &str,
        query: Query<'_, MySql, MySqlArguments>,
        read: impl Fn(&MySqlRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.rows(doing, query).await?;
        let read = rows.iter().map(read).collect::<Result<_, _>>();
        read.map_err(|error| explain(&error, doing, &self.label))
    }
}

impl Staging for MysqlStaging {
    fn label(&self) -> &str {
        &self.label
    }

    fn read<'a>(&'a self, effects: &'a [Name], limit: u32) -> BoxFuture<'a, Result<Vec<Staged>, StoreError>> {
        Box::pin(async move {
            let marks = vec!["?"; effects.len()].join(", ");
            let sql = format!(
                "SELECT id, effect, `key`, payload, content_type, aggregate FROM hapax_outbox \
                 WHERE error IS NULL AND effect IN ({marks}) ORDER BY id LIMIT {limit}"
            );
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for effect in effects {
                query = query.bind(effect.as_str().as_bytes());
            }
            self.all("cannot read the outbox", query, staged).await
        })
    }

    fn remove<'a>(&'a self, ids: &'a [i64]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            if ids.is_empty() {
                return Ok(());
            }
            let marks = vec!["?"; ids.len()].join(", ");
            let sql = format!("DELETE FROM hapax_outbox WHERE id IN ({marks})");
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for id in ids {
                query = query.bind(*id);
            }
            self.rows("cannot empty the outbox", query).await.map(|_| ())
        })
    }

    fn refuse<'a>(&'a self, refused: &'a [(i64, String)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for (id, error) in refused {
                let query = sqlx::query("UPDATE hapax_outbox SET error = ? WHERE id = ?");
                let query = query.bind(error.as_str()).bind(*id);
                self.rows("cannot mark a row of the outbox", query).await?;
            }
            Ok(())
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<StagedCount>, StoreError>> {
        Box::pin(async move {
            let query = sqlx::query(include_str!("../mysql/counts.sql"));
            let read = |row: &MySqlRow| {
                Ok(StagedCount {
                    effect: shown(row, "effect")?,
                    waiting: count(row.try_get("waiting")?),
                    refused: count(row.try_get("failed")?),
                    oldest: millis(row.try_get("oldest_ms")?),
                })
            };
            self.all("cannot count the outbox", query, read).await
        })
    }

    fn refused(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Refused>, StoreError>> {
        Box::pin(async move {
            let sql = "SELECT id, effect, `key`, error FROM hapax_outbox WHERE error IS NOT NULL ORDER BY id LIMIT ?";
            let read = |row: &MySqlRow| {
                Ok(Refused {
                    id: row.try_get("id")?,
                    effect: shown(row, "effect")?,
                    key: shown(row, "key")?,
                    error: row.try_get("error")?,
                })
            };
            self.all("cannot read the outbox", sqlx::query(sql).bind(limit), read)
                .await
        })
    }
}

fn staged(row: &MySqlRow) -> Result<Staged, sqlx::Error> {
    Ok(Staged {
        id: row.try_get("id")?,
        effect: column(row, "effect")?,
        key: column(row, "key")?,
        payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
        content_type: Ok(row.try_get("content_type")?),
        aggregate: row.try_get::<Option<Vec<u8>>, _>("aggregate")?.map(text),
    })
}

fn column(row: &MySqlRow, name: &str) -> Result<Text, sqlx::Error> {
    row.try_get::<Vec<u8>, _>(name).map(text)
}

fn shown(row: &MySqlRow, name: &str) -> Result<String, sqlx::Error> {
    let bytes: Vec<u8> = row.try_get(name)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn explain(error: &sqlx::Error, doing: &str, label: &str) -> StoreError {
    let Some(db) = error.as_database_error() else {
        let kind = match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => StoreErrorKind::Corrupt,
            sqlx::Error::Configuration(_) => StoreErrorKind::Invalid,
            _ => StoreErrorKind::Unavailable,
        };
        let message = format!("{doing}: the connection to {label} failed: {error}");
        return StoreError::new(kind, message);
    };
    let number = db
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map_or(0, sqlx::mysql::MySqlDatabaseError::number);
    let (kind, next) = match number {
        1146 | 1305 => return not_installed(label),
        1290 | 1792 | 1836 => return read_only(label),
        1205 | 1213 | 1040 | 1053 | 1077..=1080 | 1152..=1161 => (StoreErrorKind::Unavailable, ""),
        1021 | 1114 => (StoreErrorKind::Full, ": make room on the database's disk"),
        1044 | 1142 | 1143 | 1227 | 1370 => (
            StoreErrorKind::Invalid,
            ": grant this user SELECT, UPDATE, DELETE on hapax_outbox; to install, CREATE, CREATE ROUTINE and ALTER \
             ROUTINE too, or let an administrator run the output of `hapax outbox sql`",
        ),
        _ => (StoreErrorKind::Invalid, ""),
    };
    StoreError::new(
        kind,
        format!("{doing}: {label} says: {} (error {number}){next}", db.message()),
    )
}
