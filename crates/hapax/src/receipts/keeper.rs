//! Looks after receipts: whether the backend writes them, and which have outlived their records.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Fence, OperationId, Store, StoreError};
use tokio::time::{Instant, sleep};

use super::{Receipt, ReceiptResolver, Receipts};
use crate::event::{Event, Observer};

/// How often what was answered is looked at.
const TURN: Duration = Duration::from_secs(1);
/// Rows that are looked at in one step.
const CHUNK: u32 = 500;
/// The pause after a step of a purge, in times that it took: the backend's own work goes first.
const REST: u32 = 4;

/// Tends the receipts of one database for the operations of one store.
///
/// It sees whether operations that were answered left a receipt, and removes receipts and seals that are older than any
/// record is remembered, once their record is gone. Before that, nothing removes one: it may be the only proof of what a
/// restored store has forgotten.
pub struct ReceiptKeeper {
    receipts: Arc<dyn Receipts>,
    resolvers: Vec<ReceiptResolver>,
    remember_for: Duration,
}

impl ReceiptKeeper {
    /// For the names of these resolvers. `remember_for` is the longest that a record of the store lives on after its end.
    #[must_use]
    pub fn new(receipts: Arc<dyn Receipts>, resolvers: Vec<ReceiptResolver>, remember_for: Duration) -> Self {
        Self {
            receipts,
            resolvers,
            remember_for,
        }
    }

    /// Tends for ever; drop the future to stop.
    pub async fn run(self, store: Arc<dyn Store>, observer: Arc<dyn Observer>) {
        let (store, observer) = (&*store, &*observer);
        let tell = |doing, done: Result<(), StoreError>| {
            if let Err(error) = done {
                observer.event(&Event::ReceiptsFailed { doing, error: &error });
            }
        };
        let look = async {
            tell("recall", self.recall(store).await);
            loop {
                tell("look", self.look(observer).await);
                sleep(TURN).await;
            }
        };
        let purge = async {
            let pause = (self.remember_for / 720).clamp(TURN, Duration::from_secs(3600));
            loop {
                let mut after = None;
                loop {
                    let started = Instant::now();
                    match self.purge(store, after, observer).await {
                        Ok(Some(last)) => after = Some(last),
                        Ok(None) => break,
                        Err(error) => {
                            tell("purge", Err(error));
                            break;
                        }
                    }
                    sleep(started.elapsed() * REST).await;
                }
                sleep(pause).await;
            }
        };
        tokio::join!(look, purge);
    }

    /// Which names have left receipts before: from some that are there.
    async fn recall(&self, store: &dyn Store) -> Result<(), StoreError> {
        for receipt in self.receipts.list(None, CHUNK).await?.iter().filter(|row| !row.sealed) {
            if let Some(record) = store.read(receipt.operation).await?.1 {
                let name = record.operation.name();
                self.resolvers
                    .iter()
                    .filter(|one| one.of() == name)
                    .for_each(ReceiptResolver::saw);
            }
        }
        Ok(())
    }

    /// Whether what was answered has left receipts.
    async fn look(&self, observer: &dyn Observer) -> Result<(), StoreError> {
        for resolver in &self.resolvers {
            let answered = resolver.take_answered();
            if answered.is_empty() {
                continue;
            }
            let ids: Vec<OperationId> = answered.iter().map(hapax_core::Operation::id).collect();
            let rows = self.receipts.heads(&ids).await?;
            let there: HashSet<OperationId> = rows.iter().filter(|row| !row.sealed).map(|row| row.operation).collect();
            for operation in &answered {
                let found = there.contains(&operation.id());
                let first = match found {
                    true => {
                        resolver.saw();
                        false
                    }
                    false => resolver.missed(),
                };
                observer.event(&Event::ReceiptChecked {
                    operation,
                    found,
                    first,
                });
            }
        }
        Ok(())
    }

    /// Removes what has outlived its record among the rows that follow. Says where to go on.
    async fn purge(
        &self,
        store: &dyn Store,
        after: Option<OperationId>,
        observer: &dyn Observer,
    ) -> Result<Option<OperationId>, StoreError> {
        let rows = self.receipts.list(after, CHUNK).await?;
        let mut gone: Vec<(OperationId, Fence)> = Vec::new();
        for Receipt { operation, fence, .. } in rows.iter().filter(|row| row.age > self.remember_for) {
            if store.read(*operation).await?.1.is_none() {
                gone.push((*operation, *fence));
            }
        }
        if !gone.is_empty() {
            // Only as they were looked at: another attempt may have replaced a seal.
            let rows = self.receipts.purge(&gone).await?;
            observer.event(&Event::ReceiptsPurged { rows });
        }
        Ok(rows.last().map(|row| row.operation))
    }
}

impl fmt::Debug for ReceiptKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptKeeper")
            .field("remember_for", &self.remember_for)
            .finish_non_exhaustive()
    }
}
