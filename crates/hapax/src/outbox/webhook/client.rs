//! A client of one URL: pooled HTTP/1.1 connections, and errors that say what they prove.
//!
//! A request goes out again by itself only where the connection gave it back untouched. Redirects are answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout};

use super::connect::Connector;
use crate::http::Proof;
use crate::retry::timed_out;

/// Servers close idle connections after 5 s or more: ours are closed first, lest a request meets a closing one.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections beyond that are closed.
const MOST_IDLE: usize = 256;
/// More of a head is refused.
const HEAD_BYTES: usize = 64 << 10;

type Sender = SendRequest<Full<Bytes>>;

pub(super) struct Client {
    connector: Connector,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    /// The last used on top.
    idle: Mutex<Vec<(Sender, Instant)>>,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct SendError {
    pub(super) proof: Proof,
    /// The same for all failures of one kind.
    pub(super) text: String,
}

/// An answer's head, with the connection that its body comes from.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    sender: Sender,
}

impl Client {
    pub(super) fn new(connector: Connector) -> Self {
        Self {
            connector,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
            idle: Mutex::default(),
        }
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(super) fn connector_mut(&mut self) -> &mut Connector {
        &mut self.connector
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Answered, SendError> {
        while let Some(sender) = self.idle() {
            match self.exchange(sender, request).await? {
                Ok(answered) => return Ok(answered),
                Err(untouched) => request = untouched,
            }
        }
        let sender = match timeout(self.connect_timeout, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(SendError::unsent("connecting took too long".to_owned())),
        };
        match self.exchange(sender, request).await? {
            Ok(answered) => Ok(answered),
            Err(_) => Err(SendError::unsent("closed right after it was connected".to_owned())),
        }
    }

    /// `Err` within gives the request back: nothing of it left.
    #[allow(clippy::result_large_err, reason = "a request is as large as a request")]
    async fn exchange(
        &self,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<Answered, Request<Full<Bytes>>>, SendError> {
        if sender.ready().await.is_err() {
            return Ok(Err(request));
        }
        match timeout(self.timeout, sender.try_send_request(request)).await {
            Ok(Ok(response)) => Ok(Ok(Answered { response, sender })),
            Ok(Err(mut failed)) => match failed.take_message() {
                Some(untouched) => Ok(Err(untouched)),
                None => Err(SendError::reset(failed.error())),
            },
            Err(_) => Err(SendError {
                proof: Proof::TimedOut,
                text: timed_out(self.timeout),
            }),
        }
    }

    async fn connect(&self) -> Result<Sender, SendError> {
        let stream = self.connector.connect().await.map_err(SendError::unsent)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (sender, connection) = builder
            .handshake(stream)
            .await
            .map_err(|error| SendError::unsent(format!("no HTTP connection: {error}")))?;
        tokio::spawn(async move {
            // What goes wrong on it is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn idle(&self) -> Option<Sender> {
        let mut idle = self.lock();
        let (sender, since) = idle.pop()?;
        if since.elapsed() < IDLE {
            return Some(sender);
        }
        // All below are older.
        idle.clear();
        None
    }

    /// Keeps the connection of an answer whose body is read to its end.
    pub(super) fn keep(&self, sender: Sender) {
        let mut idle = self.lock();
        if idle.len() < MOST_IDLE {
            idle.push((sender, Instant::now()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Sender, Instant)>> {
        // Nothing panics while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answered {
    pub(super) fn parts(self) -> (Response<Incoming>, Sender) {
        (self.response, self.sender)
    }
}

impl SendError {
    fn unsent(text: String) -> Self {
        Self {
            proof: Proof::Unsent,
            text,
        }
    }

    fn reset(error: &hyper::Error) -> Self {
        let text = match error {
            _ if error.is_incomplete_message() => "the connection was closed before the answer".to_owned(),
            _ if error.is_parse() => format!("the answer is no HTTP: {error}"),
            _ => format!("the connection broke: {error}"),
        };
        Self {
            proof: Proof::Reset,
            text,
        }
    }
}

#[cfg(test)]
impl Client {
    /// Whether an idle connection could take a request.
    pub(super) fn has_ready(&self) -> bool {
        self.lock().iter().any(|(sender, _)| !sender.is_closed())
    }
}
