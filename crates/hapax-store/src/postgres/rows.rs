//! From rows to records.

use bytes::Bytes;
use hapax_core::{
    AfterFailure, Answer, AttemptId, Cause, DeadReason, Fence, Fingerprint, Input, Key, LastError, Name, NotKept,
    Operation, OperationId, Outcome, RecipeId, Record, Retention, Scope, Starter, State, StateName, Timestamp,
};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// Reads what `read.sql` gives of a record, from column `first` on. The error says what does not make sense.
pub(super) fn full_record(row: &Row, first: usize, operation: Operation) -> Result<Record, &'static str> {
    let columns = Columns { row, first };
    let last_error = columns.text(LAST_ERROR)?.map(LastError::new);
    let time = |column| Ok::<_, &'static str>(columns.get(column)?.map(Timestamp::from_millis));
    Ok(Record {
        crashes: columns.number(CRASHES)?,
        last_error,
        redriven: time(REDRIVEN)?,
        wake_at: time(WAKE_AT)?,
        group: group(columns.get::<&[u8]>(GROUP)?)?,
        input: columns
            .get::<&[u8]>(INPUT)?
            .map(|bytes| Input(Bytes::copy_from_slice(bytes))),
        ..record(row, first, operation)?
    })
}

/// Reads what `claim.sql` gives of a record that it shows to be decided on, from column `first` on: without what only
/// runners and people need.
pub(super) fn record(row: &Row, first: usize, operation: Operation) -> Result<Record, &'static str> {
    let columns = Columns { row, first };
    let state = columns.text(STATE)?.ok_or("no state")?;
    let state = StateName::parse(state).ok_or("an unknown state")?;
    Ok(Record {
        operation,
        fingerprint: Fingerprint::new(
            RecipeId::new(columns.number(RECIPE)?),
            columns.bytes::<32>(FINGERPRINT)?,
        ),
        fence: Fence::new(columns.number(FENCE)?),
        attempt: AttemptId::from_bytes(columns.bytes::<16>(ATTEMPT)?),
        tries: columns.number(TRIES)?,
        crashes: 0,
        created: columns.time(CREATED)?,
        since: columns.time(SINCE)?,
        retention: Retention {
            replay_for: Duration::from_millis(columns.number(REPLAY_FOR)?),
            remember_for: Duration::from_millis(columns.number(REMEMBER_FOR)?),
        },
        input: None,
        last_error: None,
        redriven: None,
        group: None,
        wake_at: None,
        state: columns.state(state)?,
    })
}

/// A group's column.
pub(super) fn group(bytes: Option<&[u8]>) -> Result<Option<OperationId>, &'static str> {
    let id = bytes.map(<[u8; 16]>::try_from).transpose();
    Ok(id
        .map_err(|_| "a group of another length")?
        .map(OperationId::from_bytes))
}

/// Reads scope, name and key, from column `first` on.
pub(super) fn operation(row: &Row, first: usize) -> Result<Operation, &'static str> {
    let columns = Columns { row, first };
    Ok(Operation::new(
        Scope::new(columns.text(0)?.ok_or("no scope")?).map_err(|_| "an invalid scope")?,
        Name::new(columns.text(1)?.ok_or("no name")?).map_err(|_| "an invalid name")?,
        Key::new(columns.text(2)?.ok_or("no key")?).map_err(|_| "an invalid key")?,
    ))
}

const RECIPE: usize = 0;
const FINGERPRINT: usize = 1;
const FENCE: usize = 2;
const ATTEMPT: usize = 3;
const TRIES: usize = 4;
const CREATED: usize = 5;
const SINCE: usize = 6;
const REPLAY_FOR: usize = 7;
const REMEMBER_FOR: usize = 8;
const STATE: usize = 9;
const DEADLINE: usize = 10;
const RUN_UNTIL: usize = 11;
const AFTER_FAILURE: usize = 12;
const DUE: usize = 13;
const REASON: usize = 14;
const STATUS: usize = 15;
const HEADERS: usize = 16;
const BODY: usize = 17;
const STARTER: usize = 18;
const CRASHES: usize = 19;
const LAST_ERROR: usize = 20;
const REDRIVEN: usize = 21;
const WAKE_AT: usize = 22;
const INPUT: usize = 23;
const GROUP: usize = 24;
/// How many there are.
pub(super) const COLUMNS: usize = 25;

/// Columns counted from `first`.
struct Columns<'a> {
    row: &'a Row,
    first: usize,
}

impl<'a> Columns<'a> {
    fn get<T: FromSql<'a>>(&self, column: usize) -> Result<Option<T>, &'static str> {
        self.row
            .try_get(self.first + column)
            .map_err(|_| "a column of another type")
    }

    fn text(&self, column: usize) -> Result<Option<&'a str>, &'static str> {
        self.get(column)
    }

    fn time(&self, column: usize) -> Result<Timestamp, &'static str> {
        self.get(column)?.map(Timestamp::from_millis).ok_or("a missing time")
    }

    fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, &'static str> {
        let number: i64 = self.get(column)?.ok_or("a missing number")?;
        T::try_from(number).map_err(|_| "a number out of range")
    }

    fn bytes<const N: usize>(&self, column: usize) -> Result<[u8; N], &'static str> {
        let bytes: &[u8] = self.get(column)?.ok_or("a missing digest")?;
        bytes.try_into().map_err(|_| "a digest of another length")
    }

    fn state(&self, name: StateName) -> Result<State, &'static str> {
        let reason = || self.text(REASON)?.ok_or("no reason");
        Ok(match name {
            StateName::Running => State::Running {
                deadline: self.time(DEADLINE)?,
                run_until: self.time(RUN_UNTIL)?,
                after_failure: self
                    .text(AFTER_FAILURE)?
                    .and_then(AfterFailure::parse)
                    .ok_or("no after_failure")?,
                starter: self.text(STARTER)?.and_then(Starter::parse).ok_or("no starter")?,
            },
            StateName::Waiting => State::Waiting { due: self.time(DUE)? },
            StateName::Unknown => State::Unknown {
                cause: Cause::parse(reason()?).ok_or("an unknown cause")?,
                answer: self.answer()?,
            },
            StateName::Done => State::Done(match self.answer()? {
                Some(answer) => Outcome::Answer(answer),
                None => Outcome::NotKept(NotKept::parse(reason()?).ok_or("an unknown reason")?),
            }),
            StateName::Dead => State::Dead {
                reason: DeadReason::parse(reason()?).ok_or("an unknown reason")?,
                answer: self.answer()?,
            },
        })
    }

    fn answer(&self) -> Result<Option<Answer>, &'static str> {
        let Some(status) = self.get::<i32>(STATUS)? else {
            return Ok(None);
        };
        let bytes = |column| -> Result<Bytes, &'static str> {
            let bytes: &[u8] = self.get(column)?.ok_or("half an answer")?;
            Ok(Bytes::copy_from_slice(bytes))
        };
        let status = u16::try_from(status).map_err(|_| "a status out of range")?;
        let answer = Answer::decode(status, &bytes(HEADERS)?, bytes(BODY)?).ok_or("broken headers")?;
        Ok(Some(answer))
    }
}
