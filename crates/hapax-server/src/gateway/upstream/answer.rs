//! The body of an answer, streamed from its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::decode::Incoming;
use super::pool::Pool;
use super::send::Send;
use super::wire::Wire;
use crate::gateway::framing::chunked::{ChunkLimits, Piece};
use crate::gateway::limits::UpstreamLimits;

/// The body of an answer. Its connection goes back to the pool when it was read to the end, and
/// is closed when it is dropped before. Trailers are dropped.
pub(crate) struct AnswerBody {
    incoming: Incoming,
    /// None once the connection is back in the pool or gone.
    wire: Option<Box<Wire>>,
    /// The rest of the request, if the answer began before its end.
    send: Option<Box<Send>>,
    /// Where the connection goes, if it may serve another request.
    pool: Option<Arc<Pool>>,
    idle_timeout: Duration,
    chunk_limits: ChunkLimits,
}

/// Why the answer is not whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The upstream closed, reset, or broke the framing.
    #[error("the upstream's answer broke off: {0}")]
    Broken(#[source] io::Error),
    /// Nothing came for `body_idle_timeout`.
    #[error("no byte of the upstream's answer came for {0:?}")]
    Idle(Duration),
}

/// Most bytes of chunk extensions in one answer.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;

impl AnswerBody {
    pub(super) fn new(
        incoming: Incoming,
        wire: Box<Wire>,
        send: Option<Box<Send>>,
        pool: Option<Arc<Pool>>,
        limits: &UpstreamLimits,
    ) -> Self {
        let mut body = AnswerBody {
            incoming,
            wire: Some(wire),
            send,
            pool,
            idle_timeout: limits.body_idle_timeout,
            chunk_limits: ChunkLimits {
                extension_bytes: MAX_EXTENSION_BYTES,
                trailer_bytes: limits.max_head_bytes,
                may_pad: true,
            },
        };
        if body.is_end_stream() {
            body.release();
        }
        body
    }

    /// Ends the answer. The connection is kept if request and answer are whole and nothing came
    /// behind them.
    fn release(&mut self) {
        self.incoming = Incoming::Sized(0);
        let (wire, pool) = (self.wire.take(), self.pool.take());
        if let (Some(mut wire), Some(pool), None) = (wire, pool, &self.send)
            && wire.read.is_empty()
        {
            wire.timer.clear();
            pool.put(wire);
        }
    }

    /// What can be had from the bytes that were read. `Pending` asks for more of them.
    fn next(&mut self) -> Poll<Option<io::Result<Bytes>>> {
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(None);
        };
        let data = match &mut self.incoming {
            Incoming::Sized(0) => None,
            _ if wire.read.is_empty() => return Poll::Pending,
            Incoming::Sized(left) => {
                let all = wire.read.len();
                let len = usize::try_from(*left).map_or(all, |left| left.min(all));
                *left -= len as u64;
                Some(wire.read.split_to(len).freeze())
            }
            Incoming::UntilClose => Some(wire.read.split().freeze()),
            Incoming::Chunked(chunked) => match chunked.piece(&wire.read, self.chunk_limits) {
                Piece::Data { start, len } => {
                    wire.read.advance(start);
                    Some(wire.read.split_to(len).freeze())
                }
                Piece::More => {
                    wire.read.clear();
                    return Poll::Pending;
                }
                Piece::End(len) => {
                    wire.read.advance(len);
                    None
                }
                Piece::Bad(_, refusal) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refusal.detail());
                    return Poll::Ready(Some(Err(error)));
                }
            },
        };
        if data.is_none() || self.is_end_stream() {
            self.release();
        }
        Poll::Ready(data.map(Ok))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        loop {
            if let Poll::Ready(next) = self.next() {
                return Poll::Ready(next.map(|data| data.map_err(AnswerError::Broken)));
            }
            let Some(wire) = &mut self.wire else {
                return Poll::Ready(None);
            };
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(())) => wire.timer.clear(),
                Poll::Ready(Err(error)) => {
                    let is_end =
                        matches!(self.incoming, Incoming::UntilClose) && error.kind() == io::ErrorKind::UnexpectedEof;
                    return Poll::Ready((!is_end).then_some(Err(AnswerError::Broken(error))));
                }
                Poll::Pending => {
                    if !wire.timer.is_set() {
                        wire.timer.set(Instant::now() + self.idle_timeout);
                    }
                    let idle = self.idle_timeout;
                    return wire.timer.poll(cx).map(|()| Some(Err(AnswerError::Idle(idle))));
                }
            }
        }
    }

    /// Sends on what is left of the request; if that fails, the answer still counts, but the
    /// connection is over with it.
    fn push_request(&mut self, cx: &mut Context<'_>) {
        let (Some(wire), Some(send)) = (&mut self.wire, &mut self.send) else {
            return;
        };
        match wire.poll_send(send, cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.send = None,
            Poll::Ready(Err(_)) => {
                self.send = None;
                self.pool = None;
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.get_mut();
        this.push_request(cx);
        this.poll_next(cx).map(|next| {
            if !matches!(next, Some(Ok(_))) {
                // Over, or broken: no more bytes are this answer's.
                this.wire = None;
            }
            next.map(|data| data.map(Frame::data))
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.incoming, Incoming::Sized(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.incoming {
            Incoming::Sized(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody")
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
