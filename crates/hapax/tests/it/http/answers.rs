use std::sync::Mutex;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::client;
use super::world::{World, request, route};

fn streamed(chunks: Vec<Result<&'static str, &'static str>>) -> Body {
    let chunks = chunks
        .into_iter()
        .map(|chunk| chunk.map(Bytes::from).map_err(std::io::Error::other));
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn the_first_answer_is_untouched_and_a_replay_has_the_listed_headers() {
    let headers = [
        ("content-type", "text/plain"),
        ("location", "/1"),
        ("etag", "\"x\""),
        ("cache-control", "no-store"),
        ("vary", "accept"),
        ("x-total", "7"),
        ("set-cookie", "a=1"),
        ("x-other", "z"),
        ("traceparent", "00-1"),
        ("www-authenticate", "Basic"),
        ("hapax-state", "forged"),
    ];
    let stored = route().store_headers(["x-total".parse().unwrap()]);
    let world = World::new(
        stored,
        move |_, _| async move { (StatusCode::CREATED, headers, "body") },
    )
    .await;
    let first = world.post("a", "").await;
    let again = world.post("a", "").await;
    assert_eq!((&first.body, first.status), (&again.body, again.status));
    for (name, value) in headers {
        let forged = name.starts_with("hapax");
        let kept = ["content-type", "location", "etag", "cache-control", "vary", "x-total"].contains(&name);
        assert_eq!(first.header(name), (!forged).then_some(value), "first {name}");
        assert_eq!(again.header(name), kept.then_some(value), "again {name}");
    }
}

#[tokio::test]
async fn answers_without_a_body_are_replayed_without_one() {
    for status in [204, 304, 301] {
        let world = World::new(route(), move |_, _| async move {
            (StatusCode::from_u16(status).unwrap(), [("location", "/x")])
        })
        .await;
        let first = world.post("a", "").await;
        let again = world.post("a", "").await;
        assert_eq!(
            (first.status, again.status, again.header("location")),
            (status, status, Some("/x"))
        );
        assert_eq!((first.text(), again.text()), ("", ""));
    }
}

#[tokio::test]
async fn an_answer_in_pieces_is_kept_whole() {
    let world = World::new(route(), |_, _| async {
        streamed(vec![Ok("one,"), Ok("two,"), Ok("three")])
    })
    .await;
    assert_eq!(world.post("a", "").await.text(), "one,two,three");
    assert_eq!(world.post("a", "").await.text(), "one,two,three");
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn an_answer_of_the_limit_is_kept_and_a_larger_one_is_done_without() {
    let limited = || route().answer_limit(10, Duration::from_secs(10));
    for (chunks, kept) in [
        (vec![Ok("0123456789")], true),
        (vec![Ok("01234"), Ok("56789")], true),
        (vec![Ok("0123456789x")], false),
        (vec![Ok("01234"), Ok("56789"), Ok("x")], false),
    ] {
        let whole: String = chunks.iter().map(|chunk| chunk.unwrap()).collect();
        let world = World::new(limited(), move |_, _| {
            let chunks = chunks.clone();
            async move { streamed(chunks) }
        })
        .await;
        assert_eq!(world.post("a", "").await.text(), whole);
        let again = world.post("a", "").await;
        if kept {
            assert_eq!(again.text(), whole);
        } else {
            assert_eq!((again.status, again.problem().as_str()), (409, "answer-not-kept"));
            assert_eq!(again.json()["reason"], "too-large");
        }
        assert_eq!(world.runs(), 1);
    }
    // With a length.
    let world = World::new(limited(), |_, _| async { "0123456789" }).await;
    assert_eq!(world.post("a", "").await.text(), "0123456789");
    assert_eq!(world.post("a", "").await.text(), "0123456789");
    let world = World::new(limited(), |_, _| async { "0123456789x" }).await;
    assert_eq!(world.post("a", "").await.text(), "0123456789x");
    assert_eq!(world.post("a", "").await.problem(), "answer-not-kept");
}

/// A body whose chunks come when a test sends them.
fn fed() -> (mpsc::Sender<&'static str>, Mutex<Option<Body>>) {
    let (sender, receiver) = mpsc::channel(10);
    let chunks = stream::unfold(receiver, |mut receiver: mpsc::Receiver<&str>| async move {
        let chunk = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(Bytes::from(chunk)), receiver))
    });
    (sender, Mutex::new(Some(Body::from_stream(chunks.boxed()))))
}

#[tokio::test]
async fn a_stream_flows_once_its_record_is_done() {
    let hour = Duration::from_secs(3600);
    for (time, content_type) in [
        (hour, "text/event-stream; charset=utf-8"),
        (hour, "Multipart/X-Mixed-Replace"),
        (Duration::from_millis(20), "text/plain"),
    ] {
        let (chunks, body) = fed();
        let world = World::new(route().answer_limit(1 << 20, time), move |_, _| {
            let body = body.lock().unwrap().take().unwrap();
            std::future::ready(([("content-type", content_type)], body))
        })
        .await;
        chunks.send("one,").await.unwrap();
        let others = async {
            while world.runs() == 0 {
                tokio::task::yield_now().await;
            }
            // Its record is done while it still flows.
            while world.post("a", "").await.problem() != "answer-not-kept" {
                tokio::task::yield_now().await;
            }
            chunks.send("two").await.unwrap();
            drop(chunks);
        };
        let others = tokio::time::timeout(Duration::from_secs(20), others);
        let (first, in_time) = tokio::join!(world.post("a", ""), others);
        in_time.expect("the record is done before the stream ends");
        assert_eq!((first.status, first.text()), (200, "one,two"));
        assert_eq!(world.runs(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_comes_in_its_time_is_kept() {
    let (chunks, body) = fed();
    let world = World::new(route(), move |_, _| {
        let body = body.lock().unwrap().take().unwrap();
        std::future::ready(body)
    })
    .await;
    let feed = async {
        while world.runs() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            world.post("a", "").await.problem(),
            "in-progress",
            "its answer is not whole yet"
        );
        for chunk in ["one,", "two"] {
            chunks.send(chunk).await.unwrap();
        }
        drop(chunks);
    };
    let (first, ()) = tokio::join!(world.post("a", ""), feed);
    assert_eq!(first.text(), "one,two");
    assert_eq!(world.post("a", "").await.text(), "one,two");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ambiguous_and_none_of_it_is_sent() {
    let world = World::new(route(), |_, _| async { streamed(vec![Ok("half"), Err("broken")]) }).await;
    let got = world.post("a", "").await;
    assert_eq!((got.status, got.problem().as_str()), (502, "upstream-reset"));
    assert_eq!(world.post("a", "").await.problem(), "outcome-unknown");
    assert_eq!(world.runs(), 1);
}

#[tokio::test]
async fn other_methods_pass_through_untouched() {
    let world = World::counting(route()).await;
    for (run, method) in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"].into_iter().enumerate() {
        let got = world
            .send(&format!("{method} /orders"), "Idempotency-Key: a\r\n", "")
            .await;
        assert_eq!((got.status, got.header("idempotent-replayed")), (201, None), "{method}");
        let body = if method == "HEAD" {
            String::new()
        } else {
            format!("order {}", run + 1)
        };
        assert_eq!(got.text(), body);
    }
    assert_eq!(world.verdicts(), []);
}

#[tokio::test]
async fn hapax_headers_from_outside_reach_nobody() {
    let world = World::new(route(), |_, request: axum::extract::Request| async move {
        let ours: Vec<String> = request
            .headers()
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("hapax"))
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        let key = request.headers().get_all("idempotency-key").iter().count();
        let run = request.extensions().get::<hapax::Run>().map(|run| run.fence.get());
        ([("hapax-forged", "1")], format!("{} {key} {run:?}", ours.join(" ")))
    })
    .await;
    let forged = "Hapax-Fence: 999\r\nhapax-operation: x\r\nHapax-Other: y\r\nHapax_Fence: 7\r\n";
    let got = world.send("GET /orders", forged, "").await;
    assert_eq!((got.text(), got.header("hapax-forged")), (" 0 None", None));
    let keys = "Idempotency-Key: a\r\nIdempotency-Key: \"a\"\r\n";
    let got = world.send("POST /orders", &format!("{forged}{keys}"), "").await;
    let text = got.text();
    assert!(
        text.starts_with("hapax-operation=") && text.ends_with(" hapax-fence=1 1 Some(1)"),
        "{text}"
    );
    assert_eq!(
        text.len(),
        "hapax-operation=".len() + 32 + " hapax-fence=1 1 Some(1)".len()
    );
    assert_eq!(got.header("hapax-forged"), None);
}

#[tokio::test]
async fn a_released_answer_flows_as_it_is() {
    let world = World::new(route().answer_limit(3, Duration::from_secs(10)), |_, _| async {
        (StatusCode::TOO_MANY_REQUESTS, streamed(vec![Ok("longer than kept")]))
    })
    .await;
    let got = client::send(world.at, request("POST /", "Idempotency-Key: a\r\n", "").as_bytes()).await;
    assert_eq!((got.status, got.text()), (429, "longer than kept"));
    assert_eq!(world.post("a", "").await.problem(), "key-reused");
}
