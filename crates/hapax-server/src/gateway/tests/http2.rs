use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Server, limits, soon};
use crate::gateway::limits::ListenerLimits;

async fn connect(server: &Server) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(server.connect().await);
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(uri: &str) -> http::request::Builder {
    Request::post(uri).version(Version::HTTP_2)
}

#[tokio::test]
async fn prior_knowledge_http2_is_served_side_by_side() {
    let server = Server::echo(limits()).await;
    let sender = connect(&server).await;
    let exchange = |path: &str| {
        let mut sender = sender.clone();
        let request = post(&format!("http://a{path}"))
            .header("hapax-fence", "7")
            .body(Full::new(Bytes::from_static(b"abc")))
            .unwrap();
        async move {
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        }
    };
    let (one, two) = soon(async { tokio::join!(exchange("/1"), exchange("/2")) }).await;
    for (answer, path) in [(one, "/1"), (two, "/2")] {
        assert!(answer.starts_with(&format!("POST http://a{path}|")), "{answer:?}");
        assert!(answer.contains("host=a;") && answer.ends_with("|abc"), "{answer:?}");
        assert!(!answer.contains("hapax-"), "{answer:?}");
    }
    drop(sender);
    server.finish().await;
}

#[tokio::test]
async fn http2_hosts_that_disagree_are_refused() {
    let server = Server::echo(limits()).await;
    let mut sender = connect(&server).await;
    for hosts in [vec!["b"], vec!["a", "a"]] {
        let mut request = post("http://a/");
        for host in &hosts {
            request = request.header("host", *host);
        }
        let request = request.body(Full::default()).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{hosts:?}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(server.calls(), 0);
    server.finish().await;
}

#[tokio::test]
async fn http2_drains_with_goaway() {
    let server = Server::echo(limits()).await;
    let mut sender = connect(&server).await;
    let request = || post("http://a/").body(Full::default()).unwrap();
    soon(sender.send_request(request())).await.unwrap();
    server.finish().await;
    assert!(soon(sender.ready()).await.is_err());
}

#[tokio::test]
async fn http2_without_a_request_is_let_go() {
    let server = Server::echo(ListenerLimits {
        first_byte_timeout: Duration::from_millis(60),
        ..limits()
    })
    .await;
    let mut stream = server.connect().await;
    // The preface, and settings that say nothing.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut frame = [0; 9];
    // Frames until GOAWAY (type 7).
    while frame[3] != 7 {
        soon(stream.read_exact(&mut frame)).await.unwrap();
        let len = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        soon(stream.read_exact(&mut vec![0; len as usize])).await.unwrap();
    }
    server.finish().await;
}
