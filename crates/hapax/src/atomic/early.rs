//! `count_crashes`: the claim is committed before the handler begins, so that a crash in the middle leaves behind a start
//! that was counted.
//!
//! The engine runs it as any other: its claim, its heartbeats, its waiters. The handler's transaction checks the fence
//! with its finish, at its end and under the record's lock, and commits only if it still holds it. The lock is not taken
//! before, since heartbeats need the record meanwhile.

use std::sync::Arc;

use hapax_core::{Claim, DeadReason, Finish, LastError};
use hapax_store::joined::{Fault, JointError};
use tokio::sync::oneshot;

use super::Shared;
use super::attempt::{Again, Failure, Ran, not_committed};
use super::claim::Caller;
use super::database::{Closed, Database, NotClosed};
use super::drive::Told;
use super::error::AtomicError;
use super::work::{Failed, Work};
use crate::engine::drive::Drive;
use crate::engine::{Ended, Refingerprint, Reply, Run, RunError};

/// What a run tells its caller.
type Outcome<D, W> = Result<<W as Work<D>>::Reply, AtomicError<Failed<<W as Work<D>>::Error>>>;

/// Runs it in a task of its own.
pub(super) fn spawn<D: Database, W: Work<D>>(
    shared: Arc<Shared<D>>,
    claim: Claim,
    refingerprint: Refingerprint,
    wait: std::time::Duration,
    work: W,
    caller: Caller<D, W>,
) {
    let (reply, answered) = oneshot::channel();
    let drive = Box::new(Drive {
        inner: Arc::clone(&shared.engine),
        claim,
        youth: None,
        reply,
    });
    let handler = move |run| transact(shared, work, run);
    tokio::spawn(drive.run(refingerprint, wait, handler));
    tokio::spawn(tell::<D, W>(answered, caller));
}

/// Tells the caller; and the drive that the caller has left.
async fn tell<D: Database, W: Work<D>>(
    answered: oneshot::Receiver<Result<Reply<Outcome<D, W>>, RunError>>,
    mut caller: Caller<D, W>,
) {
    let answer = tokio::select! {
        biased;
        () = caller.closed() => return,
        answer = answered => answer,
    };
    let told: Told<D, W> = match answer {
        Ok(Ok(Reply::Ran(told))) => told.map(Reply::Ran),
        Ok(Ok(Reply::Refused(refusal))) => Ok(Reply::Refused(refusal)),
        Ok(Err(RunError::NotClaimed(error))) => Err(AtomicError::NotClaimed(error)),
        Ok(Err(RunError::NotFinished(error))) => {
            let error = JointError::new(Fault::Lost, error.kind(), error.to_string());
            Err(AtomicError::Unknown(Arc::new(error)))
        }
        Ok(Err(RunError::Panicked)) => Err(AtomicError::Panicked),
        Ok(Err(RunError::Lost)) | Err(_) => Err(AtomicError::Lost),
    };
    // A caller that left is no error: its operation is recorded.
    let _: Result<(), _> = caller.send(told);
}

/// The handler's transaction. What it finished is finished again by the engine, which finds it so.
pub(super) async fn transact<D: Database, W: Work<D>>(
    shared: Arc<Shared<D>>,
    mut work: W,
    run: Run,
) -> Ended<Outcome<D, W>> {
    let policy = shared.options.failures.as_ref();
    if let Some(policy) = policy
        && run.tries > policy.limits.tries
    {
        let last_error = format!("the process that ran it crashed {} times", run.tries - 1);
        let finish = Finish::Dead {
            reason: DeadReason::Poison,
            answer: None,
            last_error: Some(LastError::new(&last_error)),
        };
        return ended(finish, Err(AtomicError::Exhausted));
    }
    let mut again = Again::new();
    loop {
        let ran = match shared.database.begin(&shared.options.bounds).await {
            Ok(transaction) => shared.ran(&mut work, transaction, run.clone()).await,
            Err(error) => Ran::Again(error),
        };
        let ran = match ran {
            Ran::Ended(transaction, stays, finish, reply) => {
                match shared.end(transaction, stays, &run.operation, run.fence, &finish).await {
                    Ok(Closed::Committed(_)) => return ended(finish, Ok(reply)),
                    // Not this run's any more, or finished by a commit whose answer was lost: the engine learns which
                    // when it finishes.
                    Ok(Closed::Refused(_)) => return ended(finish, Ok(reply)),
                    Err(NotClosed::RolledBack(error)) => not_committed(error),
                    // If it has happened, the next finish says so, and is rolled back with what was done again.
                    Err(NotClosed::Unknown(error)) => Ran::Again(error),
                }
            }
            ran => ran,
        };
        let failure = match ran {
            Ran::Failed(failure) => failure,
            Ran::Again(error) => {
                let conflicts = &shared.options.conflicts;
                if again.allowed(&shared.engine, conflicts, &run.operation, &error).await {
                    continue;
                }
                let said = error.to_string();
                Failure::new(&said, AtomicError::RolledBack(Arc::new(error)))
            }
            // Ended above.
            Ran::Ended(..) => Failure::new("ended twice", AtomicError::Lost),
        };
        return ended(failure.note.verdict(policy, run.tries), Err(failure.error));
    }
}

fn ended<R>(finish: Finish, reply: R) -> Ended<R> {
    Ended { finish, reply }
}
