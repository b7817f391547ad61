//! A planted bug: a runner whose open breaker kills what it should put off.

use std::time::Duration;

use hapax::retry::Destination;
use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, DeadReason, Enqueue, Enqueued, Fence,
    Filter, Finish, Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, Swept, Take, Taken,
    Timestamp,
};

use crate::faulty::Faulty;

pub(super) struct KillsWhatWaits {
    inner: Faulty,
    destination: Destination,
}

impl KillsWhatWaits {
    pub(super) fn new(inner: Faulty, destination: Destination) -> Self {
        Self { inner, destination }
    }
}

impl Store for KillsWhatWaits {
    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        let finish = match finish {
            Finish::Release { last_error, .. } if self.destination.open_for().is_some() => Finish::Dead {
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
        self.inner.take(take)
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
    fn secret(&self) -> [u8; 32] {
        self.inner.secret()
    }
}
