//! A store that misbehaves as networks and disks do, by a seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, StoreErrorKind, Swept, Take, Taken,
    Timestamp,
};
use tokio::time::sleep;

use crate::dice::Dice;

/// How often each fault happens, in a thousand calls, and how long the slow ones take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The call fails and nothing was done.
    pub failed: u64,
    /// The call was carried out, but its reply is lost.
    pub lost_reply: u64,
    /// The call fails, and is carried out later.
    pub late: u64,
    /// No answer until a time-out; carried out or not.
    pub timed_out: u64,
    /// Carried out, and answered, after a delay.
    pub delayed: u64,
    /// Carried out twice; the second reply is the answer.
    pub duplicated: u64,
    /// The longest delay, in milliseconds.
    pub longest_delay_ms: u64,
    /// The time-out.
    pub time_out: Duration,
    /// Every call fails.
    pub outage: bool,
}

impl Default for Faults {
    /// None at all.
    fn default() -> Self {
        Self {
            failed: 0,
            lost_reply: 0,
            late: 0,
            timed_out: 0,
            delayed: 0,
            duplicated: 0,
            longest_delay_ms: 500,
            time_out: Duration::from_secs(3),
            outage: false,
        }
    }
}

impl Faults {
    /// Every fault, each `per_mille` times in a thousand calls.
    #[must_use]
    pub fn all(per_mille: u64) -> Self {
        Self {
            failed: per_mille,
            lost_reply: per_mille,
            late: per_mille,
            timed_out: per_mille,
            delayed: per_mille,
            duplicated: per_mille,
            ..Self::default()
        }
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Failed,
    LostReply,
    Late(Duration),
    TimedOut { carried_out: bool },
    Delayed(Duration),
    Duplicated,
}

/// Carries a step out after a delay, whatever has become of the process that asked for it.
pub type Later = Arc<dyn Fn(Duration, BoxFuture<'static, ()>) + Send + Sync>;

/// A store with faults in front of it. Clones share the faults and the dice.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
    later: Later,
}

struct Plan {
    dice: Dice,
    faults: Faults,
    injected: u64,
}

impl Faulty {
    /// Faults in front of `inner`, the same for the same seed and order of calls. Must be used within a tokio
    /// runtime.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, seed: u64, faults: Faults) -> Self {
        let plan = Plan {
            dice: Dice::new(seed),
            faults,
            injected: 0,
        };
        Self {
            inner,
            plan: Arc::new(Mutex::new(plan)),
            later: Arc::new(|delay, step| {
                tokio::spawn(async move {
                    sleep(delay).await;
                    step.await;
                });
            }),
        }
    }

    /// The same, but late calls are carried out by `later`, where by default a task of the runtime does so.
    #[must_use]
    pub fn with_later(self, later: Later) -> Self {
        Self { later, ..self }
    }

    /// Changes the faults from the next call on.
    pub fn set(&self, faults: Faults) {
        self.plan().faults = faults;
    }

    /// Lets every call fail, or ends that.
    pub fn set_outage(&self, outage: bool) {
        self.plan().faults.outage = outage;
    }

    /// How many calls met a fault.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.plan().injected
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A panic cannot leave numbers half-changed.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T: Send + 'static>(
        &self,
        step: impl Fn(Arc<dyn Store>) -> BoxFuture<'static, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (fault, time_out) = self.plan().draw();
        let inner = Arc::clone(&self.inner);
        let later = Arc::clone(&self.later);
        Box::pin(async move {
            match fault {
                Fault::None => step(inner).await,
                Fault::Failed => Err(unavailable("refused the connection")),
                Fault::LostReply => {
                    step(inner).await?;
                    Err(unavailable("closed the connection before its reply"))
                }
                Fault::Late(delay) => {
                    let step = async move {
                        // Nobody is there to hear the reply.
                        let _: Result<T, StoreError> = step(inner).await;
                    };
                    later(delay, Box::pin(step));
                    Err(unavailable("did not answer yet"))
                }
                Fault::TimedOut { carried_out } => {
                    if carried_out {
                        step(inner).await?;
                    }
                    sleep(time_out).await;
                    Err(unavailable("did not answer in time"))
                }
                Fault::Delayed(delay) => {
                    sleep(delay / 2).await;
                    let reply = step(inner).await;
                    sleep(delay / 2).await;
                    reply
                }
                Fault::Duplicated => {
                    step(Arc::clone(&inner)).await?;
                    step(inner).await
                }
            }
        })
    }
}

impl Plan {
    fn draw(&mut self) -> (Fault, Duration) {
        let faults = &self.faults;
        let mut roll = self.dice.below(1000);
        let delay = self.dice.millis(1, faults.longest_delay_ms);
        let carried_out = self.dice.chance(500);
        let kinds = [
            (faults.failed, Fault::Failed),
            (faults.lost_reply, Fault::LostReply),
            (faults.late, Fault::Late(delay)),
            (faults.timed_out, Fault::TimedOut { carried_out }),
            (faults.delayed, Fault::Delayed(delay)),
            (faults.duplicated, Fault::Duplicated),
        ];
        let time_out = faults.time_out;
        let mut drawn = if faults.outage { Fault::Failed } else { Fault::None };
        for (per_mille, fault) in kinds {
            if roll < per_mille && drawn == Fault::None {
                drawn = fault;
            }
            roll = roll.saturating_sub(per_mille);
        }
        self.injected += u64::from(drawn != Fault::None);
        (drawn, time_out)
    }
}

fn unavailable(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("the faulty store {what}"))
}

impl Store for Faulty {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.call(move |store| {
            let claim = claim.clone();
            Box::pin(async move { store.claim(claim).await })
        })
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.call(move |store| Box::pin(async move { store.renew(id, fence, lease).await }))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        self.call(move |store| {
            let finish = finish.clone();
            Box::pin(async move { store.finish(id, fence, finish).await })
        })
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.call(move |store| Box::pin(async move { store.read(id).await }))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.call(move |store| {
            let filter = filter.clone();
            Box::pin(async move { store.list(filter, after, limit).await })
        })
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.call(move |store| {
            let enqueue = enqueue.clone();
            Box::pin(async move { store.enqueue(enqueue).await })
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.call(move |store| {
            let take = take.clone();
            Box::pin(async move { store.take(take).await })
        })
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.call(move |store| {
            let amendment = amendment.clone();
            Box::pin(async move { store.amend(id, amendment).await })
        })
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.call(move |store| Box::pin(async move { store.audit(id, after, limit).await }))
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.call(move |store| Box::pin(async move { store.census(scopes).await }))
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.call(move |store| Box::pin(async move { store.sweep(limit).await }))
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.call(move |store| {
            let text = text.clone();
            Box::pin(async move { store.recipe(text).await })
        })
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.call(move |store| Box::pin(async move { store.recipe_text(recipe).await }))
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.call(move |store| Box::pin(async move { store.time(accept_jump).await }))
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call(move |store| Box::pin(async move { store.raise_fence(at_least).await }))
    }

    fn secret(&self) -> [u8; 32] {
        self.inner.secret()
    }
}

#[cfg(test)]
mod tests;
