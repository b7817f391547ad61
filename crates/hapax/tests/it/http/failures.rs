//! Inner services that fail, as the gateway's upstream does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use hapax::core::{AfterFailure, Name};
use hapax::http::{Failure, Idempotency, Proof, Route, SingleTenant};
use hapax::store::{Clock, MemoryStore};
use hapax::{Engine, EngineOptions, RunOptions};
use tower_layer::Layer;
use tower_service::Service;

#[derive(Debug)]
struct Failed(Proof);

impl Failure for Failed {
    fn proof(&self) -> Proof {
        self.0
    }
}

/// Fails as it is told, then answers with the number of its calls.
#[derive(Clone)]
struct Upstream {
    ready: Result<(), Proof>,
    fails: Vec<Proof>,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Failed;
    type Future = std::future::Ready<Result<Response<Body>, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(self.ready.map_err(Failed))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(match self.fails.get(call) {
            Some(proof) => Err(Failed(*proof)),
            None => Ok(Response::new(Body::from(format!("call {}", call + 1)))),
        })
    }
}

/// The status and the problem or text of so many requests with one key.
async fn asked(upstream: Upstream, after_failure: AfterFailure, times: usize) -> Vec<(u16, String)> {
    let engine = Engine::new(
        MemoryStore::new(Clock::default(), [7; 32]),
        EngineOptions::default(),
        (),
    );
    let run = RunOptions {
        after_failure,
        ..RunOptions::default()
    };
    let route = Route::builder(Name::new("r").unwrap()).run(run).build().unwrap();
    let mut service = Idempotency::new(engine, SingleTenant::new(), route).layer(upstream);
    let mut answers = Vec::new();
    for _ in 0..times {
        let request = Request::post("/")
            .header("idempotency-key", "a")
            .body(Body::empty())
            .unwrap();
        let response = service.call(request).await.unwrap();
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").is_some();
        assert_eq!(retry_after, status == 503 || status == 409, "{status}");
        let body: Bytes = axum::body::to_bytes(Body::new(response.into_body()), 4096)
            .await
            .unwrap();
        let text = match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(problem) => problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned(),
            Err(_) => String::from_utf8(body.to_vec()).unwrap(),
        };
        answers.push((status, text));
    }
    answers
}

fn failing(fails: impl Into<Vec<Proof>>) -> Upstream {
    Upstream {
        ready: Ok(()),
        fails: fails.into(),
        calls: Arc::default(),
    }
}

fn expected(answers: &[(u16, &str)]) -> Vec<(u16, String)> {
    answers
        .iter()
        .map(|(status, text)| (*status, (*text).to_owned()))
        .collect()
}

#[tokio::test]
async fn what_was_never_sent_runs_again() {
    let answers = asked(failing([Proof::Unsent]), AfterFailure::Hold, 3).await;
    assert_eq!(
        answers,
        expected(&[(503, "upstream-unavailable"), (200, "call 2"), (200, "call 2")])
    );
}

#[tokio::test]
async fn what_may_have_happened_is_held() {
    let answers = asked(failing([Proof::TimedOut]), AfterFailure::Hold, 2).await;
    assert_eq!(
        answers,
        expected(&[(504, "upstream-timeout"), (409, "outcome-unknown")])
    );
    let answers = asked(failing([Proof::Reset]), AfterFailure::Hold, 2).await;
    assert_eq!(answers, expected(&[(502, "upstream-reset"), (409, "outcome-unknown")]));
}

#[tokio::test]
async fn what_may_have_happened_runs_again_where_the_route_says_so() {
    let answers = asked(failing([Proof::Reset, Proof::TimedOut]), AfterFailure::Retry, 4).await;
    let first = [
        (502, "upstream-reset"),
        (504, "upstream-timeout"),
        (200, "call 3"),
        (200, "call 3"),
    ];
    assert_eq!(answers, expected(&first));
}

#[tokio::test]
async fn a_service_that_is_not_ready_was_not_asked() {
    let calls = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream {
        ready: Err(Proof::Reset),
        fails: Vec::new(),
        calls: Arc::clone(&calls),
    };
    let answers = asked(upstream, AfterFailure::Hold, 2).await;
    assert_eq!(
        answers,
        expected(&[(503, "upstream-unavailable"), (503, "upstream-unavailable")])
    );
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}
