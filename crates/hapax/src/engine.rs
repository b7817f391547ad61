//! Claim → run → finish, once for every door.
//!
//! The engine knows no driver and no door: it asks a [`Store`] and runs a handler. What it does not do: decide (that
//! is [`hapax_core::decide()`]), retry by policy, or tell what a failure proves (the door's business).

pub(crate) mod alarm;
pub(crate) mod cache;
pub(crate) mod drive;
pub(crate) mod gate;
mod queue;
pub(crate) mod waiters;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hapax_core::{
    AfterFailure, Amended, Amendment, Answer, AttemptId, Claim, Fence, Fingerprint, Finish, Input, Operation,
    OperationId, Refusal, Retention, Starter, Store, StoreError, Timestamp,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::event::{Event, Observer};
use alarm::Alarm;
use cache::Cache;
use drive::Drive;
use gate::Gate;
use waiters::Waiters;

/// Bounds of an engine. Every field has a default.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Duplicates that may wait for one operation (1,024).
    pub waiters_per_operation: usize,
    /// Duplicates that may wait in all (16,384).
    pub waiters: usize,
    /// Memory for done records that are replayed without asking the store, in bytes (32 MiB).
    pub cache_bytes: u64,
    /// How long a cached record is believed. A done record never changes, but a person can make another process
    /// forget it (10 s).
    pub cache_age: Duration,
    /// How long a step of the store is repeated before its caller is refused (5 s).
    pub store_patience: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            waiters_per_operation: 1024,
            waiters: 16 * 1024,
            cache_bytes: 32 << 20,
            cache_age: Duration::from_secs(10),
            store_patience: Duration::from_secs(5),
        }
    }
}

/// How an operation is run. Every field has a default.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How long a claim holds without a sign of life (30 s). Heartbeats come three times as often.
    pub lease: Duration,
    /// How long heartbeats can keep it (15 min).
    pub max_run: Duration,
    /// What a lapsed claim or an ambiguous failure becomes (hold).
    pub after_failure: AfterFailure,
    /// How long the answer and the fact are kept (24 h, 30 d).
    pub retention: Retention,
    /// Whether a runner resolves unknown outcomes of these operations (no).
    pub attended: bool,
    /// How long after an attempt was cut off a resolver's "not found" counts (30 s).
    pub settle: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_run: Duration::from_secs(15 * 60),
            after_failure: AfterFailure::Hold,
            retention: Retention::default(),
            attended: false,
            settle: Duration::from_secs(30),
        }
    }
}

impl RunOptions {
    /// How a run ends whose failure proves nothing: unknown in hold mode, waiting (due after `after`) in retry mode.
    #[must_use]
    pub fn ambiguous(&self, answer: Option<Answer>, after: Duration) -> Finish {
        match self.after_failure {
            AfterFailure::Hold => Finish::Unknown {
                answer,
                last_error: None,
            },
            AfterFailure::Retry => Finish::Release {
                after,
                counts: true,
                last_error: None,
            },
        }
    }
}

/// Computes an arrival's fingerprint under an older recipe, given its text; `None` if the text makes no sense.
pub type Refingerprint = Arc<dyn Fn(&str, hapax_core::RecipeId) -> Option<Fingerprint> + Send + Sync>;

/// One time that an operation is asked for.
pub struct Arrival {
    /// What is asked for.
    pub operation: Operation,
    /// Digest of what is asked.
    pub fingerprint: Fingerprint,
    /// How to compare with a record that was made under another recipe.
    pub refingerprint: Refingerprint,
    /// How to run it.
    pub options: RunOptions,
    /// How long a duplicate waits for a run in progress.
    pub wait: Duration,
    /// What it belongs to: the operation whose step it is, or the aggregate whose order it keeps. Counts when its record
    /// is made.
    pub group: Option<OperationId>,
    /// What a runner can run it with if this process dies. Without it, the next arrival runs it.
    pub input: Option<Input>,
}

/// What a handler is given: the run that it performs.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was asked for.
    pub operation: Operation,
    /// The fencing token of this run.
    pub fence: Fence,
    /// Starts made by the system so far.
    pub tries: u32,
}

/// How a handler ended: what to remember, and what to tell the caller once that is durable.
pub struct Ended<R> {
    /// What to remember.
    pub finish: Finish,
    /// What to tell the caller.
    pub reply: R,
}

/// What an arrival comes to.
#[derive(Debug)]
pub enum Reply<R> {
    /// It ran now, and its finish is durable.
    Ran(R),
    /// It did not run, or lost its fence while it ran: this is what the record says.
    Refused(Refusal),
}

/// Why an arrival got no reply.
#[derive(Debug, Clone)]
pub enum RunError {
    /// The store failed before the operation was claimed: the handler did not run.
    NotClaimed(Arc<StoreError>),
    /// The store failed after the handler ran. The finish is repeated in the background; until it is durable, nothing
    /// can be said.
    NotFinished(Arc<StoreError>),
    /// The handler panicked.
    Panicked,
    /// The run was cut off, or its record forgotten under it: the outcome is not known here.
    Lost,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClaimed(error) => write!(f, "the store could not claim the operation; nothing ran: {error}"),
            Self::NotFinished(error) => {
                write!(
                    f,
                    "the operation ran, but the store could not record its end yet: {error}"
                )
            }
            Self::Panicked => f.write_str("the handler panicked"),
            Self::Lost => f.write_str("the run was cut off before its end was recorded"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotClaimed(error) | Self::NotFinished(error) => Some(error.as_ref()),
            Self::Panicked | Self::Lost => None,
        }
    }
}

/// Runs operations once. Cheap to clone; clones share the store, the waiters and the cache.
///
/// ```
/// use hapax::core::{Answer, Finish, Fingerprint, Key, Name, Operation, Outcome, RecipeId, Scope};
/// use hapax::store::{Clock, MemoryStore};
/// use hapax::{Arrival, Ended, Engine, EngineOptions, Reply, RunOptions};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = Engine::new(MemoryStore::new(Clock::default(), [0; 32]), EngineOptions::default(), ());
/// let arrival = || Arrival {
///     group: None,
///     input: None,
///     operation: Operation::new(Scope::new("tenant-1").unwrap(), Name::new("charge").unwrap(), Key::new("k1").unwrap()),
///     fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
///     refingerprint: std::sync::Arc::new(|_, _| None),
///     options: RunOptions::default(),
///     wait: std::time::Duration::ZERO,
/// };
/// let charge = |_run| async {
///     let answer = Answer { status: 201, headers: vec![], body: "charged".into() };
///     Ended { finish: Finish::Done(Outcome::Answer(answer)), reply: "charged now" }
/// };
/// assert!(matches!(engine.run(arrival(), charge).await?, Reply::Ran("charged now")));
/// assert!(matches!(engine.run(arrival(), charge).await?, Reply::Refused(_)), "replayed, not run");
/// # Ok::<_, hapax::RunError>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: EngineOptions,
    observer: Arc<dyn Observer>,
    pub(crate) waiters: Waiters,
    pub(crate) cache: Cache,
    pub(crate) gate: Arc<Gate>,
    pub(crate) alarm: Alarm,
    started: Instant,
    /// The store's time minus the monotonic time since `started`, in milliseconds.
    store_time_offset: AtomicI64,
    /// The store's time when it was last seen to leap forward, in milliseconds.
    leapt: AtomicI64,
}

impl Engine {
    /// An engine on a store. `observer` learns of every [`Event`]; `()` if nobody wants to.
    pub fn new(store: impl Store, options: EngineOptions, observer: impl Observer) -> Self {
        Self::shared(Arc::new(store), options, Arc::new(observer))
    }

    /// The same, on a store and an observer that others use too.
    pub fn shared(store: Arc<dyn Store>, options: EngineOptions, observer: Arc<dyn Observer>) -> Self {
        let waiters = Waiters::new(options.waiters_per_operation, options.waiters);
        let cache = Cache::new(options.cache_bytes, options.cache_age);
        let inner = Inner {
            store,
            options,
            observer,
            waiters,
            cache,
            gate: Gate::new(),
            alarm: Alarm::default(),
            started: Instant::now(),
            store_time_offset: AtomicI64::new(i64::MIN),
            leapt: AtomicI64::new(i64::MIN),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The store underneath.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Duplicates that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.waiters.waiting()
    }

    /// The store's time, as far as it is known here: from the store's last reply, at this machine's pace. `None` before
    /// the first reply.
    #[must_use]
    pub fn store_time(&self) -> Option<Timestamp> {
        self.inner.store_time()
    }

    /// Runs the operation with `handler`, unless it is a duplicate: then says what the record says, after waiting up
    /// to [`Arrival::wait`] if it is in progress.
    ///
    /// Once claimed, the handler runs to its end in a task of its own, even if this future is dropped; heartbeats
    /// extend its lease, and its finish is durable before this returns [`Reply::Ran`]. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`RunError`] if the store fails for longer than [`EngineOptions::store_patience`], or the handler panics.
    pub fn run<R, H, F>(
        &self,
        arrival: Arrival,
        handler: H,
    ) -> impl Future<Output = Result<Reply<R>, RunError>> + Send + use<R, H, F>
    where
        R: Send + 'static,
        H: FnOnce(Run) -> F + Send + 'static,
        F: Future<Output = Ended<R>> + Send + 'static,
    {
        let (reply, answered) = oneshot::channel();
        // Boxed before anything is awaited, since doors keep this future in theirs.
        let drive = arrival.claim().map(|claim| {
            Box::new(Drive {
                inner: Arc::clone(&self.inner),
                claim,
                youth: None,
                reply,
            })
        });
        let (refingerprint, wait) = (arrival.refingerprint, arrival.wait);
        async move {
            let drive = drive.map_err(|error| RunError::NotClaimed(Arc::new(error)))?;
            if let Some(refusal) = drive.inner.cached(&drive.claim) {
                return Ok(Reply::Refused(refusal));
            }
            // A task of its own: a claim whose caller leaves must still be run, or given back.
            tokio::spawn(drive.run(refingerprint, wait, handler));
            answered.await.unwrap_or(Err(RunError::Lost))
        }
    }

    /// A person's correction: see [`Store::amend`].
    ///
    /// # Errors
    /// The store's failure.
    pub async fn amend(&self, operation: &Operation, amendment: Amendment) -> Result<Amended, StoreError> {
        let amended = self.inner.store.amend(operation.id(), amendment).await?;
        self.inner.cache.forget(operation);
        Ok(amended)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Arrival {
    pub(crate) fn claim(&self) -> Result<Claim, StoreError> {
        Ok(Claim {
            operation: self.operation.clone(),
            fingerprint: self.fingerprint,
            attempt: random_attempt()?,
            starter: Starter::Caller,
            lease: self.options.lease,
            max_run: self.options.max_run,
            after_failure: self.options.after_failure,
            attended: self.options.attended,
            retention: self.options.retention,
            input: self.input.clone(),
            group: self.group,
        })
    }
}

/// An identity that nobody else draws.
pub(crate) fn random_attempt() -> Result<AttemptId, StoreError> {
    let mut attempt = [0; 16];
    getrandom::fill(&mut attempt).map_err(|error| {
        let kind = hapax_core::StoreErrorKind::Unavailable;
        StoreError::new(kind, "the system gave no random bytes").caused_by(error)
    })?;
    Ok(AttemptId::from_bytes(attempt))
}

impl Inner {
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.observer.event(event);
    }

    /// What a claim would be told by the cache of done records.
    pub(crate) fn cached(&self, claim: &Claim) -> Option<Refusal> {
        let refusal = self.cache.refusal(claim, self.store_time()?)?;
        self.emit(&Event::Refused {
            operation: &claim.operation,
            refusal: &refusal,
            cached: true,
        });
        Some(refusal)
    }

    /// The store's time as far as it is known here, for what the cache replays.
    pub(crate) fn store_time(&self) -> Option<Timestamp> {
        let offset = self.store_time_offset.load(Ordering::Relaxed);
        (offset != i64::MIN).then(|| Timestamp::from_millis(offset.saturating_add(self.elapsed_ms())))
    }

    /// Learns the store's time from one of its replies.
    pub(crate) fn learn_time(&self, now: Timestamp) {
        /// Less is the way of a reply, not the clock, in milliseconds.
        const LEAP: i64 = 1000;
        let offset = now.as_millis().saturating_sub(self.elapsed_ms());
        let before = self.store_time_offset.swap(offset, Ordering::Relaxed);
        if before != i64::MIN && offset.saturating_sub(before) > LEAP {
            self.leapt.fetch_max(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// When a time that passes from `since` on has passed for certain: a leap of the store's clock is not waiting.
    pub(crate) fn passed(&self, since: Timestamp, time: Duration) -> Timestamp {
        let leapt = Timestamp::from_millis(self.leapt.load(Ordering::Relaxed));
        since.max(leapt).after(time)
    }

    fn elapsed_ms(&self) -> i64 {
        hapax_core::time::millis(self.started.elapsed())
    }
}

#[cfg(test)]
mod tests;
