//! A real axum server behind the layer, whose handler does what a test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hapax::core::{AfterFailure, BoxFuture, Name, Timestamp};
use hapax::http::{Idempotency, Limits, Route, RouteBuilder, Routes, ScopeExtractor, SingleTenant, Verdict};
use hapax::store::{Clock, MemoryStore};
use hapax::{Engine, EngineOptions, RunOptions};
use tokio::net::TcpListener;

use super::client::{self, Got};
use super::shaky::Shaky;

/// What the handler does with its `n`th request (from 1).
type Handler = dyn Fn(usize, Request) -> BoxFuture<'static, Response> + Send + Sync;

/// A server, its store and its clock.
pub(super) struct World {
    pub(super) at: SocketAddr,
    pub(super) store: Shaky,
    pub(super) engine: Engine,
    runs: Arc<AtomicUsize>,
    clock: TestClock,
    reports: Arc<Mutex<Vec<Verdict>>>,
}

/// A store clock that only moves when told to.
#[derive(Clone, Default)]
pub(super) struct TestClock(pub(super) Arc<AtomicI64>);

impl TestClock {
    pub(super) fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        let reading = move || {
            let millis = millis.load(Ordering::SeqCst);
            (Timestamp::from_millis(millis), Duration::from_millis(millis as u64))
        };
        Clock::made(reading, Duration::from_secs(300))
    }
}

/// The default route, but that duplicates do not wait.
pub(super) fn route() -> RouteBuilder {
    named("default")
}

pub(super) fn named(name: &str) -> RouteBuilder {
    Route::builder(Name::new(name).unwrap()).wait(Duration::ZERO, Duration::from_secs(30))
}

/// Options under which an ambiguous failure is retried.
pub(super) fn retrying() -> RunOptions {
    RunOptions {
        after_failure: AfterFailure::Retry,
        ..RunOptions::default()
    }
}

impl World {
    /// A world with one route for all, one tenant, and a handler.
    pub(super) async fn new<F, R>(
        route: RouteBuilder,
        handler: impl Fn(usize, Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        Self::with(route.build().unwrap(), SingleTenant::new(), handler).await
    }

    /// The same, with limits of its own.
    pub(super) async fn limited<F, R>(
        route: RouteBuilder,
        limits: Limits,
        handler: impl Fn(usize, Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        Self::made(route.build().unwrap(), SingleTenant::new(), limits, handler).await
    }

    /// A world whose handler answers 201 with the number of its run.
    pub(super) async fn counting(route: RouteBuilder) -> Self {
        Self::new(route, counted).await
    }

    pub(super) async fn with<F, R>(
        routes: impl Into<Routes>,
        scope: impl ScopeExtractor,
        handler: impl Fn(usize, Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        Self::made(routes, scope, Limits::default(), handler).await
    }

    async fn made<F, R>(
        routes: impl Into<Routes>,
        scope: impl ScopeExtractor,
        limits: Limits,
        handler: impl Fn(usize, Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse,
    {
        let clock = TestClock::default();
        clock.0.store(1_800_000_000_000, Ordering::SeqCst);
        let store = Shaky::new(MemoryStore::new(clock.clock(), [7; 32]));
        let options = EngineOptions {
            store_patience: Duration::ZERO,
            ..EngineOptions::default()
        };
        let engine = Engine::new(store.clone(), options, ());
        let layer = Idempotency::with_limits(engine.clone(), scope, routes, &limits);
        let runs = Arc::new(AtomicUsize::new(0));
        let handler: Arc<Handler> = Arc::new(move |run, request| {
            let answer = handler(run, request);
            Box::pin(async move { answer.await.into_response() })
        });
        let counter = Arc::clone(&runs);
        let run = move |request: Request| {
            let run = counter.fetch_add(1, Ordering::SeqCst) + 1;
            handler(run, request)
        };
        let reports = Arc::new(Mutex::new(Vec::new()));
        let app = axum::Router::new().fallback(run).layer(layer);
        let app = app.layer(axum::middleware::map_response_with_state(Arc::clone(&reports), report));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            at,
            store,
            engine,
            runs,
            clock,
            reports,
        }
    }

    /// How often the handler ran.
    pub(super) fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Moves the store's time.
    pub(super) fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    /// What the access log would say of all requests so far; `None` of those that passed through.
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.reports.lock().unwrap().clone()
    }

    /// Sends a request with these header lines (each with its line end) and a body.
    pub(super) async fn send(&self, line: &str, headers: &str, body: &str) -> Got {
        client::send(self.at, request(line, headers, body).as_bytes()).await
    }

    /// POST /orders with a key, a JSON type and a body.
    pub(super) async fn post(&self, key: &str, body: &str) -> Got {
        let headers = format!("Idempotency-Key: {key}\r\nContent-Type: application/json\r\n");
        self.send("POST /orders", &headers, body).await
    }

    /// POST /orders whose duplicate waits.
    pub(super) async fn post_and_wait(&self, key: &str, seconds: u32) -> Got {
        let headers = format!("Idempotency-Key: {key}\r\nPrefer: wait={seconds}\r\n");
        self.send("POST /orders", &headers, "").await
    }
}

async fn report(
    axum::extract::State(reports): axum::extract::State<Arc<Mutex<Vec<Verdict>>>>,
    response: Response,
) -> Response {
    if let Some(report) = response.extensions().get::<hapax::http::Report>() {
        reports.lock().unwrap().push(report.verdict);
    }
    response
}

pub(super) fn request(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// 201 with the number of the run.
pub(super) async fn counted(run: usize, _: Request) -> impl IntoResponse {
    let headers = [
        ("location", format!("/orders/{run}")),
        ("content-type", "text/plain".into()),
    ];
    (axum::http::StatusCode::CREATED, headers, format!("order {run}"))
}
