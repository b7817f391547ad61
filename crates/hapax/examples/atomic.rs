//! A shop whose orders are committed together with what makes them happen once: kill it at any moment.
//!
//! ```text
//! cargo run -p hapax --example atomic --features axum,sqlx-sqlite -- shop.db 127.0.0.1:3000
//! curl -i localhost:3000/orders -H 'Idempotency-Key: 7f9c' -d 'tea 2'
//! ```
//!
//! Send it again: the same answer, `Idempotent-Replayed: true`, and no second order. Order more than there is: 409, and
//! of the order that was inserted before that was known, nothing is left.

use std::io::Write;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::post;
use hapax::atomic::{Atomic, AtomicOptions};
use hapax::core::Name;
use hapax::http::{Idempotency, Rollback, Route, SingleTenant, Transaction};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax::{Engine, EngineOptions, Sweeper};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let (path, address) = (arguments.next(), arguments.next());
    let (path, address) = path.zip(address).ok_or("usage: atomic DATABASE ADDRESS")?;

    // The records are in the shop's own database.
    let store = SqliteStore::open(&path, SqliteOptions::default())?;
    let joint = store.joint();
    let engine = Engine::new(store, EngineOptions::default(), ());
    tokio::spawn(Sweeper::default().run(engine.store().clone(), Arc::new(())));
    let pool = shop(&path).await?;

    let atomic = Atomic::new(&engine, joint, pool, AtomicOptions::default())?;
    let route = Route::builder(Name::new("orders")?).atomic(&atomic).build()?;
    // One tenant; `HeaderScope` tells several apart.
    let layer = Idempotency::new(engine, SingleTenant::new(), route);
    let app = axum::Router::new().route("/orders", post(order)).layer(layer);
    let listener = tokio::net::TcpListener::bind(address).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn shop(path: &str) -> Result<SqlitePool, BoxError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePool::connect_with(options).await?;
    let tables = "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, item TEXT, quantity INTEGER);
                  CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, left_over INTEGER);
                  INSERT OR IGNORE INTO stock VALUES ('tea', 10), ('coffee', 10)";
    sqlx::raw_sql(tables).execute(&pool).await?;
    Ok(pool)
}

/// Its answer decides: 2xx commits, a 4xx rolls back and is remembered, an error rolls back and may be tried again.
async fn order(mut transaction: Transaction<SqlitePool>, what: String) -> Result<(StatusCode, String), Rollback> {
    let Some((item, quantity)) = what.split_once(' ') else {
        return Ok((StatusCode::BAD_REQUEST, "order like this: tea 2\n".to_owned()));
    };
    let quantity: i64 = quantity.trim().parse()?;
    let connection = transaction.connection();
    let number = sqlx::query("INSERT INTO orders (item, quantity) VALUES (?, ?)")
        .bind(item)
        .bind(quantity)
        .execute(&mut *connection)
        .await?
        .last_insert_rowid();
    let taken = sqlx::query("UPDATE stock SET left_over = left_over - ?1 WHERE item = ?2 AND left_over >= ?1")
        .bind(quantity)
        .bind(item)
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if taken == 0 {
        return Ok((StatusCode::CONFLICT, format!("there is not so much {item}\n")));
    }
    Ok((StatusCode::CREATED, format!("order {number}: {quantity} × {item}\n")))
}
