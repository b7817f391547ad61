//! Records in PostgreSQL (13 or newer), for several processes at once.
//!
//! Concurrent operations gather while a connection is busy and go out together: one statement and one commit for many
//! (`lanes`). Statements are guarded, so that the database decides races; what a refused operation is told is decided
//! by the pure functions of [`hapax_core`] on the record that the statement showed. Time is the database's
//! (`clock.sql`). Nothing here takes advisory locks, runs PL/pgSQL, or relies on the state of a session.
//!
//! A lost connection fails the operations in flight with
//! [`Unavailable`](hapax_core::StoreErrorKind::Unavailable): they may have been carried out, and are never repeated
//! behind the caller's back.

mod amends;
mod claims;
mod client;
mod desk;
mod enqueue;
mod failure;
mod lanes;
mod link;
mod migrations;
mod options;
mod rows;
mod runs;
pub(crate) mod statements;
mod takes;
mod time;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use hapax_core::store::check_raise;
use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, StoreErrorKind, Swept, Take, Taken,
    Timestamp,
};
use tokio::sync::Mutex;

use self::claims::{ClaimStep, Trend};
use self::enqueue::EnqueueStep;
use self::lanes::{Job, Pile, Piles, Queue, serve};
use self::link::Link;
use self::options::Target;
use self::runs::{FinishStep, ReadStep, RenewStep};
use crate::clock::Clock;
use crate::joined::Joint;
use crate::migration::{Migration, MigrationStatus};

pub use self::client::connect_plainly;
pub use self::options::PostgresOptions;
pub use self::statements::Sql;

/// A store in a PostgreSQL database.
///
/// ```no_run
/// # async fn example() -> Result<(), hapax_core::StoreError> {
/// use hapax_store::postgres::{PostgresOptions, PostgresStore};
///
/// let url = "postgres://hapax:password@127.0.0.1/hapax";
/// let store = PostgresStore::connect(url, PostgresOptions::default()).await?;
/// # Ok(())
/// # }
/// ```
pub struct PostgresStore {
    writes: Arc<Queue<Writes>>,
    reads: Arc<Queue<Pile<ReadStep>>>,
    desk: Mutex<Link>,
    sweeper: Mutex<Link>,
    takers: [Mutex<Link>; 2],
    claims: Arc<Trend>,
    clock: Clock,
    secret: [u8; 32],
    label: String,
}

impl PostgresStore {
    /// Connects to `postgres://user:password@host:port/database`, and brings its schema up to date unless the options
    /// say otherwise. Must be called in a Tokio runtime, which then carries the connections.
    ///
    /// Beside the driver's parameters the URL takes `prepare=false` (see [`PostgresOptions::prepare`]) and
    /// `sslrootcert=FILE`. What leaves the machine goes over verified TLS unless the URL says `sslmode=disable`.
    ///
    /// # Errors
    /// Says which host and database, why, and what to do: cannot be reached, wrong password, not durable, read-only,
    /// a schema that is newer (or older, where it may not migrate).
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let target = Arc::new(Target::new(url, &options)?);
        let mut link = Link::new(Arc::clone(&target));
        if !migrations::is_current(&mut link).await? {
            if !options.migrate {
                return Err(migrations::not_current(&target.label));
            }
            migrations::migrate(&mut link, None).await?;
        }
        let secret = desk::secret(&mut link, fresh_secret()?).await?;
        let clock = options.clock;
        // The first reading anchors the clock: a jump from here on is noticed.
        runs::read(&mut link, &clock, &[]).await?;

        let writes = Queue::new();
        for _ in 0..options.connections.max(1) {
            let lane = write_lane(Arc::clone(&writes), Link::new(Arc::clone(&target)), clock.clone());
            tokio::spawn(lane);
        }
        let reads = Queue::new();
        let reader = Link::new(Arc::clone(&target));
        tokio::spawn(read_lane(Arc::clone(&reads), reader, clock.clone()));
        Ok(Self {
            writes,
            reads,
            desk: Mutex::new(link),
            sweeper: Mutex::new(Link::new(Arc::clone(&target))),
            takers: [(); 2].map(|()| Mutex::new(Link::new(Arc::clone(&target)))),
            claims: Arc::default(),
            clock,
            secret,
            label: target.label.clone(),
        })
    }

    /// Brings a database's schema to version `target` (`None` for the newest, 0 for none) and says where it stands
    /// then. Several processes may do so at once. Migrating down deletes what the lower version cannot hold.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); nothing is changed then.
    pub async fn migrate(url: &str, target: Option<u32>) -> Result<Vec<MigrationStatus>, StoreError> {
        migrations::migrate(&mut link_to(url)?, target).await
    }

    /// Says which migrations a database has. Changes nothing.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn migrations(url: &str) -> Result<Vec<MigrationStatus>, StoreError> {
        migrations::statuses(&mut link_to(url)?).await
    }

    /// The migrations that this program knows, oldest first.
    #[must_use]
    pub fn known_migrations() -> &'static [Migration] {
        &migrations::MIGRATIONS
    }

    /// The steps of the contract for transactions of the caller's own in this database.
    #[must_use]
    pub fn joint(&self) -> Joint {
        Joint::postgres(self.clock.clone(), self.label.clone())
    }

    /// Every statement that a store runs, for tests and for who wants to know.
    #[must_use]
    pub fn statements() -> &'static [&'static Sql] {
        &statements::ALL
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.label).finish()
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        // The lanes finish what they have, then end.
        self.writes.close();
        self.reads.close();
    }
}

impl Store for PostgresStore {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        let step = ClaimStep::new(claim, &self.claims);
        Box::pin(self.writes.ask(|piles| &mut piles.claims, step))
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        Box::pin(
            self.writes
                .ask(|piles| &mut piles.renewals, RenewStep { id, fence, lease }),
        )
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        Box::pin(
            self.writes
                .ask(|piles| &mut piles.finishes, FinishStep { id, fence, finish }),
        )
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        Box::pin(self.reads.ask(|pile| pile, ReadStep(Some(id))))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            let mut desk = self.desk.lock().await;
            Ok(desk::list(&mut desk, &self.clock, &filter, after, limit).await?)
        })
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        Box::pin(self.writes.ask(|piles| &mut piles.enqueues, EnqueueStep(enqueue)))
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move {
            // While one take is made durable, the next is on its way.
            let [first, second] = &self.takers;
            let mut taker = match first.try_lock() {
                Ok(free) => free,
                Err(_) => second.lock().await,
            };
            Ok(takes::take(&mut taker, &self.clock, &take).await?)
        })
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        Box::pin(async move {
            let mut desk = self.desk.lock().await;
            Ok(amends::amend(&mut desk, &self.clock, id, &amendment).await?)
        })
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        Box::pin(async move { Ok(amends::audit(&mut *self.desk.lock().await, id, after, limit).await?) })
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        Box::pin(async move { Ok(desk::census(&mut *self.desk.lock().await, &self.clock, scopes).await?) })
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        Box::pin(async move {
            let mut sweeper = self.sweeper.lock().await;
            Ok(desk::sweep(&mut sweeper, &self.clock, limit).await?)
        })
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        Box::pin(async move { Ok(desk::recipe(&mut *self.desk.lock().await, &text).await?) })
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move { Ok(desk::recipe_text(&mut *self.desk.lock().await, recipe).await?) })
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        if accept_jump {
            self.clock.accept_jump();
        }
        Box::pin(async move {
            let (now, _) = self.reads.ask(|pile| pile, ReadStep(None)).await?;
            Ok((now, self.clock.jump()))
        })
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            check_raise(at_least)?;
            Ok(desk::raise_fence(&mut *self.desk.lock().await, at_least).await?)
        })
    }

    fn secret(&self) -> [u8; 32] {
        self.secret
    }
}

/// What waits for a connection that writes.
#[derive(Default)]
struct Writes {
    claims: Pile<ClaimStep>,
    renewals: Pile<RenewStep>,
    finishes: Pile<FinishStep>,
    enqueues: Pile<EnqueueStep>,
}

enum Batch {
    Claims(Vec<Job<ClaimStep>>),
    Renewals(Vec<Job<RenewStep>>),
    Finishes(Vec<Job<FinishStep>>),
    Enqueues(Vec<Job<EnqueueStep>>),
}

impl Piles for Writes {
    type Batch = Batch;

    /// Of the pile whose oldest operation has waited longest.
    fn take(&mut self) -> Option<Batch> {
        let turns = [
            self.claims.turn(),
            self.renewals.turn(),
            self.finishes.turn(),
            self.enqueues.turn(),
        ];
        let oldest = turns.iter().flatten().min()?;
        let pile = turns.iter().position(|turn| turn.as_ref() == Some(oldest))?;
        Some(match pile {
            0 => Batch::Claims(self.claims.batch()),
            1 => Batch::Renewals(self.renewals.batch()),
            2 => Batch::Finishes(self.finishes.batch()),
            _ => Batch::Enqueues(self.enqueues.batch()),
        })
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.renewals.is_empty() && self.finishes.is_empty() && self.enqueues.is_empty()
    }
}

async fn write_lane(queue: Arc<Queue<Writes>>, mut link: Link, clock: Clock) {
    while let Some(batch) = queue.next().await {
        match batch {
            Batch::Claims(batch) => serve(&mut link, &clock, batch).await,
            Batch::Renewals(batch) => serve(&mut link, &clock, batch).await,
            Batch::Finishes(batch) => serve(&mut link, &clock, batch).await,
            Batch::Enqueues(batch) => serve(&mut link, &clock, batch).await,
        }
    }
}

async fn read_lane(queue: Arc<Queue<Pile<ReadStep>>>, mut link: Link, clock: Clock) {
    while let Some(batch) = queue.next().await {
        serve(&mut link, &clock, batch).await;
    }
}

fn link_to(url: &str) -> Result<Link, StoreError> {
    Ok(Link::new(Arc::new(Target::new(url, &PostgresOptions::default())?)))
}

fn fresh_secret() -> Result<[u8; 32], StoreError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| {
        StoreError::new(StoreErrorKind::Unavailable, "the system gives no random numbers").caused_by(error)
    })?;
    Ok(secret)
}
