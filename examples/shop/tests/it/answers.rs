//! What the shop answers when nothing is ordered to go wrong.

use hapax_shop::{Error, Options, Shop};
use serde_json::json;

use crate::world::{ORDER, World};

#[tokio::test]
async fn an_order_is_created_and_can_be_read() {
    let world = World::naive().await;
    let body = r#"{"customer":"ann","client_order_id":"c-1","item":"tea","quantity":2}"#;
    let answer = world.post("/orders", &[], body).await;
    assert_eq!(answer.status, 201);
    let row = answer.json();
    assert_eq!(row["customer"], "ann");
    assert_eq!(row["client_order_id"], "c-1");
    assert_eq!((&row["item"], &row["quantity"]), (&json!("tea"), &json!(2)));
    assert!(row["created_ms"].as_i64().unwrap() > 1_700_000_000_000, "{row}");

    let location = answer.header("Location").unwrap();
    assert_eq!(location, format!("/orders/{}", answer.id()));
    let read = world.get(location).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json(), row);
}

#[tokio::test]
async fn payments_and_points_are_created_and_can_be_read() {
    let world = World::naive().await;
    let order = world.post("/orders", &[], ORDER).await.id();
    let paid = format!(r#"{{"order_id":{order},"amount_cents":1250}}"#);
    let cases = [
        ("/payments", paid.as_str(), "amount_cents", json!(1250)),
        (
            "/payments",
            r#"{"intent":"pi_1","amount_cents":5}"#,
            "intent",
            json!("pi_1"),
        ),
        ("/points", r#"{"customer":"ann","points":7}"#, "points", json!(7)),
    ];
    for (path, body, field, expected) in cases {
        let answer = world.post(path, &[], body).await;
        assert_eq!(answer.status, 201, "{path} {body}");
        assert_eq!(answer.json()[field], expected);
        let location = answer.header("Location").unwrap();
        assert_eq!(location, format!("{path}/{}", answer.id()));
        assert_eq!(world.get(location).await.json(), answer.json());
    }
    assert_eq!(world.effects(), 4);
}

#[tokio::test]
async fn the_same_request_twice_is_two_effects_with_different_answers() {
    let world = World::naive().await;
    let body = r#"{"customer":"ann","client_order_id":"c-1","item":"tea","quantity":2}"#;
    let before = world.ledger().stock_left("tea").unwrap().unwrap();
    let first = world.post("/orders", &[("Idempotency-Key", "k")], body).await;
    let second = world.post("/orders", &[("Idempotency-Key", "k")], body).await;
    assert_eq!((first.status, second.status), (201, 201));
    assert_ne!(first.body, second.body);
    assert_ne!(first.header("Location"), second.header("Location"));
    assert_ne!(
        first.header("Set-Cookie").unwrap(),
        second.header("Set-Cookie").unwrap()
    );
    assert!(first.header("Date").is_some());
    assert_eq!(world.effects(), 2);
    assert_eq!(world.ledger().stock_left("tea").unwrap(), Some(before - 4));
}

#[tokio::test]
async fn bad_requests_are_named_and_have_no_effect() {
    let world = World::naive().await;
    let long = format!(r#"{{"customer":"{}","item":"tea","quantity":1}}"#, "x".repeat(201));
    let huge = " ".repeat(3 << 20);
    let cases = [
        ("/orders", "", 400, "not-json"),
        ("/orders", r#"{"customer":"ann""#, 400, "not-json"),
        ("/orders", "[]", 422, "invalid"),
        ("/orders", r#"{"customer":"ann","item":"tea"}"#, 422, "invalid"),
        (
            "/orders",
            r#"{"customer":"ann","item":"tea","quantity":-1}"#,
            422,
            "invalid",
        ),
        (
            "/orders",
            r#"{"customer":"ann","item":"tea","quantity":0}"#,
            422,
            "invalid",
        ),
        (
            "/orders",
            r#"{"customer":"ann","item":"tea","quantity":10001}"#,
            422,
            "invalid",
        ),
        (
            "/orders",
            r#"{"customer":"","item":"tea","quantity":1}"#,
            422,
            "invalid",
        ),
        ("/orders", &long, 422, "invalid"),
        (
            "/orders",
            r#"{"customer":"ann","item":"tea","quantity":1,"x":1}"#,
            422,
            "invalid",
        ),
        (
            "/orders",
            r#"{"customer":"ann","item":"gold","quantity":1}"#,
            422,
            "unknown-item",
        ),
        (
            "/orders",
            r#"{"customer":"ann","item":"teapot","quantity":4}"#,
            409,
            "out-of-stock",
        ),
        ("/payments", r#"{"amount_cents":5}"#, 422, "invalid"),
        (
            "/payments",
            r#"{"order_id":1,"intent":"i","amount_cents":5}"#,
            422,
            "invalid",
        ),
        ("/payments", r#"{"intent":"i","amount_cents":0}"#, 422, "invalid"),
        ("/payments", r#"{"order_id":77,"amount_cents":5}"#, 422, "unknown-order"),
        ("/points", r#"{"customer":"ann","points":0}"#, 422, "invalid"),
        ("/nowhere", "{}", 404, "not-found"),
        ("/healthz", "{}", 405, "method-not-allowed"),
        ("/orders", &huge, 413, "bad-body"),
    ];
    for (path, body, status, error) in cases {
        let answer = world.post(path, &[], body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (status, error),
            "{path} {shown}"
        );
    }
    let text = [("Content-Type", "text/plain")];
    assert_eq!(world.post("/orders", &text, ORDER).await.status, 415);
    for path in ["/orders/1", "/orders/abc", "/payments/1"] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
    assert_eq!(world.effects(), 0);
    assert_eq!(world.ledger().stock_left("teapot").unwrap(), Some(3));
}

#[tokio::test]
async fn stock_runs_out() {
    let world = World::naive().await;
    let two = r#"{"customer":"ann","item":"teapot","quantity":2}"#;
    assert_eq!(world.post("/orders", &[], two).await.status, 201);
    assert_eq!(world.post("/orders", &[], two).await.error(), "out-of-stock");
    assert_eq!(world.ledger().stock_left("teapot").unwrap(), Some(1));
    assert_eq!(world.effects(), 1);
}

#[tokio::test]
async fn natural_keys_answer_with_the_existing_order() {
    let world = World::with(Options {
        natural_keys: true,
        ..Options::default()
    })
    .await;
    let order = |customer: &str, id: &str, quantity: u32| {
        json!({ "customer": customer, "client_order_id": id, "item": "tea", "quantity": quantity }).to_string()
    };
    let first = world.post("/orders", &[], &order("ann", "c-1", 1)).await;
    let again = world.post("/orders", &[], &order("ann", "c-1", 5)).await;
    assert_eq!((again.status, again.error().as_str()), (409, "exists"));
    assert_eq!(again.json()["existing"], first.json());
    assert_eq!(again.header("Location"), first.header("Location"));
    for other in [
        order("ann", "c-2", 1),
        order("bob", "c-1", 1),
        ORDER.into(),
        ORDER.into(),
    ] {
        assert_eq!(world.post("/orders", &[], &other).await.status, 201, "{other}");
    }
    assert_eq!(world.effects(), 5);
}

#[tokio::test]
async fn natural_keys_need_a_file_without_doubles() {
    let world = World::naive().await;
    let body = r#"{"customer":"ann","client_order_id":"c-1","item":"tea","quantity":2}"#;
    for _ in 0..2 {
        world.post("/orders", &[], body).await;
    }
    world.shop.clone().close().await;
    let careful = Options {
        natural_keys: true,
        ..Options::default()
    };
    let error = Shop::open(&world.db, careful).unwrap_err();
    assert!(matches!(error, Error::NotUnique { .. }), "{error}");
}

#[tokio::test]
async fn concurrent_requests_each_get_a_row_of_their_own() {
    let world = World::naive().await;
    let posts = (0..300).map(|_| world.post("/orders", &[], ORDER));
    let mut ids: Vec<_> = futures_util::future::join_all(posts)
        .await
        .iter()
        .map(|a| a.id())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=300).collect::<Vec<_>>());
    assert_eq!(world.effects(), 300);
}

#[tokio::test]
async fn a_database_that_refuses_is_a_500_without_effect() {
    let world = World::naive().await;
    let other = rusqlite::Connection::open(&world.db).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON orders
                  BEGIN SELECT RAISE(ABORT, 'out of order'); END";
    other.execute_batch(refuse).unwrap();
    let stock = world.ledger().stock_left("tea").unwrap();
    let answer = world.post("/orders", &[], ORDER).await;
    assert_eq!((answer.status, answer.error().as_str()), (500, "database"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("out of order"));
    assert_eq!(world.effects(), 0);
    assert_eq!(world.ledger().stock_left("tea").unwrap(), stock);

    other.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(world.post("/orders", &[], ORDER).await.status, 201);
}

#[tokio::test]
async fn a_closed_shop_is_a_503() {
    let world = World::naive().await;
    world.shop.clone().close().await;
    let answer = world.post("/orders", &[], ORDER).await;
    assert_eq!((answer.status, answer.error().as_str()), (503, "closed"));
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn files_are_served_beside_the_endpoints() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(first.path().join("index.html"), "the first").unwrap();
    std::fs::write(second.path().join("index.html"), "the second").unwrap();
    std::fs::write(second.path().join("a.js"), "let a;").unwrap();
    let world = World::with(Options {
        pages: vec![first.path().into(), second.path().into()],
        ..Options::default()
    })
    .await;
    for (path, kind, text) in [
        ("/", "text/html; charset=utf-8", "the first"),
        ("/a.js?v=1", "text/javascript; charset=utf-8", "let a;"),
    ] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(kind)));
        assert_eq!(answer.body, text.as_bytes());
    }
    for path in ["/b.js", "/%2e%2e/a.js"] {
        assert_eq!(world.get(path).await.status, 404, "{path}");
    }
    assert_eq!(world.post("/orders", &[], ORDER).await.status, 201);
}
