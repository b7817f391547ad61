//! The framing guard: what is ambiguous in HTTP/1 is refused before hyper sees it.
//!
//! hyper resolves some ambiguities silently (it drops a Content-Length beside a Transfer-Encoding,
//! lets equal Content-Lengths pass, and takes bare LF for a line end). A proxy in front may have
//! resolved them the other way, and then a request could be smuggled past the idempotency key of
//! another. So [`Guard`] sits between the socket and hyper and follows each request: head, body,
//! next head. hyper gets bytes of a head only when the whole head has passed ([`head`]), and bytes
//! of a chunked body only when their framing has ([`chunked`]).
//!
//! **A refused head** is replaced by a marker request that no client can send (its target is `*`
//! and its method is not OPTIONS), which the listener answers with the problem; nothing after it
//! is read as a request. So requests before it on the same connection get their answers first, in
//! order, and then the connection closes. **A refused chunk** ends the body with an error whose
//! cause is the [`Refusal`]; the service answers it, and the connection closes.
//!
//! Decisions where RFC 9112 leaves one: the absolute form is taken if its host equals `Host`
//! (ASCII case aside); one empty line before the request line passes; HTTP/1.0 may lack a `Host`;
//! an empty `Host`, one with a user, and CONNECT are refused.
//!
//! On the common path (a head that arrives in one read) nothing is copied and nothing allocated.

pub(crate) mod chunked;
pub(crate) mod head;
mod refusal;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use self::chunked::{ChunkLimits, Chunked, Seen};
use self::head::{Framing, HeadLimits, HeadScan};
use super::connection::{ConnState, Reading};
use super::limits::ListenerLimits;
use super::timer::LazyTimer;

pub(crate) use self::refusal::Refusal;

/// Stands for a refused request. [`is_marker`] knows it again.
const MARKER: &[u8] = b"REFUSED * HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Whether this request stands for a refused one. No client can send it past the guard.
pub(crate) fn is_marker<B>(request: &http::Request<B>) -> bool {
    request.uri().path() == "*" && request.method() != http::Method::OPTIONS
}

#[derive(Debug)]
enum Expect {
    /// A head; `Guard::scan` knows how much of it was seen.
    Head,
    Sized(u64),
    Chunked(Chunked),
    /// Nothing: the last head was refused.
    Refused,
    /// Nothing: the body was refused.
    Broken(Refusal),
    /// Not HTTP/1: all bytes pass.
    Anything,
}

/// The stream between socket and hyper. See the module.
#[derive(Debug)]
pub(crate) struct Guard<Io> {
    io: Io,
    state: Arc<ConnState>,
    head_limits: HeadLimits,
    chunk_limits: ChunkLimits,
    linger: Duration,
    linger_timer: LazyTimer,
    expect: Expect,
    scan: HeadScan,
    /// Bytes read but not handed on: `given..passed` may be, the rest is the start of a head.
    held: Vec<u8>,
    given: usize,
    passed: usize,
    is_shut: bool,
}

impl<Io> Guard<Io> {
    /// A guard for HTTP/1. `prefix` was read from `io` before.
    pub(crate) fn http1(io: Io, prefix: &[u8], state: Arc<ConnState>, limits: &ListenerLimits) -> Self {
        let mut guard = Guard {
            io,
            state,
            head_limits: HeadLimits {
                bytes: limits.max_head_bytes,
                fields: limits.max_headers,
            },
            chunk_limits: ChunkLimits {
                extension_bytes: limits.max_chunk_extension_bytes,
                trailer_bytes: limits.max_head_bytes,
                may_pad: false,
            },
            linger: limits.linger,
            linger_timer: LazyTimer::default(),
            expect: Expect::Head,
            scan: HeadScan::default(),
            held: prefix.to_vec(),
            given: 0,
            passed: 0,
            is_shut: false,
        };
        guard.inspect_held();
        guard
    }

    /// A stream that lets all pass, `prefix` first: HTTP/2 has framing of its own, and its
    /// implementation refuses what is malformed.
    pub(crate) fn http2(io: Io, prefix: &[u8], state: Arc<ConnState>, limits: &ListenerLimits) -> Self {
        let mut guard = Guard::http1(io, &[], state, limits);
        guard.expect = Expect::Anything;
        guard.passed = prefix.len();
        guard.held = prefix.to_vec();
        guard
    }

    /// Looks at bytes not seen before and says how many may pass. What does not pass, if anything,
    /// is the start of a head (`Expect::Head`) or refused.
    fn inspect(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.expect {
                Expect::Head => match self.scan.advance(&bytes[at..], self.head_limits) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        at += head.len;
                        self.scan = HeadScan::default();
                        self.expect = match head.framing {
                            Framing::Sized(0) => Expect::Head,
                            Framing::Sized(length) => Expect::Sized(length),
                            Framing::Chunked => Expect::Chunked(Chunked::new()),
                        };
                    }
                    Err(refusal) => {
                        self.state.refuse(refusal);
                        self.expect = Expect::Refused;
                    }
                },
                Expect::Sized(left) => {
                    let taken = (*left).min((bytes.len() - at) as u64);
                    // At most the length of the rest, which came from a usize.
                    at += taken as usize;
                    *left -= taken;
                    if *left == 0 {
                        self.expect = Expect::Head;
                    }
                }
                Expect::Chunked(chunked) => match chunked.advance(&bytes[at..], self.chunk_limits) {
                    Seen::All => at = bytes.len(),
                    Seen::End(len) => {
                        at += len;
                        self.expect = Expect::Head;
                    }
                    Seen::Bad(len, refusal) => {
                        at += len;
                        self.state.refuse(refusal);
                        self.expect = Expect::Broken(refusal);
                    }
                },
                Expect::Refused | Expect::Broken(_) => break,
                Expect::Anything => at = bytes.len(),
            }
        }
        self.state.set_reading(match self.expect {
            Expect::Anything => Reading::Idle,
            Expect::Head if at == bytes.len() => Reading::Idle,
            Expect::Head => Reading::Head,
            _ => Reading::Body,
        });
        at
    }

    /// Looks at the held bytes that have not passed, and drops the refused ones.
    fn inspect_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let passed = self.passed + self.inspect(&held[self.passed..]);
        self.held = held;
        self.passed = passed;
        self.settle();
    }

    /// After a look: what was refused is thrown away, and a refused head becomes the marker.
    fn settle(&mut self) {
        match self.expect {
            Expect::Refused => {
                self.held.truncate(self.passed);
                self.held.extend_from_slice(MARKER);
                self.passed = self.held.len();
            }
            Expect::Broken(_) => self.held.truncate(self.passed),
            _ => {}
        }
    }

    /// Hands held bytes on. False if there are none to hand on.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let len = (self.passed - self.given).min(buf.remaining());
        if len == 0 {
            return false;
        }
        buf.put_slice(&self.held[self.given..self.given + len]);
        self.given += len;
        if self.given == self.passed {
            self.held.drain(..self.passed);
            self.given = 0;
            self.passed = 0;
        }
        true
    }

    /// Whether the client may still be sending what nobody will read.
    fn is_mid_request(&self) -> bool {
        !matches!(self.expect, Expect::Head | Expect::Anything) || !self.held.is_empty()
    }
}

impl<Io: AsyncRead + Unpin> Guard<Io> {
    /// A read straight into hyper's buffer; what may not pass yet is taken out again.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        let len = fresh.len();
        let passed = self.inspect(fresh);
        if passed < len {
            self.held.extend_from_slice(&buf.filled()[before + passed..]);
            buf.set_filled(before + passed);
        }
        self.settle();
        Poll::Ready(Ok(()))
    }

    /// A read behind the start of a head that is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; 4096];
        let mut chunk = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
        self.held.extend_from_slice(chunk.filled());
        self.inspect_held();
        Poll::Ready(Ok(chunk.filled().len()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Guard<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.expect {
                // Everything was said; hyper closes after the answer to the marker.
                Expect::Refused => return Poll::Pending,
                Expect::Broken(refusal) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
                }
                Expect::Head if !this.held.is_empty() => {
                    // The listener refuses a head that takes too long.
                    if this.state.refusal().is_some() {
                        this.expect = Expect::Refused;
                        this.held.clear();
                        this.settle();
                        continue;
                    }
                    if ready!(this.poll_held(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                _ => {
                    let before = buf.filled().len();
                    ready!(this.poll_direct(cx, buf))?;
                    let is_end = this.held.is_empty() && !matches!(this.expect, Expect::Broken(_));
                    if buf.filled().len() > before || is_end {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Guard<Io> {
    /// Reads and drops what the client still sends, for a short while: closing a socket that holds
    /// unread bytes resets it, and the client could lose the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.linger_timer.is_set() {
            self.linger_timer.set(Instant::now() + self.linger);
        }
        if self.linger_timer.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut chunk = [0; 8192];
        loop {
            let mut chunk = ReadBuf::new(&mut chunk);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk)) {
                Ok(()) if !chunk.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        self.state.set_write_blocked(written.is_pending());
        written
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_write(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.is_shut = true;
        }
        if this.is_mid_request() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
