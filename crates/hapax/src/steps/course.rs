//! One run of an operation's handler, and the steps that it asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    Amend, Amendment, Audit, Claim, Fence, Finish, Operation, Refusal, Starter, State, StoreError, Timestamp,
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};

use super::error::{Halt, HaltKind, StepError};
use super::identity::{Life, encode_steps, named, step_key};
use super::saga::{Declared, Plan, body, outcome};
use super::undoing::{FIRST_LOOK, pause};
use crate::engine::drive::Drive;
use crate::engine::gate::{Side, Youth};
use crate::engine::{Arrival, Ended, Reply, Run, RunError, RunOptions, random_attempt};
use crate::failpoint::{self, Failpoint};
use crate::retry::{NotAdmitted, Permit};
use crate::runner::attempt::Trial;
use crate::runner::ending::Ending;
use crate::runner::{Attempted, Failure};

/// Steps that one run can have under way.
const MOST: u32 = 1024;
/// Pause of an operation whose step could not reach the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How an operation's handler asks for its steps. Cheap to clone.
#[derive(Clone)]
pub struct Steps {
    course: Arc<Course>,
}

/// One run of a step.
#[derive(Debug, Clone)]
pub struct Call {
    /// The step's own operation: `NAME/STEP` in the scope and with the key of the one that it is a step of.
    pub operation: Operation,
    /// The key for its calls to other systems: the same for every try, another for each step.
    pub key: String,
    /// The fence of this run of the step: for a receipt.
    pub fence: Fence,
    /// Starts so far that count, this one included.
    pub tries: u32,
}

impl Steps {
    /// Runs a step, once for this operation: if it is done, its answer is given again, and `work` does not run.
    ///
    /// `work` runs to its end in a task of its own, even if this future is dropped. A name can be asked for once in a
    /// run, and must be one of the saga's steps.
    ///
    /// # Errors
    /// [`StepError`], to be given on with `?`.
    pub async fn step<H, F>(&self, name: &str, work: H) -> Result<Bytes, StepError>
    where
        H: FnOnce(Call) -> F + Send + 'static,
        F: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        let result = self.course.step(name, work).await;
        if let Err(StepError::Halted(halt)) = &result {
            self.course.halt(halt);
        }
        result
    }

    /// The operation whose steps these are.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.course.run.operation
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps")
            .field("operation", self.operation())
            .finish_non_exhaustive()
    }
}

pub(super) struct Course {
    plan: Arc<Plan>,
    run: Run,
    life: Life,
    redriven: Option<Timestamp>,
    /// Whether nothing else runs in this process, lest a crash be another's fault.
    alone: bool,
    asked: Mutex<BTreeSet<Box<str>>>,
    halted: Mutex<Option<Halt>>,
    flights: Arc<Semaphore>,
    registered: OnceCell<()>,
}

/// No step begins once this is dropped.
pub(super) struct Closing(Arc<Semaphore>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a claimed step came to.
enum Told {
    /// It did not run.
    Halted(Halt),
    Ran(Finish, Ending, u32),
}

impl Course {
    pub(super) async fn begin(plan: &Arc<Plan>, run: Run) -> Result<Arc<Self>, Halt> {
        let (_, record) = plan.read(run.operation.id()).await.map_err(unreachable)?;
        let record = record.filter(|record| record.fence == run.fence);
        let Some((record, State::Running { starter, .. })) = record.map(|record| (record.clone(), record.state)) else {
            return Err(Halt::fenced());
        };
        Ok(Arc::new(Self {
            plan: Arc::clone(plan),
            life: Life {
                operation: run.operation.clone(),
                created: record.created,
                undone: None,
            },
            run,
            redriven: record.redriven,
            alone: starter == Starter::Alone,
            asked: Mutex::default(),
            halted: Mutex::default(),
            flights: Arc::new(Semaphore::new(MOST as usize)),
            registered: OnceCell::new(),
        }))
    }

    pub(super) fn steps(self: &Arc<Self>) -> Steps {
        let course = Arc::clone(self);
        Steps { course }
    }

    pub(super) fn closing(&self) -> Closing {
        Closing(Arc::clone(&self.flights))
    }

    /// Returns when no step is under way.
    pub(super) async fn landed(&self) {
        // The semaphore is closed later.
        let _ = self.flights.acquire_many(MOST).await;
    }

    pub(super) fn halted(&self) -> Option<Halt> {
        lock(&self.halted).clone()
    }

    /// The worst counts: once another run has taken over, nothing that this one says does.
    fn halt(&self, halt: &Halt) {
        let weight = |halt: &Halt| match halt.kind {
            HaltKind::Later(_) => 0,
            HaltKind::Wrong => 1,
            HaltKind::Fenced => 2,
        };
        let mut halted = lock(&self.halted);
        if halted.as_ref().is_none_or(|before| weight(before) < weight(halt)) {
            *halted = Some(halt.clone());
        }
    }

    async fn step<H, F>(self: &Arc<Self>, name: &str, work: H) -> Result<Bytes, StepError>
    where
        H: FnOnce(Call) -> F + Send + 'static,
        F: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        if let Some(halt) = self.halted() {
            return Err(StepError::Halted(halt));
        }
        let declared = self.declared(name).map_err(StepError::Halted)?;
        let flight = Arc::clone(&self.flights).acquire_owned().await.map_err(|_| {
            let why = format!("step {name} was asked for after the handler had ended: await all steps in it");
            StepError::Halted(Halt::wrong(why))
        })?;
        if !lock(&self.asked).insert(name.into()) {
            let why = format!("step {name} was asked for twice in one run: give each call a step of its own");
            return Err(StepError::Halted(Halt::wrong(why)));
        }
        if declared.step.undo.is_some() {
            let registered = self.registered.get_or_try_init(|| self.register());
            registered.await.map_err(StepError::Halted)?;
        }
        let claim = self
            .claim(declared)
            .map_err(|error| StepError::Halted(unreachable(error)))?;
        self.claimed(name, claim, flight, work).await
    }

    fn declared(&self, name: &str) -> Result<&Declared, Halt> {
        self.plan.steps.get(name).ok_or_else(|| {
            let known: Vec<_> = self.plan.steps.keys().map(|step| &**step).collect();
            let (saga, known) = (&self.plan.names.saga, known.join(", "));
            Halt::wrong(format!(
                "{name:?} is no step of {saga}, which has {known}: name it where the saga is opened"
            ))
        })
    }

    /// Makes sure that somebody begins the compensation if the operation dies.
    async fn register(&self) -> Result<(), Halt> {
        let plan = &self.plan;
        let undoable = plan.steps.iter().filter(|(_, declared)| declared.step.undo.is_some());
        let input = encode_steps(self.life.created, undoable.map(|(name, _)| &**name));
        let arrival = Arrival {
            operation: named(&self.life.operation, &plan.names.undo),
            fingerprint: plan.recipes.part(&plan.engine.store().secret(), "undo", &self.life),
            refingerprint: Arc::new(|_, _| None),
            options: RunOptions {
                // Gone before the operation is, lest it be in the way of the next one of the same key.
                retention: hapax_core::Retention {
                    replay_for: Duration::ZERO,
                    remember_for: plan.options.retention.remember_for / 2,
                },
                ..RunOptions::default()
            },
            wait: Duration::ZERO,
            group: None,
            input: None,
        };
        let enqueued = plan.engine.enqueue(arrival, input, FIRST_LOOK).await;
        let name = &plan.names.undo;
        match enqueued.map_err(unreachable)?.refusal {
            Some(Refusal::Mismatch | Refusal::OtherRecipe(_)) => Err(Halt::wrong(format!(
                "the record {name} of this key belongs to something else, or to an earlier operation that was forgotten \
                 before its steps: forget it and the steps, too"
            ))),
            Some(Refusal::Done { .. }) => Err(Halt::wrong(format!(
                "the record {name} of this key is done, so that nobody would begin the compensation"
            ))),
            Some(Refusal::Dead { .. }) => Err(Halt::later(
                Duration::from_secs(10),
                format!(
                    "the record {name} of this key is dead, so that nobody would begin the compensation: redrive it"
                ),
            )),
            _ => {
                failpoint::hit(Failpoint::UndoRegistered);
                Ok(())
            }
        }
    }

    fn claim(&self, declared: &Declared) -> Result<Claim, StoreError> {
        let (plan, step) = (&self.plan, &declared.step);
        let options = declared.run_options(plan);
        Ok(Claim {
            operation: named(&self.life.operation, &declared.name),
            fingerprint: plan.recipes.part(&plan.engine.store().secret(), &step.name, &self.life),
            attempt: random_attempt()?,
            starter: Starter::System,
            lease: options.lease,
            max_run: options.max_run,
            after_failure: options.after_failure,
            attended: options.attended,
            retention: options.retention,
            input: None,
            group: Some(self.life.operation.id()),
        })
    }

    async fn claimed<H, F>(
        self: &Arc<Self>,
        name: &str,
        mut claim: Claim,
        flight: OwnedSemaphorePermit,
        work: H,
    ) -> Result<Bytes, StepError>
    where
        H: FnOnce(Call) -> F + Send + 'static,
        F: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        let operation = claim.operation.clone();
        if self.redriven.is_some() {
            self.redrive(&operation).await.map_err(StepError::Halted)?;
            claim.attempt = random_attempt().map_err(|error| StepError::Halted(unreachable(error)))?;
        }
        let (reply, answered) = oneshot::channel();
        let (this, step) = (Arc::clone(self), Box::<str>::from(name));
        // A task of its own: a claim whose caller leaves must still be run, or given back.
        tokio::spawn(async move {
            let inner = Arc::clone(&this.plan.engine.inner);
            let youth = match this.alone {
                true => None,
                false => Some(Youth::Among {
                    _young: inner.gate.enter(Side::Caller).await,
                }),
            };
            let drive = Box::new(Drive {
                inner,
                claim,
                youth,
                reply,
            });
            drive.run_within(move |run| this.perform(step, run, work)).await;
            drop(flight);
        });
        let halted = |halt| Err(StepError::Halted(halt));
        match answered.await.unwrap_or(Err(RunError::Lost)) {
            Ok(Reply::Ran(Told::Halted(halt))) => halted(halt),
            Ok(Reply::Ran(Told::Ran(finish, ending, tries))) => {
                failpoint::hit(Failpoint::StepFinished);
                self.plan.inner().tell(&operation, tries, ending);
                self.ended(name, finish)
            }
            Ok(Reply::Refused(refusal)) => self.refused(name, refusal),
            Err(error) => halted(Halt::later(STORE_PAUSE, format!("step {name}: {error}"))),
        }
    }

    /// Runs a step that is claimed: its effect, if the operation is still this run's.
    async fn perform<H, F>(self: Arc<Self>, step: Box<str>, run: Run, work: H) -> Ended<Told>
    where
        H: FnOnce(Call) -> F,
        F: Future<Output = Result<Bytes, Failure>>,
    {
        failpoint::hit(Failpoint::StepClaimed);
        let permit = match self.leave(&step, &run).await {
            Ok(permit) => permit,
            Err(halt) => {
                let after = match halt.kind {
                    HaltKind::Later(after) => after,
                    HaltKind::Fenced | HaltKind::Wrong => Duration::ZERO,
                };
                let finish = Finish::Release {
                    after,
                    counts: false,
                    last_error: None,
                };
                let reply = Told::Halted(halt);
                return Ended { finish, reply };
            }
        };
        failpoint::hit(Failpoint::StepAllowed);
        let declared = &self.plan.steps[&step];
        let trial = Trial {
            operation: run.operation.clone(),
            tries: run.tries,
            destination: declared.destination.clone(),
            after_failure: declared.step.after_failure,
            // That a start was no try is to prove that it had no effect.
            probe: false,
            permit: Some(permit),
        };
        let (id, tries) = (run.operation.id(), run.tries);
        let call = Call {
            operation: run.operation,
            key: step_key(&self.life.operation, &step),
            fence: run.fence,
            tries,
        };
        let work = async {
            let worked = work(call).await;
            failpoint::hit(Failpoint::StepRan);
            match worked {
                Ok(body) => Attempted::Done(outcome(body)),
                Err(failure) => Attempted::Failed(failure),
            }
        };
        let plan = &self.plan;
        let (finish, ending) = trial.judge(plan.inner(), work, async || plan.scheduled(id).await).await;
        let reply = Told::Ran(finish.clone(), ending, tries);
        Ended { finish, reply }
    }

    /// Whether the step may have its effect: read after its claim is durable (see the module's comment).
    async fn leave(&self, step: &str, run: &Run) -> Result<Permit, Halt> {
        let plan = &self.plan;
        let (now, record) = plan.read(self.life.operation.id()).await.map_err(unreachable)?;
        let fence = self.run.fence;
        if !record.is_some_and(|record| record.fence == fence && matches!(record.state, State::Running { .. })) {
            return Err(Halt::fenced());
        }
        let within = plan.options.retention.remember_for / 2;
        if now >= self.life.created.after(within) {
            return Err(Halt::wrong(format!(
                "step {step} comes {within:?} after the operation began, half of the time for which steps are \
                 remembered: what is done would be forgotten before it can be undone"
            )));
        }
        let destination = &plan.steps[step].destination;
        let put_off = |after, by: NotAdmitted| Halt::later(after, format!("step {step} is put off: {by}"));
        let permit = destination.admit_either().map_err(|by| match by {
            NotAdmitted::Open { retry_after } => put_off(retry_after, by),
            NotAdmitted::BudgetSpent => put_off(STORE_PAUSE, by),
        })?;
        if !destination.spend(run.tries > 1) && !permit.is_probe() {
            let share = Duration::from_secs_f64(1.0 / destination.policy().budget.floor.max(1.0));
            return Err(put_off(share, NotAdmitted::BudgetSpent));
        }
        Ok(permit)
    }

    /// A step that died before its operation was redriven gets another life, too.
    async fn redrive(&self, operation: &Operation) -> Result<(), Halt> {
        let plan = &self.plan;
        let (_, record) = plan.read(operation.id()).await.map_err(unreachable)?;
        let before = |record: &hapax_core::Record| Some(record.since) < self.redriven;
        let Some(record) = record.filter(|record| matches!(record.state, State::Dead { .. }) && before(record)) else {
            return Ok(());
        };
        let amendment = Amendment {
            amend: Amend::Redrive,
            fence: Some(record.fence),
            audit: Audit {
                actor: "steps".to_owned(),
                reason: "its operation was redriven".to_owned(),
            },
        };
        let (inner, patience) = (plan.inner(), plan.inner().options.store_patience);
        let amend = inner.insist("amend", patience, |store| {
            store.amend(operation.id(), amendment.clone())
        });
        // Whatever it is now, the claim is told.
        amend.await.map(drop).map_err(unreachable)
    }

    fn ended(&self, step: &str, finish: Finish) -> Result<Bytes, StepError> {
        let words = |error: Option<hapax_core::LastError>| error.map_or(String::new(), |error| format!(": {error}"));
        let (after, why) = match finish {
            Finish::Done(outcome) => return Ok(body(outcome)),
            Finish::Dead {
                reason,
                answer,
                last_error,
            } => {
                return Err(StepError::Dead {
                    step: step.into(),
                    reason,
                    answer,
                    last_error,
                });
            }
            Finish::Release { after, last_error, .. } => {
                (after, format!("step {step} is to be tried again{}", words(last_error)))
            }
            Finish::Unknown { last_error, .. } => {
                let why = format!("the outcome of step {step} is unknown{}", words(last_error));
                (pause(Duration::ZERO), why)
            }
        };
        Err(StepError::Halted(Halt::later(after, why)))
    }

    fn refused(&self, step: &str, refusal: Refusal) -> Result<Bytes, StepError> {
        // The store has just answered.
        let now = self.plan.inner().store_time().unwrap_or(self.life.created);
        let until = |at: Timestamp| at.since(now);
        Err(StepError::Halted(match refusal {
            Refusal::Done { outcome, .. } => return Ok(body(outcome)),
            Refusal::Dead { reason, answer, .. } => {
                return Err(StepError::Dead {
                    step: step.into(),
                    reason,
                    answer,
                    last_error: None,
                });
            }
            Refusal::Later { due } => Halt::later(until(due), format!("step {step} is to be tried again")),
            Refusal::InProgress { since, deadline } => {
                let after = pause(now.since(since)).min(until(deadline));
                Halt::later(after, format!("step {step} is in progress"))
            }
            Refusal::Unknown { since, .. } => {
                let why = format!("the outcome of step {step} is unknown");
                Halt::later(pause(now.since(since)), why)
            }
            // An attempt is claimed once.
            Refusal::AttemptOver => Halt::later(Duration::ZERO, format!("step {step} was given back")),
            Refusal::Mismatch | Refusal::OtherRecipe(_) => Halt::wrong(format!(
                "the record of step {step} under this key belongs to something else, or to an earlier operation that was \
                 forgotten before its steps: forget the steps, too"
            )),
        }))
    }
}

fn unreachable(error: StoreError) -> Halt {
    Halt::later(STORE_PAUSE, format!("the store could not be asked: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A set of names and a halt are whole after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
