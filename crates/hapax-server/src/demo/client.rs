//! A client of the storm: one HTTP/1.1 connection, opened anew when it breaks.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A request of the storm.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) path: &'static str,
    pub(super) key: String,
    pub(super) body: String,
    /// How long the shop dawdles between its commit and its answer.
    pub(super) dawdle: Duration,
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) replayed: bool,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Answered {
    /// Whether it is a problem of that name.
    pub(super) fn is_problem(&self, name: &str) -> bool {
        let urn = format!("urn:hapax:problem:{name}");
        String::from_utf8_lossy(&self.body).contains(&urn)
    }
}

/// Nobody answered: refused, cut off, or hung up on purpose. What happened is not known.
#[derive(Debug)]
pub(super) struct NoAnswer;

pub(super) struct Client {
    address: SocketAddr,
    connection: Option<(SendRequest<Full<Bytes>>, AbortHandle)>,
}

/// A client's own patience with one request.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// Sends and waits for the whole answer.
    ///
    /// # Errors
    /// If there was none.
    pub(super) async fn send(&mut self, ask: &Ask) -> Result<Answered, NoAnswer> {
        let exchanged = timeout(PATIENCE, self.exchange(ask)).await.unwrap_or(Err(NoAnswer));
        if exchanged.is_err() {
            self.hang_up();
        }
        exchanged
    }

    /// Sends, and hangs up after a while, answered or not.
    pub(super) async fn send_and_leave(&mut self, ask: &Ask, after: Duration) {
        let _: Result<Result<_, NoAnswer>, _> = timeout(after, self.exchange(ask)).await;
        self.hang_up();
    }

    fn hang_up(&mut self) {
        if let Some((_, task)) = self.connection.take() {
            task.abort();
        }
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<Answered, NoAnswer> {
        let (mut sender, task) = match self.connection.take() {
            Some((sender, task)) if !sender.is_closed() => (sender, task),
            _ => self.connect().await?,
        };
        sender.ready().await.map_err(|_| NoAnswer)?;
        // Put back before the wait: hanging up must find it.
        let answered = sender.send_request(request(self.address, ask)?);
        self.connection = Some((sender, task));
        let response = answered.await.map_err(|_| NoAnswer)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| NoAnswer)?.to_bytes();
        let text = |name: &str| header(&parts.headers, name).map(str::to_owned);
        Ok(Answered {
            status: parts.status.as_u16(),
            replayed: text("idempotent-replayed").is_some(),
            retry_after: text("retry-after")
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs),
            body,
        })
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), NoAnswer> {
        let stream = TcpStream::connect(self.address).await.map_err(|_| NoAnswer)?;
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer)?;
        // Its end is seen by the sender.
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok((sender, task.abort_handle()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn request(address: SocketAddr, ask: &Ask) -> Result<Request<Full<Bytes>>, NoAnswer> {
    let mut builder = Request::post(ask.path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", &ask.key);
    if !ask.dawdle.is_zero() {
        builder = builder.header("x-shop-delay-after", format!("{}ms", ask.dawdle.as_millis()));
    }
    builder.body(Full::from(ask.body.clone())).map_err(|_| NoAnswer)
}
