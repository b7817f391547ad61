//! Pages of records and of the audit.

use hapax_core::{
    AuditPage, Cursor, Filter, Key, Name, Operation, OperationId, Page, Scope, StateName, Summary, Timestamp,
};
use rusqlite::params;

use super::super::failure::Outcome;
use super::super::namespaces::MAX_NAMESPACES;
use super::super::row;
use super::{STRETCH, Statements};
use crate::clock::Clock;

/// A page of records: straight to those of one key, else stretch by stretch.
pub(super) fn list(
    sql: &mut Statements<'_>,
    clock: &Clock,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Outcome<Page> {
    let after = after.map_or(0, |Cursor(position)| position);
    let (mut now, of_key) = sql.snapshot(clock, |sql, now| Ok((now, of_key(sql, filter, now)?)))?;
    let mut found = Vec::new();
    if let Some(of_key) = of_key {
        found = of_key;
        found.retain(|(position, _)| *position > after);
    } else {
        let mut from = Some(after);
        while let Some(position) = from.filter(|_| found.len() <= limit) {
            let wanted = limit + 1 - found.len();
            (now, from) = sql.snapshot(clock, |sql, now| {
                let next = match (filter.group, open_state(filter)) {
                    (Some(group), _) => group_stretch(sql, filter, group, position, now, wanted, &mut found)?,
                    (None, Some(state)) => open_stretch(sql, filter, state, position, now, wanted, &mut found)?,
                    (None, None) => stretch(sql, filter, position, now, wanted, &mut found)?,
                };
                Ok((now, next))
            })?;
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(position, _)| Cursor(*position));
    let records = found.into_iter().map(|(_, summary)| summary).collect();
    Ok(Page { now, records, next })
}

/// All records of the filter's key, oldest first, by their identities in each scope and name that it can be in. `None`
/// if the filter has no key, or if nobody knows where it can be.
fn of_key(sql: &mut Statements<'_>, filter: &Filter, now: Timestamp) -> Outcome<Option<Vec<(i64, Summary)>>> {
    let Some(key) = &filter.key else {
        return Ok(None);
    };
    let namespaces = match (&filter.scope, &filter.name) {
        (Some(scope), Some(name)) => vec![(scope.clone(), name.clone())],
        _ if sql.namespace_count.query_row([], |row| row.get::<_, i64>(0))? >= MAX_NAMESPACES => return Ok(None),
        (scope, name) => {
            let rows = sql
                .namespaces
                .query_map((scope, name), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?
        }
    };
    let mut found = Vec::new();
    for (scope, name) in namespaces {
        // What cannot be a word has no records.
        let (Ok(scope), Ok(name), Ok(key)) = (Scope::new(scope), Name::new(name), Key::new(key.as_str())) else {
            continue;
        };
        let id = Operation::new(scope, name, key).id();
        let mut rows = sql.summary.query([id.as_bytes()])?;
        if let Some(row) = rows.next()? {
            let (position, record) = row::record(row)?;
            let summary = Summary::of(&record, now);
            if filter.holds(&summary) {
                found.push((position, summary));
            }
        }
    }
    found.sort_by_key(|(position, _)| *position);
    Ok(Some(found))
}

/// Looks through one stretch of positions after `from`. The position to go on from; `None` at the end.
fn stretch(
    sql: &mut Statements<'_>,
    filter: &Filter,
    from: i64,
    now: Timestamp,
    limit: usize,
    found: &mut Vec<(i64, Summary)>,
) -> Outcome<Option<i64>> {
    // Positions have gaps, of any width where records were forgotten.
    let Some(first) = sql.next_position(from)? else {
        return Ok(None);
    };
    let to = first.saturating_add(STRETCH - 1);
    let mut rows = sql.list.query(params![
        from,
        to,
        filter.state.map(|state| state.as_str()),
        now.as_millis(),
        filter.scope,
        filter.name,
        filter.key,
        limit as i64,
        filter.dead.map(|reason| reason.as_str()),
        filter.since.map(Timestamp::as_millis),
        filter.before.map(Timestamp::as_millis),
    ])?;
    while let Some(row) = rows.next()? {
        let (position, record) = row::record(row)?;
        found.push((position, Summary::of(&record, now)));
    }
    Ok(Some(to))
}

/// Looks through the next records of a group after `from`. The position to go on from; `None` at the end.
fn group_stretch(
    sql: &mut Statements<'_>,
    filter: &Filter,
    group: OperationId,
    from: i64,
    now: Timestamp,
    limit: usize,
    found: &mut Vec<(i64, Summary)>,
) -> Outcome<Option<i64>> {
    let to: Option<i64> = sql
        .group_stretch
        .query_row(params![group.as_bytes(), from, STRETCH], |row| row.get(0))?;
    let Some(to) = to else {
        return Ok(None);
    };
    let mut rows = sql.list_group.query(params![
        from,
        to,
        filter.state.map(|state| state.as_str()),
        now.as_millis(),
        filter.scope,
        filter.name,
        filter.key,
        limit as i64,
        filter.dead.map(|reason| reason.as_str()),
        filter.since.map(Timestamp::as_millis),
        filter.before.map(Timestamp::as_millis),
        group.as_bytes(),
    ])?;
    while let Some(row) = rows.next()? {
        let (position, record) = row::record(row)?;
        found.push((position, Summary::of(&record, now)));
    }
    Ok(Some(to))
}

/// The state that a listing can find through the index of what is open. What is unknown is not all there: a claim that
/// lapsed unattended counts too.
fn open_state(filter: &Filter) -> Option<StateName> {
    match (filter.state, filter.dead) {
        (Some(state @ (StateName::Waiting | StateName::Dead)), _) => Some(state),
        (None, Some(_)) => Some(StateName::Dead),
        _ => None,
    }
}

/// Looks through the next records in a state after `from`. The position to go on from; `None` at the end.
fn open_stretch(
    sql: &mut Statements<'_>,
    filter: &Filter,
    state: StateName,
    from: i64,
    now: Timestamp,
    limit: usize,
    found: &mut Vec<(i64, Summary)>,
) -> Outcome<Option<i64>> {
    let to: Option<i64> = sql
        .open_stretch
        .query_row(params![state.as_str(), from, STRETCH], |row| row.get(0))?;
    let Some(to) = to else {
        return Ok(None);
    };
    let mut rows = sql.list_open.query(params![
        from,
        to,
        state.as_str(),
        filter.scope,
        filter.name,
        filter.key,
        filter.dead.map(|reason| reason.as_str()),
        filter.since.map(Timestamp::as_millis),
        filter.before.map(Timestamp::as_millis),
        limit as i64,
    ])?;
    while let Some(row) = rows.next()? {
        let (position, record) = row::record(row)?;
        found.push((position, Summary::of(&record, now)));
    }
    Ok(Some(to))
}

/// A page of the audit.
pub(super) fn audit(
    sql: &mut Statements<'_>,
    id: Option<OperationId>,
    after: Option<Cursor>,
    limit: usize,
) -> Outcome<AuditPage> {
    let after = after.map_or(0, |Cursor(position)| position);
    let up_to = limit as i64 + 1;
    let mut rows = match id {
        Some(id) => sql.audit_of.query(params![after, up_to, id.as_bytes()])?,
        None => sql.audit.query(params![after, up_to])?,
    };
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(row::audit(row)?);
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(position, _)| Cursor(*position));
    Ok((found.into_iter().map(|(_, entry)| entry).collect(), next))
}
