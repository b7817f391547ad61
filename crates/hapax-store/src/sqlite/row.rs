//! Rows and records.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::record::{AfterFailure, Cause, DeadReason};
use hapax_core::{
    Answer, AttemptId, Audit, AuditEntry, Fence, Fingerprint, Input, Key, LastError, Name, NotKept, Operation,
    OperationId, Outcome, RecipeId, Record, Retention, Scope, Starter, State, StateName, Timestamp, WordError,
};
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::failure::{self, Failure};

/// Reads a row of `record.sql`, `due.sql`, `list.sql` and their like: the position and the record. Where the statement
/// left the answer out, the record's answer has its status and no bytes; where it left the input out, the record's input
/// is empty.
pub(super) fn record(row: &Row<'_>) -> failure::Outcome<(i64, Record)> {
    let position: i64 = row.get(0)?;
    let wrong = |what: &str| Failure::corrupt(format!("the record at position {position} has {what}"));
    let record = Record {
        operation: operation(row, 2)?.map_err(|error| wrong(&error.to_string()))?,
        fence: Fence::new(row.get::<_, i64>(1)? as u64),
        fingerprint: Fingerprint::new(RecipeId::new(row.get(5)?), row.get(6)?),
        attempt: AttemptId::from_bytes(row.get(7)?),
        tries: row.get(8)?,
        crashes: row.get(23)?,
        created: time(row, 9)?,
        since: time(row, 10)?,
        retention: Retention {
            replay_for: duration(row, 11)?,
            remember_for: duration(row, 12)?,
        },
        input: match row.get_ref(27)? {
            ValueRef::Blob(bytes) => Some(Input(Bytes::copy_from_slice(bytes))),
            _ => None,
        },
        last_error: word(row, 24, |text| Some(LastError::new(text)))?,
        redriven: row.get::<_, Option<i64>>(25)?.map(Timestamp::from_millis),
        wake_at: row.get::<_, Option<i64>>(26)?.map(Timestamp::from_millis),
        group: row.get::<_, Option<[u8; 16]>>(28)?.map(OperationId::from_bytes),
        state: state(row)?.ok_or_else(|| wrong("a state that does not agree with its columns"))?,
    };
    Ok((position, record))
}

/// Reads a row of `audit.sql` or `audit_of.sql`: the position and the line.
pub(super) fn audit(row: &Row<'_>) -> failure::Outcome<(i64, AuditEntry)> {
    let position: i64 = row.get(0)?;
    let wrong = |what: &str| Failure::corrupt(format!("line {position} of the audit has {what}"));
    let entry = AuditEntry {
        at: time(row, 1)?,
        operation: operation(row, 2)?.map_err(|error| wrong(&error.to_string()))?,
        action: row.get(5)?,
        audit: Audit {
            actor: row.get(6)?,
            reason: row.get(7)?,
        },
        before: word(row, 8, StateName::parse)?.ok_or_else(|| wrong("no such state"))?,
        after: word(row, 9, StateName::parse)?,
    };
    Ok((position, entry))
}

/// The operation whose scope, name and key begin at a column.
fn operation(row: &Row<'_>, column: usize) -> rusqlite::Result<Result<Operation, WordError>> {
    let words: (Box<str>, Box<str>, Box<str>) = (row.get(column)?, row.get(column + 1)?, row.get(column + 2)?);
    let operation = || {
        Ok(Operation::new(
            Scope::new(words.0)?,
            Name::new(words.1)?,
            Key::new(words.2)?,
        ))
    };
    Ok(operation())
}

fn state(row: &Row<'_>) -> failure::Outcome<Option<State>> {
    let Some(name) = word(row, 13, StateName::parse)? else {
        return Ok(None);
    };
    Ok(match name {
        StateName::Running => {
            let (deadline, run_until) = (time(row, 14)?, time(row, 15)?);
            let starter = word(row, 22, Starter::parse)?;
            let after_failure = word(row, 16, AfterFailure::parse)?;
            after_failure
                .zip(starter)
                .map(|(after_failure, starter)| State::Running {
                    deadline,
                    run_until,
                    after_failure,
                    starter,
                })
        }
        StateName::Waiting => Some(State::Waiting { due: time(row, 17)? }),
        StateName::Unknown => {
            let answer = answer(row)?;
            word(row, 18, Cause::parse)?.map(|cause| State::Unknown { cause, answer })
        }
        StateName::Done => match answer(row)? {
            Some(answer) => Some(State::Done(Outcome::Answer(answer))),
            None => word(row, 18, NotKept::parse)?.map(|reason| State::Done(Outcome::NotKept(reason))),
        },
        StateName::Dead => {
            let answer = answer(row)?;
            word(row, 18, DeadReason::parse)?.map(|reason| State::Dead { reason, answer })
        }
    })
}

fn answer(row: &Row<'_>) -> failure::Outcome<Option<Answer>> {
    let Some(status) = row.get::<_, Option<u16>>(19)? else {
        return Ok(None);
    };
    Answer::decode(status, &blob(row, 20)?, blob(row, 21)?)
        .map(Some)
        .ok_or_else(|| Failure::corrupt("a record has headers that were not written by hapax"))
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(match row.get_ref(column)? {
        ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
        _ => Bytes::new(),
    })
}

fn word<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<Option<T>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(parse),
        _ => None,
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

fn duration(row: &Row<'_>, column: usize) -> rusqlite::Result<Duration> {
    Ok(Duration::from_millis(row.get::<_, i64>(column)?.max(0) as u64))
}

/// The columns that a state has.
pub(super) struct Columns<'a> {
    pub(super) deadline: Option<i64>,
    pub(super) run_until: Option<i64>,
    pub(super) after_failure: Option<&'static str>,
    pub(super) starter: Option<&'static str>,
    pub(super) due: Option<i64>,
    pub(super) reason: Option<&'static str>,
    pub(super) status: Option<u16>,
    pub(super) headers: Option<Bytes>,
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        match state {
            State::Running {
                deadline,
                run_until,
                after_failure,
                starter,
            } => Self {
                deadline: Some(deadline.as_millis()),
                run_until: Some(run_until.as_millis()),
                after_failure: Some(after_failure.as_str()),
                starter: Some(starter.as_str()),
                ..Self::ended(None, None)
            },
            State::Waiting { due } => Self {
                due: Some(due.as_millis()),
                ..Self::ended(None, None)
            },
            State::Unknown { cause, answer } => Self::ended(Some(cause.as_str()), answer.as_ref()),
            State::Done(outcome) => Self::done(outcome),
            State::Dead { reason, answer } => Self::ended(Some(reason.as_str()), answer.as_ref()),
        }
    }

    pub(super) fn done(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Answer(answer) => Self::ended(None, Some(answer)),
            Outcome::NotKept(reason) => Self::ended(Some(reason.as_str()), None),
        }
    }

    fn ended(reason: Option<&'static str>, answer: Option<&'a Answer>) -> Self {
        Self {
            deadline: None,
            run_until: None,
            after_failure: None,
            starter: None,
            due: None,
            reason,
            status: answer.map(|answer| answer.status),
            headers: answer.map(Answer::encode_headers),
            body: answer.map(|answer| &answer.body[..]),
        }
    }
}
