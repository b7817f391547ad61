//! One run of a taken operation, under its policy.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use hapax_core::policy::{FailureClass, Health};
use hapax_core::{Claim, Finish, Input, Lease, Record, Starter, State, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::ending::{Ending, Situation};
use super::{Attempted, Failure, Handled};
use crate::engine::drive::Drive;
use crate::engine::gate::Youth;
use crate::engine::{Ended, Inner, Reply, Run};
use crate::event::Event;
use crate::retry::{NotAdmitted, Permit, timed_out};

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
            inner.tell(&record, lease, ending);
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
    let policy = handling.destination.policy();
    let (operation, tries) = (run.operation.clone(), run.tries);
    let attempted = match input {
        Some(input) => {
            // The handler itself may panic before it gives its future.
            let work = AssertUnwindSafe(async { (handled.handler)(run, input).await }).catch_unwind();
            timeout(policy.limits.per_try, work).await
        }
        // The store gives no work without input.
        None => Ok(Ok(Attempted::Failed(Failure::new(
            FailureClass::Final,
            "no input is stored",
        )))),
    };
    let (attempted, health) = match attempted {
        Ok(Ok(attempted)) => {
            let health = health(&attempted);
            (attempted, health)
        }
        Ok(Err(_)) => {
            inner.emit(&Event::Panicked { operation: &operation });
            let failure = Failure::new(FailureClass::Ambiguous, "the handler panicked");
            (Attempted::Failed(failure), Health::Ignored)
        }
        Err(_) => {
            let text = timed_out(policy.limits.per_try);
            let failure = Failure::new(FailureClass::Ambiguous, &text);
            (Attempted::Failed(failure), Health::Failure)
        }
    };
    let probe = permit.as_ref().is_some_and(Permit::is_probe);
    if let Some(permit) = permit {
        permit.report(health);
    }
    let situation = Situation {
        policy,
        after_failure: handling.run.after_failure,
        tries,
        age: inner.store_time().map_or(Duration::ZERO, |now| now.since(since)),
        probe,
        random: handling.destination.random(),
    };
    let (finish, reply) = situation.end(attempted);
    Ended { finish, reply }
}

/// What a run says about its destination.
fn health(attempted: &Attempted) -> Health {
    match attempted {
        Attempted::Done(_) => Health::Success,
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
    fn tell(&self, record: &Record, lease: Lease, ending: Ending) {
        let operation = &record.operation;
        match ending {
            Ending::Ended => {
                // The turn of the next one of its group may have come.
                if record.group.is_some() {
                    self.alarm.set(Duration::ZERO);
                }
            }
            Ending::Retried { class, after } => {
                self.alarm.set(after);
                self.emit(&Event::Retried {
                    operation,
                    class,
                    after,
                    tries: lease.tries,
                });
            }
            Ending::Died(reason) => self.emit(&Event::Died { operation, reason }),
        }
    }
}
