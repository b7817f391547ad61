//! The service: sorts requests into those that pass through and those that are protected.
//!
//! A request passes through untouched, without buffering and without allocation, if its method is not the route's, or
//! it has no key and the route requires none. Only its `Hapax-*` headers, and those of its answer, are stripped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, TRAILER};
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tower_service::Service;

use super::body::Body;
use super::failure::Failure;
use super::fingerprint::Fingerprinter;
use super::key::{self, IDEMPOTENCY_KEY, KeyError, UNDERSCORED};
use super::limits::Budget;
use super::problem::{Details, Problem};
use super::profile::Profile;
use super::protect::{self, BoxError, Protected};
use super::report::{Report, Verdict};
use super::route::Routes;
use super::scope::ScopeExtractor;
use super::{reply, status};
use crate::engine::Engine;

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) scope: Box<dyn ScopeExtractor>,
    pub(super) routes: Routes,
    pub(super) fingerprinter: Fingerprinter,
    pub(super) budget: Budget,
}

/// A service whose operations happen once. Made by [`Idempotency`](super::Idempotency).
#[derive(Clone)]
pub struct IdempotencyService<S> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared>,
}

impl<S> IdempotencyService<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

/// Where a request goes.
enum Way<'a> {
    Pass,
    /// To the route of this index.
    Protect(usize, OwnedSemaphorePermit),
    Status,
    Refuse(Details, Profile, Option<&'a super::Route>),
}

impl Shared {
    fn way<B>(&self, request: &Request<B>) -> Way<'_> {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let route = self.routes.find(method, path);
        if (headers.contains_key(CONNECTION) || headers.contains_key(TRAILER))
            && let Err(error) = key::check_head(headers, self.scope.header())
        {
            let route = route.map(|index| &self.routes.entry(index).route);
            let profile = route.map_or(self.routes.profile(), |route| route.profile);
            return Way::Refuse(Details::new(Problem::KeyInvalid, error.to_string()), profile, route);
        }
        let Some(index) = route else {
            return match status::asked(method, path) {
                Some(_) => Way::Status,
                None => Way::Pass,
            };
        };
        let route = &self.routes.entry(index).route;
        if headers.contains_key(UNDERSCORED) {
            let details = Details::new(Problem::KeyInvalid, KeyError::Underscore.to_string());
            return Way::Refuse(details, route.profile, Some(route));
        }
        match headers.contains_key(IDEMPOTENCY_KEY) {
            true => match self.budget.enter() {
                Ok(place) => Way::Protect(index, place),
                Err(details) => Way::Refuse(details, route.profile, Some(route)),
            },
            false if route.required => {
                let detail = "This route requires an Idempotency-Key header. Send one that is unique to the operation, \
                              such as a UUID, and the same one with every retry.";
                Way::Refuse(Details::new(Problem::KeyMissing, detail), route.profile, Some(route))
            }
            false => Way::Pass,
        }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for IdempotencyService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    ReqB: HttpBody<Data = Bytes> + From<Bytes> + Send + 'static,
    ReqB::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    ResB::Error: Send,
{
    type Response = Response<Body<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let way = match self.shared.way(&request) {
            Way::Pass => {
                strip(request.headers_mut());
                Answering::Passed {
                    future: self.inner.call(request),
                }
            }
            Way::Protect(route, place) => {
                strip(request.headers_mut());
                let call = Protected {
                    shared: Arc::clone(&self.shared),
                    route,
                    // The slot that `poll_ready` reserved stays with `self`: a duplicate that waits must not hold one.
                    inner: self.inner.clone(),
                    place: Some(place),
                    admitted: None,
                };
                Answering::Boxed {
                    future: Box::pin(protect::protect(call, request)),
                }
            }
            Way::Status => {
                let shared = Arc::clone(&self.shared);
                let (parts, _) = request.into_parts();
                let future = Box::pin(async move {
                    let (response, verdict) = status::answer(&shared, &parts).await;
                    reported(response, verdict, None)
                });
                Answering::Boxed { future }
            }
            Way::Refuse(details, profile, route) => {
                let (response, verdict) = reply::problem(details, profile);
                let response = Some(reported(response, verdict, route));
                Answering::Ready { response }
            }
        };
        ResponseFuture { way }
    }
}

fn reported<B>(mut response: Response<B>, verdict: Verdict, route: Option<&super::Route>) -> Response<B> {
    response.extensions_mut().insert(Report {
        route: route.map(|route| route.name.clone()),
        operation: None,
        verdict,
        waited: std::time::Duration::ZERO,
    });
    response
}

pin_project! {
    /// The answer on its way.
    pub struct ResponseFuture<F, B> {
        #[pin]
        way: Answering<F, B>,
    }
}

type Boxed<B> = Pin<Box<dyn Future<Output = Response<Body<B>>> + Send>>;

pin_project! {
    #[project = Projected]
    enum Answering<F, B> {
        // The inner service's answer, untouched.
        Passed { #[pin] future: F },
        // A protected one.
        Boxed { future: Boxed<B> },
        // One that is known at once; `None` once it is taken.
        Ready { response: Option<Response<Body<B>>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().way.project() {
            Projected::Passed { future } => {
                let mut response = ready!(future.poll(cx))?;
                strip(response.headers_mut());
                Poll::Ready(Ok(response.map(Body::passed)))
            }
            Projected::Boxed { future } => future.as_mut().poll(cx).map(Ok),
            Projected::Ready { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => Poll::Pending,
            },
        }
    }
}

/// Removes `Hapax-*` headers: only the door may set them. `Hapax_*` too, which CGI, WSGI and their like take for them.
pub(super) fn strip(headers: &mut HeaderMap) {
    let is_ours =
        |name: &HeaderName| matches!(name.as_str().strip_prefix("hapax"), Some(rest) if rest.starts_with(['-', '_']));
    if !headers.keys().any(is_ours) {
        return;
    }
    let ours: Vec<_> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}
