//! What the door answers while the breaker keeps what would run from running.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hapax::core::policy::BreakerState;
use hapax::http::Verdict;
use hapax::retry::Destination;
use tokio::sync::Semaphore;

use super::door::{Answering, Door, answer, ask, by_path, policy};
use super::world::named;

/// A door with an upstream that answers by its path; `/hold` answers 200 once there is a permit.
fn door() -> (Door, Destination, Arc<Semaphore>) {
    let destination = Destination::new(policy()).unwrap();
    let go = Arc::new(Semaphore::new(0));
    let hold = Arc::clone(&go);
    let script = move |call, request: Request<Body>| -> Answering {
        if request.uri().path() != "/hold" {
            return by_path(call, request);
        }
        let hold = Arc::clone(&hold);
        Box::pin(async move {
            hold.acquire().await.unwrap().forget();
            answer(200, call).await
        })
    };
    let route = named("r").retry(destination.clone()).build().unwrap();
    (Door::new(route, script), destination, go)
}

fn state(destination: &Destination) -> BreakerState {
    destination.snapshot().state
}

/// Opens the breaker by operations whose outcome is unknown: `u1` and so on.
async fn open(door: &Door, destination: &Destination) {
    for n in 1..10 {
        assert_eq!(door.send(ask("/500", &format!("u{n}"), "")).await.status, 500);
        if state(destination) == BreakerState::Open {
            return;
        }
    }
    panic!("{destination:?}");
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_what_would_run_and_nothing_else() {
    let (door, destination, _) = door();
    door.send(ask("/201", "done", "")).await;
    let released = door.send(ask("/429", "released", "")).await;
    assert_eq!((released.status, state(&destination)), (429, BreakerState::Closed));
    open(&door, &destination).await;
    assert_eq!(state(&destination), BreakerState::Open);
    let calls = door.calls();

    for key in ["new", "released"] {
        let path = if key == "new" { "/201" } else { "/429" };
        let told = door.send(ask(path, key, "")).await;
        assert_eq!(told.problem(), (503, "upstream-unavailable".into()), "{key}");
        let seconds: u64 = told.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&seconds), "{seconds}");
        assert_eq!(told.verdict, Some(Verdict::BreakerOpen));
    }
    assert_eq!(door.record("new").await, None, "nothing was claimed");
    assert!(door.send(ask("/201", "done", "")).await.replays("call 1"));
    let told = door.send(ask("/201", "done", "another")).await;
    assert_eq!(told.problem(), (422, "key-reused".into()));
    let told = door.send(ask("/500", "u1", "")).await;
    assert_eq!(told.problem(), (409, "outcome-unknown".into()));
    assert_eq!(door.status("/.hapax/operations/u1").await.json()["state"], "unknown");
    assert_eq!((door.calls(), destination.snapshot().probes), (calls, 0));
}

#[tokio::test(start_paused = true)]
async fn one_probe_is_let_through_then_the_traffic_returns() {
    let (door, destination, go) = door();
    door.send(ask("/201", "done", "")).await;
    open(&door, &destination).await;
    door.pass(Duration::from_secs(5)).await;
    assert!(door.send(ask("/201", "done", "")).await.replays("call 1"));
    assert_eq!(destination.snapshot().probes, 0, "a duplicate is no probe");

    let probe = door.send(ask("/hold", "probe", ""));
    let meanwhile = async {
        while destination.snapshot().probes == 0 {
            tokio::task::yield_now().await;
        }
        let told = door.send(ask("/201", "second", "")).await;
        assert_eq!(
            told.problem(),
            (503, "upstream-unavailable".into()),
            "one probe at a time"
        );
        assert!(door.send(ask("/201", "done", "")).await.replays("call 1"));
        go.add_permits(1);
    };
    let (probe, ()) = tokio::join!(probe, meanwhile);
    assert_eq!((probe.status, state(&destination)), (200, BreakerState::Ramping));

    let mut refused = 0;
    for n in 0..20 {
        let told = door.send(ask("/201", &format!("ramp-{n}"), "")).await;
        match told.status {
            201 => {}
            _ => {
                assert_eq!(told.problem(), (503, "upstream-unavailable".into()));
                refused += 1;
            }
        }
    }
    assert!((1..20).contains(&refused), "{refused} of 20 were refused");
    door.pass(Duration::from_secs(5)).await;
    for n in 0..20 {
        let told = door.send(ask("/201", &format!("closed-{n}"), "")).await;
        assert_eq!(told.status, 201);
    }
    assert_eq!(state(&destination), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_bad_probe_opens_it_again() {
    let (door, destination, _) = door();
    open(&door, &destination).await;
    door.pass(Duration::from_secs(5)).await;
    assert_eq!(door.send(ask("/503", "bad", "")).await.status, 503);
    assert_eq!(
        (state(&destination), destination.snapshot().probes),
        (BreakerState::Open, 1)
    );
    let told = door.send(ask("/201", "new", "")).await;
    assert_eq!(told.problem(), (503, "upstream-unavailable".into()));
}

#[tokio::test(start_paused = true)]
async fn what_limits_or_rejects_the_caller_is_alive() {
    let script = |call, request: Request<Body>| -> Answering {
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            let mut response = by_path(call, request).await?;
            if path == "/503" {
                response.headers_mut().insert("retry-after", "0".parse().unwrap());
            }
            Ok(response)
        })
    };
    let destination = Destination::new(policy()).unwrap();
    let door = Door::new(named("r").retry(destination.clone()).build().unwrap(), script);
    for (n, path) in ["/401", "/403", "/408", "/429", "/404"].into_iter().enumerate() {
        door.send(ask(path, &n.to_string(), "")).await;
    }
    assert_eq!(state(&destination), BreakerState::Closed);
    for n in 0..5 {
        let told = door.send(ask("/503", &format!("f{n}"), "")).await;
        assert_eq!((told.status, told.verdict), (503, Some(Verdict::Released)), "{n}");
    }
    assert_eq!(state(&destination), BreakerState::Open, "five good, five bad");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_waits_for_a_run_that_began_before() {
    let (door, destination, go) = door();
    let waiting = |key| {
        let mut request = ask("/hold", key, "");
        request.headers_mut().insert("prefer", "wait=20".parse().unwrap());
        request
    };
    let first = door.send(ask("/hold", "slow", ""));
    let second = async {
        while door.calls() == 0 {
            tokio::task::yield_now().await;
        }
        open(&door, &destination).await;
        assert_eq!(state(&destination), BreakerState::Open);
        tokio::join!(door.send(waiting("slow")), async {
            while door.engine.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            go.add_permits(1);
        })
    };
    let (first, (second, ())) = tokio::join!(first, second);
    assert_eq!(first.status, 200);
    assert!(second.replays("call 1"), "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_nothing_is_refused() {
    let door = Door::new(named("r").build().unwrap(), by_path);
    for n in 0..200 {
        assert_eq!(door.send(ask("/500", &n.to_string(), "")).await.status, 500);
    }
    assert_eq!(door.calls(), 200);
}
