//! The transport over real sockets.

mod framing;
mod http2;
mod listener;
mod through;
mod tls;
mod upstream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower_service::Service;

use super::body::{Body, BodyError};
use super::limits::ListenerLimits;
use super::listener::{Drained, Listener, Stop};

/// Far longer than anything here takes; a test that runs into it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("did not happen in time")
}

type Answering = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// A service made of a function.
#[derive(Clone)]
struct Handler(Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>);

impl Handler {
    fn new<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Body>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        Handler(Arc::new(move |request| Box::pin(handler(request))))
    }
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = (self.0)(request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// A running listener.
struct Server {
    address: SocketAddr,
    stop: Stop,
    calls: Arc<AtomicUsize>,
    done: JoinHandle<std::io::Result<Drained>>,
}

impl Server {
    async fn start(limits: ListenerLimits, handler: Handler) -> Self {
        Server::start_tls(limits, None, handler).await
    }

    async fn start_tls(limits: ListenerLimits, tls: Option<Arc<rustls::ServerConfig>>, handler: Handler) -> Self {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls, limits).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = {
            let calls = calls.clone();
            Handler::new(move |request| {
                calls.fetch_add(1, SeqCst);
                (handler.0)(request)
            })
        };
        let done = tokio::spawn(listener.serve(move |_| counted.clone(), stop.clone()));
        Server {
            address,
            stop,
            calls,
            done,
        }
    }

    async fn echo(limits: ListenerLimits) -> Self {
        Server::start(limits, Handler::new(echo)).await
    }

    /// Answers with the request's body.
    async fn echo_raw() -> Self {
        let handler = Handler::new(|request: Request<Body>| async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::new(body))
        });
        Server::start(limits(), handler).await
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    async fn connect(&self) -> TcpStream {
        soon(TcpStream::connect(self.address)).await.unwrap()
    }

    /// Sends `bytes` and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn finish(self) -> Drained {
        self.stop.ask();
        soon(self.done).await.unwrap().unwrap()
    }
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let byte = soon(stream.read_u8()).await;
        let so_far = String::from_utf8_lossy(&answer).into_owned();
        answer.push(byte.unwrap_or_else(|error| panic!("{error} after {so_far:?}")));
    }
    String::from_utf8(answer).unwrap()
}

/// Answers `METHOD target|header=value;...|body`, headers as they reach the service; a body that
/// fails is answered as the gateway would.
async fn echo(request: Request<Body>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return body_failed(&error),
    };
    let headers: String = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}={};", value.as_bytes().escape_ascii()))
        .collect();
    let text = format!("{} {}|{headers}|{}", parts.method, parts.uri, body.escape_ascii());
    Response::new(Full::new(Bytes::from(text)))
}

fn body_failed(error: &BodyError) -> Response<Full<Bytes>> {
    if let Some(refusal) = error.refusal() {
        return refusal.response();
    }
    let mut response = Response::new(Full::new(Bytes::from(error.to_string())));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    response
}

/// One worker: connections and answers have one order.
fn limits() -> ListenerLimits {
    ListenerLimits {
        workers: 1,
        ..ListenerLimits::default()
    }
}
