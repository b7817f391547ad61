//! What the listener calls: the door, with an answer for every error, a line and counters for every request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hapax::http::{
    Body as DoorBody, BodyFailed, Details, Failure, IdempotencyService, Problem, Profile, Proof, Report, Verdict,
};
use http::{Request, Response};
use tower_service::Service;

use super::backend::Backend;
use crate::gateway::body::{Body, BodyError};
use crate::gateway::upstream::{AnswerBody, UpstreamError};
use crate::observe::Metrics;
use crate::observe::access::AccessLog;

type Answer = Response<DoorBody<AnswerBody>>;

/// The service of one worker.
#[derive(Clone)]
pub(super) struct Gate {
    door: IdempotencyService<Backend>,
    shared: Arc<Shared>,
}

struct Shared {
    metrics: Arc<Metrics>,
    access: AccessLog,
    profile: Profile,
}

impl Gate {
    pub(super) fn new(
        door: IdempotencyService<Backend>,
        metrics: Arc<Metrics>,
        access: AccessLog,
        profile: Profile,
    ) -> Self {
        let shared = Shared {
            metrics,
            access,
            profile,
        };
        Self {
            door,
            shared: Arc::new(shared),
        }
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The backend is always ready, and so the door is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let asked = self.shared.access.asked(request.method(), request.uri());
        let answered = self.door.call(request);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let flight = Flight::begin(&shared.metrics);
            let answer = match answered.await {
                Ok(answer) => shared.mend(answer),
                Err(error) => failed(&error, shared.profile),
            };
            drop(flight);
            let (status, took) = (answer.status().as_u16(), started.elapsed());
            let report = answer.extensions().get::<Report>();
            let verdict = report.map(|report| report.verdict);
            shared.metrics.http.answered(verdict, status, took);
            if let Some(asked) = asked {
                shared.access.write(&asked, report, status, took);
            }
            Ok(answer)
        })
    }
}

/// Counts a request while it has no answer, also if its client leaves.
struct Flight<'a>(&'a Metrics);

impl<'a> Flight<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.http.begin();
        Self(metrics)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.http.end();
    }
}

impl Shared {
    /// Says more exactly what was wrong with a request's body, where the transport knows it.
    fn mend(&self, answer: Answer) -> Answer {
        let Some(failed) = answer.extensions().get::<BodyFailed>() else {
            return answer;
        };
        let Some(error) = failed.0.downcast_ref::<BodyError>() else {
            return answer;
        };
        let (mut mended, problem) = match error {
            BodyError::Read(_) if error.refusal().is_none() => return answer,
            _ => body_failed(error, "Nothing ran.", self.profile),
        };
        if let Some(mut report) = answer.extensions().get::<Report>().cloned() {
            report.verdict = Verdict::Refused(problem);
            mended.extensions_mut().insert(report);
        }
        mended
    }
}

/// What a request whose body failed is told; `effect` says what became of it.
fn body_failed(error: &BodyError, effect: &str, profile: Profile) -> (Answer, Problem) {
    let details = match error {
        BodyError::KeyInTrailer => Details::new(Problem::KeyInvalid, error.to_string()),
        BodyError::Idle(_) | BodyError::TooSlow(_) => {
            Details::new(Problem::RequestTimeout, format!("{error}. {effect}"))
        }
        BodyError::Read(_) => match error.refusal() {
            Some(refusal) => return (refusal.response(), Problem::RequestAmbiguous),
            None => Details::new(
                Problem::BodyIncomplete,
                format!("The body ended early ({error}). {effect} Send the whole request again."),
            ),
        },
    };
    let problem = details.problem();
    (details.response(profile), problem)
}

/// The answer to a request that passed through, when the backend gave none. No key tells what became of it.
fn failed(error: &UpstreamError, profile: Profile) -> Answer {
    let (mut answer, problem) = match error.body_error() {
        Some(error) => body_failed(error, "The service behind did not get the whole request.", profile),
        None => {
            let details = unprotected(error.proof());
            let problem = details.problem();
            (details.response(profile), problem)
        }
    };
    answer.extensions_mut().insert(Report {
        route: None,
        operation: None,
        verdict: Verdict::Refused(problem),
        waited: std::time::Duration::ZERO,
    });
    answer
}

/// The proof in words for a request that nobody remembers.
fn unprotected(proof: Proof) -> Details {
    let unknown = "whether it did what was asked is not known. The request had no key, so nothing remembers it: look \
                   before sending it again.";
    match proof {
        Proof::Unsent => Details::new(
            Problem::UpstreamUnavailable,
            "The service behind could not be reached and nothing ran. Send the same request again later.",
        )
        .retry_after(Duration::from_secs(1)),
        Proof::TimedOut => Details::new(
            Problem::UpstreamTimeout,
            format!("The service behind did not answer in time; {unknown}"),
        ),
        Proof::Reset => Details::new(
            Problem::UpstreamReset,
            format!("The service behind ended without a whole answer; {unknown}"),
        ),
    }
}
