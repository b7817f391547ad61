//! Files that cannot be used, disks that fill up, clocks and neighbours.

use std::sync::Arc;
use std::time::Duration;

use hapax_core::{
    Amend, Amended, Filter, Finished, Key, Name, Operation, Outcome, Ruling, Scope, State, StateName, Store,
    StoreErrorKind,
};
use hapax_store::{Clock, SqliteOptions, SqliteStore};

use super::{Hand, amendment, claim, done, open, open_at, operation, run, win};

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    std::fs::write(
        here.join("text"),
        "not a database, but long enough to be taken for one. ".repeat(200),
    )
    .unwrap();
    let invalid = StoreErrorKind::Invalid;
    for (path, kind, part) in [
        (here.join("missing/hapax.db"), invalid, "make it"),
        (here.to_path_buf(), invalid, "is a directory"),
        (here.join("text/hapax.db"), invalid, "there is no directory"),
        ("/proc/hapax.db".into(), invalid, "write permission"),
        (here.join("text"), StoreErrorKind::Corrupt, "not a SQLite database"),
    ] {
        let error = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains(&path.display().to_string()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_fails_clearly_and_heals() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        max_bytes: Some(1 << 20),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(directory.path().join("hapax.db"), options).unwrap();
    let mut kept = 0;
    let error = loop {
        let claim = claim(&format!("k{kept}"));
        let id = claim.operation.id();
        let lease = win(&store, claim).await;
        match store.finish(id, lease.fence, done(vec![b'x'; 16 << 10])).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1_000, "the limit was not kept");
    };
    assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
    assert!(
        error.is_transient() && error.to_string().contains("make room"),
        "{error}"
    );
    assert!(kept > 10, "{kept}");

    // What was acknowledged is there, what failed is as it was.
    let (_, last) = store.read(operation(&format!("k{}", kept - 1)).id()).await.unwrap();
    assert_eq!(last.unwrap().state.name(), StateName::Done);
    let (_, failed) = store.read(operation(&format!("k{kept}")).id()).await.unwrap();
    let failed = failed.unwrap();
    assert_eq!(failed.state.name(), StateName::Running);

    for n in 0..3 {
        let amendment = amendment(Amend::Forget { even_unknown: false });
        let amended = store.amend(operation(&format!("k{n}")).id(), amendment).await.unwrap();
        assert_eq!(amended, Amended::Forgotten);
    }
    let finished = store
        .finish(failed.operation.id(), failed.fence, done("small"))
        .await
        .unwrap();
    assert!(matches!(finished, Finished::Applied { .. }), "{finished:?}");
    run(&store, "another", b"answer").await;
}

#[tokio::test]
async fn a_file_locked_by_a_neighbour_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    let neighbour = rusqlite::Connection::open(&path).unwrap();
    neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = store.claim(claim("k"));
    // Readers do not wait for it.
    assert!(store.read(operation("k").id()).await.unwrap().1.is_none());
    neighbour.execute_batch("COMMIT").unwrap();
    assert!(matches!(waiting.await.unwrap().ruling, Ruling::Won(_)));
}

#[tokio::test]
async fn a_lock_that_is_kept_makes_the_store_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    let neighbour = rusqlite::Connection::open(&path).unwrap();
    neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.claim(claim("k")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    neighbour.execute_batch("COMMIT").unwrap();
    win(&store, claim("k")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_file_take_turns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let stores = [Arc::new(open(&path)), Arc::new(open(&path))];
    let mut tasks = Vec::new();
    for task in 0..16 {
        let store = Arc::clone(&stores[task % 2]);
        tasks.push(tokio::spawn(async move {
            let mut won = Vec::new();
            for key in 0..40 {
                let mut claim = claim(&format!("k{key}"));
                claim.attempt = hapax_core::AttemptId::from_bytes([task as u8 + 1; 16]);
                let id = claim.operation.id();
                if let Ruling::Won(lease) = store.claim(claim).await.unwrap().ruling {
                    store.finish(id, lease.fence, done(format!("{task}"))).await.unwrap();
                    won.push(lease.fence);
                }
            }
            won
        }));
    }
    let mut fences = Vec::new();
    for task in tasks {
        fences.extend(task.await.unwrap());
    }
    assert_eq!(fences.len(), 40, "each operation ran once");
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), 40, "no fence was given out twice");
    for store in &stores {
        let page = store.list(Filter::default(), None, 1000).await.unwrap();
        assert!(page.records.iter().all(|record| record.state == StateName::Done));
        assert_eq!(page.records.len(), 40);
    }
}

#[tokio::test]
async fn time_seen_by_one_process_does_not_run_back_in_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let (ahead, behind) = (
        open_at(&path, Hand::at(90_000).clock()),
        open_at(&path, Hand::at(50_000).clock()),
    );
    win(&ahead, claim("k")).await;
    for now in [
        behind.read(operation("k").id()).await.unwrap().0,
        behind.time(false).await.unwrap().0,
        behind.claim(claim("k")).await.unwrap().now,
    ] {
        assert_eq!(now.as_millis(), 90_000);
    }
    drop((ahead, behind));
    let reopened = open_at(&path, Hand::at(10_000).clock());
    assert_eq!(reopened.claim(claim("other")).await.unwrap().now.as_millis(), 90_000);
}

#[tokio::test]
async fn a_jump_accepted_by_one_process_is_known_to_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let wall = Arc::new(std::sync::atomic::AtomicI64::new(1_000));
    let reading = {
        let wall = Arc::clone(&wall);
        move || {
            let wall = wall.load(std::sync::atomic::Ordering::SeqCst);
            (hapax_core::Timestamp::from_millis(wall), Duration::ZERO)
        }
    };
    let jumping = open_at(&path, Clock::made(reading, Duration::from_secs(300)));
    let other = open_at(&path, Hand::at(1_000).clock());
    assert_eq!(jumping.time(false).await.unwrap().0.as_millis(), 1_000);
    wall.store(9_000_000, std::sync::atomic::Ordering::SeqCst);
    let (now, jump) = jumping.time(false).await.unwrap();
    assert_eq!((now.as_millis(), jump), (1_000, Some(Duration::from_millis(8_999_000))));
    let (now, jump) = jumping.time(true).await.unwrap();
    assert_eq!((now.as_millis(), jump), (9_000_000, None));
    assert_eq!(other.time(false).await.unwrap().0.as_millis(), 9_000_000);
}

#[tokio::test]
async fn a_large_sweep_goes_in_chunks_and_counts_all() {
    let directory = tempfile::tempdir().unwrap();
    let hand = Hand::at(1_000);
    let store = open_at(&directory.path().join("hapax.db"), hand.clock());
    for n in 0..300 {
        run(&store, &format!("k{n}"), b"answer").await;
    }
    let day = Duration::from_secs(24 * 3600);
    hand.advance(day + Duration::from_secs(1_000));
    let swept = store.sweep(200).await.unwrap();
    assert_eq!((swept.looked_at, swept.stripped, swept.forgotten), (200, 200, 0));
    let swept = store.sweep(1_000).await.unwrap();
    assert_eq!((swept.looked_at, swept.stripped, swept.forgotten), (100, 100, 0));
    assert_eq!(store.sweep(1_000).await.unwrap().looked_at, 0);
    let (_, record) = store.read(operation("k7").id()).await.unwrap();
    assert!(matches!(
        record.unwrap().state,
        State::Done(Outcome::NotKept(hapax_core::NotKept::Expired))
    ));
    hand.advance(30 * day);
    let swept = store.sweep(1_000).await.unwrap();
    assert_eq!((swept.looked_at, swept.stripped, swept.forgotten), (300, 0, 300));
    assert!(
        store
            .list(Filter::default(), None, 10)
            .await
            .unwrap()
            .records
            .is_empty()
    );
}

#[tokio::test]
async fn a_listing_crosses_wide_gaps_and_stretches() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    run(&store, "first", b"").await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("UPDATE hapax_meta SET last_fence = 1000000000000", [])
        .unwrap();
    run(&store, "last", b"").await;
    let filter = Filter {
        key: Some("last".into()),
        ..Filter::default()
    };
    let page = store.list(filter, None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert_eq!(page.records[0].operation, operation("last"));
    let page = store.list(Filter::default(), None, 1).await.unwrap();
    assert_eq!(page.records[0].operation, operation("first"));
    let page = store.list(Filter::default(), page.next, 1).await.unwrap();
    assert_eq!(page.records[0].operation, operation("last"));
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn a_bare_key_is_found_in_every_scope() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let store = open(&path);
    for scope in ["b", "a", "c"] {
        for key in ["same", "other"] {
            let mut claim = claim(key);
            let (scope, name, key) = (
                Scope::new(scope).unwrap(),
                Name::new("n").unwrap(),
                Key::new(key).unwrap(),
            );
            claim.operation = Operation::new(scope, name, key);
            win(&store, claim).await;
        }
    }
    let filter = Filter {
        key: Some("same".into()),
        ..Filter::default()
    };
    let scopes = |page: &hapax_core::Page| -> String {
        page.records
            .iter()
            .map(|record| record.operation.scope().as_str())
            .collect()
    };
    let page = store.list(filter.clone(), None, 2).await.unwrap();
    assert_eq!(scopes(&page), "ba");
    let page = store.list(filter.clone(), page.next, 2).await.unwrap();
    assert_eq!((scopes(&page).as_str(), page.next), ("c", None));

    // The lookup goes by the namespaces, and a table of them that is full is not believed to be complete.
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute("DELETE FROM hapax_namespace WHERE scope = 'a'", [])
        .unwrap();
    assert_eq!(scopes(&store.list(filter.clone(), None, 9).await.unwrap()), "bc");
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO hapax_namespace SELECT 'scope ' || i, 'n' FROM n";
    connection.execute(many, []).unwrap();
    assert_eq!(scopes(&store.list(filter, None, 9).await.unwrap()), "bac");
}

#[tokio::test]
async fn the_log_stays_short_and_is_gone_after_closing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hapax.db");
    let options = SqliteOptions {
        checkpoint_pages: 100,
        durability: hapax_store::Durability::Normal,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).unwrap();
    for n in 0..4_000 {
        run(&store, &format!("k{n}"), &[b'x'; 500]).await;
    }
    let log = directory.path().join("hapax.db-wal");
    let bytes = std::fs::metadata(&log).unwrap().len();
    assert!(bytes < 4 << 20, "the log grew to {bytes} bytes");
    store.close();
    assert!(!log.exists());
    let error = store.claim(claim("late")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(store.read(operation("k1").id()).await.is_err());
    store.close();
}
