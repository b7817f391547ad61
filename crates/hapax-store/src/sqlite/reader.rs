//! Reading beside the writer, on connections and threads of their own: no caller's runtime is blocked, and none waits
//! for a commit.

mod census;
mod listing;

use std::sync::Arc;

use hapax_core::{AuditPage, Census, Cursor, Filter, OperationId, Page, RecipeId, Record, Timestamp};
use rusqlite::{Connection, Statement};

use super::connection::Connector;
use super::failure::{Failure, Outcome};
use super::queue::{CloseOnDrop, Queue};
use super::row;
use super::statements::{
    AUDIT, AUDIT_OF, CENSUS, CENSUS_LAPSED, CENSUS_SCOPES, GROUP_STRETCH, LIST, LIST_GROUP, LIST_OPEN, META,
    NAMESPACE_COUNT, NAMESPACES, NEXT_POSITION, OPEN_STRETCH, RECIPE_TEXT, RECORD, SUMMARY, prepare,
};
use super::writer::{Reply, now};
use crate::clock::Clock;

/// The most requests answered from one snapshot.
const MAX_BATCH: usize = 64;
/// Positions, or records, read in one transaction of a listing: no reading transaction may last long enough to hold up
/// checkpoints.
const STRETCH: i64 = 4_096;

/// What a reader is asked.
pub(super) enum Look {
    Record(OperationId, Reply<(Timestamp, Option<Record>)>),
    RecipeText(RecipeId, Reply<Option<String>>),
    List(Filter, Option<Cursor>, usize, Reply<Page>),
    Audit(Option<OperationId>, Option<Cursor>, usize, Reply<AuditPage>),
    Census(bool, Reply<Census>),
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
            let (rows, long): (Vec<_>, Vec<_>) = looks
                .drain(..)
                .partition(|look| matches!(look, Look::Record(..) | Look::RecipeText(..)));
            let served = self.serve_snapshot(&mut sql, rows).map(|()| {
                for look in long {
                    self.serve_long(&mut sql, look);
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
                Look::List(..) | Look::Audit(..) | Look::Census(..) => {}
            }
        }
        sql.end()
    }

    /// Answers what takes several transactions.
    fn serve_long(&self, sql: &mut Statements<'_>, look: Look) {
        match look {
            Look::List(filter, after, limit, reply) => {
                let page = listing::list(sql, &self.clock, &filter, after, limit.clamp(1, 1000));
                let _ = reply.send(page.map_err(|failure| failure.error()));
            }
            Look::Audit(id, after, limit, reply) => {
                let page = listing::audit(sql, id, after, limit.clamp(1, 1000));
                let _ = reply.send(page.map_err(|failure| failure.error()));
            }
            Look::Census(scopes, reply) => {
                let census = census::census(sql, &self.clock, scopes);
                let _ = reply.send(census.map_err(|failure| failure.error()));
            }
            // Served from one snapshot.
            Look::Record(..) | Look::RecipeText(..) => {}
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
    list_open: Statement<'c>,
    open_stretch: Statement<'c>,
    list_group: Statement<'c>,
    group_stretch: Statement<'c>,
    audit: Statement<'c>,
    audit_of: Statement<'c>,
    census: Statement<'c>,
    census_lapsed: Statement<'c>,
    census_scopes: Statement<'c>,
    summary: Statement<'c>,
    namespaces: Statement<'c>,
    namespace_count: Statement<'c>,
    next_position: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: prepare(connection, "BEGIN")?,
            end: prepare(connection, "COMMIT")?,
            meta: prepare(connection, META)?,
            record: prepare(connection, RECORD)?,
            recipe_text: prepare(connection, RECIPE_TEXT)?,
            list: prepare(connection, LIST)?,
            list_open: prepare(connection, LIST_OPEN)?,
            open_stretch: prepare(connection, OPEN_STRETCH)?,
            list_group: prepare(connection, LIST_GROUP)?,
            group_stretch: prepare(connection, GROUP_STRETCH)?,
            audit: prepare(connection, AUDIT)?,
            audit_of: prepare(connection, AUDIT_OF)?,
            census: prepare(connection, CENSUS)?,
            census_lapsed: prepare(connection, CENSUS_LAPSED)?,
            census_scopes: prepare(connection, CENSUS_SCOPES)?,
            summary: prepare(connection, SUMMARY)?,
            namespaces: prepare(connection, NAMESPACES)?,
            namespace_count: prepare(connection, NAMESPACE_COUNT)?,
            next_position: prepare(connection, NEXT_POSITION)?,
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

    /// Looks at one snapshot.
    fn snapshot<T>(&mut self, clock: &Clock, look: impl FnOnce(&mut Self, Timestamp) -> Outcome<T>) -> Outcome<T> {
        let now = self.begin(clock)?;
        let found = look(self, now);
        self.end()?;
        found
    }

    /// The first position after one; `None` at the end.
    fn next_position(&mut self, after: i64) -> Outcome<Option<i64>> {
        Ok(self.next_position.query_row([after], |row| row.get(0))?)
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

fn refuse(looks: impl IntoIterator<Item = Look>, failure: &Failure) {
    for look in looks {
        match look {
            Look::Record(_, reply) => drop(reply.send(Err(failure.error()))),
            Look::RecipeText(_, reply) => drop(reply.send(Err(failure.error()))),
            Look::List(.., reply) => drop(reply.send(Err(failure.error()))),
            Look::Audit(.., reply) => drop(reply.send(Err(failure.error()))),
            Look::Census(.., reply) => drop(reply.send(Err(failure.error()))),
        }
    }
}
