//! One connection to the upstream, and one exchange on it.
//!
//! hyper's client would do, but it puts channels between the caller and the connection, for
//! request, answer and body: with it, the gateway passed 0.88 of the requests that nginx passed on
//! the same machine, with this 0.95. And this knows for each request whether a byte of it can have
//! left.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::Shared;
use super::answer::AnswerBody;
use super::decode::{Head, take_head};
use super::encode::write_head;
use super::error::{AmbiguousCause, UnsentCause, UpstreamError};
use super::send::{Send, SendError};
use crate::gateway::body::Body;
use crate::gateway::limits::UpstreamLimits;
use crate::gateway::net::Stream;
use crate::gateway::timer::LazyTimer;

pub(super) type ClientStream = Stream<TlsStream<TcpStream>>;

/// Less room than this is not worth a read; how much is made then, at first and at most.
const READ_LOW: usize = 1024;
const READ_MIN: usize = 8 * 1024;
const READ_MAX: usize = 256 * 1024;

/// A connection. It only moves while someone polls it: in [`Wire::exchange`], then in the body of
/// the answer.
pub(super) struct Wire {
    io: ClientStream,
    /// What was read and not used yet.
    pub(super) read: BytesMut,
    read_size: usize,
    /// Kept for its memory.
    head: Vec<u8>,
    pub(super) timer: LazyTimer,
}

/// Why an exchange failed.
pub(super) enum Failed {
    /// The connection was dead, and the request is back with nothing of it sent.
    Returned(Box<Request<Body>>),
    Error(UpstreamError),
}

/// Why there is no head of an answer.
enum Trouble {
    /// Before anything was written: the connection is dead, or the upstream spoke unasked.
    Dead,
    Late,
    Send(SendError),
    Read(io::Error),
    Invalid(&'static str),
}

impl Wire {
    pub(super) fn new(io: ClientStream) -> Box<Self> {
        Box::new(Wire {
            io,
            read: BytesMut::new(),
            read_size: READ_MIN,
            head: Vec::new(),
            timer: LazyTimer::default(),
        })
    }

    /// Reads more behind what was read. Ready with `UnexpectedEof` at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read.capacity() - self.read.len() < READ_LOW {
            self.read.reserve(self.read_size);
        }
        let len = ready!(pin!(self.io.read_buf(&mut self.read)).poll(cx))?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        // A large body comes faster in large pieces.
        if len >= self.read_size {
            self.read_size = (self.read_size * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(()))
    }

    /// Moves the rest of a request on.
    pub(super) fn poll_send(&mut self, send: &mut Send, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        send.poll(&mut self.io, cx)
    }

    /// Takes the buffer of a finished request back.
    pub(super) fn reclaim(&mut self, send: Send) {
        self.head = send.into_buffer();
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<Body>,
        now: Instant,
        shared: &Shared,
    ) -> Result<Response<AnswerBody>, Failed> {
        // A pooled connection that was closed meanwhile is found here, before a byte is written.
        if poll_fn(|cx| Poll::Ready(self.poll_fill(cx).is_ready())).await {
            return Err(Failed::Returned(Box::new(request)));
        }
        let (parts, body) = request.into_parts();
        // A body in memory is kept by reference, to have it whole until something is sent.
        let spare = match &body {
            Body::Full(bytes) => Some(Body::Full(bytes.clone())),
            Body::Empty => Some(Body::Empty),
            Body::Incoming(_) => None,
        };
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        let (target, limits) = (shared.connector.target(), &shared.limits);
        let outgoing = write_head(&mut head, &parts, body.size_hint().exact(), target, limits);
        let mut send = Send::new(head, body, outgoing);
        let is_to_head = parts.method == Method::HEAD;
        self.timer.set(now + limits.response_timeout);
        let mut is_sending = true;
        let answer = poll_fn(|cx| self.poll_answer(&mut send, &mut is_sending, is_to_head, limits, cx)).await;
        self.timer.clear();
        match answer {
            Ok(head) => {
                let send = if is_sending {
                    Some(Box::new(send))
                } else {
                    self.reclaim(send);
                    None
                };
                let Head {
                    response,
                    incoming,
                    is_kept,
                } = head;
                let pool = is_kept.then(|| shared.pool.clone());
                let body = AnswerBody::new(incoming, self, send, pool, limits);
                Ok(response.map(|()| body))
            }
            Err(trouble) => Err(match (send.is_sent, trouble, spare) {
                (false, Trouble::Dead | Trouble::Send(SendError::Io(_)), Some(body)) => {
                    Failed::Returned(Box::new(Request::from_parts(parts, body)))
                }
                (is_sent, trouble, _) => Failed::Error(trouble.into_error(is_sent)),
            }),
        }
    }

    fn poll_answer(
        &mut self,
        send: &mut Send,
        is_sending: &mut bool,
        is_to_head: bool,
        limits: &UpstreamLimits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Trouble>> {
        let mut send_trouble = None;
        if *is_sending {
            match self.poll_send(send, cx) {
                Poll::Ready(Ok(())) => *is_sending = false,
                // An upstream that answers early may stop reading: its answer counts.
                Poll::Ready(Err(error)) => send_trouble = Some(error),
                Poll::Pending => {}
            }
            // A body in memory goes at once; only a longer one moves the time-out.
            if std::mem::take(&mut send.has_moved) && *is_sending {
                self.timer.clear();
            }
        }
        loop {
            match take_head(&mut self.read, is_to_head, limits) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(why) => return Poll::Ready(Err(Trouble::Invalid(why))),
            }
            match self.poll_fill(cx) {
                Poll::Ready(_) if !send.is_sent => return Poll::Ready(Err(Trouble::Dead)),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(send_trouble.map_or(Trouble::Read(error), Trouble::Send)));
                }
                Poll::Pending => break,
            }
        }
        if let Some(error) = send_trouble {
            return Poll::Ready(Err(Trouble::Send(error)));
        }
        if *is_sending && send.is_starved {
            // The client's time, which has limits of its own.
            self.timer.clear();
        } else if !self.timer.is_set() {
            self.timer.set(Instant::now() + limits.response_timeout);
        }
        self.timer.poll(cx).map(|()| Err(Trouble::Late))
    }
}

impl Trouble {
    fn into_error(self, is_sent: bool) -> UpstreamError {
        use {AmbiguousCause as After, UnsentCause as Before};
        let (before, after, source): (_, _, Box<dyn std::error::Error + std::marker::Send + Sync>) = match self {
            Trouble::Dead => (Before::Closed, After::Reset, "it closed or spoke unasked".into()),
            Trouble::Late => (
                Before::Timeout,
                After::Timeout,
                io::Error::from(io::ErrorKind::TimedOut).into(),
            ),
            Trouble::Send(SendError::Body(error)) => (Before::RequestBody, After::RequestBody, error.into()),
            Trouble::Send(SendError::Io(error)) => (Before::Closed, After::Reset, error.into()),
            Trouble::Read(error) => (Before::Closed, After::Reset, error.into()),
            Trouble::Invalid(why) => (Before::Closed, After::InvalidAnswer, why.into()),
        };
        if is_sent {
            UpstreamError::ambiguous(after, source)
        } else {
            UpstreamError::unsent(before, source)
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
