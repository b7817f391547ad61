//! What receipts say of an operation whose outcome is not known.

use std::sync::Arc;

use bytes::Bytes;
use hapax_core::{Answer, BoxFuture, Fence, NotKept, OperationId, Outcome, Record, StoreError};

use super::{Body, Receipt, Receipts, Sealing};
use crate::resolver::{Found, ResolveError, Resolver, Sealer};

/// Finds out by receipts, and where there is none makes sure that there never will be. Its "not found" therefore counts
/// at once.
///
/// It is both: the [`Resolver`] that a runner asks, and the [`Sealer`] of a route.
#[derive(Clone)]
pub struct ReceiptResolver(Arc<dyn Receipts>);

impl ReceiptResolver {
    /// By the receipts of this database.
    #[must_use]
    pub fn new(receipts: Arc<dyn Receipts>) -> Self {
        Self(receipts)
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
            let sealing = self.0.seal(operation, fence).await.map_err(cannot)?;
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
            let rows = self.0.find(&[operation]).await.map_err(cannot)?;
            Ok(rows.into_iter().find(|row| !row.sealed).map(done))
        })
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
