//! Every test knob, and that none works without `test_knobs`.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{LONG, ORDER, World, appears, parse, request};

#[tokio::test]
async fn a_status_before_has_no_effect_and_after_has_one() {
    let world = World::with_knobs().await;
    let before = world.failing_order("500-before").await.answer();
    assert_eq!((before.status, before.error().as_str()), (500, "ordered"));
    assert_eq!(world.effects(), 0);
    let after = world.failing_order("500-after").await.answer();
    assert_eq!((after.status, after.error().as_str()), (500, "ordered"));
    assert_eq!(world.effects(), 1);
    for (fail, status) in [("204-after", 204), ("303-after", 303), ("404-after", 404)] {
        let answer = world.failing_order(fail).await.answer();
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.is_empty(), status == 204);
        assert!(answer.header("Location").is_some());
    }
    assert_eq!(world.effects(), 4);
}

#[tokio::test]
async fn retry_after_says_when_and_has_no_effect() {
    let world = World::with_knobs().await;
    let answer = world.failing_order("503-retry-after").await.answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("Retry-After"), Some("1"));
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn resets_are_real_before_and_after_the_commit() {
    let world = World::with_knobs().await;
    for (fail, effects) in [("reset-before", 0), ("reset-after", 1)] {
        let exchange = world.failing_order(fail).await;
        assert_eq!(exchange.bytes, b"", "{fail}");
        let end = exchange.end.expect_err(fail);
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{fail}");
        assert_eq!(world.effects(), effects, "{fail}");
    }
}

#[tokio::test]
async fn a_cut_answer_ends_in_the_middle_of_its_body() {
    let world = World::with_knobs().await;
    let answer = world.failing_order("cut").await.answer();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("Content-Length"), Some("1024"));
    assert_eq!(answer.body.len(), 512);
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn big_answers_have_the_size_asked_for() {
    let world = World::with_knobs().await;
    for (fail, size) in [("big:1MiB", 1 << 20), ("big:1048577", 1_048_577)] {
        let answer = world.failing_order(fail).await.answer();
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("Content-Length"), Some(size.to_string().as_str()));
        assert_eq!(answer.body.len(), size);
        assert_eq!(answer.json()["item"], "tea");
    }
    let small = world.failing_order("big:1").await.answer();
    assert_eq!(small.json()["item"], "tea");
}

#[tokio::test]
async fn a_stream_of_known_size_is_chunked_and_ends() {
    let world = World::with_knobs().await;
    let answer = world.failing_order("stream:100001").await.answer();
    assert_eq!(answer.header("Content-Length"), None);
    assert_eq!(answer.header("Transfer-Encoding"), Some("chunked"));
    let body = answer.dechunked();
    assert_eq!(body.len(), 100_001);
    let row: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(row["item"], "tea");
}

#[tokio::test]
async fn a_stream_without_size_goes_on_until_its_reader_leaves() {
    let world = World::with_knobs().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let text = request("POST", "/orders", &[("X-Shop-Fail", "stream")], ORDER);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 8 << 20];
    stream.read_exact(&mut bytes).await.unwrap();
    drop(stream);
    let answer = parse(&bytes);
    assert_eq!((answer.status, answer.header("Content-Length")), (201, None));
    // Whether the shop is rid of that reader shows in that it serves others.
    assert_eq!(world.post("/orders", &[], ORDER).await.status, 201);
    assert_eq!(world.effects(), 2);
}

#[tokio::test]
async fn a_delay_comes_before_the_commit() {
    let world = World::with_knobs().await;
    let started = Instant::now();
    let delayed = world.post("/orders", &[("X-Shop-Delay", "300ms")], ORDER);
    let at_once = async {
        // Answers, so the delayed request, sent earlier, has been read as well.
        world.get("/healthz").await;
        world.post("/orders", &[], ORDER).await
    };
    let (delayed, at_once) = tokio::join!(delayed, at_once);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((at_once.id(), delayed.id()), (1, 2));
}

#[tokio::test]
async fn a_delay_after_holds_the_answer_and_not_the_effect() {
    let world = World::with_knobs().await;
    let started = Instant::now();
    let answered = async {
        let headers = [("X-Shop-Delay-After", "1s")];
        assert_eq!(world.post("/orders", &headers, ORDER).await.status, 201);
        started.elapsed()
    };
    let seen = async {
        appears(world.address, "/orders/1").await;
        started.elapsed()
    };
    let (answered, seen) = tokio::join!(answered, seen);
    assert!(answered >= Duration::from_secs(1), "{answered:?}");
    assert!(seen < answered, "seen {seen:?}, answered {answered:?}");
}

#[tokio::test]
async fn the_effect_happens_though_the_client_hung_up() {
    let world = World::with_knobs().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let text = request("POST", "/orders", &[("X-Shop-Delay", "100ms")], ORDER);
    stream.write_all(text.as_bytes()).await.unwrap();
    drop(stream);
    appears(world.address, "/orders/1").await;
}

#[tokio::test]
async fn a_delay_and_a_failure_combine() {
    let world = World::with_knobs().await;
    let started = Instant::now();
    let headers = [
        ("X-Shop-Delay", "100ms"),
        ("X-Shop-Delay-After", "100ms"),
        ("X-Shop-Fail", "500-after"),
    ];
    assert_eq!(world.post("/orders", &headers, ORDER).await.status, 500);
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn a_knob_that_is_not_understood_is_refused() {
    let world = World::with_knobs().await;
    let cases = [
        ("X-Shop-Fail", "explode"),
        ("X-Shop-Delay", "soon"),
        ("X-Shop-Delay-After", "-1ms"),
    ];
    for (name, value) in cases {
        let answer = world.post("/orders", &[(name, value)], ORDER).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, "bad-knob"), "{name}");
    }
    assert_eq!(world.effects(), 0);
}

#[tokio::test]
async fn knobs_are_ignored_unless_switched_on() {
    let world = World::naive().await;
    let headers = [("X-Shop-Fail", "500-before"), ("X-Shop-Delay", "3600s")];
    let answer = tokio::time::timeout(LONG, world.post("/orders", &headers, ORDER)).await;
    assert_eq!(answer.unwrap().status, 201);
}
