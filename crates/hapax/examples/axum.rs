//! An axum service whose keyed requests happen once.
//!
//! ```text
//! cargo run -p hapax --example axum
//! curl -i localhost:3000/orders -H 'Idempotency-Key: 7f9c' -H 'Authorization: me' -d book
//! ```
//!
//! Send it again: the same answer, `Idempotent-Replayed: true`, and no second order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::header::AUTHORIZATION;
use axum::routing::post;
use hapax::http::{HeaderScope, Idempotency, Route};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax::{Engine, EngineOptions, Sweeper};

static ORDERS: AtomicU64 = AtomicU64::new(0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = SqliteStore::open("orders.hapax.db", SqliteOptions::default())?;
    let engine = Engine::new(store, EngineOptions::default(), ());
    tokio::spawn(Sweeper::default().run(engine.store().clone(), Arc::new(())));
    let scope = HeaderScope::new(AUTHORIZATION, &engine.store().secret());
    let layer = Idempotency::new(engine, scope, Route::default());
    let app = axum::Router::new().route("/orders", post(order)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn order(what: String) -> String {
    format!("order {} for {what}\n", ORDERS.fetch_add(1, Ordering::Relaxed) + 1)
}
