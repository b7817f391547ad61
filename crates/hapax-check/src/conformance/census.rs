//! Cases: census.

use std::collections::BTreeMap;

use hapax_core::{Census, Enqueue, Record, StateName, Summary, Timestamp};

use super::Failure;
use super::exam::*;

/// What the census of these records is, as the contract says.
fn expected(records: &[Record], now: Timestamp) -> Census {
    let mut census = Census::default();
    let earliest = |before: Option<Timestamp>, at: Timestamp| Some(before.map_or(at, |before| before.min(at)));
    for record in records {
        let summary = Summary::of(record, now);
        match summary.state {
            // A claim that lapsed unattended, before anybody noticed.
            StateName::Unknown if record.state.name() == StateName::Running && record.wake_at.is_none() => {}
            StateName::Unknown => {
                census.unknown += 1;
                census.oldest_unknown = earliest(census.oldest_unknown, summary.since);
            }
            StateName::Waiting => {
                census.waiting += 1;
                if let Some(due) = summary.until.filter(|due| *due <= now && summary.has_input) {
                    census.oldest_due = earliest(census.oldest_due, due);
                }
            }
            StateName::Dead => census.dead += 1,
            StateName::Running | StateName::Done => {}
        }
    }
    census
}

pub(super) async fn the_census_counts_what_is_not_settled(exam: Exam) -> Checked {
    let store = exam.open().await?;
    ensure_eq!(
        store.census(true).await?,
        Census::default(),
        "the census of an empty store"
    );
    let situations = exam.every_state(&store, "k").await?;
    let other = operation("another", "default", "k").map_err(|error| Failure(error.to_string()))?;
    won(store.claim(exam.ask_for(other.clone())).await?)?;
    for pause in [TICK, LEASE * 20] {
        exam.time.pass(pause);
        let mut records = vec![must_read(&store, other.id()).await?];
        for situation in &situations {
            records.push(must_read(&store, situation.id()).await?);
        }
        let mut census = expected(&records, exam.now());
        ensure!(
            census.waiting > 0 && census.unknown > 0 && census.dead > 0,
            "the suite's own states"
        );
        ensure_eq!(store.census(false).await?, census, "the census");
        let mut scopes = BTreeMap::new();
        for record in &records {
            *scopes.entry(record.operation.scope().clone()).or_insert(0) += 1;
        }
        census.scopes = scopes.into_iter().collect();
        let mut counted = store.census(true).await?;
        counted.scopes.sort();
        ensure_eq!(counted, census, "the census with scopes");
    }
    Ok(())
}

pub(super) async fn the_census_knows_the_longest_due(exam: Exam) -> Checked {
    let store = exam.open().await?;
    let start = exam.now();
    for (key, delay) in [("later", LEASE * 2), ("first", LEASE), ("latest", LEASE * 3)] {
        accepted(store.enqueue(Enqueue { delay, ..exam.lay(key) }).await?)?;
    }
    exam.run(&store, "no input", release()).await?;
    exam.time.pass(LEASE - TICK);
    ensure_eq!(
        store.census(false).await?.oldest_due,
        None,
        "a millisecond before the first is due"
    );
    exam.time.pass(TICK);
    let census = store.census(false).await?;
    ensure_eq!(
        (census.waiting, census.oldest_due),
        (4, Some(start.after(LEASE))),
        "when it is"
    );
    exam.time.pass(LEASE * 5);
    ensure_eq!(
        store.census(false).await?.oldest_due,
        Some(start.after(LEASE)),
        "and still is"
    );
    let taken = store
        .take(hapax_core::Take {
            limit: 1,
            ..exam.take()
        })
        .await?;
    ensure_eq!(keys_of(&taken), ["first"], "the longest due");
    let census = store.census(false).await?;
    ensure_eq!(
        (census.waiting, census.oldest_due),
        (3, Some(start.after(LEASE * 2))),
        "once it was taken"
    );
    Ok(())
}
