//! `hapax dead redrive`, killed half-way again and again, and run again: nothing runs twice, nothing is left behind.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use hapax::core::{Filter, StateName, Store};
use hapax_testbed::FreePort;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::client::SCOPE;
use super::rig::{Dice, Mode, Rig, StoreKind, assert_killed};
use super::storm::chance;
use crate::support::{Ask, HeldBackend, PATIENCE, Process, hapax, program};

#[test]
fn a_redrive_killed_half_way_goes_on_sqlite() {
    kill_redrives(StoreKind::Sqlite);
}

#[test]
fn a_redrive_killed_half_way_goes_on_postgres() {
    kill_redrives(StoreKind::Postgres);
}

const LETTERS: u64 = 100;
/// The last one comes while a third is still dead.
const KILLS: u64 = 4;
/// The failures of the backend make the dead letters, and nothing waits for a share of a budget.
const RETRY: &str = "
[retry]
tries = 1
breaker_minimum_calls = 10000
budget_floor = 1000.0
";

fn kill_redrives(kind: StoreKind) {
    let rig = Rig::configured(kind, Mode::Retry, RETRY);
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(rig.store());
    let count = |state| runtime.block_on(count(&*store, state));
    let port = FreePort::take();
    die(&rig, &port);
    assert_eq!(count(StateName::Dead), LETTERS);

    // Well again.
    let gateway = rig.gateway(&port, None);
    let mut dice = Dice::new(chance());
    for number in 0..KILLS {
        let until = 1 + (number * LETTERS + dice.roll(LETTERS)) * 2 / (3 * KILLS);
        let mut redrive = Process::spawn(program().args(REDRIVE).args(["--store", &rig.store_url()]));
        wait(|| count(StateName::Dead) <= LETTERS - until, || redrive.log());
        redrive.signal(Signal::KILL);
        let status = redrive.wait();
        assert_killed(&redrive, status);
        assert!(count(StateName::Dead) > 0, "it was through");
    }
    let last = hapax(&[&REDRIVE[..], &["--store", &rig.store_url()]].concat());
    assert_eq!(last.code, 0, "{last:?}");
    wait(|| count(StateName::Done) == LETTERS, || gateway.process.log());

    let once: BTreeMap<_, _> = (0..LETTERS).map(|number| (format!("letter-{number}"), 1)).collect();
    assert_eq!(rig.shop.ledger().effects_by_key().unwrap(), once);
    // Not that a second time would show in the ledger: each was sent back once.
    assert_eq!(redriven(&rig), once);
}

const REDRIVE: [&str; 8] = [
    "dead",
    "redrive",
    "--all",
    "--rate",
    "50/s",
    "--reason",
    "the bank is back",
    "--json",
];

/// Accepts them and lets each die of its backend.
fn die(rig: &Rig, port: &FreePort) {
    let backend = HeldBackend::start();
    let gateway = rig.gateway_before(port, backend.addr);
    for number in 0..LETTERS {
        let ask = Ask::order(&format!("letter-{number}"), 1).header(SCOPE, "north");
        let accepted = ask.header("Prefer", "respond-async").send(gateway.addr);
        assert_eq!(accepted.status, 202, "{accepted:?}");
    }
    (0..LETTERS).for_each(|_| backend.next().fail());
    gateway.wait_for_metric("hapax_died_total{reason=\"exhausted\"}", LETTERS as f64);
}

async fn count(store: &dyn Store, state: StateName) -> u64 {
    let filter = Filter {
        state: Some(state),
        ..Filter::default()
    };
    store.list(filter, None, 1000).await.unwrap().records.len() as u64
}

/// How often each was redriven, by the audit.
fn redriven(rig: &Rig) -> BTreeMap<String, u64> {
    let audit = hapax(&["audit", "--json", "--limit", "1000", "--store", &rig.store_url()]);
    let mut times = BTreeMap::new();
    for line in audit.stdout.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["action"], "redrive", "{entry}");
        *times.entry(entry["key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    times
}

#[track_caller]
fn wait(come: impl Fn() -> bool, log: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < until, "it never came: {}", log());
        thread::sleep(Duration::from_millis(2));
    }
}
