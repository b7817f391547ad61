//! `hapax reconcile`: what records and receipts do not agree on.

use serde_json::Value;

use super::{Attempt, World, url};
use crate::support::{Answer, Ask, Ended, hapax, sqlite};

fn reconcile(world: &World, more: &[&str]) -> Ended {
    let (store, database) = (sqlite(world.directory.path()), url(world.directory.path()));
    hapax(&[&["reconcile", "--store", &store, "--database", &database], more].concat())
}

/// Code and key, or operation, of each finding.
fn findings(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap().iter().map(|finding| {
        let key = finding["record"]["key"].as_str().or(finding["operation"].as_str());
        (finding["code"].as_str().unwrap().to_owned(), key.unwrap().to_owned())
    });
    let mut findings: Vec<_> = findings.collect();
    findings.sort();
    findings
}

#[test]
fn what_disagrees_is_listed() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    let run = |key: &str, with_receipt: bool| {
        let mut asked = Ask::order(key, 1).start(gateway.addr);
        let held = world.backend.next();
        let attempt = Attempt::of(&held.text);
        if with_receipt {
            world.commit(&attempt).unwrap();
        }
        held.answer("made");
        assert_eq!(Answer::read(&mut asked).status, 201);
        attempt
    };
    let fail = |key: &str, status: &str| {
        let mut asked = Ask::order(key, 1).start(gateway.addr);
        let held = world.backend.next();
        let attempt = Attempt::of(&held.text);
        held.say(status, "");
        Answer::read(&mut asked);
        attempt
    };
    run("good", true);
    fail("refused", "404 Not Found");
    fail("to-be-run-again", "500 Internal Server Error");
    let agreed = reconcile(&world, &[]);
    assert_eq!(agreed.code, 0, "{agreed:?}");
    assert_eq!(agreed.stdout, "3 records, 1 receipts, 1 seals: all agree\n");

    run("lacks", false);
    let other = run("other", true);
    let shut = run("shut", true);
    let again = fail("again", "500 Internal Server Error");
    drop(gateway);
    // Nobody knows; then it commits after all.
    let gateway = world.believing(&[]);
    let mut asked = Ask::order("late", 1).start(gateway.addr);
    let held = world.backend.next();
    let late = Attempt::of(&held.text);
    drop(gateway);
    drop(held);
    let _ = std::io::Read::read(&mut asked, &mut [0]);
    world.commit(&late).unwrap();
    let change = |attempt: &Attempt, to: &str| {
        let sql = format!("UPDATE hapax_receipt SET {to} WHERE operation = ?1");
        assert_eq!(world.database.execute(&sql, [&attempt.operation]).unwrap(), 1);
    };
    change(&other, "status = 200");
    change(&shut, "status = NULL, body = NULL, sealed = 1");
    change(&again, "status = 201, sealed = 0");
    let (lost, old) = ("1".repeat(32), "2".repeat(32));
    for (operation, days) in [(&lost, 29), (&old, 31)] {
        let insert = "INSERT INTO hapax_receipt (operation, fence, at) VALUES (?1, 3, \
                      CAST((julianday('now') - 2440587.5 - ?2) * 86400000 AS INTEGER))";
        world.database.execute(insert, (operation, days)).unwrap();
    }
    let expected = [
        ("no-receipt", "lacks"),
        ("no-record", &lost),
        ("not-done", "again"),
        ("other-status", "other"),
        ("sealed", "shut"),
        ("unknown", "late"),
    ];
    let expected = expected.map(|(code, key)| (code.to_owned(), key.to_owned()));
    // Until its lease is over, it runs.
    let report = loop {
        let said = reconcile(&world, &["--json"]);
        assert_eq!(said.code, 1, "{said:?}");
        let report = said.json();
        if !report["unknown"].as_array().unwrap().is_empty() {
            break report;
        }
    };
    assert_eq!(findings(&report), expected, "{report}");
    assert_eq!(report["unknown"][0]["key"], "late");
    let said = reconcile(&world, &[]);
    assert!(said.code == 1 && said.stdout.contains("6 disagree"), "{said:?}");
    assert!(said.stdout.contains("unknown for "), "{said:?}");

    let nowhere = hapax(&["reconcile", "--store", &sqlite(world.directory.path())]);
    assert!(
        nowhere.code == 2 && nowhere.stderr.contains("--database URL"),
        "{nowhere:?}"
    );
}
