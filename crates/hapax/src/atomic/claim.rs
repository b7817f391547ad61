//! From an arrival to an open transaction that has claimed its operation, or to what the arrival is told instead.
//!
//! Whoever waits holds no connection. In this process one drive of an operation has the *turn*; the others wait until it
//! is over. What another process has in hand is met as a lock time-out: the connection goes back, and the claim is tried
//! again after a growing pause, in which the store is asked whether the record has settled.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Lease, OperationId, Refusal, State, StoreErrorKind, Timestamp};
use hapax_store::joined::{Fault, JointError};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::database::{Database, Opened};
use super::drive::{Drive, Told};
use super::error::AtomicError;
use super::work::{Failed, Work};
use crate::engine::Inner;
use crate::engine::gate::{Side, Young};
use crate::engine::waiters::RunningHere;
use crate::event::Event;
use crate::failpoint::{self, Failpoint};

/// The longest pause before a claim that met another transaction is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// First and longest pause between two looks at a record.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// First and longest pause before a database that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What a drive holds in this process.
#[derive(Default)]
pub(super) struct Place<'e> {
    /// Its turn among the drives of the operation.
    pub(super) turn: Option<RunningHere<'e>>,
    /// Its share of what a suspect waits for.
    pub(super) young: Option<Young>,
}

pub(super) enum Obtained<T> {
    Won(T, Lease),
    Refused(Refusal),
}

/// Why there is no transaction.
type Failure<D, W> = AtomicError<Failed<<W as Work<D>>::Error>>;

/// Who hears the answer.
pub(super) type Caller<D, W> = oneshot::Sender<Told<D, W>>;

impl<D: Database, W: Work<D>> Drive<D, W> {
    /// Claims, waiting as long as allowed.
    pub(super) async fn obtain<'e>(
        &mut self,
        engine: &'e Inner,
        place: &mut Place<'e>,
        caller: &mut Caller<D, W>,
    ) -> Result<Obtained<D::Transaction>, Failure<D, W>> {
        let mut pause = self.shared.options.bounds.claim;
        loop {
            if place.turn.is_none()
                && let Some(refusal) = self.take_turn(engine, place, caller).await
            {
                return Ok(Obtained::Refused(refusal));
            }
            failpoint::hit(Failpoint::BeforeClaim);
            place.young = Some(engine.gate.enter(Side::Caller).await);
            let in_progress = match self.open(engine).await.map_err(AtomicError::not_claimed)? {
                Opened::Won(transaction, now, lease) => {
                    engine.learn_time(now);
                    return Ok(Obtained::Won(transaction, lease));
                }
                Opened::Refused(_, Refusal::OtherRecipe(recipe)) => {
                    let refingerprint = Arc::clone(&self.refingerprint);
                    let under = engine.under(recipe, &mut self.claim, &refingerprint).await;
                    if !under.map_err(AtomicError::not_claimed)? {
                        return Ok(Obtained::Refused(Refusal::Mismatch));
                    }
                    continue;
                }
                Opened::Refused(now, refusal @ Refusal::InProgress { .. }) => {
                    engine.learn_time(now);
                    Some(refusal)
                }
                Opened::Refused(now, refusal) => {
                    engine.learn_time(now);
                    engine.cache.keep_refusal(&self.claim, &refusal);
                    return Ok(Obtained::Refused(refusal));
                }
                Opened::Taken => None,
            };
            // Who only waits keeps nobody waiting.
            place.young = None;
            if !self.pause(engine, pause, caller).await {
                let refusal = match in_progress {
                    Some(refusal) => refusal,
                    None => self.in_progress(engine).await,
                };
                return Ok(Obtained::Refused(refusal));
            }
            if let Some(refusal) = engine.cached(&self.claim) {
                return Ok(Obtained::Refused(refusal));
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Waits until no other drive of the operation runs in this process; or gives what to tell the caller.
    async fn take_turn<'e>(
        &mut self,
        engine: &'e Inner,
        place: &mut Place<'e>,
        caller: &mut Caller<D, W>,
    ) -> Option<Refusal> {
        let id = self.claim.operation.id();
        let mut waiter = None;
        loop {
            place.turn = engine.waiters.lead(id);
            if place.turn.is_some() {
                return None;
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(self.in_progress(engine).await);
            }
            if waiter.is_none() {
                waiter = engine.waiters.join(id);
            }
            let Some(waiter) = &mut waiter else {
                engine.emit(&Event::TooManyWaiters {
                    operation: &self.claim.operation,
                });
                return Some(self.in_progress(engine).await);
            };
            let changed = waiter.changed(|| async { !engine.waiters.runs_here(id) || settled(engine, id).await });
            tokio::select! {
                biased;
                // Nobody is there to hear the answer.
                () = caller.closed() => return Some(self.in_progress(engine).await),
                changed = timeout(left, changed) => if changed.is_err() {
                    return Some(self.in_progress(engine).await);
                },
            }
            if let Some(refusal) = engine.cached(&self.claim) {
                return Some(refusal);
            }
        }
    }

    /// Opens a transaction, again while the database fails in a way that may pass.
    async fn open(&mut self, engine: &Inner) -> Result<Opened<D::Transaction>, JointError> {
        let patience = Instant::now() + engine.options.store_patience;
        let until = patience.max(self.until);
        let mut pause = RETRY.0;
        loop {
            let shared = &self.shared;
            let opened = shared
                .database
                .open(&shared.joint, &self.claim, &shared.options.bounds)
                .await;
            let error = match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            let passes = match error.fault() {
                // The one lock of the whole database: as long as the caller waits anyway.
                Fault::Busy => Instant::now() + pause < until,
                Fault::Conflict | Fault::Lost | Fault::Other => {
                    error.kind() == StoreErrorKind::Unavailable && Instant::now() + pause < patience
                }
            };
            if !passes {
                return Err(error);
            }
            tracing::debug!(%error, "a transaction could not begin; it is tried again");
            sleep(pause).await;
            pause = RETRY.1.min(pause * 2);
        }
    }

    /// Waits until there may be news of what another process has in hand. False if the wait is over.
    async fn pause(&mut self, engine: &Inner, pause: Duration, caller: &mut Caller<D, W>) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let id = self.claim.operation.id();
        let looking = async {
            let mut pause = LOOK.0;
            loop {
                sleep(pause).await;
                pause = LOOK.1.min(pause * 2);
                if settled(engine, id).await {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = caller.closed() => false,
            _ = timeout(pause.min(left), looking) => true,
        }
    }

    /// What a caller is told while another transaction has the operation: the record does not show it.
    async fn in_progress(&mut self, engine: &Inner) -> Refusal {
        let now = match engine.store_time() {
            Some(now) => now,
            None => match engine.store.read(self.claim.operation.id()).await {
                Ok((now, _)) => now,
                Err(_) => Timestamp::from_millis(0),
            },
        };
        Refusal::InProgress {
            since: now,
            deadline: now.after(self.shared.options.bounds.longest),
        }
    }
}

/// Whether an operation has come to its end. Keeps what it reads.
async fn settled(engine: &Inner, id: OperationId) -> bool {
    match engine.store.read(id).await {
        Ok((now, Some(record))) => {
            engine.learn_time(now);
            let settled = matches!(
                record.state,
                State::Done(_) | State::Dead { .. } | State::Unknown { .. }
            );
            engine.cache.keep(record);
            settled
        }
        Ok((now, None)) => {
            engine.learn_time(now);
            false
        }
        Err(error) => {
            engine.emit(&Event::StoreFailed {
                step: "read",
                error: &error,
            });
            false
        }
    }
}
