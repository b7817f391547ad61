//! A store whose claims, finishes, enqueues and reads go through a driver's connection, each in a transaction of its
//! own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, OperationId, Page, RecipeId, Record, Renewed, Store, StoreError, Swept, Take, Taken, Timestamp,
};
use hapax_store::Clock;
use hapax_store::joined::{Fault, Joint, JointError};

use super::{Link, PATIENT, Place};
use crate::conformance::Backend;

/// A place as a backend for the suite of the stores.
pub struct JoinedBackend(Arc<dyn Place>);

impl JoinedBackend {
    /// Of this place.
    #[must_use]
    pub fn new(place: Arc<dyn Place>) -> Self {
        Self(place)
    }
}

impl Backend for JoinedBackend {
    fn open(&self, clock: Clock) -> BoxFuture<'_, Result<Arc<dyn Store>, StoreError>> {
        Box::pin(async move {
            let (store, joint) = self.0.open(clock).await?;
            let place = Arc::clone(&self.0);
            let idle = Mutex::default();
            let joined = JoinedStore {
                place,
                store,
                joint,
                idle,
            };
            Ok(Arc::new(joined) as Arc<dyn Store>)
        })
    }
}

struct JoinedStore {
    place: Arc<dyn Place>,
    store: Arc<dyn Store>,
    joint: Joint,
    idle: Mutex<Vec<Box<dyn Link>>>,
}

impl JoinedStore {
    async fn begin(&self) -> Result<Box<dyn Link>, JointError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut link = match idle {
            Some(link) => link,
            None => self.place.connect().await?,
        };
        for statement in self.place.begin(PATIENT) {
            link.execute(&statement).await?;
        }
        Ok(link)
    }

    /// Commits what a step did, and says whether to take it again from the top.
    async fn end<T>(&self, mut link: Box<dyn Link>, step: Result<T, JointError>) -> Result<Option<T>, StoreError> {
        let answer = match step {
            Ok(answer) => link.execute("COMMIT").await.map(|()| answer),
            Err(error) => {
                // What the transaction did is gone with the connection, if that cannot be told.
                if link.execute("ROLLBACK").await.is_err() {
                    return Err(error.into());
                }
                Err(error)
            }
        };
        match answer {
            Ok(answer) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
                Ok(Some(answer))
            }
            // A commit that was refused has rolled back.
            Err(error) if error.fault() == Fault::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// One step in one transaction, again while the database chooses it to give way.
macro_rules! step {
    ($store:ident, $link:ident => $step:expr) => {
        Box::pin(async move {
            loop {
                let mut link = $store.begin().await?;
                let $link = &mut *link;
                let answer = $step.await;
                if let Some(answer) = $store.end(link, answer).await? {
                    return Ok(answer);
                }
            }
        })
    };
}

impl Store for JoinedStore {
    fn claim(&self, claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        step!(self, link => self.joint.claim(link, &claim))
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        step!(self, link => self.joint.finish(link, id, fence, &finish))
    }

    fn enqueue(&self, enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        step!(self, link => self.joint.enqueue(link, &enqueue))
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        step!(self, link => self.joint.read(link, id))
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        self.store.renew(id, fence, lease)
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.store.list(filter, after, limit)
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        self.store.take(take)
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        self.store.amend(id, amendment)
    }

    fn audit(
        &self,
        id: Option<OperationId>,
        after: Option<Cursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<AuditPage, StoreError>> {
        self.store.audit(id, after, limit)
    }

    fn census(&self, scopes: bool) -> BoxFuture<'_, Result<Census, StoreError>> {
        self.store.census(scopes)
    }

    fn sweep(&self, limit: usize) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.store.sweep(limit)
    }

    fn recipe(&self, text: String) -> BoxFuture<'_, Result<RecipeId, StoreError>> {
        self.store.recipe(text)
    }

    fn recipe_text(&self, recipe: RecipeId) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.store.recipe_text(recipe)
    }

    fn time(&self, accept_jump: bool) -> BoxFuture<'_, Result<(Timestamp, Option<Duration>), StoreError>> {
        self.store.time(accept_jump)
    }

    fn raise_fence(&self, at_least: Fence) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.raise_fence(at_least)
    }

    fn secret(&self) -> [u8; 32] {
        self.store.secret()
    }
}
