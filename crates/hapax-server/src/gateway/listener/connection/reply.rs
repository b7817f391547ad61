//! The body of an answer, counted until it is handed over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::gateway::connection::ConnState;
use crate::gateway::framing::Refusal;
use crate::gateway::listener::BoxError;

/// A request that is being answered; over when this is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<ConnState>);

impl InFlight {
    pub(super) fn begin(state: Arc<ConnState>) -> Self {
        state.begin_request();
        InFlight(state)
    }

    /// Why the connection was refused a request, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.0.refusal()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// The service's body, or the listener's own short one.
#[derive(Debug)]
pub(super) struct Reply<B> {
    content: Content<B>,
    _in_flight: InFlight,
}

#[derive(Debug)]
enum Content<B> {
    Service(B),
    Own(Bytes),
}

impl<B> Reply<B> {
    pub(super) fn service(body: B, in_flight: InFlight) -> Self {
        Reply {
            content: Content::Service(body),
            _in_flight: in_flight,
        }
    }

    pub(super) fn own(body: Bytes, in_flight: InFlight) -> Self {
        Reply {
            content: Content::Own(body),
            _in_flight: in_flight,
        }
    }
}

impl<B> Body for Reply<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.content {
            Content::Service(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Service(body) => body.is_end_stream(),
            Content::Own(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Service(body) => body.size_hint(),
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
