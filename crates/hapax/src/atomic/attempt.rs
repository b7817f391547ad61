//! One transaction's work and its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hapax_core::policy::FailureClass;
use hapax_core::{Answer, DeadReason, Fence, Finish, LastError, Operation, RetryPolicy, StoreErrorKind};
use hapax_store::joined::{Fault, JointError};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::database::{Closed, Database, NotClosed};
use super::error::AtomicError;
use super::work::{Failed, Work, Worked};
use crate::engine::{Inner, Run};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

/// How the work of a transaction ended.
pub(super) enum Ran<T, R, E> {
    /// As decided; the transaction is open.
    Ended(T, bool, Finish, R),
    /// It failed, and everything is rolled back.
    Failed(Failure<E>),
    /// The database rolled it back, through nobody's fault.
    Again(JointError),
}

/// A failure that is to be counted.
pub(super) struct Failure<E> {
    pub(super) note: Note,
    /// What the caller is told.
    pub(super) error: AtomicError<Failed<E>>,
}

/// What the record is to say of a failure.
pub(super) struct Note {
    last_error: LastError,
    /// When it asked to be tried again.
    after: Option<Duration>,
    /// The answer that it gave.
    answer: Option<Answer>,
}

impl<E> Failure<E> {
    pub(super) fn new(last_error: &str, error: AtomicError<Failed<E>>) -> Self {
        let note = Note {
            last_error: LastError::new(last_error),
            after: None,
            answer: None,
        };
        Self { note, error }
    }
}

impl Note {
    /// What it makes of the record: it waits for its next arrival, or is dead if its tries are spent.
    pub(super) fn verdict(&self, policy: Option<&RetryPolicy>, tries: u32) -> Finish {
        let last_error = Some(self.last_error.clone());
        let after = match policy {
            None => self.after.unwrap_or_default(),
            Some(policy) if tries >= policy.limits.tries => {
                return Finish::Dead {
                    reason: DeadReason::Exhausted,
                    answer: self.answer.clone(),
                    last_error,
                };
            }
            Some(policy) => policy.backoff.pause(FailureClass::Unsent, tries, self.after, random()),
        };
        Finish::Release {
            after,
            counts: true,
            last_error,
        }
    }
}

impl<D: Database> Shared<D> {
    /// Does the work, within its time.
    pub(super) async fn ran<W: Work<D>>(
        &self,
        work: &mut W,
        transaction: D::Transaction,
        run: Run,
    ) -> Ran<D::Transaction, W::Reply, W::Error> {
        let operation = run.operation.clone();
        let longest = self.options.bounds.longest;
        // The work itself may panic before it gives its future. A transaction that is dropped in here is rolled back.
        let working = AssertUnwindSafe(async { work.perform(transaction, run).await }).catch_unwind();
        let worked = timeout(longest, working).await;
        failpoint::hit(Failpoint::HandlerEnded);
        let (transaction, worked) = match worked {
            Ok(Ok(worked)) => worked,
            Ok(Err(_)) => {
                self.engine.emit(&Event::Panicked { operation: &operation });
                return Ran::Failed(Failure::new("the handler panicked", AtomicError::Panicked));
            }
            Err(_) => {
                let said = format!("the handler took longer than {longest:?}");
                return Ran::Failed(Failure::new(&said, AtomicError::TimedOut));
            }
        };
        match (transaction, worked) {
            (None, _) => Ran::Failed(Failure::new("the handler kept its transaction", AtomicError::Kept)),
            (Some(transaction), Worked::Ended(stays, finish, reply)) => Ran::Ended(transaction, stays, finish, reply),
            (Some(transaction), Worked::Failed(failed)) => {
                self.database.abandon(transaction).await;
                failpoint::hit(Failpoint::RolledBack);
                if runs_again(failed.fault) {
                    return Ran::Again(JointError::new(failed.fault, StoreErrorKind::Unavailable, failed.text));
                }
                let note = Note {
                    last_error: LastError::new(&failed.text),
                    after: failed.after,
                    answer: failed.answer.clone(),
                };
                let error = AtomicError::Failed(failed);
                Ran::Failed(Failure { note, error })
            }
        }
    }

    /// Ends the transaction as its work decided.
    pub(super) async fn end(
        &self,
        mut transaction: D::Transaction,
        stays: bool,
        operation: &Operation,
        fence: Fence,
        finish: &Finish,
    ) -> Result<Closed, NotClosed> {
        if !stays && let Err(error) = self.database.undo(&mut transaction).await {
            self.database.abandon(transaction).await;
            return Err(NotClosed::RolledBack(error));
        }
        failpoint::hit(Failpoint::BeforeFinish);
        let closed = self
            .database
            .close(transaction, &self.joint, operation.id(), fence, finish)
            .await;
        match &closed {
            Ok(Closed::Committed(_)) => failpoint::hit(Failpoint::Committed),
            Ok(Closed::Refused(_)) | Err(NotClosed::RolledBack(_)) => failpoint::hit(Failpoint::RolledBack),
            Err(NotClosed::Unknown(_)) => {}
        }
        closed
    }
}

/// What a transaction comes to that the database would not finish or commit: to be run again, or a failure.
pub(super) fn not_committed<T, R, E>(error: JointError) -> Ran<T, R, E> {
    if runs_again(error.fault()) {
        return Ran::Again(error);
    }
    let said = error.to_string();
    Ran::Failed(Failure::new(&said, AtomicError::RolledBack(Arc::new(error))))
}

/// Whether a transaction that failed so is run again: what it met passes, and nothing of it happened.
fn runs_again(fault: Fault) -> bool {
    matches!(fault, Fault::Conflict | Fault::Lost)
}

/// How often a transaction may be run again.
pub(super) struct Again {
    tries: u32,
}

impl Again {
    pub(super) fn new() -> Self {
        Self { tries: 0 }
    }

    /// Waits for its turn to be run again; false if it is not to be.
    pub(super) async fn allowed(
        &mut self,
        engine: &Inner,
        policy: &RetryPolicy,
        operation: &Operation,
        error: &JointError,
    ) -> bool {
        self.tries += 1;
        if self.tries >= policy.limits.tries {
            return false;
        }
        engine.emit(&Event::RunAgain {
            operation,
            why: &error.to_string(),
            tries: self.tries,
        });
        sleep(policy.backoff.pause(FailureClass::Unsent, self.tries, None, random())).await;
        true
    }
}

/// Uniform bits for jitter. Without any, the longest pause.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}
