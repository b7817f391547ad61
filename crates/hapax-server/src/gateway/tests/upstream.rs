use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{read_until, soon};
use crate::gateway::body::Body;
use crate::gateway::limits::{HostPolicy, UpstreamLimits};
use crate::gateway::upstream::{AmbiguousCause, AnswerBody, AnswerError, Target, UnsentCause, Upstream, UpstreamError};

/// An upstream that a test plays by hand.
pub(super) struct Played {
    listener: TcpListener,
}

impl Played {
    pub(super) async fn new() -> Self {
        Played {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(super) fn client(&self, limits: UpstreamLimits) -> Upstream {
        let url = format!("http://{}", self.listener.local_addr().unwrap());
        client(&url, limits)
    }

    pub(super) async fn accept(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }
}

pub(super) fn client(url: &str, limits: UpstreamLimits) -> Upstream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Upstream::new(Target::parse(url).unwrap(), Arc::new(tls), limits)
}

fn post(body: &'static str) -> Request<Body> {
    Request::post("/x?y")
        .header("host", "client.example")
        .body(Body::from(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// Sends a POST to an upstream that reads it and then plays `answer` and closes.
async fn answered(answer: &str) -> Result<Response<AnswerBody>, UpstreamError> {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let serve = async {
        let mut stream = played.accept().await;
        read_until(&mut stream, "\r\n\r\nabc").await;
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let (response, ()) = soon(async { tokio::join!(upstream.send(post("abc")), serve) }).await;
    response
}

async fn text(response: Response<AnswerBody>) -> Result<String, AnswerError> {
    let body = soon(response.into_body().collect()).await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn ambiguous(result: Result<Response<AnswerBody>, UpstreamError>) -> AmbiguousCause {
    match result {
        Err(UpstreamError::Ambiguous { cause, .. }) => cause,
        other => panic!("not ambiguous: {other:?}"),
    }
}

fn unsent(result: Result<Response<AnswerBody>, UpstreamError>) -> UnsentCause {
    match result {
        Err(UpstreamError::Unsent { cause, .. }) => cause,
        other => panic!("not unsent: {other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_reached_was_sent_nothing() {
    let free = Played::new().await.listener.local_addr().unwrap();
    let upstream = client(&format!("http://{free}"), UpstreamLimits::default());
    assert_eq!(unsent(soon(upstream.send(post(""))).await), UnsentCause::Connect);

    let upstream = client("http://name.invalid", UpstreamLimits::default());
    assert_eq!(unsent(soon(upstream.send(post(""))).await), UnsentCause::Dns);

    // A listener that nobody accepts from, its backlog full: connecting takes for ever.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _filler = TcpStream::connect(address).await.unwrap();
    let upstream = client(
        &format!("http://{address}"),
        UpstreamLimits {
            connect_timeout: Duration::from_millis(50),
            ..UpstreamLimits::default()
        },
    );
    assert_eq!(unsent(soon(upstream.send(post(""))).await), UnsentCause::ConnectTimeout);
}

#[tokio::test]
async fn a_connection_lost_after_sending_is_ambiguous() {
    // Closed without an answer, with half a head, and reset before the request was read.
    assert_eq!(ambiguous(answered("").await), AmbiguousCause::Reset);
    assert_eq!(
        ambiguous(answered("HTTP/1.1 200 OK\r\nA: b").await),
        AmbiguousCause::Reset
    );
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let reset = async {
        let stream = played.accept().await;
        stream.readable().await.unwrap();
        // Closing with unread bytes resets.
        drop(stream);
    };
    let (result, ()) = soon(async { tokio::join!(upstream.send(post("abc")), reset) }).await;
    assert_eq!(ambiguous(result), AmbiguousCause::Reset);
}

#[tokio::test]
async fn no_answer_in_time_is_ambiguous() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits {
        response_timeout: Duration::from_millis(80),
        ..UpstreamLimits::default()
    });
    let silent = async {
        let mut stream = played.accept().await;
        read_until(&mut stream, "\r\n\r\nabc").await;
        // The client lets go of the connection too, so that the late answer goes nowhere.
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    };
    let (result, ()) = soon(async { tokio::join!(upstream.send(post("abc")), silent) }).await;
    assert_eq!(ambiguous(result), AmbiguousCause::Timeout);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_ambiguous() {
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let cause = ambiguous(answered(answer).await);
        assert_eq!(cause, AmbiguousCause::InvalidAnswer, "{answer:?}");
    }
}

#[tokio::test]
async fn answers_pass_as_they_are() {
    for (answer, status, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, "until the end"),
        (
            "HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            500,
            "hi",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, ""),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            201,
            "",
        ),
    ] {
        let response = answered(answer).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{answer:?}");
        assert_eq!(text(response).await.unwrap(), body, "{answer:?}");
    }
    let redirect = "HTTP/1.1 307 T\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    let response = answered(redirect).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "http://elsewhere/");
}

#[tokio::test]
async fn an_answer_that_breaks_off_says_so() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let error = text(answered(answer).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, AnswerError::Broken(_)), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_stops_is_given_up() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits {
        body_idle_timeout: Duration::from_millis(50),
        ..UpstreamLimits::default()
    });
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi";
    let serve = async {
        let mut stream = played.accept().await;
        read_until(&mut stream, "\r\n\r\nabc").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let (response, mut stream) = soon(async { tokio::join!(upstream.send(post("abc")), serve) }).await;
    let error = text(response.unwrap()).await.unwrap_err();
    assert!(matches!(error, AnswerError::Idle(_)), "{error}");
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn headers_are_cleaned_both_ways() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits {
        via: true,
        ..UpstreamLimits::default()
    });
    let request = Request::post("http://client.example/x?y")
        .header("host", "client.example")
        .header("connection", "keep-alive, X-Hop, connection")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("te", "trailers")
        .header("trailer", "x")
        .header("transfer-encoding", "chunked")
        .header("content-length", "99")
        .header("upgrade", "websocket")
        .header("expect", "100-continue")
        .header("hapax-operation", "op")
        .header("x-end", "1")
        .body(Body::from(Bytes::from_static(b"abc")))
        .unwrap();
    let serve = async {
        let mut stream = played.accept().await;
        let request = read_until(&mut stream, "\r\n\r\nabc").await;
        let answer = "HTTP/1.1 200 OK\r\nConnection: X-Back\r\nX-Back: 1\r\nKeep-Alive: x\r\n\
                      Hapax-State: dead\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nhi";
        stream.write_all(answer.as_bytes()).await.unwrap();
        request
    };
    let (response, sent) = soon(async { tokio::join!(upstream.send(request), serve) }).await;
    let mut lines: Vec<_> = sent.trim_end_matches("\r\n\r\nabc").split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "POST /x?y HTTP/1.1",
            "content-length: 3",
            // Set by the service behind the listener, which strips the client's.
            "hapax-operation: op",
            "host: client.example",
            "via: 1.1 hapax",
            "x-end: 1",
        ]
    );
    let response = response.unwrap();
    let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "via", "x-end"]);
}

#[tokio::test]
async fn requests_are_framed_by_their_bodies() {
    for (method, body, sent_length, framing) in [
        ("POST", Body::Empty, None, None),
        ("POST", Body::Empty, Some("0"), Some("content-length: 0")),
        (
            "POST",
            Body::from(Bytes::from_static(b"ab")),
            None,
            Some("content-length: 2"),
        ),
        (
            "GET",
            Body::from(Bytes::from_static(b"ab")),
            Some("7"),
            Some("content-length: 2"),
        ),
    ] {
        let played = Played::new().await;
        let upstream = played.client(UpstreamLimits {
            host: HostPolicy::Upstream,
            ..UpstreamLimits::default()
        });
        let mut request = Request::builder().method(method).uri("/").header("host", "c");
        if let Some(length) = sent_length {
            request = request.header("content-length", length);
        }
        let request = request.body(body).unwrap();
        let serve = async {
            let mut stream = played.accept().await;
            let head = read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 204 N\r\n\r\n").await.unwrap();
            head
        };
        let (response, head) = soon(async { tokio::join!(upstream.send(request), serve) }).await;
        response.unwrap();
        let found = head
            .split("\r\n")
            .find(|line| line.starts_with("content-length") || line.starts_with("transfer"));
        assert_eq!(found, framing, "{head:?}");
        let host = format!("host: {}\r\n", played.listener.local_addr().unwrap());
        assert!(head.contains(&host), "{head:?}");
    }
}

async fn serve_one(stream: &mut TcpStream) {
    read_until(stream, "\r\n\r\nabc").await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await
        .unwrap();
}

#[tokio::test]
async fn connections_are_used_again_and_a_dead_one_costs_nothing() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let exchange = || async {
        let response = upstream.send(post("abc")).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "hi");
    };
    let mut stream = soon(async {
        let ((), stream) = tokio::join!(exchange(), async {
            let mut stream = played.accept().await;
            serve_one(&mut stream).await;
            stream
        });
        stream
    })
    .await;
    // The same connection.
    soon(async { tokio::join!(exchange(), serve_one(&mut stream)) }).await;
    // It dies unused; the close is known to the client's system once a later connection is made.
    drop(stream);
    let _later = TcpStream::connect(played.listener.local_addr().unwrap()).await.unwrap();
    let _later = played.accept().await;
    // The next request goes to a fresh one without an error.
    soon(async {
        tokio::join!(exchange(), async {
            let mut stream = played.accept().await;
            serve_one(&mut stream).await;
        })
    })
    .await;
}

#[tokio::test]
async fn a_pooled_connection_that_dies_after_the_request_was_written_is_ambiguous() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let mut stream = soon(async {
        let (response, stream) = tokio::join!(upstream.send(post("abc")), async {
            let mut stream = played.accept().await;
            serve_one(&mut stream).await;
            stream
        });
        text(response.unwrap()).await.unwrap();
        stream
    })
    .await;
    let close = async {
        read_until(&mut stream, "\r\n\r\nabc").await;
        drop(stream);
    };
    let (result, ()) = soon(async { tokio::join!(upstream.send(post("abc")), close) }).await;
    assert_eq!(ambiguous(result), AmbiguousCause::Reset);
    // Nothing was sent again by itself.
    let accepted = tokio::time::timeout(Duration::from_millis(50), played.listener.accept()).await;
    assert!(accepted.is_err());
}

#[tokio::test]
async fn an_answer_before_the_request_is_whole_does_not_poison_the_pool() {
    let played = Played::new().await;
    let upstream = played.client(UpstreamLimits::default());
    let early = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let serve = async {
        let mut stream = played.accept().await;
        read_until(&mut stream, "\r\n\r\nabc").await;
        stream.write_all(early.as_bytes()).await.unwrap();
        stream
    };
    let (response, _stream) = soon(async { tokio::join!(upstream.send(post("abc")), serve) }).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "hi");
    // What was sent unasked is nobody's answer.
    let serve = async { serve_one(&mut played.accept().await).await };
    let (response, ()) = soon(async { tokio::join!(upstream.send(post("abc")), serve) }).await;
    assert_eq!(text(response.unwrap()).await.unwrap(), "hi");
}

#[test]
fn targets() {
    for good in ["http://a", "http://a:1/", "https://a.b:443", "http://[::1]:80"] {
        assert!(Target::parse(good).is_ok(), "{good}");
    }
    for bad in ["a:1", "ftp://a", "http://a/b", "http://a?b", "http://u@a", "/", ""] {
        let error = Target::parse(bad).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
}
