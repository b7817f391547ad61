//! The body of an answer, streamed from its connection.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::pool::Pool;
use super::wire::Wire;

/// The body of an answer. Its connection goes back to the pool when it was read to the end, and
/// is closed when it is dropped before. Trailers are dropped.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    incoming: Incoming,
    /// None once the connection is back in the pool or gone.
    wire: Option<Box<Wire>>,
    pool: Arc<Pool>,
    idle_timeout: Duration,
}

/// Why the answer is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The upstream closed, reset, or broke the framing.
    #[error("the upstream's answer broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// Nothing came for `body_idle_timeout`.
    #[error("no byte of the upstream's answer came for {0:?}")]
    Idle(Duration),
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, wire: Box<Wire>, pool: Arc<Pool>, idle_timeout: Duration) -> Self {
        let mut body = AnswerBody {
            incoming,
            wire: Some(wire),
            pool,
            idle_timeout,
        };
        body.release_at_end();
        body
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some(wire) = self.wire.take() {
            self.pool.put(wire);
        }
    }

    fn poll_incoming(&mut self) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        // Polling the wire is what moves the body, and whoever polls this polls both. Unconstrained,
        // since a task over its budget is told so by a wake.
        let incoming = &mut self.incoming;
        let next = tokio::task::unconstrained(poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx)));
        let mut cx = Context::from_waker(Waker::noop());
        pin!(next)
            .poll(&mut cx)
            .map(|frame| frame.map(|frame| frame.map_err(AnswerError::Broken)))
    }

    fn finish(
        &mut self,
        frame: Option<Result<Frame<Bytes>, AnswerError>>,
    ) -> Option<Result<Frame<Bytes>, AnswerError>> {
        match &frame {
            Some(Ok(data)) if data.is_data() => {
                if let Some(wire) = &mut self.wire {
                    wire.timer.clear();
                }
                self.release_at_end();
                frame
            }
            Some(Err(_)) => {
                self.wire = None;
                frame
            }
            // The end, or trailers, which are the last frame.
            _ => {
                self.release();
                None
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = this.poll_incoming() {
            return Poll::Ready(this.finish(frame));
        }
        let Some(wire) = &mut this.wire else {
            return Poll::Ready(None);
        };
        // A closed connection has told the body already.
        let _ = wire.poll(cx);
        if let Poll::Ready(frame) = this.poll_incoming() {
            return Poll::Ready(this.finish(frame));
        }
        if let Some(wire) = &mut this.wire {
            if !wire.timer.is_set() {
                wire.timer.set(Instant::now() + this.idle_timeout);
            }
            if wire.timer.poll(cx).is_ready() {
                this.wire = None;
                return Poll::Ready(Some(Err(AnswerError::Idle(this.idle_timeout))));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
