//! The schema's migrations, carried out.

use hapax_core::{StoreError, StoreErrorKind, Timestamp};
use rusqlite::Connection;

use super::failure::Failure;
use crate::migration::{Applied, Migration, MigrationStatus, Step, plan, status};

pub(super) static MIGRATIONS: [Migration; 3] = [
    Migration {
        version: 1,
        name: "records",
        up: include_str!("migrations/0001_records.up.sql"),
        down: include_str!("migrations/0001_records.down.sql"),
    },
    Migration {
        version: 2,
        name: "queue",
        up: include_str!("migrations/0002_queue.up.sql"),
        down: include_str!("migrations/0002_queue.down.sql"),
    },
    Migration {
        version: 3,
        name: "groups",
        up: include_str!("migrations/0003_groups.up.sql"),
        down: include_str!("migrations/0003_groups.down.sql"),
    },
];

/// From this size on, rewriting the table of records takes long enough that somebody may wonder.
const LARGE_BYTES: i64 = 256 << 20;

const BOOK: &str = include_str!("migrations/book.sql");

/// Brings the schema to `target` (the newest if `None`), in one transaction. Returns what was done.
pub(super) fn migrate(
    connection: &mut Connection,
    target: Option<u32>,
    now: Timestamp,
) -> Result<Vec<Step>, StoreError> {
    // Looked at first without the write lock, which another process may hold: most often there is nothing to do.
    let steps = plan(&MIGRATIONS, &applied(connection)?, target)?;
    if steps.is_empty() {
        return Ok(steps);
    }
    let sql = |error: rusqlite::Error| Failure::from(error).error();
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(sql)?;
    let steps = plan(&MIGRATIONS, &applied(&transaction)?, target)?;
    announce(&transaction, &steps).map_err(sql)?;
    for step in &steps {
        carry_out(&transaction, *step, now).map_err(|error| {
            let (Step::Up(migration) | Step::Down(migration)) = step;
            let message = format!(
                "migration {} ({}) failed; nothing was changed",
                migration.version, migration.name
            );
            StoreError::new(super::failure::kind(&error), message).caused_by(error)
        })?;
    }
    transaction.commit().map_err(sql)?;
    Ok(steps)
}

/// Says so where a large table is about to be written anew.
fn announce(connection: &Connection, steps: &[Step]) -> rusqlite::Result<()> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let bytes = pages * connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))?;
    let rewrites = |step: &Step| matches!(step, Step::Up(m) | Step::Down(m) if m.version >= 2);
    if bytes >= LARGE_BYTES && steps.iter().any(rewrites) {
        let mib = bytes >> 20;
        tracing::warn!(
            mib,
            "SQLite store: the table of records is being written anew, which takes about as long as copying {mib} MiB \
             within the file, and as much room on its disk; nothing else can use the store until then"
        );
    }
    Ok(())
}

/// The state of each migration.
pub(super) fn migration_status(connection: &Connection) -> Result<Vec<MigrationStatus>, StoreError> {
    Ok(status(&MIGRATIONS, &applied(connection)?))
}

/// The secret made with the store.
pub(super) fn secret(connection: &Connection) -> Result<[u8; 32], StoreError> {
    connection
        .query_row("SELECT secret FROM hapax_meta WHERE one = 1", [], |row| row.get(0))
        .map_err(|error| Failure::from(error).error())
}

fn applied(connection: &Connection) -> Result<Vec<Applied>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Applied>> {
        let booked = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'hapax_migration'";
        if connection.query_row(booked, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(Vec::new());
        }
        connection
            .prepare("SELECT version, name, checksum, applied_at FROM hapax_migration ORDER BY version")?
            .query_map([], |row| {
                Ok(Applied {
                    version: row.get(0)?,
                    name: row.get(1)?,
                    checksum: row.get(2)?,
                    applied_at: Timestamp::from_millis(row.get(3)?),
                })
            })?
            .collect()
    };
    read().map_err(|error| Failure::from(error).error())
}

fn carry_out(connection: &Connection, step: Step, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute_batch(BOOK)?;
    match step {
        Step::Up(migration) => {
            connection.execute_batch(migration.up)?;
            if migration.version == 1 {
                make_meta(connection)?;
            }
            connection.execute(
                "INSERT INTO hapax_migration (version, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
                (migration.version, migration.name, migration.checksum(), now.as_millis()),
            )?;
        }
        Step::Down(migration) => {
            connection.execute_batch(migration.down)?;
            connection.execute("DELETE FROM hapax_migration WHERE version = ?1", [migration.version])?;
        }
    }
    Ok(())
}

/// The store's own row, with a secret from the operating system.
fn make_meta(connection: &Connection) -> rusqlite::Result<()> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        let message = format!("the operating system gave no random bytes: {error}");
        rusqlite::Error::ToSqlConversionFailure(StoreError::new(StoreErrorKind::Unavailable, message).into())
    })?;
    let sql = "INSERT INTO hapax_meta (one, last_fence, last_now, secret) VALUES (1, 0, 0, ?1)";
    connection.execute(sql, [secret]).map(|_| ())
}
