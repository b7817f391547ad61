//! Client, listener, upstream client and upstream together.

use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::upstream::{Played, client};
use super::{Handler, Server, limits, read_until, soon};
use crate::gateway::limits::UpstreamLimits;
use crate::gateway::upstream::Upstream;

#[tokio::test]
async fn a_streamed_body_reaches_the_upstream_chunked_even_with_get() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let handler = Handler::new(move |request| {
        let upstream = upstream.clone();
        async move {
            let response = upstream.send(request).await.unwrap();
            response.map(|_| http_body_util::Full::default())
        }
    });
    let server = Server::start(limits(), handler).await;
    let mut client = server.connect().await;
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        .await
        .unwrap();
    let mut stream = played.accept().await;
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head:?}");
    assert_eq!(read_until(&mut stream, "hi\r\n").await, "2\r\nhi\r\n");
    client.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    server.finish().await;
}

/// A listener whose service passes all to `upstream`; what fails is answered 502 with the error.
async fn gateway(upstream: Upstream) -> Server {
    let handler = Handler::new(move |request| {
        let upstream = upstream.clone();
        async move {
            let answer = match upstream.send(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = body.collect().await.map(|body| body.to_bytes());
                    body.map(|body| Response::from_parts(parts, http_body_util::Full::new(body)))
                        .map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            answer.unwrap_or_else(|error| {
                let mut response = Response::new(http_body_util::Full::from(error));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            })
        }
    });
    Server::start(limits(), handler).await
}

#[tokio::test]
async fn a_slow_client_does_not_use_up_the_upstreams_time() {
    let played = Played::new().await;
    let response_timeout = Duration::from_millis(100);
    let server = gateway(played.client(UpstreamLimits {
        response_timeout,
        ..UpstreamLimits::default()
    }))
    .await;
    let mut client = server.connect().await;
    client
        .write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        .await
        .unwrap();
    let mut stream = played.accept().await;
    read_until(&mut stream, "\r\n\r\nab").await;
    // The client's pause, longer than the upstream may take.
    tokio::time::sleep(response_timeout * 2).await;
    client.write_all(b"cd").await.unwrap();
    read_until(&mut stream, "cd").await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await
        .unwrap();
    let answer = read_until(&mut client, "hi").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    server.finish().await;
}

#[tokio::test]
async fn a_client_that_fails_before_its_first_byte_leaves_proof() {
    let played = Played::new().await;
    let server = gateway(played.client(UpstreamLimits::default())).await;
    for (body, proof) in [
        ("zz", "nothing was sent"),
        ("2\r\nhi\r\nzz", "may have been carried out"),
    ] {
        let mut client = server.connect().await;
        let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut stream = played.accept().await;
        let answer = super::read_to_end(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains(proof),
            "{answer:?}"
        );
        let mut sent = String::new();
        soon(stream.read_to_string(&mut sent)).await.unwrap();
        assert_eq!(sent.is_empty(), proof == "nothing was sent", "{sent:?}");
    }
    server.finish().await;
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions_at_once() {
    let echo = Server::echo_raw().await;
    let server = gateway(client(&format!("http://{}", echo.address), UpstreamLimits::default())).await;
    let body: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    for chunked in [false, true] {
        let (mut reader, mut writer) = server.connect().await.into_split();
        let sent = body.clone();
        let sending = tokio::spawn(async move {
            let framing = if chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {}", sent.len())
            };
            let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            if chunked {
                for piece in sent.chunks(7_777) {
                    let size = format!("{:X}\r\n", piece.len());
                    writer
                        .write_all(&[size.as_bytes(), piece, b"\r\n"].concat())
                        .await
                        .unwrap();
                }
                writer.write_all(b"0\r\nT: x\r\n\r\n").await.unwrap();
            } else {
                writer.write_all(&sent).await.unwrap();
            }
            writer
        });
        let mut answer = Vec::new();
        soon(reader.read_to_end(&mut answer)).await.unwrap();
        sending.await.unwrap();
        let start = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert!(answer[start..] == body, "{} bytes came back", answer.len() - start);
    }
    server.finish().await;
    echo.finish().await;
}
