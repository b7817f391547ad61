use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use hapax::http::{Limits, StoreDown, Verdict};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::world::{World, request, retrying, route};

/// A world whose handler says that it has begun, then waits at a gate.
struct Gated {
    world: World,
    begun: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Gated {
    async fn new() -> Self {
        Self::limited(Limits::default()).await
    }

    async fn limited(limits: Limits) -> Self {
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (says, waits) = (Arc::clone(&begun), Arc::clone(&gate));
        let world = World::limited(route(), limits, move |run, request| {
            let (says, waits) = (Arc::clone(&says), Arc::clone(&waits));
            async move {
                if request.method() == Method::GET {
                    return "got".to_owned();
                }
                says.add_permits(1);
                waits.acquire().await.unwrap().forget();
                format!("run {run}")
            }
        })
        .await;
        Self { world, begun, gate }
    }

    async fn begun(&self) {
        self.begun.acquire().await.unwrap().forget();
    }

    /// Waits until so many duplicates wait.
    async fn waiting(&self, count: usize) {
        while self.world.engine.waiting() != count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_hundred_concurrent_duplicates_run_once() {
    let gated = Gated::new().await;
    let asks = join_all((0..100).map(|_| gated.world.post_and_wait("a", 30)));
    let opens = async {
        gated.begun().await;
        gated.waiting(99).await;
        gated.gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(asks, opens);
    assert!(answers.iter().all(|got| got.status == 200 && got.text() == "run 1"));
    let replays = answers
        .iter()
        .filter(|got| got.header("idempotent-replayed") == Some("true"))
        .count();
    assert_eq!((replays, gated.world.runs()), (99, 1));
}

#[tokio::test]
async fn a_waiting_duplicate_gets_the_answer_or_is_told_to_come_again() {
    let gated = Gated::new().await;
    let first = gated.world.post_and_wait("a", 30);
    let others = async {
        gated.begun().await;
        // A lower wait than the route's is granted, and over at once.
        assert_eq!(gated.world.post_and_wait("a", 0).await.problem(), "in-progress");
        let waits = gated.world.post_and_wait("a", 9999);
        let opens = async {
            gated.waiting(1).await;
            gated.gate.add_permits(1);
        };
        let (waited, ()) = tokio::join!(waits, opens);
        assert_eq!(
            (waited.text(), waited.header("idempotent-replayed")),
            ("run 1", Some("true"))
        );
    };
    tokio::join!(first, others);
}

#[tokio::test]
async fn a_run_goes_on_when_its_client_leaves() {
    let gated = Gated::new().await;
    let text = request("POST /orders", "Idempotency-Key: a\r\n", "");
    let mut connection = TcpStream::connect(gated.world.at).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    gated.begun().await;
    drop(connection);
    let retry = gated.world.post_and_wait("a", 30);
    let opens = async {
        gated.waiting(1).await;
        gated.gate.add_permits(1);
    };
    let (got, ()) = tokio::join!(retry, opens);
    assert_eq!((got.text(), got.header("idempotent-replayed")), ("run 1", Some("true")));
    assert_eq!(gated.world.runs(), 1);
}

#[tokio::test]
async fn a_panicking_handler_leaves_an_unknown_outcome() {
    let world = World::new(route(), |_, request: axum::extract::Request| async move {
        assert_eq!(request.uri().path(), "/nowhere", "this handler panics on purpose");
    })
    .await;
    let got = world.post("a", "").await;
    assert_eq!((got.status, got.problem().as_str()), (502, "upstream-reset"));
    assert_eq!(world.post("a", "").await.problem(), "outcome-unknown");
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn a_panicking_handler_runs_again_where_the_route_says_so() {
    let world = World::new(route().run(retrying()), |run, _| async move {
        assert_ne!(run, 1, "this handler panics on purpose");
        "well"
    })
    .await;
    assert_eq!(world.post("a", "").await.status, 502);
    assert_eq!(world.post("a", "").await.text(), "well");
}

#[tokio::test]
async fn a_store_that_goes_down_meanwhile_keeps_the_answer_back() {
    let world = World::new(route(), |run, _| async move { format!("run {run}") }).await;
    world.store.finish_down(true);
    let got = world.post("a", "").await;
    assert_eq!((got.status, got.problem().as_str()), (503, "store-unavailable"));
    assert!(got.text().contains("The operation ran"), "{}", got.text());
    assert_eq!(world.post("a", "").await.problem(), "in-progress");
    world.store.finish_down(false);
    let got = world.post_and_wait("b", 0).await;
    assert_eq!(got.text(), "run 2");
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn a_route_can_run_unprotected_while_the_store_is_down() {
    let world = World::new(
        route().when_store_is_down(StoreDown::RunUnprotected),
        |run, request| async move {
            let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
            (
                StatusCode::CREATED,
                format!("run {run} {}", String::from_utf8_lossy(&body)),
            )
        },
    )
    .await;
    // Before the recipe's number is known, and after.
    for runs in [[1, 2, 3], [4, 5, 6]] {
        world.store.down(true);
        for run in &runs[..2] {
            let got = world.post(&format!("key {}", runs[0]).replace(' ', ""), "body").await;
            assert_eq!((got.status, got.text()), (201, format!("run {run} body").as_str()));
            assert_eq!(got.header("hapax-state"), Some("unprotected"));
        }
        world.store.down(false);
        let got = world.post(&format!("other{}", runs[0]), "body").await;
        assert_eq!(
            (got.text(), got.header("hapax-state")),
            (format!("run {} body", runs[2]).as_str(), None)
        );
    }
    assert_eq!(world.verdicts()[0], Verdict::Unprotected);
    // What ran already is never run unprotected.
    world.store.finish_down(true);
    assert_eq!(world.post("late", "").await.problem(), "store-unavailable");
    assert_eq!(world.runs(), 7);
}

#[tokio::test]
async fn a_lapsed_run_is_unknown_until_it_reports() {
    let gated = Gated::new().await;
    let first = gated.world.post("a", "");
    let others = async {
        gated.begun().await;
        // No heartbeat can come: the machine's clock stands still, the store's runs on.
        gated.world.pass(Duration::from_secs(31));
        let got = gated.world.post("a", "").await;
        assert_eq!((got.status, got.problem().as_str()), (409, "outcome-unknown"));
        assert_eq!(got.json()["cause"], "lapsed");
        gated.gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(first, others);
    assert_eq!(first.text(), "run 1", "the late end of the same run is believed");
    assert_eq!(
        gated.world.post("a", "").await.header("idempotent-replayed"),
        Some("true")
    );
    assert_eq!(gated.world.runs(), 1);
}

#[tokio::test]
async fn runs_that_go_on_without_their_client_count_as_in_flight() {
    let limits = Limits {
        in_flight: 1,
        ..Limits::default()
    };
    let gated = Gated::limited(limits).await;
    let text = request("POST /orders", "Idempotency-Key: a\r\n", "");
    let mut connection = TcpStream::connect(gated.world.at).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    gated.begun().await;
    drop(connection);
    let got = gated.world.post("b", "").await;
    assert_eq!(
        (got.status, got.problem().as_str(), got.header("retry-after")),
        (503, "overloaded", Some("1"))
    );
    assert_eq!(
        gated.world.send("GET /orders", "", "").await.text(),
        "got",
        "what passes through does not count"
    );
    gated.gate.add_permits(2);
    let free = async || loop {
        let got = gated.world.post("b", "").await;
        if got.status == 200 {
            return got;
        }
        assert_eq!(got.problem(), "overloaded");
    };
    assert_eq!(free().await.text(), "run 3");
    assert_eq!(gated.world.runs(), 3);
}
