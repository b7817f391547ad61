//! Consumers of messages: each has its effect once, however often it is delivered.
//!
//! ```text
//! source → intake (places in hand, breaker) → identity → worker → handler, with its record
//!                                                              → ack: it is done, dead, or waits with its payload
//!                                   runner: what waits or was left behind, by the same handler
//! ```
//!
//! A message is an operation: its name is the consumer's, its key the message's own identity ([`Identity`]). So a
//! redelivery is a duplicate, a failed message waits in its record with its payload, a dead letter is a dead record, and
//! redrives, audits and metrics are those of every door. Two ways to handle: in a transaction of the user's database
//! ([`Consumer::atomic`]: the effect happens once), or under a lease ([`Consumer::leased`]: a crash in the middle
//! leaves an unknown outcome, or a repetition, as the caller chose).
//!
//! It never acknowledges before what it acknowledges is committed, and never marks before it has handled. What it does
//! not do: promise an order across processes, which only a broker can.

#[cfg(feature = "atomic")]
mod atomic;
mod bury;
mod error;
mod identity;
mod intake;
#[cfg(feature = "kafka")]
mod kafka;
mod leased;
mod memory;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod perform;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
mod source;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::policy::{Backoff, BreakerPolicy, Limits, RetryPolicy};
use hapax_core::{Name, Retention, Scope};
use tokio::sync::watch;

#[cfg(feature = "atomic")]
use crate::atomic::{Atomic, BoxError, Database};
use crate::engine::{Engine, Run, RunOptions};
use crate::http::InputSeal;
use crate::resolver::Resolver;
use crate::retry::Destination;
use crate::runner::{Attempted, Handling, Runner, RunnerOptions};
use intake::{Clerk, Intake};
use perform::{Desk, Perform};

#[cfg(feature = "redis")]
pub use self::redis::{Redis, RedisOptions, RedisSetupError, RedisSink, RedisSource};
pub use error::ConsumerError;
pub use identity::{Identity, IdentityError, NoIdentity};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaError, KafkaMechanism, KafkaOptions, KafkaSink, KafkaSource, KafkaStart};
pub use memory::{MemoryQueue, MemorySource};
pub use message::Message;
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsError, NatsOptions, NatsSink, NatsSource};
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::{RabbitMq, RabbitMqError, RabbitMqOptions, RabbitMqRoute, RabbitMqSink, RabbitMqSource};
pub use source::{Delivery, Lag, Settle, Source, SourceError, SourceErrorKind};

/// The scope of consumers' records, unless [`ConsumerOptions::scope`] says otherwise.
pub const SCOPE: &str = "messages";

/// A text of a message: its identity, or what its order belongs to. `None` if it has none.
pub type TextOf = Arc<dyn Fn(&Message) -> Option<String> + Send + Sync>;

/// How a consumer works. Every field has a default.
#[derive(Clone)]
pub struct ConsumerOptions {
    /// Handlers at work at a time (16). Under leases the end of as many messages is written down meanwhile.
    pub concurrency: usize,
    /// Messages in hand, handled or waiting for their turn (64). What is more stays at the broker.
    pub prefetch: usize,
    /// Messages in one commit (1): a handler that fails has the others of its batch handled again without it. Only
    /// where the handler has a transaction.
    pub batch: usize,
    /// What keeps an order (nothing): messages of the same text are handled one after the other. A message that fails holds up those of its kind until it is done or dead; others
    /// that share its worker wait too. Holds in this process: across processes the broker must send one kind to one.
    pub order_by: Option<TextOf>,
    /// Retry policy, budget and breaker of what the handler calls (see [`ConsumerOptions::policy`]).
    pub destination: Destination,
    /// How long a message is recognised (30 d, and its answer as long): nothing may come again later than that.
    pub remember_for: Duration,
    /// The longest that its broker may deliver a message again after it was first delivered, where the broker cannot say
    /// (nothing said).
    pub redelivers_for: Option<Duration>,
    /// The largest payload that is handled, in bytes (8 MiB). What is larger becomes a dead letter.
    pub message_bytes: usize,
    /// How long it waits for its handlers to end when it is told to stop (30 s).
    pub drain: Duration,
    /// How long a message that was delivered before is left alone when whoever handles it dies (30 s). Only where the
    /// handler has a transaction; under a lease it is [`RunOptions::lease`].
    pub lease: Duration,
    /// Whether a crash of this process can be a message's fault (yes): a message that was in hand in too many crashes is
    /// a dead letter. No where the handler only passes messages on.
    pub crashes_count: bool,
    /// How often the broker is asked how far behind it is (10 s).
    pub lag_every: Duration,
    /// Whose messages they are (`messages`).
    pub scope: Scope,
    /// Encrypts messages that records keep (nothing does).
    pub seal: Option<InputSeal>,
    /// Who is asked what became of an unknown outcome, in this order (nobody).
    pub resolvers: Vec<Arc<dyn Resolver>>,
}

impl ConsumerOptions {
    /// The usual policy: 8 tries within a day, pauses from 500 ms to 5 min.
    #[must_use]
    pub fn policy() -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff {
                base: Duration::from_millis(500),
                throttle_base: Duration::from_secs(2),
                cap: Duration::from_secs(300),
            },
            limits: Limits {
                tries: 8,
                ..Limits::default()
            },
            breaker: BreakerPolicy {
                minimum_calls: 20,
                ..BreakerPolicy::default()
            },
            ..RetryPolicy::default()
        }
    }

    /// The usual, for a destination.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a literal within the rules")]
    pub fn new(destination: Destination) -> Self {
        Self {
            concurrency: 16,
            prefetch: 64,
            batch: 1,
            order_by: None,
            destination,
            remember_for: Retention::default().remember_for,
            redelivers_for: None,
            message_bytes: 8 << 20,
            drain: Duration::from_secs(30),
            lease: RunOptions::default().lease,
            crashes_count: true,
            lag_every: Duration::from_secs(10),
            scope: Scope::new(SCOPE).expect("a literal within the rules"),
            seal: None,
            resolvers: Vec::new(),
        }
    }
}

impl Default for ConsumerOptions {
    #[allow(clippy::expect_used, reason = "the usual policy makes sense, which a test proves")]
    fn default() -> Self {
        Self::new(Destination::new(Self::policy()).expect("the usual policy makes sense"))
    }
}

impl fmt::Debug for ConsumerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerOptions")
            .field("concurrency", &self.concurrency)
            .field("prefetch", &self.prefetch)
            .field("batch", &self.batch)
            .field("ordered", &self.order_by.is_some())
            .finish_non_exhaustive()
    }
}

/// What a handler made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    /// It is done.
    Done,
    /// It cannot be done yet, for this reason, such as that what it follows upon has not come: what was written is rolled
    /// back, and it is tried again by the policy, as after an error. Says nothing against what the handler calls, so that
    /// intake goes on: what it waits for may be on its way.
    Early(String),
    /// It can never be done, for this reason: what was written is rolled back, and it is a dead letter at once.
    Dead(String),
}

/// Handles the messages of one source.
pub struct Consumer {
    source: Box<dyn Source>,
    identity: Identity,
    desk: Arc<Desk>,
    perform: Arc<dyn Perform>,
    runner: Runner,
}

impl Consumer {
    /// Handles each message in a transaction of the user's database, in which its record is kept: both are committed, or
    /// neither. Acknowledged after the commit.
    ///
    /// The handler gets the open transaction and the message. What it does through the transaction happens once; it MUST
    /// NOT end it, and may be called again from the top when the database rolled it back. An error is retried by the
    /// policy of [`ConsumerOptions::destination`]; the last one makes it a dead letter.
    ///
    /// # Errors
    /// [`ConsumerError::Options`] if the options contradict each other.
    #[cfg(feature = "atomic")]
    pub fn atomic<D, E, H>(
        name: Name,
        source: impl Source,
        identity: Identity,
        atomic: &Atomic<D>,
        options: ConsumerOptions,
        handler: H,
    ) -> Result<Self, ConsumerError>
    where
        D: Database + Clone,
        E: Into<BoxError> + Send + 'static,
        H: for<'t> Fn(&'t mut D::Connection, &'t Message) -> futures_util::future::BoxFuture<'t, Result<Handled, E>>
            + Send
            + Sync
            + 'static,
    {
        let engine = Engine {
            inner: Arc::clone(&atomic.shared.engine),
        };
        let run = RunOptions {
            lease: options.lease,
            after_failure: hapax_core::AfterFailure::Retry,
            ..RunOptions::default()
        };
        let desk = Arc::new(Desk::new(engine, name, run, options)?);
        let perform = Arc::new(atomic::InTransactions::new(Arc::clone(&desk), atomic, handler));
        Ok(Self::with(Box::new(source), identity, desk, perform))
    }

    /// Handles each message under a lease, with its record in the engine's store: what the handler does elsewhere may
    /// have happened when this process dies in the middle. `run.after_failure` chooses what becomes of it then: unknown,
    /// for a resolver or a person (hold), or once more (retry).
    ///
    /// The handler is the same as a [`Runner`]'s, with a message.
    ///
    /// # Errors
    /// [`ConsumerError::Options`] if the options contradict each other.
    pub fn leased<H, F>(
        name: Name,
        source: impl Source,
        identity: Identity,
        engine: &Engine,
        run: RunOptions,
        options: ConsumerOptions,
        handler: H,
    ) -> Result<Self, ConsumerError>
    where
        H: Fn(Run, Message) -> F + Send + Sync + 'static,
        F: Future<Output = Attempted> + Send + 'static,
    {
        let desk = Arc::new(Desk::new(engine.clone(), name, run, options)?);
        let handler: leased::Handler = Box::new(move |run, message| Box::pin(handler(run, message)));
        let perform = Arc::new(leased::UnderLeases::new(Arc::clone(&desk), handler));
        Ok(Self::with(Box::new(source), identity, desk, perform))
    }

    fn with(source: Box<dyn Source>, identity: Identity, desk: Arc<Desk>, perform: Arc<dyn Perform>) -> Self {
        let options = RunnerOptions {
            concurrency: desk.options.concurrency,
            drain: desk.options.drain,
            ..RunnerOptions::default()
        };
        let handling = Handling {
            run: desk.run.clone(),
            resolvers: desk.options.resolvers.clone(),
            crashes_count: desk.options.crashes_count,
            ..Handling::new(desk.name.clone(), desk.options.destination.clone())
        };
        let (again, opening) = (Arc::clone(&perform), Arc::clone(&desk));
        let runner = Runner::new(&desk.engine, options).handle(handling, move |run, input| {
            let (again, opening) = (Arc::clone(&again), Arc::clone(&opening));
            async move {
                match opening.to_run(&input, run.operation.id()).await {
                    Ok(message) => again.again(run, message).await,
                    Err(attempted) => attempted,
                }
            }
        });
        Self {
            source,
            identity,
            desk,
            perform,
            runner,
        }
    }

    /// Handles messages until `shutdown`, then gives back what is not handled yet and waits for what is. Returns how many
    /// messages were in hand still when [`ConsumerOptions::drain`] was over.
    ///
    /// It waits for a broker that is away, or that refuses, and says so ([`Event`](crate::Event)). Must be called within
    /// a Tokio runtime.
    ///
    /// # Errors
    /// [`ConsumerError::Retention`] if the broker can deliver a message again later than it is remembered: nothing was
    /// taken from it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<usize, ConsumerError> {
        let (stop, stopped) = watch::channel(false);
        let intake = Intake {
            source: self.source,
            clerk: Clerk {
                identity: self.identity,
                desk: Arc::clone(&self.desk),
            },
            desk: self.desk,
            perform: self.perform,
            stopped: stopped.clone(),
        };
        let told = async {
            shutdown.await;
            stop.send_replace(true);
            std::future::pending::<std::convert::Infallible>().await
        };
        let mut ended = stopped;
        let running = self.runner.run(async move {
            // The sender is dropped when all is over.
            let _ = ended.wait_for(|stopped| *stopped).await;
        });
        let all = async {
            let (left, retried) = tokio::join!(
                async {
                    let left = intake.run().await;
                    // Whatever ended it, the runner ends too.
                    stop.send_replace(true);
                    left
                },
                running
            );
            left.map(|left| left + retried)
        };
        tokio::select! {
            left = all => left,
            never = told => match never {},
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.desk.name)
            .field("source", &self.source.label())
            .field("identity", &self.identity)
            .field("options", &self.desk.options)
            .finish_non_exhaustive()
    }
}
