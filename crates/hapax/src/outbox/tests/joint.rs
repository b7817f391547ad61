//! Effects in the caller's own transaction.

use std::sync::{Arc, Mutex};

use hapax_core::{NotKept, Outcome};
use hapax_store::sqlite::{SqliteOptions, SqliteStore};

use super::super::*;
use crate::engine::EngineOptions;
use crate::runner::{Attempted, RunnerOptions};

#[tokio::test]
async fn an_effect_belongs_to_the_callers_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let joint = store.joint();
    let engine = Engine::new(store, EngineOptions::default(), ());
    let (sent, mut told) = tokio::sync::mpsc::unbounded_channel();
    let sent = Arc::new(Mutex::new(sent));
    let send = move |delivery: Delivery| {
        sent.lock().unwrap().send(delivery.payload).unwrap();
        async { Attempted::Done(Outcome::NotKept(NotKept::Discarded)) }
    };
    let options = OutboxOptions {
        payload_bytes: 8,
        ..OutboxOptions::default()
    };
    let name = Name::new("paid").unwrap();
    let outbox = Outbox::open(&engine, options)
        .await
        .unwrap()
        .sink(name, send, SinkOptions::default());
    let effect = |key: &str, payload: &str| Effect::new("paid", key, payload.to_owned()).unwrap();

    let mut connection = rusqlite::Connection::open(&path).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.execute_batch("CREATE TABLE orders (id)").unwrap();
    let immediate = rusqlite::TransactionBehavior::Immediate;
    let mut transaction = connection.transaction_with_behavior(immediate).unwrap();
    let entered = outbox.enqueue(&joint, &mut transaction, &effect("a", "undone")).await;
    assert_eq!(entered.unwrap(), Entered::New);
    transaction.rollback().unwrap();

    let mut transaction = connection.transaction_with_behavior(immediate).unwrap();
    transaction.execute("INSERT INTO orders VALUES (7)", []).unwrap();
    let entered = outbox.enqueue(&joint, &mut transaction, &effect("b", "done")).await;
    assert_eq!(entered.unwrap(), Entered::New);
    transaction.commit().unwrap();

    let mut transaction = connection.transaction_with_behavior(immediate).unwrap();
    let again = outbox.enqueue(&joint, &mut transaction, &effect("b", "done")).await;
    assert_eq!(again.unwrap(), Entered::Before);
    let reused = outbox
        .enqueue(&joint, &mut transaction, &effect("b", "other"))
        .await
        .unwrap_err();
    assert!(matches!(reused, OutboxError::KeyReused { .. }), "{reused}");
    let large = outbox
        .enqueue(&joint, &mut transaction, &effect("c", "too large"))
        .await
        .unwrap_err();
    assert!(
        large.to_string().contains("has 9 bytes, and an outbox takes 8 at most"),
        "{large}"
    );
    transaction.commit().unwrap();

    outbox.wake();
    let relay = outbox.equip(Runner::new(&engine, RunnerOptions::default()));
    relay
        .run(async { assert_eq!(told.recv().await.unwrap(), "done") })
        .await;
    assert!(told.try_recv().is_err(), "nothing else was sent");
}

#[tokio::test]
async fn a_database_without_the_stores_tables_is_told_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("hapax.db"), SqliteOptions::default()).unwrap();
    let joint = store.joint();
    let engine = Engine::new(store, EngineOptions::default(), ());
    let outbox = Outbox::open(&engine, OutboxOptions::default()).await.unwrap();
    // The connection is another database's.
    let mut connection = rusqlite::Connection::open(directory.path().join("shop.db")).unwrap();
    let mut transaction = connection.transaction().unwrap();
    let effect = Effect::new("paid", "k", "{}").unwrap();
    let error = outbox.enqueue_blocking(&joint, &mut transaction, &effect).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("could not be enqueued") && text.contains("run `hapax migrate`"),
        "{text}"
    );
}
