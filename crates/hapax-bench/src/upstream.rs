//! The server behind the proxies: takes a request whole and answers about 300 bytes. A process of its own.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

use crate::error::Result;

const ANSWER_BYTES: usize = 300;
/// What is asked for here takes as long as a small transaction elsewhere.
pub(crate) const WORKS: &str = "/works";
pub(crate) const WORK: Duration = Duration::from_millis(5);

/// Serves until the process ends. `GET /count` says how many other requests came.
pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    // Room for all connections of a round at once: a connection that is dropped and tried again takes a second.
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(4096)?;
    let count = Arc::new(AtomicU64::new(0));
    let answer = Bytes::from(format!(
        "{{\"status\":\"created\",\"note\":\"{}\"}}",
        "x".repeat(ANSWER_BYTES - 30)
    ));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (count, answer) = (Arc::clone(&count), answer.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(request, Arc::clone(&count), answer.clone()));
            // A client that goes away is none of our business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    count: Arc<AtomicU64>,
    answer: Bytes,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let count = count.load(Ordering::Relaxed);
        return Ok(Response::new(Full::new(Bytes::from(count.to_string()))));
    }
    let works = request.uri().path() == WORKS;
    // One that broke off is answered to nobody.
    let _ = request.into_body().collect().await;
    if works {
        tokio::time::sleep(WORK).await;
    }
    count.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = hyper::StatusCode::CREATED;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Asks a running upstream how many requests came.
pub(crate) fn count(address: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /count HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the upstream gave no answer")?;
    Ok(body.trim().parse()?)
}
