//! `Prefer: respond-async`: a request is stored and answered with 202; a runner runs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax_core::{Name, Operation, Refusal};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::problem::whole_seconds;
use super::quota::{Hit, Place};
use super::report::Verdict;
use super::service::Shared;
use super::{admit, percent, reply, seal, status, stored};
use crate::engine::Arrival;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Stores the request, unless it was asked for before: then says what the record says. A store that is down refuses
/// it, whatever the route says of others: what may be stored must not run beside that.
pub(super) async fn accept<B: From<Bytes>>(
    shared: &Arc<Shared>,
    route: usize,
    arrival: Arrival,
    parts: &Parts,
    body: &Bytes,
) -> (Response<B>, Verdict) {
    let entry = shared.routes.entry(route);
    let profile = entry.route.profile;
    let mut place = match admit::in_quota(shared, route, arrival.operation.scope()) {
        Ok(place) => place,
        Err(hit) => match beyond(shared, route, &arrival, hit).await {
            Ok(place) => Some(place),
            Err(answer) => return answer,
        },
    };
    let operation = arrival.operation.clone();
    let request = stored::encode(parts, body);
    let Ok(input) = seal::close(entry.route.seal.as_ref(), &request, operation.id()) else {
        // For want of random bytes; no claim could be made either.
        return reply::problem(reply::store_down(), profile);
    };
    match shared.engine.enqueue(arrival, input, Duration::ZERO).await {
        Ok(enqueued) => match enqueued.refusal {
            Some(refusal) => told(shared, route, &operation, refusal),
            None => {
                if let Some(place) = &mut place {
                    place.used();
                }
                accepted(shared, &operation, SOON)
            }
        },
        Err(_) => reply::problem(reply::store_down(), profile),
    }
}

/// What becomes of a request that its quota would refuse: a place if that was a mistake, else the answer.
async fn beyond<B: From<Bytes>>(
    shared: &Arc<Shared>,
    route: usize,
    arrival: &Arrival,
    hit: Hit,
) -> Result<Place, (Response<B>, Verdict)> {
    let profile = shared.routes.entry(route).route.profile;
    let store_down = || Err(reply::problem(reply::store_down(), profile));
    let refused = |hit: Hit| (hit.details().response(profile), Verdict::OverQuota(hit.limit));
    let operation = &arrival.operation;
    match shared.engine.peek(arrival).await {
        Ok(None) => {}
        Ok(Some(refusal)) => return Err(told(shared, route, operation, refusal)),
        Err(_) => return store_down(),
    }
    match shared.engine.store().read(operation.id()).await {
        // It is due: an arrival would run it, and a runner is about to.
        Ok((_, Some(record))) if record.input.is_some() => Err(accepted(shared, operation, SOON)),
        Ok((_, Some(_))) => admit::despite(shared, route, arrival, hit).map_err(refused),
        Ok((_, None)) => Err(refused(hit)),
        Err(_) => store_down(),
    }
}

/// There may be news at any moment.
const SOON: Duration = Duration::from_secs(1);

/// What one that asks again is told: as long as it is not done, the same as the first time.
fn told<B: From<Bytes>>(
    shared: &Arc<Shared>,
    route: usize,
    operation: &Operation,
    refusal: Refusal,
) -> (Response<B>, Verdict) {
    let now = shared.engine.store_time();
    match refusal {
        Refusal::InProgress { .. } | Refusal::AttemptOver => accepted(shared, operation, SOON),
        Refusal::Later { due } => accepted(shared, operation, now.map_or(SOON, |now| due.since(now))),
        refusal => {
            if matches!(refusal, Refusal::Unknown { .. }) {
                admit::wake(shared, route);
            }
            reply::refused(refusal, now, shared.routes.entry(route).route.profile)
        }
    }
}

fn accepted<B: From<Bytes>>(shared: &Shared, operation: &Operation, after: Duration) -> (Response<B>, Verdict) {
    let location = location(operation, shared.routes.default_name());
    let seconds = whole_seconds(after);
    let body = json!({
        "key": operation.key().as_str(), "name": operation.name().as_str(), "operation": location, "retry_after": seconds,
    });
    let mut response = Response::new(B::from(body.to_string().into()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    // Percent-encoded, it is a header value.
    if let Ok(location) = HeaderValue::from_maybe_shared(Bytes::from(location)) {
        headers.insert(LOCATION, location);
    }
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(RETRY_AFTER, seconds.into());
    (response, Verdict::Accepted)
}

/// Where its status is told.
fn location(operation: &Operation, default: Option<&Name>) -> String {
    let key = percent::encode(operation.key().as_str());
    let mut location = format!("{}{key}", status::PREFIX);
    if default != Some(operation.name()) {
        location.push_str("?name=");
        location.push_str(&percent::encode(operation.name().as_str()));
    }
    location
}
