//! The backend as the door sees it: what its failures prove, counted and logged.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hapax::http::{Failure, Proof};
use http::{Request, Response};
use tower_service::Service;

use crate::gateway::body::Body;
use crate::gateway::upstream::{AmbiguousCause, AnswerBody, Upstream, UpstreamError};
use crate::observe::Metrics;

/// An upstream whose failures are noticed. Clones share all.
#[derive(Clone)]
pub(super) struct Backend {
    upstream: Upstream,
    noticed: Arc<Noticed>,
}

struct Noticed {
    metrics: Arc<Metrics>,
    begun: Instant,
    /// When a failure was last logged: milliseconds since `begun`, plus 1.
    logged: AtomicU64,
}

impl Backend {
    pub(super) fn new(upstream: Upstream, metrics: Arc<Metrics>) -> Self {
        let noticed = Noticed {
            metrics,
            begun: Instant::now(),
            logged: AtomicU64::new(0),
        };
        Self {
            upstream,
            noticed: Arc::new(noticed),
        }
    }
}

impl Service<Request<Body>> for Backend {
    type Response = Response<AnswerBody>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let answered = this.upstream.send(request).await;
            if let Err(error) = &answered
                && error.body_error().is_none()
            {
                this.noticed.failure(error);
            }
            answered
        })
    }
}

impl Noticed {
    /// One line a second: a backend that is down fails every request.
    fn failure(&self, error: &UpstreamError) {
        const PAUSE: Duration = Duration::from_secs(1);
        let http = &self.metrics.http;
        match error.proof() {
            Proof::Unsent => http.upstream_unsent.add(1),
            Proof::TimedOut => http.upstream_timed_out.add(1),
            Proof::Reset => http.upstream_broke.add(1),
        }
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.logged.load(Relaxed);
        let due = last == 0 || now - last >= PAUSE.as_millis() as u64;
        if due && self.logged.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            tracing::warn!(%error, "the backend did not answer");
        }
    }
}

impl Failure for UpstreamError {
    fn proof(&self) -> Proof {
        match self {
            Self::Unsent { .. } => Proof::Unsent,
            Self::Ambiguous {
                cause: AmbiguousCause::Timeout,
                ..
            } => Proof::TimedOut,
            Self::Ambiguous { .. } => Proof::Reset,
        }
    }

    fn last_error(&self) -> String {
        self.to_string()
    }
}
