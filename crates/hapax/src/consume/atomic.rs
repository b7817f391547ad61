//! Messages handled in transactions: the record and the handler's writes are committed together.
//!
//! ```text
//! new messages → together: begin, enter their records as done, handlers, commit
//!              ↘ one: what is known, fails, may have crashed somebody, or could not be committed: claim, handler, finish
//! ```

mod together;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hapax_core::policy::{FailureClass, Health};
use hapax_core::{Answer, DeadReason, Finish, LastError};
use hapax_store::joined::Fault;

use super::perform::{Came, Desk, Perform, Task, Turn, WAIT, done, refingerprint};
use super::{Handled, Message};
use crate::atomic::work::{Failed, Performed, Work, Worked};
use crate::atomic::{Atomic, AtomicError, AtomicOptions, BoxError, Database};
use crate::engine::{Arrival, Reply, Run};
use crate::retry::Permit;
use crate::runner::{Attempted, Failure};

pub(super) struct InTransactions<D, H> {
    desk: Arc<Desk>,
    /// A crash leaves nothing behind.
    plain: Atomic<D>,
    /// A crash leaves a start behind: for messages that may have crashed somebody before.
    counting: Atomic<D>,
    handler: Arc<H>,
}

impl<D, H> InTransactions<D, H>
where
    D: Database + Clone,
{
    pub(super) fn new(desk: Arc<Desk>, atomic: &Atomic<D>, handler: H) -> Self {
        let with = |count_crashes| {
            atomic.with(AtomicOptions {
                failures: Some(desk.options.destination.policy().clone()),
                count_crashes,
                ..atomic.shared.options.clone()
            })
        };
        Self {
            plain: with(false),
            counting: with(desk.options.crashes_count),
            desk,
            handler: Arc::new(handler),
        }
    }
}

impl<D, H, E> InTransactions<D, H>
where
    D: Database + Clone,
    E: Into<BoxError> + Send + 'static,
    H: for<'t> Fn(&'t mut D::Connection, &'t Message) -> BoxFuture<'t, Result<Handled, E>> + Send + Sync + 'static,
{
    /// A message by itself. What is known of its first run already is counted, without another.
    async fn one(&self, task: Task, known: Option<Ended>, permit: Option<Permit>) -> Came {
        let operation = self.desk.operation(&task.key);
        let fingerprint = match self.desk.fingerprint(&task.message).await {
            Ok(fingerprint) => fingerprint,
            Err(error) => return Came::Away(error.to_string()),
        };
        let id = operation.id();
        let input = match self.desk.stored(&task.message, id) {
            Ok(input) => input,
            Err(error) => return Came::Away(error.to_string()),
        };
        let arrival = Arrival {
            operation,
            fingerprint,
            refingerprint: refingerprint(),
            options: self.desk.run.clone(),
            wait: WAIT,
            group: None,
            input: Some(input),
        };
        let counts = task.redelivered && known.is_none();
        let atomic = if counts { &self.counting } else { &self.plain };
        let handling = Handling {
            handler: Arc::clone(&self.handler),
            message: task.message,
            known,
        };
        let told = atomic.perform(arrival, handling).await;
        if let Some(permit) = permit {
            permit.report(health(&told));
        }
        match told {
            Ok(Reply::Ran(came)) => came,
            Ok(Reply::Refused(refusal)) => self.desk.refused(id, refusal).await,
            Err(error @ AtomicError::NotClaimed(_)) => Came::Away(error.map(|failed| failed.error).to_string()),
            // Counted in the record, or not happened at all.
            Err(_) => self.desk.recorded(id).await,
        }
    }
}

/// What a run says about what the handler calls.
fn health(told: &Result<Reply<Came>, AtomicError<Failed<BoxError>>>) -> Health {
    match told {
        Ok(Reply::Ran(_)) => Health::Success,
        Err(AtomicError::Failed(failed)) if failed.error.is::<Early>() => Health::Success,
        Ok(Reply::Refused(_)) | Err(AtomicError::Panicked | AtomicError::Kept | AtomicError::Exhausted) => {
            Health::Ignored
        }
        Err(_) => Health::Failure,
    }
}

impl<D, H, E> Perform for InTransactions<D, H>
where
    D: Database + Clone,
    E: Into<BoxError> + Send + 'static,
    H: for<'t> Fn(&'t mut D::Connection, &'t Message) -> BoxFuture<'t, Result<Handled, E>> + Send + Sync + 'static,
{
    /// A handler has ended when its transaction has.
    fn workers(&self, concurrency: usize) -> usize {
        concurrency
    }

    fn perform(self: Arc<Self>, tasks: Vec<Task>, turn: Turn) -> BoxFuture<'static, Vec<Came>> {
        let Turn { permit, place } = turn;
        // A task of its own: what was begun is ended, whoever waits for it.
        let performed = tokio::spawn(async move {
            let came = self.together(tasks, permit).await;
            drop(place);
            came
        });
        // Lost with its runtime, or with a panic of ours: nothing of it was acknowledged.
        Box::pin(async move { performed.await.unwrap_or_default() })
    }

    fn again(&self, run: Run, message: Message) -> BoxFuture<'static, Attempted> {
        let handling = Handling {
            handler: Arc::clone(&self.handler),
            message,
            known: None,
        };
        let counting = self.counting.clone();
        Box::pin(async move {
            match counting.rerun(handling, run).await {
                Ok(Came::Done) => Attempted::Done(done()),
                Ok(Came::Dead(why)) => Attempted::Failed(Failure::new(FailureClass::Final, &why)),
                Ok(_) => Attempted::Done(done()),
                // Rolled back: it may be repeated whatever happened, and counts.
                Err(error) => {
                    let error = error.map(|failed| failed.error);
                    let early = matches!(&error, AtomicError::Failed(error) if error.is::<Early>());
                    Attempted::Repeat(Failure {
                        answer: early.then(too_early),
                        ..Failure::new(FailureClass::Ambiguous, &error.to_string())
                    })
                }
            }
        })
    }
}

/// A message in the hands of its handler.
struct Handling<H> {
    handler: Arc<H>,
    message: Message,
    /// How its first run ended.
    known: Option<Ended>,
}

/// The handler is well: what its message follows upon has not come.
#[derive(Debug, thiserror::Error)]
#[error("too early: {0}")]
struct Early(String);

/// What an endpoint would say to that.
fn too_early() -> Answer {
    Answer {
        status: 425,
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

/// How a handler ended that was rolled back.
enum Ended {
    Dead(String),
    Failed(Failed<BoxError>),
}

impl Ended {
    /// `None` if it is done.
    fn of<E: Into<BoxError>>(handled: Result<Handled, E>) -> Option<Self> {
        match handled {
            Ok(Handled::Done) => None,
            Ok(Handled::Dead(why)) => Some(Self::Dead(why)),
            Ok(Handled::Early(why)) => Some(Self::failed(Early(why).into())),
            Err(error) => Some(Self::failed(error.into())),
        }
    }

    fn failed(error: BoxError) -> Self {
        Self::Failed(Failed {
            fault: Fault::of(error.as_ref()),
            text: crate::atomic::chain(error.as_ref()),
            error,
            after: None,
            answer: None,
        })
    }
}

impl<D, H, E> Work<D> for Handling<H>
where
    D: Database,
    E: Into<BoxError> + Send + 'static,
    H: for<'t> Fn(&'t mut D::Connection, &'t Message) -> BoxFuture<'t, Result<Handled, E>> + Send + Sync + 'static,
{
    type Reply = Came;
    type Error = BoxError;

    async fn perform(&mut self, mut transaction: D::Transaction, _: Run) -> Performed<D, Self> {
        let ended = match self.known.take() {
            Some(ended) => Some(ended),
            None => Ended::of((self.handler)(D::connection(&mut transaction), &self.message).await),
        };
        let worked = match ended {
            None => Worked::Ended(true, Finish::Done(done()), Came::Done),
            Some(Ended::Dead(why)) => {
                let finish = Finish::Dead {
                    reason: DeadReason::Refused,
                    answer: None,
                    last_error: Some(LastError::new(&why)),
                };
                Worked::Ended(
                    false,
                    finish,
                    Came::Dead(format!("{}: {why}", DeadReason::Refused.as_str())),
                )
            }
            Some(Ended::Failed(failed)) => Worked::Failed(failed),
        };
        (Some(transaction), worked)
    }
}
