//! Requests that are answered later: stored, run by a runner, and asked for again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use hapax::core::policy::BreakerState;
use hapax::core::{Answer, BoxFuture, DeadReason, Outcome, Record, State, StateName};
use hapax::http::{Proof, Verdict};
use hapax::retry::Destination;
use hapax::{Found, ResolveError, Resolver};

use super::door::{Answering, Broke, Door, Happened, answer, ask, ask_later, by_path, policy};
use super::world::named;

const DONE: Happened = Happened::Finished(StateName::Done);

#[tokio::test(start_paused = true)]
async fn a_request_is_stored_run_by_a_runner_and_replayed() {
    type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;
    let seen = Seen::default();
    let sees = Arc::clone(&seen);
    let script = move |call, request: Request<Body>| -> Answering {
        let sees = Arc::clone(&sees);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 100).await.unwrap();
            let line = format!("{} {}", parts.method, parts.uri);
            sees.lock().unwrap().push((line, parts.headers, body));
            answer(201, call).await
        })
    };
    let door = Door::new(named("r").respond_async(true).build().unwrap(), script);
    let request = |body| {
        let mut request = ask_later("/orders?a=%20", "k/1", body);
        let headers = request.headers_mut();
        headers.insert("authorization", "Bearer s3cret".parse().unwrap());
        headers.insert("hapax-fence", "1".parse().unwrap());
        request
    };
    let told = door.send(request("body")).await;
    assert_eq!((told.status, told.verdict), (202, Some(Verdict::Accepted)));
    let location = "/.hapax/operations/k%2F1";
    for (name, value) in [
        ("location", location),
        ("preference-applied", "respond-async"),
        ("retry-after", "1"),
        ("cache-control", "no-store"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(told.header(name), Some(value), "{name}");
    }
    assert_eq!(
        told.json(),
        serde_json::json!({ "key": "k/1", "name": "r", "operation": location, "retry_after": 1 })
    );
    let json = door.status(location).await.json();
    assert_eq!(
        (&json["state"], &json["needs_help"]),
        (&"waiting".into(), &false.into())
    );

    let again = door.send(request("body")).await;
    assert_eq!((again.status, again.header("location")), (202, Some(location)));
    let told = door.send(request("another")).await;
    assert_eq!(told.problem(), (422, "key-reused".into()));
    assert_eq!(door.calls(), 0);

    door.run_until(DONE).await;
    let (line, headers, body) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((line.as_str(), &body[..]), ("POST /orders?a=%20", &b"body"[..]));
    let record = door.record("k/1").await.unwrap();
    for (name, value) in [
        ("authorization", "Bearer s3cret"),
        ("idempotency-key", "k/1"),
        ("content-length", "4"),
        ("hapax-operation", &record.operation.id().to_string()),
        ("hapax-fence", &record.fence.get().to_string()),
    ] {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    assert!(!headers.contains_key("prefer"), "it was followed here");
    assert_eq!(record.input, None, "done");

    for request in [request("body"), {
        let mut request = request("body");
        request.headers_mut().remove("prefer");
        request
    }] {
        let told = door.send(request).await;
        assert!(told.status == 201 && told.replays("call 1"), "{told:?}");
        assert_eq!(told.header("preference-applied"), None);
    }
    let json = door.status(location).await.json();
    assert_eq!(
        (
            &json["state"],
            &json["done_at"],
            &json["answer"]["status"],
            &json["tries"]
        ),
        (
            &"done".into(),
            &"2027-01-15T08:00:00.000Z".into(),
            &201.into(),
            &1.into()
        )
    );
    assert_eq!(door.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_leave_the_preference_is_ignored() {
    let door = Door::new(named("r").build().unwrap(), by_path);
    let told = door.send(ask_later("/201", "a", "")).await;
    assert_eq!((told.status, told.header("preference-applied")), (201, None));
    assert_eq!(door.record("a").await.unwrap().input, None);
}

#[tokio::test(start_paused = true)]
async fn the_location_names_the_route_where_it_must() {
    let routes = hapax::http::Routes::new()
        .route("/a", named("é b").respond_async(true).build().unwrap())
        .unwrap()
        .route("/b", named("r").build().unwrap())
        .unwrap();
    let door = Door::new(routes, by_path);
    let told = door.send(ask_later("/a", "k", "")).await;
    let location = told.header("location").unwrap();
    assert_eq!(location, "/.hapax/operations/k?name=%C3%A9%20b");
    assert_eq!(door.status(location).await.json()["state"], "waiting");
}

#[tokio::test(start_paused = true)]
async fn an_arrival_that_would_not_wait_runs_it_at_once() {
    let door = Door::new(named("r").respond_async(true).build().unwrap(), by_path);
    assert_eq!(door.send(ask_later("/201", "a", "")).await.status, 202);
    assert_eq!(door.send(ask("/201", "a", "")).await.text(), "call 1");
    assert!(door.send(ask_later("/201", "a", "")).await.replays("call 1"));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_keeps_it_waiting_and_loses_nothing() {
    let destination = Destination::new(policy()).unwrap();
    let route = named("r").respond_async(true).retry(destination.clone());
    let door = Door::new(route.build().unwrap(), |call, request| match call {
        1..=3 => answer(500, call),
        _ => by_path(call, request),
    });
    for key in ["1", "2", "3"] {
        door.send(ask("/201", key, "")).await;
    }
    assert_eq!(destination.snapshot().state, BreakerState::Open);
    assert_eq!(door.send(ask_later("/201", "a", "")).await.status, 202);
    door.happened();
    door.run_until(DONE).await;
    assert!(door.send(ask_later("/201", "a", "")).await.replays("call 4"));
}

/// The state that an operation is in after the runner's only run of it.
async fn after(script: fn(usize, Request<Body>) -> Answering, state: StateName) -> (Door, Record) {
    let door = Door::new(named("r").respond_async(true).build().unwrap(), script);
    door.send(ask_later("/", "a", "")).await;
    door.run_until(Happened::Finished(state)).await;
    let record = door.record("a").await.unwrap();
    assert_eq!(door.calls(), 1);
    (door, record)
}

#[tokio::test(start_paused = true)]
async fn the_runner_takes_an_answer_for_what_it_proves() {
    let (door, _) = after(|call, _| answer(404, call), StateName::Done).await;
    assert!(door.send(ask_later("/", "a", "")).await.replays("call 1"));

    let (door, record) = after(|call, _| answer(500, call), StateName::Unknown).await;
    assert_eq!(record.last_error.unwrap().as_str(), "status 500");
    let told = door.send(ask_later("/", "a", "")).await;
    assert_eq!(
        (told.problem(), told.json()["original_status"].as_u64()),
        ((409, "outcome-unknown".into()), Some(500))
    );
    assert_eq!(door.status("/.hapax/operations/a").await.json()["needs_help"], true);

    let (door, record) = after(|call, _| answer(401, call), StateName::Dead).await;
    assert_eq!(record.last_error.unwrap().as_str(), "status 401");
    let told = door.send(ask_later("/", "a", "")).await;
    assert_eq!(
        (told.status, told.text(), told.header("hapax-state")),
        (401, "call 1", Some("dead"))
    );
    let json = door.status("/.hapax/operations/a").await.json();
    assert_eq!(
        (&json["needs_help"], &json["reason"]),
        (&true.into(), &"refused".into())
    );

    let (_, record) = after(|call, _| answer(429, call), StateName::Waiting).await;
    assert_eq!((record.last_error.unwrap().as_str(), record.tries), ("status 429", 0));
    assert!(record.input.is_some());

    let broke =
        |_, _| -> Answering { Box::pin(std::future::ready(Err(Broke(Proof::Unsent, "connection refused: db")))) };
    let (door, record) = after(broke, StateName::Waiting).await;
    assert_eq!(
        (record.last_error.unwrap().as_str(), record.tries),
        ("connection refused: db", 0)
    );
    assert_eq!(door.send(ask_later("/", "a", "")).await.status, 202, "not done yet");

    let broke = |_, _| -> Answering { Box::pin(std::future::ready(Err(Broke(Proof::Reset, "connection reset")))) };
    let (_, record) = after(broke, StateName::Unknown).await;
    assert_eq!(record.last_error.unwrap().as_str(), "connection reset");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_throttles_the_runner_is_alive() {
    let destination = Destination::new(policy()).unwrap();
    let route = named("r").respond_async(true).retry(destination.clone());
    let door = Door::new(route.build().unwrap(), |call, _| answer(429, call));
    for key in ["1", "2", "3", "4"] {
        door.send(ask_later("/", key, "")).await;
        door.run_until(Happened::Finished(StateName::Waiting)).await;
    }
    assert_eq!(
        (door.calls() >= 4, destination.snapshot().state),
        (true, BreakerState::Closed)
    );
}

/// Finds every effect.
struct Finder;

impl Resolver for Finder {
    fn name(&self) -> &str {
        "finder"
    }

    fn resolve<'a>(&'a self, _: &'a Record) -> BoxFuture<'a, Result<Found, ResolveError>> {
        let outcome = Outcome::Answer(Answer {
            status: 201,
            headers: Vec::new(),
            body: Bytes::from_static(b"found"),
        });
        let saw = "it is there".to_owned();
        Box::pin(std::future::ready(Ok(Found::Done { outcome, saw })))
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_resolved_where_somebody_can_tell() {
    let route = named("r").resolvers(vec![Arc::new(Finder)]).build().unwrap();
    let door = Door::new(route, by_path);
    assert_eq!(door.send(ask("/500", "a", "")).await.status, 500);
    let json = door.status("/.hapax/operations/a").await.json();
    assert_eq!(
        (&json["state"], &json["needs_help"]),
        (&"unknown".into(), &false.into())
    );
    door.run_until(Happened::Resolved(StateName::Done)).await;
    assert!(door.send(ask("/500", "a", "")).await.replays("found"));
}

#[tokio::test(start_paused = true)]
async fn an_arrival_that_meets_an_unknown_outcome_wakes_the_runner() {
    let go = Arc::new(tokio::sync::Notify::new());
    let hold = Arc::clone(&go);
    let script = move |_, _| -> Answering {
        let hold = Arc::clone(&hold);
        Box::pin(async move {
            hold.notified().await;
            answer(200, 1).await
        })
    };
    let route = named("r").resolvers(vec![Arc::new(Finder)]).build().unwrap();
    let door = Door::new(route, script);
    let service = door.service.clone();
    let first = tokio::spawn(async move { tower_service::Service::call(&mut { service }, ask("/", "a", "")).await });
    while door.calls() == 0 {
        tokio::task::yield_now().await;
    }
    // Its lease lapses in the store's time, while the runner sleeps.
    let began = tokio::time::Instant::now();
    let asks = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        door.lapse(Duration::from_secs(31));
        let told = door.send(ask("/", "a", "")).await;
        assert_eq!(told.problem(), (409, "outcome-unknown".into()));
    };
    tokio::join!(asks, door.run_until(Happened::Resolved(StateName::Done)));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    go.notify_one();
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.status(), 201, "its late finish is told what was found");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_accepts_nothing() {
    let route = named("r")
        .respond_async(true)
        .when_store_is_down(hapax::http::StoreDown::RunUnprotected);
    let world = super::world::World::counting(route).await;
    assert_eq!(world.post("first", "").await.status, 201);
    world.store.down(true);
    let headers = "Idempotency-Key: a\r\nPrefer: respond-async\r\n";
    let got = world.send("POST /orders", headers, "").await;
    assert_eq!((got.problem().as_str(), world.runs()), ("store-unavailable", 1));
}

#[tokio::test(start_paused = true)]
async fn what_no_longer_makes_sense_dies_with_its_input() {
    use hapax::core::{Fingerprint, Input, Key, Name, Operation, RecipeId, Scope};
    let door = Door::new(named("r").respond_async(true).build().unwrap(), by_path);
    let arrival = hapax::Arrival {
        group: None,
        input: None,
        operation: Operation::new(
            Scope::new("t").unwrap(),
            Name::new("r").unwrap(),
            Key::new("a").unwrap(),
        ),
        fingerprint: Fingerprint::new(RecipeId::new(1), [1; 32]),
        refingerprint: Arc::new(|_, _| None),
        options: hapax::RunOptions::default(),
        wait: Duration::ZERO,
    };
    let input = Input(Bytes::from_static(b"\x01\x02"));
    door.engine
        .enqueue(arrival, input.clone(), Duration::ZERO)
        .await
        .unwrap();
    door.run_until(Happened::Finished(StateName::Dead)).await;
    let record = door.record("a").await.unwrap();
    assert!(matches!(
        record.state,
        State::Dead {
            reason: DeadReason::Refused,
            ..
        }
    ));
    let error = record.last_error.unwrap();
    assert!(
        error.as_str().contains("its version is not known"),
        "{}",
        error.as_str()
    );
    assert_eq!((record.input, door.calls()), (Some(input), 0));
}
