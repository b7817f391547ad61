//! Checkpoints, off the writer's path.
//!
//! The write-ahead log starts over only when everything in it has been copied at a moment when nobody writes, which
//! never comes by itself under load. So a thread of its own copies most of it while the writer goes on, until little
//! is left; the writer copies the rest between two batches.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::connection::Connector;

/// Few enough pages that the writer copies them without a pause that anybody notices.
const REST_PAGES: i64 = 400;
/// Rounds after which the writer is asked to copy what is left, however much that is.
const MAX_ROUNDS: usize = 3;
/// How many times the threshold the log may grow to: from there on the writer waits for the copying thread, since a
/// disk that cannot keep up must not be filled by the log.
const BOUND: i64 = 4;

thread_local! {
    /// Pages in the log after this thread's last commit.
    static LOG_PAGES: Cell<i64> = const { Cell::new(0) };
}

/// Lets a writing connection count the log's pages.
pub(super) fn count_pages(connection: &Connection) {
    connection.wal_hook(Some(|_, pages| {
        LOG_PAGES.set(i64::from(pages));
        Ok(())
    }));
}

/// Empties the log at the end. Failure costs nothing but a longer start.
pub(super) fn on_close(connection: &Connection) {
    if let Err(error) = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::debug!(%error, "SQLite store: the log could not be emptied at the end");
    }
}

/// What the writer and the checkpointing thread tell each other.
#[derive(Debug)]
pub(super) struct Checkpointer {
    threshold_pages: i64,
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The log is short.
    Idle,
    /// The thread copies, or is to.
    Copying,
    /// The same, and the writer waits for it.
    Hurry,
    /// The writer is to copy the rest.
    Rest,
    Stopped,
}

impl Checkpointer {
    pub(super) fn new(threshold_pages: u32) -> Self {
        Self {
            threshold_pages: i64::from(threshold_pages.max(1)),
            stage: Mutex::new(Stage::Idle),
            changed: Condvar::new(),
        }
    }

    /// Called by the writer between two batches.
    pub(super) fn after_commit(&self, connection: &Connection) {
        let pages = LOG_PAGES.get();
        if pages < self.threshold_pages {
            return;
        }
        let mut stage = self.lock();
        while matches!(*stage, Stage::Copying | Stage::Hurry) && pages >= BOUND * self.threshold_pages {
            *stage = Stage::Hurry;
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        match *stage {
            Stage::Idle => *stage = Stage::Copying,
            Stage::Rest => {
                if let Err(error) = checkpoint(connection, PASSIVE) {
                    tracing::warn!(%error, "SQLite store: a checkpoint failed and will be tried again");
                }
                LOG_PAGES.set(0);
                *stage = Stage::Idle;
            }
            Stage::Copying | Stage::Hurry | Stage::Stopped => return,
        }
        self.changed.notify_all();
    }

    pub(super) fn stop(&self) {
        self.enter(Stage::Stopped);
    }

    /// The checkpointing thread.
    pub(super) fn run(&self, connector: &Connector) {
        let mut connection = None;
        while self.wait_for_work() {
            if connection.is_none() {
                connection = connector.writer().ok();
            }
            match connection.as_ref().map(|connection| self.copy_most(connection)) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "SQLite store: a checkpoint failed and will be tried again");
                    connection = None;
                }
                None => tracing::warn!("SQLite store: no connection for a checkpoint; it will be tried again"),
            }
            self.enter(Stage::Rest);
        }
    }

    /// Copies the log while it grows, until a round had little to do, or more than the one before: then copying does not
    /// keep up, and the sooner the writer does the rest, the less that is.
    fn copy_most(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (mut copied_before, mut last_round) = (0, i64::MAX);
        for _ in 0..MAX_ROUNDS {
            let (_, copied) = checkpoint(connection, PASSIVE)?;
            let round = copied - copied_before;
            if round < REST_PAGES || round >= last_round || *self.lock() != Stage::Copying {
                break;
            }
            (copied_before, last_round) = (copied, round);
        }
        Ok(())
    }

    fn wait_for_work(&self) -> bool {
        let mut stage = self.lock();
        loop {
            match *stage {
                Stage::Copying | Stage::Hurry => return true,
                Stage::Stopped => return false,
                Stage::Idle | Stage::Rest => {}
            }
            stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn enter(&self, next: Stage) {
        let mut stage = self.lock();
        if *stage != Stage::Stopped {
            *stage = next;
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        // The stage is one word: a panic cannot leave it half-changed.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// Pages in the log, and how many of them are copied.
fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?)))
}
