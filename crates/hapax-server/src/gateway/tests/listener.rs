use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use super::{Handler, PATIENCE, Server, limits, read_to_end, read_until, soon};
use crate::gateway::limits::{Forwarded, ListenerLimits};
use crate::gateway::listener::{Drained, Listener};

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn headers_from_outside_are_stripped_and_the_client_is_named() {
    for (mode, sent, seen) in [
        (
            Forwarded::Append,
            "",
            "x-forwarded-for=127.0.0.1;x-forwarded-proto=http;",
        ),
        (
            Forwarded::Append,
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n",
            "x-forwarded-for=1.1.1.1, 2.2.2.2, 127.0.0.1;x-forwarded-proto=https;",
        ),
        (
            Forwarded::Replace,
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n",
            "x-forwarded-for=127.0.0.1;x-forwarded-proto=http;",
        ),
        (
            Forwarded::Off,
            "X-Forwarded-For: 1.1.1.1\r\n",
            "x-forwarded-for=1.1.1.1;",
        ),
    ] {
        let server = Server::echo(ListenerLimits {
            forwarded: mode,
            ..limits()
        })
        .await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nHapax-Fence: 7\r\nhapax-operation: x\r\n{sent}Connection: close\r\n\r\n"
        );
        let answer = server.exchange(request.as_bytes()).await;
        assert!(!answer.contains("hapax-"), "{answer:?}");
        let mut expected: Vec<_> = seen.split_terminator(';').collect();
        let mut found: Vec<_> = answer
            .split(['|', ';'])
            .filter(|header| header.starts_with("x-forwarded"))
            .collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{mode:?}");
        server.finish().await;
    }
}

#[tokio::test]
async fn the_client_is_asked_for_the_body_it_holds_back() {
    let server = Server::echo(limits()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await
        .unwrap();
    let interim = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    read_until(&mut stream, "|abc").await;
    server.finish().await;
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let server = Server::echo(ListenerLimits {
        first_byte_timeout: SHORT,
        head_timeout: SHORT,
        idle_timeout: SHORT,
        body_idle_timeout: SHORT,
        ..limits()
    })
    .await;
    // Not a byte.
    assert_eq!(server.exchange(b"").await, "");
    // What could yet become HTTP/2.
    assert_eq!(server.exchange(b"PRI * HT").await, "");
    // A first head that stops.
    let answer = server.exchange(b"GET / HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    // No second request.
    let answer = server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(server.calls(), 1);
    // A body that stops.
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    let answer = server.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    assert!(answer.contains("no byte of the request body"), "{answer:?}");
    server.finish().await;
}

#[tokio::test]
async fn a_body_that_drips_is_let_go_although_it_never_pauses_long() {
    let server = Server::echo(ListenerLimits {
        body_idle_timeout: Duration::from_millis(400),
        body_min_rate: 1 << 20,
        ..limits()
    })
    .await;
    let stream = server.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        writer.write_all(head).await?;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            writer.write_all(b"x").await?;
        }
        #[allow(unreachable_code)]
        Ok::<(), std::io::Error>(())
    });
    let mut answer = vec![0; 4096];
    let len = soon(reader.read(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    drip.abort();
    server.finish().await;
}

#[tokio::test]
async fn a_request_in_flight_is_not_idle() {
    let release = Arc::new(Semaphore::new(0));
    let handler = {
        let release = release.clone();
        Handler::new(move |_| {
            let release = release.clone();
            async move {
                release.acquire().await.unwrap().forget();
                Response::new(Full::new(Bytes::from_static(b"done")))
            }
        })
    };
    let server = Server::start(
        ListenerLimits {
            idle_timeout: SHORT,
            first_byte_timeout: SHORT,
            head_timeout: SHORT,
            ..limits()
        },
        handler,
    )
    .await;
    let mut stream = server.connect().await;
    let other = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Another connection is let go for idleness meanwhile, twice over.
    assert_eq!(read_to_end(&mut other.await).await, "");
    assert_eq!(server.exchange(b"").await, "");
    release.add_permits(1);
    let answer = read_to_end(&mut stream).await;
    assert!(answer.ends_with("done"), "{answer:?}");
    assert!(!answer.contains("connection: close"), "taken for idle: {answer:?}");
    server.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let handler = Handler::new(|_| async { Response::new(Full::new(Bytes::from(vec![b'x'; 64 << 20]))) });
    let server = Server::start(
        ListenerLimits {
            write_timeout: SHORT,
            ..limits()
        },
        handler,
    )
    .await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.peek(&mut [0]).await.unwrap();
    let address = server.address;
    let drained = server.finish().await;
    // The drain could only end because the connection was cut by its time-out.
    assert_eq!(drained, Drained::default());
    assert!(TcpStream::connect(address).await.is_err());
    let mut answer = Vec::new();
    let read = soon(stream.read_to_end(&mut answer)).await;
    assert!(read.is_err() || answer.len() < 64 << 20, "{}", answer.len());
}

#[tokio::test]
async fn beyond_the_most_connections_new_ones_wait() {
    let server = Server::echo(ListenerLimits {
        max_connections: 1,
        ..limits()
    })
    .await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = server.connect().await;
    first.write_all(request).await.unwrap();
    read_until(&mut first, ";|").await;
    let mut second = server.connect().await;
    second.write_all(request).await.unwrap();
    // A round trip on the first shows that the second had its chance.
    for _ in 0..20 {
        first.write_all(request).await.unwrap();
        read_until(&mut first, ";|").await;
    }
    assert_eq!(server.calls(), 21);
    drop(first);
    read_until(&mut second, ";|").await;
    assert_eq!(server.calls(), 22);
    server.finish().await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_takes_no_more() {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (arrived, release) = (arrived.clone(), release.clone());
        Handler::new(move |_| {
            let (arrived, release) = (arrived.clone(), release.clone());
            async move {
                arrived.notify_one();
                release.notified().await;
                Response::new(Full::new(Bytes::from_static(b"done")))
            }
        })
    };
    let server = Server::start(limits(), handler).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(arrived.notified()).await;
    server.stop.ask();
    // An idle connection closes at once.
    assert_eq!(read_to_end(&mut idle).await, "");
    release.notify_one();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    assert!(answer.ends_with("done"), "{answer:?}");
    let address = server.address;
    assert_eq!(server.finish().await, Drained::default());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let arrived = Arc::new(Notify::new());
    let handler = {
        let arrived = arrived.clone();
        Handler::new(move |_| {
            arrived.notify_one();
            std::future::pending()
        })
    };
    let server = Server::start(
        ListenerLimits {
            drain_timeout: SHORT,
            ..limits()
        },
        handler,
    )
    .await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    soon(arrived.notified()).await;
    let asked = Instant::now();
    assert_eq!(server.finish().await, Drained { cut: 1, left: 0 });
    assert!(asked.elapsed() >= SHORT && asked.elapsed() < PATIENCE);
    assert_eq!(soon(busy.read(&mut [0])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn all_workers_drain_at_the_same_time() {
    const WORKERS: usize = 8;
    let drain = Duration::from_millis(500);
    let arrived = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = {
        let arrived = arrived.clone();
        Handler::new(move |_| {
            arrived.add_permits(1);
            std::future::pending()
        })
    };
    let limits = ListenerLimits {
        workers: WORKERS,
        drain_timeout: drain,
        ..limits()
    };
    let server = Server::start(limits, handler).await;
    let mut busy = Vec::new();
    for _ in 0..WORKERS {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        busy.push(stream);
    }
    let _all = soon(arrived.acquire_many(WORKERS as u32)).await.unwrap();
    let asked = Instant::now();
    assert_eq!(server.finish().await.cut, WORKERS);
    assert!(
        asked.elapsed() < drain * 4,
        "one after the other: {:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn a_port_in_use_is_an_error() {
    let server = Server::echo(limits()).await;
    let error = Listener::bind(server.address, None, limits()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    server.finish().await;
}
