//! A store that can be taken down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hapax::core::{
    Amended, Amendment, AuditEntry, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter,
    Finish, Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, StoreErrorKind, Swept, Take,
    Taken, Timestamp,
};
use hapax::store::MemoryStore;

/// A memory store that answers with errors while it is down.
#[derive(Clone)]
pub(super) struct Shaky {
    store: MemoryStore,
    is_down: Arc<AtomicBool>,
    finish_is_down: Arc<AtomicBool>,
}

impl Shaky {
    pub(super) fn new(store: MemoryStore) -> Self {
        Self {
            store,
            is_down: Arc::default(),
            finish_is_down: Arc::default(),
        }
    }

    /// Takes it down, or brings it back.
    pub(super) fn down(&self, down: bool) {
        self.is_down.store(down, Ordering::SeqCst);
    }

    /// Lets only finishes fail.
    pub(super) fn finish_down(&self, down: bool) {
        self.finish_is_down.store(down, Ordering::SeqCst);
    }

    fn ask<'a, T: Send + 'static>(
        &'a self,
        step: impl FnOnce(&'a MemoryStore) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        if self.is_down.load(Ordering::SeqCst) {
            let error = StoreError::new(StoreErrorKind::Unavailable, "the store is down");
            return Box::pin(std::future::ready(Err(error)));
        }
        step(&self.store)
    }
}

impl Store for Shaky {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        self.ask(|store| store.claim(claim))
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.ask(|store| store.renew(id, fence, lease))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        if self.finish_is_down.load(Ordering::SeqCst) {
            let error = StoreError::new(StoreErrorKind::Unavailable, "finishes fail");
            return Box::pin(std::future::ready(Err(error)));
        }
        self.ask(|store| store.finish(id, fence, finish))
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.ask(|store| store.read(id))
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.ask(|store| store.list(filter, after, limit))
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.ask(|store| store.amend(id, amendment))
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        self.ask(|store| store.enqueue(enqueue))
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.ask(|store| store.take(take))
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<(Vec<AuditEntry>, Option<Cursor>), StoreError>> {
        self.ask(|store| store.audit(id, after, limit))
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.ask(|store| store.census(scopes))
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.ask(|store| store.sweep(limit))
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.ask(|store| store.recipe(text))
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.ask(|store| store.recipe_text(recipe))
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.ask(|store| store.time(accept_jump))
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.raise_fence(at_least)
    }

    fn secret(&self) -> [u8; 32] {
        self.store.secret()
    }
}
