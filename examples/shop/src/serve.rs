//! The accept loop. It is the shop's own, and not axum's, because a test must be able to order a
//! real TCP reset, for which the connection has to be taken back from hyper.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tower_service::Service;

use crate::routes;
use crate::shop::Shop;

/// How long requests in flight may take to finish once the shop stops.
const DRAIN: Duration = Duration::from_secs(5);
const BACKLOG: u32 = 4096;
/// Pause after a failed accept, most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Binds `address` with room for a storm of connections: the 128 pending ones that
/// `TcpListener::bind` allows overflow at once, and each refused one costs its client a second.
///
/// # Errors
/// Where the system refuses the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A killed shop can be started again on its port at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves HTTP/1.1 on `listener` until the returned future is dropped, which ends all of its
/// connections.
pub async fn serve(listener: TcpListener, shop: Shop) {
    serve_until(listener, shop, std::future::pending()).await;
}

/// Serves HTTP/1.1 on `listener` until `stop` is done; then takes no more connections, gives the
/// requests in flight five seconds, and returns.
pub async fn serve_until(listener: TcpListener, shop: Shop, stop: impl Future<Output = ()>) {
    let router = routes::router(shop);
    let (drain, draining) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), draining.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // No receiver means no connection to drain.
    let _ = drain.send(());
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, router: Router, mut draining: watch::Receiver<()>) {
    // Without it a small answer could wait for the client's delayed acknowledgement; where it
    // fails the connection is only slower.
    let _ = stream.set_nodelay(true);
    let (hangup, mut hangups) = mpsc::channel(1);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Hangup(hangup.clone()));
        router.clone().call(request)
    });
    let mut conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut drained = false;
    loop {
        tokio::select! {
            // First, so that what was written before a hang-up is flushed before it.
            biased;
            // An error is a client that went away or broke the protocol: its own business.
            _ = &mut conn => return,
            Some(how) = hangups.recv() => {
                if how == How::Reset {
                    // With zero linger, closing sends RST. If that fails the client sees an end
                    // of stream instead, still without an answer.
                    let _ = conn.into_parts().io.inner().set_zero_linger();
                }
                return;
            }
            _ = draining.changed(), if !drained => {
                drained = true;
                std::pin::Pin::new(&mut conn).graceful_shutdown();
            }
        }
    }
}

/// A request's means to end its connection.
#[derive(Debug, Clone)]
pub(crate) struct Hangup(mpsc::Sender<How>);

#[derive(Debug, PartialEq, Eq)]
enum How {
    Reset,
    Close,
}

impl Hangup {
    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(&self) {
        // Full means that the connection is ending already.
        let _ = self.0.try_send(How::Reset);
    }

    /// Ends the connection after what hyper has written so far.
    pub(crate) fn close(&self) {
        let _ = self.0.try_send(How::Close);
    }
}
