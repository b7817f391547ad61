//! One arrival, from its claim to its reply.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hapax_core::{
    AfterFailure, BoxFuture, Claim, Claimed, Finish, Finished, LastError, Lease, Operation, Refusal, Renewed, Ruling,
    State, StateName, Store, StoreError, Timestamp,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::gate::{Side, Youth};
use super::{Ended, Inner, Refingerprint, Reply, Run, RunError};
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

/// First and longest pause between two tries of a step that the store failed.
const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(crate) struct Drive<R> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) claim: Claim,
    /// Held from before the claim until the first heartbeat.
    pub(crate) youth: Option<Youth>,
    pub(crate) reply: oneshot::Sender<Result<Reply<R>, RunError>>,
}

impl<R: Send + 'static> Drive<R> {
    /// Claims, waiting as long as allowed; then runs the handler, or says why not. Boxed, since an `async fn` keeps what
    /// it is given twice.
    pub(crate) async fn run<H, F>(mut self: Box<Self>, refingerprint: Refingerprint, wait: Duration, handler: H)
    where
        H: FnOnce(Run) -> F,
        F: Future<Output = Ended<R>>,
    {
        failpoint::hit(Failpoint::BeforeClaim);
        match self.obtain(&refingerprint, wait).await {
            Ok(Ruling::Won(lease)) => {
                failpoint::hit(Failpoint::ClaimWritten);
                self.perform(lease, handler).await;
            }
            Ok(Ruling::Refused(refusal)) => {
                let event = Event::Refused {
                    operation: &self.claim.operation,
                    refusal: &refusal,
                    cached: false,
                };
                self.inner.emit(&event);
                answer(self.reply, Ok(Reply::Refused(refusal)));
            }
            Err(error) => answer(self.reply, Err(RunError::NotClaimed(Arc::new(error)))),
        }
    }

    /// The same for what runs within another run: without waiting, neither for a run in progress nor for its turn.
    pub(crate) async fn run_within<H, F>(self: Box<Self>, handler: H)
    where
        H: FnOnce(Run) -> F,
        F: Future<Output = Ended<R>>,
    {
        if let Some(refusal) = self.inner.cached(&self.claim) {
            return answer(self.reply, Ok(Reply::Refused(refusal)));
        }
        match self.claim().await {
            Ok(Ruling::Won(lease)) => self.perform(lease, handler).await,
            Ok(Ruling::Refused(refusal)) => {
                self.inner.refused(&self.claim, &refusal);
                answer(self.reply, Ok(Reply::Refused(refusal)));
            }
            Err(error) => answer(self.reply, Err(RunError::NotClaimed(Arc::new(error)))),
        }
    }

    /// Claims until there is something to say: the claim won, or it was refused for good, or the wait is over.
    async fn obtain(&mut self, refingerprint: &Refingerprint, wait: Duration) -> Result<Ruling, StoreError> {
        let inner = Arc::clone(&self.inner);
        let until = Instant::now() + wait;
        let mut waiter = None;
        loop {
            let young = inner.gate.enter(Side::Caller).await;
            let ruling = self.claim().await?;
            match &ruling {
                Ruling::Refused(Refusal::OtherRecipe(recipe)) => {
                    if !inner.under(*recipe, &mut self.claim, refingerprint).await? {
                        return Ok(Ruling::Refused(Refusal::Mismatch));
                    }
                }
                Ruling::Refused(Refusal::InProgress { .. }) => {
                    // Who only waits keeps nobody waiting.
                    drop(young);
                    if waiter.is_none() && !wait.is_zero() {
                        waiter = inner.waiters.join(self.claim.operation.id());
                        if waiter.is_none() {
                            inner.emit(&Event::TooManyWaiters {
                                operation: &self.claim.operation,
                            });
                        }
                    }
                    let Some(waiter) = &mut waiter else { return Ok(ruling) };
                    let left = until.saturating_duration_since(Instant::now());
                    let changed = waiter.changed(|| inner.has_changed(self.claim.operation.id()));
                    tokio::select! {
                        biased;
                        // Nobody is there to hear the answer.
                        () = self.reply.closed() => return Ok(ruling),
                        changed = timeout(left, changed) => if changed.is_err() { return Ok(ruling) },
                    }
                    if let Some(refusal) = inner.cached(&self.claim) {
                        return Ok(Ruling::Refused(refusal));
                    }
                }
                Ruling::Refused(refusal) => {
                    inner.cache.keep_refusal(&self.claim, refusal);
                    return Ok(ruling);
                }
                Ruling::Won(_) => {
                    self.youth = Some(Youth::Among { _young: young });
                    return Ok(ruling);
                }
            }
        }
    }

    /// One claim, repeated with the same attempt while the store fails. If it never answers, the claim it may have
    /// made is given back.
    async fn claim(&self) -> Result<Ruling, StoreError> {
        let patience = self.inner.options.store_patience;
        loop {
            let mut asked = Instant::now();
            let ask = self.inner.insist("claim", patience, |store| {
                asked = Instant::now();
                store.claim(self.claim.clone())
            });
            match ask.await {
                // As long on its way as the lease holds, as when this process was paused: somebody may have settled it.
                Ok(Claimed {
                    now,
                    ruling: Ruling::Won(lease),
                }) if lease.is_over(now, asked.elapsed()) => {}
                Ok(claimed) => {
                    self.inner.learn_time(claimed.now);
                    return Ok(claimed.ruling);
                }
                Err(error) => {
                    if error.is_transient() {
                        tokio::spawn(give_back(Arc::clone(&self.inner), self.claim.clone()));
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Runs the handler under its lease and makes its finish durable.
    pub(crate) async fn perform<H, F>(mut self: Box<Self>, lease: Lease, handler: H)
    where
        H: FnOnce(Run) -> F,
        F: Future<Output = Ended<R>>,
    {
        let mut youth = self.youth.take();
        let (inner, claim, caller) = (&self.inner, &self.claim, self.reply);
        let operation = &claim.operation;
        let started = Instant::now();
        let running = inner.waiters.running(operation.id());
        inner.emit(&Event::Started {
            operation,
            fence: lease.fence,
        });
        let run = Run {
            operation: operation.clone(),
            fence: lease.fence,
            tries: lease.tries,
        };
        // `handler` itself may panic before it gives its future.
        let work = AssertUnwindSafe(async { handler(run).await }).catch_unwind();
        let ended = tokio::select! {
            biased;
            ended = work => ended,
            never = inner.heartbeat(claim, lease, &mut youth) => match never {},
        };
        let (finish, told) = match ended {
            Ok(Ended { finish, reply }) => (finish, Ok(reply)),
            Err(_) => {
                inner.emit(&Event::Panicked { operation });
                (panicked(claim.after_failure), Err(RunError::Panicked))
            }
        };
        failpoint::hit(Failpoint::BeforeFinish);
        let finishing = Finishing {
            inner,
            claim,
            lease,
            started,
        };
        let reply = finishing.finish(finish, told, caller).await;
        failpoint::hit(Failpoint::AfterFinish);
        // Waiters first learn from the cache, so that they wake after it is filled.
        drop(running);
        if let Some((reply, told)) = reply {
            answer(reply, told);
        }
    }
}

/// A panic proves nothing.
fn panicked(after_failure: AfterFailure) -> Finish {
    let last_error = Some(LastError::new("the handler panicked"));
    match after_failure {
        AfterFailure::Hold => Finish::Unknown {
            answer: None,
            last_error,
        },
        AfterFailure::Retry => Finish::Release {
            after: Duration::ZERO,
            counts: true,
            last_error,
        },
    }
}

struct Finishing<'a> {
    inner: &'a Inner,
    claim: &'a Claim,
    lease: Lease,
    started: Instant,
}

type Caller<R> = oneshot::Sender<Result<Reply<R>, RunError>>;

impl Finishing<'_> {
    /// Makes the finish durable. A caller is kept waiting for `store_patience`, the finish is repeated until the run's
    /// time is over.
    async fn finish<R>(
        &self,
        finish: Finish,
        told: Result<R, RunError>,
        caller: Caller<R>,
    ) -> Option<(Caller<R>, Result<Reply<R>, RunError>)> {
        let (id, fence) = (self.claim.operation.id(), self.lease.fence);
        let patience = self.inner.options.store_patience;
        let error = match self
            .inner
            .insist("finish", patience, |store| store.finish(id, fence, finish.clone()))
            .await
        {
            Ok(finished) => return Some((caller, self.settle(finished, &finish, told))),
            Err(error) => error,
        };
        answer(caller, Err(RunError::NotFinished(Arc::new(error))));
        // Late is better than never: a lapsed run may still say what became of it.
        if let Ok(finished) = self
            .inner
            .insist("finish", self.claim.max_run, |store| {
                store.finish(id, fence, finish.clone())
            })
            .await
        {
            let _: Result<Reply<R>, _> = self.settle(finished, &finish, told);
        }
        None
    }

    fn settle<R>(&self, finished: Finished, finish: &Finish, told: Result<R, RunError>) -> Result<Reply<R>, RunError> {
        let operation = &self.claim.operation;
        match finished {
            Finished::Applied { now } => {
                self.finished(operation, finish.state(now).name(), now);
                if let Finish::Done(outcome) = finish {
                    self.inner.cache.keep_done(self.claim, now, outcome.clone());
                }
                told.map(Reply::Ran)
            }
            // The first reply of the store was lost, or the run had lapsed into what it now reports.
            Finished::Already { now, record } if finish.state(record.since) == record.state => {
                self.finished(operation, record.state.name(), now);
                self.inner.cache.keep(*record);
                told.map(Reply::Ran)
            }
            Finished::Already { now, record } => {
                self.inner.learn_time(now);
                Ok(Reply::Refused(record.refusal(now)))
            }
            Finished::Fenced { now, record } => {
                self.inner.learn_time(now);
                self.inner.emit(&Event::Fenced {
                    operation,
                    fence: self.lease.fence,
                });
                match record {
                    Some(record) if record.fingerprint == self.claim.fingerprint => {
                        Ok(Reply::Refused(record.refusal(now)))
                    }
                    // Forgotten under this run, and perhaps made anew for something else: not this caller's to hear.
                    _ => Err(RunError::Lost),
                }
            }
        }
    }

    fn finished(&self, operation: &Operation, state: StateName, now: Timestamp) {
        self.inner.learn_time(now);
        self.inner.emit(&Event::Finished {
            operation,
            state,
            took: self.started.elapsed(),
        });
    }
}

/// Gives back a claim that may have been made although the store never said so. A client that retries meanwhile finds
/// the operation in progress, then due.
async fn give_back(inner: Arc<Inner>, claim: Claim) {
    let patience = claim.lease;
    let Ok(claimed) = inner
        .insist("claim", patience, |store| store.claim(claim.clone()))
        .await
    else {
        return;
    };
    if let Ruling::Won(lease) = claimed.ruling {
        let id = claim.operation.id();
        let finish = Finish::Release {
            after: Duration::ZERO,
            counts: false,
            last_error: None,
        };
        // If this fails too, the lease lapses.
        let _: Result<_, _> = inner
            .insist("finish", patience, |store| {
                store.finish(id, lease.fence, finish.clone())
            })
            .await;
    }
}

impl Inner {
    /// Repeats a step of the store while it fails transiently, for `patience` at most.
    pub(crate) async fn insist<'a, T>(
        &'a self,
        step: &'static str,
        patience: Duration,
        mut ask: impl FnMut(&'a dyn Store) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let until = Instant::now() + patience;
        let mut pause = STORE_RETRY.0;
        loop {
            let error = match ask(self.store.as_ref()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            self.emit(&Event::StoreFailed { step, error: &error });
            if !error.is_transient() || Instant::now() + pause > until {
                return Err(error);
            }
            sleep(pause).await;
            pause = STORE_RETRY.1.min(pause * 2);
        }
    }

    /// Extends the lease three times in its length, until there is nothing left to extend. Never returns.
    async fn heartbeat(&self, claim: &Claim, lease: Lease, youth: &mut Option<Youth>) -> std::convert::Infallible {
        let operation = &claim.operation;
        loop {
            sleep(claim.lease / 3).await;
            match self.store.renew(operation.id(), lease.fence, claim.lease).await {
                Ok(Renewed::Until(_)) => {
                    *youth = None;
                    self.emit(&Event::Renewed { operation });
                }
                Ok(Renewed::Over | Renewed::Fenced) => {
                    *youth = None;
                    self.emit(&Event::LeaseLost {
                        operation,
                        fence: lease.fence,
                    });
                    return std::future::pending().await;
                }
                // The next beat comes before the lease ends.
                Err(error) => self.emit(&Event::StoreFailed {
                    step: "renew",
                    error: &error,
                }),
            }
        }
    }

    /// Whether a run that others wait for has ended or lapsed. Keeps what it reads.
    async fn has_changed(&self, id: hapax_core::OperationId) -> bool {
        match self.store.read(id).await {
            Ok((now, record)) => {
                self.learn_time(now);
                let state = record.as_ref().map(|record| &record.state);
                let running = matches!(state, Some(State::Running { deadline, .. }) if *deadline > now);
                if let Some(record) = record {
                    self.cache.keep(record);
                }
                !running
            }
            Err(error) => {
                self.emit(&Event::StoreFailed {
                    step: "read",
                    error: &error,
                });
                false
            }
        }
    }
}

/// Answers the caller, if it is still there.
fn answer<R>(caller: Caller<R>, told: Result<Reply<R>, RunError>) {
    // A caller that left is no error: its operation is recorded.
    let _: Result<(), _> = caller.send(told);
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use super::*;

    type Handler = fn(Run) -> Ready<Ended<()>>;

    fn size_of_run<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Each run's future is written to memory that no other has just used.
    #[test]
    fn a_run_takes_little_beside_its_handler() {
        let size = size_of_run(Drive::<()>::run::<Handler, Ready<Ended<()>>>);
        assert!(size <= 1_150, "{size} bytes");
    }
}
