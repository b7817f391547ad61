//! A client that can tell what became of its request: answered, never connected, or cut off.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, SET_COOKIE};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A request, the same each time that it is sent.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) scope: &'static str,
    pub(super) path: &'static str,
    pub(super) key: String,
    pub(super) body: String,
    /// How long the shop takes to commit, and then to answer.
    pub(super) delays: (Duration, Duration),
    /// Whether it may be accepted, to be run by a runner.
    pub(super) later: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Sent {
    Answered(Answer),
    /// Nobody listened: nothing was sent.
    Refused,
    /// The connection ended, or the client's patience did, before the whole answer was there.
    Cut,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The headers that a store keeps, in their order.
    pub(super) kept: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) replayed: bool,
    pub(super) has_cookie: bool,
}

/// The header that says whose key it is.
pub(super) const SCOPE: &str = "x-tenant";

/// What the gateway promises to keep of the shop's headers, and more that it may keep.
const KEPT: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "vary",
];

impl Answer {
    /// Whether another answer says the same, byte for byte.
    pub(super) fn says(&self, other: &Self) -> bool {
        (self.status, &self.kept, &self.body) == (other.status, &other.kept, &other.body)
    }

    /// The name of the problem that it is, if it is one.
    pub(super) fn problem(&self) -> Option<String> {
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        json["type"]
            .as_str()?
            .strip_prefix("urn:hapax:problem:")
            .map(str::to_owned)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.kept
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Connections to one gateway, kept alive while it lives.
pub(super) struct Client {
    address: SocketAddr,
    patience: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, patience: Duration) -> Self {
        Self {
            address,
            patience,
            idle: Mutex::default(),
        }
    }

    /// Sends, and waits for the whole answer.
    pub(super) async fn send(&self, ask: &Ask) -> Sent {
        timeout(self.patience, self.exchange(ask)).await.unwrap_or(Sent::Cut)
    }

    /// Sends, and hangs up after a while, answered or not.
    pub(super) async fn send_and_leave(&self, ask: &Ask, after: Duration) {
        // Dropping the exchange closes its connection.
        let _ = timeout(after, self.exchange(ask)).await;
    }

    async fn exchange(&self, ask: &Ask) -> Sent {
        let idle = self.idle.lock().unwrap().pop().filter(|sender| !sender.is_closed());
        let mut sender = match idle {
            Some(sender) => sender,
            None => match self.connect().await {
                Ok(sender) => sender,
                Err(_) => return Sent::Refused,
            },
        };
        let Ok(answer) = Self::ask(&mut sender, request(self.address, ask)).await else {
            return Sent::Cut;
        };
        self.idle.lock().unwrap().push(sender);
        Sent::Answered(answer)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ()> {
        let stream = TcpStream::connect(self.address).await.map_err(|_| ())?;
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ())?;
        // Its end is seen by the sender.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }

    async fn ask(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        sender.ready().await?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status.as_u16(),
            kept: kept(&parts.headers),
            body,
            replayed: parts
                .headers
                .get("idempotent-replayed")
                .is_some_and(|value| value == "true"),
            has_cookie: parts.headers.contains_key(SET_COOKIE),
        })
    }
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut kept: Vec<_> = headers
        .iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    kept.sort();
    kept
}

fn request(address: SocketAddr, ask: &Ask) -> Request<Full<Bytes>> {
    let mut builder = Request::post(ask.path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(SCOPE, ask.scope)
        .header("idempotency-key", &ask.key);
    if ask.later {
        builder = builder.header("prefer", "respond-async");
    }
    for (name, delay) in [("x-shop-delay", ask.delays.0), ("x-shop-delay-after", ask.delays.1)] {
        if !delay.is_zero() {
            builder = builder.header(name, format!("{}ms", delay.as_millis()));
        }
    }
    builder.body(Full::from(ask.body.clone())).unwrap()
}
