//! Routes with a sealer: what failed is not left unknown, and what is unknown is settled by the arrival in hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{
    Amend, Amended, Amendment, Audit, Fence, Finish, Operation, OperationId, Outcome, Refusal, Resolution, State,
    Timestamp,
};
use http::{Response, StatusCode};

use super::problem::{Details, Problem};
use super::reply;
use super::report::Verdict;
use super::route::{Route, SealedBy};
use super::service::Shared;
use crate::event::Event;
use crate::resolver::{Found, Sealer};

/// Who settles, in the audit.
const ACTOR: &str = "receipt";

/// What came of an operation that has happened before its first run, where the store may have lost its record; why that
/// cannot be told, and so nothing runs.
pub(super) async fn happened(sealed: &SealedBy, id: OperationId) -> Result<Option<Outcome>, &'static str> {
    if !sealed.first {
        return Ok(None);
    }
    match sealed.sealer.look(id).await {
        Ok(Some(Found::Done { outcome, .. })) => Ok(Some(outcome)),
        Ok(_) => Ok(None),
        Err(error) => {
            tracing::warn!(operation = %id, "nothing runs while receipts cannot be read: {error}");
            Err("the receipts could not be read")
        }
    }
}

/// The end of a run that failed: done after all if there is a receipt; if not, sealed, and so free to be run again. Where
/// the lack of a receipt proves nothing, it ends as it would without one. If the sealer cannot be asked, it is unknown,
/// even where the answer promised that nothing happened.
pub(super) async fn failed<B: From<Bytes>>(
    sealer: &dyn Sealer,
    (id, fence): (OperationId, Fence),
    route: &Route,
    (finish, response, verdict): (Finish, Response<B>, Verdict),
) -> (Finish, Response<B>, Verdict) {
    let last_error = finish.last_error().cloned();
    match sealer.seal(id, fence).await {
        Ok(Found::Done { outcome, .. }) => {
            let response = recorded(&outcome, route);
            (Finish::Done(outcome), response, Verdict::Done)
        }
        Ok(Found::NotFound { .. }) => {
            let after = match finish {
                Finish::Release { after, .. } => after,
                _ => Duration::ZERO,
            };
            let finish = Finish::Release {
                after,
                counts: false,
                last_error,
            };
            (finish, response, Verdict::Released)
        }
        Ok(Found::CannotSay { saw }) => {
            if let Finish::Unknown { .. } = finish {
                tracing::warn!(operation = %id, "an outcome stays unknown: {saw}");
            }
            (finish, response, verdict)
        }
        Err(error) => {
            tracing::warn!(operation = %id, "an outcome stays unknown for now: {error}");
            (unknown(finish), response, Verdict::Ambiguous)
        }
    }
}

/// What is said of a run that gave no answer, once it is sealed.
pub(super) fn proven_undone<B: From<Bytes>>(route: &Route) -> Response<B> {
    let said = "The service behind gave no whole answer, and it is proven that what was asked did not happen. Send the \
                same request again, with the same key.";
    let details = Details::new(Problem::UpstreamUnavailable, said).retry_after(Duration::from_secs(1));
    details.response(route.profile)
}

/// Whether an answer says that there was an effect, which should have left a receipt.
pub(super) fn happened_by(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

fn unknown(finish: Finish) -> Finish {
    match finish {
        Finish::Release { last_error, .. } => Finish::Unknown {
            answer: None,
            last_error,
        },
        other => other,
    }
}

/// What every arrival of a done operation is answered.
pub(super) fn recorded<B: From<Bytes>>(outcome: &Outcome, route: &Route) -> Response<B> {
    let refusal = Refusal::Done {
        at: Timestamp::from_millis(0),
        outcome: outcome.clone(),
    };
    reply::refused(refusal, None, route.profile).0
}

/// Settles an unknown outcome, if the sealer can tell. `true` if it is worth asking the record again.
pub(super) async fn unknown_outcome(shared: &Arc<Shared>, sealer: &dyn Sealer, operation: &Operation) -> bool {
    let inner = &shared.engine.inner;
    let Ok((now, Some(record))) = shared.engine.store().read(operation.id()).await else {
        return false;
    };
    let record = record.lapsed(now).unwrap_or(record);
    if !matches!(record.state, State::Unknown { .. }) {
        return true;
    }
    let (resolution, saw) = match sealer.seal(operation.id(), record.fence).await {
        Ok(Found::Done { outcome, saw }) => (Resolution::Done(outcome), saw),
        Ok(Found::NotFound { saw }) => (Resolution::NotDone, saw),
        Ok(Found::CannotSay { saw }) => {
            inner.emit(&Event::Unresolved { operation, saw: &saw });
            return false;
        }
        Err(error) => {
            let saw = error.to_string();
            inner.emit(&Event::Unresolved { operation, saw: &saw });
            return false;
        }
    };
    let amendment = Amendment {
        amend: Amend::Resolve {
            resolution,
            // Sealed, nothing of it can arrive any more.
            settle: Duration::ZERO,
        },
        fence: Some(record.fence),
        audit: Audit {
            actor: ACTOR.to_owned(),
            reason: saw,
        },
    };
    match shared.engine.amend(operation, amendment).await {
        Ok(Amended::Became(after)) => {
            let state = after.state.name();
            inner.emit(&Event::Resolved {
                operation,
                by: ACTOR,
                state,
            });
            true
        }
        // Another was faster.
        Ok(_) => true,
        Err(_) => false,
    }
}
