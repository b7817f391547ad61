//! `hapax receipts verify` against endpoints that do it right, and that do not.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::process::Shop;
use super::{Attempt, World, url};
use crate::support::{Ended, HeldBackend, hapax};

const CREATED: &str = "201 Created";
const COUNT: [&str; 2] = ["--count", "SELECT count(*) FROM orders"];

/// What an endpoint does with an attempt, and the status and body that it answers.
type Order = fn(&Connection, &Attempt) -> (&'static str, &'static str);

fn receipt(attempt: &Attempt) -> String {
    format!(
        "INSERT INTO hapax_receipt (operation, fence, status, body) VALUES ('{}', {}, 201, '{{\"id\":7}}');",
        attempt.operation, attempt.fence
    )
}

fn good(database: &Connection, attempt: &Attempt) -> (&'static str, &'static str) {
    let receipt = receipt(attempt);
    match database.execute_batch(&format!("BEGIN; INSERT INTO orders VALUES ('tea'); {receipt} COMMIT")) {
        Ok(()) => (CREATED, r#"{"id":7}"#),
        Err(_) => ("500 Internal Server Error", ""),
    }
}

fn endpoint(world: &World, order: Order) -> SocketAddr {
    let database = Connection::open(world.directory.path().join("shop.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let backend = HeldBackend::start();
    let address = backend.addr;
    thread::spawn(move || {
        backend.serve(|held| {
            let (status, body) = order(&database, &Attempt::of(&held.text));
            held.say(status, body);
        });
    });
    address
}

fn verify(world: &World, address: SocketAddr, more: &[&str]) -> Ended {
    let (database, upstream) = (url(world.directory.path()), format!("http://{address}"));
    let start = [
        "receipts",
        "verify",
        "--database",
        &database,
        "--upstream",
        &upstream,
        "--path",
        "/orders",
    ];
    hapax(&[&start, more].concat())
}

#[test]
fn an_endpoint_that_does_it_right_holds() {
    let world = World::new();
    let address = endpoint(&world, good);
    for more in [&[][..], &COUNT] {
        let before = world.orders();
        let said = verify(&world, address, more);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(said.stdout.matches(" holds ").count(), 3, "{said:?}");
        assert_eq!(world.orders(), before + 1, "the live one");
    }
    let left: i64 = world
        .database
        .query_row("SELECT count(*) FROM hapax_receipt", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0, "nothing is left behind");
    let json = verify(&world, address, &["--json"]).json();
    assert_eq!(
        (&json["checks"][0]["check"], &json["checks"][2]["holds"]),
        (&"shut-out".into(), &true.into())
    );
}

#[test]
fn an_endpoint_on_postgresql_holds() {
    let shop = Shop::new();
    let backend = shop.backend();
    let upstream = format!("http://{}", backend.addr);
    let arguments = [
        "receipts",
        "verify",
        "--database",
        shop.url(),
        "--upstream",
        &upstream,
        "--path",
        "/",
    ];
    let said = hapax(&[&arguments[..], &COUNT].concat());
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((shop.orders(), shop.attempts()), (1, 3));
}

#[test]
fn an_endpoint_that_commits_without_its_receipt_fails() {
    let swallows: Order = |database, attempt| {
        database.execute_batch("INSERT INTO orders VALUES ('tea')").unwrap();
        let _ = database.execute_batch(&receipt(attempt));
        (CREATED, r#"{"id":7}"#)
    };
    let none: Order = |database, _| {
        database.execute_batch("INSERT INTO orders VALUES ('tea')").unwrap();
        (CREATED, "")
    };
    let two_transactions: Order = |database, attempt| {
        database.execute_batch("INSERT INTO orders VALUES ('tea')").unwrap();
        match database.execute_batch(&receipt(attempt)) {
            Ok(()) => (CREATED, r#"{"id":7}"#),
            Err(_) => ("500 Internal Server Error", ""),
        }
    };
    let other_answer: Order = |database, attempt| match good(database, attempt) {
        (CREATED, _) => (CREATED, r#"{"id":8}"#),
        other => other,
    };
    for (order, more, says) in [
        (swallows, &[][..], "shut-out  FAILS  answered 201 to fence 10"),
        (none, &[], "live      FAILS  answered 201, and left no receipt"),
        (
            two_transactions,
            &COUNT,
            "shut-out  FAILS  answered 500, but business writes were committed (0 → 1)",
        ),
        (other_answer, &[], "live      FAILS  answered 201 with another body"),
    ] {
        let world = World::new();
        let said = verify(&world, endpoint(&world, order), more);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stdout.contains(says), "no {says:?}: {said:?}");
    }
}

#[test]
fn nothing_is_concluded_from_an_endpoint_that_takes_nothing() {
    let world = World::new();
    let said = verify(
        &world,
        endpoint(&world, |_, _| ("422 Unprocessable Content", "")),
        &COUNT,
    );
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.stdout.contains("give a request that the endpoint takes"),
        "{said:?}"
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let said = verify(&world, nobody, &[]);
    assert!(
        said.code == 3 && said.stderr.contains("cannot reach the backend"),
        "{said:?}"
    );
    let said = verify(&world, endpoint(&world, good), &["--header", "nonsense"]);
    assert!(said.code == 2 && said.stderr.contains("NAME: VALUE"), "{said:?}");
    let said = verify(&world, endpoint(&world, good), &["--count", "SELECT item FROM orders"]);
    assert!(said.code == 2 && said.stderr.contains("one whole number"), "{said:?}");
}
