//! The reference model under a mutex. Nothing survives the process: for tests and for trying things out.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hapax_core::model::Model;
use hapax_core::store::check_raise;
use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, Swept, Take, Taken, Timestamp,
};

use crate::clock::Clock;

/// A store in memory. Clones share the records.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    model: Arc<Mutex<Model>>,
    clock: Clock,
    secret: [u8; 32],
}

impl MemoryStore {
    /// An empty store. `secret` keys fingerprints and scope digests.
    #[must_use]
    pub fn new(clock: Clock, secret: [u8; 32]) -> Self {
        Self {
            model: Arc::default(),
            clock,
            secret,
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        // Each step of the model leaves it whole, a panicking one too: it checks before it writes.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Model, Timestamp) -> T,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        // The time is read under the lock, so that it never runs backwards from one step to the next.
        let mut model = self.model();
        let result = step(&mut model, self.clock.now());
        Box::pin(ready(Ok(result)))
    }
}

impl Store for MemoryStore {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.step(|model, now| model.claim(&claim, now))
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.step(|model, now| model.renew(id, fence, lease, now))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        self.step(|model, now| model.finish(id, fence, &finish, now))
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.step(|model, now| (now, model.record(id).cloned()))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.step(|model, now| model.list(&filter, after, limit, now))
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.step(|model, now| model.enqueue(&enqueue, now))
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.step(|model, now| model.take(&take, now))
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.step(|model, now| model.amend(id, &amendment, now))
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.step(|model, _| model.audit(id, after, limit))
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.step(|model, now| model.census(scopes, now))
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.step(|model, now| model.sweep(limit, now))
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.step(|model, _| model.recipe(&text))
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.step(|model, _| model.recipe_text(recipe).map(str::to_owned))
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        if accept_jump {
            self.clock.accept_jump();
        }
        let clock = self.clock.clone();
        self.step(move |_, now| (now, clock.jump()))
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        match check_raise(at_least) {
            Ok(()) => self.step(|model, _| model.raise_fence(at_least)),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn secret(&self) -> [u8; 32] {
        self.secret
    }
}
