use axum::http::Method;
use hapax::http::{Pointer, Recipe, Routes, SingleTenant};

use super::world::{World, counted, named};

#[tokio::test]
async fn each_route_has_its_own_operations_and_rules() {
    let ignoring = Recipe::ignoring([Pointer::new("/sent_at").unwrap()]);
    let routes = Routes::new()
        .route("/orders", named("order").recipe(ignoring).build().unwrap())
        .unwrap()
        .route(
            "/orders/{id}",
            named("change")
                .methods([Method::PUT])
                .require_key(true)
                .build()
                .unwrap(),
        )
        .unwrap();
    let world = World::with(routes, SingleTenant::new(), counted).await;
    assert_eq!(world.post("a", r#"{"n":1,"sent_at":1}"#).await.text(), "order 1");
    assert_eq!(world.post("a", r#"{"sent_at":2,"n":1}"#).await.text(), "order 1");
    assert_eq!(world.post("a", r#"{"n":2}"#).await.problem(), "key-reused");
    let put = |key: &'static str| world.send("PUT /orders/1", key, "");
    assert_eq!(
        put("Idempotency-Key: a\r\n").await.text(),
        "order 2",
        "another name, another operation"
    );
    assert_eq!(put("Idempotency-Key: a\r\n").await.text(), "order 2");
    assert_eq!(put("").await.problem(), "key-missing");
    let passes = world.send("POST /other", "Idempotency-Key: a\r\n", "").await;
    assert_eq!((passes.text(), passes.header("idempotent-replayed")), ("order 3", None));
    let status = |query: &'static str| world.send(query, "", "");
    assert_eq!(
        status("GET /.hapax/operations/a?name=change").await.json()["state"],
        "done"
    );
    assert_eq!(status("GET /.hapax/operations/a").await.problem(), "operation-absent");
    assert_eq!(
        status("GET /.hapax/operations/a?name=none").await.problem(),
        "operation-absent"
    );
}

#[tokio::test]
async fn a_changed_recipe_makes_no_retry_a_mismatch() {
    let before = named("r").build().unwrap();
    let world = World::with(before, SingleTenant::new(), counted).await;
    assert_eq!(world.post("a", r#"{"n":1,"t":1}"#).await.text(), "order 1");
    // The same store and key under a layer whose recipe ignores a field.
    let after = named("r")
        .recipe(Recipe::ignoring([Pointer::new("/t").unwrap()]))
        .build()
        .unwrap();
    let engine = hapax::Engine::new(world.store.clone(), hapax::EngineOptions::default(), ());
    let layer = hapax::http::Idempotency::new(engine, SingleTenant::new(), after);
    let app = axum::Router::new().fallback(async || "ran again").layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let post = async |key: &str, body: &str| {
        let headers = format!("Idempotency-Key: {key}\r\nContent-Type: application/json\r\n");
        super::client::send(at, super::world::request("POST /orders", &headers, body).as_bytes()).await
    };
    assert_eq!(post("a", r#"{ "t":1, "n":1 }"#).await.text(), "order 1");
    assert_eq!(
        post("a", r#"{"n":1,"t":2}"#).await.problem(),
        "key-reused",
        "compared by the record's own recipe"
    );
    assert_eq!(post("b", r#"{"n":1,"t":1}"#).await.text(), "ran again");
    assert_eq!(post("b", r#"{"n":1,"t":2}"#).await.text(), "ran again");
}
