//! The SQLite file, past the store.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::{Age, times};
use crate::error::Result;
use crate::work;

const RECORD: &str = "INSERT INTO hapax_record (
        position, fence, id, state, look_at, created, since, status, tries, crashes, replay_for, remember_for,
        recipe, fingerprint, attempt, scope, name, key, headers, body
    )
    VALUES (?1, ?1, ?2, 'done', ?3, ?4, ?4, ?5, 0, 0, ?6, ?7, 1, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

pub(super) fn load(path: &Path, count: u64, age: Age) -> Result<()> {
    let mut connection = open(path)?;
    // A load that breaks is begun anew, so that it need not be safe.
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000")?;
    let transaction = connection.transaction()?;
    let mut insert = transaction.prepare(RECORD)?;
    let headers = work::answer().encode_headers();
    for number in 0..count {
        let key = work::loaded_key(number);
        let id = *work::operation(key.clone())?.id().as_bytes();
        let position = i64::try_from(number)? + 1;
        let (since, look_at, replay_for, remember_for) = times(age, position);
        insert.execute(params![
            position,
            id,
            look_at,
            since,
            work::STATUS,
            replay_for,
            remember_for,
            work::FINGERPRINT,
            work::random_id(),
            work::SCOPE,
            work::NAME,
            key,
            &headers[..],
            work::BODY,
        ])?;
    }
    drop(insert);
    transaction.execute("UPDATE hapax_meta SET last_fence = ?1", [i64::try_from(count)?])?;
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

pub(super) fn number(path: &Path, sql: &str) -> Result<i64> {
    Ok(open(path)?.query_row(sql, [], |row| row.get(0))?)
}

pub(super) fn cut_back(path: &Path, position: i64) -> Result<()> {
    let connection = open(path)?;
    connection.execute("DELETE FROM hapax_record WHERE position > ?1", [position])?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

pub(super) fn settle(path: &Path) -> Result<()> {
    let connection = open(path)?;
    connection.execute_batch("ANALYZE")?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}
