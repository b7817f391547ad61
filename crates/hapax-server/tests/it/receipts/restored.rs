//! A store that is older than what happened: copied back from a backup.

use std::path::Path;

use hapax_testbed::FreePort;
use rustix::process::Signal;
use serde_json::Value;

use super::process::Shop;
use super::{Attempt, World, is_recorded, until_settled};
use crate::support::{Answer, Ask, Gateway};

const FILES: [&str; 3] = ["hapax.db", "hapax.db-wal", "hapax.db-shm"];

/// Copies a store that nobody has open.
fn copy(from: &Path, to: &Path) {
    for file in FILES {
        let _ = std::fs::remove_file(to.join(file));
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

fn end(mut gateway: Gateway) {
    gateway.process.signal(Signal::TERM);
    assert!(gateway.process.wait().success(), "{}", gateway.process.log());
}

fn later(key: &str) -> Ask {
    Ask::order(key, 1).header("Prefer", "respond-async")
}

/// Asks until the operation is done, and gives what it answered.
fn done(gateway: &Gateway, key: &str) -> String {
    loop {
        let status = gateway.send(&Ask::get(&format!("/.hapax/operations/{key}")));
        let status: Value = serde_json::from_str(&status.body).unwrap();
        if status["state"] == "done" {
            return gateway.send(&Ask::order(key, 1)).body;
        }
        assert!(
            ["running", "waiting"].contains(&status["state"].as_str().unwrap()),
            "{status}"
        );
    }
}

#[test]
fn nothing_runs_twice_after_a_restore() {
    let (shop, directory, backup) = (Shop::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backend = shop.backend();
    let gateway = |more: &[&str]| {
        let arguments = [&["--receipts", shop.url(), "--respond-async"], more].concat();
        Gateway::before(backend.addr, directory.path(), &arguments)
    };
    let before = gateway(&[]);
    assert_eq!(before.send(&Ask::order("old", 1)).status, 201);
    end(before);
    // Accepted, and not run before the backup.
    let nobody = FreePort::take();
    let arguments = ["--receipts", shop.url(), "--respond-async"];
    let before = Gateway::before(nobody.address(), directory.path(), &arguments);
    assert_eq!(before.send(&later("accepted")).status, 202);
    end(before);
    copy(directory.path(), backup.path());

    let lost = gateway(&[]);
    let answers: Vec<Answer> = ["a", "b", "c"].map(|key| lost.send(&Ask::order(key, 1))).into();
    assert_eq!(lost.send(&later("stored")).status, 202);
    let stored = ["accepted", "stored"].map(|key| done(&lost, key));
    end(lost);
    let (orders, attempts, highest) = (shop.orders(), shop.attempts(), shop.highest_fence());
    assert_eq!((orders, attempts), (6, 6));
    copy(backup.path(), directory.path());

    let restored = gateway(&["--recovering"]);
    assert!(restored.send(&Ask::order("old", 1)).is_replay());
    for (key, first) in ["a", "b", "c"].into_iter().zip(&answers) {
        let again = restored.send(&Ask::order(key, 1));
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{key}");
    }
    assert_eq!(restored.send(&later("stored")).status, 202);
    assert_eq!(["accepted", "stored"].map(|key| done(&restored, key)), stored);
    assert_eq!((shop.orders(), shop.attempts()), (orders, attempts), "nothing ran");

    assert_eq!(restored.send(&Ask::order("new", 1)).status, 201);
    assert!(
        shop.highest_fence() > highest + 1_000_000,
        "an attempt that is lost and still on its way may have had any fence up to then"
    );
    assert_eq!((shop.orders(), shop.attempts()), (orders + 1, attempts + 1));
}

#[test]
fn a_record_that_is_older_than_its_seal_is_settled() {
    let (world, backup) = (World::new(), tempfile::tempdir().unwrap());
    let mut gateway = world.gateway(&[]);
    let cut = Ask::order("k", 1).start(gateway.addr);
    let stale = Attempt::of(&world.backend.next().text);
    gateway.process.kill();
    drop(cut);
    copy(world.directory.path(), backup.path());

    let gateway = world.gateway(&[]);
    let retry = std::thread::spawn(move || {
        let answer = until_settled(&gateway, &Ask::order("k", 1));
        end(gateway);
        answer
    });
    world.backend.next().fail();
    assert_eq!(retry.join().unwrap().status, 500);
    copy(backup.path(), world.directory.path());

    let gateway = world.gateway(&["--recovering"]);
    let retry = std::thread::spawn(move || until_settled(&gateway, &Ask::order("k", 1)));
    let held = world.backend.next();
    let attempt = Attempt::of(&held.text);
    assert!(world.commit(&stale).is_err());
    world.commit(&attempt).unwrap();
    held.answer(r#"{"id":7}"#);
    assert_eq!(retry.join().unwrap().status, 201);
    assert_eq!(world.orders(), 1);
}

#[test]
fn a_lost_attempt_that_commits_meanwhile_is_what_is_remembered() {
    let world = World::new();
    let gateway = world.gateway(&["--recovering"]);
    let mut first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let attempt = Attempt::of(&held.text);
    let lost = Attempt {
        operation: attempt.operation.clone(),
        fence: 5,
    };
    world.commit(&lost).unwrap();
    assert!(world.commit(&attempt).is_err());
    held.say("409 Conflict", "it is there already");
    is_recorded(&Answer::read(&mut first));
    is_recorded(&gateway.send(&Ask::order("k", 1)));
    assert_eq!(world.orders(), 1);
}

#[test]
fn nothing_runs_while_the_receipts_of_a_lost_past_cannot_be_read() {
    let world = World::new();
    let gateway = world.gateway(&["--recovering"]);
    world
        .database
        .execute_batch("ALTER TABLE hapax_receipt RENAME TO away")
        .unwrap();
    let refused = gateway.send(&Ask::order("k", 1));
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (503, "upstream-unavailable")
    );
    assert_eq!(world.backend.held(), 0);
    world
        .database
        .execute_batch("ALTER TABLE away RENAME TO hapax_receipt")
        .unwrap();
    let mut first = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    world.commit(&Attempt::of(&held.text)).unwrap();
    held.answer(r#"{"id":7}"#);
    let answer = Answer::read(&mut first);
    assert_eq!((answer.status, world.orders()), (201, 1));
    assert!(gateway.send(&Ask::order("k", 1)).is_replay());
}
