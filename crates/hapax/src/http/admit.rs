//! What must hold before an operation is run: the breaker lets it through, and its scope is within its quota.
//!
//! Neither refuses a duplicate. The usual case costs two short locks and asks no store; only where something would be
//! refused is it found out whether the operation would run at all.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::policy::BreakerState;
use hapax_core::{Refusal, Scope};

use super::prefer;
use super::problem::{Details, Problem};
use super::protect::Whole;
use super::quota::{Hit, Place};
use super::report::Verdict;
use super::service::Shared;
use crate::engine::Arrival;
use crate::retry::{Destination, NotAdmitted, Permit};

/// What a request that may run holds. Dropped unused by a duplicate.
#[derive(Default)]
pub(super) struct Admitted {
    pub(super) permit: Option<Permit>,
    pub(super) place: Option<Place>,
}

/// Why an operation is not simply run.
pub(super) enum Blocked {
    /// It is to be stored, and run later.
    Later,
    Quota(Hit),
    /// What it holds of its quota.
    Breaker(Option<Place>),
}

/// What becomes of a request that something may keep from running.
pub(super) enum Admission {
    /// It goes on; a duplicate waits for a run in progress.
    Go(Option<Box<Admitted>>),
    /// It is a duplicate.
    Duplicate(Refusal),
    /// It would run, and may not.
    Refused(Details, Verdict),
    /// Nobody can say whether it would run.
    StoreDown,
}

/// Admits a request without asking the store, as long as nothing is wrong. `None` where nothing is configured.
pub(super) fn at_once(
    shared: &Shared,
    route: usize,
    arrival: &Arrival,
    request: &Whole,
) -> Result<Option<Box<Admitted>>, Blocked> {
    let (entry, scope) = (shared.routes.entry(route), arrival.operation.scope());
    if entry.route.respond_async && prefer::respond_async(&request.0.headers) {
        return Err(Blocked::Later);
    }
    let place = in_quota(shared, route, scope).map_err(Blocked::Quota)?;
    let Some(destination) = &entry.route.retry else {
        return Ok(place.map(|place| {
            Box::new(Admitted {
                permit: None,
                place: Some(place),
            })
        }));
    };
    // While it ramps or probes, a duplicate must not take what is there for a run.
    let permit = match destination.state() {
        BreakerState::Closed => destination.admit_either().ok(),
        _ => None,
    };
    match permit {
        Some(_) => Ok(Some(Box::new(Admitted { permit, place }))),
        None => Err(Blocked::Breaker(place)),
    }
}

/// A place within the quota of its scope, if there is one.
pub(super) fn in_quota(shared: &Shared, route: usize, scope: &Scope) -> Result<Option<Place>, Hit> {
    let quotas = shared.routes.entry(route).quotas.as_ref();
    quotas.map(|quotas| quotas.enter(scope, &shared.engine)).transpose()
}

/// Finds out whether a blocked request would run, and whether it may all the same.
pub(super) async fn behind(shared: &Shared, route: usize, arrival: &Arrival, blocked: Blocked) -> Admission {
    let entry = shared.routes.entry(route);
    match shared.engine.peek(arrival).await {
        Err(_) => return Admission::StoreDown,
        // It waits for the run in progress, and is admitted once it is its turn; but not where its scope has too many
        // that wait.
        Ok(Some(Refusal::InProgress { .. })) if matches!(blocked, Blocked::Breaker(_)) => {
            return Admission::Go(None);
        }
        Ok(Some(refusal)) => return Admission::Duplicate(refusal),
        Ok(None) => {}
    }
    let place = match blocked {
        Blocked::Later => None,
        Blocked::Breaker(place) => place,
        Blocked::Quota(hit) => match known(shared, route, arrival, hit).await {
            Ok(place) => Some(place),
            Err(hit) => return Admission::Refused(hit.details(), Verdict::OverQuota(hit.limit)),
        },
    };
    let permit = match entry.route.retry.as_ref().map(Destination::admit_either) {
        None => None,
        Some(Ok(permit)) => Some(permit),
        Some(Err(refused)) => return Admission::Refused(unavailable(refused), Verdict::BreakerOpen),
    };
    Admission::Go(Some(Box::new(Admitted { permit, place })))
}

/// A place for an operation that has its record, and so adds none.
async fn known(shared: &Shared, route: usize, arrival: &Arrival, hit: Hit) -> Result<Place, Hit> {
    match shared.engine.store().read(arrival.operation.id()).await {
        Ok((_, Some(_))) => despite(shared, route, arrival, hit),
        _ => Err(hit),
    }
}

/// A place for an operation that has its record, if that is all that was missing.
pub(super) fn despite(shared: &Shared, route: usize, arrival: &Arrival, hit: Hit) -> Result<Place, Hit> {
    let quotas = shared.routes.entry(route).quotas.as_ref();
    let quotas = quotas.filter(|_| hit.is_records()).ok_or(hit)?;
    quotas.enter_known(arrival.operation.scope())
}

/// When to ask again while the breaker says no.
pub(super) fn retry_after(refused: NotAdmitted) -> Duration {
    match refused {
        NotAdmitted::Open { retry_after } => retry_after,
        // Only asked for retries.
        NotAdmitted::BudgetSpent => Duration::from_secs(1),
    }
}

fn unavailable(refused: NotAdmitted) -> Details {
    Details::new(
        Problem::UpstreamUnavailable,
        "The service behind fails too often and is left alone for a while, and nothing ran. Send the same request again \
         later, with the same key.",
    )
    .retry_after(retry_after(refused))
}

/// Wakes the runner of this process for an outcome that is unknown, where somebody can be asked.
pub(super) fn wake(shared: &Arc<Shared>, route: usize) {
    if shared.routes.entry(route).route.run.attended {
        shared.engine.inner.alarm.set(Duration::ZERO);
    }
}
