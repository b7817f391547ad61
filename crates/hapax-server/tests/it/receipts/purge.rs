//! Receipts live as long as their records, and longer only until somebody looks.

use super::{Attempt, World};
use crate::support::{Answer, Ask};

const HOUR_MS: i64 = 3_600_000;

#[test]
fn a_receipt_is_removed_after_its_record_and_never_before() {
    let world = World::new();
    let gateway = world.gateway(&[]);
    let mut asked = Ask::order("k", 1).start(gateway.addr);
    let held = world.backend.next();
    let kept = Attempt::of(&held.text);
    world.commit(&kept).unwrap();
    held.answer("made");
    assert_eq!(Answer::read(&mut asked).status, 201);
    drop(gateway);

    // Its record is there, however old it is.
    let age = |operation: &str, hours: i64| {
        let sql = "UPDATE hapax_receipt SET at = at - ?2 WHERE operation = ?1";
        let changed = world.database.execute(sql, (operation, hours * HOUR_MS)).unwrap();
        assert_eq!(changed, 1);
    };
    age(&kept.operation, 40 * 24);
    // These have none; 600 are more than one step.
    let (old, young, seal) = ("0".repeat(32), "1".repeat(32), "2".repeat(32));
    let insert = "INSERT INTO hapax_receipt (operation, fence, sealed) VALUES (?1, 3, ?2)";
    for (operation, sealed) in [(&old, 0), (&young, 0), (&seal, 1)] {
        world.database.execute(insert, (operation, sealed)).unwrap();
    }
    for number in 0..600 {
        let operation = format!("{number:032x}").replacen('0', "f", 1);
        world.database.execute(insert, (&operation, 0)).unwrap();
        age(&operation, 2 * 24);
    }
    age(&old, 2 * 24);
    age(&seal, 2 * 24);
    // Younger than any record is remembered: perhaps the store has lost its record.
    age(&young, 23);

    let gateway = world.gateway(&["--remember-for", "24h"]);
    gateway.wait_for_metric("hapax_receipts_purged_total", 602.0);
    let sql = "SELECT operation FROM hapax_receipt ORDER BY operation";
    let mut statement = world.database.prepare(sql).unwrap();
    let left = statement.query_map([], |row| row.get(0)).unwrap();
    let left: Vec<String> = left.collect::<Result<_, _>>().unwrap();
    let mut expected = [young, kept.operation];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(gateway.metric("hapax_receipts_failures_total"), 0.0);
}
