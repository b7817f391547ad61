//! One inbound connection, from handshake to close.

mod forward;
mod reply;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use http::header::HOST;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::forward::Forward;
use self::reply::{InFlight, Reply};
use super::watch::{Late, Watch};
use super::{Answer, Stop};
use crate::gateway::body::Body;
use crate::gateway::connection::ConnState;
use crate::gateway::framing::{Guard, Refusal, head::is_host, is_marker};
use crate::gateway::limits::ListenerLimits;
use crate::gateway::net::Stream;

/// What HTTP/2 starts with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddr,
    is_tls: bool,
}

/// What the connections of one worker share.
pub(super) struct Context<S> {
    pub(super) service: S,
    pub(super) limits: Arc<ListenerLimits>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) stop: Stop,
}

/// Serves a connection until it closes.
pub(super) async fn serve<S: Answer>(tcp: TcpStream, address: SocketAddr, context: Arc<Context<S>>) {
    // Answers are written whole; waiting for more to send only delays them.
    let _ = tcp.set_nodelay(true);
    let peer = Peer {
        address,
        is_tls: context.tls.is_some(),
    };
    let result = match &context.tls {
        None => serve_plain(tcp, peer, &context).await,
        Some(acceptor) => serve_tls(tcp, acceptor, peer, &context).await,
    };
    if let Err(error) = result {
        tracing::debug!(%address, error, "connection ended");
    }
}

async fn serve_plain<S: Answer>(tcp: TcpStream, peer: Peer, context: &Arc<Context<S>>) -> Result<(), super::BoxError> {
    let mut io = Stream::<TlsStream<TcpStream>>::Plain(tcp);
    let mut first = [0; 2048];
    let sniffed = tokio::select! {
        biased;
        () = context.stop.wait() => return Ok(()),
        sniffed = sniff(&mut io, &mut first, &context.limits) => sniffed?,
    };
    let Some(len) = sniffed else {
        return Ok(());
    };
    let is_http2 = first[..len].starts_with(PREFACE);
    serve_http(io, &first[..len], is_http2, peer, context).await
}

/// Reads until it is clear whether this is HTTP/2. `None` if nothing came in time.
async fn sniff(
    io: &mut (impl AsyncRead + Unpin),
    first: &mut [u8],
    limits: &ListenerLimits,
) -> Result<Option<usize>, super::BoxError> {
    let Ok(read) = timeout(limits.first_byte_timeout, io.read(first)).await else {
        return Ok(None);
    };
    let mut len = read?;
    if len == 0 {
        return Ok(None);
    }
    let rest = async {
        while len < PREFACE.len() && PREFACE.starts_with(&first[..len]) {
            match io.read(&mut first[len..]).await? {
                0 => break,
                read => len += read,
            }
        }
        Ok(Some(len))
    };
    match timeout(limits.head_timeout, rest).await {
        Ok(result) => result,
        Err(_) => Ok(None),
    }
}

async fn serve_tls<S: Answer>(
    tcp: TcpStream,
    acceptor: &TlsAcceptor,
    peer: Peer,
    context: &Arc<Context<S>>,
) -> Result<(), super::BoxError> {
    let tls = timeout(context.limits.tls_handshake_timeout, acceptor.accept(tcp)).await??;
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    serve_http(Stream::Tls(Box::new(tls)), &[], is_http2, peer, context).await
}

async fn serve_http<S: Answer>(
    io: Stream<TlsStream<TcpStream>>,
    prefix: &[u8],
    is_http2: bool,
    peer: Peer,
    context: &Arc<Context<S>>,
) -> Result<(), super::BoxError> {
    let state = Arc::new(ConnState::default());
    let limits = &*context.limits;
    let forward = Arc::new(Forward::new(peer, limits.forwarded));
    let service = {
        let (state, context) = (state.clone(), context.clone());
        service_fn(move |request| {
            let in_flight = InFlight::begin(state.clone());
            answer(request, context.clone(), forward.clone(), in_flight)
        })
    };
    let watched = Watched {
        state: &state,
        limits,
        stop: &context.stop,
    };
    if is_http2 {
        let io = TokioIo::new(Guard::http2(io, prefix, state.clone(), limits));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_http2_streams)
            .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.body_idle_timeout)
            .keep_alive_timeout(limits.body_idle_timeout);
        watched.run(builder.serve_connection(io, service)).await
    } else {
        let io = TokioIo::new(Guard::http1(io, prefix, state.clone(), limits));
        let mut builder = http1::Builder::new();
        // The watch has its own time-out for heads.
        builder.header_read_timeout(None);
        watched.run(builder.serve_connection(io, service)).await
    }
}

/// Answers one request.
async fn answer<S: Answer>(
    mut request: Request<Incoming>,
    context: Arc<Context<S>>,
    forward: Arc<Forward>,
    in_flight: InFlight,
) -> Result<Response<Reply<S::Reply>>, Infallible> {
    let refusal = match request.version() {
        Version::HTTP_2 => settle_host(&mut request).err(),
        _ if is_marker(&request) => in_flight.refusal().or(Some(Refusal::BadTarget)),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return Ok(refusal.response().map(|bytes| Reply::own(bytes, in_flight)));
    }
    forward.apply(&mut request);
    let request = request.map(|incoming| Body::incoming(incoming, &context.limits));
    let mut service = context.service.clone();
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(response) = service.call(request).await;
    Ok(response.map(|body| Reply::service(body, in_flight)))
}

/// HTTP/2 has `:authority`, and may have `host` too: they must agree. What is behind sees `Host`.
fn settle_host<B>(request: &mut Request<B>) -> Result<(), Refusal> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::RepeatedHost);
    }
    match (authority, host) {
        (None, None) => return Err(Refusal::MissingHost),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Refusal::TargetHostMismatch);
        }
        _ => {}
    }
    let host = match (authority, host) {
        (_, Some(host)) => host.clone(),
        (Some(authority), None) => HeaderValue::from_str(authority).map_err(|_| Refusal::BadHost)?,
        (None, None) => return Err(Refusal::MissingHost),
    };
    if !is_host(host.as_bytes()) {
        return Err(Refusal::BadHost);
    }
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// A hyper connection that can be asked to end.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S, B> Graceful for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<super::BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<super::BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> Graceful for http2::Connection<I, S, TokioExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<super::BoxError>,
    S::Future: Send + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<super::BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// A connection under its time-outs, which ends when the listener stops.
struct Watched<'a> {
    state: &'a ConnState,
    limits: &'a ListenerLimits,
    stop: &'a Stop,
}

impl Watched<'_> {
    async fn run(self, connection: impl Graceful) -> Result<(), super::BoxError> {
        let mut connection = pin!(connection);
        let mut stopping = pin!(self.stop.wait());
        let mut is_registered = false;
        let mut is_ending = false;
        let mut watch = Watch::new();
        poll_fn(move |cx| {
            // A task has one waker, so registering once is enough.
            if !is_ending && (!is_registered || self.stop.is_asked()) {
                is_registered = true;
                if stopping.as_mut().poll(cx).is_ready() {
                    is_ending = true;
                    connection.as_mut().end();
                }
            }
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    return Poll::Ready(result.map_err(Into::into));
                }
                match ready!(watch.poll(self.state, is_ending, self.limits, cx)) {
                    // The guard gives hyper the marker then, and the service answers it.
                    Late::Head => self.state.refuse(Refusal::HeadTimeout),
                    Late::Idle => {
                        is_ending = true;
                        connection.as_mut().end();
                    }
                    Late::Closing => return Poll::Ready(Ok(())),
                    Late::Stuck => {
                        return Poll::Ready(Err("the client neither sends nor takes bytes".into()));
                    }
                }
            }
        })
        .await
    }
}
