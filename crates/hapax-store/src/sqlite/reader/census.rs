//! Counts of what is not settled, and of each scope's records: stretch by stretch, so that a record which changes while
//! it is counted may count twice or not at all.

use std::collections::BTreeMap;

use hapax_core::{Census, Scope, StateName, Timestamp};
use rusqlite::params;

use super::super::failure::{Failure, Outcome};
use super::{STRETCH, Statements};
use crate::clock::Clock;

/// Entries of the index counted in one transaction: they take a tenth of the time of as many records.
const ENTRIES: i64 = 10 * STRETCH;

pub(super) fn census(sql: &mut Statements<'_>, clock: &Clock, scopes: bool) -> Outcome<Census> {
    let waiting = count(sql, clock, StateName::Waiting)?;
    let unknown = count(sql, clock, StateName::Unknown)?;
    let dead = count(sql, clock, StateName::Dead)?;
    let (lapsed, oldest_lapsed) = lapsed(sql, clock)?;
    Ok(Census {
        waiting: waiting.records,
        unknown: unknown.records + lapsed,
        dead: dead.records,
        oldest_due: waiting.oldest_due,
        oldest_unknown: earlier(unknown.oldest, oldest_lapsed),
        scopes: if scopes { of_scopes(sql, clock)? } else { Vec::new() },
    })
}

#[derive(Default)]
struct Count {
    records: u64,
    oldest_due: Option<Timestamp>,
    oldest: Option<Timestamp>,
}

fn count(sql: &mut Statements<'_>, clock: &Clock, state: StateName) -> Outcome<Count> {
    let mut total = Count::default();
    let mut after = Some(0);
    while let Some(from) = after {
        sql.snapshot(clock, |sql, now| {
            let asked = params![state.as_str(), from, ENTRIES, now.as_millis()];
            let mut rows = sql.census.query(asked)?;
            let Some(row) = rows.next()? else {
                return Err(Failure::guard("census"));
            };
            let records: u64 = row.get::<_, i64>(0)?.unsigned_abs();
            after = row.get(1)?;
            total.records += records;
            total.oldest_due = earlier(
                total.oldest_due,
                row.get::<_, Option<i64>>(2)?.map(Timestamp::from_millis),
            );
            total.oldest = earlier(total.oldest, row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis));
            Ok(())
        })?;
    }
    Ok(total)
}

/// How many attended claims lapsed and nobody has noticed, and when the first did.
fn lapsed(sql: &mut Statements<'_>, clock: &Clock) -> Outcome<(u64, Option<Timestamp>)> {
    sql.snapshot(clock, |sql, now| {
        let found = sql.census_lapsed.query_row([now.as_millis()], |row| {
            let first: Option<i64> = row.get(1)?;
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), first.map(Timestamp::from_millis)))
        });
        Ok(found?)
    })
}

fn of_scopes(sql: &mut Statements<'_>, clock: &Clock) -> Outcome<Vec<(Scope, u64)>> {
    let mut counts: BTreeMap<Box<str>, u64> = BTreeMap::new();
    let mut after = Some(0);
    while let Some(from) = after {
        sql.snapshot(clock, |sql, _| {
            let first = sql.next_position(from)?;
            after = first.map(|first| first.saturating_add(STRETCH - 1));
            let mut rows = sql.census_scopes.query(params![from, after])?;
            while let Some(row) = rows.next()? {
                *counts.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?.unsigned_abs();
            }
            Ok(())
        })?;
    }
    let scope = |(scope, count)| match Scope::new(scope) {
        Ok(scope) => Ok((scope, count)),
        Err(error) => Err(Failure::corrupt(format!("a record has {error}"))),
    };
    counts.into_iter().map(scope).collect()
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
