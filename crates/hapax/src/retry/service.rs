//! The service: one request, as many tries as the policy allows.
//!
//! A try ends with the head of its answer: a body that breaks off later is the caller's to judge.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use hapax_core::policy::{FailureClass, Health};
use http::{HeaderValue, Method, Request, Response};
use tower_service::Service;

use super::call::{Attempt, Failed, GaveUp, Last, drive};
use super::destination::Destination;
use super::error::{RetryError, RetryErrorKind};
use super::future::ResponseFuture;
use super::judge::{Judgement, doubt, judge};
use super::layer::DerivedKey;
use crate::http::{Failure, IDEMPOTENCY_KEY, Proof};

/// A client whose requests are retried. Made by [`RetryLayer`](super::RetryLayer).
///
/// It answers with the last answer there was. An error means that the last try got none, that none was made, or that
/// an earlier one may have happened although the last did not.
#[derive(Debug, Clone)]
pub struct RetryService<S> {
    inner: S,
    destination: Destination,
}

impl<S> RetryService<S> {
    pub(super) fn new(inner: S, destination: Destination) -> Self {
        Self { inner, destination }
    }
}

impl<S, B, R> Service<Request<B>> for RetryService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Failure + Send + 'static,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = RetryError<S::Error>;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| RetryError {
            proof: Proof::Unsent,
            attempts: 0,
            retry_after: None,
            kind: RetryErrorKind::Inner(error),
        })
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that `poll_ready` made ready makes the first try.
        let spare = self.inner.clone();
        let ready = mem::replace(&mut self.inner, spare.clone());
        ResponseFuture::new(send(self.destination.clone(), ready, spare, request))
    }
}

async fn send<S, B, R>(
    destination: Destination,
    ready: S,
    spare: S,
    mut request: Request<B>,
) -> Result<Response<R>, RetryError<S::Error>>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Failure,
    B: Clone,
{
    attach_key(&mut request).map_err(|error| RetryError {
        kind: RetryErrorKind::NoKey(error),
        proof: Proof::Unsent,
        attempts: 0,
        retry_after: None,
    })?;
    let mut ready = Some(ready);
    let on_timeout = doubt(request.method());
    let attempt = move |_: Attempt<'_>| {
        let first = ready.take();
        let is_first = first.is_some();
        let mut service = first.unwrap_or_else(|| spare.clone());
        let request = request.clone();
        async move {
            let method = request.method().clone();
            if !is_first {
                let unready = poll_fn(|cx| service.poll_ready(cx)).await;
                unready.map_err(|error| Try::Broken(FailureClass::Unsent, error))?;
            }
            match service.call(request).await {
                Ok(response) => judged(&method, response),
                Err(error) => Err(Try::broken(&method, error)),
            }
        }
    };
    match drive(&destination, "", on_timeout, attempt).await {
        Ok(response) => Ok(response),
        Err(gave_up) => conclude(gave_up),
    }
}

/// A try that did not end well.
enum Try<R, E> {
    Answered(Judgement, Response<R>),
    Broken(FailureClass, E),
}

impl<R, E: Failure> Try<R, E> {
    fn broken(method: &Method, error: E) -> Self {
        let class = match error.proof() {
            Proof::Unsent => FailureClass::Unsent,
            Proof::TimedOut | Proof::Reset => doubt(method),
        };
        Self::Broken(class, error)
    }
}

impl<R, E> Failed for Try<R, E> {
    fn class(&self) -> FailureClass {
        match self {
            Self::Answered(judgement, _) => judgement.class,
            Self::Broken(class, _) => *class,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered(judgement, _) => judgement.retry_after,
            Self::Broken(..) => None,
        }
    }

    fn health(&self) -> Health {
        match self {
            Self::Answered(judgement, _) => judgement.health,
            Self::Broken(..) => Health::Failure,
        }
    }
}

#[allow(clippy::result_large_err, reason = "an answer is as large as an answer")]
fn judged<R, E>(method: &Method, response: Response<R>) -> Result<Response<R>, Try<R, E>> {
    let judgement = judge(method, response.status(), response.headers());
    match judgement.class {
        FailureClass::Final => Ok(response),
        FailureClass::Unsent | FailureClass::Throttled | FailureClass::Ambiguous => {
            Err(Try::Answered(judgement, response))
        }
    }
}

/// The last answer, unless it would hide that an earlier try may have happened.
fn conclude<R, E: Failure>(gave_up: GaveUp<Try<R, E>>) -> Result<Response<R>, RetryError<E>> {
    let in_doubt = gave_up.proves == FailureClass::Ambiguous;
    let unless = |proof| if in_doubt { proof } else { Proof::Unsent };
    let (kind, proof) = match gave_up.last {
        Last::Failed(Try::Answered(judgement, response)) => {
            if !in_doubt || judgement.class == FailureClass::Ambiguous {
                return Ok(response);
            }
            (RetryErrorKind::InDoubt(response.status()), Proof::Reset)
        }
        Last::Failed(Try::Broken(_, error)) => {
            let proof = match error.proof() {
                Proof::Unsent => unless(Proof::Reset),
                proof => unless(proof),
            };
            (RetryErrorKind::Inner(error), proof)
        }
        Last::NotCalled => (RetryErrorKind::NotSent(gave_up.why), Proof::Unsent),
        Last::TimedOut => (RetryErrorKind::TimedOut, unless(Proof::TimedOut)),
    };
    Err(RetryError {
        kind,
        proof,
        attempts: gave_up.attempts,
        retry_after: gave_up.retry_after,
    })
}

/// The same key for every try. Safe methods need none.
fn attach_key<B>(request: &mut Request<B>) -> Result<(), getrandom::Error> {
    if request.method().is_safe() || request.headers().contains_key(IDEMPOTENCY_KEY) {
        return Ok(());
    }
    let key = match request.extensions().get::<DerivedKey>() {
        Some(key) => key.clone(),
        None => DerivedKey::random()?,
    };
    // Hexadecimal digits are a header value.
    if let Ok(value) = HeaderValue::from_str(key.as_str()) {
        request.headers_mut().insert(IDEMPOTENCY_KEY, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
