//! One connection to the upstream, and one exchange on it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::answer::AnswerBody;
use super::error::{AmbiguousCause, UnsentCause, UpstreamError};
use super::headers;
use super::pool::Pool;
use crate::gateway::body::{Body, BodyError};
use crate::gateway::limits::UpstreamLimits;
use crate::gateway::net::Stream;
use crate::gateway::timer::LazyTimer;

pub(super) type ClientStream = Stream<TlsStream<TcpStream>>;

/// A connection. It only moves while someone polls it: in [`Wire::exchange`], then in the body of
/// the answer.
pub(super) struct Wire {
    sender: SendRequest<Body>,
    connection: Connection<TokioIo<Counted>, Body>,
    written: Arc<AtomicU64>,
    pub(super) timer: LazyTimer,
}

/// Why an exchange failed.
pub(super) enum Failed {
    /// The connection was dead, and the request is back with nothing of it sent.
    Returned(Box<Request<Body>>),
    Error(UpstreamError),
}

/// What hyper's channel to its own connection would wake is whoever polls the connection, who is
/// just running.
fn no_wake() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Wire {
    pub(super) async fn new(stream: ClientStream, limits: &UpstreamLimits) -> Result<Box<Self>, UpstreamError> {
        let written = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Counted {
            io: stream,
            written: written.clone(),
        });
        let (sender, connection) = Builder::new()
            .max_header_size(limits.max_head_bytes)
            .handshake(io)
            .await
            .map_err(|error| UpstreamError::unsent(UnsentCause::Connect, error))?;
        Ok(Box::new(Wire {
            sender,
            connection,
            written,
            timer: LazyTimer::default(),
        }))
    }

    /// Moves the connection on. `Ready` once it is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut self.connection).poll(cx)
    }

    /// Ends an exchange: whether the connection is open and waits for the next request. One that
    /// dies later is found dead by the next exchange, before it writes.
    pub(super) fn settle(&mut self) -> bool {
        self.timer.clear();
        self.poll(&mut no_wake()).is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer until `deadline`.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<Body>,
        deadline: Instant,
        pool: &Arc<Pool>,
        limits: &UpstreamLimits,
    ) -> Result<Response<AnswerBody>, Failed> {
        let before = self.written.load(Relaxed);
        self.timer.set(deadline);
        // Unconstrained: a task over its budget is told so by a wake, and this is polled with none.
        let answer = tokio::task::unconstrained(self.sender.try_send_request(request));
        let mut answer = pin!(answer);
        let end = poll_fn(|cx| {
            let is_closed = self.poll(cx).is_ready();
            if let Poll::Ready(result) = answer.as_mut().poll(&mut no_wake()) {
                return Poll::Ready(Ok(result));
            }
            if is_closed {
                return Poll::Ready(Err(Gone::Closed));
            }
            self.timer.poll(cx).map(|()| Err(Gone::Late))
        })
        .await;
        let is_untouched = self.written.load(Relaxed) == before;
        let error = match end {
            Err(Gone::Late) => return Err(Failed::Error(timed_out(is_untouched))),
            Ok(Ok(response)) => return self.accept(response, pool, limits),
            Ok(Err(error)) => error,
            // Dropping a closed connection gives a request back that it never took.
            Err(Gone::Closed) => {
                drop(self);
                match answer.await {
                    Err(error) => error,
                    // Not to be expected; whatever it means, something was sent.
                    Ok(_) => {
                        let why = "the connection closed together with its answer";
                        let error = UpstreamError::ambiguous(AmbiguousCause::Reset, why);
                        return Err(Failed::Error(error));
                    }
                }
            }
        };
        Err(failed(error, is_untouched))
    }

    fn accept(
        mut self: Box<Self>,
        mut response: Response<Incoming>,
        pool: &Arc<Pool>,
        limits: &UpstreamLimits,
    ) -> Result<Response<AnswerBody>, Failed> {
        self.timer.clear();
        match headers::clean(&mut response, limits) {
            Ok(()) => {
                let idle_timeout = limits.body_idle_timeout;
                Ok(response.map(|body| AnswerBody::new(body, self, pool.clone(), idle_timeout)))
            }
            Err(why) => Err(Failed::Error(UpstreamError::ambiguous(
                AmbiguousCause::InvalidAnswer,
                why,
            ))),
        }
    }
}

/// How the wait for an answer's head ended without a result.
enum Gone {
    Closed,
    Late,
}

fn failed(mut error: TrySendError<Request<Body>>, is_untouched: bool) -> Failed {
    match error.take_message() {
        Some(request) if is_untouched => Failed::Returned(Box::new(request)),
        _ => Failed::Error(classify(error.into_error(), is_untouched)),
    }
}

fn timed_out(is_untouched: bool) -> UpstreamError {
    let error = io::Error::from(io::ErrorKind::TimedOut);
    if is_untouched {
        UpstreamError::unsent(UnsentCause::Timeout, error)
    } else {
        UpstreamError::ambiguous(AmbiguousCause::Timeout, error)
    }
}

fn classify(error: hyper::Error, is_untouched: bool) -> UpstreamError {
    let is_body = find::<BodyError>(&error).is_some();
    if is_untouched {
        let cause = if is_body {
            UnsentCause::RequestBody
        } else {
            UnsentCause::Closed
        };
        return UpstreamError::unsent(cause, error);
    }
    let cause = if is_body {
        AmbiguousCause::RequestBody
    } else if error.is_parse() {
        AmbiguousCause::InvalidAnswer
    } else {
        AmbiguousCause::Reset
    };
    UpstreamError::ambiguous(cause, error)
}

fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// A stream that counts the bytes it took, before TLS: while the count stands still, nothing can
/// have been sent.
pub(super) struct Counted {
    io: ClientStream,
    written: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = written {
            self.written.fetch_add(len as u64, Relaxed);
        }
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
