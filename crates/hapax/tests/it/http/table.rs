//! The status table, row by row, in both profiles.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use hapax::core::{DeadReason, Finish, Key, Name, Operation, Outcome, Scope, Store};
use hapax::http::{Profile, Verdict};
use tokio::sync::Semaphore;

use super::world::{World, retrying, route};

const PROFILES: [Profile; 2] = [Profile::Ietf, Profile::Stripe];

/// What the profile says of a retry; `None` in the ietf profile.
fn should_retry(profile: Profile, retry: &'static str) -> Option<&'static str> {
    (profile == Profile::Stripe).then_some(retry)
}

#[tokio::test]
async fn key_reused() {
    for profile in PROFILES {
        let world = World::counting(route().profile(profile)).await;
        world.post("a", "1").await;
        let got = world.post("a", "2").await;
        let status = if profile == Profile::Stripe { 400 } else { 422 };
        assert_eq!((got.status, got.problem().as_str()), (status, "key-reused"));
        assert_eq!(got.header("stripe-should-retry"), should_retry(profile, "false"));
        if profile == Profile::Stripe {
            assert_eq!(got.json()["error"]["type"], "idempotency_error");
            assert_eq!(got.header("content-type"), Some("application/json"));
        } else {
            assert_eq!(got.json()["error"], serde_json::Value::Null);
            assert_eq!(got.header("content-type"), Some("application/problem+json"));
        }
        assert_eq!(world.verdicts()[1].as_str(), "key-reused");
    }
}

#[tokio::test]
async fn in_progress_and_mismatch_first() {
    for profile in PROFILES {
        let gate = Arc::new(Semaphore::new(0));
        let (started, opens) = (Arc::new(Semaphore::new(0)), Arc::clone(&gate));
        let signal = Arc::clone(&started);
        let world = World::new(route().profile(profile), move |_, _| {
            let (opens, signal) = (Arc::clone(&opens), Arc::clone(&signal));
            async move {
                signal.add_permits(1);
                opens.acquire().await.unwrap().forget();
                "done"
            }
        })
        .await;
        let first = async {
            let got = world.post("a", "1").await;
            assert_eq!(got.text(), "done");
        };
        let others = async {
            started.acquire().await.unwrap().forget();
            let got = world.post("a", "1").await;
            assert_eq!((got.status, got.problem().as_str()), (409, "in-progress"));
            assert_eq!(got.header("retry-after"), Some("1"));
            assert_eq!(got.json()["since"], "2027-01-15T08:00:00.000Z");
            assert_eq!(got.header("stripe-should-retry"), should_retry(profile, "true"));
            assert_eq!(world.post("a", "2").await.problem(), "key-reused", "before in-progress");
            gate.add_permits(1);
        };
        tokio::join!(first, others);
        assert_eq!(world.runs(), 1);
    }
}

#[tokio::test]
async fn done() {
    for profile in PROFILES {
        for status in [200, 201, 302, 404, 409, 422] {
            let world = World::new(route().profile(profile), move |run, _| async move {
                (StatusCode::from_u16(status).unwrap(), format!("run {run}"))
            })
            .await;
            let first = world.post("a", "").await;
            assert_eq!((first.status, first.text()), (status, "run 1"));
            assert_eq!(
                first.header("stripe-should-retry"),
                None,
                "the first answer is untouched"
            );
            let again = world.post("a", "").await;
            assert_eq!((again.status, again.text()), (status, "run 1"));
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("content-type"), first.header("content-type"));
            assert_eq!(again.header("stripe-should-retry"), should_retry(profile, "false"));
            assert_eq!(world.verdicts(), [Verdict::Done, Verdict::Replayed]);
        }
    }
}

#[tokio::test]
async fn answer_not_kept() {
    for profile in PROFILES {
        let world = World::counting(route().profile(profile)).await;
        world.post("a", "").await;
        // No longer than the clock may step at once, many times.
        for _ in 0..300 {
            world.pass(Duration::from_secs(300));
            world.store.time(false).await.unwrap();
        }
        let got = world.post("b", "").await;
        assert_eq!(got.text(), "order 2", "teaches the engine the time");
        let got = world.post("a", "").await;
        assert_eq!((got.status, got.problem().as_str()), (409, "answer-not-kept"));
        let json = got.json();
        assert_eq!(
            (&json["reason"], &json["done_at"]),
            (&"expired".into(), &"2027-01-15T08:00:00.000Z".into())
        );
        assert_eq!(
            (got.header("retry-after"), got.header("stripe-should-retry")),
            (None, should_retry(profile, "false"))
        );
        assert_eq!(world.runs(), 2);
    }
}

#[tokio::test]
async fn waiting_until_due() {
    for profile in PROFILES {
        let world = World::new(route().profile(profile), |run, _| async move {
            match run {
                1 => (
                    StatusCode::TOO_MANY_REQUESTS,
                    [("retry-after", "7")],
                    "slow down".to_owned(),
                ),
                run => (StatusCode::OK, [("x", "y")], format!("run {run}")),
            }
        })
        .await;
        let first = world.post("a", "").await;
        assert_eq!(
            (first.status, first.text(), first.header("retry-after")),
            (429, "slow down", Some("7"))
        );
        world.pass(Duration::from_millis(1500));
        let got = world.post("a", "").await;
        assert_eq!(
            (got.status, got.problem().as_str(), got.header("retry-after")),
            (503, "retry-later", Some("6"))
        );
        assert_eq!(got.header("stripe-should-retry"), should_retry(profile, "true"));
        world.pass(Duration::from_millis(5500));
        assert_eq!(world.post("a", "").await.text(), "run 2");
        let verdicts: Vec<_> = world.verdicts().iter().map(|verdict| verdict.as_str()).collect();
        assert_eq!(verdicts, ["released", "retry-later", "done"]);
    }
}

#[tokio::test]
async fn released_runs_again_at_once() {
    for status in [401, 403, 408, 425, 429] {
        let world = World::new(route(), move |run, _| async move {
            let status = if run == 1 {
                StatusCode::from_u16(status).unwrap()
            } else {
                StatusCode::OK
            };
            (status, format!("run {run}"))
        })
        .await;
        assert_eq!(world.post("a", "").await.status, status);
        assert_eq!(world.post("a", "").await.text(), "run 2");
        assert_eq!(world.post("a", "").await.text(), "run 2");
    }
}

#[tokio::test]
async fn outcome_unknown() {
    for profile in PROFILES {
        let world = World::new(route().profile(profile), |_, _| async {
            (StatusCode::INTERNAL_SERVER_ERROR, [("set-cookie", "a=1")], "half done")
        })
        .await;
        let first = world.post("a", "").await;
        assert_eq!(
            (first.status, first.text(), first.header("set-cookie")),
            (500, "half done", Some("a=1"))
        );
        let got = world.post("a", "").await;
        if profile == Profile::Stripe {
            assert_eq!((got.status, got.text()), (500, "half done"));
            assert_eq!(
                (got.header("idempotent-replayed"), got.header("set-cookie")),
                (None, None)
            );
            assert_eq!(got.header("stripe-should-retry"), Some("false"));
        } else {
            assert_eq!((got.status, got.problem().as_str()), (409, "outcome-unknown"));
            assert_eq!(got.header("retry-after"), Some("30"));
            let json = got.json();
            assert_eq!(
                (&json["original_status"], &json["cause"]),
                (&500.into(), &"ambiguous".into())
            );
        }
        assert_eq!(world.post("a", "other").await.problem(), "key-reused", "before unknown");
        assert_eq!(world.runs(), 1);
    }
}

#[tokio::test]
async fn outcome_unknown_without_an_answer() {
    for profile in PROFILES {
        let world = World::new(
            route().profile(profile).answer_limit(3, Duration::from_secs(10)),
            |_, _| async { (StatusCode::BAD_GATEWAY, "too long to keep") },
        )
        .await;
        assert_eq!(world.post("a", "").await.text(), "too long to keep");
        let got = world.post("a", "").await;
        assert_eq!((got.status, got.problem().as_str()), (409, "outcome-unknown"));
        assert_eq!(got.json()["original_status"], serde_json::Value::Null);
        assert_eq!(got.header("stripe-should-retry"), should_retry(profile, "false"));
    }
}

#[tokio::test]
async fn an_ambiguous_failure_runs_again_where_the_route_says_so() {
    let world = World::new(route().run(retrying()), |run, _| async move {
        let status = if run == 1 {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        };
        (status, format!("run {run}"))
    })
    .await;
    assert_eq!(world.post("a", "").await.status, 500);
    assert_eq!(world.post("a", "").await.text(), "run 2");
}

#[tokio::test]
async fn a_route_says_what_a_status_means() {
    let routes = route()
        .no_effect([StatusCode::BAD_GATEWAY])
        .finals([StatusCode::NOT_IMPLEMENTED]);
    let world = World::new(routes, |run, request: axum::extract::Request| async move {
        let status = request.uri().path()[1..].parse().unwrap();
        (StatusCode::from_u16(status).unwrap(), format!("run {run}"))
    })
    .await;
    for (path, again) in [("POST /502", "run 2"), ("POST /501", "run 3"), ("POST /429", "run 4")] {
        let headers = format!("Idempotency-Key: {}\r\n", &path[6..]);
        world.send(path, &headers, "").await;
        assert_eq!(world.send(path, &headers, "").await.text(), again, "{path}");
    }
}

#[tokio::test]
async fn dead() {
    for profile in PROFILES {
        let world = World::new(route().profile(profile), |_, _| async {
            (StatusCode::INTERNAL_SERVER_ERROR, "broken for good")
        })
        .await;
        let fails = world.post("a", "").await;
        bury(&world, "a", true).await;
        let got = world.post("a", "").await;
        assert_eq!(
            (got.status, got.text(), got.header("hapax-state")),
            (500, fails.text(), Some("dead"))
        );
        assert_eq!(
            (got.header("idempotent-replayed"), got.header("stripe-should-retry")),
            (None, should_retry(profile, "false"))
        );
        world.post("b", "").await;
        bury(&world, "b", false).await;
        let got = world.post("b", "").await;
        assert_eq!((got.status, got.problem().as_str()), (500, "dead-letter"));
        assert_eq!(got.json()["reason"], "poison");
        assert_eq!(world.runs(), 2);
    }
}

/// Makes an unknown record dead by its own late finish, as a resolver would.
async fn bury(world: &World, key: &str, with_answer: bool) {
    let record = read(world, key).await;
    let hapax::core::State::Unknown { answer, .. } = record.state else {
        panic!("{:?}", record.state)
    };
    let finish = Finish::Dead {
        reason: DeadReason::Poison,
        answer: answer.filter(|_| with_answer),
        last_error: None,
    };
    world
        .store
        .finish(record.operation.id(), record.fence, finish)
        .await
        .unwrap();
}

async fn read(world: &World, key: &str) -> hapax::core::Record {
    let operation = Operation::new(
        Scope::new("none").unwrap(),
        Name::new("default").unwrap(),
        Key::new(key).unwrap(),
    );
    world.store.read(operation.id()).await.unwrap().1.unwrap()
}

#[tokio::test]
async fn a_late_finish_settles_an_unknown_outcome() {
    let world = World::new(route(), |_, _| async { StatusCode::INTERNAL_SERVER_ERROR }).await;
    world.post("a", "").await;
    let record = read(&world, "a").await;
    let answer = hapax::core::Answer {
        status: 201,
        headers: vec![],
        body: "it did".into(),
    };
    let finish = Finish::Done(Outcome::Answer(answer));
    world
        .store
        .finish(record.operation.id(), record.fence, finish)
        .await
        .unwrap();
    let got = world.post("a", "").await;
    assert_eq!(
        (got.status, got.text(), got.header("idempotent-replayed")),
        (201, "it did", Some("true"))
    );
}

#[tokio::test]
async fn store_unavailable() {
    for profile in PROFILES {
        let world = World::counting(route().profile(profile)).await;
        // Before the recipe's number is known, and after.
        for key in ["a", "b"] {
            world.store.down(true);
            let got = world.post(key, "").await;
            assert_eq!(
                (got.status, got.problem().as_str()),
                (503, "store-unavailable"),
                "{key}"
            );
            assert_eq!(got.header("retry-after"), Some("2"));
            assert_eq!(got.header("stripe-should-retry"), should_retry(profile, "true"));
            assert_eq!(
                world.send("POST /orders", "", "").await.status,
                201,
                "without a key it needs no store"
            );
            world.store.down(false);
            assert_eq!(world.post("first", "").await.status, 201);
        }
        world.store.down(true);
        let got = world.post("first", "").await;
        assert_eq!(
            got.header("idempotent-replayed"),
            Some("true"),
            "known to be done, store or not"
        );
    }
}
