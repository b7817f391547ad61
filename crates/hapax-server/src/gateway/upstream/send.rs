//! What is still to be written of a request.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::encode::Outgoing;
use super::wire::ClientStream;
use crate::gateway::body::{Body, BodyError};
use crate::gateway::net::Stream;

/// Up to this size, head and body are written as one piece.
const SMALL: usize = 4096;

/// A request under way. Nothing is written before the first piece of the body is there, so that
/// a client that fails early leaves proof.
pub(super) struct Send {
    /// Head or chunk framing, written before `data`.
    frame: Vec<u8>,
    data: Bytes,
    /// None once all of it was taken.
    body: Option<Body>,
    is_chunked: bool,
    /// Bytes of the body still to come, if the length was told.
    left: u64,
    /// Written after `data`: the end of a chunk.
    tail: &'static [u8],
    /// Whether anything may have left.
    pub(super) is_sent: bool,
    /// Whether the upstream took something since this was last looked at.
    pub(super) has_moved: bool,
    /// Whether the client is waited for.
    pub(super) is_starved: bool,
}

/// Why sending ended early.
pub(super) enum SendError {
    Body(BodyError),
    Io(io::Error),
}

impl Send {
    /// `head` is a whole head; the buffer comes back from [`Send::into_buffer`].
    pub(super) fn new(head: Vec<u8>, body: Body, outgoing: Outgoing) -> Self {
        Send {
            frame: head,
            data: Bytes::new(),
            is_chunked: outgoing == Outgoing::Chunked,
            body: (outgoing == Outgoing::Chunked || !body.is_end_stream()).then_some(body),
            left: match outgoing {
                Outgoing::Sized(len) => len,
                _ => 0,
            },
            tail: b"",
            is_sent: false,
            has_moved: false,
            is_starved: false,
        }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.frame
    }

    /// Ready once all is written and flushed.
    pub(super) fn poll(&mut self, io: &mut ClientStream, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if !self.is_sent && self.data.is_empty() && self.tail.is_empty() && self.body.is_some() {
            ready!(self.poll_body(cx))?;
            self.join_small();
        }
        loop {
            while !(self.frame.is_empty() && self.data.is_empty() && self.tail.is_empty()) {
                ready!(self.poll_write(io, cx)).map_err(SendError::Io)?;
            }
            if self.body.is_none() {
                return Pin::new(io).poll_flush(cx).map_err(SendError::Io);
            }
            ready!(self.poll_body(cx))?;
        }
    }

    fn join_small(&mut self) {
        if self.frame.len() + self.data.len() <= SMALL {
            self.frame.extend_from_slice(&self.data);
            self.frame.extend_from_slice(self.tail);
            self.data = Bytes::new();
            self.tail = b"";
        }
    }

    /// Takes the next piece of the body, and frames it behind what is in `frame`.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(()));
        };
        self.is_starved = true;
        let data = loop {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    // An empty chunk would end the body.
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => break Some(data),
                    Err(_) => {}
                },
                Some(Err(error)) => return Poll::Ready(Err(SendError::Body(error))),
                None => break None,
            }
        };
        self.is_starved = false;
        // The last chunk is framed when a chunked body is asked once more.
        let is_last = data.is_none() || (!self.is_chunked && body.is_end_stream());
        self.data = data.unwrap_or_default();
        if is_last {
            self.body = None;
        }
        if self.is_chunked {
            self.frame_chunk();
            return Poll::Ready(Ok(()));
        }
        let left = self.left.checked_sub(self.data.len() as u64);
        match left.filter(|left| *left == 0 || !is_last) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
            None => {
                let why = "the request's body is not as long as it said";
                let error = io::Error::new(io::ErrorKind::InvalidData, why);
                Poll::Ready(Err(SendError::Io(error)))
            }
        }
    }

    fn frame_chunk(&mut self) {
        if self.data.is_empty() {
            self.frame.extend_from_slice(b"0\r\n\r\n");
        } else {
            // Writing to memory cannot fail.
            drop(write!(self.frame, "{:x}\r\n", self.data.len()));
            self.tail = b"\r\n";
        }
    }

    fn poll_write(&mut self, io: &mut ClientStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_tls = matches!(io, Stream::Tls(_));
        let io = Pin::new(io);
        let written = ready!(if self.data.is_empty() && self.tail.is_empty() {
            io.poll_write(cx, &self.frame)
        } else {
            let parts = [&self.frame, &*self.data, self.tail].map(IoSlice::new);
            io.poll_write_vectored(cx, &parts)
        });
        // A failed write to a socket wrote nothing. TLS may have written a record before it failed.
        self.is_sent |= is_tls || written.is_ok();
        let len = written?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.has_moved = true;
        let of_frame = len.min(self.frame.len());
        if of_frame == self.frame.len() {
            self.frame.clear();
        } else {
            self.frame.drain(..of_frame);
        }
        let of_data = (len - of_frame).min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[len - of_frame - of_data..];
        Poll::Ready(Ok(()))
    }
}
