//! The store in a SQLite file: embedded, durable, one writer with group commit, readers beside it.
//!
//! All requests that arrive while a commit is under way go into the next transaction together, so that a flush of
//! the disk is shared by as many callers as there are. Several processes may use one file; they take turns.
//!
//! It does not decide anything (that is `hapax-core`), and it does not pace the sweeper (that is the caller).

mod checkpoint;
mod connection;
mod failure;
mod namespaces;
mod queue;
mod reader;
mod row;
mod schema;
mod statements;
mod step;
mod writer;

use std::cell::Cell;
use std::fmt;
use std::future::ready;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hapax_core::store::check_raise;
use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, StoreErrorKind, Swept, Take, Taken,
    Timestamp,
};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::joined::{Drawn, Joint};
use crate::migration::{Migration, MigrationStatus, Step};
use checkpoint::Checkpointer;
use connection::Connector;
use failure::Failure;
pub(crate) use namespaces::MAX_NAMESPACES;
use queue::Queue;
use reader::{Look, Reader};
use step::{Portion, Spot};
use writer::{Job, Reply, Request, Writer};

/// What an acknowledged commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A crash of the process, of the machine, and loss of power: each commit is flushed to the disk.
    #[default]
    Full,
    /// A crash of the process. The machine's crash, or loss of power, can take the last commits back.
    Normal,
}

/// How a [`SqliteStore`] works. The default is right unless measured otherwise.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// The store's time.
    pub clock: Clock,
    /// Threads that read single records, each with a connection of its own and 4 MiB of page cache. At least 1.
    pub readers: usize,
    /// The writer's page cache in bytes: 8 MiB by default. Larger is not faster: the operating system caches the file,
    /// and SQLite looks through all of its own cache at many a commit.
    pub cache_bytes: u64,
    /// Pages (of 4 KiB) in the write-ahead log from which on it is copied into the database file.
    pub checkpoint_pages: u32,
    /// The largest size of the database file in bytes, without its log; `None` for as much as the disk has. A store
    /// that reached it answers with [`StoreErrorKind::Full`] until records are forgotten.
    pub max_bytes: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            clock: Clock::default(),
            readers: 2,
            cache_bytes: 8 << 20,
            checkpoint_pages: 2_000,
            max_bytes: None,
        }
    }
}

/// A store in a SQLite file. Dropping it closes it.
pub struct SqliteStore {
    connector: Connector,
    clock: Clock,
    drawn: Drawn,
    secret: [u8; 32],
    requests: Arc<Queue<Request>>,
    looks: Arc<Queue<Look>>,
    listings: Arc<Queue<Look>>,
    counts: Arc<Queue<Look>>,
    checkpointer: Arc<Checkpointer>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Records that one transaction of a sweep tends: few enough that requests which share it do not feel it.
const SWEEP_CHUNK: usize = 64;

impl SqliteStore {
    /// Opens the store in the file at `path`; makes the file, or brings its schema up to date, where need be.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if the file cannot be opened for writing, [`StoreErrorKind::Schema`] if it was made
    /// by a newer or different program, [`StoreErrorKind::Corrupt`] if it is not a SQLite database,
    /// [`StoreErrorKind::Unavailable`] if another process keeps it locked.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let connector = Connector::new(path.as_ref(), &options);
        let mut connection = connector.writer()?;
        schema::migrate(&mut connection, None, options.clock.now())?;
        let store = Self {
            secret: schema::secret(&connection)?,
            clock: options.clock,
            drawn: Drawn::default(),
            requests: Arc::new(Queue::new()),
            looks: Arc::new(Queue::new()),
            listings: Arc::new(Queue::new()),
            counts: Arc::new(Queue::new()),
            checkpointer: Arc::new(Checkpointer::new(options.checkpoint_pages)),
            threads: Mutex::default(),
            connector,
        };
        let writer = Writer {
            connector: store.connector.clone(),
            clock: store.clock.clone(),
            queue: Arc::clone(&store.requests),
            checkpointer: Arc::clone(&store.checkpointer),
            full: Cell::new(false),
        };
        store.spawn("hapax-writer", move || writer.run(connection))?;
        let (connector, checkpointer) = (store.connector.clone(), Arc::clone(&store.checkpointer));
        store.spawn("hapax-checkpoint", move || checkpointer.run(&connector))?;
        for _ in 0..options.readers.max(1) {
            store.spawn_reader("hapax-reader", &store.looks)?;
        }
        // A census may read every record: a thread of its own, so that no listing waits for it.
        store.spawn_reader("hapax-lister", &store.listings)?;
        store.spawn_reader("hapax-counter", &store.counts)?;
        Ok(store)
    }

    /// Brings the schema of the file at `path` to version `target` (the newest if `None`; 0 removes every record) and
    /// says what was done. Nothing else may use the file.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StoreErrorKind::Invalid`] if there is no such version.
    pub fn migrate(path: impl AsRef<Path>, target: Option<u32>) -> Result<Vec<Step>, StoreError> {
        let options = SqliteOptions::default();
        let mut connection = Connector::new(path.as_ref(), &options).writer()?;
        schema::migrate(&mut connection, target, options.clock.now())
    }

    /// Each migration, applied to the file at `path` or not. Writes nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if there is no such file, [`StoreErrorKind::Corrupt`] if it is not a SQLite database.
    pub fn migration_status(path: impl AsRef<Path>) -> Result<Vec<MigrationStatus>, StoreError> {
        let connection = Connector::new(path.as_ref(), &SqliteOptions::default()).reader()?;
        schema::migration_status(&connection)
    }

    /// The migrations that this program knows, oldest first.
    #[must_use]
    pub fn known_migrations() -> &'static [Migration] {
        &schema::MIGRATIONS
    }

    /// The steps of the contract for transactions of the caller's own in this file.
    #[must_use]
    pub fn joint(&self) -> Joint {
        Joint::sqlite(
            self.clock.clone(),
            self.path().display().to_string(),
            self.drawn.clone(),
        )
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.connector.path()
    }

    /// Carries out what was asked before, then lets go of the file. Blocks until that is done; what is asked later is
    /// refused.
    pub fn close(&self) {
        self.requests.close();
        self.looks.close();
        self.listings.close();
        self.counts.close();
        self.checkpointer.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // The writer was started first and is waited for last: it empties the log when nobody reads it any more.
        for thread in threads.into_iter().rev() {
            if thread.join().is_err() {
                tracing::error!("SQLite store: one of its threads panicked");
            }
        }
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| {
                let message = format!("cannot start the thread {name}: raise the limit of threads");
                StoreError::new(StoreErrorKind::Unavailable, message).caused_by(error)
            })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn spawn_reader(&self, name: &str, queue: &Arc<Queue<Look>>) -> Result<(), StoreError> {
        let reader = Reader {
            connector: self.connector.clone(),
            clock: self.clock.clone(),
            queue: Arc::clone(queue),
        };
        self.spawn(name, move || reader.run())
    }

    fn ask<A, T: Send + 'static>(
        &self,
        request: impl FnOnce(Job<A, T>) -> Request,
        asked: A,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        submit(&self.requests, |reply| request(Job::new(asked, reply)))
    }

    async fn sweep_in_chunks(&self, limit: usize) -> Result<Swept, StoreError> {
        let (mut total, mut until) = (Swept::default(), None);
        while total.looked_at < limit {
            let chunk = SWEEP_CHUNK.min(limit - total.looked_at);
            let (swept, at) = self.ask(Request::Sweep, (chunk, until)).await?;
            // What comes due while the sweep goes on is for the next one.
            until = Some(at);
            total.lapsed += swept.lapsed;
            total.stripped += swept.stripped;
            total.forgotten += swept.forgotten;
            total.looked_at += swept.looked_at;
            if swept.looked_at < chunk {
                break;
            }
        }
        Ok(total)
    }

    async fn take_in_portions(&self, take: Take) -> Result<Taken, StoreError> {
        let mut spot = Spot::first(&take);
        let take = Arc::new(take);
        let mut all: Option<Taken> = None;
        loop {
            let portion = self.ask(Request::Take, (Arc::clone(&take), spot)).await;
            let Portion { taken, rest } = match (portion, all.take()) {
                (Ok(portion), None) => portion,
                (Ok(Portion { mut taken, rest }), Some(before)) => {
                    taken.work.splice(..0, before.work);
                    taken.ended.splice(..0, before.ended);
                    taken.suspects |= before.suspects;
                    Portion { taken, rest }
                }
                // What the portions before took is not to be lost to its taker.
                (Err(_), Some(before)) => {
                    return Ok(Taken { more: true, ..before });
                }
                (Err(error), None) => return Err(error),
            };
            match rest {
                None => return Ok(taken),
                Some(next) => spot = next,
            }
            all = Some(taken);
        }
    }
}

fn submit<R, T: Send + 'static>(
    queue: &Queue<R>,
    request: impl FnOnce(Reply<T>) -> R,
) -> BoxFuture<'static, Result<T, StoreError>> {
    let (reply, answer) = oneshot::channel();
    if let Err(failure) = queue.push(request(reply)) {
        return Box::pin(ready(Err(failure.error())));
    }
    Box::pin(async move {
        // No answer: the thread ended.
        answer.await.unwrap_or_else(|_| Err(Failure::closed().error()))
    })
}

impl Store for SqliteStore {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.ask(Request::Claim, claim)
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.ask(Request::Renew, (id, fence, lease))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        self.ask(Request::Finish, (id, fence, finish))
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        submit(&self.looks, |reply| Look::Record(id, reply))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        submit(&self.listings, |reply| Look::List(filter, after, limit, reply))
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.ask(Request::Enqueue, enqueue)
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(self.take_in_portions(take))
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.ask(Request::Amend, (id, amendment))
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        submit(&self.listings, |reply| Look::Audit(id, after, limit, reply))
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        submit(&self.counts, |reply| Look::Census(scopes, reply))
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        Box::pin(self.sweep_in_chunks(limit))
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.ask(Request::Recipe, text)
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        submit(&self.looks, |reply| Look::RecipeText(recipe, reply))
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        if accept_jump {
            self.clock.accept_jump();
        }
        let time = self.ask(Request::Time, accept_jump);
        Box::pin(async move {
            let now = time.await?;
            Ok((now, self.clock.jump()))
        })
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        match check_raise(at_least) {
            Ok(()) => self.ask(Request::RaiseFence, at_least),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn secret(&self) -> [u8; 32] {
        self.secret
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
