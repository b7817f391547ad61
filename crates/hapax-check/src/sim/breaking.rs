//! Bugs planted between a node and its store.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hapax::retry::Destination;
use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, DeadReason, Enqueue, Enqueued, Fence,
    Filter, Finish, Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, Swept, Take, Taken,
    Timestamp, Work,
};

use super::Canary;
use crate::faulty::Faulty;

/// The store of a node with a bug.
pub(super) struct Breaking {
    inner: Faulty,
    canary: Canary,
    destination: Destination,
    /// What was taken last.
    taken: Mutex<Vec<Work>>,
}

impl Breaking {
    pub(super) fn new(inner: Faulty, canary: Canary, destination: Destination) -> Self {
        Self {
            inner,
            canary,
            destination,
            taken: Mutex::default(),
        }
    }
}

impl Store for Breaking {
    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        let kills = self.canary == Canary::OpenBreakerKills && self.destination.open_for().is_some();
        let finish = match finish {
            Finish::Release { last_error, .. } if kills => Finish::Dead {
                reason: DeadReason::Exhausted,
                answer: None,
                last_error,
            },
            finish => finish,
        };
        self.inner.finish(id, fence, finish)
    }
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.inner.claim(claim)
    }
    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.inner.renew(id, fence, lease)
    }
    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.inner.read(id)
    }
    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.list(filter, after, limit)
    }
    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.inner.enqueue(enqueue)
    }
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move {
            let mut taken = self.inner.take(take).await?;
            if self.canary == Canary::TakenTwice {
                let mut before = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
                let again = std::mem::replace(&mut *before, taken.work.clone());
                taken.work.extend(again);
            }
            Ok(taken)
        })
    }
    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.inner.amend(id, amendment)
    }
    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.inner.audit(id, after, limit)
    }
    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.inner.census(scopes)
    }
    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.inner.sweep(limit)
    }
    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.inner.recipe(text)
    }
    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.inner.recipe_text(recipe)
    }
    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.inner.time(accept_jump)
    }
    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.raise_fence(at_least)
    }
    fn secret(&self) -> [u8; 32] {
        self.inner.secret()
    }
}
