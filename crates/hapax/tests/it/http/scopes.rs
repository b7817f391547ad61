use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use hapax::core::Scope;
use hapax::http::{HeaderScope, ScopeError};

use super::world::{World, counted, route};

async fn by_authorization() -> World {
    let scope = HeaderScope::new(AUTHORIZATION, &[7; 32]);
    World::with(route().build().unwrap(), scope, counted).await
}

async fn post(world: &World, authorization: &str) -> super::client::Got {
    let headers = format!("Idempotency-Key: a\r\n{authorization}");
    world.send("POST /orders", &headers, "").await
}

#[tokio::test]
async fn the_same_key_of_two_callers_is_two_operations() {
    let world = by_authorization().await;
    for (caller, text) in [
        ("one", "order 1"),
        ("two", "order 2"),
        ("one", "order 1"),
        ("two", "order 2"),
    ] {
        let got = post(&world, &format!("Authorization: Bearer {caller}\r\n")).await;
        assert_eq!(got.text(), text, "{caller}");
    }
    assert_eq!(world.runs(), 2);
}

#[tokio::test]
async fn without_a_scope_nothing_runs() {
    let world = by_authorization().await;
    let twice = "Authorization: a\r\nAuthorization: b\r\n";
    for headers in ["", "Authorization: \r\n", twice] {
        let got = post(&world, headers).await;
        assert_eq!(
            (got.status, got.problem().as_str()),
            (401, "scope-missing"),
            "{headers}"
        );
        assert!(got.header("www-authenticate").is_some());
    }
    let got = post(
        &world,
        "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln\r\n",
    )
    .await;
    assert_eq!((got.status, got.problem().as_str()), (401, "scope-unstable"));
    assert_eq!(world.runs(), 0);
    assert_eq!(
        world.send("POST /orders", "", "").await.status,
        201,
        "without a key it needs no scope"
    );
}

#[tokio::test]
async fn a_closure_is_a_scope() {
    let scope = |parts: &Parts| match parts.headers.get("x-tenant") {
        Some(tenant) => Ok(Scope::new(tenant.to_str().unwrap_or_default())?),
        None => Err(ScopeError::Missing("Send X-Tenant with every request.".into())),
    };
    let world = World::with(route().build().unwrap(), scope, counted).await;
    assert_eq!(post(&world, "X-Tenant: one\r\n").await.text(), "order 1");
    assert_eq!(post(&world, "X-Tenant: two\r\n").await.text(), "order 2");
    assert_eq!(post(&world, "").await.problem(), "scope-missing");
    let long = format!("X-Tenant: {}\r\n", "t".repeat(256));
    assert_eq!(post(&world, &long).await.problem(), "scope-missing");
}
