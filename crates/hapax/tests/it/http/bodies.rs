use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{self, Got};
use super::world::{World, request, route};

/// Sends the first body, then the second with the same key.
async fn again(headers: &str, first: &str, second: &str) -> Got {
    let world = World::counting(route()).await;
    let headers = format!("Idempotency-Key: a\r\n{headers}");
    assert_eq!(world.send("POST /orders", &headers, first).await.status, 201);
    let got = world.send("POST /orders", &headers, second).await;
    assert_eq!(world.runs(), 1);
    got
}

#[tokio::test]
async fn the_same_json_is_replayed_and_another_is_refused() {
    let json = "Content-Type: application/json\r\n";
    for (first, second) in [
        (r#"{"a":1,"b":2}"#, r#"{ "b": 2.0, "a": 1e0 }"#),
        ("", ""),
        (r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        ("{broken", "{broken"),
    ] {
        let got = again(json, first, second).await;
        assert_eq!(
            (got.status, got.header("idempotent-replayed")),
            (201, Some("true")),
            "{second}"
        );
    }
    for (first, second) in [
        (r#"{"a":1}"#, r#"{"a":2}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"n":9007199254740992}"#, r#"{"n":9007199254740993}"#),
        ("{broken", "{ broken"),
        ("", "{}"),
    ] {
        let got = again(json, first, second).await;
        assert_eq!((got.status, got.problem().as_str()), (422, "key-reused"), "{second}");
    }
    let got = again(
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "{}",
        "{ }",
    )
    .await;
    assert_eq!(got.problem(), "key-reused");
    let got = again("Content-Type: multipart/form-data; boundary=x\r\n", "--x--", "--x-- ").await;
    assert_eq!(got.problem(), "key-reused");
}

#[tokio::test]
async fn a_key_used_on_another_path_query_or_method_is_reused() {
    let world = World::counting(route()).await;
    let headers = "Idempotency-Key: a\r\n";
    assert_eq!(world.send("POST /orders?x=1", headers, "").await.status, 201);
    for line in [
        "POST /orders?x=2",
        "POST /orders",
        "POST /payments?x=1",
        "PATCH /orders?x=1",
    ] {
        assert_eq!(world.send(line, headers, "").await.problem(), "key-reused", "{line}");
    }
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn framing_is_no_part_of_a_request() {
    let world = World::new(route(), |run, request: axum::extract::Request| async move {
        let headers = request.headers().clone();
        let length = headers
            .get("content-length")
            .map(|length| length.to_str().unwrap().to_owned());
        assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("trailer"));
        let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
        format!("{run} {length:?} {}", String::from_utf8_lossy(&body))
    })
    .await;
    let chunked = "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
                   Idempotency-Key: a\r\n\r\n1\r\n4\r\n1\r\n2\r\n0\r\n\r\n";
    let got = client::send(world.at, chunked.as_bytes()).await;
    assert_eq!(got.text(), "1 Some(\"2\") 42");
    let got = world.send("POST /orders", "Idempotency-Key: a\r\n", "42").await;
    assert_eq!(
        (got.text(), got.header("idempotent-replayed")),
        ("1 Some(\"2\") 42", Some("true"))
    );
    // No body at all, and one of no bytes.
    let absent = "POST /o HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nIdempotency-Key: b\r\n\r\n";
    assert_eq!(client::send(world.at, absent.as_bytes()).await.text(), "2 None ");
    let got = world.send("POST /o", "Idempotency-Key: b\r\n", "").await;
    assert_eq!(got.text(), "2 None ");
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    let world = World::counting(route().request_limit(1000)).await;
    let chunked = |size: usize| {
        format!(
            "POST /orders HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Idempotency-Key: c{size}\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(size)
        )
    };
    assert_eq!(world.post("a", &"x".repeat(1000)).await.status, 201);
    assert_eq!(client::send(world.at, chunked(1000).as_bytes()).await.status, 201);
    let got = world.post("b", &"x".repeat(1001)).await;
    assert_eq!(
        (got.status, got.problem().as_str(), &got.json()["limit"]),
        (413, "body-too-large", &1000.into())
    );
    assert_eq!(
        client::send(world.at, chunked(1001).as_bytes()).await.problem(),
        "body-too-large"
    );
    // Without a key it is nobody's business.
    assert_eq!(world.send("POST /orders", "", &"x".repeat(1001)).await.status, 201);
    assert_eq!(world.runs(), 3);
    // Nothing was claimed: the key is still free.
    assert_eq!(world.post("b", "small").await.status, 201);
}

#[tokio::test]
async fn a_truncated_body_runs_nothing_and_claims_nothing() {
    let world = World::counting(route()).await;
    let text = request("POST /orders", "Idempotency-Key: a\r\n", "whole body");
    let mut connection = TcpStream::connect(world.at).await.unwrap();
    connection.write_all(&text.as_bytes()[..text.len() - 4]).await.unwrap();
    connection.shutdown().await.unwrap();
    let got = client::read(&mut connection).await;
    assert_eq!((got.status, got.problem().as_str()), (400, "body-incomplete"));
    assert_eq!(world.runs(), 0);
    let got = world.send("POST /orders", "Idempotency-Key: a\r\n", "whole body").await;
    assert_eq!((got.status, got.header("idempotent-replayed")), (201, None));
}

#[tokio::test]
async fn a_large_json_body_is_compared_as_any_other() {
    let large = |space: &str| format!("[{space}\"{}\"]", "x".repeat(300 << 10));
    let json = "Content-Type: application/json\r\n";
    let got = again(json, &large(""), &large("  ")).await;
    assert_eq!((got.status, got.header("idempotent-replayed")), (201, Some("true")));
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(again(json, &deep, &format!(" {deep}")).await.problem(), "key-reused");
}
