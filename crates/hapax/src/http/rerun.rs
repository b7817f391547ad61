//! Runs of what was stored: the same request to the same inner service, without its caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hapax_core::policy::{FailureClass, RetryPolicy};
use hapax_core::{Answer, BoxFuture, Fence, Input, Name, Operation, Outcome};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::answer::{self, Captured};
use super::body::Body;
use super::failure::{self, Proof};
use super::perform::{self, Came};
use super::protect::Whole;
use super::route::{Route, SealedBy};
use super::seal::OpenError;
use super::service::{IdempotencyService, Shared};
use super::{seal, settle, stored};
use crate::engine::Run;
use crate::failpoint::{self, Failpoint};
use crate::resolver::Found;
use crate::retry::Destination;
use crate::runner::{Attempted, Failure, Handling, Runner};

impl<S> IdempotencyService<S> {
    /// Lets a runner handle what this service stores (`respond_async`) and what its resolvers are asked about.
    ///
    /// `crashes_count` says whether a crash of this process can be an operation's fault: yes where the inner service
    /// runs in it, no where it only passes requests on. The inner service is asked with the stored request: its head
    /// and body as they came, but nothing that other layers had put into its extensions.
    #[must_use]
    pub fn equip<ReqB, ResB>(&self, mut runner: Runner, crashes_count: bool) -> Runner
    where
        S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: failure::Failure + Send + 'static,
        ReqB: From<Bytes> + Send + 'static,
        ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        ResB::Error: Send,
    {
        for handling in self.handlings(crashes_count) {
            runner = runner.handle(handling, self.rerun());
        }
        runner
    }

    /// How the operations of the routes are run that store requests or have resolvers.
    #[must_use]
    pub fn handlings(&self, crashes_count: bool) -> Vec<Handling> {
        let mut found: HashMap<&Name, Handling> = HashMap::new();
        let mut usual = None;
        for route in self.shared.routes.iter() {
            if !route.respond_async && route.resolvers.0.is_empty() {
                continue;
            }
            let destination = route.retry.clone();
            let handling = found.entry(&route.name).or_insert_with(|| Handling {
                name: route.name.clone(),
                run: route.run.clone(),
                destination: destination.unwrap_or_else(|| usual.get_or_insert_with(usual_destination).clone()),
                crashes_count,
                resolvers: Vec::new(),
                ordered: false,
            });
            // Routes of one name are one kind of operation.
            if handling.resolvers.is_empty() {
                handling.resolvers.clone_from(&route.resolvers.0);
            }
        }
        found.into_values().collect()
    }

    /// Sends a message's request under its run, and says what its answer makes of the message. 2xx: it is done. 401 and
    /// 403: its receiver does not know this sender, which is no message's fault, so it is sent again. Any other answer
    /// that is final: it is refused.
    #[cfg(feature = "consume")]
    pub fn relay<ReqB, ResB>(
        &self,
    ) -> impl Fn(Run, Request<Bytes>) -> BoxFuture<'static, Attempted> + Send + Sync + 'static + use<S, ReqB, ResB>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: failure::Failure + Send + 'static,
        ReqB: From<Bytes> + Send + 'static,
        ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        ResB::Error: Send,
    {
        let shared = Arc::clone(&self.shared);
        let inner = Mutex::new(self.inner.clone());
        move |run, request| {
            let inner = inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                match shared.routes.named(run.operation.name()) {
                    Some(route) => {
                        perform(&shared, route, inner, run, Box::new(request.into_parts()), Of::Message).await
                    }
                    None => given_up("no route has its name"),
                }
            })
        }
    }

    /// Runs a stored request, for [`Runner::handle`]. Admission and retries are the runner's.
    pub fn rerun<ReqB, ResB>(
        &self,
    ) -> impl Fn(Run, Input) -> BoxFuture<'static, Attempted> + Send + Sync + 'static + use<S, ReqB, ResB>
    where
        S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: failure::Failure + Send + 'static,
        ReqB: From<Bytes> + Send + 'static,
        ResB: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        ResB::Error: Send,
    {
        let shared = Arc::clone(&self.shared);
        // For services that only one thread may use at a time.
        let inner = Mutex::new(self.inner.clone());
        move |run, input| {
            let inner = inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(rerun(Arc::clone(&shared), inner, run, input))
        }
    }
}

#[allow(clippy::expect_used, reason = "the default policy makes sense")]
fn usual_destination() -> Destination {
    Destination::new(RetryPolicy::default()).expect("the default policy makes sense")
}

async fn rerun<S, ReqB, ResB>(shared: Arc<Shared>, inner: S, run: Run, input: Input) -> Attempted
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: failure::Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    let Some(route) = shared.routes.named(run.operation.name()) else {
        return given_up("no route has its name");
    };
    match opened(route, &run, &input) {
        Ok(request) => perform(&shared, route, inner, run, request, Of::Request).await,
        Err(error) => given_up(&error.to_string()),
    }
}

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A client's: it is replayed, whatever it says.
    Request,
    /// A message's: nobody reads it.
    #[cfg(feature = "consume")]
    Message,
}

async fn perform<S, ReqB, ResB>(
    shared: &Arc<Shared>,
    route: &Route,
    mut inner: S,
    run: Run,
    mut request: Whole,
    of: Of,
) -> Attempted
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: failure::Failure,
    ReqB: From<Bytes>,
    ResB: HttpBody<Data = Bytes> + Unpin,
{
    if let Some(sealed) = &route.sealer {
        match settle::happened(sealed, run.operation.id()).await {
            Ok(Some(outcome)) => return Attempted::Done(outcome),
            Ok(None) => {}
            Err(error) => return Attempted::Failed(Failure::new(FailureClass::Unsent, error)),
        }
    }
    let (operation, fence) = (run.operation.clone(), run.fence);
    perform::announce(&mut request.0, run);
    failpoint::hit(Failpoint::BeforeUpstream);
    let answered = perform::ask(&mut inner, || perform::request_of(request)).await;
    failpoint::hit(Failpoint::AfterUpstream);
    let came = perform::judge(answered, route, shared).await;
    if let Some(sealed) = &route.sealer {
        let (answered, without_effect) = match &came {
            Came::Done(_, response) => (Some(response.status()), false),
            Came::NoEffect(..) => (None, true),
            // Unknown, and put to a resolver.
            Came::Ambiguous(..) | Came::Failed(_) => (None, false),
        };
        if let Some(settled) = made_sure(sealed, &operation, fence, answered, without_effect).await {
            return settled;
        }
    }
    attempted(came, route, of).await
}

/// What receipts make of a final answer, or of one that said there was no effect, as with a caller's run; `None` if it
/// stands.
async fn made_sure(
    sealed: &SealedBy,
    operation: &Operation,
    fence: Fence,
    answered: Option<StatusCode>,
    without_effect: bool,
) -> Option<Attempted> {
    match answered {
        Some(status) if settle::happened_by(status) => sealed.sealer.answered(operation),
        Some(_) => {
            let outcome = settle::happened(sealed, operation.id()).await.ok()??;
            return Some(Attempted::Done(outcome));
        }
        None => {}
    }
    if !without_effect {
        return None;
    }
    match sealed.sealer.seal(operation.id(), fence).await {
        Ok(Found::Done { outcome, .. }) => Some(Attempted::Done(outcome)),
        Ok(Found::NotFound { .. } | Found::CannotSay { .. }) => None,
        Err(error) => {
            let failure = Failure::new(FailureClass::Ambiguous, &error.to_string());
            Some(Attempted::Failed(failure))
        }
    }
}

fn opened(route: &Route, run: &Run, input: &Input) -> Result<Whole, OpenError> {
    let bytes = seal::open(route.seal.as_ref(), input, run.operation.id())?;
    let request = stored::decode(bytes).map_err(OpenError::Nonsense)?;
    Ok(Box::new(request))
}

/// It was not run, and no retry mends that; its record keeps the input.
fn given_up(why: &str) -> Attempted {
    Attempted::Failed(Failure::new(FailureClass::Final, why))
}

/// What a run came to, for the policy.
async fn attempted<B>(came: Came<B>, route: &Route, of: Of) -> Attempted
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let named = |after: Duration| (!after.is_zero()).then_some(after);
    Attempted::Failed(match came {
        Came::Done(outcome, response) => {
            if of == Of::Request || response.status().is_success() {
                return Attempted::Done(outcome);
            }
            Failure {
                class: FailureClass::Final,
                answer: match outcome {
                    Outcome::Answer(answer) => Some(answer),
                    Outcome::NotKept(_) => None,
                },
                last_error: perform::status_error(&response),
                retry_after: None,
            }
        }
        Came::NoEffect(after, response) => Failure {
            class: without_effect(response.status(), of),
            last_error: perform::status_error(&response),
            answer: kept(response, route).await,
            retry_after: named(after),
        },
        Came::Ambiguous(answer, after, response) => Failure {
            class: FailureClass::Ambiguous,
            answer,
            last_error: perform::status_error(&response),
            retry_after: named(after),
        },
        Came::Failed(fault) => {
            let class = match fault.proof {
                Proof::Unsent => FailureClass::Unsent,
                Proof::TimedOut | Proof::Reset => FailureClass::Ambiguous,
            };
            let last_error = fault.last_error.as_ref().map_or("", |error| error.as_str());
            Failure::new(class, last_error)
        }
    })
}

/// What an answer without effect is to the policy. A caller may come with another credential; what is stored has only
/// the one. A message has none: it is the relay that is not known.
fn without_effect(status: StatusCode, of: Of) -> FailureClass {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if of == Of::Request => FailureClass::Final,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureClass::Throttled,
        _ => FailureClass::Unsent,
    }
}

/// The answer, for the case that no retry follows.
async fn kept<B>(response: Response<Body<B>>, route: &Route) -> Option<Answer>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let (parts, body) = response.into_parts();
    match answer::capture(&parts.headers, body, route.capture).await {
        Captured::Whole(data, _) => Some(answer::stored(parts.status, &parts.headers, &route.headers, data)),
        Captured::Stream(..) | Captured::Broken(_) => None,
    }
}
