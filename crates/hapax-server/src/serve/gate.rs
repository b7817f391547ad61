//! What the listener calls: the door, with an answer for every error, a line and counters for every request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hapax::http::{
    Body as DoorBody, BodyFailed, Details, Failure, IdempotencyService, Problem, Profile, Report, Verdict,
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
        let error = failed.0.downcast_ref::<BodyError>();
        let (mut mended, problem): (Answer, _) = match error {
            Some(error) if error.refusal().is_some() => match error.refusal() {
                Some(refusal) => (refusal.response(), Problem::RequestAmbiguous),
                None => return answer,
            },
            Some(error @ (BodyError::Idle(_) | BodyError::TooSlow(_))) => {
                let details = Details::new(Problem::RequestTimeout, format!("{error}. Nothing ran."));
                (details.response(self.profile), Problem::RequestTimeout)
            }
            _ => return answer,
        };
        if let Some(mut report) = answer.extensions().get::<Report>().cloned() {
            report.verdict = Verdict::Refused(problem);
            mended.extensions_mut().insert(report);
        }
        mended
    }
}

/// The answer to a request that passed through, when the backend gave none.
fn failed(error: &UpstreamError, profile: Profile) -> Answer {
    let details = error.proof().details();
    let verdict = Verdict::Refused(details.problem());
    let mut answer: Answer = details.response(profile);
    answer.extensions_mut().insert(Report {
        route: None,
        operation: None,
        verdict,
        waited: std::time::Duration::ZERO,
    });
    answer
}
