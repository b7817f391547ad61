//! One thread with SQLite: all that waits goes into one transaction.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, Statement, params};
use tokio::sync::oneshot;

use crate::error::Result;
use crate::work;

/// The same page cache and log length as the store's defaults.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -8192;
    PRAGMA wal_autocheckpoint = 4000;";

const TABLE: &str = "CREATE TABLE record (
        position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, fence INTEGER NOT NULL, state TEXT NOT NULL,
        look_at INTEGER NOT NULL, created INTEGER NOT NULL, since INTEGER NOT NULL, deadline INTEGER, run_until INTEGER,
        after_failure TEXT, due INTEGER, reason TEXT, status INTEGER, tries INTEGER NOT NULL,
        replay_for INTEGER NOT NULL, remember_for INTEGER NOT NULL, recipe INTEGER NOT NULL, fingerprint BLOB NOT NULL,
        attempt BLOB NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, headers BLOB, body BLOB
    ) STRICT;
    CREATE INDEX record_look_at ON record (look_at);";

const CLAIM: &str = "INSERT INTO record (
        fence, id, scope, name, key, recipe, fingerprint, attempt, tries, created, since, replay_for, remember_for,
        deadline, run_until, after_failure, look_at, state
    )
    VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, 0, ?8, ?8, 86400000, 2592000000, ?8 + 30000, ?8 + 900000, 'hold',
        ?8 + 87300000, 'running')
    ON CONFLICT (id) DO NOTHING";

const FINISH: &str = "UPDATE record
    SET state = 'done', since = ?3, status = ?4, headers = ?5, body = ?6,
        deadline = NULL, run_until = NULL, after_failure = NULL
    WHERE id = ?1 AND fence = ?2 AND state = 'running'";

enum Asked {
    Claim {
        id: [u8; 16],
        attempt: [u8; 16],
        key: String,
    },
    Finish {
        id: [u8; 16],
        fence: i64,
    },
}

type Job = (Asked, oneshot::Sender<i64>);

#[derive(Default)]
struct Queue {
    /// What waits, and whether the loop is to end.
    waiting: Mutex<(Vec<Job>, bool)>,
    changed: Condvar,
}

impl Queue {
    fn put(&self, job: Job) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).0.push(job);
        self.changed.notify_one();
    }

    /// Waits for work and takes all of it; nothing at the end.
    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.0.is_empty() && !waiting.1 {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut waiting.0)
    }

    fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.changed.notify_one();
    }
}

/// The loop's other end. Dropped, it ends the loop.
pub(crate) struct Hand {
    queue: Arc<Queue>,
    writer: Option<JoinHandle<()>>,
}

impl Hand {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SETTINGS)?;
        connection.execute_batch(TABLE)?;
        let queue = Arc::new(Queue::default());
        let jobs = Arc::clone(&queue);
        let writer = std::thread::spawn(move || {
            if let Err(why) = write(&connection, &jobs) {
                eprintln!("the hand-written loop ended: {why}");
            }
        });
        Ok(Self {
            queue,
            writer: Some(writer),
        })
    }

    pub(crate) async fn cycle(&self) -> Result<()> {
        let (id, attempt, key) = (work::random_id(), work::random_id(), work::fresh_key());
        let fence = self.ask(Asked::Claim { id, attempt, key }).await?;
        self.ask(Asked::Finish { id, fence }).await?;
        Ok(())
    }

    async fn ask(&self, asked: Asked) -> Result<i64> {
        let (reply, answer) = oneshot::channel();
        self.queue.put((asked, reply));
        Ok(answer.await?)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.queue.end();
        if let Some(writer) = self.writer.take() {
            // It has said why it failed, if it did.
            let _ = writer.join();
        }
    }
}

fn write(connection: &Connection, queue: &Queue) -> Result<()> {
    let mut claim = connection.prepare(CLAIM)?;
    let mut finish = connection.prepare(FINISH)?;
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut commit = connection.prepare("COMMIT")?;
    let headers = work::answer().encode_headers();
    let (mut fence, mut now) = (0, 1_700_000_000_000);
    let mut done = Vec::new();
    loop {
        let jobs = queue.take();
        if jobs.is_empty() {
            return Ok(());
        }
        now += 1;
        begin.execute([])?;
        for (asked, reply) in jobs {
            let (written, answer) = match asked {
                Asked::Claim { id, attempt, key } => {
                    fence += 1;
                    (claim_one(&mut claim, fence, now, (&id, &attempt, &key))?, fence)
                }
                Asked::Finish { id, fence } => {
                    let values = params![id, fence, now, work::STATUS, &headers[..], work::BODY];
                    (finish.execute(values)?, 0)
                }
            };
            if written != 1 {
                return Err("a statement wrote nothing".into());
            }
            done.push((reply, answer));
        }
        commit.execute([])?;
        for (reply, answer) in done.drain(..) {
            // A caller whose time is over needs no answer.
            let _ = reply.send(answer);
        }
    }
}

fn claim_one(
    claim: &mut Statement<'_>,
    fence: i64,
    now: i64,
    (id, attempt, key): (&[u8; 16], &[u8; 16], &str),
) -> rusqlite::Result<usize> {
    claim.execute(params![
        fence,
        id,
        work::SCOPE,
        work::NAME,
        key,
        work::FINGERPRINT,
        attempt,
        now
    ])
}
