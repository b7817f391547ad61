//! Reading beside the writer, on connections and threads of their own: no caller's runtime is blocked, and none waits
//! for a commit.

use std::sync::Arc;

use hapax_core::{
    Cursor, Filter, Key, Name, Operation, OperationId, Page, RecipeId, Record, Scope, Summary, Timestamp,
};
use rusqlite::{Connection, Statement, params};

use super::connection::Connector;
use super::failure::{Failure, Outcome};
use super::namespaces::MAX_NAMESPACES;
use super::queue::{CloseOnDrop, Queue};
use super::row;
use super::statements::{LIST, META, NAMESPACE_COUNT, NAMESPACES, NEXT_POSITION, RECIPE_TEXT, RECORD, SUMMARY};
use super::writer::{Reply, now};
use crate::clock::Clock;

/// The most requests answered from one snapshot.
const MAX_BATCH: usize = 64;
/// Positions read in one transaction of a listing.
const STRETCH: i64 = 4_096;

/// What a reader is asked.
pub(super) enum Look {
    Record(OperationId, Reply<(Timestamp, Option<Record>)>),
    RecipeText(RecipeId, Reply<Option<String>>),
    List(Filter, Option<Cursor>, usize, Reply<Page>),
}

/// A reading thread.
pub(super) struct Reader {
    pub(super) connector: Connector,
    pub(super) clock: Clock,
    pub(super) queue: Arc<Queue<Look>>,
}

impl Reader {
    /// Runs until the queue is closed and empty. A connection that failed is replaced when the next request comes.
    pub(super) fn run(self) {
        let _close = CloseOnDrop(&self.queue);
        let mut looks = Vec::new();
        while self.queue.take(&mut looks, MAX_BATCH) {
            match self.connector.reader() {
                Ok(connection) => self.serve(&connection, &mut looks),
                Err(error) => refuse(looks.drain(..), &Failure::from_store(&error)),
            }
        }
    }

    fn serve(&self, connection: &Connection, looks: &mut Vec<Look>) {
        let mut sql = match Statements::prepare(connection) {
            Ok(sql) => sql,
            Err(error) => return refuse(looks.drain(..), &Failure::from(error)),
        };
        loop {
            let (lists, others): (Vec<_>, Vec<_>) = looks.drain(..).partition(|look| matches!(look, Look::List(..)));
            let served = self.serve_snapshot(&mut sql, others).map(|()| {
                for list in lists {
                    self.serve_list(&mut sql, list);
                }
            });
            if served.is_err() || !self.queue.take(looks, MAX_BATCH) {
                return;
            }
        }
    }

    /// Answers requests for single rows from one snapshot, taken after all of them were made.
    fn serve_snapshot(&self, sql: &mut Statements<'_>, looks: Vec<Look>) -> Outcome<()> {
        if looks.is_empty() {
            return Ok(());
        }
        let now = match sql.begin(&self.clock) {
            Ok(now) => now,
            Err(failure) => {
                refuse(looks, &failure);
                return Err(failure);
            }
        };
        for look in looks {
            match look {
                Look::Record(id, reply) => {
                    let record = sql.record(id).map(|found| (now, found.map(|(_, record)| record)));
                    let _ = reply.send(record.map_err(|failure| failure.error()));
                }
                Look::RecipeText(recipe, reply) => {
                    let _ = reply.send(sql.text(recipe).map_err(|failure| failure.error()));
                }
                // Served by itself.
                Look::List(..) => {}
            }
        }
        sql.end()
    }

    fn serve_list(&self, sql: &mut Statements<'_>, look: Look) {
        if let Look::List(filter, after, limit, reply) = look {
            let page = list(sql, &self.clock, &filter, after, limit.clamp(1, 1000));
            let _ = reply.send(page.map_err(|failure| failure.error()));
        }
    }
}

struct Statements<'c> {
    begin: Statement<'c>,
    end: Statement<'c>,
    meta: Statement<'c>,
    record: Statement<'c>,
    recipe_text: Statement<'c>,
    list: Statement<'c>,
    summary: Statement<'c>,
    namespaces: Statement<'c>,
    namespace_count: Statement<'c>,
    next_position: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN")?,
            end: connection.prepare("COMMIT")?,
            meta: connection.prepare(META)?,
            record: connection.prepare(RECORD)?,
            recipe_text: connection.prepare(RECIPE_TEXT)?,
            list: connection.prepare(LIST)?,
            summary: connection.prepare(SUMMARY)?,
            namespaces: connection.prepare(NAMESPACES)?,
            namespace_count: connection.prepare(NAMESPACE_COUNT)?,
            next_position: connection.prepare(NEXT_POSITION)?,
        })
    }

    /// Begins a snapshot; the store's time, not before any time in it.
    fn begin(&mut self, clock: &Clock) -> Outcome<Timestamp> {
        self.begin.execute([])?;
        let last: rusqlite::Result<i64> = self.meta.query_row([], |row| row.get(1));
        match last {
            Ok(last) => Ok(now(clock, Timestamp::from_millis(last))),
            Err(error) => {
                self.end()?;
                Err(error.into())
            }
        }
    }

    fn end(&mut self) -> Outcome<()> {
        self.end.execute([])?;
        Ok(())
    }

    fn record(&mut self, id: OperationId) -> Outcome<Option<(i64, Record)>> {
        let mut rows = self.record.query([id.as_bytes()])?;
        rows.next()?.map(row::record).transpose()
    }

    fn text(&mut self, recipe: RecipeId) -> Outcome<Option<String>> {
        let mut rows = self.recipe_text.query([recipe.get()])?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }
}

/// A page of records: straight to those of one key, else stretch by stretch.
fn list(
    sql: &mut Statements<'_>,
    clock: &Clock,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Outcome<Page> {
    let after = after.map_or(0, |Cursor(position)| position);
    let mut now = sql.begin(clock)?;
    let of_key = of_key(sql, filter, now);
    sql.end()?;
    let mut found = Vec::new();
    if let Some(of_key) = of_key? {
        found = of_key;
        found.retain(|(position, _)| *position > after);
    } else {
        let mut from = Some(after);
        while let Some(position) = from.filter(|_| found.len() <= limit) {
            now = sql.begin(clock)?;
            let next = stretch(sql, filter, position, now, limit + 1 - found.len(), &mut found);
            sql.end()?;
            from = next?;
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
    let Some(first) = sql
        .next_position
        .query_row([from], |row| row.get::<_, Option<i64>>(0))?
    else {
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
    ])?;
    while let Some(row) = rows.next()? {
        let (position, record) = row::record(row)?;
        found.push((position, Summary::of(&record, now)));
    }
    Ok(Some(to))
}

fn refuse(looks: impl IntoIterator<Item = Look>, failure: &Failure) {
    for look in looks {
        match look {
            Look::Record(_, reply) => drop(reply.send(Err(failure.error()))),
            Look::RecipeText(_, reply) => drop(reply.send(Err(failure.error()))),
            Look::List(.., reply) => drop(reply.send(Err(failure.error()))),
        }
    }
}
