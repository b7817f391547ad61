//! Connections as the store wants them, and clear words where a file cannot be opened.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hapax_core::{StoreError, StoreErrorKind};
use rusqlite::{Connection, OpenFlags};

use super::failure;
use super::{Durability, SqliteOptions};

/// How to open the store's file again.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    path: PathBuf,
    durability: Durability,
    cache_bytes: u64,
    max_bytes: Option<u64>,
}

/// A reader's own page cache: the operating system's, shared by all, is behind it.
const READER_CACHE_BYTES: u64 = 4 << 20;

/// Waiting for another process in steps of 1 ms, which keeps the wait fair: SQLite's own back-off grows to 100 ms,
/// and a busy neighbour never leaves the lock free that long.
const BUSY_STEP: Duration = Duration::from_millis(1);
/// How long a lock is waited for before the caller is told that the store is unavailable.
const BUSY_STEPS: i32 = 5_000;

impl Connector {
    pub(super) fn new(path: &Path, options: &SqliteOptions) -> Self {
        Self {
            path: path.to_owned(),
            durability: options.durability,
            cache_bytes: options.cache_bytes,
            max_bytes: options.max_bytes,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that writes; makes the file if there is none.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| self.explain(error))?;
        self.prepare_writer(&connection).map_err(|error| self.explain(error))?;
        if connection.is_readonly("main").unwrap_or(false) {
            let message = format!(
                "cannot write to {}: give this user write permission on the file and its directory, or name another file",
                self.path.display()
            );
            return Err(StoreError::new(StoreErrorKind::Invalid, message));
        }
        Ok(connection)
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_handler(Some(wait_for_lock))?;
            set_cache(&connection, READER_CACHE_BYTES)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        open().map_err(|error| self.explain(error))
    }

    fn prepare_writer(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_handler(Some(wait_for_lock))?;
        use_wal(connection)?;
        let synchronous = match self.durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Checkpoints are made by `checkpoint.rs`, off the writer's path.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        set_cache(connection, self.cache_bytes)?;
        if let Some(max_bytes) = self.max_bytes {
            let page_size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = (i64::try_from(max_bytes).unwrap_or(i64::MAX) / page_size.max(1)).max(1);
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(())
    }

    /// An error of opening, with what to do about it.
    fn explain(&self, error: rusqlite::Error) -> StoreError {
        let path = self.path.display();
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let kind = failure::kind(&error);
        let cannot_open = error.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen);
        let (kind, message) = if self.path.is_dir() {
            (
                StoreErrorKind::Invalid,
                format!("{path} is a directory: name a file in it, such as {path}/hapax.db"),
            )
        } else if parent.is_some_and(|parent| !parent.is_dir()) {
            let parent = parent.unwrap_or(Path::new("")).display();
            let message = format!("cannot open {path}: there is no directory {parent}; make it, or name another file");
            (StoreErrorKind::Invalid, message)
        } else if cannot_open || error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly) {
            let message = format!(
                "cannot open {path} for writing: give this user write permission on the file and its directory, or \
                 name another file"
            );
            (StoreErrorKind::Invalid, message)
        } else if kind == StoreErrorKind::Corrupt {
            let message =
                format!("{path} is not a SQLite database, or a damaged one: name another file, or restore it");
            (kind, message)
        } else {
            (kind, format!("cannot open {path}"))
        };
        StoreError::new(kind, message).caused_by(error)
    }
}

/// The switch to WAL is refused without waiting while another connection makes it too.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut steps = 0;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if is_busy(&error) && steps < BUSY_STEPS => {
                steps += 1;
                thread::sleep(BUSY_STEP);
            }
            other => return other,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn wait_for_lock(steps: i32) -> bool {
    thread::sleep(BUSY_STEP);
    steps < BUSY_STEPS
}

fn set_cache(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    // A negative number counts KiB.
    let kib = i64::try_from(bytes >> 10).unwrap_or(i64::MAX);
    connection.pragma_update(None, "cache_size", -kib)
}
