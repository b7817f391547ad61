//! The HTTP door to transactions: a real axum server whose handler takes the transaction and answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hapax::Engine;
use hapax::atomic::{AtomicOptions, Bounds};
use hapax::core::{Key, Name, Operation, Record, StateName, StoreErrorKind};
use hapax::http::{Idempotency, Rollback, Route, RouteBuilder, ScopeExtractor, SingleTenant, StoreDown, Transaction};
use hapax::store::joined::{Fault, JointError};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::client::{self, Got};
use crate::world::{RusqliteWorld, TokioPostgresWorld, World};

/// A server.
struct Shop {
    at: SocketAddr,
    counts: Arc<Counts>,
}

/// What its handler shares with the test.
#[derive(Default)]
struct Counts {
    runs: AtomicUsize,
    /// Whoever keeps a transaction lets it go.
    lets_go: Notify,
}

fn route() -> RouteBuilder {
    let name = Name::new("order").unwrap();
    Route::builder(name).wait(Duration::from_secs(20), Duration::from_secs(30))
}

async fn serve(engine: &Engine, route: RouteBuilder, app: axum::Router<Arc<Counts>>) -> Shop {
    let layer = Idempotency::new(engine.clone(), SingleTenant::new(), route.build().unwrap());
    let counts = Arc::new(Counts::default());
    let app = app.with_state(Arc::clone(&counts)).layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Shop { at, counts }
}

impl Shop {
    async fn in_transactions<W: World>(world: &W) -> Self {
        Self::within(world, Bounds::default()).await
    }

    async fn within<W: World>(world: &W, bounds: Bounds) -> Self {
        let options = AtomicOptions {
            bounds,
            ..AtomicOptions::default()
        };
        let route = route().atomic(&world.atomic(options));
        let app = axum::Router::new().route("/orders", post(order::<W>));
        serve(world.engine(), route, app).await
    }

    /// The same answers, without a transaction.
    async fn leased(engine: &Engine) -> Self {
        let app = axum::Router::new().route("/orders", post(async |what: String| answer(&what)));
        serve(engine, route().require_key(true), app).await
    }

    async fn ask(&self, key: Option<&str>, what: &str) -> Got {
        let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let request = format!(
            "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n{key}\r\n{what}",
            what.len()
        );
        let mut got = client::send(self.at, request.as_bytes()).await;
        got.headers.retain(|(name, _)| name != "date");
        got
    }

    fn runs(&self) -> usize {
        self.counts.runs.load(Ordering::Relaxed)
    }
}

/// Orders under the key that the request's body begins with, and ends as its second word says.
async fn order<W: World>(
    State(shop): State<Arc<Counts>>,
    mut transaction: Transaction<W::Database>,
    what: String,
) -> Result<Response, Rollback> {
    let run = shop.runs.fetch_add(1, Ordering::Relaxed) + 1;
    let (key, end) = what.split_once(' ').unwrap();
    W::order(transaction.connection(), key).await?;
    match end {
        "fails" => Err("no stock")?,
        "conflicts" if run == 1 => {
            let message = "as the database says";
            Err(JointError::new(Fault::Conflict, StoreErrorKind::Unavailable, message))?;
        }
        "panics" => panic!("on purpose"),
        "keeps" if run == 1 => {
            tokio::spawn(async move {
                shop.lets_go.notified().await;
                drop(transaction);
            });
        }
        "tires" => return Ok(Rollback::from("tired").answer(StatusCode::BAD_GATEWAY.into_response())),
        _ => {}
    }
    Ok(answer(&what))
}

/// The answer that the second word says.
fn answer(what: &str) -> Response {
    let status = what.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = StatusCode::from_u16(status.unwrap_or(201)).unwrap();
    let headers = [("location", "/orders/7"), ("set-cookie", "a=1"), ("x-shown", "once")];
    (status, headers, format!("order {what}")).into_response()
}

async fn record<W: World>(world: &W, key: &str) -> Record {
    let parts = axum::http::Request::new(()).into_parts().0;
    let scope = SingleTenant::new().scope(&parts).unwrap();
    let operation = Operation::new(scope, Name::new("order").unwrap(), Key::new(key).unwrap());
    let (_, record) = world.engine().store().read(operation.id()).await.unwrap();
    record.expect("it has its record")
}

/// What callers see is what they see of a leased route, first answers, duplicates and problems alike.
pub(crate) async fn answers_as_a_leased_route_does<W: World>(world: W, other: W) {
    let shops = [Shop::in_transactions(&world).await, Shop::leased(other.engine()).await];
    for (key, what, status) in [
        (Some("a"), "a 201", 201),
        (Some("a"), "a 201", 201),
        (Some("a"), "b 201", 422),
        (Some("b"), "b 303", 303),
        (Some("b"), "b 303", 303),
        (Some("c"), "c 404", 404),
        (Some("c"), "c 404", 404),
        (Some("d"), "d 429", 429),
        (Some("d"), "d 429", 429),
        (None, "e 201", 400),
        (Some("\u{e9}"), "f 201", 400),
    ] {
        let [here, there] = [shops[0].ask(key, what).await, shops[1].ask(key, what).await];
        assert_eq!(here, there, "{key:?} {what}");
        assert_eq!(here.status, status, "{key:?} {what}");
    }
    // What was final ran once, what had no effect each time.
    assert_eq!(shops[0].runs(), 5);
    for (key, orders) in [("a", 1), ("b", 1), ("c", 0), ("d", 0), ("e", 0), ("f", 0)] {
        assert_eq!(world.orders(key).await, orders, "{key}");
    }
}

/// What failed is rolled back and counted, and may be asked for again.
pub(crate) async fn failures_roll_back_and_are_counted<W: World>(world: W) {
    let shop = Shop::in_transactions(&world).await;
    for (key, what, status, kept) in [
        ("a", "a 500", 500, "status 500"),
        ("b", "b fails", 500, "no stock"),
        ("c", "c tires", 502, "tired"),
        ("d", "d panics", 503, "the handler panicked"),
    ] {
        let got = shop.ask(Some(key), what).await;
        assert_eq!(got.status, status, "{what}: {}", got.text());
        if status == 503 {
            assert_eq!(got.problem(), "retry-later");
            assert_eq!(got.header("retry-after"), Some("1"));
        }
        let record = record(&world, key).await;
        assert_eq!((record.state.name(), record.tries), (StateName::Waiting, 1), "{what}");
        assert_eq!(record.last_error.unwrap().as_str(), kept);
        assert_eq!(world.orders(key).await, 0, "{what}");
    }
    let runs = shop.runs();
    let again = shop.ask(Some("a"), "a 500").await;
    assert_eq!(
        (again.status, shop.runs()),
        (500, runs + 1),
        "a failure is not replayed"
    );
}

/// What the database rolled back through nobody's fault is run again before anybody is answered.
pub(crate) async fn a_conflict_is_run_again<W: World>(world: W) {
    let shop = Shop::in_transactions(&world).await;
    let got = shop.ask(Some("a"), "a conflicts").await;
    assert_eq!((got.status, shop.runs()), (201, 2), "{}", got.text());
    assert_eq!(world.orders("a").await, 1);
    assert_eq!(record(&world, "a").await.tries, 0);
}

pub(crate) async fn duplicates_wait_and_replay<W: World>(world: W) {
    let shop = Arc::new(Shop::in_transactions(&world).await);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let shop = Arc::clone(&shop);
        all.spawn(async move { shop.ask(Some("a"), "a 201").await });
    }
    let all = all.join_all().await;
    let replayed = all.iter().filter(|got| got.header("idempotent-replayed").is_some());
    assert_eq!((replayed.count(), shop.runs()), (29, 1));
    assert!(all.iter().all(|got| got.status == 201 && got.text() == "order a 201"));
    assert_eq!(world.orders("a").await, 1);
}

/// A handler that answers and holds on to its transaction.
async fn what_is_kept_is_rolled_back<W: World>(world: W) {
    let bounds = Bounds {
        idle: Duration::from_millis(300),
        longest: Duration::from_millis(300),
        ..Bounds::default()
    };
    let shop = Shop::within(&world, bounds).await;
    let got = shop.ask(Some("a"), "a keeps").await;
    assert_eq!((got.status, got.problem().as_str()), (503, "retry-later"));
    assert_eq!(world.orders("a").await, 0);
    shop.counts.lets_go.notify_one();
    let got = shop.ask(Some("a"), "a keeps").await;
    assert_eq!((got.status, shop.runs()), (201, 2), "{}", got.text());
    assert_eq!(world.orders("a").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_rolled_back_on_postgres() {
    what_is_kept_is_rolled_back(TokioPostgresWorld::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_rolled_back_on_sqlite() {
    what_is_kept_is_rolled_back(RusqliteWorld::start().await).await;
}

/// A route that makes no sense, and a layer with another engine.
#[tokio::test]
async fn nonsense_is_refused() {
    let (world, other) = (RusqliteWorld::start().await, RusqliteWorld::start().await);
    let atomic = world.atomic(AtomicOptions::default());
    for (route, why) in [
        (route().atomic(&atomic).require_key(false), "without a required key"),
        (route().atomic(&atomic).respond_async(true), "respond_async"),
        (
            route().atomic(&atomic).when_store_is_down(StoreDown::RunUnprotected),
            "running unprotected",
        ),
    ] {
        let error = route.build().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let route = route().atomic(&atomic).build().unwrap();
    let engine = other.engine().clone();
    let made = tokio::spawn(async move { Idempotency::new(engine, SingleTenant::new(), route) });
    assert!(made.await.is_err(), "the layer's engine has other records");
}

/// A handler that asks for a transaction where there is none.
#[tokio::test]
async fn a_request_without_a_transaction_is_refused() {
    let world = RusqliteWorld::start().await;
    let app = axum::Router::new().route("/orders", post(order::<RusqliteWorld>));
    let shop = serve(world.engine(), route(), app).await;
    assert_eq!(shop.ask(Some("a"), "a 201").await.status, 500);
    assert_eq!((shop.runs(), world.orders("a").await), (0, 0));
}
