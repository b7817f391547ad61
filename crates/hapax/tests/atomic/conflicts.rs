//! What the database itself rolls back: serialization failures and deadlocks are run again, from the top.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hapax::Reply;
use hapax::atomic::{Atomic, AtomicOptions, Decision, PostgresTransaction, TokioPostgres};
use hapax::core::RetryPolicy;
use hapax::core::policy::Limits;
use tokio::sync::Barrier;

use crate::world::{BoxError, Client, TokioPostgresWorld, World, answer, arrival};

const LONG: Duration = Duration::from_secs(30);
const STOCK: &str = "CREATE TABLE stock (item int PRIMARY KEY, left_over int NOT NULL); INSERT INTO stock VALUES (1, \
                     100), (2, 100)";

/// Programs whose sessions have this setting.
async fn with(world: &TokioPostgresWorld, setting: &str) -> Atomic<TokioPostgres<Client>> {
    let at = format!("{}?options=-c%20{}", world.at(), setting.replace('=', "%3D"));
    let options = AtomicOptions::default();
    let limits = Limits {
        tries: 30,
        ..options.conflicts.limits
    };
    let conflicts = RetryPolicy {
        limits,
        ..options.conflicts
    };
    TokioPostgresWorld::join(&at)
        .await
        .atomic(AtomicOptions { conflicts, ..options })
}

async fn left_over(connection: &PostgresTransaction<Client>, item: i32) -> Result<i32, BoxError> {
    let select = "SELECT left_over FROM stock WHERE item = $1";
    Ok(connection.query_one(select, &[&item]).await?.get(0))
}

/// Two of them have read before either writes.
async fn all_are_served_at(level: &str) {
    const OPERATIONS: usize = 8;
    let world = TokioPostgresWorld::start().await;
    world.execute(STOCK).await;
    let atomic = with(&world, &format!("default_transaction_isolation={level}")).await;
    let (runs, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let mut all = tokio::task::JoinSet::new();
    for number in 0..OPERATIONS {
        let (atomic, runs, both) = (atomic.clone(), Arc::clone(&runs), Arc::clone(&both));
        all.spawn(async move {
            let key = number.to_string();
            let served = atomic.run(arrival(&key, LONG), move |connection, run| {
                let (first, both) = (runs.fetch_add(1, Ordering::Relaxed) < 2, Arc::clone(&both));
                Box::pin(async move {
                    let left = left_over(connection, 1).await?;
                    if first {
                        both.wait().await;
                    }
                    // Right only if nobody wrote since it was read.
                    let update = "UPDATE stock SET left_over = $1 WHERE item = 1";
                    connection.execute(update, &[&(left - 1)]).await?;
                    TokioPostgresWorld::order(connection, run.operation.key().as_str()).await?;
                    Ok::<_, BoxError>(Decision::done(answer(201), ()))
                })
            });
            let reply = served.await.unwrap();
            assert!(matches!(reply, Reply::Ran(())), "{reply:?}");
        });
    }
    all.join_all().await;
    let left = world.query_one("SELECT left_over FROM stock WHERE item = 1").await;
    assert_eq!(left, 100 - OPERATIONS as i32);
    let (runs, orders) = (
        runs.load(Ordering::Relaxed),
        world.query_one("SELECT count(*)::int FROM orders").await,
    );
    assert!(runs > OPERATIONS, "nothing was run again");
    assert_eq!(orders, OPERATIONS as i32);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_served_at_repeatable_read() {
    all_are_served_at("repeatable\\%20read").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_served_at_serializable() {
    all_are_served_at("serializable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_run_again() {
    let world = TokioPostgresWorld::start().await;
    world.execute(STOCK).await;
    let atomic = with(&world, "deadlock_timeout=50ms").await;
    let (runs, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let mut all = tokio::task::JoinSet::new();
    for items in [[1, 2], [2, 1]] {
        let (atomic, runs, both) = (atomic.clone(), Arc::clone(&runs), Arc::clone(&both));
        all.spawn(async move {
            let key = items[0].to_string();
            let served = atomic.run(arrival(&key, LONG), move |connection, run| {
                let (first, both) = (runs.fetch_add(1, Ordering::Relaxed) < 2, Arc::clone(&both));
                Box::pin(async move {
                    let update = "UPDATE stock SET left_over = left_over - 1 WHERE item = $1";
                    connection.execute(update, &[&items[0]]).await?;
                    if first {
                        both.wait().await;
                    }
                    connection.execute(update, &[&items[1]]).await?;
                    TokioPostgresWorld::order(connection, run.operation.key().as_str()).await?;
                    Ok::<_, BoxError>(Decision::done(answer(201), ()))
                })
            });
            let reply = served.await.unwrap();
            assert!(matches!(reply, Reply::Ran(())), "{reply:?}");
        });
    }
    all.join_all().await;
    assert_eq!(runs.load(Ordering::Relaxed), 3, "one of them was run again");
    for item in [1, 2] {
        let left = world
            .query_one(&format!("SELECT left_over FROM stock WHERE item = {item}"))
            .await;
        assert_eq!(left, 98);
    }
}
