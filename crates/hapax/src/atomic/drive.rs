//! One arrival, from its claim to its reply.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Claim, Finish, Finished, Lease, StateName, Timestamp};
use hapax_store::joined::JointError;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::attempt::{Again, Ran, not_committed};
use super::claim::{Caller, Obtained, Place};
use super::database::{Closed, Database, NotClosed};
use super::error::AtomicError;
use super::settle::Settled;
use super::work::{Failed, Work};
use crate::engine::{Inner, Refingerprint, Reply, Run, random_attempt};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

pub(super) struct Drive<D: Database, W: Work<D>> {
    pub(super) shared: Arc<Shared<D>>,
    pub(super) claim: Claim,
    pub(super) refingerprint: Refingerprint,
    /// When the caller's patience ends.
    pub(super) until: Instant,
    work: W,
    started: Instant,
}

/// What the caller is told.
pub(super) type Told<D, W> = Result<Reply<<W as Work<D>>::Reply>, AtomicError<Failed<<W as Work<D>>::Error>>>;

/// What a transaction came to.
enum Attempted<R, E> {
    /// This is what the caller is told.
    Told(Result<Reply<R>, AtomicError<Failed<E>>>),
    /// Nothing happened, through nobody's fault: run it again.
    Again(JointError),
    /// The answer to the commit was lost.
    Lost(JointError, Lease, Finish, R),
}

impl<D: Database, W: Work<D>> Drive<D, W> {
    pub(super) fn new(
        shared: Arc<Shared<D>>,
        claim: Claim,
        refingerprint: Refingerprint,
        wait: Duration,
        work: W,
    ) -> Self {
        Self {
            shared,
            claim,
            refingerprint,
            until: Instant::now() + wait,
            work,
            started: Instant::now(),
        }
    }

    /// A task of its own: a claim whose caller leaves must still be run.
    pub(super) async fn run(mut self, mut caller: Caller<D, W>) {
        let shared = Arc::clone(&self.shared);
        let mut place = Place::default();
        let told = self.told(&shared.engine, &mut place, &mut caller).await;
        failpoint::hit(Failpoint::AfterFinish);
        // Waiters first learn from the cache, so that they wake after it is filled.
        drop(place);
        // A caller that left is no error: its operation is recorded.
        let _: Result<(), _> = caller.send(told);
    }

    async fn told<'e>(&mut self, engine: &'e Inner, place: &mut Place<'e>, caller: &mut Caller<D, W>) -> Told<D, W> {
        let mut again = Again::new();
        let mut won = None;
        loop {
            let (transaction, lease) = match won.take() {
                Some(won) => won,
                None => match self.obtain(engine, place, caller).await? {
                    Obtained::Won(transaction, lease) => (transaction, lease),
                    Obtained::Refused(refusal) => {
                        engine.emit(&Event::Refused {
                            operation: &self.claim.operation,
                            refusal: &refusal,
                            cached: false,
                        });
                        return Ok(Reply::Refused(refusal));
                    }
                },
            };
            failpoint::hit(Failpoint::ClaimMade);
            let error = match self.attempt(engine, place, transaction, lease).await {
                Attempted::Told(told) => return told,
                Attempted::Again(error) => {
                    self.claim.attempt = random_attempt().map_err(AtomicError::not_claimed)?;
                    error
                }
                Attempted::Lost(error, lease, finish, reply) => {
                    match self.settle(engine, error, &lease, &finish, reply).await {
                        Settled::Told(told) => return told,
                        Settled::NotHappened(error, transaction, lease) => {
                            won = Some((transaction, lease));
                            error
                        }
                    }
                }
            };
            let policy = &self.shared.options.conflicts;
            if !again.allowed(engine, policy, &self.claim.operation, &error).await {
                if let Some((transaction, _)) = won {
                    self.shared.database.abandon(transaction).await;
                }
                return Err(AtomicError::RolledBack(Arc::new(error)));
            }
        }
    }

    /// One transaction: the work, its finish, the commit.
    async fn attempt(
        &mut self,
        engine: &Inner,
        place: &mut Place<'_>,
        transaction: D::Transaction,
        lease: Lease,
    ) -> Attempted<W::Reply, W::Error> {
        let shared = Arc::clone(&self.shared);
        let operation = self.claim.operation.clone();
        engine.emit(&Event::Started {
            operation: &operation,
            fence: lease.fence,
        });
        let run = Run {
            operation: operation.clone(),
            fence: lease.fence,
            tries: lease.tries,
        };
        let aging = async {
            sleep(self.claim.lease / 3).await;
            place.young = None;
            std::future::pending::<std::convert::Infallible>().await
        };
        let ran = tokio::select! {
            biased;
            ran = shared.ran(&mut self.work, transaction, run) => ran,
            never = aging => match never {},
        };
        let ran = match ran {
            Ran::Ended(transaction, stays, finish, reply) => {
                match shared.end(transaction, stays, &operation, lease.fence, &finish).await {
                    Ok(Closed::Committed(now)) => {
                        self.happened(engine, now, &finish);
                        return Attempted::Told(Ok(Reply::Ran(reply)));
                    }
                    Ok(Closed::Refused(finished)) => return Attempted::Told(self.fenced(engine, &lease, finished)),
                    Err(NotClosed::RolledBack(error)) => not_committed(error),
                    Err(NotClosed::Unknown(error)) => return Attempted::Lost(error, lease, finish, reply),
                }
            }
            ran => ran,
        };
        match ran {
            Ran::Again(error) => Attempted::Again(error),
            Ran::Failed(failure) => Attempted::Told(match self.count(engine, &failure.note).await {
                Some(refusal) => Ok(Reply::Refused(refusal)),
                None => Err(failure.error),
            }),
            // Ended above.
            Ran::Ended(..) => Attempted::Told(Err(AtomicError::Lost)),
        }
    }

    /// The finish is durable.
    pub(super) fn happened(&self, engine: &Inner, now: Timestamp, finish: &Finish) {
        engine.learn_time(now);
        self.finished(engine, finish.state(now).name());
        if let Finish::Done(outcome) = finish {
            engine.cache.keep_done(&self.claim, now, outcome.clone());
        }
    }

    pub(super) fn finished(&self, engine: &Inner, state: StateName) {
        engine.emit(&Event::Finished {
            operation: &self.claim.operation,
            state,
            took: self.started.elapsed(),
        });
    }

    /// The record is not this run's any more: somebody ended the transaction in the middle, or took the record over.
    fn fenced(&self, engine: &Inner, lease: &Lease, finished: Finished) -> Told<D, W> {
        engine.emit(&Event::Fenced {
            operation: &self.claim.operation,
            fence: lease.fence,
        });
        let (now, record) = match finished {
            Finished::Already { now, record } => (now, Some(record)),
            Finished::Fenced { now, record } => (now, record),
            Finished::Applied { now } => (now, None),
        };
        engine.learn_time(now);
        match record {
            Some(record) if record.fingerprint == self.claim.fingerprint => Ok(Reply::Refused(record.refusal(now))),
            // The handler ended the transaction itself, and nobody knows with what.
            _ => Err(AtomicError::Lost),
        }
    }
}
