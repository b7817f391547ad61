//! Looks at an operation until it has ended; if it is dead, lays its compensations before the runner, and runs them.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::policy::FailureClass;
use hapax_core::{
    AfterFailure, Amend, Amended, Amendment, Audit, Claim, Claimed, DeadReason, Fence, Filter, Finish, Input,
    LastError, Operation, Outcome, Record, Retention, Ruling, Starter, State, StateName, StoreError, Summary,
    Timestamp,
};

use super::identity::{Life, Undoable, decode_steps, named, step_key, undo_key};
use super::saga::{Plan, outcome};
use super::undo::Undo;
use crate::engine::{Arrival, Run, RunOptions, random_attempt};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};
use crate::runner::{Attempted, Failure};

/// When an operation is first looked at: most have ended by then.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Pause before something that has been so for `age` is looked at again: a tenth of that, between 500 ms and 10 min.
pub(super) fn pause(age: Duration) -> Duration {
    (age / 10).clamp(FIRST_LOOK, Duration::from_secs(600))
}

/// What ends a look early.
type Looked<T> = Result<T, Attempted>;

/// A run of the record that looks at an operation.
pub(super) async fn look(plan: Arc<Plan>, run: Run, input: Input) -> Attempted {
    match plan.look(run, input).await {
        Ok(attempted) | Err(attempted) => attempted,
    }
}

/// A run of a compensation.
pub(super) async fn compensate(plan: Arc<Plan>, step: Box<str>, run: Run, input: Input) -> Attempted {
    match plan.compensate(&step, run, input).await {
        Ok(attempted) | Err(attempted) => attempted,
    }
}

impl Plan {
    async fn look(&self, run: Run, input: Input) -> Looked<Attempted> {
        let Some((created, registered)) = decode_steps(&input) else {
            return Err(given_up(
                "its input is not ours: another program enqueued under this name",
            ));
        };
        let operation = named(&run.operation, &self.names.saga);
        let (now, record) = self.read(operation.id()).await.map_err(unreachable)?;
        let Some(record) = record.filter(|record| record.created == created) else {
            return Err(given_up(
                "the operation's record is gone, and with it whether it is to be undone: look at its steps, undo by hand \
                 what is to be undone, and discard this",
            ));
        };
        let reason = match &record.state {
            State::Running { .. } | State::Waiting { .. } | State::Unknown { .. } => {
                return Err(later(pause(now.since(created)), None));
            }
            State::Done(_) => return Ok(Attempted::Done(outcome("nothing to undo".into()))),
            State::Dead { reason, .. } => *reason,
        };
        let Some(Input(given)) = record.input.clone() else {
            return Err(given_up("the operation has no input: another program asked for it"));
        };
        let undone = match reason {
            DeadReason::Undone => record.fence,
            _ => self.begin(&record).await?,
        };
        failpoint::hit(Failpoint::UndoBegun);
        // Written before it is read, so that no step is left out: see the module's comment.
        let steps = self.undoable(&operation, &registered).await?;
        let life = Life {
            operation,
            created,
            undone: Some(undone),
        };
        let mut names = Vec::new();
        for (step, summary) in steps.iter().rev() {
            self.lay(&run.operation, &life, step, summary, &given).await?;
            failpoint::hit(Failpoint::CompensationEnqueued);
            names.push(&**step);
        }
        failpoint::hit(Failpoint::CompensationsEnqueued);
        Ok(Attempted::Done(outcome(
            format!("to be undone: {}", names.join(", ")).into(),
        )))
    }

    /// Makes durable that compensation has begun: from then on nothing runs the operation again.
    async fn begin(&self, record: &Record) -> Looked<Fence> {
        let amendment = Amendment {
            amend: Amend::Undo,
            fence: Some(record.fence),
            audit: Audit {
                actor: "steps".to_owned(),
                reason: "it is dead, and what its steps did is undone".to_owned(),
            },
        };
        let (inner, id) = (self.inner(), record.operation.id());
        let patience = inner.options.store_patience;
        let amend = inner.insist("amend", patience, |store| store.amend(id, amendment.clone()));
        match amend.await.map_err(unreachable)? {
            Amended::Became(record) => {
                let operation = &record.operation;
                inner.emit(&Event::UndoBegun { operation });
                Ok(record.fence)
            }
            // A person was faster; or the answer to the first asking was lost.
            _ => Err(later(Duration::ZERO, None)),
        }
    }

    /// The steps that may have had an effect and can be undone, in the order in which they were first claimed.
    async fn undoable(&self, operation: &Operation, registered: &[Box<str>]) -> Looked<Vec<(Box<str>, Summary)>> {
        let prefix = format!("{}/", self.names.saga);
        let mut found = Vec::new();
        for summary in self.parts(operation).await.map_err(unreachable)? {
            let name = summary.operation.name().as_str();
            let Some(step) = name.strip_prefix(&prefix).map(Box::<str>::from) else {
                continue;
            };
            let handled = self
                .steps
                .get(&step)
                .is_some_and(|declared| declared.step.undo.is_some());
            if !handled && !registered.contains(&step) || is_proven_without_effect(&summary) {
                continue;
            }
            if !handled {
                let why =
                    format!("no compensation is given for step {step}, which had one when it ran: deploy it again");
                return Err(later(Duration::from_secs(10), Some(why)));
            }
            found.push((step, summary));
        }
        Ok(found)
    }

    /// All records of the operation's group.
    async fn parts(&self, operation: &Operation) -> Result<Vec<Summary>, StoreError> {
        const PAGE: usize = 500;
        let inner = self.inner();
        let filter = Filter {
            group: Some(operation.id()),
            ..Filter::default()
        };
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let patience = inner.options.store_patience;
            let list = inner.insist("list", patience, |store| store.list(filter.clone(), after, PAGE));
            let page = list.await?;
            parts.extend(page.records);
            after = page.next;
            if after.is_none() {
                return Ok(parts);
            }
        }
    }

    /// Lays a compensation before the runner; it has an order with the others of the same operation.
    async fn lay(
        &self,
        undo: &Operation,
        life: &Life,
        step: &str,
        summary: &Summary,
        given: &bytes::Bytes,
    ) -> Looked<()> {
        let answer = match summary.state {
            StateName::Done => self.answer(&summary.operation).await.map_err(unreachable)?,
            _ => None,
        };
        let input = given.clone();
        let input = Undoable { answer, input }.encode();
        let secret = self.engine.store().secret();
        let arrival = Arrival {
            operation: named(&life.operation, &self.steps[step].undo_name),
            fingerprint: self.recipes.part(&secret, &format!("{step}/undo"), life),
            refingerprint: Arc::new(|_, _| None),
            options: RunOptions {
                retention: Retention {
                    replay_for: Duration::ZERO,
                    remember_for: self.options.retention.remember_for / 2,
                },
                ..RunOptions::default()
            },
            wait: Duration::ZERO,
            group: Some(undo.id()),
            input: None,
        };
        let enqueue = self.engine.enqueue(arrival, input, Duration::ZERO);
        match enqueue.await.map_err(unreachable)?.refusal {
            Some(hapax_core::Refusal::Mismatch | hapax_core::Refusal::OtherRecipe(_)) => Err(given_up(&format!(
                "the record {} of this key belongs to something else, or to an earlier operation: settle it, forget it, \
                 and redrive this",
                self.steps[step].undo_name
            ))),
            // New, or enqueued before a crash.
            _ => Ok(()),
        }
    }

    async fn answer(&self, step: &Operation) -> Result<Option<bytes::Bytes>, StoreError> {
        let (_, record) = self.read(step.id()).await?;
        Ok(record.and_then(|record| match record.state {
            State::Done(Outcome::Answer(answer)) => Some(answer.body),
            _ => None,
        }))
    }

    async fn compensate(&self, step: &str, run: Run, input: Input) -> Looked<Attempted> {
        let Some(Undoable { mut answer, input }) = Undoable::decode(&input) else {
            return Err(given_up(
                "its input is not ours: another program enqueued under this name",
            ));
        };
        let declared = &self.steps[step];
        // The runner handles the names of those that have one.
        let Some(handler) = &declared.step.undo else {
            return Err(given_up("no compensation is given"));
        };
        let operation = named(&run.operation, &self.names.saga);
        if answer.is_none() {
            match self.settled(step, &named(&run.operation, &declared.name)).await? {
                Settled::Done(body) => answer = body,
                Settled::MayHave => {}
                Settled::Never => return Ok(Attempted::Done(outcome("nothing to undo".into()))),
            }
        }
        failpoint::hit(Failpoint::CompensationAllowed);
        let undo = Undo {
            step_key: step_key(&operation, step),
            key: undo_key(&operation, step),
            operation,
            step: step.into(),
            input,
            answer,
            fence: run.fence,
            tries: run.tries,
        };
        let undone = handler(undo).await;
        failpoint::hit(Failpoint::CompensationRan);
        Ok(match undone {
            Ok(body) => Attempted::Done(outcome(body)),
            Err(failure) => Attempted::Failed(failure),
        })
    }

    /// Waits until it is settled what became of a step, as far as that can be known.
    async fn settled(&self, step: &str, operation: &Operation) -> Looked<Settled> {
        let settle = self.steps[step].step.settle;
        let (now, record) = self.read(operation.id()).await.map_err(unreachable)?;
        let Some(record) = record else {
            return Ok(Settled::MayHave);
        };
        let unknown = |since: Timestamp| {
            let why = format!("the outcome of step {step} is unknown: settle it (hapax records resolve)");
            Err(later(pause(now.since(since)), Some(why)))
        };
        // What was sent may still arrive.
        let arrived = |since: Timestamp| match since.after(settle) {
            until if until > now => {
                let why = format!("what step {step} sent may still take effect");
                Err(later(until.since(now), Some(why)))
            }
            _ => Ok(Settled::MayHave),
        };
        match &record.state {
            State::Done(Outcome::Answer(answer)) => Ok(Settled::Done(Some(answer.body.clone()))),
            State::Done(Outcome::NotKept(_)) => Ok(Settled::Done(None)),
            State::Running { deadline, .. } if *deadline > now => {
                let after = pause(now.since(record.since)).min(deadline.since(now));
                Err(later(after, Some(format!("step {step} is in progress"))))
            }
            State::Running {
                deadline,
                after_failure: AfterFailure::Hold,
                ..
            } => unknown(*deadline),
            State::Running { deadline, .. } => {
                arrived(*deadline)?;
                self.take_over(&record).await?;
                Ok(Settled::MayHave)
            }
            State::Unknown { .. } => unknown(record.since),
            State::Waiting { .. } if is_proven_without_effect(&Summary::of(&record, now)) => Ok(Settled::Never),
            // It was refused at its first try: nothing is under way.
            State::Dead {
                reason: DeadReason::Refused | DeadReason::Undone,
                ..
            } if record.tries <= 1 => Ok(Settled::MayHave),
            State::Waiting { .. } | State::Dead { .. } => arrived(record.since),
        }
    }

    /// Ends a step whose holder was lost, so that it can no longer say what became of it.
    async fn take_over(&self, record: &Record) -> Looked<()> {
        let inner = self.inner();
        let patience = inner.options.store_patience;
        let claim = Claim {
            operation: record.operation.clone(),
            fingerprint: record.fingerprint,
            attempt: random_attempt().map_err(unreachable)?,
            starter: Starter::System,
            lease: self.options.lease,
            max_run: self.options.max_run,
            after_failure: AfterFailure::Retry,
            attended: false,
            retention: record.retention,
            input: None,
            group: record.group,
        };
        let claimed = inner
            .insist("claim", patience, |store| store.claim(claim.clone()))
            .await;
        let Claimed {
            ruling: Ruling::Won(lease),
            ..
        } = claimed.map_err(unreachable)?
        else {
            return Err(later(Duration::ZERO, None));
        };
        let finish = Finish::Dead {
            reason: DeadReason::Undone,
            answer: None,
            last_error: Some(LastError::new("its holder was lost, and its operation is being undone")),
        };
        let id = record.operation.id();
        let finished = inner.insist("finish", patience, |store| {
            store.finish(id, lease.fence, finish.clone())
        });
        finished.await.map(drop).map_err(unreachable)
    }
}

/// What became of a step.
enum Settled {
    /// It is done, and answered this, if that is known.
    Done(Option<bytes::Bytes>),
    MayHave,
    Never,
}

/// Each start of a step counts, until it is proven to have had no effect; a redrive forgets the count.
fn is_proven_without_effect(step: &Summary) -> bool {
    step.state == StateName::Waiting && step.tries == 0 && step.redriven.is_none()
}

fn later(after: Duration, why: Option<String>) -> Attempted {
    let why = why.map(|why| LastError::new(&why));
    Attempted::Later { after, why }
}

fn unreachable(error: StoreError) -> Attempted {
    let why = format!("the store could not be asked: {error}");
    later(Duration::from_secs(1), Some(why))
}

fn given_up(why: &str) -> Attempted {
    Attempted::Failed(Failure::new(FailureClass::Final, why))
}
