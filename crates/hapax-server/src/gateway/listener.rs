//! The listener: accepts connections and serves HTTP/1.1 and HTTP/2 on them.
//!
//! One accept loop hands each connection to the worker that has the fewest. A worker is a thread
//! with a single-threaded runtime and a service of its own, so that nothing on the path of a
//! request is shared between cores. (A listener for each worker, with `SO_REUSEPORT`, would let
//! the kernel's hash load one worker twice as much as another, and would let a second gateway take
//! the same port without an error.)
//!
//! Whatever a client may do too slowly has a time-out ([`watch`]), whatever it may send too much
//! of has a limit ([`super::limits::ListenerLimits`]).

mod connection;
mod stop;
mod tls;
mod watch;
mod worker;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower_service::Service;

use self::worker::Worker;
use super::body::Body;
use super::limits::ListenerLimits;

pub(crate) use self::stop::Stop;
pub(crate) use self::tls::{TlsError, certificates, server_tls};

/// Any error with its cause.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What answers requests. Implemented for each fitting [`Service`]; it always answers, so its
/// error is [`Infallible`]. Its clones must be cheap: there is one for each request.
pub(crate) trait Answer:
    Service<Request<Body>, Response = Response<Self::Reply>, Error = Infallible, Future = Self::Pending>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of an answer. An error in it cuts the connection (or HTTP/2 stream), so that the
    /// client sees that the answer is not whole.
    type Reply: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;
    /// The future of an answer.
    type Pending: Future<Output = Result<Response<Self::Reply>, Infallible>> + Send;
}

impl<S, B> Answer for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Reply = B;
    type Pending = S::Future;
}

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: StdListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Arc<ListenerLimits>,
}

/// How a stop went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Connections that were cut because `drain_timeout` was over.
    pub(crate) cut: usize,
    /// Tasks without a connection that were cut with them: what clients asked for before they left.
    pub(crate) left: usize,
}

/// What the accept loop and the workers know of each other.
#[derive(Debug, Default)]
struct Count {
    open: AtomicUsize,
    /// Told at each close.
    closed: Notify,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one. With `tls` the listener speaks TLS only, and
    /// HTTP/2 where the client asks for it by ALPN.
    ///
    /// # Errors
    /// If the address cannot be bound (in use, not local, not allowed).
    pub(crate) fn bind(
        address: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
        limits: ListenerLimits,
    ) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Lets a restart bind while old connections are in TIME_WAIT; a second listener still fails.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(limits.backlog).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(Listener {
            tcp: socket.into(),
            tls,
            limits: Arc::new(limits),
        })
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop`, then drains: no more is accepted, requests in flight get their
    /// answers (with `Connection: close`, or GOAWAY on HTTP/2), and after `drain_timeout` what is
    /// left is cut.
    ///
    /// `factory` is called once on each worker's thread, inside its runtime, with the worker's
    /// number.
    ///
    /// # Errors
    /// If a worker's thread or runtime cannot be made, or the socket cannot be watched.
    pub(crate) async fn serve<F, S>(self, factory: F, stop: Stop) -> io::Result<Drained>
    where
        F: Fn(usize) -> S + Send + Sync + 'static,
        S: Answer,
    {
        let tcp = TcpListener::from_std(self.tcp)?;
        let count = Arc::new(Count::default());
        let factory = Arc::new(factory);
        let workers = (0..self.limits.workers.max(1))
            .map(|number| {
                let shared = worker::Shared {
                    limits: self.limits.clone(),
                    tls: self.tls.clone(),
                    stop: stop.clone(),
                    count: count.clone(),
                };
                Worker::start(number, factory.clone(), shared)
            })
            .collect::<io::Result<Vec<_>>>()?;
        accept(&tcp, &workers, &count, self.limits.max_connections, &stop).await;
        drop(tcp);
        // All begin to drain before one is waited for.
        let finishing: Vec<_> = workers.into_iter().map(Worker::finish).collect();
        let mut all = Drained::default();
        for finished in finishing {
            let Drained { cut, left } = finished.await;
            all.cut += cut;
            all.left += left;
        }
        Ok(all)
    }
}

async fn accept(tcp: &TcpListener, workers: &[Worker], count: &Count, max_connections: usize, stop: &Stop) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.wait() => return,
            accepted = accept_within(tcp, count, max_connections) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                hand_over(stream, peer, workers, count);
            }
            // The client gave up before it was accepted.
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, ?pause, "cannot accept connections; trying again after a pause");
                tokio::select! {
                    () = stop.wait() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// Shortest and longest pause after an error that is not one connection's fault, such as no file
/// descriptor being left.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn accept_within(
    tcp: &TcpListener,
    count: &Count,
    max_connections: usize,
) -> io::Result<(TcpStream, SocketAddr)> {
    while count.open.load(Relaxed) >= max_connections {
        let closed = count.closed.notified();
        if count.open.load(Relaxed) >= max_connections {
            closed.await;
        }
    }
    tcp.accept().await
}

fn hand_over(stream: TcpStream, peer: SocketAddr, workers: &[Worker], count: &Count) {
    let Some(worker) = workers.iter().min_by_key(|worker| worker.open()) else {
        return;
    };
    match stream.into_std() {
        Ok(stream) => {
            count.open.fetch_add(1, Relaxed);
            if !worker.take(stream, peer) {
                count.open.fetch_sub(1, Relaxed);
                tracing::error!("a worker is gone; a connection was dropped");
            }
        }
        Err(error) => tracing::warn!(%error, "a connection was dropped"),
    }
}
