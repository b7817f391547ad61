//! The example `checkout` as a real process, killed at every step and stopped at the wrong moment. The databases of the
//! others are the oracle: each order has all of its effects, once, or each effect that it had is undone, once.
//!
//! `HAPAX_CRASH_KILLS=1000` kills so many times at each place on each store (4 otherwise):
//! `HAPAX_CRASH_KILLS=1000 cargo xtask test -p hapax --profile soak --success-output final checkout::`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use hapax::core::{Filter, StateName, Store, Summary};
use hapax::failpoint::Failpoint;
use hapax::store::postgres::{PostgresOptions, PostgresStore};
use hapax::store::sqlite::{SqliteOptions, SqliteStore};
use hapax_testbed::{Database, Postgres};
use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{Process, Said, example};

/// How long everything may take to end before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
const LEASE_MS: u32 = 300;
/// What an order has if nothing goes wrong.
const ALL: [&str; 4] = ["charge", "email", "points", "reserve"];
/// What becomes of the orders of a round: all is well; the shelf has none; the bank declines; the post refuses.
const ROUND: [&str; 4] = [
    "ann@example.org tea 450",
    "bob@example.org samovar 450",
    "cid@example.org mug 250000",
    "nowhere tea 900",
];

struct Shop {
    directory: TempDir,
    /// Where the records are, if not beside the town.
    database: Option<Database>,
    said: Said,
}

impl Shop {
    fn sqlite() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            database: None,
            said: Said::default(),
        }
    }

    fn postgres() -> Self {
        Self {
            database: Some(Postgres::shared().database()),
            ..Self::sqlite()
        }
    }

    fn start(&self, failpoint: Option<(Failpoint, u64, &str)>) -> Process {
        let mut command = Command::new(example("checkout"));
        command.arg(self.directory.path()).arg(LEASE_MS.to_string());
        if let Some(database) = &self.database {
            command.arg(database.url());
        }
        command.env_remove("HAPAX_FAILPOINT");
        if let Some((failpoint, hits, what)) = failpoint {
            command.env("HAPAX_FAILPOINT", format!("{}:{hits}{what}", failpoint.name()));
        }
        Process::start(&mut command, &self.said)
    }

    fn town(&self) -> Connection {
        let town = Connection::open(self.directory.path().join("town.db")).unwrap();
        town.busy_timeout(PATIENCE).unwrap();
        town
    }

    fn records(&self) -> Vec<Summary> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            match &self.database {
                Some(database) => {
                    let store = PostgresStore::connect(database.url(), PostgresOptions::default()).await;
                    all(&store.unwrap()).await
                }
                None => {
                    let path = self.directory.path().join("hapax.db");
                    all(&SqliteStore::open(path, SqliteOptions::default()).unwrap()).await
                }
            }
        })
    }

    /// Waits until no order, and nothing that is to be undone, waits or runs.
    fn settles(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let ends = |record: &&Summary| {
                let name = record.operation.name().as_str();
                name == "checkout" || name.ends_with("/undo") || record.state == StateName::Unknown
            };
            let records = self.records();
            let left: Vec<_> = records
                .iter()
                .filter(ends)
                .filter(|record| !is_settled(record))
                .collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "{left:#?}");
            // Each look reads everything.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_settled(record: &Summary) -> bool {
    matches!(record.state, StateName::Done | StateName::Dead)
}

async fn all(store: &impl Store) -> Vec<Summary> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(Filter::default(), after, 1000).await.unwrap();
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
}

/// What the others know of an order: what they did, and what of that they undid.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    done: Vec<String>,
    undone: Vec<String>,
}

fn known(town: &Connection) -> BTreeMap<String, Known> {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut read = |sql: &str, note: fn(&mut Known, String)| {
        let mut select = town.prepare(sql).unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        for row in rows {
            let (number, what): (String, String) = row.unwrap();
            note(known.entry(number).or_default(), what);
        }
    };
    let done = "SELECT number, what FROM effect UNION ALL SELECT number, 'email' FROM mail ORDER BY 1, 2";
    read(done, |known, what| known.done.push(what));
    let undone = "SELECT number, what FROM undone WHERE had ORDER BY 1, 2";
    read(undone, |known, what| known.undone.push(what));
    known
}

fn count(town: &Connection, sql: &str) -> i64 {
    town.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Checks every order; how many were done and how many undone.
fn check(shop: &Shop, orders: &[String]) -> (usize, usize) {
    let town = shop.town();
    let known = known(&town);
    let mut records: BTreeMap<_, _> = shop
        .records()
        .into_iter()
        .filter(|record| record.operation.name().as_str() == "checkout")
        .map(|record| (record.operation.key().to_string(), record))
        .collect();
    let (mut done, mut undone) = (0, 0);
    for order in orders {
        let number = order.split(' ').nth(1).unwrap();
        let nothing = Known::default();
        let known = known.get(number).unwrap_or(&nothing);
        // Killed before its claim, it was never heard of.
        let Some(record) = records.remove(number) else {
            assert_eq!(known, &nothing, "{number}");
            continue;
        };
        match record.state {
            StateName::Done => {
                assert!(order.ends_with(ROUND[0]), "{number} was to fail: {record:?}");
                assert_eq!(
                    (&*known.done, known.undone.len()),
                    (&ALL.map(str::to_owned)[..], 0),
                    "{number}"
                );
                done += 1;
            }
            StateName::Dead => {
                assert_eq!(known.done, known.undone, "{number}: {record:?}");
                undone += usize::from(!known.done.is_empty());
            }
            _ => panic!("{record:?}"),
        }
    }
    let taken = "SELECT count(*) FROM effect WHERE what = 'reserve' AND key NOT IN (SELECT key FROM undone)";
    let left = "SELECT 200003 - sum(pieces) FROM shelf";
    assert_eq!(
        count(&town, taken),
        count(&town, left),
        "what is gone from the shelf was bought"
    );
    let dead = shop
        .records()
        .into_iter()
        .find(|record| record.state == StateName::Dead && record.operation.name().as_str().ends_with("/undo"));
    assert!(dead.is_none(), "{dead:?}");
    (done, undone)
}

#[test]
fn it_ends_with_everything_done_or_everything_undone() {
    let shop = Shop::sqlite();
    let mut process = shop.start(None);
    let orders: Vec<_> = (0..4).map(|number| format!("buy {number} {}", ROUND[number])).collect();
    for order in &orders {
        process.tell(order);
    }
    process.wait("undone reserve of 2");
    process.wait("undone reserve of 3");
    let expected = [
        "order 1: failed, what was done is undone: step reserve is dead (refused): out of stock",
        "order 2: failed, what was done is undone: step charge is dead (refused): the card is declined",
        "order 3: failed, what was done is undone: step email is dead (refused): no such address",
    ];
    for line in expected {
        process.wait(line);
    }
    process.until("paid", |said| {
        said.iter().any(|line| line.starts_with("order 0: charge "))
    });
    // Once more: a client that did not hear the answer.
    process.tell(&orders[0]);
    process.until("told again", |said| {
        said.iter().any(|line| line.starts_with("order 0: known: Done"))
    });
    assert!(process.ends().success());
    shop.settles();
    assert_eq!(check(&shop, &orders), (1, 2));
    let undone = known(&shop.town()).remove("3").unwrap().undone;
    assert_eq!(undone, ["charge", "points", "reserve"]);
}

/// Where it is killed, and how many hits may be skipped before.
const PLACES: [(Failpoint, u64); 14] = [
    (Failpoint::ClaimWritten, 4),
    (Failpoint::UndoRegistered, 4),
    (Failpoint::StepClaimed, 8),
    (Failpoint::UndoBegun, 2),
    (Failpoint::StepAllowed, 8),
    (Failpoint::CompensationEnqueued, 4),
    (Failpoint::StepRan, 8),
    (Failpoint::CompensationsEnqueued, 2),
    (Failpoint::StepFinished, 8),
    (Failpoint::CompensationAllowed, 4),
    (Failpoint::BeforeFinish, 8),
    (Failpoint::CompensationRan, 4),
    (Failpoint::AfterFinish, 8),
    (Failpoint::Taken, 2),
];

#[test]
fn each_step_has_its_kills() {
    for place in Failpoint::STEPS {
        assert!(PLACES.iter().any(|(killed, _)| killed == place), "{place:?}");
    }
}

fn killed_at_every_step(shop: &Shop, store: &str) {
    let wanted = std::env::var("HAPAX_CRASH_KILLS");
    let kills: u64 = wanted.map_or(4, |kills| {
        kills.parse().expect("HAPAX_CRASH_KILLS is a number of kills")
    });
    let began = Instant::now();
    let mut orders = Vec::new();
    for round in 0..kills {
        for (index, (place, most)) in PLACES.iter().enumerate() {
            let mut process = shop.start(Some((*place, 1 + round % most, "")));
            for (kind, order) in ROUND.iter().enumerate() {
                orders.push(format!("buy {round}-{index}-{kind} {order}"));
                process.tell(orders.last().unwrap());
            }
            assert_eq!(process.dies(), 9, "{place:?}");
        }
    }
    let killed = began.elapsed();
    let last = shop.start(None);
    shop.settles();
    assert!(last.ends().success());
    let (done, undone) = check(shop, &orders);
    let town = shop.town();
    let again = count(&town, "SELECT count(*) FROM effect WHERE calls > 1");
    let undone_again = count(&town, "SELECT count(*) FROM undone WHERE calls > 1");
    report(&format!(
        "{store}: {} kills in {killed:.1?}, {} orders, {done} done, {undone} undone; {again} effects were asked for \
         again, {undone_again} undoings; 0 half done, settled after {:.1?}",
        kills * PLACES.len() as u64,
        orders.len(),
        began.elapsed()
    ));
    assert!(
        done > 0 && undone > 0 && again > 0 && undone_again > 0,
        "the kills were at the wrong places"
    );
}

#[expect(clippy::print_stdout, reason = "a test's report")]
fn report(line: &str) {
    println!("{line}");
}

#[test]
fn killed_on_sqlite() {
    killed_at_every_step(&Shop::sqlite(), "sqlite");
}

#[test]
fn killed_on_postgres() {
    killed_at_every_step(&Shop::postgres(), "postgres");
}

/// One process is stopped in an order's third step, another takes the order over and undoes it, the first goes on.
fn stopped(shop: &Shop, place: Failpoint, hits: u64) {
    let mut first = shop.start(Some((place, hits, ":hold")));
    let order = format!("buy 1 {}", ROUND[0]);
    first.tell(&order);
    first.wait(&format!("says held at {}", place.name()));
    first.signal(Signal::STOP);
    let town = shop.town();
    town.execute("INSERT INTO strike VALUES ('points')", []).unwrap();
    let mut second = shop.start(None);
    second.wait("undone reserve of 1");
    town.execute("DELETE FROM strike", []).unwrap();
    first.signal(Signal::CONT);
    // It is told what became of its order. Two of its threads wait for lines, and one of them is held.
    let told = |said: &BTreeSet<String>| said.iter().any(|line| line.starts_with("order 1: known: Dead"));
    while !first.has_said(Duration::from_millis(100), told) {
        first.tell("");
    }
    assert!(first.ends().success() && second.ends().success());
    shop.settles();
    assert_eq!(check(shop, &[order]), (0, 1));
    let known = known(&town).remove("1").unwrap();
    assert_eq!(known.done, ["charge", "reserve"], "{place:?}");
}

#[test]
fn what_was_stopped_runs_no_step_once_its_order_is_being_undone() {
    stopped(&Shop::sqlite(), Failpoint::StepFinished, 2);
    stopped(&Shop::sqlite(), Failpoint::StepClaimed, 3);
    stopped(&Shop::postgres(), Failpoint::StepClaimed, 3);
}

/// A call that was on its way cannot be stopped from outside: the others refuse what they have undone.
#[test]
fn a_call_that_comes_after_its_undoing_is_refused() {
    stopped(&Shop::sqlite(), Failpoint::StepAllowed, 3);
}
