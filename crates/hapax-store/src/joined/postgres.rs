//! The steps on PostgreSQL: the store's own statements, each for one operation.

use std::sync::LazyLock;
use std::time::Duration;

use hapax_core::time::millis;
use hapax_core::{Claim, Enqueue, Fence, Finish, LastError, Lease, OperationId, Outcome, Starter, State, Timestamp};
use tokio_postgres::types::Type;

use super::columns::Columns;
use super::protocol::{Found, Next, Session};
use super::record::{Layout, record};
use super::statement::Statement;
use super::value::{Row, Value};
use super::{Connection, JointError, TimeOuts};
use crate::clock::Clock;
use crate::postgres::Sql;
use crate::postgres::statements as store;

static LOCK_SQL: Sql = Sql {
    name: "lock",
    text: include_str!("postgres/lock.sql"),
    types: &[Type::BYTEA],
};

macro_rules! statements {
    ($($name:ident = $how:ident($of:expr)),+) => {
        $(static $name: LazyLock<Statement> = LazyLock::new(|| Statement::$how(&$of));)+

        /// Every statement that joints run on PostgreSQL, for tests and for who wants to know.
        #[must_use]
        pub fn postgres_statements() -> Vec<&'static Statement> {
            vec![$(&$name),+]
        }
    };
}

statements! {
    CLAIM_PLAIN = single(store::CLAIM_PLAIN),
    CLAIM_FRESH = single(store::CLAIM_FRESH),
    CLAIM_CARRYING = single(store::CLAIM_CARRYING),
    CLAIM = single(store::CLAIM),
    FINISH_DONE = single(store::FINISH_DONE),
    FINISH = single(store::FINISH),
    PASS_TURN = single(store::PASS_TURN),
    ENQUEUE = single(store::ENQUEUE),
    READ = single(store::READ),
    WRITE = single(store::WRITE),
    ENTER = same(store::ENTER),
    LOCK = single(LOCK_SQL)
}

type Answer<T> = Result<T, JointError>;

/// The clock's four parameters, and where the guard stood when they were made.
struct Reading {
    values: [Value<'static>; 4],
    made: bool,
    monotonic: Duration,
}

impl Reading {
    fn begin(clock: &Clock) -> Self {
        let given = clock.is_made().then(|| clock.now().as_millis());
        let (_, monotonic) = clock.reading();
        let guard = clock.guard();
        let bounds = guard.bounds(monotonic);
        Self {
            values: [
                bounds.map(|(last, _)| last.as_millis()).into(),
                bounds.map(|(_, expected)| expected.as_millis()).into(),
                millis(guard.max_step()).into(),
                given.into(),
            ],
            made: given.is_some(),
            monotonic,
        }
    }

    /// The time of a row that shows `now` and `wall` in these columns; keeps the guard in step.
    fn end(&self, clock: &Clock, row: &Row, now: usize, wall: usize) -> Answer<Timestamp> {
        if !self.made {
            let wall = row.must_int(wall).map_err(JointError::corrupt)?;
            clock.guard().read(Timestamp::from_millis(wall), self.monotonic);
        }
        let now = row.must_int(now).map_err(JointError::corrupt)?;
        Ok(Timestamp::from_millis(now))
    }
}

impl<C: Connection + ?Sized> Session<'_, C> {
    async fn query(&mut self, statement: &'static Statement, values: &[Value<'_>]) -> Answer<Vec<Row>> {
        self.connection.run(statement, values, self.joint.prepared).await
    }

    async fn timed(&mut self, statement: &'static Statement, own: &[Value<'_>]) -> Answer<(Reading, Vec<Row>)> {
        let reading = Reading::begin(&self.joint.clock);
        let mut values: Vec<Value<'_>> = Vec::with_capacity(reading.values.len() + own.len());
        values.extend_from_slice(&reading.values);
        values.extend_from_slice(own);
        let rows = self.query(statement, &values).await?;
        Ok((reading, rows))
    }
}

/// The parameters of the statements that claim; the last two are for those that carry.
fn claim_values<'a>(claim: &'a Claim, id: &'a OperationId) -> [Value<'a>; 17] {
    [
        id.as_bytes().into(),
        claim.operation.scope().as_str().into(),
        claim.operation.name().as_str().into(),
        claim.operation.key().as_str().into(),
        i64::from(claim.fingerprint.recipe().get()).into(),
        claim.fingerprint.digest().into(),
        claim.attempt.as_bytes().into(),
        i64::from(claim.starter != Starter::Caller).into(),
        millis(claim.lease).into(),
        millis(claim.max_run).into(),
        claim.after_failure.as_str().into(),
        millis(claim.retention.replay_for).into(),
        millis(claim.retention.remember_for).into(),
        claim.starter.as_str().into(),
        claim.attended.into(),
        claim.input.as_ref().map(|input| &input.0[..]).into(),
        claim.group.as_ref().map(|group| &group.as_bytes()[..]).into(),
    ]
}

pub(super) async fn claim_fresh<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    claim: &Claim,
) -> Answer<Option<(Timestamp, Lease)>> {
    let id = claim.operation.id();
    let values = claim_values(claim, &id);
    let without = &values[..values.len() - 2];
    let (statement, values) = match store::carries(claim) {
        true => (&CLAIM_CARRYING, &values[..]),
        false if store::is_plain(claim) => (&CLAIM_PLAIN, without),
        false => (&CLAIM_FRESH, without),
    };
    let (reading, rows) = session.timed(statement, values).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let now = reading.end(&session.joint.clock, row, 1, 2)?;
    let lease = lease(row, [3, 4, 5, 6])?;
    Ok(Some((now, lease)))
}

/// Which operations are new, in their order, and are done by this transaction.
pub(super) async fn enter<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    claims: &[Claim],
    outcome: &Outcome,
    time_outs: &TimeOuts,
) -> Answer<(Option<Timestamp>, Vec<bool>)> {
    let Some(first) = claims.first() else {
        return Ok((None, Vec::new()));
    };
    let ids: Vec<OperationId> = claims.iter().map(|claim| claim.operation.id()).collect();
    let mut packed = Vec::with_capacity(64 * claims.len());
    let mut keys = String::new();
    for (claim, id) in claims.iter().zip(&ids) {
        packed.extend_from_slice(id.as_bytes());
        packed.extend_from_slice(claim.attempt.as_bytes());
        packed.extend_from_slice(claim.fingerprint.digest());
        if !keys.is_empty() {
            keys.push('\n');
        }
        keys.push_str(claim.operation.key().as_str());
    }
    let state = State::Done(outcome.clone());
    let columns = Columns::of(&state);
    let [lock, idle, statement] =
        [time_outs.lock, time_outs.idle, time_outs.statement].map(|time| millis(time).to_string());
    let values = [
        packed[..].into(),
        keys.as_str().into(),
        first.operation.scope().as_str().into(),
        first.operation.name().as_str().into(),
        i64::from(first.fingerprint.recipe().get()).into(),
        millis(first.retention.replay_for).into(),
        millis(first.retention.remember_for).into(),
        columns.status.into(),
        columns.headers.as_deref().into(),
        columns.body.into(),
        lock.as_str().into(),
        idle.as_str().into(),
        statement.as_str().into(),
    ];
    let (reading, rows) = session.timed(&ENTER, &values).await?;
    let now = match rows.first() {
        Some(row) => Some(reading.end(&session.joint.clock, row, 1, 2)?),
        None => None,
    };
    let mut new = std::collections::HashSet::with_capacity(rows.len());
    for row in &rows {
        new.insert(row.digest::<16>(0).map_err(JointError::corrupt)?);
    }
    // Of copies the first one counts.
    let entered = ids.iter().map(|id| new.remove(id.as_bytes())).collect();
    Ok((now, entered))
}

/// Takes over a record that was locked and decided on.
pub(super) async fn claim_again<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    _: &Found,
    claim: &Claim,
    _: Timestamp,
) -> Answer<Option<Lease>> {
    const WON: usize = 1;
    let id = claim.operation.id();
    let (_, rows) = session.timed(&CLAIM, &claim_values(claim, &id)).await?;
    let won = rows.iter().find(|row| row.int(WON) == Ok(Some(1)));
    won.map(|row| lease(row, [6, 14, 15, 8])).transpose()
}

/// From the columns of fence, deadline, end of the longest run, and tries.
fn lease(row: &Row, columns: [usize; 4]) -> Answer<Lease> {
    let number = |column| row.must_int(column).map_err(JointError::corrupt);
    let [fence, deadline, run_until, tries] = columns;
    Ok(Lease {
        fence: Fence::new(number(fence)? as u64),
        deadline: Timestamp::from_millis(number(deadline)?),
        run_until: Timestamp::from_millis(number(run_until)?),
        tries: number(tries)? as u32,
    })
}

/// Finishes the run of whoever holds the fence; `None` if nobody does.
pub(super) async fn finish_held<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    id: OperationId,
    fence: Fence,
    finish: &Finish,
) -> Answer<Option<Timestamp>> {
    const PASSES: usize = 3;
    // The statement adds its own time.
    let state = finish.state(Timestamp::from_millis(0));
    let columns = Columns::of(&state);
    let (id, fence) = (id.as_bytes(), number(fence));
    let (reading, rows) = if matches!(finish, Finish::Done(_)) {
        let values = [
            id.into(),
            fence.into(),
            columns.reason.into(),
            columns.status.into(),
            columns.headers.as_deref().into(),
            columns.body.into(),
        ];
        session.timed(&FINISH_DONE, &values).await?
    } else {
        let values = [
            id.into(),
            fence.into(),
            state.name().as_str().into(),
            columns.due.into(),
            columns.reason.into(),
            columns.status.into(),
            columns.headers.as_deref().into(),
            columns.body.into(),
            finish.last_error().map(LastError::as_str).into(),
            matches!(finish, Finish::Release { counts: false, .. }).into(),
        ];
        session.timed(&FINISH, &values).await?
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let now = reading.end(&session.joint.clock, row, 0, 1)?;
    if row.must_int(PASSES).map_err(JointError::corrupt)? != 0 {
        session.timed(&PASS_TURN, &[id.into()]).await?;
    }
    Ok(Some(now))
}

pub(super) async fn enqueue_fresh<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    enqueue: &Enqueue,
) -> Answer<Option<Timestamp>> {
    let id = enqueue.operation.id();
    let values = [
        id.as_bytes().into(),
        enqueue.operation.scope().as_str().into(),
        enqueue.operation.name().as_str().into(),
        enqueue.operation.key().as_str().into(),
        i64::from(enqueue.fingerprint.recipe().get()).into(),
        enqueue.fingerprint.digest().into(),
        enqueue.attempt.as_bytes().into(),
        millis(enqueue.delay).into(),
        millis(enqueue.retention.replay_for).into(),
        millis(enqueue.retention.remember_for).into(),
        enqueue.input.0[..].into(),
        enqueue.group.as_ref().map(|group| &group.as_bytes()[..]).into(),
    ];
    let (_, rows) = session.timed(&ENQUEUE, &values).await?;
    let now = rows.first().map(|row| row.must_int(1)).transpose();
    Ok(now.map_err(JointError::corrupt)?.map(Timestamp::from_millis))
}

/// Locks a record's row until the transaction ends, waiting for whoever has it. A row that is not there is not locked.
pub(super) async fn lock<C: Connection + ?Sized>(session: &mut Session<'_, C>, id: OperationId) -> Answer<()> {
    session.query(&LOCK, &[id.as_bytes().into()]).await.map(|_| ())
}

/// The record as the transaction sees it, or what there is of it; and the time.
pub(super) async fn find<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    id: OperationId,
) -> Answer<(Timestamp, Option<Found>)> {
    const LAYOUT: Layout = Layout {
        words: 3,
        fence: 8,
        rest: 9,
    };
    let (reading, rows) = session.timed(&READ, &[id.as_bytes().into()]).await?;
    let row = rows.first().ok_or_else(|| JointError::corrupt("no time"))?;
    let now = reading.end(&session.joint.clock, row, 0, 1)?;
    if row.text(LAYOUT.words).map_err(JointError::corrupt)?.is_none() {
        return Ok((now, None));
    }
    let record = record(row, &LAYOUT).map_err(JointError::corrupt)?;
    let found = Found {
        #[cfg(feature = "sqlite")]
        position: 0,
        record,
    };
    Ok((now, Some(found)))
}

/// Writes what was decided on a record, if it is still the one that it was decided on.
pub(super) async fn write<C: Connection + ?Sized>(
    session: &mut Session<'_, C>,
    found: &Found,
    next: &Next<'_>,
) -> Answer<bool> {
    let (before, after) = (&found.record, next.record);
    let id = before.operation.id();
    let state = Columns::of(&after.state);
    let time = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let keeps_input = after.input == before.input;
    let values = [
        id.as_bytes().into(),
        number(before.fence).into(),
        before.state.name().as_str().into(),
        before.since.as_millis().into(),
        deadline(&before.state).into(),
        time(before.wake_at).into(),
        next.new_fence.into(),
        after.attempt.as_bytes().into(),
        i64::from(after.tries).into(),
        i64::from(after.crashes).into(),
        after.since.as_millis().into(),
        after.state.name().as_str().into(),
        state.deadline.into(),
        state.run_until.into(),
        state.after_failure.into(),
        state.starter.into(),
        state.due.into(),
        state.reason.into(),
        state.status.into(),
        state.headers.as_deref().into(),
        state.body.into(),
        after.last_error.as_ref().map(|error| error.as_str()).into(),
        time(after.redriven).into(),
        time(after.wake_at).into(),
        time(next.look_at).into(),
        keeps_input.into(),
        after
            .input
            .as_ref()
            .filter(|_| !keeps_input)
            .map(|input| &input.0[..])
            .into(),
        Value::Int(None),
        Value::Text(None),
        Value::Text(None),
        Value::Text(None),
        Value::Text(None),
    ];
    let rows = session.query(&WRITE, &values).await?;
    Ok(!rows.is_empty())
}

fn deadline(state: &State) -> Option<i64> {
    match state {
        State::Running { deadline, .. } => Some(deadline.as_millis()),
        _ => None,
    }
}

fn number(fence: Fence) -> i64 {
    // No store gives a fence beyond that range; such a one matches nothing.
    i64::try_from(fence.get()).unwrap_or(-1)
}
