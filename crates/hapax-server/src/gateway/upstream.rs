//! The upstream client: one upstream, pooled HTTP/1.1 connections, and an error type that says
//! what it proves.
//!
//! **Proof.** [`UpstreamError::Unsent`] means that no byte of the request was handed to the
//! system, so it cannot have had an effect. Everything else is [`UpstreamError::Ambiguous`]. A
//! request is sent again by itself only when it came back from a pooled connection that was found
//! dead before a byte of it was written; one that may have been sent is never sent twice.
//!
//! **Connections** are driven by whoever waits for the answer, not by tasks of their own: an
//! exchange costs no hop between tasks, and dropping the answer closes its connection. The pool
//! is a stack, so that connections not needed grow old and are closed.
//!
//! **Headers.** Hop-by-hop headers, and those that `Connection` names, are removed in both
//! directions (RFC 9110 §7.6.1); `Hapax-*` is removed from answers. Length and transfer coding
//! are made anew from the body. `Expect` is removed: the listener asks the client for its body as
//! soon as it is read. `Upgrade` is removed, which makes a request for WebSocket an ordinary one. Trailers
//! are dropped. Redirects are answers like any other. 1xx answers are waited over, save 101,
//! which nobody asked for.

mod answer;
mod connect;
mod decode;
mod encode;
mod error;
mod headers;
mod pool;
mod send;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use self::connect::Connector;
use self::pool::Pool;
use self::wire::{Failed, Wire};
use super::body::Body;
use super::limits::UpstreamLimits;

pub(crate) use self::answer::AnswerBody;
#[cfg(test)]
pub(crate) use self::answer::AnswerError;
pub(crate) use self::connect::{Target, client_tls, no_tls};
pub(crate) use self::error::{AmbiguousCause, UnsentCause, UpstreamError};
pub(crate) use self::headers::strip_hapax;

/// A client of one upstream. Clones share the pool: make one for each worker, and clone that.
#[derive(Clone, Debug)]
pub(crate) struct Upstream(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connector: Connector,
    pool: Arc<Pool>,
    limits: UpstreamLimits,
}

impl Upstream {
    /// A client with an empty pool; connects when there is something to send. `tls` is used for
    /// `https://` targets ([`client_tls`]).
    pub(crate) fn new(target: Target, tls: Arc<rustls::ClientConfig>, limits: UpstreamLimits) -> Self {
        let pool = Arc::new(Pool::new(limits.pool_max_idle, limits.pool_idle_timeout));
        Upstream(Arc::new(Shared {
            connector: Connector::new(target, tls),
            pool,
            limits,
        }))
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// See [`UpstreamError`].
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Result<Response<AnswerBody>, UpstreamError> {
        let shared = &*self.0;
        let now = Instant::now();
        while let Some(wire) = shared.pool.take(now) {
            match wire.exchange(request, now, shared).await {
                Ok(response) => return Ok(response),
                Err(Failed::Returned(unsent)) => request = *unsent,
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        // Boxed: most requests need no connection, and all would keep room for one.
        let wire = Box::pin(self.connect()).await?;
        match wire.exchange(request, Instant::now(), shared).await {
            Ok(response) => Ok(response),
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::Returned(_)) => Err(UpstreamError::unsent(
                UnsentCause::Closed,
                "closed right after it was connected",
            )),
        }
    }

    async fn connect(&self) -> Result<Box<Wire>, UpstreamError> {
        let shared = &*self.0;
        let limit = shared.limits.connect_timeout;
        match tokio::time::timeout(limit, shared.connector.connect()).await {
            Ok(stream) => stream.map(Wire::new),
            Err(elapsed) => Err(UpstreamError::unsent(UnsentCause::ConnectTimeout, elapsed)),
        }
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<AnswerBody>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}
