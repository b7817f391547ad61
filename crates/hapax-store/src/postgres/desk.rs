//! What people and the sweeper ask for: seldom, one at a time.

use hapax_core::{
    Census, Cursor, DeadReason, Fence, Filter, Key, LastError, Name, Operation, Page, RecipeId, Scope, StateName,
    StoreErrorKind, Summary, Swept, Timestamp,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::failure::Failure;
use super::link::Link;
use super::rows;
use super::statements::{
    CENSUS, LIST, LIST_DEAD, LIST_GROUP, LIST_WAITING, RAISE_FENCE, RECIPE, RECIPE_TEXT, SCOPES, SECRET, SWEEP,
};
use super::time::Reading;
use crate::clock::Clock;

/// How often a step is tried again after losing a race.
pub(super) const ROUNDS: usize = 20;

pub(super) async fn list(
    link: &mut Link,
    clock: &Clock,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, Failure> {
    let limit = limit.clamp(1, 1000);
    let start = after.map_or(i64::MIN, |Cursor(position)| position);
    let id = named(filter).map(|operation| operation.id());
    let id: Option<&[u8]> = id.as_ref().map(|id| id.as_bytes().as_slice());
    let state = filter.state.map(StateName::as_str);
    let dead = filter.dead.map(DeadReason::as_str);
    let (since, before) = (
        filter.since.map(Timestamp::as_millis),
        filter.before.map(Timestamp::as_millis),
    );
    // One more than asked for says whether there is a next page.
    let count = limit as i64 + 1;
    let reading = Reading::begin(clock);
    let (scope, name, key) = (word(&filter.scope), word(&filter.name), word(&filter.key));
    let group = filter.group.as_ref().map(|group| group.as_bytes().as_slice());
    let mut params = reading.params(&[&start, &id, &scope, &name, &key, &state, &dead, &since, &before, &count]);
    if group.is_some() {
        params.push(&group);
    }
    let sql = match filter.state {
        _ if group.is_some() => &LIST_GROUP,
        _ if id.is_some() => &LIST,
        _ if filter.dead.is_some() => &LIST_DEAD,
        Some(StateName::Dead) => &LIST_DEAD,
        Some(StateName::Waiting) => &LIST_WAITING,
        _ => &LIST,
    };
    let rows = link.run(sql, &params).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    let now = reading.end(clock, rows.first().ok_or_else(|| corrupt("no time"))?);
    let mut found = Vec::new();
    for row in &rows {
        if let Some(position) = row.get::<_, Option<i64>>(2) {
            found.push((position, summary(row).map_err(corrupt)?));
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(position, _)| Cursor(*position));
    Ok(Page {
        now,
        records: found.into_iter().map(|(_, summary)| summary).collect(),
        next,
    })
}

/// The operation that a filter names in full: found by its identity.
fn named(filter: &Filter) -> Option<Operation> {
    Some(Operation::new(
        Scope::new(filter.scope.as_deref()?).ok()?,
        Name::new(filter.name.as_deref()?).ok()?,
        Key::new(filter.key.as_deref()?).ok()?,
    ))
}

/// A word to look for. PostgreSQL refuses a text with a NUL; no record has such a word, nor an empty one.
fn word(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(|text| if text.contains('\0') { "" } else { text })
}

/// A row of `list.sql` from its fourth column on.
fn summary(row: &Row) -> Result<Summary, &'static str> {
    let time = |column| Timestamp::from_millis(row.get(column));
    Ok(Summary {
        operation: rows::operation(row, 3)?,
        state: StateName::parse(row.get(6)).ok_or("an unknown state")?,
        fence: Fence::new(row.get::<_, i64>(7) as u64),
        tries: row.get::<_, i64>(8) as u32,
        created: time(9),
        since: time(10),
        until: row.get::<_, Option<i64>>(11).map(Timestamp::from_millis),
        status: row.get::<_, Option<i32>>(12).map(|status| status as u16),
        dead: match row.get::<_, Option<&str>>(13) {
            Some(reason) => Some(DeadReason::parse(reason).ok_or("an unknown reason")?),
            None => None,
        },
        last_error: row.get::<_, Option<&str>>(14).map(LastError::new),
        // No record, no summary: the column is there.
        has_input: row.get(15),
        redriven: row.get::<_, Option<i64>>(16).map(Timestamp::from_millis),
        group: rows::group(row.get::<_, Option<&[u8]>>(17))?,
    })
}

pub(super) async fn sweep(link: &mut Link, clock: &Clock, limit: usize) -> Result<Swept, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let reading = Reading::begin(clock);
    let rows = link.run(&SWEEP, &reading.params(&[&limit])).await?;
    let Some(row) = rows.first() else {
        return Ok(Swept::default());
    };
    reading.end(clock, row);
    let count = |column| row.get::<_, i64>(column) as usize;
    Ok(Swept {
        lapsed: count(2),
        stripped: count(3),
        forgotten: count(4),
        looked_at: count(5),
    })
}

pub(super) async fn census(link: &mut Link, clock: &Clock, scopes: bool) -> Result<Census, Failure> {
    let reading = Reading::begin(clock);
    let rows = link.run(&CENSUS, &reading.params(&[])).await?;
    let corrupt = |what| Failure::corrupt(what, &link.target().label);
    let row = rows.first().ok_or_else(|| corrupt("no time"))?;
    reading.end(clock, row);
    let count = |column| row.get::<_, i64>(column) as u64;
    let time = |column| row.get::<_, Option<i64>>(column).map(Timestamp::from_millis);
    let mut census = Census {
        waiting: count(2),
        unknown: count(3),
        dead: count(4),
        oldest_due: time(5),
        oldest_unknown: time(6),
        scopes: Vec::new(),
    };
    if scopes {
        for row in link.run(&SCOPES, &[]).await? {
            let scope = Scope::new(row.get::<_, &str>(0));
            let scope = scope.map_err(|_| Failure::corrupt("an invalid scope", &link.target().label))?;
            census.scopes.push((scope, row.get::<_, i64>(1) as u64));
        }
    }
    Ok(census)
}

pub(super) async fn recipe(link: &mut Link, text: &str) -> Result<RecipeId, Failure> {
    let digest = blake3::hash(text.as_bytes());
    for _ in 0..ROUNDS {
        let rows = link.run(&RECIPE, &[&digest.as_bytes().as_slice(), &text]).await?;
        if let Some(row) = rows.first() {
            return Ok(RecipeId::new(row.get::<_, i64>(0) as u32));
        }
    }
    Err(Failure::raced("number a recipe", &link.target().label))
}

pub(super) async fn recipe_text(link: &mut Link, recipe: RecipeId) -> Result<Option<String>, Failure> {
    let rows = link.run(&RECIPE_TEXT, &[&i64::from(recipe.get())]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}

/// Raises the fence. Whatever draws one writes records, and waits for that until this is over.
pub(super) async fn raise_fence(link: &mut Link, at_least: Fence) -> Result<(), Failure> {
    const LOCK: &str = "LOCK TABLE hapax_record IN SHARE ROW EXCLUSIVE MODE";
    let label = link.target().label.clone();
    let fence = at_least.get() as i64;
    let raise = async |client: &mut Client| {
        let transaction = client.transaction().await?;
        transaction.batch_execute(LOCK).await?;
        transaction
            .query_typed(RAISE_FENCE.text, &[(&fence, Type::INT8)])
            .await?;
        transaction.commit().await
    };
    raise(&mut link.live().await?.client)
        .await
        .map_err(|error| Failure::of(&error, "cannot raise the fence", &label))
}

/// The store's secret; `fresh` if it has none.
pub(super) async fn secret(link: &mut Link, fresh: [u8; 32]) -> Result<[u8; 32], Failure> {
    for _ in 0..ROUNDS {
        let rows = link.run(&SECRET, &[&fresh.as_slice()]).await?;
        if let Some(row) = rows.first() {
            return row.get::<_, &[u8]>(0).try_into().map_err(|_| {
                let message = format!(
                    "the secret in {} (hapax_meta) has not 32 bytes: restore it from a backup",
                    link.target().label
                );
                Failure::new(StoreErrorKind::Corrupt, message)
            });
        }
    }
    Err(Failure::raced("make the secret", &link.target().label))
}
