//! One run of a taken operation, under its policy.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use hapax_core::policy::{FailureClass, Health};
use hapax_core::{AfterFailure, Claim, Finish, Input, Lease, Operation, Record, Starter, State, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::ending::{Ending, Situation};
use super::{Attempted, Failure, Handled};
use crate::engine::drive::Drive;
use crate::engine::gate::Youth;
use crate::engine::{Ended, Inner, Reply, Run};
use crate::event::Event;
use crate::retry::{Destination, NotAdmitted, Permit, timed_out};

pub(super) struct Attempt {
    pub(super) inner: Arc<Inner>,
    pub(super) handled: Arc<Handled>,
    pub(super) lease: Lease,
    pub(super) youth: Option<Youth>,
    /// Its place among the handlers that this runner lets run.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Places of runs whose handler has ended, until their finish is durable.
    pub(super) endings: Arc<Semaphore>,
}

impl Attempt {
    /// Gives the operation back before it ran.
    pub(super) fn put_off(self, record: Record, after: Duration, by: NotAdmitted) {
        let finish = Finish::Release {
            after,
            counts: false,
            last_error: record.last_error,
        };
        tokio::spawn(async move {
            let operation = &record.operation;
            let Self { inner, lease, .. } = &self;
            let (id, patience) = (operation.id(), inner.options.store_patience);
            let finished = inner.insist("finish", patience, |store| {
                store.finish(id, lease.fence, finish.clone())
            });
            // If it fails, the lease lapses.
            if finished.await.is_ok() {
                inner.alarm.set(after);
                inner.emit(&Event::PutOff { operation, after, by });
            }
        });
    }

    /// Runs the operation in a task of its own.
    pub(super) fn start(self, record: Record, permit: Option<Permit>) {
        tokio::spawn(self.run(record, permit));
    }

    async fn run(self, mut record: Record, permit: Option<Permit>) {
        let Self {
            inner,
            handled,
            lease,
            youth,
            slot,
            endings,
        } = self;
        let input = record.input.take();
        let claim = claim(&record, &handled);
        let (reply, mut told) = oneshot::channel();
        let drive = Box::new(Drive {
            inner: Arc::clone(&inner),
            claim,
            youth,
            reply,
        });
        let of = record.redriven.unwrap_or(record.created);
        let work = inner.clone();
        let attempt = |run| async move {
            let Ended { finish, reply } = attempt(work, handled, run, input, of, permit).await;
            // The next one runs while this one's finish is on its way. The semaphore is never closed.
            let place = endings.acquire_owned().await.ok();
            drop(slot);
            let reply = (reply, place);
            Ended { finish, reply }
        };
        drive.perform(lease, attempt).await;
        if let Ok(Ok(Reply::Ran((ending, _)))) = told.try_recv() {
            inner.tell(&record.operation, lease.tries, ending);
            if ending == Ending::Ended && record.group.is_some() {
                // The turn of the next one of its group may have come.
                inner.alarm.set(Duration::ZERO);
            }
        }
    }
}

/// The claim that the store made for the runner.
fn claim(record: &Record, handled: &Handled) -> Claim {
    let run = &handled.handling.run;
    Claim {
        operation: record.operation.clone(),
        fingerprint: record.fingerprint,
        attempt: record.attempt,
        starter: match record.state {
            State::Running { starter, .. } => starter,
            _ => Starter::System,
        },
        lease: run.lease,
        max_run: run.max_run,
        after_failure: run.after_failure,
        attended: true,
        retention: record.retention,
        input: record.input.clone(),
        group: record.group,
    }
}

/// Lets the handler run, and judges how that ended.
async fn attempt(
    inner: Arc<Inner>,
    handled: Arc<Handled>,
    run: Run,
    input: Option<Input>,
    since: Timestamp,
    permit: Option<Permit>,
) -> Ended<Ending> {
    let handling = &handled.handling;
    let trial = Trial {
        operation: run.operation.clone(),
        tries: run.tries,
        destination: handling.destination.clone(),
        after_failure: handling.run.after_failure,
        probe: permit.as_ref().is_some_and(Permit::is_probe),
        permit,
    };
    let work = async {
        match input {
            Some(input) => (handled.handler)(run, input).await,
            // The store gives no work without input.
            None => Attempted::Failed(Failure::new(FailureClass::Final, "no input is stored")),
        }
    };
    let (finish, reply) = trial.judge(&inner, work, async || Some(since)).await;
    Ended { finish, reply }
}

/// A run to be judged by the policy of what it calls.
pub(crate) struct Trial {
    pub(crate) operation: Operation,
    /// Starts so far that count, this one included.
    pub(crate) tries: u32,
    pub(crate) destination: Destination,
    pub(crate) after_failure: AfterFailure,
    /// Whether an ambiguous end is forgiven, since the run takes the risk for all.
    pub(crate) probe: bool,
    pub(crate) permit: Option<Permit>,
}

impl Trial {
    /// Lets the work run to its end, or its time, or its panic. `since` tells when it got into the schedule, and is
    /// only asked after a failure.
    pub(crate) async fn judge(
        self,
        inner: &Inner,
        work: impl Future<Output = Attempted>,
        since: impl AsyncFnOnce() -> Option<Timestamp>,
    ) -> (Finish, Ending) {
        let policy = self.destination.policy();
        let work = AssertUnwindSafe(work).catch_unwind();
        let (attempted, health) = match timeout(policy.limits.per_try, work).await {
            Ok(Ok(attempted)) => {
                let health = health(&attempted);
                (attempted, health)
            }
            Ok(Err(_)) => {
                let operation = &self.operation;
                inner.emit(&Event::Panicked { operation });
                let failure = Failure::new(FailureClass::Ambiguous, "the handler panicked");
                (Attempted::Failed(failure), Health::Ignored)
            }
            Err(_) => {
                let text = timed_out(policy.limits.per_try);
                let failure = Failure::new(FailureClass::Ambiguous, &text);
                (Attempted::Failed(failure), Health::Failure)
            }
        };
        if let Some(permit) = self.permit {
            permit.report(health);
        }
        let age = match attempted {
            Attempted::Done(_) | Attempted::Later { .. } => None,
            Attempted::Failed(_) | Attempted::Repeat(_) => since().await,
        };
        let age = age.and_then(|since| Some(inner.store_time()?.since(since)));
        let situation = Situation {
            policy,
            after_failure: self.after_failure,
            tries: self.tries,
            age: age.unwrap_or_default(),
            probe: self.probe,
            random: self.destination.random(),
        };
        situation.end(attempted)
    }
}

/// What a run says about its destination.
fn health(attempted: &Attempted) -> Health {
    match attempted {
        Attempted::Done(_) => Health::Success,
        Attempted::Later { .. } => Health::Ignored,
        Attempted::Failed(failure) | Attempted::Repeat(failure) => match (failure.class, &failure.answer) {
            // The other side answered, and meant it.
            (FailureClass::Final, _) => Health::Success,
            // It is alive, and limits or turns away this caller.
            (_, Some(answer)) if answer.status < 500 => Health::Success,
            (FailureClass::Unsent | FailureClass::Throttled | FailureClass::Ambiguous, _) => Health::Failure,
        },
    }
}

impl Inner {
    /// Tells of a run's end once it is durable.
    pub(crate) fn tell(&self, operation: &Operation, tries: u32, ending: Ending) {
        match ending {
            Ending::Ended => {}
            Ending::Later { after } => self.alarm.set(after),
            Ending::Retried { class, after } => {
                self.alarm.set(after);
                self.emit(&Event::Retried {
                    operation,
                    class,
                    after,
                    tries,
                });
            }
            Ending::Died(reason) => self.emit(&Event::Died { operation, reason }),
        }
    }
}
