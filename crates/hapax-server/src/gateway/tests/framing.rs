use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Server, limits, read_to_end, read_until, soon};
use crate::gateway::framing::Refusal;
use crate::gateway::framing::tests::{REFUSED_CHUNKS, refused_heads};
use crate::gateway::limits::ListenerLimits;

fn small() -> ListenerLimits {
    ListenerLimits {
        max_head_bytes: 512,
        max_headers: 8,
        ..limits()
    }
}

fn assert_refused(answer: &str, why: Refusal, what: &str) {
    let status = format!("HTTP/1.1 {} ", why.status().as_u16());
    assert!(answer.starts_with(&status), "{what:?}: {answer:?}");
    assert!(
        answer.contains("content-type: application/problem+json\r\n"),
        "{answer:?}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer:?}");
    assert!(answer.contains(why.detail()), "{what:?}: {answer:?}");
    assert_eq!(
        answer.matches("HTTP/1.1").count(),
        1 + why.detail().matches("HTTP/1.1").count()
    );
}

#[tokio::test]
async fn an_ambiguous_head_is_answered_with_its_problem_and_never_served() {
    let server = Server::echo(small()).await;
    for (head, why) in refused_heads() {
        let answer = server.exchange(&head).await;
        assert_refused(&answer, why, &head.escape_ascii().to_string());
        if why.status() == 400 {
            assert!(answer.contains("urn:hapax:problem:request-ambiguous"), "{answer:?}");
        }
    }
    assert_eq!(server.calls(), 0);
    server.finish().await;
}

#[tokio::test]
async fn a_malformed_chunk_is_answered_with_its_problem() {
    let server = Server::echo(small()).await;
    for (body, _, why) in REFUSED_CHUNKS {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = server.exchange(request.as_bytes()).await;
        assert_refused(&answer, *why, body);
    }
    server.finish().await;
}

#[tokio::test]
async fn a_request_is_served_however_it_is_split() {
    let server = Server::echo(small()).await;
    let requests = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
                    POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2;x\r\nde\r\n1\r\nf\r\n0\r\nT: x\r\n\r\n\
                    GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let check = |answer: String| {
        let ends: Vec<_> = ["POST /1|", "|abc", "POST /2|", "|def", "GET /3|"]
            .iter()
            .map(|part| answer.find(part).unwrap_or_else(|| panic!("{part} in {answer:?}")))
            .collect();
        assert!(ends.is_sorted(), "{answer:?}");
        assert!(!answer.contains("t=x"), "trailers are dropped: {answer:?}");
    };
    check(server.exchange(requests.as_bytes()).await);

    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in requests.bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    check(read_to_end(&mut stream).await);
    assert_eq!(server.calls(), 6);
    server.finish().await;
}

#[tokio::test]
async fn a_good_request_before_a_refused_one_gets_its_answer_first() {
    let server = Server::echo(small()).await;
    let bad = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx\
               GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let good = "POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let check = |answer: &str| {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        let refused = answer.find("HTTP/1.1 400 ").unwrap();
        assert!(answer.find("POST /good|").unwrap() < refused, "{answer:?}");
        assert_refused(&answer[refused..], Refusal::RepeatedContentLength, "bad");
    };
    check(&server.exchange(format!("{good}{bad}").as_bytes()).await);

    let mut stream = server.connect().await;
    stream.write_all(good.as_bytes()).await.unwrap();
    let first = read_until(&mut stream, "|abc").await;
    stream.write_all(bad.as_bytes()).await.unwrap();
    check(&format!("{first}{}", read_to_end(&mut stream).await));
    assert_eq!(server.calls(), 2);
    server.finish().await;
}

#[tokio::test]
async fn a_refusal_outlives_the_rest_of_a_large_request() {
    let server = Server::echo(small()).await;
    let mut stream = server.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // More than socket buffers hold, so that closing without reading it would reset.
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move { writer.write_all(&vec![b'x'; 4 << 20]).await });
    let mut answer = Vec::new();
    soon(tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer))
        .await
        .unwrap();
    assert_refused(&String::from_utf8(answer).unwrap(), Refusal::BadContentLength, head);
    // A reset would have failed this.
    soon(sending).await.unwrap().unwrap();
    server.finish().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused_in_time() {
    let server = Server::echo(ListenerLimits {
        head_timeout: Duration::from_millis(50),
        ..limits()
    })
    .await;
    // On a fresh connection the listener itself is still looking for HTTP/2, so a second request.
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHos")
        .await
        .unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    let refused = answer.find("HTTP/1.1 408 ").expect(&answer);
    assert_refused(&answer[refused..], Refusal::HeadTimeout, "unfinished");
    assert_eq!(server.calls(), 1);
    server.finish().await;
}
