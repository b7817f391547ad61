//! Retries within one request: one claim, one record.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hapax::core::policy::{BreakerState, BudgetPolicy, Classes, RetryPolicy};
use hapax::core::{LastError, State, StateName};
use hapax::http::{Proof, Verdict};
use hapax::retry::Destination;
use tokio::time::Instant;

use super::door::{Answering, Broke, Door, Happened, answer, ask, policy};
use super::world::named;

/// A door whose upstream fails so many times as it is told, then answers 200.
fn failing(policy: RetryPolicy, times: usize, proof: Proof) -> (Door, Destination) {
    let destination = Destination::new(policy).unwrap();
    let script = move |call, request: Request<Body>| -> Answering {
        assert_eq!(request.headers()["idempotency-key"], "a");
        assert_eq!(request.headers().get_all("hapax-fence").iter().count(), 1);
        match call <= times {
            true => Box::pin(std::future::ready(Err(Broke(
                proof,
                "connection refused: 10.0.0.7:9000",
            )))),
            false => Box::pin(async move {
                let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
                assert_eq!(body, "body", "whole at every try");
                answer(200, call).await
            }),
        }
    };
    let route = named("r").retry(destination.clone()).build().unwrap();
    (Door::new(route, script), destination)
}

async fn last_error(door: &Door) -> Option<LastError> {
    door.record("a").await.unwrap().last_error
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_sent_again_under_the_same_claim() {
    let (door, destination) = failing(policy(), 2, Proof::Unsent);
    let told = door.send(ask("/", "a", "body")).await;
    assert_eq!(
        (told.status, told.text(), told.verdict),
        (200, "call 3", Some(Verdict::Done))
    );
    assert_eq!(
        door.happened(),
        [Happened::Started, Happened::Finished(StateName::Done)]
    );
    let record = door.record("a").await.unwrap();
    assert_eq!((record.tries, record.last_error), (0, None));
    let snapshot = destination.snapshot();
    assert_eq!((snapshot.calls, snapshot.retries), (1, 2));
    assert!(door.send(ask("/", "a", "body")).await.replays("call 3"));
    assert_eq!(
        (door.calls(), destination.snapshot().calls),
        (3, 1),
        "a duplicate is no traffic"
    );
}

#[tokio::test(start_paused = true)]
async fn when_the_tries_are_spent_it_is_released_with_the_error() {
    let (door, _) = failing(policy(), 3, Proof::Unsent);
    let told = door.send(ask("/", "a", "body")).await;
    assert_eq!(told.problem(), (503, "upstream-unavailable".into()));
    assert_eq!(door.calls(), 3);
    assert_eq!(
        door.happened(),
        [Happened::Started, Happened::Finished(StateName::Waiting)]
    );
    assert_eq!(
        last_error(&door).await.unwrap().as_str(),
        "connection refused: 10.0.0.7:9000"
    );
    let shown = door.status("/.hapax/operations/a").await;
    assert_eq!(shown.json()["state"], "waiting");
    assert!(!shown.text().contains("refused"), "no caller sees the error");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_not_sent_again() {
    let all = RetryPolicy {
        retry: Classes::ALL,
        ..policy()
    };
    let (door, _) = failing(all, 1, Proof::Reset);
    let told = door.send(ask("/", "a", "body")).await;
    assert_eq!((told.problem(), door.calls()), ((502, "upstream-reset".into()), 1));
    assert_eq!(
        last_error(&door).await.unwrap().as_str(),
        "connection refused: 10.0.0.7:9000"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_budget_and_the_classes_bear() {
    let poor = RetryPolicy {
        budget: BudgetPolicy {
            share: 0.0,
            floor: 0.0,
            ..BudgetPolicy::default()
        },
        ..policy()
    };
    let (door, destination) = failing(poor, 3, Proof::Unsent);
    assert_eq!(door.send(ask("/", "a", "body")).await.status, 503);
    assert_eq!((door.calls(), destination.snapshot().refused_budget), (1, 1));
    let none = RetryPolicy {
        retry: Classes {
            unsent: false,
            ..Classes::ALL
        },
        ..policy()
    };
    let (door, _) = failing(none, 3, Proof::Unsent);
    assert_eq!(door.send(ask("/", "a", "body")).await.status, 503);
    assert_eq!(door.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_may_have_happened() {
    let script = |_, _| -> Answering { Box::pin(std::future::pending()) };
    let destination = Destination::new(policy()).unwrap();
    let route = named("r").retry(destination.clone()).build().unwrap();
    let door = Door::new(route, script);
    let began = Instant::now();
    let told = door.send(ask("/", "a", "")).await;
    assert_eq!(told.problem(), (504, "upstream-timeout".into()));
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(last_error(&door).await.unwrap().as_str(), "timed out after 30 s");
    assert!(matches!(door.record("a").await.unwrap().state, State::Unknown { .. }));
    // Three such failures open the breaker.
    let send = |key| door.send(ask("/", key, ""));
    tokio::join!(send("b"), send("c"), send("d"));
    assert_eq!(destination.snapshot().state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn all_tries_together_take_no_longer_than_the_total() {
    let mut policy = policy();
    policy.limits.tries = 100;
    policy.limits.per_try = Duration::from_secs(2);
    policy.limits.total = Duration::from_secs(3);
    policy.breaker.minimum_calls = 1000;
    let (door, _) = failing(policy, usize::MAX, Proof::Unsent);
    let began = Instant::now();
    assert_eq!(door.send(ask("/", "a", "body")).await.status, 503);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(door.calls() > 3, "{}", door.calls());
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_is_named_by_its_status() {
    let door = Door::new(named("r").build().unwrap(), super::door::by_path);
    for (path, text) in [("/500", "status 500"), ("/429", "status 429")] {
        door.send(ask(path, &path[1..], "")).await;
        let record = door.record(&path[1..]).await.unwrap();
        assert_eq!(record.last_error.unwrap().as_str(), text);
    }
}
