//! Several gateways on one store, and PostgreSQL.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use hapax_testbed::Postgres;

use crate::support::{Answer, Ask, Gateway, HeldBackend, PATIENCE, ShopServer, hapax};

/// Sends the same orders through both gateways at once, and looks at what happened.
fn race(shop: &ShopServer, gateways: [&Gateway; 2]) {
    thread::scope(|scope| {
        for key in 0..20 {
            for gateway in gateways.iter().cycle().take(4) {
                scope.spawn(move || {
                    let answer = gateway.send(&Ask::order(&format!("k-{key}"), 1));
                    assert_eq!(answer.status, 201, "{answer:?}");
                });
            }
        }
    });
    let by_key = shop.ledger().effects_by_key().unwrap();
    assert_eq!(by_key.len(), 20);
    assert!(by_key.values().all(|effects| *effects == 1), "{by_key:?}");
}

#[test]
fn two_gateways_share_one_sqlite_file() {
    let (shop, store) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let one = Gateway::before(shop.addr, store.path(), &[]);
    let other = Gateway::before(shop.addr, store.path(), &[]);
    let first = one.send(&Ask::order("k-a", 1));
    let again = other.send(&Ask::order("k-a", 1));
    assert_eq!((again.is_replay(), &again.body), (true, &first.body));
    other.send(&Ask::order("k-a", 2)).is(422, "key-reused");
    assert_eq!(shop.effects(), 1);
    let fresh = ShopServer::start();
    let store = tempfile::tempdir().unwrap();
    let one = Gateway::before(fresh.addr, store.path(), &[]);
    let other = Gateway::before(fresh.addr, store.path(), &[]);
    race(&fresh, [&one, &other]);
}

#[test]
fn two_gateways_share_one_postgresql_database() {
    let database = Postgres::shared().database();
    let shop = ShopServer::start();
    let upstream = format!("http://{}", shop.addr);
    let url = database.url().to_string();
    let start = || Gateway::start(&["--upstream", &upstream, "--scope", "none", "--store", &url]);
    let (one, mut other) = (start(), start());
    race(&shop, [&one, &other]);
    other.process.kill();
    let again = start().send(&Ask::order("k-7", 1));
    assert!(again.is_replay(), "{again:?}");
    let listed = hapax(&["records", "ls", "--json", "--store", &url]);
    assert_eq!((listed.code, listed.stdout.lines().count()), (0, 20), "{listed:?}");
    let status = hapax(&["migrate", "status", "--store", &url]);
    assert!(status.stdout.contains("applied"), "{status:?}");
}

#[test]
fn a_store_that_goes_away_refuses_and_comes_back() {
    let mut postgres = Postgres::start();
    let backend = HeldBackend::start();
    let (url, upstream) = (postgres.url(), format!("http://{}", backend.addr));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hapax.toml");
    let text = r#"
        timeouts.store = "300ms"
        [[route]]
        path = "/points"
        name = "points"
        when_store_is_down = "run_unprotected"
    "#;
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let gateway = Gateway::start(&[
        "--config",
        file,
        "--upstream",
        &upstream,
        "--scope",
        "none",
        "--store",
        &url,
    ]);
    postgres.kill();
    let refused = gateway.send(&Ask::order("k-1", 1));
    refused.is(503, "store-unavailable");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let mut unprotected = Ask::order("k-1", 1).path("/points").start(gateway.addr);
    backend.next().answer("given");
    let unprotected = Answer::read(&mut unprotected);
    assert_eq!(
        (unprotected.status, unprotected.header("hapax-state")),
        (201, Some("unprotected"))
    );
    let ready = Ask::get("/readyz").send(gateway.admin);
    assert_eq!(
        (ready.status, ready.body.contains("the store does not answer")),
        (503, true),
        "{ready:?}"
    );
    assert_eq!(gateway.metric("hapax_store_up"), 0.0);
    postgres.restart();
    let mut stream = Ask::order("k-1", 1).start(gateway.addr);
    backend.next().answer("made");
    assert_eq!(Answer::read(&mut stream).body, "made");
}

/// A client that asks until it knows: whether it succeeded, and how often it was refused.
fn insist(gateways: &[Gateway; 2], key: &str, turn: usize, refused: &AtomicUsize) -> u16 {
    let until = Instant::now() + PATIENCE;
    for turn in turn.. {
        let answer = gateways[turn % 2].send(&Ask::order(key, 1).header("X-Shop-Delay", "5ms"));
        match answer.status {
            503 => refused.fetch_add(1, SeqCst),
            409 if answer.problem() == "in-progress" => 0,
            status => return status,
        };
        assert!(Instant::now() < until, "{answer:?}");
    }
    unreachable!()
}

#[test]
fn a_database_that_is_killed_in_a_storm_costs_no_second_effect() {
    let mut postgres = Postgres::start();
    let (shop, directory) = (ShopServer::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("hapax.toml");
    std::fs::write(&file, "timeouts.store = \"200ms\"\nwait = \"1s\"").unwrap();
    let (upstream, url) = (format!("http://{}", shop.addr), postgres.url());
    let file = file.to_str().unwrap();
    let start = || {
        Gateway::start(&[
            "--config",
            file,
            "--upstream",
            &upstream,
            "--scope",
            "none",
            "--store",
            &url,
        ])
    };
    let gateways = [start(), start()];
    let (refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..16 {
            let (gateways, refused, done) = (&gateways, &refused, &done);
            scope.spawn(move || {
                // Two clients for each key.
                for n in 0..40 {
                    let status = insist(gateways, &format!("k-{}-{n}", client / 2), client, refused);
                    assert_eq!(status, 201);
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        let until = Instant::now() + PATIENCE;
        while done.load(SeqCst) < 100 {
            assert!(Instant::now() < until && done.load(SeqCst) < 16 * 40);
            thread::yield_now();
        }
        postgres.kill();
        while refused.load(SeqCst) < 32 {
            assert!(Instant::now() < until, "nothing was refused");
            thread::yield_now();
        }
        postgres.restart();
    });
    let by_key = shop.ledger().effects_by_key().unwrap();
    assert_eq!(by_key.len(), 8 * 40);
    assert!(by_key.values().all(|effects| *effects == 1), "{by_key:?}");
}
