//! The admin listener, for the operator's own machine: health, readiness, metrics, and accepting a jump of the clock.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hapax::Engine;
use hapax::core::StoreErrorKind;
use http::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::gateway::listener::Stop;
use crate::observe::Metrics;
use crate::observe::destinations::Destinations;
use crate::observe::prometheus::{self, Now};

/// What the pages are made of.
pub(super) struct Admin {
    pub(super) engine: Engine,
    pub(super) metrics: Arc<Metrics>,
    pub(super) destinations: Destinations,
    pub(super) stop: Stop,
}

/// Connections at a time.
const MOST: usize = 64;
/// How long the store may take to say that it is there.
const STORE: Duration = Duration::from_secs(2);
const SLOW_HEAD: Duration = Duration::from_secs(10);

/// What the store says of its clock: why it does not, or a jump that nobody accepted.
struct Clock {
    down: Option<&'static str>,
    jump: Option<Duration>,
}

impl Admin {
    /// Serves until dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let (this, places) = (Arc::new(self), Arc::new(Semaphore::new(MOST)));
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let this = Arc::clone(&this);
                    tokio::spawn(async move {
                        this.connection(stream).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, most likely: give others time to close theirs.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request| {
            let this = Arc::clone(&self);
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SLOW_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "an admin connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method(), request.uri().path());
        let wanted = match path {
            "/clock/accept" => Method::POST,
            _ => Method::GET,
        };
        match path {
            "/healthz" | "/readyz" | "/metrics" | "/clock/accept" if *method != wanted => not_allowed(&wanted),
            "/healthz" => page(StatusCode::OK, "text/plain", "ok\n"),
            "/readyz" => self.ready().await,
            "/metrics" => self.metrics().await,
            // A page of another origin, open in the operator's browser, must not reach this.
            "/clock/accept" if request.headers().contains_key(ORIGIN) => {
                page(StatusCode::FORBIDDEN, "text/plain", "not from a browser\n")
            }
            "/clock/accept" => self.accept_clock().await,
            _ => page(
                StatusCode::NOT_FOUND,
                "text/plain",
                "/healthz /readyz /metrics /clock/accept\n",
            ),
        }
    }

    async fn clock(&self, accept: bool) -> Clock {
        match timeout(STORE, self.engine.store().time(accept)).await {
            Ok(Ok((_, jump))) => Clock { down: None, jump },
            Ok(Err(error)) if error.kind() == StoreErrorKind::Full => Clock {
                down: Some("the store's disk is full or read-only: make room on it; nothing can be claimed until then"),
                jump: None,
            },
            _ => Clock {
                down: Some("the store does not answer"),
                jump: None,
            },
        }
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let clock = self.clock(false).await;
        let draining = self.stop.is_asked();
        let why = match clock {
            _ if draining => Some("draining: a stop was asked for"),
            Clock { down: Some(why), .. } => Some(why),
            Clock { jump: Some(_), .. } => {
                Some("the clock jumped ahead; nothing expires until it is set right, or POST /clock/accept")
            }
            Clock { .. } => None,
        };
        let status = match why {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({
            "ready": why.is_none(),
            "why": why,
            "store": if clock.down.is_none() { "up" } else { "down" },
            "draining": draining,
            "clock_jump_seconds": clock.jump.map(|jump| jump.as_secs_f64()),
        });
        page(status, "application/json", format!("{body}\n"))
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let clock = self.clock(false).await;
        let now = Now {
            waiting: self.engine.waiting(),
            store_up: clock.down.is_none(),
            clock_jump_seconds: clock.jump.unwrap_or_default().as_secs_f64(),
            draining: self.stop.is_asked(),
        };
        let text = prometheus::render(&self.metrics, now, &self.destinations);
        page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    async fn accept_clock(&self) -> Response<Full<Bytes>> {
        let before = self.clock(false).await;
        let after = self.clock(true).await;
        let status = match after.down {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let accepted = before
            .jump
            .filter(|_| after.down.is_none())
            .map(|jump| jump.as_secs_f64());
        if let Some(seconds) = accepted {
            tracing::warn!(seconds, "a jump of the clock was accepted");
        }
        page(
            status,
            "application/json",
            format!("{}\n", json!({ "accepted_jump_seconds": accepted })),
        )
    }
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn not_allowed(wanted: &Method) -> Response<Full<Bytes>> {
    let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", format!("use {wanted}\n"));
    if let Ok(value) = HeaderValue::from_str(wanted.as_str()) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// Binds the admin address.
///
/// # Errors
/// If it cannot be had.
pub(super) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
