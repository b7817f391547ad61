//! The database's clock, guarded by this process's.

use std::time::Duration;

use hapax_core::Timestamp;
use hapax_core::time::millis;
use tokio_postgres::Row;

use super::link::Param;
use crate::clock::Clock;

/// The first four parameters of a statement that needs the time (`clock.sql`).
#[derive(Debug)]
pub(super) struct Reading {
    last: Option<i64>,
    expected: Option<i64>,
    max_step: i64,
    given: Option<i64>,
    monotonic: Duration,
}

impl Reading {
    pub(super) fn begin(clock: &Clock) -> Self {
        let given = clock.is_made().then(|| clock.now().as_millis());
        let (_, monotonic) = clock.reading();
        let guard = clock.guard();
        let bounds = guard.bounds(monotonic);
        Self {
            last: bounds.map(|(last, _)| last.as_millis()),
            expected: bounds.map(|(_, expected)| expected.as_millis()),
            max_step: millis(guard.max_step()),
            given,
            monotonic,
        }
    }

    /// The parameters, with a statement's own after them.
    pub(super) fn params<'a>(&'a self, own: &[Param<'a>]) -> Vec<Param<'a>> {
        let mut params: Vec<Param<'a>> = vec![&self.last, &self.expected, &self.max_step, &self.given];
        params.extend_from_slice(own);
        params
    }

    /// Takes the time from a reply, and keeps the guard in step. The statement read the clock soon after the
    /// parameters were made, whenever the reply came.
    pub(super) fn end(&self, clock: &Clock, row: &Row) -> Timestamp {
        if self.given.is_none() {
            let wall: i64 = row.get("wall");
            clock.guard().read(Timestamp::from_millis(wall), self.monotonic);
        }
        Timestamp::from_millis(row.get("now"))
    }
}
