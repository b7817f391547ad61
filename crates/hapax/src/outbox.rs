//! Effects on other systems, enqueued in the caller's transaction and delivered by a relay.
//!
//! ```text
//! transaction { business rows, enqueue(effect) }   a crash before the commit: neither; after it: both
//! relay: take → deliver with the derived key → finish   a crash between: delivered again, with the same key
//! ```
//!
//! An entry is a record that waits with its payload; the relay is a [`Runner`]. So retries, order, dead letters,
//! redrives, metrics and graceful stops are theirs. What is promised: at least once, always with the same key, and once
//! if the receiver honours keys for as long as [`SinkOptions::receiver_remembers_for`] says.

mod effect;
#[cfg(feature = "smtp")]
mod email;
mod memory;
#[cfg(feature = "staging")]
mod mover;
mod relay;
mod sink;
#[cfg(feature = "staging")]
pub mod staging;
#[cfg(feature = "webhook")]
mod webhook;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Enqueue, Name, RecipeId, Refusal, Retention, StoreError};
#[cfg(feature = "sqlite")]
use hapax_store::joined::Immediate;
use hapax_store::joined::{Connection, Joint, JointError};

use crate::engine::{Arrival, Engine, RunOptions, random_attempt};
use crate::runner::Runner;
use effect::RECIPE;
use relay::Outlet;

pub use effect::{Effect, EffectError, MAX_PAYLOAD_BYTES, SCOPE};
#[cfg(feature = "smtp")]
pub use email::{Email, EmailError};
#[cfg(feature = "staging")]
pub use mover::{Move, Moved, Mover, MoverOptions};
pub use relay::SinkOptions;
pub use sink::{Delivery, Sink};
#[cfg(feature = "webhook")]
pub use webhook::{Webhook, WebhookError, WebhookSecret, WebhookSecretError};

/// Bounds of an outbox. Every field has a default.
#[derive(Debug, Clone)]
pub struct OutboxOptions {
    /// The largest payload, in bytes (1 MiB).
    pub payload_bytes: usize,
    /// How long a record lives on (24 h, 30 d): for that long, the same key is not delivered again.
    pub retention: Retention,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self {
            payload_bytes: MAX_PAYLOAD_BYTES,
            retention: Retention::default(),
        }
    }
}

/// What enqueueing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It will be delivered.
    New,
    /// The same effect was enqueued before under that key: it is, or was, delivered once.
    Before,
}

/// Why an effect was not enqueued. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The payload is larger than the limit.
    #[error(
        "the payload of {name} has {bytes} bytes, and an outbox takes {limit} at most: store it elsewhere and send its \
         address, or raise the limit (OutboxOptions::payload_bytes)"
    )]
    TooLarge {
        /// The effect's name.
        name: Name,
        /// Its payload's bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The key was used before with another payload, content type or aggregate.
    #[error(
        "the key of this {name} was used before for something else: give each effect a key of its own, such as the \
         identity of the row that it is about"
    )]
    KeyReused {
        /// The effect's name.
        name: Name,
    },
    /// The store failed.
    #[error("the effect could not be enqueued: {0}")]
    Store(#[from] StoreError),
    /// The caller's transaction failed: [`JointError::fault`] says how.
    #[error("the effect could not be enqueued: {0}")]
    Joint(#[from] JointError),
}

/// Enqueues effects, and knows the sinks that deliver them.
///
/// ```
/// use hapax::core::{Name, NotKept, Outcome};
/// use hapax::outbox::{Delivery, Effect, Entered, Outbox, OutboxOptions, SinkOptions};
/// use hapax::store::{Clock, MemoryStore};
/// use hapax::{Attempted, Engine, EngineOptions, Runner, RunnerOptions};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = Engine::new(MemoryStore::new(Clock::default(), [0; 32]), EngineOptions::default(), ());
/// let (sent, mut told) = tokio::sync::mpsc::unbounded_channel();
/// let send = move |delivery: Delivery| {
///     sent.send(delivery).unwrap();
///     async { Attempted::Done(Outcome::NotKept(NotKept::Discarded)) }
/// };
/// let outbox = Outbox::open(&engine, OutboxOptions::default())
///     .await?
///     .sink(Name::new("greeting").unwrap(), send, SinkOptions::default());
///
/// let effect = Effect::new("greeting", "ada-1", r#"{"to":"ada"}"#).unwrap();
/// assert_eq!(outbox.enqueue_now(&effect).await?, Entered::New);
/// assert_eq!(outbox.enqueue_now(&effect).await?, Entered::Before);
///
/// let relay = outbox.equip(Runner::new(&engine, RunnerOptions::default()));
/// relay.run(async { assert_eq!(told.recv().await.unwrap().payload, r#"{"to":"ada"}"#) }).await;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Outbox {
    engine: Engine,
    options: OutboxOptions,
    outlets: Vec<Outlet>,
    recipe: RecipeId,
}

impl Outbox {
    /// An outbox whose entries are records of the engine's store. Asks the store, which may write: not to be awaited
    /// inside a transaction.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn open(engine: &Engine, options: OutboxOptions) -> Result<Self, StoreError> {
        Ok(Self {
            engine: engine.clone(),
            options,
            outlets: Vec::new(),
            recipe: engine.store().recipe(RECIPE.to_owned()).await?,
        })
    }

    /// Delivers the effects of a name by this sink.
    #[must_use]
    pub fn sink(mut self, name: Name, sink: impl Sink, options: SinkOptions) -> Self {
        self.outlets.retain(|outlet| outlet.name != name);
        self.outlets.push(Outlet {
            name,
            sink: Arc::new(sink),
            options,
        });
        self
    }

    /// Makes a runner the relay: it delivers the effects of all names that have a sink.
    #[must_use]
    pub fn equip(&self, runner: Runner) -> Runner {
        self.outlets
            .iter()
            .fold(runner, |runner, outlet| outlet.equip(runner, &self.engine))
    }

    /// Enqueues an effect in the caller's transaction: it is delivered if that commits, and never if it does not.
    ///
    /// `joint` and this outbox's engine belong to the same store, in the database of `connection`. A relay finds it
    /// within its [`RunnerOptions::poll`](crate::RunnerOptions::poll) after the commit, or at once: [`wake`](Self::wake).
    ///
    /// # Errors
    /// [`OutboxError`]; nothing was written. After [`OutboxError::Joint`] the transaction must be rolled back.
    pub async fn enqueue<C: Connection + ?Sized>(
        &self,
        joint: &Joint,
        connection: &mut C,
        effect: &Effect,
    ) -> Result<Entered, OutboxError> {
        let enqueued = joint.enqueue(connection, &self.entry(effect)?).await?;
        entered(effect, enqueued.refusal.as_ref())
    }

    /// As [`enqueue`](Self::enqueue), for rusqlite's connections, which keep no caller waiting: with or without a runtime.
    ///
    /// # Errors
    /// [`OutboxError`]; nothing was written. After [`OutboxError::Joint`] the transaction must be rolled back.
    #[cfg(feature = "sqlite")]
    pub fn enqueue_blocking<C: Immediate + ?Sized>(
        &self,
        joint: &Joint,
        connection: &mut C,
        effect: &Effect,
    ) -> Result<Entered, OutboxError> {
        let enqueued = joint.enqueue_now(connection, &self.entry(effect)?)?;
        entered(effect, enqueued.refusal.as_ref())
    }

    /// Enqueues an effect in a transaction of its own: for callers that have none. Durable when it returns.
    ///
    /// # Errors
    /// [`OutboxError`]; nothing was written, except that after [`OutboxError::Store`] it may have been enqueued all the
    /// same: enqueue it again.
    pub async fn enqueue_now(&self, effect: &Effect) -> Result<Entered, OutboxError> {
        self.check(effect)?;
        let arrival = Arrival {
            group: effect.group(),
            input: None,
            operation: effect.operation(),
            fingerprint: effect.fingerprint(self.recipe, &self.engine.store().secret()),
            refingerprint: Arc::new(|_, _| None),
            options: RunOptions {
                retention: self.options.retention,
                ..RunOptions::default()
            },
            wait: Duration::ZERO,
        };
        let enqueued = self.engine.enqueue(arrival, effect.input(), Duration::ZERO).await?;
        entered(effect, enqueued.refusal.as_ref())
    }

    /// Lets a relay of this process look at once: call it after the commit of a transaction that enqueued. Otherwise it
    /// looks within [`RunnerOptions::poll`](crate::RunnerOptions::poll).
    pub fn wake(&self) {
        self.engine.inner.alarm.set(Duration::ZERO);
    }

    fn entry(&self, effect: &Effect) -> Result<Enqueue, OutboxError> {
        self.check(effect)?;
        Ok(Enqueue {
            operation: effect.operation(),
            fingerprint: effect.fingerprint(self.recipe, &self.engine.store().secret()),
            attempt: random_attempt()?,
            input: effect.input(),
            delay: Duration::ZERO,
            retention: self.options.retention,
            group: effect.group(),
        })
    }

    fn check(&self, effect: &Effect) -> Result<(), OutboxError> {
        let (bytes, limit) = (effect.payload().len(), self.options.payload_bytes);
        if bytes > limit {
            let name = effect.name().clone();
            return Err(OutboxError::TooLarge { name, bytes, limit });
        }
        Ok(())
    }
}

fn entered(effect: &Effect, refusal: Option<&Refusal>) -> Result<Entered, OutboxError> {
    match refusal {
        None => Ok(Entered::New),
        Some(Refusal::Mismatch | Refusal::OtherRecipe(_)) => Err(OutboxError::KeyReused {
            name: effect.name().clone(),
        }),
        Some(_) => Ok(Entered::Before),
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.outlets.iter().map(|outlet| &outlet.name).collect();
        f.debug_struct("Outbox")
            .field("options", &self.options)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
