//! Operations whose handler is split into steps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::{Backoff, BreakerPolicy, BudgetPolicy, Classes, Limits, RetryPolicy};
use hapax_core::{
    AfterFailure, Answer, DeadReason, Enqueued, Finish, Input, Key, LastError, Name, Operation, OperationId, Outcome,
    Record, Retention, Scope, StoreError, Timestamp,
};

use super::course::{Course, Steps};
use super::error::{HaltKind, SagaError, StepError};
use super::identity::{Names, Recipes};
use super::step::Step;
use super::undoing;
use crate::engine::{Arrival, Ended, Engine, Inner, Reply, Run, RunError, RunOptions};
use crate::retry::Destination;
use crate::runner::attempt::Trial;
use crate::runner::{Attempted, Handling, Runner};

/// How operations with steps are run. Every field has a default.
#[derive(Debug, Clone)]
pub struct SagaOptions {
    /// How the handler's own failures are retried, and how long it may run ([`SagaOptions::policy`]). Waiting for a step
    /// is no failure.
    pub policy: RetryPolicy,
    /// How long a run may go without a sign of life (30 s): after a crash, the operation is taken up again when that
    /// time is over.
    pub lease: Duration,
    /// How long signs of life can keep a run going (15 min).
    pub max_run: Duration,
    /// Whether a crash of the process can be the operation's fault (yes): after one, it runs with nothing beside it.
    pub crashes_count: bool,
    /// How long the records live on (24 h, 30 d). Steps are remembered, with their answers, for `remember_for`; an
    /// operation that has not ended within half of that runs no more steps.
    pub retention: Retention,
}

impl SagaOptions {
    /// The usual policy: 20 tries within 7 days, pauses from 1 s to 1 min, 15 min for each run. There is no breaker: an
    /// operation calls nothing but its steps, which have theirs.
    #[must_use]
    pub fn policy() -> RetryPolicy {
        const RUN: Duration = Duration::from_secs(15 * 60);
        RetryPolicy {
            retry: Classes::ALL,
            backoff: Backoff {
                base: Duration::from_secs(1),
                throttle_base: Duration::from_secs(5),
                cap: Duration::from_secs(60),
            },
            limits: Limits {
                tries: 20,
                elapsed: Duration::from_secs(7 * 24 * 3600),
                per_try: RUN,
                total: RUN,
            },
            budget: BudgetPolicy {
                share: 1.0,
                floor: 1_000_000.0,
                ..BudgetPolicy::default()
            },
            breaker: BreakerPolicy {
                failure_rate: 1.0,
                minimum_calls: u32::MAX,
                ..BreakerPolicy::default()
            },
        }
    }
}

impl Default for SagaOptions {
    fn default() -> Self {
        Self {
            policy: Self::policy(),
            lease: Duration::from_secs(30),
            max_run: Duration::from_secs(15 * 60),
            crashes_count: true,
            retention: Retention::default(),
        }
    }
}

/// What a run of an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Its handler has answered.
    Done(Bytes),
    /// A runner goes on with it after this time.
    Waits {
        /// Time until then.
        after: Duration,
        /// What it waits for.
        why: Option<LastError>,
    },
    /// It is a dead letter; if a step that can be undone was begun, it is being undone.
    Dead {
        /// Why.
        reason: DeadReason,
        /// The last failure's answer, if there was one.
        answer: Option<Answer>,
        /// What went wrong.
        last_error: Option<LastError>,
    },
}

type SagaHandler = Box<dyn Fn(Steps, Bytes) -> hapax_core::BoxFuture<'static, Result<Bytes, StepError>> + Send + Sync>;

/// Runs operations of one name, step by step.
///
/// The handler MUST ask for the same steps when it is run again with the same input and the same answers: it takes what
/// varies (time, random numbers, what a database says) from a step. All its effects are in steps.
///
/// ```
/// use bytes::Bytes;
/// use hapax::core::{Key, Scope};
/// use hapax::steps::{Came, Call, Saga, SagaOptions, Step, Steps, Undo};
/// use hapax::store::{Clock, MemoryStore};
/// use hapax::{Engine, EngineOptions, Reply, Runner, RunnerOptions};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = Engine::new(MemoryStore::new(Clock::default(), [0; 32]), EngineOptions::default(), ());
/// let steps = [
///     Step::at_least_once("charge").undone_by(|undo: Undo| async move {
///         // … the bank refunds what it has under `undo.step_key` …
///         Ok(Bytes::new())
///     }),
///     Step::at_most_once("email"),
/// ];
/// let checkout = Saga::open(&engine, "checkout", SagaOptions::default(), steps, |steps: Steps, order: Bytes| async move {
///     let payment = steps.step("charge", |call: Call| async move {
///         // … the bank charges, once for each `call.key` …
///         Ok(Bytes::from("payment 7"))
///     });
///     let payment = payment.await?;
///     steps.step("email", |_| async { Ok(Bytes::new()) }).await?;
///     Ok(payment)
/// });
/// let checkout = checkout.await?;
/// let (scope, key) = (Scope::new("tenant-1")?, Key::new("order-7")?);
/// let reply = checkout.run(scope, key, r#"{"order":7}"#, std::time::Duration::ZERO).await?;
/// assert!(matches!(reply, Reply::Ran(Came::Done(payment)) if payment == "payment 7"));
///
/// // Goes on with what waits, what a crash left behind, and what is to be undone.
/// let runner = checkout.equip(Runner::new(&engine, RunnerOptions::default()));
/// runner.run(async {}).await;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Saga {
    pub(super) plan: Arc<Plan>,
}

/// What is the same for all operations of a saga.
pub(super) struct Plan {
    pub(super) engine: Engine,
    pub(super) names: Names,
    pub(super) recipes: Recipes,
    pub(super) options: SagaOptions,
    pub(super) steps: BTreeMap<Box<str>, Declared>,
    destination: Destination,
    handler: SagaHandler,
}

/// A step, and what is derived from it.
pub(super) struct Declared {
    pub(super) step: Step,
    pub(super) name: Name,
    pub(super) undo_name: Name,
    pub(super) destination: Destination,
    undo_destination: Destination,
}

impl Saga {
    /// A saga of that name with these steps: no name has a slash, and no step is called `undo`. Asks the store.
    ///
    /// # Errors
    /// [`SagaError`] says which rule is broken.
    pub async fn open<H, F>(
        engine: &Engine,
        name: &str,
        options: SagaOptions,
        steps: impl IntoIterator<Item = Step>,
        handler: H,
    ) -> Result<Self, SagaError>
    where
        H: Fn(Steps, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, StepError>> + Send + 'static,
    {
        let names = Names::new(name)?;
        let remember_for = options.retention.remember_for;
        within("the operation".to_owned(), &options.policy, remember_for)?;
        let mut declared = BTreeMap::new();
        for step in steps {
            let one = Declared::new(&names, step, remember_for)?;
            let name = one.step.name.clone();
            if declared.insert(name.clone(), one).is_some() {
                return Err(SagaError::Twice(name.into()));
            }
        }
        let plan = Plan {
            engine: engine.clone(),
            names,
            recipes: Recipes::of(engine).await?,
            destination: Destination::new(options.policy.clone())?,
            options,
            steps: declared,
            handler: Box::new(move |steps, input| Box::pin(handler(steps, input))),
        };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Lets a runner run the operations, look after their steps, and undo what is to be undone.
    #[must_use]
    pub fn equip(&self, runner: Runner) -> Runner {
        let plan = &self.plan;
        let of = |name: &Name, destination: &Destination| {
            let mut handling = Handling::new(name.clone(), destination.clone());
            handling.run = plan.run_options(plan.options.retention);
            handling.crashes_count = plan.options.crashes_count;
            handling
        };
        let one = Arc::clone(plan);
        let handling = of(&plan.names.saga, &plan.destination);
        let mut runner = runner.handle(handling, move |run, input| Arc::clone(&one).perform(run, input));
        let one = Arc::clone(plan);
        let handling = of(&plan.names.undo, &plan.destination);
        runner = runner.handle(handling, move |run, input| undoing::look(Arc::clone(&one), run, input));
        for (step, declared) in &plan.steps {
            if declared.step.undo.is_some() {
                let mut handling = of(&declared.undo_name, &declared.undo_destination);
                handling.ordered = true;
                let (plan, step) = (Arc::clone(plan), step.clone());
                runner = runner.handle(handling, move |run, input| {
                    undoing::compensate(Arc::clone(&plan), step.clone(), run, input)
                });
            }
            if !declared.step.resolvers.is_empty() {
                let mut handling = of(&declared.name, &declared.destination);
                handling.run = declared.run_options(plan);
                handling.resolvers.clone_from(&declared.step.resolvers);
                // It has no input, and so is never given to be run.
                runner = runner.handle(handling, |_, _| async {
                    Attempted::Later {
                        after: Duration::from_secs(60),
                        why: None,
                    }
                });
            }
        }
        runner
    }

    /// Lays an operation before the runners; or tells what the record says, if it was asked for before.
    ///
    /// # Errors
    /// The store's failure: the operation may have been enqueued all the same, and can be started again.
    pub async fn start(&self, scope: Scope, key: Key, input: impl Into<Bytes>) -> Result<Enqueued, StoreError> {
        let (plan, input) = (&self.plan, input.into());
        let arrival = plan.arrival(scope, key, input.clone(), Duration::ZERO);
        plan.engine.enqueue(arrival, Input(input), Duration::ZERO).await
    }

    /// Runs an operation now, unless it is a duplicate: then tells what the record says, after waiting so long if it is
    /// in progress. Its input is stored first, so that a runner goes on with it if this process does not.
    ///
    /// # Errors
    /// [`RunError`], as of [`Engine::run`].
    pub async fn run(
        &self,
        scope: Scope,
        key: Key,
        input: impl Into<Bytes>,
        wait: Duration,
    ) -> Result<Reply<Came>, RunError> {
        let (plan, input) = (Arc::clone(&self.plan), input.into());
        let arrival = plan.arrival(scope, key, input.clone(), wait);
        let operation = arrival.operation.clone();
        let engine = plan.engine.clone();
        let reply = engine
            .run(arrival, move |run| async move {
                let trial = Trial {
                    operation: run.operation.clone(),
                    tries: run.tries,
                    destination: plan.destination.clone(),
                    after_failure: AfterFailure::Retry,
                    probe: false,
                    permit: None,
                };
                let (id, tries) = (run.operation.id(), run.tries);
                let work = Arc::clone(&plan).perform(run, Input(input));
                let (finish, ending) = trial.judge(plan.inner(), work, async || plan.scheduled(id).await).await;
                let reply = (finish.clone(), ending, tries);
                Ended { finish, reply }
            })
            .await?;
        Ok(match reply {
            Reply::Ran((finish, ending, tries)) => {
                engine.inner.tell(&operation, tries, ending);
                Reply::Ran(came(finish))
            }
            Reply::Refused(refusal) => Reply::Refused(refusal),
        })
    }
}

fn came(finish: Finish) -> Came {
    match finish {
        Finish::Done(outcome) => Came::Done(body(outcome)),
        Finish::Release { after, last_error, .. } => Came::Waits { after, why: last_error },
        // Operations run in retry mode, which knows no unknown outcome.
        Finish::Unknown { last_error, .. } => Came::Waits {
            after: Duration::ZERO,
            why: last_error,
        },
        Finish::Dead {
            reason,
            answer,
            last_error,
        } => Came::Dead {
            reason,
            answer,
            last_error,
        },
    }
}

/// What an outcome of ours holds; nothing if a person said that it is done without giving an answer.
pub(super) fn body(outcome: Outcome) -> Bytes {
    match outcome {
        Outcome::Answer(answer) => answer.body,
        Outcome::NotKept(_) => Bytes::new(),
    }
}

pub(super) fn outcome(body: Bytes) -> Outcome {
    Outcome::Answer(Answer {
        status: 0,
        headers: Vec::new(),
        body,
    })
}

impl Plan {
    pub(super) fn inner(&self) -> &Inner {
        &self.engine.inner
    }

    fn arrival(&self, scope: Scope, key: Key, input: Bytes, wait: Duration) -> Arrival {
        Arrival {
            operation: Operation::new(scope, self.names.saga.clone(), key),
            fingerprint: self.recipes.asked(&self.engine.store().secret(), &input),
            refingerprint: Arc::new(|_, _| None),
            options: self.run_options(self.options.retention),
            wait,
            group: None,
            input: Some(Input(input)),
        }
    }

    fn run_options(&self, retention: Retention) -> RunOptions {
        RunOptions {
            lease: self.options.lease,
            max_run: self.options.max_run,
            // All effects are in steps: running the handler again repeats none.
            after_failure: AfterFailure::Retry,
            retention,
            attended: true,
            ..RunOptions::default()
        }
    }

    /// One run of an operation's handler.
    async fn perform(self: Arc<Self>, run: Run, input: Input) -> Attempted {
        let course = match Course::begin(&self, run).await {
            Ok(course) => course,
            Err(halt) => return halt.attempted(),
        };
        // However this run ends, also by a panic or a time-out: no step begins after it.
        let closing = course.closing();
        let ended = (self.handler)(course.steps(), input.0).await;
        // What was begun side by side is not left alone.
        course.landed().await;
        drop(closing);
        match (course.halted(), ended) {
            (Some(halt), _) if !matches!(halt.kind, HaltKind::Later(_)) => halt.attempted(),
            // No waiting for others changes that.
            (_, Err(error @ StepError::Dead { .. })) => error.attempted(),
            (Some(halt), _) => halt.attempted(),
            (None, Err(error)) => error.attempted(),
            (None, Ok(body)) => Attempted::Done(outcome(body)),
        }
    }

    pub(super) async fn read(&self, id: OperationId) -> Result<(Timestamp, Option<Record>), StoreError> {
        let inner = self.inner();
        let patience = inner.options.store_patience;
        let read = inner.insist("read", patience, |store| store.read(id)).await?;
        inner.learn_time(read.0);
        Ok(read)
    }

    /// When a record got into its schedule of retries.
    pub(super) async fn scheduled(&self, id: OperationId) -> Option<Timestamp> {
        let (_, record) = self.read(id).await.ok()?;
        record.map(|record| record.redriven.unwrap_or(record.created))
    }

    /// How long the parts of an operation are remembered.
    pub(super) fn part_retention(&self) -> Retention {
        let remember_for = self.options.retention.remember_for;
        Retention {
            replay_for: remember_for,
            remember_for,
        }
    }
}

impl Declared {
    fn new(names: &Names, step: Step, remember_for: Duration) -> Result<Self, SagaError> {
        let (name, undo_name) = names.step(&step.name)?;
        let destination = match &step.destination {
            Some(destination) => destination.clone(),
            None => Destination::new(RetryPolicy::default())?,
        };
        within(format!("step {}", step.name), destination.policy(), remember_for)?;
        let undo_destination = match &step.undo_destination {
            Some(destination) => destination.clone(),
            None => Destination::new(Step::undo_policy())?,
        };
        Ok(Self {
            step,
            name,
            undo_name,
            destination,
            undo_destination,
        })
    }

    pub(super) fn run_options(&self, plan: &Plan) -> RunOptions {
        RunOptions {
            lease: self.step.lease,
            max_run: self.step.max_run,
            after_failure: self.step.after_failure,
            retention: plan.part_retention(),
            attended: !self.step.resolvers.is_empty(),
            settle: self.step.settle,
        }
    }
}

/// What is done must be remembered for as long as it can be asked for again, and as long again for its compensation.
fn within(what: String, policy: &RetryPolicy, remember_for: Duration) -> Result<(), SagaError> {
    let longest = policy.longest();
    match longest.saturating_mul(2) <= remember_for {
        true => Ok(()),
        false => Err(SagaError::Forgets {
            what,
            longest,
            remember_for,
        }),
    }
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga")
            .field("name", &self.plan.names.saga)
            .field("steps", &self.plan.steps.keys())
            .finish_non_exhaustive()
    }
}
