//! Servers that go away, lie down, or are not what the URL says.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{Amend, Amended, Finished, Ruling, StateName, Store, StoreErrorKind, Take};
use hapax_store::postgres::{PostgresOptions, PostgresStore};
use hapax_testbed::Postgres;

use super::world::{amendment, claim, connect, done, enqueue, lease, operation, take};

/// Runs cycles until told to stop, repeating what fails; gives the keys whose finish was acknowledged.
async fn work(store: Arc<PostgresStore>, worker: usize, stop: tokio::sync::watch::Receiver<bool>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for turn in 0.. {
        if *stop.borrow() {
            break;
        }
        let key = format!("{worker}-{turn}");
        let claim = claim(&key);
        let won = loop {
            match store.claim(claim.clone()).await {
                Ok(claimed) => break lease(claimed),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::task::yield_now().await;
        };
        loop {
            match store.finish(operation(&key).id(), won.fence, done(100)).await {
                Ok(Finished::Applied { .. } | Finished::Already { .. }) => break,
                Ok(fenced) => panic!("{key}: {fenced:?}"),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::task::yield_now().await;
        }
        acknowledged.push(key);
    }
    acknowledged
}

async fn survives(interrupt: fn(&mut Postgres)) {
    let mut server = Postgres::start();
    let url = server.create_database("hapax");
    let store = Arc::new(connect(&url).await);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let workers: Vec<_> = (0..8)
        .map(|worker| tokio::spawn(work(Arc::clone(&store), worker, stopped.clone())))
        .collect();
    let count = async || {
        store
            .list(hapax_core::Filter::default(), None, 1000)
            .await
            .map(|page| page.records.len())
    };
    while count().await.unwrap() < 40 {}
    server = tokio::task::spawn_blocking(move || {
        interrupt(&mut server);
        server
    })
    .await
    .unwrap();
    let before = loop {
        match count().await {
            Ok(count) => break count,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    while count().await.unwrap() < (before + 40).min(1000) {}
    stop.send(true).unwrap();
    for worker in workers {
        for key in worker.await.unwrap() {
            let (_, record) = store.read(operation(&key).id()).await.unwrap();
            assert_eq!(record.map(|record| record.state.name().as_str()), Some("done"), "{key}");
        }
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_a_restart_of_the_server() {
    survives(Postgres::restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_a_crash_of_the_server() {
    survives(|server| {
        server.kill();
        server.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_given_up() {
    let mut server = Postgres::start();
    let url = server.create_database("hapax");
    let options = PostgresOptions {
        statement_timeout: Duration::from_millis(300),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(&url, options).await.unwrap();
    let claim = claim("k");
    let won = lease(store.claim(claim.clone()).await.unwrap());
    server.pause();
    // The order to pause takes a moment to reach the server.
    let error = loop {
        match store.claim(claim.clone()).await {
            Ok(claimed) => assert_eq!(lease(claimed), won),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("did not answer within"), "{error}");
    server.resume();
    let again = loop {
        match store.claim(claim.clone()).await {
            Ok(claimed) => break claimed,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(again.ruling, Ruling::Won(won));
}

#[tokio::test]
async fn says_what_is_wrong_with_the_url() {
    let mut server = Postgres::start();
    let database = server.create_database("hapax");
    let hba = server.query("SHOW hba_file");
    std::fs::write(
        hba.trim(),
        "host all guest 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n",
    )
    .unwrap();
    server.query("CREATE ROLE guest LOGIN PASSWORD 'right'");
    // pg_reload_conf() returns before the reload.
    server.restart();
    let port = server.port();
    let free = hapax_testbed::FreePort::take();
    let cases = [
        (
            format!("postgres://guest:wr0ng@127.0.0.1:{port}/hapax"),
            StoreErrorKind::Invalid,
            "check the user and password",
        ),
        (
            format!("postgres://guest@127.0.0.1:{port}/hapax"),
            StoreErrorKind::Invalid,
            "postgres://user:password@host/database",
        ),
        (
            format!("postgres://postgres:wr0ng@127.0.0.1:{port}/nowhere"),
            StoreErrorKind::Invalid,
            "create the database",
        ),
        (
            format!("postgres://guest:wr0ng@127.0.0.1:{}/hapax", free.number()),
            StoreErrorKind::Unavailable,
            "refused",
        ),
        (
            format!("postgres://guest:right@127.0.0.1:{port}/hapax"),
            StoreErrorKind::Invalid,
            "grant the user",
        ),
        (
            format!("postgres://guest:wr0ng@127.0.0.1:{port}/hapax?sslmode=require"),
            StoreErrorKind::Invalid,
            "sslmode=disable",
        ),
    ];
    connect(&database).await;
    for (url, kind, part) in cases {
        let error = PostgresStore::connect(&url, PostgresOptions::default())
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(part), "{url}: {text}");
        assert!(!text.contains("wr0ng"), "{text}");
        assert!(text.contains("at 127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_may_forget_is_refused() {
    for (setting, advice) in [
        ("fsync", "fsync = on"),
        ("synchronous_commit", "SET synchronous_commit = on"),
    ] {
        let server = Postgres::options().set(setting, "off").start();
        let error = PostgresStore::connect(&server.url(), PostgresOptions::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid);
        assert!(error.to_string().contains(advice), "{error}");
        let options = PostgresOptions {
            require_durable: false,
            ..PostgresOptions::default()
        };
        PostgresStore::connect(&server.url(), options).await.unwrap();
    }
}

#[tokio::test]
async fn failures_have_their_kinds() {
    let database = Postgres::shared().database();
    let store = connect(database.url()).await;
    // No disk is filled here: the server says what it would say then.
    database.query(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON hapax_record EXECUTE FUNCTION full_disk()",
    );
    let error = store.claim(claim("k")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(error.to_string().contains("make room"), "{error}");
    database.query("DROP TRIGGER full_disk ON hapax_record");
    store.claim(claim("k")).await.unwrap();

    let name = database.name();
    database.query(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let error = PostgresStore::connect(database.url(), PostgresOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(error.to_string().contains("connect to the primary"), "{error}");

    database.query("BEGIN READ WRITE; DROP TABLE hapax_record CASCADE; COMMIT");
    let error = store.claim(claim("k")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("hapax migrate"), "{error}");
}

#[tokio::test]
async fn works_without_prepared_statements_and_session_settings() {
    let database = Postgres::shared().database();
    let separator = if database.url().contains('?') { '&' } else { '?' };
    let store = connect(&format!("{}{separator}prepare=false", database.url())).await;
    let won = lease(store.claim(claim("k")).await.unwrap());
    store.finish(operation("k").id(), won.fence, done(700)).await.unwrap();
    assert!(matches!(
        store.claim(claim("k")).await.unwrap().ruling,
        Ruling::Refused(_)
    ));
    assert_eq!(store.sweep(10).await.unwrap().looked_at, 0);
    store.enqueue(enqueue("queued")).await.unwrap();
    let mut spent = take(5);
    spent.names[0].tries = 0;
    assert_eq!(store.take(spent).await.unwrap().ended.len(), 1);
    let redriven = store.amend(operation("queued").id(), amendment(Amend::Redrive)).await;
    assert!(matches!(redriven.unwrap(), Amended::Became(_)));
    let asked = take(5);
    let taken = store.take(asked.clone()).await.unwrap().work;
    assert_eq!(taken.len(), 1);
    let again = Take { again: true, ..asked };
    assert_eq!(store.take(again).await.unwrap().work, taken);
    assert_eq!(store.audit(None, None, 5).await.unwrap().0.len(), 1);
    assert_eq!(store.census(true).await.unwrap().scopes[0].1, 2);
    for (state, count) in [(None, 2), (Some(StateName::Waiting), 0), (Some(StateName::Dead), 0)] {
        let filter = hapax_core::Filter {
            state,
            ..hapax_core::Filter::default()
        };
        assert_eq!(store.list(filter, None, 10).await.unwrap().records.len(), count);
    }
}
