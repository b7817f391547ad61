//! The body of a request on its way through the gateway.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hapax::http::{IDEMPOTENCY_KEY, KeyError};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::framing::Refusal;
use super::limits::ListenerLimits;
use super::timer::LazyTimer;

/// A request body: none, in memory, or still coming in. Trailers are dropped, since no header may
/// be decided by them; a key among them is an error, since its sender believes in it.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No body at all.
    #[default]
    Empty,
    /// All of it.
    Full(Bytes),
    /// From the client, under the listener's time-outs.
    Incoming(Inbound),
}

/// A body that is read from a client.
#[derive(Debug)]
pub(crate) struct Inbound {
    incoming: Incoming,
    idle: Duration,
    min_rate: u64,
    /// Waiting time left; grows with what comes in.
    allowance: Duration,
    waiting_since: Option<Instant>,
    timer: LazyTimer,
}

/// Why a request body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection ended, or the body was malformed ([`BodyError::refusal`] says how).
    #[error("the request body could not be read: {0}")]
    Read(#[source] hyper::Error),
    /// Nothing came for `body_idle_timeout`.
    #[error("no byte of the request body came for {0:?}; send it without pauses")]
    Idle(Duration),
    /// It came slower than `body_min_rate`.
    #[error("the request body came slower than {0} bytes a second; send it faster")]
    TooSlow(u64),
    /// A trailer names a key.
    #[error("{}", KeyError::Trailer)]
    KeyInTrailer,
}

impl BodyError {
    /// The framing rule that the body broke, if that was it: answer with [`Refusal::response`].
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Some(*refusal);
            }
            source = match error.downcast_ref::<std::io::Error>() {
                // An io::Error's source skips the error it wraps.
                Some(error) => error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static)),
                None => error.source(),
            };
        }
        None
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Full(bytes)
    }
}

impl Body {
    pub(crate) fn incoming(incoming: Incoming, limits: &ListenerLimits) -> Self {
        if incoming.is_end_stream() {
            return Body::Empty;
        }
        Body::Incoming(Inbound {
            incoming,
            idle: limits.body_idle_timeout,
            min_rate: limits.body_min_rate,
            allowance: limits.body_idle_timeout,
            waiting_since: None,
            timer: LazyTimer::default(),
        })
    }
}

impl Inbound {
    /// Only time spent waiting for the client counts, so a slow reader of this body costs nothing.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            let waited = self.waiting_since.take().map(|since| since.elapsed());
            self.timer.clear();
            let frame = frame.map(|frame| frame.map_err(BodyError::Read));
            if let Some(Ok(frame)) = &frame {
                self.credit(waited, frame);
            }
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                // Trailers are the last frame.
                let has_key = trailers.contains_key(IDEMPOTENCY_KEY);
                return Poll::Ready(has_key.then_some(Err(BodyError::KeyInTrailer)));
            }
            return Poll::Ready(frame);
        }
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            self.timer.set(now + self.idle.min(self.allowance));
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(Some(Err(if self.allowance < self.idle {
            BodyError::TooSlow(self.min_rate)
        } else {
            BodyError::Idle(self.idle)
        })))
    }

    fn credit(&mut self, waited: Option<Duration>, frame: &Frame<Bytes>) {
        if self.min_rate == 0 {
            return;
        }
        let Some(waited) = waited else { return };
        let len = frame.data_ref().map_or(0, Bytes::len) as f64;
        let earned = Duration::from_secs_f64(len / self.min_rate as f64);
        // Capped at the grace, so that a fast start buys no endless end.
        self.allowance = (self.allowance.saturating_sub(waited) + earned).min(self.idle);
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Body::Incoming(inbound) => inbound.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Incoming(inbound) => inbound.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Incoming(inbound) => inbound.incoming.size_hint(),
        }
    }
}
