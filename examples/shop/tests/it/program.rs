//! The `shop` program: its one line, its clean end, and that a `kill -9` loses no answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hapax_shop::Ledger;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use crate::world::{ORDER, appears, exchange};

/// A running shop, killed at the end of its test.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(db: &Path, flags: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_shop"))
            .args(["--listen", "127.0.0.1:0", "--db"])
            .arg(db)
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.strip_prefix("listening on ").expect("the line").trim_end();
        Program {
            child,
            address: address.parse().unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_ends_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("shop.db");
    let mut program = Program::start(&db, &["--test-knobs"]);
    let address = program.address;
    let headers = [("X-Shop-Delay-After", "300ms"), ("Idempotency-Key", "k")];
    let in_flight = tokio::spawn(async move { exchange(address, "POST", "/orders", &headers, ORDER).await });
    appears(address, "/orders/1").await;
    program.signal(Signal::TERM);
    assert_eq!(in_flight.await.unwrap().answer().status, 201);
    let status = tokio::task::spawn_blocking(move || program.child.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success(), "{status}");
    assert!(!dir.path().join("shop.db-wal").exists(), "the database was not closed");
    assert_eq!(Ledger::open(&db).unwrap().total_effects().unwrap(), 1);
}

#[tokio::test]
async fn natural_keys_are_a_flag_and_knobs_are_off() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(&dir.path().join("shop.db"), &["--natural-keys"]);
    let body = r#"{"customer":"ann","client_order_id":"c-1","item":"tea","quantity":2}"#;
    let headers = [("X-Shop-Fail", "500-before")];
    for expected in [201, 409] {
        let answer = exchange(program.address, "POST", "/orders", &headers, body)
            .await
            .answer();
        assert_eq!(answer.status, expected);
    }
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_shop"))
        .args(["--listen", &taken, "--db"])
        .arg(dir.path().join("shop.db"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(message.contains(&taken) && message.contains("--listen"), "{message}");
}

/// Sixteen clients, killed once a hundred answers are in: every answered key has one effect.
#[tokio::test]
async fn a_kill_loses_no_answered_effect() {
    const CLIENTS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("shop.db");
    let program = Program::start(&db, &[]);
    let address = program.address;
    let (acked, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let acked = acked.clone();
        clients.spawn(async move {
            for n in 0.. {
                let key = format!("{client}-{n}");
                let headers = [("Idempotency-Key", key.as_str())];
                let exchange = exchange(address, "POST", "/orders", &headers, ORDER).await;
                if exchange.end.is_err() || exchange.bytes.is_empty() {
                    return;
                }
                assert_eq!(exchange.answer().status, 201);
                acked.send(key).unwrap();
            }
        });
    }
    drop(acked);
    let mut keys = Vec::new();
    while keys.len() < 100 {
        keys.push(answers.recv().await.expect("a hundred answers before the kill"));
    }
    program.signal(Signal::KILL);
    while let Some(key) = answers.recv().await {
        keys.push(key);
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }

    let ledger = Ledger::open(&db).unwrap();
    let effects: BTreeMap<String, u64> = ledger.effects_by_key().unwrap();
    let lost: Vec<_> = keys.iter().filter(|key| effects.get(*key) != Some(&1)).collect();
    assert!(lost.is_empty(), "{lost:?} of {} answered", keys.len());
    // At most the request in flight of each client may have happened without an answer.
    assert!(effects.len() <= keys.len() + CLIENTS);
    assert_eq!(ledger.total_effects().unwrap(), effects.len() as u64);

    let again = Program::start(&db, &[]);
    assert_eq!(
        exchange(again.address, "GET", "/orders/1", &[], "")
            .await
            .answer()
            .status,
        200
    );
}
