//! One protected request, from its body to its answer.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hapax_core::{Operation, OperationId, RecipeId, Refusal};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tower_service::Service;

use super::admit::{self, Admission, Admitted, Blocked};
use super::body::Body;
use super::failure::Failure;
use super::fingerprint::{Asked, Recipe};
use super::key::{self, IDEMPOTENCY_KEY, KeyError};
use super::limits::Budget;
use super::perform::{self, Told, handle};
use super::problem::{Details, Problem};
use super::reply::{self, HAPAX_STATE};
use super::report::{Report, Verdict};
use super::route::{Route, StoreDown};
use super::scope::ScopeError;
use super::service::Shared;
use super::{later, prefer, settle};
use crate::engine::{Arrival, Reply, RunError};
use crate::failpoint::{self, Failpoint};

/// Any error of a body.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a request's body could not be read: in the extensions of the answer, for whoever knows more of it.
#[derive(Debug, Clone)]
pub struct BodyFailed(pub Arc<dyn Error + Send + Sync>);

/// What a protected request needs.
pub(super) struct Protected<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) route: usize,
    pub(super) inner: S,
    /// Its place among the requests in flight: goes with the run, which may outlive the request.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// What lets it run; `None` where the route sets no conditions.
    pub(super) admitted: Option<Box<Admitted>>,
}

/// A request that was read whole. Boxed, since it goes through many futures.
pub(super) type Whole = Box<(Parts, Bytes)>;

/// A request that is ready to be run, if it may.
struct Ready {
    arrival: Arrival,
    request: Whole,
    admitted: Result<Option<Box<Admitted>>, Box<Blocked>>,
}

/// Why a request was refused before any claim.
enum Early {
    Problem(Details),
    Body(BoxError),
    Store(Whole),
}

impl From<Details> for Early {
    fn from(details: Details) -> Self {
        Self::Problem(details)
    }
}

/// Answers a request of a protected route.
pub(super) async fn protect<S, ReqB, ResB>(mut call: Protected<S>, request: Request<ReqB>) -> Response<Body<ResB>>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: HttpBody<Data = Bytes> + From<Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    let shared = Arc::clone(&call.shared);
    let route = &shared.routes.entry(call.route).route;
    let mut arrived = Instant::now();
    let mut id = None;
    let (mut response, verdict, started) = match prepare(&shared, call.route, request, &mut id, &mut arrived).await {
        Ok(Ready {
            arrival,
            request,
            admitted: Ok(admitted),
        }) => {
            call.admitted = admitted;
            run(call, arrival, request).await
        }
        Ok(Ready {
            arrival,
            request,
            admitted: Err(blocked),
        }) => Box::pin(detour(call, arrival, request, *blocked)).await,
        Err(Early::Problem(details)) => finished(reply::problem(details, route.profile)),
        Err(Early::Body(error)) => finished(body_failed(error, route)),
        Err(Early::Store(request)) if route.when_store_is_down == StoreDown::RunUnprotected => {
            finished(Box::pin(unprotected(call, request)).await)
        }
        Err(Early::Store(_)) => finished(reply::problem(reply::store_down(), route.profile)),
    };
    response.extensions_mut().insert(Report {
        route: Some(route.name.clone()),
        operation: id,
        verdict,
        waited: started.saturating_duration_since(arrived),
    });
    failpoint::hit(Failpoint::BeforeAnswer);
    response
}

pub(super) fn finished<B>((response, verdict): (Response<Body<B>>, Verdict)) -> (Response<Body<B>>, Verdict, Instant) {
    (response, verdict, Instant::now())
}

/// Reads all of the request, up to its limits. Nothing is claimed before this.
async fn prepare<ReqB>(
    shared: &Arc<Shared>,
    index: usize,
    request: Request<ReqB>,
    id: &mut Option<OperationId>,
    arrived: &mut Instant,
) -> Result<Ready, Early>
where
    ReqB: HttpBody<Data = Bytes>,
    ReqB::Error: Into<BoxError>,
{
    let entry = shared.routes.entry(index);
    let route = &entry.route;
    let invalid = |error: KeyError| Details::new(Problem::KeyInvalid, error.to_string());
    let (parts, body) = request.into_parts();
    // The service only sends what has the header.
    let key = key::key(&parts.headers)
        .map_err(invalid)?
        .ok_or_else(|| invalid(KeyError::Empty))?;
    let scope = shared.scope.scope(&parts).map_err(ScopeError::details)?;
    let operation = Operation::new(scope, route.name.clone(), key);
    *id = Some(operation.id());
    let body = read(body, route.request_bytes, &shared.budget).await?;
    *arrived = Instant::now();
    let asked = Arc::new(Asked::new(&parts, body));
    let ask_store = || shared.engine.store().recipe(route.recipe.text());
    let Ok(recipe) = entry.recipe.get_or_try_init(ask_store).await else {
        return Err(Early::Store(Box::new((parts, asked.body().clone()))));
    };
    let arrival = Arrival {
        group: None,
        input: None,
        operation,
        fingerprint: fingerprint(shared, &route.recipe, *recipe, &asked).await,
        refingerprint: refingerprint(shared, &asked),
        options: route.run.clone(),
        wait: prefer::wait(&parts.headers, route.wait, route.max_wait),
    };
    let request = Box::new((parts, asked.body().clone()));
    let admitted = admit::at_once(shared, index, &arrival, &request).map_err(Box::new);
    Ok(Ready {
        arrival,
        request,
        admitted,
    })
}

/// A body up to `limit` bytes, without trailers.
async fn read<B>(body: B, limit: usize, budget: &Budget) -> Result<Bytes, Early>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let too_large = || {
        let detail = format!("The body is larger than {limit} bytes, the limit of this route. Send a smaller one.");
        Details::new(Problem::BodyTooLarge, detail).with("limit", limit)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large().into());
    }
    let mut body = pin!(body);
    let mut held = budget.body();
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| Early::Body(error.into()))?.into_data() {
            Ok(data) if held.len() + data.len() > limit => return Err(too_large().into()),
            Ok(data) => held.push(data)?,
            Err(frame) => {
                if frame
                    .trailers_ref()
                    .is_some_and(|trailers| trailers.contains_key(IDEMPOTENCY_KEY))
                {
                    return Err(Details::new(Problem::KeyInvalid, KeyError::Trailer.to_string()).into());
                }
            }
        }
    }
    Ok(held.bytes())
}

fn body_failed<B>(error: BoxError, route: &Route) -> (Response<Body<B>>, Verdict) {
    let detail =
        format!("The body ended early, and nothing ran ({error}). Send the whole request again, with the same key.");
    let (mut response, verdict) = reply::problem(Details::new(Problem::BodyIncomplete, detail), route.profile);
    response.extensions_mut().insert(BodyFailed(error.into()));
    (response, verdict)
}

async fn fingerprint(
    shared: &Arc<Shared>,
    recipe: &Recipe,
    id: RecipeId,
    asked: &Arc<Asked>,
) -> hapax_core::Fingerprint {
    // So many bytes take longer to digest than other requests should wait.
    const LONG: usize = 256 << 10;
    if asked.body().len() > LONG {
        let (shared, recipe, asked) = (Arc::clone(shared), recipe.clone(), Arc::clone(asked));
        let aside = tokio::task::spawn_blocking(move || shared.fingerprinter.fingerprint(&recipe, id, &asked));
        if let Ok(fingerprint) = aside.await {
            return fingerprint;
        }
    }
    shared.fingerprinter.fingerprint(recipe, id, asked)
}

fn refingerprint(shared: &Arc<Shared>, asked: &Arc<Asked>) -> crate::engine::Refingerprint {
    let (shared, asked) = (Arc::clone(shared), Arc::clone(asked));
    Arc::new(move |text, id| {
        let recipe = Recipe::parse(text)?;
        Some(shared.fingerprinter.fingerprint(&recipe, id, &asked))
    })
}

/// Runs the operation once, or says what the record says.
async fn run<S, ReqB, ResB>(
    call: Protected<S>,
    arrival: Arrival,
    request: Whole,
) -> (Response<Body<ResB>>, Verdict, Instant)
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: From<Bytes> + Send + 'static,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    let shared = Arc::clone(&call.shared);
    let route = &shared.routes.entry(call.route).route;
    #[cfg(feature = "atomic")]
    if route.transactions.is_some() {
        return Box::pin(super::atomic::run(call, arrival, request)).await;
    }
    let spare = (route.when_store_is_down == StoreDown::RunUnprotected)
        .then(|| (request.clone(), call.inner.clone(), Arc::clone(&shared)));
    let index = call.route;
    let reply = match route.sealer.is_some() {
        false => shared.engine.run(arrival, move |run| handle(call, run, request)).await,
        true => Box::pin(run_settling(call, arrival, request)).await,
    };
    match (reply, spare) {
        (Ok(Reply::Ran(told)), _) => {
            if told.verdict == Verdict::Ambiguous {
                admit::wake(&shared, index);
            }
            (told.response, told.verdict, told.started)
        }
        (Ok(Reply::Refused(refusal)), _) => finished(refused(&shared, index, refusal)),
        (Err(RunError::NotClaimed(_)), Some((request, inner, shared))) => {
            let call = Protected {
                shared,
                route: index,
                inner,
                place: None,
                admitted: None,
            };
            finished(Box::pin(unprotected(call, request)).await)
        }
        (Err(error), _) => finished(reply::failed(&error, route.profile)),
    }
}

/// The same on a route with a sealer: an unknown outcome is settled, and asked for again.
async fn run_settling<S, ReqB, ResB>(
    call: Protected<S>,
    arrival: Arrival,
    request: Whole,
) -> Result<Reply<Box<Told<ResB>>>, RunError>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: From<Bytes> + Send + 'static,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    let shared = Arc::clone(&call.shared);
    let again = Box::new(Again::new(&call, &arrival, &request));
    let reply = shared.engine.run(arrival, move |run| handle(call, run, request)).await;
    if matches!(reply, Ok(Reply::Refused(Refusal::Unknown { .. })))
        && let Some(settled) = again.settled().await
    {
        return settled;
    }
    reply
}

/// An arrival that may be asked for a second time, once its unknown outcome is settled.
struct Again<S> {
    shared: Arc<Shared>,
    route: usize,
    inner: S,
    arrival: Arrival,
    request: Whole,
}

impl<S: Clone> Again<S> {
    fn new(call: &Protected<S>, arrival: &Arrival, request: &Whole) -> Self {
        Self {
            shared: Arc::clone(&call.shared),
            route: call.route,
            inner: call.inner.clone(),
            arrival: Arrival {
                group: None,
                input: None,
                operation: arrival.operation.clone(),
                fingerprint: arrival.fingerprint,
                refingerprint: Arc::clone(&arrival.refingerprint),
                options: arrival.options.clone(),
                wait: arrival.wait,
            },
            request: request.clone(),
        }
    }

    /// The reply once it is known what became of the last attempt; `None` if that cannot be told.
    async fn settled<ReqB, ResB>(self: Box<Self>) -> Option<Result<Reply<Box<Told<ResB>>>, RunError>>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Failure + Send + 'static,
        ReqB: From<Bytes> + Send + 'static,
        ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        ResB::Error: Send,
    {
        let sealed = self.shared.routes.entry(self.route).route.sealer.as_ref()?;
        if !settle::unknown_outcome(&self.shared, sealed.sealer.as_ref(), &self.arrival.operation).await {
            return None;
        }
        let Self {
            shared,
            route,
            inner,
            arrival,
            request,
        } = *self;
        let call = Protected {
            shared: Arc::clone(&shared),
            route,
            inner,
            place: None,
            admitted: None,
        };
        Some(shared.engine.run(arrival, move |run| handle(call, run, request)).await)
    }
}

/// What is not simply run: what is to be stored, and what may be kept from running.
async fn detour<S, ReqB, ResB>(
    mut call: Protected<S>,
    arrival: Arrival,
    request: Whole,
    blocked: Blocked,
) -> (Response<Body<ResB>>, Verdict, Instant)
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: From<Bytes> + Send + 'static,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    let shared = Arc::clone(&call.shared);
    let route = &shared.routes.entry(call.route).route;
    if matches!(blocked, Blocked::Later) {
        return finished(later::accept(&shared, call.route, arrival, &request.0, &request.1).await);
    }
    match admit::behind(&shared, call.route, &arrival, blocked).await {
        Admission::Go(admitted) => {
            call.admitted = admitted;
            run(call, arrival, request).await
        }
        Admission::Duplicate(refusal) => finished(refused(&shared, call.route, refusal)),
        Admission::Refused(details, verdict) => finished((details.response(route.profile), verdict)),
        Admission::StoreDown if route.when_store_is_down == StoreDown::RunUnprotected => {
            finished(unprotected(call, request).await)
        }
        Admission::StoreDown => finished(reply::problem(reply::store_down(), route.profile)),
    }
}

/// What a duplicate is told.
pub(super) fn refused<B: From<Bytes>>(shared: &Arc<Shared>, route: usize, refusal: Refusal) -> (Response<B>, Verdict) {
    if matches!(refusal, Refusal::Unknown { .. }) {
        admit::wake(shared, route);
    }
    let profile = shared.routes.entry(route).route.profile;
    reply::refused(refusal, shared.engine.store_time(), profile)
}

/// Runs a request without a record, since the route says so.
async fn unprotected<S, ReqB, ResB>(mut call: Protected<S>, request: Whole) -> (Response<Body<ResB>>, Verdict)
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes>,
{
    let profile = call.shared.routes.entry(call.route).route.profile;
    let mut response = match perform::ask(&mut call.inner, || perform::request_of(request)).await {
        Ok(response) => response.map(Body::passed),
        Err(fault) => fault.proof.details().response(profile),
    };
    response
        .headers_mut()
        .insert(HAPAX_STATE, HeaderValue::from_static("unprotected"));
    (response, Verdict::Unprotected)
}

#[cfg(test)]
mod tests {
    use std::future::Ready;

    use http_body_util::Full;

    use super::*;

    type Passing = Full<Bytes>;

    #[derive(Clone)]
    struct Inner;

    impl Service<Request<Passing>> for Inner {
        type Response = Response<Passing>;
        type Error = BoxError;
        type Future = Ready<Result<Response<Passing>, BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            unreachable!("only its size matters")
        }

        fn call(&mut self, _: Request<Passing>) -> Self::Future {
            unreachable!("only its size matters")
        }
    }

    /// Each request's futures are written to memory that no other has just used.
    #[test]
    fn futures_stay_small() {
        fn protecting<A, B, F>(_: fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        fn handling<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let sizes = (
            protecting(protect::<Inner, Passing, Passing>),
            handling(handle::<Inner, Passing, Passing>),
        );
        assert!(sizes.0 <= 1_800 && sizes.1 <= 1_150, "{sizes:?} bytes");
    }
}
