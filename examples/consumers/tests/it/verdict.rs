//! What is wrong with the database when everything is handled.

use std::collections::BTreeMap;
use std::fmt::Debug;

use hapax_consumers::CONSUMERS;
use tokio_postgres::{Client, Error, Row};

use crate::plan::Plan;

/// One line for each table and kind of mistake; empty if all is as it must be.
pub(crate) async fn mistakes(client: &Client, plan: &Plan) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    let rows = |sql: &'static str| client.query(sql, &[]);

    let points = rows("SELECT \"order\", points FROM points").await?;
    once(
        &mut wrong,
        "points",
        &plan.points,
        points.iter().map(|row| (row.get(0), row.get(1))),
    );
    let balances = rows("SELECT customer, points FROM balances").await?;
    once(
        &mut wrong,
        "balances",
        &plan.balances,
        balances.iter().map(|row| (row.get(0), row.get(1))),
    );
    let orders = rows("SELECT id, state FROM orders").await?;
    once(
        &mut wrong,
        "orders",
        &plan.orders,
        orders.iter().map(|row| (row.get(0), row.get(1))),
    );
    let stock = rows("SELECT item, version, pieces FROM stock").await?;
    let counted = |row: &Row| (row.get(0), (row.get(1), row.get(2)));
    once(&mut wrong, "stock", &plan.stock, stock.iter().map(counted));
    let events = plan.events.iter().map(|event| (event.clone(), ())).collect();
    let log = rows("SELECT event FROM stock_log").await?;
    once(&mut wrong, "stock_log", &events, log.iter().map(|row| (row.get(0), ())));
    let letters = plan.letters.iter().map(|letter| (letter.clone(), ())).collect();
    let written = rows("SELECT \"order\", about FROM letters").await?;
    let letter = |row: &Row| ((row.get(0), row.get(1)), ());
    once(&mut wrong, "letters", &letters, written.iter().map(letter));
    let enqueued = rows("SELECT key FROM hapax_record WHERE scope = 'outbox' AND name = 'letters'").await?;
    let keys = plan
        .letters
        .iter()
        .map(|(order, about)| (format!("{order}-{about}"), ()))
        .collect();
    once(&mut wrong, "outbox", &keys, enqueued.iter().map(|row| (row.get(0), ())));

    for consumer in CONSUMERS {
        let open = "SELECT key, state FROM hapax_record WHERE scope = 'messages' AND name = $1 \
                    AND state NOT IN ('done', 'dead') LIMIT 5";
        for row in client.query(open, &[&consumer]).await? {
            wrong.push(format!(
                "{consumer}: {} is {}",
                row.get::<_, &str>(0),
                row.get::<_, &str>(1)
            ));
        }
        let dead = "SELECT coalesce(last_error, ''), input IS NOT NULL FROM hapax_record \
                    WHERE scope = 'messages' AND name = $1 AND state = 'dead'";
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for row in client.query(dead, &[&consumer]).await? {
            let why: &str = row.get(0);
            match plan.dead.keys().find(|known| why.starts_with(**known)) {
                Some(known) if row.get(1) => *counts.entry(*known).or_default() += 1,
                _ => wrong.push(format!(
                    "{consumer}: a dead letter nobody expects, or without its payload: {why}"
                )),
            }
        }
        if counts != plan.dead {
            wrong.push(format!("{consumer}: dead letters are {counts:?}, not {:?}", plan.dead));
        }
    }
    Ok(wrong)
}

/// Compares rows with what must be there, each once.
fn once<K: Ord + Debug, V: PartialEq + Debug>(
    wrong: &mut Vec<String>,
    table: &str,
    expected: &BTreeMap<K, V>,
    rows: impl Iterator<Item = (K, V)>,
) {
    let mut found: BTreeMap<K, Vec<V>> = BTreeMap::new();
    rows.for_each(|(key, value)| found.entry(key).or_default().push(value));
    let twice: Vec<_> = found.iter().filter(|(_, values)| values.len() > 1).collect();
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).collect();
    let strange: Vec<_> = found
        .iter()
        .filter(|(key, values)| expected.get(key) != values.first())
        .collect();
    for (what, count, first) in [
        (
            "more than once",
            twice.len(),
            twice.first().map(|row| format!("{row:?}")),
        ),
        ("missing", missing.len(), missing.first().map(|key| format!("{key:?}"))),
        (
            "not as it must be",
            strange.len(),
            strange.first().map(|row| format!("{row:?}")),
        ),
    ] {
        if let Some(first) = first {
            wrong.push(format!("{table}: {count} {what}, such as {first}"));
        }
    }
}
