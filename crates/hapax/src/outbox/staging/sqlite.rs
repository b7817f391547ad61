//! The staging table in a SQLite file, beside the application's own tables.

use std::sync::{Arc, Mutex, PoisonError};

use hapax_core::{BoxFuture, Name, StoreError};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{Refused, Staged, StagedCount, Staging, Text, count, millis, not_installed, statements, text};
use crate::receipts::sqlite::{blocking, explain, label, open, path_of};
use crate::receipts::{Dialect, Installed};

pub(super) struct SqliteStaging(Arc<File>);

struct File {
    label: String,
    connection: Mutex<Connection>,
}

fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'hapax_outbox'";
    let there = connection.query_row(sql, [], |_| Ok(())).optional()?;
    Ok(there.is_some())
}

/// Makes or rewrites everything in one transaction.
pub(super) async fn install(url: &str) -> Result<Installed, StoreError> {
    let path = path_of(url)?;
    blocking(move || {
        let label = label(&path);
        let mut connection = open(&path, &label)?;
        let mut make = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let there = is_there(&transaction)?;
            for statement in statements(Dialect::Sqlite) {
                transaction.execute_batch(statement)?;
            }
            transaction.commit()?;
            Ok(if there { Installed::Again } else { Installed::Fresh })
        };
        make().map_err(|error| explain(&error, "cannot install the outbox", &label))
    })
    .await
}

impl SqliteStaging {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        let path = path_of(url)?;
        blocking(move || {
            let label = label(&path);
            let connection = open(&path, &label)?;
            let there = is_there(&connection).map_err(|error| explain(&error, "cannot look for an outbox", &label))?;
            if !there {
                return Err(not_installed(&label));
            }
            let connection = Mutex::new(connection);
            Ok(Self(Arc::new(File { label, connection })))
        })
        .await
    }

    fn with<'a, T: Send + 'static>(
        &self,
        doing: &'static str,
        step: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let file = Arc::clone(&self.0);
        Box::pin(blocking(move || {
            let mut connection = file.connection.lock().unwrap_or_else(PoisonError::into_inner);
            step(&mut connection).map_err(|error| explain(&error, doing, &file.label))
        }))
    }
}

impl Staging for SqliteStaging {
    fn label(&self) -> &str {
        &self.0.label
    }

    fn read<'a>(&'a self, effects: &'a [Name], limit: u32) -> BoxFuture<'a, Result<Vec<Staged>, StoreError>> {
        let effects: Vec<String> = effects.iter().map(|name| name.as_str().to_owned()).collect();
        self.with("cannot read the outbox", move |connection| {
            let marks = vec!["?"; effects.len()].join(", ");
            let sql = format!(
                "SELECT id, effect, key, payload, content_type, aggregate FROM hapax_outbox \
                 WHERE error IS NULL AND effect IN ({marks}) ORDER BY id LIMIT {limit}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(effects), staged)?;
            rows.collect()
        })
    }

    fn remove<'a>(&'a self, ids: &'a [i64]) -> BoxFuture<'a, Result<(), StoreError>> {
        let ids = ids.to_vec();
        self.with("cannot empty the outbox", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in ids {
                let mut delete = transaction.prepare_cached("DELETE FROM hapax_outbox WHERE id = ?1")?;
                delete.execute([id])?;
            }
            transaction.commit()
        })
    }

    fn refuse<'a>(&'a self, refused: &'a [(i64, String)]) -> BoxFuture<'a, Result<(), StoreError>> {
        let refused = refused.to_vec();
        self.with("cannot mark a row of the outbox", move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, error) in refused {
                transaction.execute("UPDATE hapax_outbox SET error = ?2 WHERE id = ?1", params![id, error])?;
            }
            transaction.commit()
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Vec<StagedCount>, StoreError>> {
        self.with("cannot count the outbox", |connection| {
            let mut statement = connection.prepare_cached(include_str!("../sqlite/counts.sql"))?;
            let rows = statement.query_map([], |row| {
                Ok(StagedCount {
                    effect: shown(row, 0)?,
                    waiting: count(row.get(1)?),
                    refused: count(row.get(2)?),
                    oldest: millis(row.get(3)?),
                })
            })?;
            rows.collect()
        })
    }

    fn refused(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Refused>, StoreError>> {
        self.with("cannot read the outbox", move |connection| {
            let sql = "SELECT id, effect, key, error FROM hapax_outbox WHERE error IS NOT NULL ORDER BY id LIMIT ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |row| {
                Ok(Refused {
                    id: row.get(0)?,
                    effect: shown(row, 1)?,
                    key: shown(row, 2)?,
                    error: shown(row, 3)?,
                })
            })?;
            rows.collect()
        })
    }
}

fn staged(row: &Row<'_>) -> rusqlite::Result<Staged> {
    Ok(Staged {
        id: row.get(0)?,
        effect: column(row, 1)?,
        key: column(row, 2)?,
        payload: bytes(row, 3)?.into(),
        content_type: column(row, 4)?,
        aggregate: match row.get_ref(5)? {
            ValueRef::Null => None,
            _ => Some(column(row, 5)?),
        },
    })
}

/// Texts and blobs alike: SQLite keeps what it was given.
fn bytes(row: &Row<'_>, index: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        ValueRef::Integer(number) => number.to_string().into(),
        ValueRef::Real(number) => number.to_string().into(),
        ValueRef::Null => Vec::new(),
    })
}

fn column(row: &Row<'_>, index: usize) -> rusqlite::Result<Text> {
    Ok(text(bytes(row, index)?))
}

fn shown(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(&bytes(row, index)?).into_owned())
}
