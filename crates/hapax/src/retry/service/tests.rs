use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use hapax_core::OperationId;
use hapax_core::policy::{Classes, RetryPolicy};
use http::StatusCode;
use tower_layer::Layer;

use super::*;
use crate::retry::{NotAdmitted, RetryLayer, Why};

#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0:?}")]
struct Broken(Proof);

impl Failure for Broken {
    fn proof(&self) -> Proof {
        self.0
    }
}

/// What the other side does with one request.
enum Play {
    Answer(u16),
    /// With `Retry-After: 1`.
    SlowDown(u16),
    Break(Proof),
    Hang,
}

/// A client that was not made ready panics.
struct Client {
    plays: Arc<Mutex<VecDeque<Play>>>,
    keys: Arc<Mutex<Vec<Option<String>>>>,
    ready: bool,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        Self {
            plays: Arc::clone(&self.plays),
            keys: Arc::clone(&self.keys),
            ready: false,
        }
    }
}

impl Service<Request<&'static str>> for Client {
    type Response = Response<()>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<&'static str>) -> Self::Future {
        assert!(mem::take(&mut self.ready), "called before it was ready");
        assert_eq!(*request.body(), "body");
        let key = request.headers().get(IDEMPOTENCY_KEY);
        let key = key.map(|key| key.to_str().unwrap().to_owned());
        self.keys.lock().unwrap().push(key);
        let play = self.plays.lock().unwrap().pop_front().expect("one play for each try");
        Box::pin(async move {
            let (status, retry_after) = match play {
                Play::Answer(status) => (status, None),
                Play::SlowDown(status) => (status, Some("1")),
                Play::Break(proof) => return Err(Broken(proof)),
                Play::Hang => std::future::pending().await,
            };
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let header = retry_after.map(|value| (http::header::RETRY_AFTER, HeaderValue::from_static(value)));
            response.headers_mut().extend(header);
            Ok(response)
        })
    }
}

struct Played {
    outcome: Result<StatusCode, RetryError<Broken>>,
    keys: Vec<Option<String>>,
}

async fn play_to(
    destination: &Destination,
    request: Request<&'static str>,
    plays: impl IntoIterator<Item = Play>,
) -> Played {
    let client = Client {
        plays: Arc::new(Mutex::new(plays.into_iter().collect())),
        keys: Arc::default(),
        ready: false,
    };
    let (keys, left) = (Arc::clone(&client.keys), Arc::clone(&client.plays));
    let mut service = RetryLayer::new(destination.clone()).layer(client);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let outcome = service.call(request).await.map(|response| response.status());
    assert!(left.lock().unwrap().is_empty(), "a try is missing");
    let keys = keys.lock().unwrap().clone();
    Played { outcome, keys }
}

async fn play(classes: Classes, request: Request<&'static str>, plays: impl IntoIterator<Item = Play>) -> Played {
    let policy = RetryPolicy {
        retry: classes,
        ..RetryPolicy::default()
    };
    play_to(&Destination::new(policy).unwrap(), request, plays).await
}

fn post() -> http::request::Builder {
    Request::post("http://bank.example/charges")
}

#[tokio::test(start_paused = true)]
async fn every_try_has_the_same_derived_key() {
    let key = DerivedKey::new(&OperationId::from_bytes([7; 16]), "charge");
    let request = post().extension(key.clone()).body("body").unwrap();
    let plays = [Play::SlowDown(503), Play::Break(Proof::Unsent), Play::Answer(201)];
    let played = play(Classes::default(), request, plays).await;
    assert_eq!(played.outcome.unwrap(), 201);
    assert_eq!(played.keys, vec![Some(key.as_str().to_owned()); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_there_is_kept() {
    let key = DerivedKey::new(&OperationId::from_bytes([7; 16]), "charge");
    let request = post()
        .extension(key)
        .header(IDEMPOTENCY_KEY, "own")
        .body("body")
        .unwrap();
    let played = play(Classes::default(), request, [Play::SlowDown(429), Play::Answer(201)]).await;
    assert_eq!(played.keys, vec![Some("own".to_owned()); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_gets_one_of_its_own() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = post().body("body").unwrap();
        let played = play(Classes::default(), request, [Play::SlowDown(429), Play::Answer(201)]).await;
        assert_eq!(played.keys[0], played.keys[1]);
        seen.extend(played.keys[0].clone());
    }
    assert_eq!(seen[0].len(), 32);
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test(start_paused = true)]
async fn a_safe_request_has_no_key_and_leaves_no_doubt() {
    let request = Request::get("http://bank.example/").body("body").unwrap();
    let plays = [Play::Answer(500), Play::Break(Proof::Reset), Play::Answer(200)];
    let played = play(Classes::default(), request, plays).await;
    assert_eq!(played.outcome.unwrap(), 200);
    assert_eq!(played.keys, vec![None; 3]);
    let request = Request::get("http://bank.example/").body("body").unwrap();
    let error = play(Classes::default(), request, [Play::Hang, Play::Hang])
        .await
        .outcome
        .unwrap_err();
    assert!(matches!(error.kind(), RetryErrorKind::TimedOut));
    assert_eq!(error.proof(), Proof::Unsent);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_not_sent_again_unless_the_policy_says_so() {
    for play_once in [Play::Answer(500), Play::Answer(503)] {
        let played = play(Classes::default(), post().body("body").unwrap(), [play_once]).await;
        assert!(played.outcome.unwrap().is_server_error());
    }
    let played = play(
        Classes::default(),
        post().body("body").unwrap(),
        [Play::Break(Proof::Reset)],
    )
    .await;
    let error = played.outcome.unwrap_err();
    assert_eq!(error.proof(), Proof::Reset);
    assert_eq!(
        error.to_string(),
        "try 1 failed: Reset; it may have happened: ask again with the same key"
    );
    let played = play(Classes::default(), post().body("body").unwrap(), [Play::Hang]).await;
    assert_eq!(played.outcome.unwrap_err().proof(), Proof::TimedOut);
    let plays = [Play::Answer(500), Play::Break(Proof::TimedOut), Play::Answer(200)];
    let played = play(Classes::ALL, post().body("body").unwrap(), plays).await;
    assert_eq!(played.outcome.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_given_unless_it_hides_a_doubt() {
    let plays = [Play::SlowDown(429), Play::SlowDown(503), Play::SlowDown(429)];
    let played = play(Classes::default(), post().body("body").unwrap(), plays).await;
    assert_eq!(played.outcome.unwrap(), 429);
    let plays = [Play::SlowDown(429), Play::Answer(500), Play::Answer(502)];
    let played = play(Classes::ALL, post().body("body").unwrap(), plays).await;
    assert_eq!(
        played.outcome.unwrap(),
        502,
        "this answer leaves the doubt that there is"
    );

    let plays = [Play::Break(Proof::Reset), Play::SlowDown(429), Play::SlowDown(429)];
    let error = play(Classes::ALL, post().body("body").unwrap(), plays)
        .await
        .outcome
        .unwrap_err();
    assert!(matches!(
        error.kind(),
        RetryErrorKind::InDoubt(StatusCode::TOO_MANY_REQUESTS)
    ));
    assert_eq!((error.proof(), error.attempts()), (Proof::Reset, 3));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));

    let plays = [
        Play::Answer(500),
        Play::Break(Proof::Unsent),
        Play::Break(Proof::Unsent),
    ];
    let error = play(Classes::ALL, post().body("body").unwrap(), plays)
        .await
        .outcome
        .unwrap_err();
    assert_eq!(error.proof(), Proof::Reset, "unsent at last, but the first was not");
    let plays = [
        Play::Break(Proof::Unsent),
        Play::Break(Proof::Unsent),
        Play::Break(Proof::Unsent),
    ];
    let error = play(Classes::ALL, post().body("body").unwrap(), plays)
        .await
        .outcome
        .unwrap_err();
    assert_eq!(error.proof(), Proof::Unsent);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_is_left_alone() {
    let destination = Destination::new(RetryPolicy::default()).unwrap();
    for _ in 0..100 {
        let request = post().body("body").unwrap();
        let played = play_to(&destination, request, [Play::Answer(500)]).await;
        assert_eq!(played.outcome.unwrap(), 500);
    }
    let played = play_to(&destination, post().body("body").unwrap(), []).await;
    let error = played.outcome.unwrap_err();
    let RetryErrorKind::NotSent(Why::NotAdmitted(NotAdmitted::Open { retry_after })) = error.kind() else {
        panic!("{error}");
    };
    assert_eq!(error.retry_after(), Some(*retry_after));
    assert_eq!((error.proof(), error.attempts()), (Proof::Unsent, 0));
    assert!(
        error.to_string().starts_with("not sent: the circuit breaker is open"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn callers_errors_do_not_open_the_breaker() {
    let mut policy = RetryPolicy::default();
    policy.limits.tries = 1;
    let destination = Destination::new(policy).unwrap();
    for status in [404, 429, 408].repeat(100) {
        let played = play_to(&destination, post().body("body").unwrap(), [Play::Answer(status)]).await;
        assert_eq!(played.outcome.unwrap(), status);
    }
    assert_eq!(destination.open_for(), None);
}
