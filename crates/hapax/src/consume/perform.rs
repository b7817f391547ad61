//! What every way of handling has in common: a message as an operation, and what it can come to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hapax_core::policy::FailureClass;
use hapax_core::{
    AfterFailure, Claim, DeadReason, Fingerprint, Input, Key, LastError, Name, Operation, OperationId, RecipeId,
    Record, Refusal, Retention, Starter, State, StoreError,
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use super::identity::{RECIPE, fingerprint};
use super::{ConsumerError, ConsumerOptions, Message};
use crate::engine::{Engine, Refingerprint, Run, RunError, RunOptions, random_attempt};
use crate::http::{open_input, seal_input};
use crate::retry::Permit;
use crate::runner::{Attempted, Failure};

/// How long a message waits for a copy of it that is being handled: most end soon.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How long a message is left alone that somebody else has in hand.
const BUSY: Duration = Duration::from_secs(30);
/// The same for one of which nothing is known.
const SOON: Duration = Duration::from_secs(1);

/// A message with its identity.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) message: Message,
    pub(super) key: Key,
    #[cfg_attr(not(feature = "atomic"), expect(dead_code, reason = "a lease counts every start"))]
    pub(super) redelivered: bool,
}

/// What a message comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// It is done.
    Done,
    /// It was done before.
    Duplicate,
    /// Its record waits with its payload, for so long.
    Waiting(Duration),
    /// Nobody knows what became of it: its record holds it, with its payload.
    Unknown,
    /// It is a dead letter, for this reason.
    Dead(String),
    /// The same identity was used for another payload.
    Mismatch,
    /// Nothing of it is recorded, or somebody else has it in hand: to come again.
    Again(Duration),
    /// The store is away.
    Away(String),
}

/// What a claim stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep<'a> {
    Message,
    /// The message, not to be run, for this reason.
    Dead(&'a str),
    /// What is entered as done needs no second run.
    #[cfg(feature = "atomic")]
    Nothing,
}

/// A turn of messages at their handler.
pub(super) struct Turn {
    /// The word of what the handler calls.
    pub(super) permit: Permit,
    /// Dropped when the handler has ended: what follows need not keep the next message from it.
    pub(super) place: OwnedSemaphorePermit,
}

/// A way to handle messages.
pub(super) trait Perform: Send + Sync + 'static {
    /// How many messages, or batches of them, are worked on where so many are handled at a time.
    fn workers(&self, concurrency: usize) -> usize;

    /// Handles messages; what each came to, in their order.
    fn perform(self: Arc<Self>, tasks: Vec<Task>, turn: Turn) -> BoxFuture<'static, Vec<Came>>;

    /// Handles a message that waited in its record.
    fn again(&self, run: Run, message: Message) -> BoxFuture<'static, Attempted>;
}

/// A consumer's name and rules.
pub(super) struct Desk {
    pub(super) engine: Engine,
    pub(super) name: Name,
    pub(super) run: RunOptions,
    pub(super) options: ConsumerOptions,
    recipe: OnceCell<RecipeId>,
}

impl Desk {
    pub(super) fn new(
        engine: Engine,
        name: Name,
        mut run: RunOptions,
        options: ConsumerOptions,
    ) -> Result<Self, ConsumerError> {
        let what = if options.concurrency == 0 {
            "concurrency is 0: write at least 1"
        } else if options.batch == 0 {
            "batch is 0: write at least 1"
        } else if options.prefetch < options.concurrency.saturating_mul(options.batch) {
            "prefetch is less than concurrency times batch: with fewer messages in hand some workers never work"
        } else if options.remember_for.is_zero() {
            "remember_for is 0: nothing would be recognised"
        } else {
            // One that is left behind is for the runner.
            run.attended = true;
            // What a message answers says nothing more than that it is done.
            run.retention = Retention {
                replay_for: options.remember_for,
                remember_for: options.remember_for,
            };
            return Ok(Self {
                engine,
                name,
                run,
                options,
                recipe: OnceCell::new(),
            });
        };
        let what = what.to_owned();
        Err(ConsumerError::Options { name, what })
    }

    pub(super) fn operation(&self, key: &Key) -> Operation {
        Operation::new(self.options.scope.clone(), self.name.clone(), key.clone())
    }

    async fn recipe(&self) -> Result<RecipeId, StoreError> {
        let store = self.engine.store();
        self.recipe
            .get_or_try_init(|| store.recipe(RECIPE.to_owned()))
            .await
            .copied()
    }

    pub(super) async fn fingerprint(&self, message: &Message) -> Result<Fingerprint, StoreError> {
        let recipe = self.recipe().await?;
        Ok(fingerprint(&self.engine.store().secret(), recipe, &message.payload))
    }

    /// A message as its record keeps it. Without random bytes it cannot be sealed, nor could it be claimed.
    pub(super) fn stored(&self, message: &Message, id: OperationId) -> Result<Input, StoreError> {
        self.sealed(message.to_input(), id)
    }

    fn sealed(&self, input: Input, id: OperationId) -> Result<Input, StoreError> {
        match &self.options.seal {
            None => Ok(input),
            seal => seal_input(seal.as_ref(), &input.0, id).map_err(|_| {
                let kind = hapax_core::StoreErrorKind::Unavailable;
                StoreError::new(kind, "the system gave no random bytes to seal a message with")
            }),
        }
    }

    /// The message that a record keeps, and why it must not be run, if so; or why there is none.
    pub(super) fn opened(&self, input: &Input, id: OperationId) -> Result<(Message, Option<Box<str>>), String> {
        if let Some(opened) = Message::and_why_not(input) {
            return Ok(opened);
        }
        let opened = open_input(self.options.seal.as_ref(), input, id).map_err(|error| error.to_string())?;
        Message::and_why_not(&Input(opened))
            .ok_or_else(|| "its input is no message: another program wrote under the name of this consumer".to_owned())
    }

    /// The message of a record that is to be run; or what follows if it must not be. What a crash left of making a dead
    /// letter is not run, unless a person has sent it back since.
    pub(super) async fn to_run(&self, input: &Input, id: OperationId) -> Result<Message, Attempted> {
        let dead = |why: &str| Attempted::Failed(Failure::new(FailureClass::Final, why));
        let (message, why) = self.opened(input, id).map_err(|why| dead(&why))?;
        let Some(why) = why else { return Ok(message) };
        match self.engine.store().read(id).await {
            Ok((_, Some(record))) if record.redriven.is_some() => Ok(message),
            Ok(_) => Err(dead(&why)),
            // Until the record can be asked.
            Err(error) => Err(Attempted::Later {
                after: SOON,
                why: Some(LastError::new(&error.to_string())),
            }),
        }
    }

    /// Whether a crash left this of making a dead letter: nothing was ever run.
    pub(super) fn is_half_buried(&self, record: &Record) -> bool {
        let opened = record
            .input
            .as_ref()
            .map(|input| self.opened(input, record.operation.id()));
        let dead = matches!(opened, Some(Ok((_, Some(_)))));
        dead && record.redriven.is_none() && matches!(record.state, State::Running { .. })
    }

    /// The claim of a message, which counts as a try.
    pub(super) async fn claim(&self, message: &Message, key: &Key, keep: Keep<'_>) -> Result<Claim, StoreError> {
        let operation = self.operation(key);
        let after_failure = match keep {
            // Nothing is run: what a crash leaves of it is not unknown.
            Keep::Dead(_) => AfterFailure::Retry,
            _ => self.run.after_failure,
        };
        let input = match keep {
            Keep::Message => Some(self.stored(message, operation.id())?),
            Keep::Dead(why) => Some(self.sealed(message.to_dead_input(why), operation.id())?),
            #[cfg(feature = "atomic")]
            Keep::Nothing => None,
        };
        Ok(Claim {
            operation,
            fingerprint: self.fingerprint(message).await?,
            attempt: random_attempt()?,
            starter: Starter::System,
            lease: self.run.lease,
            max_run: self.run.max_run,
            after_failure,
            attended: true,
            retention: self.run.retention,
            input,
            group: None,
        })
    }

    /// What a message comes to whose record refuses it.
    pub(super) async fn refused(&self, id: OperationId, refusal: Refusal) -> Came {
        match refusal {
            Refusal::Done { .. } => Came::Duplicate,
            Refusal::Mismatch | Refusal::OtherRecipe(_) => Came::Mismatch,
            Refusal::AttemptOver => Came::Again(SOON),
            Refusal::InProgress { .. } | Refusal::Later { .. } | Refusal::Unknown { .. } | Refusal::Dead { .. } => {
                self.recorded(id).await
            }
        }
    }

    /// What a message came to, by its record: acknowledged only if that has it.
    pub(super) async fn recorded(&self, id: OperationId) -> Came {
        let (now, record) = match self.engine.store().read(id).await {
            Ok(read) => read,
            Err(error) => return Came::Away(error.to_string()),
        };
        let Some(record) = record else { return Came::Again(SOON) };
        let kept = record.input.is_some();
        match &record.state {
            State::Done(_) => Came::Duplicate,
            State::Dead { reason, .. } => Came::Dead(reason_of(*reason, &record)),
            State::Waiting { due } if kept => Came::Waiting(due.since(now)),
            State::Waiting { due } => Came::Again(due.since(now)),
            State::Unknown { .. } if kept => Came::Unknown,
            State::Unknown { .. } => Came::Again(BUSY),
            State::Running { deadline, .. } => Came::Again(deadline.since(now).clamp(SOON, BUSY)),
        }
    }

    /// What follows from a run of the engine that came to no reply.
    pub(super) fn not_run(error: &RunError) -> Came {
        match error {
            RunError::NotClaimed(_) => Came::Away(error.to_string()),
            RunError::NotFinished(_) | RunError::Panicked | RunError::Lost => Came::Again(SOON),
        }
    }
}

/// Nothing was made under another recipe that could be compared.
pub(super) fn refingerprint() -> Refingerprint {
    Arc::new(|_, _| None)
}

/// A message has no answer beyond that it is done.
#[cfg(feature = "atomic")]
pub(super) fn done() -> hapax_core::Outcome {
    hapax_core::Outcome::Answer(hapax_core::Answer {
        status: 204,
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    })
}

fn reason_of(reason: DeadReason, record: &Record) -> String {
    match &record.last_error {
        Some(error) => format!("{}: {}", reason.as_str(), error.as_str()),
        None => reason.as_str().to_owned(),
    }
}
