//! A shop that confirms its orders to a partner by webhook: each order that is committed, and no other.
//!
//! ```text
//! cargo run -p hapax --example outbox --features rusqlite,webhook
//! ```
//!
//! The confirmation is enqueued in the order's own transaction. The partner breaks off after it has taken the first one:
//! it is sent again with the same key, by which the partner knows it.

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hapax::core::Name;
use hapax::outbox::{Effect, Outbox, OutboxOptions, SinkOptions, Webhook};
use hapax::retry::Destination;
use hapax::store::joined::Joint;
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax::{Engine, EngineOptions, Runner, RunnerOptions};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const CONFIRMED: &str = "order-confirmed";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("shop.db");
    let (tell, mut told) = unbounded_channel();
    let partner = partner(tell).await?;

    let store = SqliteStore::open(&file, SqliteOptions::default())?;
    let joint = store.joint();
    let engine = Engine::new(store, EngineOptions::default(), ());
    let mut policy = SinkOptions::policy();
    policy.backoff.base = Duration::from_millis(100);
    let options = SinkOptions::new(Destination::new(policy)?);
    let outbox = Outbox::open(&engine, OutboxOptions::default()).await?;
    let outbox = outbox.sink(Name::new(CONFIRMED)?, Webhook::new(&partner)?, options);

    // What a request's handler would do, on a thread where it may block.
    let shop = outbox.clone();
    tokio::task::spawn_blocking(move || take_orders(&file, &shop, &joint).map_err(|error| error.to_string())).await??;

    // The relay, until the partner knows all of it.
    let relay = outbox.equip(Runner::new(&engine, RunnerOptions::default()));
    let settled = async move {
        // Whoever tells does so until this program ends.
        let _ = told.recv().await;
    };
    relay.run(settled).await;
    println!("nothing is left");
    Ok(())
}

fn take_orders(file: &Path, outbox: &Outbox, joint: &Joint) -> Result<(), Box<dyn Error>> {
    let mut shop = Connection::open(file)?;
    shop.busy_timeout(Duration::from_secs(5))?;
    shop.execute_batch("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)")?;
    for (number, in_stock) in [(1, false), (2, true)] {
        let mut transaction = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("INSERT OR IGNORE INTO orders VALUES (?1)", [number])?;
        let effect = Effect::new(CONFIRMED, &format!("order-{number}"), format!("{{\"order\":{number}}}"))?;
        outbox.enqueue_blocking(joint, &mut transaction, &effect)?;
        if in_stock {
            transaction.commit()?;
            println!("order {number} is committed");
        } else {
            transaction.rollback()?;
            println!("order {number} is rolled back");
        }
    }
    outbox.wake();
    Ok(())
}

/// Another system, which drops what it knows the key of.
#[derive(Clone)]
struct Partner {
    known: Arc<Mutex<HashSet<String>>>,
    settled: UnboundedSender<()>,
}

async fn partner(settled: UnboundedSender<()>) -> Result<String, Box<dyn Error>> {
    let known = Arc::default();
    let app = Router::new()
        .route("/hooks", post(take))
        .with_state(Partner { known, settled });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hooks", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn take(State(partner): State<Partner>, headers: HeaderMap, body: String) -> StatusCode {
    let key = headers
        .get("webhook-id")
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    let mut known = partner.known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.insert(key.to_owned()) {
        println!("the partner takes {body}, and breaks off");
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    println!("the partner is sent {body} again, and knows its key");
    // Nobody listens any more, if this comes late.
    let _ = partner.settled.send(());
    StatusCode::NO_CONTENT
}
