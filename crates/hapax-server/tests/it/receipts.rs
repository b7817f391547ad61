//! A gateway whose backend writes receipts: what failed is settled by the database, and nobody is asked.

mod habits;
mod later;
mod process;
mod purge;
mod reconcile;
mod restored;
mod stopped;
mod verify;

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Answer, Ask, Gateway, HeldBackend, hapax};

/// A gateway, the database of the backend, and the backend, which the test itself is.
struct World {
    directory: TempDir,
    database: rusqlite::Connection,
    backend: HeldBackend,
}

/// What the gateway told the backend of an attempt.
struct Attempt {
    operation: String,
    fence: i64,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(directory.path().join("shop.db")).unwrap();
        database.execute_batch("CREATE TABLE orders (item TEXT)").unwrap();
        let url = url(directory.path());
        let installed = hapax(&["receipts", "install", "--database", &url]);
        assert_eq!(
            installed.stdout, "installed hapax_receipt, version 1\n",
            "{installed:?}"
        );
        let again = hapax(&["receipts", "install", "--database", &url]);
        assert!(again.stdout.contains("wrote its function again"), "{again:?}");
        Self {
            directory,
            database,
            backend: HeldBackend::start(),
        }
    }

    /// A gateway that is told that the backend writes receipts.
    fn gateway(&self, more: &[&str]) -> Gateway {
        self.believing(&[&["--receipts-required"], more].concat())
    }

    /// One that believes what it sees.
    fn believing(&self, more: &[&str]) -> Gateway {
        let url = url(self.directory.path());
        let arguments = [&["--receipts", &url, "--lease", "1s"], more].concat();
        Gateway::before(self.backend.addr, self.directory.path(), &arguments)
    }

    /// The transaction of an attempt: an order and its receipt.
    fn commit(&self, attempt: &Attempt) -> Result<(), String> {
        let done = self.database.execute_batch(&format!(
            "BEGIN; INSERT INTO orders VALUES ('tea');
             INSERT INTO hapax_receipt (operation, fence, status, body) VALUES ('{}', {}, 201, '{{\"id\":7}}'); COMMIT",
            attempt.operation, attempt.fence
        ));
        done.map_err(|error| error.to_string())
    }

    fn orders(&self) -> i64 {
        let count = self
            .database
            .query_row("SELECT count(*) FROM orders", [], |row| row.get(0));
        count.unwrap()
    }
}

fn url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("shop.db").display())
}

impl Attempt {
    fn of(request: &str) -> Self {
        let header = |name: &str| {
            let mut lines = request.lines().filter_map(|line| line.split_once(": "));
            let (_, value) = lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap();
            value.to_owned()
        };
        Self {
            operation: header("hapax-operation"),
            fence: header("hapax-fence").parse().unwrap(),
        }
    }
}

#[track_caller]
fn is_recorded(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (201, r#"{"id":7}"#),
        "{answer:?}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn what_committed_and_failed_to_say_so_is_done_with_its_receipt() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    for (key, says_500) in [("reset", false), ("failed", true)] {
        let before = world.orders();
        let mut first = Ask::order(key, 1).start(gateway.addr);
        let held = world.backend.next();
        world.commit(&Attempt::of(&held.text)).unwrap();
        if says_500 {
            held.fail();
        } else {
            drop(held);
        }
        is_recorded(&Answer::read(&mut first));
        let retry = gateway.send(&Ask::order(key, 1));
        is_recorded(&retry);
        assert!(retry.is_replay());
        assert_eq!((world.orders(), world.backend.held()), (before + 1, 0));
    }
}

#[test]
fn what_did_not_commit_is_sealed_and_run_by_the_next_arrival() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    let mut first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let stale = Attempt::of(&held.text);
    held.fail();
    assert_eq!(Answer::read(&mut first).status, 500, "unchanged");
    let error = world.commit(&stale).unwrap_err();
    assert!(error.contains("sealed"), "{error}");
    assert_eq!(world.orders(), 0);

    let mut broken_off = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let stale = Attempt::of(&held.text);
    drop(held);
    let answer = Answer::read(&mut broken_off);
    answer.is(503, "upstream-unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.body.contains("did not happen"), "{answer:?}");
    assert!(world.commit(&stale).unwrap_err().contains("sealed"));

    let mut second = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let attempt = Attempt::of(&held.text);
    assert!(attempt.fence > stale.fence);
    world.commit(&attempt).unwrap();
    held.answer(r#"{"id":7}"#);
    assert_eq!(Answer::read(&mut second).status, 201);
    assert!(world.commit(&stale).is_err());
    assert_eq!(world.orders(), 1);
}

/// Asks until the lease of the run that was cut off is over.
fn until_settled(gateway: &Gateway, ask: &Ask) -> Answer {
    loop {
        let answer = gateway.send(ask);
        if answer.status != 409 {
            return answer;
        }
        assert_eq!(answer.problem(), "in-progress");
    }
}

#[test]
fn a_killed_gateway_finds_what_committed() {
    let world = World::new();
    let mut gateway = world.gateway(&[]);
    let first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    gateway.process.kill();
    drop(first);
    world.commit(&Attempt::of(&held.text)).unwrap();
    let gateway = world.gateway(&[]);
    let answer = until_settled(&gateway, &Ask::order("k", 1));
    is_recorded(&answer);
    assert_eq!((world.orders(), world.backend.held()), (1, 0));
}

#[test]
fn a_killed_gateway_runs_again_what_did_not_commit_and_shuts_out_the_first_attempt() {
    let world = World::new();
    let mut gateway = world.gateway(&[]);
    let first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let stale = Attempt::of(&held.text);
    gateway.process.kill();
    drop(first);
    let gateway = world.gateway(&[]);
    let address = gateway.addr;
    let retry = std::thread::spawn(move || {
        loop {
            let answer = Ask::order("k", 1).send(address);
            if answer.status != 409 {
                return answer;
            }
        }
    });
    // The arrival in hand runs it, nobody else.
    let again = world.backend.next();
    let error = world.commit(&stale).unwrap_err();
    assert!(error.contains("sealed"), "the first attempt still runs: {error}");
    world.commit(&Attempt::of(&again.text)).unwrap();
    again.answer(r#"{"id":7}"#);
    assert_eq!(retry.join().unwrap().status, 201);
    assert_eq!(world.orders(), 1);
}

#[test]
fn without_the_receipts_database_an_outcome_stays_unknown_and_is_settled_later() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    let mut first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let attempt = Attempt::of(&held.text);
    // A transaction that does not end is what a seal waits for, and gives up on.
    world.database.execute_batch("BEGIN IMMEDIATE").unwrap();
    held.fail();
    assert_eq!(Answer::read(&mut first).status, 500);
    let told = gateway.send(&Ask::order("k", 1));
    assert_eq!((told.status, told.problem().as_str()), (409, "outcome-unknown"));
    world.database.execute_batch("ROLLBACK").unwrap();
    world.commit(&attempt).ok();
    let answered = std::thread::spawn(move || gateway.send(&Ask::order("k", 1)));
    if world.orders() == 0 {
        let held = world.backend.next();
        world.commit(&Attempt::of(&held.text)).unwrap();
        held.answer(r#"{"id":7}"#);
    }
    assert_eq!(answered.join().unwrap().status, 201);
    assert_eq!(world.orders(), 1);
}

#[test]
fn a_store_that_lost_its_records_is_made_good_by_receipts() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    let mut first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer(r#"{"id":7}"#);
    assert_eq!(Answer::read(&mut first).status, 201);
    gateway.process.signal(Signal::TERM);
    drop(gateway);
    for file in ["hapax.db", "hapax.db-wal", "hapax.db-shm"] {
        let _ = std::fs::remove_file(world.directory.path().join(file));
    }
    let gateway = world.gateway(&["--recovering"]);
    is_recorded(&gateway.send(&Ask::order("k", 1)));
    assert_eq!((world.orders(), world.backend.held()), (1, 0));
}

#[test]
fn what_contradicts_receipts_is_refused_at_the_start() {
    let world = World::new();
    let (url, store) = (
        url(world.directory.path()),
        crate::support::sqlite(world.directory.path()),
    );
    let serve = |more: &[&str]| {
        let start = [
            "serve",
            "--upstream",
            "http://127.0.0.1:1",
            "--scope",
            "none",
            "--store",
            &store,
        ];
        hapax(&[&start, more].concat())
    };
    let retry = serve(&["--receipts", &url, "--after-failure", "retry"]);
    assert_eq!(retry.code, 2, "{retry:?}");
    assert!(retry.stderr.contains(r#"receipts = "never""#), "{retry:?}");
    let two = "[[route]]\npath = \"/a\"\nname = \"one\"\nreceipts = \"required\"\n\
               [[route]]\npath = \"/b\"\nname = \"one\"\nreceipts = \"never\"\n";
    let file = world.directory.path().join("hapax.toml");
    let start = format!("upstream = \"http://127.0.0.1:1\"\nscope = \"none\"\n[receipts]\ndatabase = \"{url}\"\n");
    std::fs::write(&file, start + two).unwrap();
    let differ = hapax(&["config", "check", file.to_str().unwrap()]);
    assert!(
        differ.code == 2 && differ.stderr.contains("a name of its own"),
        "{differ:?}"
    );
    let lost = serve(&["--recovering"]);
    assert!(lost.code == 2 && lost.stderr.contains("--receipts URL"), "{lost:?}");
    world
        .database
        .execute_batch("DROP TABLE hapax_receipt_version")
        .unwrap();
    let absent = serve(&["--receipts", &url]);
    assert!(absent.stderr.contains("hapax receipts install"), "{absent:?}");
}
