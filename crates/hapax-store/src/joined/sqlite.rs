//! The steps on SQLite: the store's own statements, on the caller's connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hapax_core::record::FinishVerdict;
use hapax_core::time::millis;
use hapax_core::{Claim, Enqueue, Fence, Finish, Lease, Operation, OperationId, Outcome, Record, State, Timestamp};

use super::columns::Columns;
use super::protocol::{Found, Next, Session};
use super::record::{Layout, record};
use super::statement::Statement;
use super::value::{Row, Value};
use super::{Connection, Dialect, JointError, TimeOuts};
use crate::sqlite::MAX_NAMESPACES;

/// The highest fence that the joints of one store have drawn: one drawn in a transaction that was rolled back is not
/// drawn again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drawn(Arc<AtomicI64>);

macro_rules! statements {
    ($($name:ident: $file:literal $(, $more:literal)?;)+) => {
        $(static $name: Statement = Statement::sqlite($file, concat!(include_str!(concat!($file, ".sql")), $($more)?));)+

        /// Every statement that joints run on SQLite, for tests and for who wants to know.
        #[must_use]
        pub fn sqlite_statements() -> Vec<&'static Statement> {
            vec![$(&$name),+]
        }
    };
}

statements! {
    DRAW: "sqlite/meta_draw";
    META: "../sqlite/sql/meta";
    CLAIM_FRESH: "../sqlite/sql/claim_fresh", "RETURNING position";
    ENTER: "sqlite/enter";
    CLAIM_AGAIN: "../sqlite/sql/claim_again", "RETURNING position";
    PASS_TURN: "../sqlite/sql/pass_turn";
    FINISH_FIRST: "../sqlite/sql/finish_first", "RETURNING position";
    ENQUEUE_FRESH: "../sqlite/sql/enqueue_fresh", "RETURNING position";
    NAMESPACE_ADD: "sqlite/namespace_add";
    RECORD: "../sqlite/sql/record";
    WRITE: "../sqlite/sql/write", "RETURNING position";
    LOOK_AGAIN: "../sqlite/sql/look_again";
}

type Answer<T> = Result<T, JointError>;

impl<C: Connection + ?Sized> Session<'_, C> {
    async fn rows(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Answer<Vec<Row>> {
        self.connection.run(statement, values, self.joint.prepared).await
    }

    /// Whether a guarded statement found its row.
    async fn wrote(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Answer<bool> {
        Ok(!self.rows(statement, values).await?.is_empty())
    }

    /// The store's time; and the last of so many new fences.
    async fn draw(&mut self, fences: i64) -> Answer<(Timestamp, i64)> {
        let now = self.joint.clock.now();
        let highest = match &self.joint.dialect {
            Dialect::Sqlite(drawn) => Arc::clone(&drawn.0),
            #[cfg(feature = "postgres")]
            Dialect::Postgres => Arc::default(),
        };
        let values = [
            fences.into(),
            now.as_millis().into(),
            highest.load(Ordering::Relaxed).into(),
        ];
        let rows = self.rows(&DRAW, &values).await?;
        let (fence, last) = meta(&rows)?;
        highest.fetch_max(fence, Ordering::Relaxed);
        Ok((self.at_least(now, last), fence))
    }

    /// A time that another process has used is not gone back behind.
    fn at_least(&self, now: Timestamp, last: Timestamp) -> Timestamp {
        if now >= last {
            return now;
        }
        self.joint.clock.advance_to(last);
        last
    }

    async fn add_namespace(&mut self, operation: &Operation) -> Answer<()> {
        let (scope, name) = (operation.scope().as_str(), operation.name().as_str());
        self.rows(&NAMESPACE_ADD, &[scope.into(), name.into(), MAX_NAMESPACES.into()])
            .await
            .map(|_| ())
    }
}

fn meta(rows: &[Row]) -> Answer<(i64, Timestamp)> {
    let row = rows.first().ok_or_else(|| JointError::corrupt("hapax_meta is empty"))?;
    let number = |column| row.must_int(column).map_err(JointError::corrupt);
    Ok((number(0)?, Timestamp::from_millis(number(1)?)))
}

pub(super) async fn claim_fresh<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    claim: &Claim,
) -> Answer<Option<(Timestamp, Lease)>> {
    let (now, fence) = session.draw(1).await?;
    let (record, lease) = Record::started(None, claim, Fence::new(fence as u64), now);
    let operation = &record.operation;
    let id = operation.id();
    let values = [
        fence.into(),
        id.as_bytes().into(),
        operation.scope().as_str().into(),
        operation.name().as_str().into(),
        operation.key().as_str().into(),
        i64::from(record.fingerprint.recipe().get()).into(),
        record.fingerprint.digest().into(),
        record.attempt.as_bytes().into(),
        i64::from(record.tries).into(),
        record.created.as_millis().into(),
        millis(record.retention.replay_for).into(),
        millis(record.retention.remember_for).into(),
        lease.deadline.as_millis().into(),
        lease.run_until.as_millis().into(),
        claim.after_failure.as_str().into(),
        claim.starter.as_str().into(),
        record.wake_at.map(Timestamp::as_millis).into(),
        Record::first_look(claim, now).as_millis().into(),
        claim.input.as_ref().map(|input| &input.0[..]).into(),
        claim.group.as_ref().map(|group| &group.as_bytes()[..]).into(),
    ];
    if !session.wrote(&CLAIM_FRESH, &values).await? {
        return Ok(None);
    }
    session.add_namespace(operation).await?;
    Ok(Some((now, lease)))
}

/// Which operations are new, in their order, and are done by this transaction.
pub(super) async fn enter<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    claims: &[Claim],
    outcome: &Outcome,
    _: &TimeOuts,
) -> Answer<(Option<Timestamp>, Vec<bool>)> {
    let (now, last) = session.draw(claims.len() as i64).await?;
    let state = State::Done(outcome.clone());
    let columns = Columns::of(&state);
    let mut entered = Vec::with_capacity(claims.len());
    for (claim, fence) in claims.iter().zip(last - claims.len() as i64 + 1..) {
        let (operation, id) = (&claim.operation, claim.operation.id());
        let values = [
            fence.into(),
            id.as_bytes().into(),
            operation.scope().as_str().into(),
            operation.name().as_str().into(),
            operation.key().as_str().into(),
            i64::from(claim.fingerprint.recipe().get()).into(),
            claim.fingerprint.digest().into(),
            claim.attempt.as_bytes().into(),
            now.as_millis().into(),
            millis(claim.retention.replay_for).into(),
            millis(claim.retention.remember_for).into(),
            now.after(claim.retention.replay_for).as_millis().into(),
            columns.status.into(),
            columns.headers.as_deref().into(),
            columns.body.into(),
        ];
        let new = session.wrote(&ENTER, &values).await?;
        if new && !entered.contains(&true) {
            session.add_namespace(operation).await?;
        }
        entered.push(new);
    }
    Ok((Some(now), entered))
}

/// Takes over a record that was decided on.
pub(super) async fn claim_again<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    found: &Found,
    claim: &Claim,
    now: Timestamp,
) -> Answer<Option<Lease>> {
    let (_, fence) = session.draw(1).await?;
    let (record, lease) = Record::started(Some(&found.record), claim, Fence::new(fence as u64), now);
    let values = [
        found.position.into(),
        number(found.record.fence).into(),
        found.record.state.name().as_str().into(),
        fence.into(),
        record.attempt.as_bytes().into(),
        i64::from(record.tries).into(),
        record.since.as_millis().into(),
        millis(record.retention.replay_for).into(),
        millis(record.retention.remember_for).into(),
        lease.deadline.as_millis().into(),
        lease.run_until.as_millis().into(),
        claim.after_failure.as_str().into(),
        claim.starter.as_str().into(),
        record.wake_at.map(Timestamp::as_millis).into(),
        Record::first_look(claim, now).as_millis().into(),
        claim.input.as_ref().map(|input| &input.0[..]).into(),
    ];
    Ok(session.wrote(&CLAIM_AGAIN, &values).await?.then_some(lease))
}

/// Finishes the run of whoever holds the fence; `None` if nobody does.
pub(super) async fn finish_held<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    id: OperationId,
    fence: Fence,
    finish: &Finish,
) -> Answer<Option<Timestamp>> {
    let (now, _) = session.draw(0).await?;
    if matches!(finish, Finish::Done(_)) && finish_first(session, id, fence, finish, now).await? {
        return Ok(Some(now));
    }
    let (_, found) = find(session, id).await?;
    let Some(found) = found else { return Ok(None) };
    let FinishVerdict::Becomes(next) = found.record.finish(fence, finish, now) else {
        return Ok(None);
    };
    let next = Next {
        record: &next,
        new_fence: false,
        look_at: None,
    };
    if !write(session, &found, &next).await? {
        return Ok(None);
    }
    if let Some(group) = next.record.group.filter(|_| next.record.is_done()) {
        let values = [group.as_bytes().into(), found.position.into(), now.as_millis().into()];
        session.rows(&PASS_TURN, &values).await?;
    }
    Ok(Some(now))
}

/// Whether the holder of a first claim has thereby done it: it is at the position of its fence, and need not be read.
async fn finish_first<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    id: OperationId,
    fence: Fence,
    finish: &Finish,
    now: Timestamp,
) -> Answer<bool> {
    let state = finish.state(now);
    let columns = Columns::of(&state);
    let values = [
        number(fence).into(),
        id.as_bytes().into(),
        number(fence).into(),
        now.as_millis().into(),
        columns.reason.into(),
        columns.status.into(),
        columns.headers.as_deref().into(),
        columns.body.into(),
    ];
    session.wrote(&FINISH_FIRST, &values).await
}

pub(super) async fn enqueue_fresh<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    enqueue: &Enqueue,
) -> Answer<Option<Timestamp>> {
    let (now, fence) = session.draw(1).await?;
    let operation = &enqueue.operation;
    let id = operation.id();
    let values = [
        fence.into(),
        id.as_bytes().into(),
        operation.scope().as_str().into(),
        operation.name().as_str().into(),
        operation.key().as_str().into(),
        i64::from(enqueue.fingerprint.recipe().get()).into(),
        enqueue.fingerprint.digest().into(),
        enqueue.attempt.as_bytes().into(),
        now.as_millis().into(),
        millis(enqueue.retention.replay_for).into(),
        millis(enqueue.retention.remember_for).into(),
        now.after(enqueue.delay).as_millis().into(),
        Record::first_look_enqueued(enqueue, now).as_millis().into(),
        enqueue.input.0[..].into(),
        enqueue.group.as_ref().map(|group| &group.as_bytes()[..]).into(),
    ];
    if !session.wrote(&ENQUEUE_FRESH, &values).await? {
        return Ok(None);
    }
    session.add_namespace(operation).await?;
    Ok(Some(now))
}

/// Takes the write lock, which is one for all records.
pub(super) async fn lock<C: Connection + ?Sized>(session: &mut Session<'_, C>, _: OperationId) -> Answer<()> {
    session.draw(0).await.map(|_| ())
}

/// The record as the transaction sees it, and the time.
pub(super) async fn find<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    id: OperationId,
) -> Answer<(Timestamp, Option<Found>)> {
    const LAYOUT: Layout = Layout {
        words: 2,
        fence: 1,
        rest: 7,
    };
    let (_, last) = meta(&session.rows(&META, &[]).await?)?;
    let now = session.at_least(session.joint.clock.now(), last);
    let rows = session.rows(&RECORD, &[id.as_bytes().into()]).await?;
    let found = rows.first().map(|row| {
        Ok(Found {
            position: row.must_int(0)?,
            record: record(row, &LAYOUT)?,
        })
    });
    Ok((now, found.transpose().map_err(JointError::corrupt)?))
}

/// Writes what was decided on a record, if it is still the one that it was decided on.
pub(super) async fn write<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    found: &Found,
    next: &Next<'_>,
) -> Answer<bool> {
    let (before, after) = (&found.record, next.record);
    let fence = match next.new_fence {
        true => session.draw(1).await?.1,
        false => number(after.fence),
    };
    let columns = Columns::of(&after.state);
    let keeps_input = before.input.is_some() && before.input == after.input;
    let values = [
        found.position.into(),
        number(before.fence).into(),
        before.state.name().as_str().into(),
        fence.into(),
        after.attempt.as_bytes().into(),
        after.state.name().as_str().into(),
        after.since.as_millis().into(),
        columns.deadline.into(),
        columns.run_until.into(),
        columns.after_failure.into(),
        columns.starter.into(),
        columns.due.into(),
        columns.reason.into(),
        columns.status.into(),
        columns.headers.as_deref().into(),
        columns.body.into(),
        i64::from(after.tries).into(),
        i64::from(after.crashes).into(),
        after.last_error.as_ref().map(|error| error.as_str()).into(),
        after.redriven.map(Timestamp::as_millis).into(),
        after.wake_at.map(Timestamp::as_millis).into(),
        keeps_input.into(),
        after
            .input
            .as_ref()
            .filter(|_| !keeps_input)
            .map(|input| &input.0[..])
            .into(),
    ];
    if !session.wrote(&WRITE, &values).await? {
        return Ok(false);
    }
    if let Some(look) = next.look_at {
        let values = [found.position.into(), look.as_millis().into()];
        session.rows(&LOOK_AGAIN, &values).await?;
    }
    Ok(true)
}

/// A fence as SQLite keeps it. One that no store ever gave out matches nothing.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(-1)
}
