//! Many at once: on one record, on one lock, on one page.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hapax_core::{AfterFailure, Amend, Amended, Finished, Refusal, Ruling, Starter, Store, StoreErrorKind, Timestamp};
use hapax_store::Clock;
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::Postgres;
use tokio_postgres::NoTls;

use super::world::{amendment, claim, connect, done, lease, operation};

/// Claims of 64 callers on two stores, all at once: the fences of those that won.
async fn race(stores: [&Arc<PostgresStore>; 2], make: impl Fn() -> hapax_core::Claim) -> Vec<u64> {
    let racers: Vec<_> = (0..64)
        .map(|racer| {
            let (store, claim) = (Arc::clone(stores[racer % 2]), make());
            tokio::spawn(async move { store.claim(claim).await.unwrap() })
        })
        .collect();
    let mut fences = Vec::new();
    for racer in racers {
        match racer.await.unwrap().ruling {
            Ruling::Won(lease) => fences.push(lease.fence.get()),
            Ruling::Refused(refusal) => assert!(matches!(refusal, Refusal::InProgress { .. }), "{refusal:?}"),
        }
    }
    fences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_64_racers_wins_and_fences_grow() {
    let database = Postgres::shared().database();
    let time = Arc::new(AtomicI64::new(1_000_000));
    let made = || {
        let time = Arc::clone(&time);
        let clock = move || (Timestamp::from_millis(time.load(Ordering::SeqCst)), Duration::ZERO);
        PostgresOptions {
            clock: Clock::made(clock, Duration::MAX),
            ..PostgresOptions::default()
        }
    };
    let one = Arc::new(PostgresStore::connect(database.url(), made()).await.unwrap());
    let two = Arc::new(PostgresStore::connect(database.url(), made()).await.unwrap());
    let mut last = 0;
    // The first round races to insert, the others to take over what lapsed.
    for round in 0..10 {
        let fences = race([&one, &two], || hapax_core::Claim {
            after_failure: AfterFailure::Retry,
            starter: Starter::System,
            ..claim("raced")
        })
        .await;
        assert_eq!(fences.len(), 1, "round {round}: {fences:?}");
        assert!(fences[0] > last, "round {round}: {fences:?} after {last}");
        last = fences[0];
        time.fetch_add(60_000, Ordering::SeqCst);
    }
    let (_, record) = one.read(operation("raced").id()).await.unwrap();
    assert_eq!(record.unwrap().tries, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_claim_wins_again_and_a_repeated_finish_finds_the_first() {
    let database = Postgres::shared().database();
    let store = connect(database.url()).await;
    let first = claim("k");
    let won = lease(store.claim(first.clone()).await.unwrap());
    assert_eq!(lease(store.claim(first).await.unwrap()), won);
    let id = operation("k").id();
    assert!(matches!(
        store.finish(id, won.fence, done(700)).await.unwrap(),
        Finished::Applied { .. }
    ));
    match store.finish(id, won.fence, done(1)).await.unwrap() {
        Finished::Already { record, .. } => assert_eq!(record.state.name().as_str(), "done"),
        other => panic!("{other:?}"),
    }
    let stale = hapax_core::Fence::new(won.fence.get() + 1);
    assert!(matches!(
        store.finish(id, stale, done(1)).await.unwrap(),
        Finished::Fenced { record: Some(_), .. }
    ));
    let forget = amendment(Amend::Forget { even_unknown: false });
    assert_eq!(store.amend(id, forget.clone()).await.unwrap(), Amended::Forgotten);
    assert_eq!(store.amend(id, forget).await.unwrap(), Amended::Absent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_blocked_operation_does_not_fail_its_neighbours() {
    let database = Postgres::shared().database();
    let options = PostgresOptions {
        connections: 1,
        lock_timeout: Duration::from_millis(200),
        ..PostgresOptions::default()
    };
    let store = Arc::new(PostgresStore::connect(database.url(), options).await.unwrap());
    let mut leases = Vec::new();
    for key in 0..20 {
        leases.push(lease(store.claim(claim(&key.to_string())).await.unwrap()));
    }
    let (mut holder, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let held = holder.transaction().await.unwrap();
    held.batch_execute("SELECT FROM hapax_record WHERE key = '7' FOR UPDATE")
        .await
        .unwrap();
    let finishes: Vec<_> = leases
        .into_iter()
        .enumerate()
        .map(|(key, lease)| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store
                    .finish(operation(&key.to_string()).id(), lease.fence, done(1))
                    .await
            })
        })
        .collect();
    for (key, finish) in finishes.into_iter().enumerate() {
        match finish.await.unwrap() {
            Ok(finished) => assert!(
                key != 7 && matches!(finished, Finished::Applied { .. }),
                "{key} {finished:?}"
            ),
            Err(error) => {
                assert_eq!((key, error.kind()), (7, StoreErrorKind::Unavailable));
                assert!(
                    error.to_string().contains("another transaction holds the record"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipes_are_numbered_once() {
    let database = Postgres::shared().database();
    let stores = [
        Arc::new(connect(database.url()).await),
        Arc::new(connect(database.url()).await),
    ];
    let asks: Vec<_> = (0..40)
        .map(|ask| {
            let store = Arc::clone(&stores[ask % 2]);
            tokio::spawn(async move { (ask / 4, store.recipe(format!("recipe {}", ask / 4)).await.unwrap()) })
        })
        .collect();
    let mut pairs = HashSet::new();
    for ask in asks {
        pairs.insert(ask.await.unwrap());
    }
    assert_eq!(pairs.len(), 10, "one number a text: {pairs:?}");
    let numbers: HashSet<u32> = pairs.iter().map(|(_, recipe)| recipe.get()).collect();
    assert_eq!(numbers, (1..=10).collect(), "without gaps");
    for (text, recipe) in pairs {
        assert_eq!(
            stores[0].recipe_text(recipe).await.unwrap(),
            Some(format!("recipe {text}"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finishes_stay_on_their_page() {
    let database = Postgres::shared().database();
    let store = Arc::new(connect(database.url()).await);
    let cycles: Vec<_> = (0..64)
        .map(|caller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for turn in 0..20 {
                    let key = format!("{caller}-{turn}");
                    let won = lease(store.claim(claim(&key)).await.unwrap());
                    store.finish(operation(&key).id(), won.fence, done(400)).await.unwrap();
                }
            })
        })
        .collect();
    for cycle in cycles {
        cycle.await.unwrap();
    }
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Sessions report what they did when they end at the latest.
    drop(store);
    let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'hapax_record'";
    let (updated, hot) = loop {
        let row = client.query_one(sql, &[]).await.unwrap();
        let (updated, hot): (i64, i64) = (row.get(0), row.get(1));
        if updated == 64 * 20 {
            break (updated, hot);
        }
        tokio::task::yield_now().await;
    };
    assert!(hot * 100 >= updated * 75, "{hot} of {updated} updates were HOT");
}
