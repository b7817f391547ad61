use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use hapax::http::HeaderScope;

use super::world::{World, counted, route};

#[tokio::test]
async fn tells_what_is_known_and_runs_nothing() {
    let world = World::new(route(), |_, request: axum::extract::Request| async move {
        let status = request.uri().path()[1..].parse().unwrap();
        (StatusCode::from_u16(status).unwrap(), [("retry-after", "9")], "body")
    })
    .await;
    for (path, key) in [("/201", "a/b"), ("/500", "b"), ("/429", "c")] {
        world
            .send(&format!("POST {path}"), &format!("Idempotency-Key: {key}\r\n"), "")
            .await;
    }
    let ask = |key: &str| {
        let line = format!("GET /.hapax/operations/{key}");
        let world = &world;
        async move { world.send(&line, "", "").await }
    };
    let now = "2027-01-15T08:00:00.000Z";
    let got = ask("a%2Fb").await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(
        (got.header("cache-control"), got.header("retry-after")),
        (Some("no-store"), None)
    );
    assert_eq!(
        got.json(),
        serde_json::json!({
            "key": "a/b", "name": "default", "state": "done", "tries": 0, "created": now, "since": now,
            "done_at": now, "needs_help": false, "answer": { "status": 201 },
        })
    );
    let json = ask("b").await.json();
    assert_eq!(
        json,
        serde_json::json!({
            "key": "b", "name": "default", "state": "unknown", "tries": 0, "created": now, "since": now,
            "cause": "ambiguous", "needs_help": true, "answer": { "status": 500 },
        })
    );
    world.pass(Duration::from_millis(500));
    let got = ask("c?name=default").await;
    let json = got.json();
    assert_eq!(
        (&json["state"], &json["due"]),
        (&"waiting".into(), &"2027-01-15T08:00:09.000Z".into())
    );
    assert_eq!(got.header("retry-after"), Some("9"));
    assert_eq!(world.runs(), 3);
    let head = world.send("HEAD /.hapax/operations/b", "", "").await;
    assert_eq!((head.status, head.text()), (200, ""));
    for (key, status, problem) in [
        ("nobody", 404, "operation-absent"),
        ("", 400, "key-invalid"),
        ("%zz", 400, "key-invalid"),
    ] {
        let got = ask(key).await;
        assert_eq!((got.status, got.problem().as_str()), (status, problem), "{key}");
    }
    world.store.down(true);
    assert_eq!(ask("b").await.problem(), "store-unavailable");
    assert_eq!(world.runs(), 3);
}

#[tokio::test]
async fn tells_a_caller_of_its_own_operations_only() {
    let scope = HeaderScope::new(AUTHORIZATION, &[7; 32]);
    let world = World::with(route().build().unwrap(), scope, counted).await;
    let one = "Authorization: one\r\n";
    world
        .send("POST /orders", &format!("Idempotency-Key: a\r\n{one}"), "")
        .await;
    let ask = |headers: &'static str| world.send("GET /.hapax/operations/a", headers, "");
    assert_eq!(ask(one).await.json()["state"], "done");
    assert_eq!(ask("Authorization: two\r\n").await.problem(), "operation-absent");
    assert_eq!(ask("").await.problem(), "scope-missing");
}
