//! A store that tells the world what it carried out, in the order in which it did.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{
    Amended, Amendment, AuditPage, BoxFuture, Census, Claim, Claimed, Cursor, Enqueue, Enqueued, Fence, Filter, Finish,
    Finished, Input, Lease, OperationId, Page, RecipeId, Record, Renewed, Ruling, StateName, Store, StoreError, Swept,
    Take, Taken, Timestamp, Work,
};

use super::plan::Plan;
use super::post::{Item, Post};

/// Something that the store carried out.
pub(super) enum Step {
    Claimed {
        id: OperationId,
        now: Timestamp,
        lease: Lease,
    },
    Renewed {
        id: OperationId,
        fence: Fence,
        until: Timestamp,
    },
    Finished {
        id: OperationId,
        fence: Fence,
        finish: Finish,
        now: Timestamp,
        /// The record that it finished.
        before: Option<Record>,
    },
    Enqueued {
        id: OperationId,
        now: Timestamp,
        /// The record after it.
        record: Option<Record>,
    },
    Took(Taken),
    /// A take started it although another of its group is before it.
    Overtook {
        id: OperationId,
        before: OperationId,
    },
    Amended {
        id: OperationId,
        amendment: Amendment,
        before: Option<Record>,
        /// `None` if it was forgotten.
        after: Option<Box<Record>>,
    },
    /// A sweep forgot it.
    Swept {
        id: OperationId,
        now: Timestamp,
        before: Record,
    },
}

/// The store as one node reaches it.
pub(super) struct Watched {
    inner: Arc<dyn Store>,
    post: Post,
    /// All operations that there can be.
    ids: Arc<[OperationId]>,
    plan: Plan,
}

impl Watched {
    pub(super) fn new(inner: Arc<dyn Store>, post: Post, ids: Arc<[OperationId]>, plan: &Plan) -> Self {
        let plan = plan.clone();
        Self { inner, post, ids, plan }
    }

    fn number(&self, id: OperationId) -> Option<usize> {
        self.ids.iter().position(|known| *known == id)
    }

    /// What of a started record's group is before it.
    async fn overtaken(&self, record: &Record) -> Result<Option<OperationId>, StoreError> {
        if record.group.is_none() {
            return Ok(None);
        }
        let filter = Filter {
            group: record.group,
            ..Filter::default()
        };
        let page = self.inner.list(filter, None, 1000).await?;
        let mut older = page
            .records
            .iter()
            .take_while(|other| other.operation != record.operation);
        let open = older.find(|other| other.state != StateName::Done);
        Ok(open.map(|other| other.operation.id()))
    }

    fn tell(&self, step: Step) {
        self.post.send(Item::Step(Box::new(step)));
    }

    async fn record(&self, id: OperationId) -> Result<Option<Record>, StoreError> {
        Ok(self.inner.read(id).await?.1)
    }
}

impl Store for Watched {
    fn claim(&self, mut claim: Claim) -> BoxFuture<'_, Result<Claimed, StoreError>> {
        Box::pin(async move {
            let id = claim.operation.id();
            if let Some(number) = self.number(id) {
                claim.group = self.plan.group(number);
                let payload = claim.fingerprint.digest()[0];
                claim.input = self.plan.brings.then(|| Input(vec![number as u8, payload].into()));
            }
            let claimed = self.inner.claim(claim).await?;
            if let Ruling::Won(lease) = claimed.ruling {
                let now = claimed.now;
                self.tell(Step::Claimed { id, now, lease });
            }
            Ok(claimed)
        })
    }

    fn renew(&self, id: OperationId, fence: Fence, lease: Duration) -> BoxFuture<'_, Result<Renewed, StoreError>> {
        Box::pin(async move {
            let renewed = self.inner.renew(id, fence, lease).await?;
            if let Renewed::Until(until) = renewed {
                self.tell(Step::Renewed { id, fence, until });
            }
            Ok(renewed)
        })
    }

    fn finish(&self, id: OperationId, fence: Fence, finish: Finish) -> BoxFuture<'_, Result<Finished, StoreError>> {
        Box::pin(async move {
            let before = self.record(id).await?;
            let finished = self.inner.finish(id, fence, finish.clone()).await?;
            if let Finished::Applied { now } = finished {
                self.tell(Step::Finished {
                    id,
                    fence,
                    finish,
                    now,
                    before,
                });
            }
            Ok(finished)
        })
    }

    fn read(&self, id: OperationId) -> BoxFuture<'_, Result<(Timestamp, Option<Record>), StoreError>> {
        self.inner.read(id)
    }

    fn list(&self, filter: Filter, after: Option<Cursor>, limit: usize) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner.list(filter, after, limit)
    }

    fn enqueue(&self, mut enqueue: Enqueue) -> BoxFuture<'_, Result<Enqueued, StoreError>> {
        Box::pin(async move {
            let id = enqueue.operation.id();
            enqueue.group = self.number(id).and_then(|number| self.plan.group(number));
            let enqueued = self.inner.enqueue(enqueue).await?;
            if enqueued.refusal.is_none() {
                let (now, record) = (enqueued.now, self.record(id).await?);
                self.tell(Step::Enqueued { id, now, record });
            }
            Ok(enqueued)
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Result<Taken, StoreError>> {
        Box::pin(async move {
            let taken = self.inner.take(take).await?;
            for work in &taken.work {
                if let Work::Run(record, _) = work
                    && let Some(before) = self.overtaken(record).await?
                {
                    let id = record.operation.id();
                    self.tell(Step::Overtook { id, before });
                }
            }
            if !taken.work.is_empty() || !taken.ended.is_empty() {
                self.tell(Step::Took(taken.clone()));
            }
            Ok(taken)
        })
    }

    fn amend(&self, id: OperationId, amendment: Amendment) -> BoxFuture<'_, Result<Amended, StoreError>> {
        Box::pin(async move {
            let before = self.record(id).await?;
            let amended = self.inner.amend(id, amendment.clone()).await?;
            let after = match &amended {
                Amended::Became(record) => Some(Some(record.clone())),
                Amended::Forgotten => Some(None),
                _ => None,
            };
            if let Some(after) = after {
                self.tell(Step::Amended {
                    id,
                    amendment,
                    before,
                    after,
                });
            }
            Ok(amended)
        })
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
        Box::pin(async move {
            let mut before = Vec::new();
            for id in self.ids.iter() {
                before.extend(self.record(*id).await?.map(|record| (*id, record)));
            }
            let swept = self.inner.sweep(limit).await?;
            if swept.forgotten > 0 {
                for (id, before) in before {
                    let (now, after) = self.inner.read(id).await?;
                    if after.is_none() {
                        self.tell(Step::Swept { id, now, before });
                    }
                }
            }
            Ok(swept)
        })
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
