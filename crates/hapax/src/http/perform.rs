//! One run: what the inner service answered, and what that proves. The same for a caller's request and for a runner's.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use hapax_core::policy::{FailureClass, Health, Next};
use hapax_core::{AfterFailure, Answer, Finish, LastError, NotKept, OperationId, Outcome, Timestamp};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::admit;
use super::answer::{self, Captured};
use super::body::Body;
use super::failure::{Failure, Meaning, Proof};
use super::key::IDEMPOTENCY_KEY;
use super::protect::{Protected, Whole};
use super::report::Verdict;
use super::route::{Route, SealedBy};
use super::service::{Shared, strip};
use super::settle;
use crate::engine::{Ended, Run};
use crate::failpoint::{self, Failpoint};
use crate::retry::{Destination, Permit, timed_out};

/// The operation's identity, for the inner service.
pub const HAPAX_OPERATION: HeaderName = HeaderName::from_static("hapax-operation");
/// The fence of the run, in decimal, for the inner service.
pub const HAPAX_FENCE: HeaderName = HeaderName::from_static("hapax-fence");

/// What a run told its caller.
pub(super) struct Told<B> {
    pub(super) response: Response<Body<B>>,
    pub(super) verdict: Verdict,
    pub(super) started: Instant,
    /// Without an answer of the inner service: what that proves.
    pub(super) failed: Option<Proof>,
}

/// What a run came to.
pub(super) enum Came<B> {
    /// It happened.
    Done(Outcome, Response<Body<B>>),
    /// It did not happen; it may be asked for again after this time.
    NoEffect(Duration, Response<Body<B>>),
    /// It may have happened. The answer is there if it can be kept.
    Ambiguous(Option<Answer>, Duration, Response<Body<B>>),
    /// There was no answer.
    Failed(Fault),
}

/// Why there was no answer.
pub(super) struct Fault {
    pub(super) proof: Proof,
    /// What is kept of it.
    pub(super) last_error: Option<LastError>,
    /// When to ask again.
    retry_after: Option<Duration>,
}

impl Fault {
    fn new(proof: Proof, last_error: &str) -> Self {
        Self {
            proof,
            last_error: Some(LastError::new(last_error)),
            retry_after: None,
        }
    }
}

impl<E: Failure> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::new(error.proof(), &error.last_error())
    }
}

/// A caller's run.
pub(super) fn handle<S, ReqB, ResB>(
    call: Protected<S>,
    run: Run,
    request: Whole,
) -> impl Future<Output = Ended<Box<Told<ResB>>>>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    match call.shared.routes.entry(call.route).route.sealer.is_some() {
        false => Either::Left(perform(call, run, request)),
        true => Either::Right(Box::pin(sealed(call, run, request))),
    }
}

async fn perform<S, ReqB, ResB>(call: Protected<S>, run: Run, mut request: Whole) -> Ended<Box<Told<ResB>>>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let Protected {
        shared,
        route,
        mut inner,
        place: _place,
        mut admitted,
    } = call;
    let route = &shared.routes.entry(route).route;
    failpoint::hit(Failpoint::BeforeUpstream);
    announce(&mut request.0, run);
    if let Some(place) = admitted.as_deref_mut().and_then(|admitted| admitted.place.as_mut()) {
        place.used();
    }
    let mut permit = None;
    let answered = match &route.retry {
        None => ask(&mut inner, || request_of(request)).await,
        Some(destination) => {
            let allowed = admitted.as_deref_mut().and_then(|admitted| admitted.permit.take());
            Box::pin(insist(inner, destination, allowed, request, &mut permit)).await
        }
    };
    failpoint::hit(Failpoint::AfterUpstream);
    let came = judge(answered, route, &shared).await;
    if let Some(permit) = permit {
        permit.report(came.health(route));
    }
    let failed = match &came {
        Came::Failed(fault) => Some(fault.proof),
        _ => None,
    };
    let (finish, response, verdict) = came.end(route);
    let told = Told {
        response,
        verdict,
        started,
        failed,
    };
    Ended {
        finish,
        reply: Box::new(told),
    }
}

/// A caller's run of a route with a sealer.
async fn sealed<S, ReqB, ResB>(call: Protected<S>, run: Run, request: Whole) -> Ended<Box<Told<ResB>>>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    let shared = Arc::clone(&call.shared);
    let route = &shared.routes.entry(call.route).route;
    let (operation, attempt) = (run.operation.clone(), (run.operation.id(), run.fence));
    let Some(sealed) = &route.sealer else {
        return perform(call, run, request).await;
    };
    if let Some(ended) = happened(sealed, attempt.0, route).await {
        return ended;
    }
    let Ended {
        mut finish,
        reply: mut told,
    } = perform(call, run, request).await;
    if matches!(finish, Finish::Done(_)) {
        if settle::happened_by(told.response.status()) {
            sealed.sealer.answered(&operation);
        } else if let Ok(Some(outcome)) = settle::happened(sealed, attempt.0).await {
            // Refused, since an attempt of the lost past has committed meanwhile.
            told.response = settle::recorded(&outcome, route);
            finish = Finish::Done(outcome);
        }
    }
    if told.failed == Some(Proof::Unsent) || matches!(finish, Finish::Done(_)) {
        return Ended { finish, reply: told };
    }
    let end = (finish, told.response, told.verdict);
    let (finish, response, verdict) = settle::failed(sealed.sealer.as_ref(), attempt, route, end).await;
    told.response = match (told.failed, verdict) {
        (Some(_), Verdict::Released) => settle::proven_undone(route),
        _ => response,
    };
    told.verdict = verdict;
    Ended { finish, reply: told }
}

/// The end of a run that need not be: it happened already, and the store has lost its record. If the sealer cannot be
/// asked, nothing runs.
async fn happened<B: HttpBody<Data = Bytes>>(
    sealed: &SealedBy,
    id: OperationId,
    route: &Route,
) -> Option<Ended<Box<Told<B>>>> {
    let started = Instant::now();
    let (finish, response, verdict) = match settle::happened(sealed, id).await {
        Ok(Some(outcome)) => {
            let response = settle::recorded(&outcome, route);
            (Finish::Done(outcome), response, Verdict::Replayed)
        }
        Ok(None) => return None,
        Err(error) => Came::Failed(Fault::new(Proof::Unsent, error)).end(route),
    };
    let reply = Box::new(Told {
        response,
        verdict,
        started,
        failed: None,
    });
    Some(Ended { finish, reply })
}

/// Asks the inner service. The request is made once that is ready.
pub(super) async fn ask<S, ReqB, ResB>(
    inner: &mut S,
    request: impl FnOnce() -> Request<ReqB>,
) -> Result<Response<ResB>, Fault>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
{
    // A service that is not ready was not asked.
    if let Err(error) = poll_fn(|cx| inner.poll_ready(cx)).await {
        return Err(Fault::new(Proof::Unsent, &error.last_error()));
    }
    let mut response = inner.call(request()).await?;
    strip(response.headers_mut());
    Ok(response)
}

/// Asks by the destination's policy: again, as long as provably nothing was sent. What the last try says of the
/// destination is still to be reported by the permit that is left.
async fn insist<S, ReqB, ResB>(
    mut inner: S,
    destination: &Destination,
    allowed: Option<Permit>,
    request: Whole,
    left: &mut Option<Permit>,
) -> Result<Response<ResB>, Fault>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
    ReqB: From<Bytes>,
{
    // One that waited for a run in progress comes without leave.
    let mut permit = match allowed.map_or_else(|| destination.admit_either(), Ok) {
        Ok(permit) => permit,
        Err(refused) => {
            return Err(Fault {
                proof: Proof::Unsent,
                last_error: None,
                retry_after: Some(admit::retry_after(refused)),
            });
        }
    };
    // A first try is never refused.
    let _ = destination.spend(false);
    let (policy, started, mut tries) = (destination.policy(), Instant::now(), 0);
    let limits = &policy.limits;
    loop {
        tries += 1;
        let time = limits.per_try.min(limits.total.saturating_sub(started.elapsed()));
        let fault = match timeout(time, ask(&mut inner, || request_of(request.clone()))).await {
            Ok(Ok(response)) => {
                *left = Some(permit);
                return Ok(response);
            }
            Ok(Err(fault)) => fault,
            Err(_) => {
                // Cut short by the total time, it does not show that the destination is slow.
                *left = (time == limits.per_try).then_some(permit);
                return Err(Fault::new(Proof::TimedOut, &timed_out(time)));
            }
        };
        let elapsed = started.elapsed();
        let next = match fault.proof {
            Proof::Unsent => policy.after_failure(FailureClass::Unsent, tries, elapsed, None, destination.random()),
            Proof::TimedOut | Proof::Reset => {
                *left = Some(permit);
                return Err(fault);
            }
        };
        permit.report(Health::Failure);
        match next {
            Next::Retry { after } if elapsed + after < limits.total => sleep(after).await,
            _ => return Err(fault),
        }
        permit = match destination.admit_retry() {
            Ok(permit) => permit,
            Err(_) => return Err(fault),
        };
    }
}

/// What an answer means. The caller gets it as it is.
pub(super) async fn judge<B>(answered: Result<Response<B>, Fault>, route: &Route, shared: &Shared) -> Came<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let (parts, body) = match answered {
        Ok(response) => response.into_parts(),
        Err(fault) => return Came::Failed(fault),
    };
    // The claim taught the engine the store's time.
    let now = shared.engine.store_time().unwrap_or(Timestamp::from_millis(0));
    let meaning = route.statuses.meaning(parts.status, &parts.headers, now);
    if let Meaning::NoEffect { after } = meaning {
        // Nothing of it is kept, so that it need not be whole.
        return Came::NoEffect(after, Response::from_parts(parts, Body::passed(body)));
    }
    let (kept, body) = match answer::capture(&parts.headers, body, route.capture).await {
        Captured::Whole(data, trailers) => {
            let kept = answer::stored(parts.status, &parts.headers, &route.headers, data.clone());
            // Headers count too: what a record takes is bounded.
            let kept = (kept.size() <= route.capture.bytes.saturating_add(MAX_HEADER_BYTES)).then_some(kept);
            (kept, Body::captured(data, trailers))
        }
        Captured::Stream(start, rest) => (None, Body::streamed(start, rest)),
        Captured::Broken(_) => return Came::Failed(Fault::new(Proof::Reset, "the answer broke off")),
    };
    let response = Response::from_parts(parts, body);
    match meaning {
        Meaning::Ambiguous { after } => Came::Ambiguous(kept, after, response),
        Meaning::Final | Meaning::NoEffect { .. } => {
            let outcome = kept.map_or(Outcome::NotKept(NotKept::TooLarge), Outcome::Answer);
            Came::Done(outcome, response)
        }
    }
}

/// The most that stored headers take beside the body.
const MAX_HEADER_BYTES: usize = 64 << 10;

impl<B: HttpBody<Data = Bytes>> Came<B> {
    /// What it says of the inner service: a 503 that proves no effect is a failure, a 401 or 429 is not.
    fn health(&self, route: &Route) -> Health {
        let response = match self {
            Self::Done(_, response) | Self::NoEffect(_, response) | Self::Ambiguous(_, _, response) => response,
            Self::Failed(_) => return Health::Failure,
        };
        let status = response.status();
        match (200..500).contains(&status.as_u16()) || route.statuses.finals.contains(&status) {
            true => Health::Success,
            false => Health::Failure,
        }
    }

    /// What it means for the record of a caller's run, and what the caller gets.
    fn end(self, route: &Route) -> (Finish, Response<Body<B>>, Verdict) {
        match self {
            Self::Done(outcome, response) => (Finish::Done(outcome), response, Verdict::Done),
            Self::NoEffect(after, response) => {
                let finish = released(after, Some(status_error(&response)));
                (finish, response, Verdict::Released)
            }
            Self::Ambiguous(answer, after, response) => {
                let finish = ambiguous(route, answer, after, Some(status_error(&response)));
                (finish, response, Verdict::Ambiguous)
            }
            Self::Failed(fault) => {
                let mut details = fault.proof.details();
                if let Some(after) = fault.retry_after {
                    details = details.retry_after(after);
                }
                let (finish, verdict) = match fault.proof {
                    Proof::Unsent => (released(Duration::ZERO, fault.last_error), Verdict::Released),
                    Proof::TimedOut | Proof::Reset => {
                        let finish = ambiguous(route, None, Duration::ZERO, fault.last_error);
                        (finish, Verdict::Ambiguous)
                    }
                };
                (finish, details.response(route.profile), verdict)
            }
        }
    }
}

pub(super) fn released(after: Duration, last_error: Option<LastError>) -> Finish {
    Finish::Release {
        after,
        counts: false,
        last_error,
    }
}

fn ambiguous(route: &Route, answer: Option<Answer>, after: Duration, last_error: Option<LastError>) -> Finish {
    match route.run.after_failure {
        AfterFailure::Hold => Finish::Unknown { answer, last_error },
        AfterFailure::Retry => Finish::Release {
            after,
            counts: true,
            last_error,
        },
    }
}

/// What is kept of an answer that is a failure.
pub(super) fn status_error<B>(response: &Response<B>) -> LastError {
    LastError::new(&format!("status {}", response.status().as_u16()))
}

/// The request again, its body in memory: with a length, and neither chunks nor trailers.
pub(super) fn request_of<B: From<Bytes>>(request: Whole) -> Request<B> {
    let (mut parts, body) = *request;
    if parts.headers.remove(TRANSFER_ENCODING).is_some() {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    parts.headers.remove(TRAILER);
    // The same key sent twice is one.
    if parts.headers.get_all(IDEMPOTENCY_KEY).iter().nth(1).is_some()
        && let Some(key) = parts.headers.get(IDEMPOTENCY_KEY).cloned()
    {
        parts.headers.insert(IDEMPOTENCY_KEY, key);
    }
    Request::from_parts(parts, B::from(body))
}

/// Tells the inner service which run it is: in headers, and the [`Run`] itself in the extensions.
pub(super) fn announce(parts: &mut Parts, run: Run) {
    // Hexadecimal digits are a header value.
    if let Ok(id) = HeaderValue::from_maybe_shared(Bytes::from(run.operation.id().to_string())) {
        parts.headers.insert(HAPAX_OPERATION, id);
    }
    parts.headers.insert(HAPAX_FENCE, run.fence.get().into());
    parts.extensions.insert(run);
}
