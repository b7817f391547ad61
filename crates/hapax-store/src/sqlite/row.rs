//! Rows and records.

use std::time::Duration;

use bytes::Bytes;
use hapax_core::record::{AfterFailure, Cause, DeadReason};
use hapax_core::{
    Answer, AttemptId, Fence, Fingerprint, Key, Name, NotKept, Operation, Outcome, RecipeId, Record, Retention, Scope,
    State, StateName, Timestamp,
};
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::failure::{self, Failure};

/// Reads a row of `record.sql`, `due.sql` or `list.sql`: the position and the record. Where the statement left the
/// answer out, the record's answer has its status and no bytes.
pub(super) fn record(row: &Row<'_>) -> failure::Outcome<(i64, Record)> {
    let position: i64 = row.get(0)?;
    let wrong = |what: &str| Failure::corrupt(format!("the record at position {position} has {what}"));
    let operation = Operation::new(
        Scope::new(row.get::<_, Box<str>>(2)?).map_err(|error| wrong(&error.to_string()))?,
        Name::new(row.get::<_, Box<str>>(3)?).map_err(|error| wrong(&error.to_string()))?,
        Key::new(row.get::<_, Box<str>>(4)?).map_err(|error| wrong(&error.to_string()))?,
    );
    let record = Record {
        operation,
        fence: Fence::new(row.get::<_, i64>(1)? as u64),
        fingerprint: Fingerprint::new(RecipeId::new(row.get(5)?), row.get(6)?),
        attempt: AttemptId::from_bytes(row.get(7)?),
        tries: row.get(8)?,
        created: time(row, 9)?,
        since: time(row, 10)?,
        retention: Retention {
            replay_for: duration(row, 11)?,
            remember_for: duration(row, 12)?,
        },
        state: state(row)?.ok_or_else(|| wrong("a state that does not agree with its columns"))?,
    };
    Ok((position, record))
}

fn state(row: &Row<'_>) -> failure::Outcome<Option<State>> {
    let Some(name) = word(row, 13, StateName::parse)? else {
        return Ok(None);
    };
    Ok(match name {
        StateName::Running => {
            let (deadline, run_until) = (time(row, 14)?, time(row, 15)?);
            word(row, 16, AfterFailure::parse)?.map(|after_failure| State::Running {
                deadline,
                run_until,
                after_failure,
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

/// The columns of a state that is not running.
pub(super) struct Columns<'a> {
    pub(super) due: Option<i64>,
    pub(super) reason: Option<&'static str>,
    pub(super) status: Option<u16>,
    pub(super) headers: Option<Bytes>,
    pub(super) body: Option<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let (due, reason, answer) = match state {
            State::Running { .. } => (None, None, None),
            State::Waiting { due } => (Some(due.as_millis()), None, None),
            State::Unknown { cause, answer } => (None, Some(cause.as_str()), answer.as_ref()),
            State::Done(Outcome::Answer(answer)) => (None, None, Some(answer)),
            State::Done(Outcome::NotKept(reason)) => (None, Some(reason.as_str()), None),
            State::Dead { reason, answer } => (None, Some(reason.as_str()), answer.as_ref()),
        };
        Self {
            due,
            reason,
            status: answer.map(|answer| answer.status),
            headers: answer.map(Answer::encode_headers),
            body: answer.map(|answer| &answer.body[..]),
        }
    }
}
