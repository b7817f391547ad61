//! The layer around an inner service that fails as it is told, without a network; in paused time.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response};
use hapax::core::policy::{BreakerPolicy, RetryPolicy};
use hapax::core::{Key, Name, Operation, Record, Scope, StateName, Store};
use hapax::http::{Failure, Idempotency, IdempotencyService, Limits, Proof, Report, Routes, Verdict};
use hapax::store::MemoryStore;
use hapax::{Engine, EngineOptions, Event, Observer, Runner, RunnerOptions};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower_layer::Layer;
use tower_service::Service;

use super::world::TestClock;

/// What the inner service does: by the number of the call (from 1) and the request.
type Script = dyn Fn(usize, Request<Body>) -> Answering + Send + Sync;
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Broke>> + Send>>;

/// An error of the inner service.
#[derive(Debug)]
pub(super) struct Broke(pub(super) Proof, pub(super) &'static str);

impl Failure for Broke {
    fn proof(&self) -> Proof {
        self.0
    }

    fn last_error(&self) -> String {
        self.1.to_owned()
    }
}

#[derive(Clone)]
pub(super) struct Inner {
    script: Arc<Script>,
    calls: Arc<AtomicUsize>,
}

impl Service<Request<Body>> for Inner {
    type Response = Response<Body>;
    type Error = Broke;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        (self.script)(self.calls.fetch_add(1, Ordering::SeqCst) + 1, request)
    }
}

/// What happened in the engine, as far as tests want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Started,
    Finished(StateName),
    Resolved(StateName),
}

struct Watch(UnboundedSender<Happened>);

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) {
        let happened = match event {
            Event::Started { .. } => Happened::Started,
            Event::Finished { state, .. } => Happened::Finished(*state),
            Event::Resolved { state, .. } => Happened::Resolved(*state),
            _ => return,
        };
        // Nobody may be left to hear it.
        let _ = self.0.send(happened);
    }
}

#[derive(Clone)]
pub(super) struct Door {
    pub(super) service: IdempotencyService<Inner>,
    pub(super) engine: Engine,
    pub(super) store: MemoryStore,
    inner: Inner,
    clock: TestClock,
    happened: Arc<Mutex<UnboundedReceiver<Happened>>>,
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) verdict: Option<Verdict>,
}

impl Told {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status and the problem's name.
    pub(super) fn problem(&self) -> (u16, String) {
        let json = self.json();
        let urn = json["type"].as_str().unwrap_or_else(|| panic!("no problem: {json}"));
        (self.status, urn.rsplit(':').next().unwrap().to_owned())
    }

    /// Whether it is a replay of this text.
    pub(super) fn replays(&self, text: &str) -> bool {
        self.header("idempotent-replayed") == Some("true") && self.text() == text
    }
}

/// A request of tenant `t`: its path, key and body.
pub(super) fn ask(path: &str, key: &str, body: &str) -> Request<Body> {
    asks("t", path, key, body, "")
}

/// The same that would rather have its answer later.
pub(super) fn ask_later(path: &str, key: &str, body: &str) -> Request<Body> {
    asks("t", path, key, body, "respond-async")
}

pub(super) fn asks(tenant: &str, path: &str, key: &str, body: &str, prefer: &str) -> Request<Body> {
    let mut request = Request::post(path)
        .header("idempotency-key", key)
        .header("tenant", tenant)
        .body(Body::from(body.to_owned()))
        .unwrap();
    if !prefer.is_empty() {
        request.headers_mut().insert("prefer", prefer.parse().unwrap());
    }
    request
}

/// A policy whose breaker opens after three failures of at most six calls, for 4 to 5 s.
pub(super) fn policy() -> RetryPolicy {
    RetryPolicy {
        breaker: BreakerPolicy {
            minimum_calls: 3,
            ..BreakerPolicy::default()
        },
        ..RetryPolicy::default()
    }
}

/// An answer with a status and the number of the call.
pub(super) fn answer(status: u16, call: usize) -> Answering {
    let response = Response::builder().status(status);
    let response = response.body(Body::from(format!("call {call}"))).unwrap();
    Box::pin(std::future::ready(Ok(response)))
}

/// The path says which status to answer with.
pub(super) fn by_path(call: usize, request: Request<Body>) -> Answering {
    answer(request.uri().path()[1..].parse().unwrap(), call)
}

impl Door {
    pub(super) fn new(
        routes: impl Into<Routes>,
        script: impl Fn(usize, Request<Body>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let clock = TestClock::default();
        clock.0.store(1_800_000_000_000, Ordering::SeqCst);
        let store = MemoryStore::new(clock.clock(), [7; 32]);
        let inner = Inner {
            script: Arc::new(script),
            calls: Arc::default(),
        };
        Self::made(routes, inner, store, clock)
    }

    /// The same store and inner service behind other routes, as after a restart.
    pub(super) fn reopened(self, routes: impl Into<Routes>) -> Self {
        Self::made(routes, self.inner, self.store, self.clock)
    }

    fn made(routes: impl Into<Routes>, inner: Inner, store: MemoryStore, clock: TestClock) -> Self {
        let (sender, happened) = unbounded_channel();
        let engine = Engine::new(store.clone(), EngineOptions::default(), Watch(sender));
        let scope = |parts: &axum::http::request::Parts| {
            let tenant = parts.headers.get("tenant").map(|tenant| tenant.to_str().unwrap());
            Ok(Scope::new(tenant.unwrap_or("t")).unwrap())
        };
        let layer = Idempotency::with_limits(engine.clone(), scope, routes, &Limits::default());
        Self {
            service: layer.layer(inner.clone()),
            engine,
            store,
            inner,
            clock,
            happened: Arc::new(Mutex::new(happened)),
        }
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Told {
        let response = self.service.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Told {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: axum::body::to_bytes(Body::new(body), 1 << 20).await.unwrap(),
            verdict: parts.extensions.get::<Report>().map(|report| report.verdict),
        }
    }

    /// What the status endpoint says of a key of tenant `t`.
    pub(super) async fn status(&self, path: &str) -> Told {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// How often the inner service was called.
    pub(super) fn calls(&self) -> usize {
        self.inner.calls.load(Ordering::SeqCst)
    }

    /// The record of a key of tenant `t` on the route `r`.
    pub(super) async fn record(&self, key: &str) -> Option<Record> {
        let name = Name::new("r").unwrap();
        let operation = Operation::new(Scope::new("t").unwrap(), name, Key::new(key).unwrap());
        self.store.read(operation.id()).await.unwrap().1
    }

    /// Moves both clocks.
    pub(super) async fn pass(&self, time: Duration) {
        self.lapse(time);
        tokio::time::advance(time).await;
    }

    /// Moves the store's clock alone.
    pub(super) fn lapse(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    /// What happened since the last time this was asked.
    pub(super) fn happened(&self) -> Vec<Happened> {
        let mut happened = self.happened.lock().unwrap();
        std::iter::from_fn(|| happened.try_recv().ok()).collect()
    }

    /// Lets a runner run until this has happened.
    pub(super) async fn run_until(&self, wanted: Happened) {
        let runner = self
            .service
            .equip(Runner::new(&self.engine, RunnerOptions::default()), false);
        let left = runner.run(async {
            let wait = async {
                loop {
                    let happened = std::future::poll_fn(|cx| self.happened.lock().unwrap().poll_recv(cx)).await;
                    if happened == Some(wanted) {
                        return;
                    }
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(100), wait).await;
            waited.unwrap_or_else(|_| panic!("{wanted:?} did not happen"));
        });
        assert_eq!(left.await, 0, "runs were left");
    }
}
