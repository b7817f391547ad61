//! What receipts say of an operation whose outcome is not known.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hapax_core::{Answer, BoxFuture, Fence, Name, NotKept, Operation, OperationId, Outcome, Record, StoreError};

use super::{Body, Receipt, Receipts, Sealing};
use crate::resolver::{Found, ResolveError, Resolver, Sealer};

/// Whether the backend writes a receipt of each operation that has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Written {
    /// It does: somebody says so. What is without one did not happen.
    Required,
    /// It does once one was seen, unless an operation was answered and left none. Until then, and from then on, the lack
    /// of one proves nothing.
    #[default]
    IfSeen,
}

/// Finds out by receipts, and where there is none makes sure that there never will be, if that proves anything
/// ([`Written`]). Its "not found" therefore counts at once.
///
/// It is both: the [`Resolver`] that a runner asks, and the [`Sealer`] of a route; one for each name of operations. A
/// [`ReceiptKeeper`](super::ReceiptKeeper) sees whether their receipts are there.
#[derive(Clone)]
pub struct ReceiptResolver {
    receipts: Arc<dyn Receipts>,
    witness: Arc<Witness>,
}

/// What is known of the backend's habits.
struct Witness {
    name: Name,
    written: Written,
    seen: AtomicBool,
    missed: AtomicBool,
    /// Operations that the backend answered, until somebody looks whether they left a receipt.
    answered: Mutex<Vec<Operation>>,
}

/// Answers that are looked at in one turn. More are not: a habit shows in some.
pub(super) const LOOKED_AT: usize = 128;

impl ReceiptResolver {
    /// For the operations of this name, by the receipts of this database.
    #[must_use]
    pub fn new(receipts: Arc<dyn Receipts>, name: Name, written: Written) -> Self {
        Self {
            receipts,
            witness: Arc::new(Witness {
                name,
                written,
                seen: AtomicBool::new(false),
                missed: AtomicBool::new(false),
                answered: Mutex::default(),
            }),
        }
    }

    /// Why the lack of a receipt proves nothing; `None` if it proves that the operation did not happen.
    fn doubt(&self) -> Option<&'static str> {
        let witness = &self.witness;
        match (
            witness.written,
            witness.seen.load(Relaxed),
            witness.missed.load(Relaxed),
        ) {
            (Written::Required, _, _) | (Written::IfSeen, true, false) => None,
            (Written::IfSeen, _, true) => Some("others of this name were answered and left none"),
            (Written::IfSeen, false, false) => Some("none of this name was seen yet"),
        }
    }

    /// Whose receipts.
    pub(super) fn of(&self) -> &Name {
        &self.witness.name
    }

    /// A receipt of this name was seen.
    pub(super) fn saw(&self) {
        self.witness.seen.store(true, Relaxed);
    }

    /// One was answered and left no receipt. Says whether it is the first.
    pub(super) fn missed(&self) -> bool {
        !self.witness.missed.swap(true, Relaxed)
    }

    /// Operations that were answered since it was last asked.
    pub(super) fn take_answered(&self) -> Vec<Operation> {
        std::mem::take(&mut self.witness.answered.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Resolver for ReceiptResolver {
    fn name(&self) -> &str {
        "receipt"
    }

    fn resolve<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        self.seal(record.operation.id(), record.fence)
    }
}

impl Sealer for ReceiptResolver {
    fn seal(&self, operation: OperationId, fence: Fence) -> BoxFuture<'_, Result<Found, ResolveError>> {
        Box::pin(async move {
            if let Some(doubt) = self.doubt() {
                let found = self.look(operation).await?;
                let saw = format!("no receipt, which proves nothing: {doubt}");
                return Ok(found.unwrap_or(Found::CannotSay { saw }));
            }
            let sealing = self.receipts.seal(operation, fence).await.map_err(cannot)?;
            Ok(match sealing {
                Sealing::Sealed => Found::NotFound {
                    saw: format!("no receipt; sealed up to fence {fence}"),
                },
                Sealing::Committed(receipt) => done(receipt),
                // The record is older than the seal: it was restored, or read a while ago. An amendment is guarded by
                // its fence.
                Sealing::Later(later) => Found::NotFound {
                    saw: format!("no receipt; sealed up to fence {later} already"),
                },
            })
        })
    }

    fn look(&self, operation: OperationId) -> BoxFuture<'_, Result<Option<Found>, ResolveError>> {
        Box::pin(async move {
            let rows = self.receipts.find(&[operation]).await.map_err(cannot)?;
            let receipt = rows.into_iter().find(|row| !row.sealed);
            if receipt.is_some() {
                self.saw();
            }
            Ok(receipt.map(done))
        })
    }

    fn answered(&self, operation: &Operation) {
        let mut answered = self.witness.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() < LOOKED_AT {
            answered.push(operation.clone());
        }
    }
}

fn cannot(error: StoreError) -> ResolveError {
    ResolveError::new("the receipts cannot be asked").caused_by(error)
}

fn done(receipt: Receipt) -> Found {
    let saw = format!("a receipt, committed by fence {}", receipt.fence);
    Found::Done {
        outcome: outcome(receipt),
        saw,
    }
}

/// What a receipt says of the answer.
fn outcome(receipt: Receipt) -> Outcome {
    let Some(status) = receipt.status else {
        // The backend kept none.
        return Outcome::NotKept(NotKept::Expired);
    };
    let (headers, body) = match receipt.body {
        Body::NotRead(_) => return Outcome::NotKept(NotKept::TooLarge),
        Body::None => (Vec::new(), Bytes::new()),
        Body::Bytes(body) => {
            let content_type = receipt.content_type.unwrap_or_else(|| "application/json".to_owned());
            (vec![(Box::from("content-type"), content_type.into())], body)
        }
    };
    Outcome::Answer(Answer { status, headers, body })
}

#[cfg(test)]
mod tests {
    use hapax_core::Timestamp;

    use super::*;

    #[test]
    fn an_answer_is_what_the_backend_stored() {
        let receipt = |status, content_type: Option<&str>, body| Receipt {
            operation: OperationId::from_bytes([1; 16]),
            fence: Fence::new(3),
            sealed: false,
            status,
            content_type: content_type.map(str::to_owned),
            body,
            at: Timestamp::from_millis(0),
            age: std::time::Duration::ZERO,
        };
        let answer = |headers: &[(&str, &'static str)], body: &'static str| {
            let headers = headers
                .iter()
                .map(|(name, value)| (Box::from(*name), Bytes::from_static(value.as_bytes())));
            let headers = headers.collect();
            Outcome::Answer(Answer {
                status: 201,
                headers,
                body: body.into(),
            })
        };
        let body = || Body::Bytes("{}".into());
        let json = answer(&[("content-type", "application/json")], "{}");
        assert_eq!(outcome(receipt(Some(201), None, body())), json);
        let text = answer(&[("content-type", "text/csv")], "{}");
        assert_eq!(outcome(receipt(Some(201), Some("text/csv"), body())), text);
        assert_eq!(outcome(receipt(Some(201), None, Body::None)), answer(&[], ""));
        assert_eq!(
            outcome(receipt(None, None, Body::None)),
            Outcome::NotKept(NotKept::Expired)
        );
        let long = outcome(receipt(Some(201), None, Body::NotRead(9)));
        assert_eq!(long, Outcome::NotKept(NotKept::TooLarge));
    }
}
