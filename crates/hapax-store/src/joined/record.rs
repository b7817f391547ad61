//! From rows to records: the columns of `read.sql` (PostgreSQL) and of `record.sql` (SQLite).

use std::time::Duration;

use hapax_core::{
    AfterFailure, Answer, AttemptId, Cause, DeadReason, Fence, Fingerprint, Input, Key, LastError, Name, NotKept,
    Operation, OperationId, Outcome, RecipeId, Record, Retention, Scope, Starter, State, StateName, Timestamp,
};

use super::value::{Row, Wrong};

/// Where the parts of a record begin. Both databases show the same columns in the same order, but for the fence.
pub(super) struct Layout {
    /// Scope, name, key, recipe, fingerprint.
    pub(super) words: usize,
    pub(super) fence: usize,
    /// The attempt and all that follows it.
    pub(super) rest: usize,
}

const TRIES: usize = 1;
const CREATED: usize = 2;
const SINCE: usize = 3;
const REPLAY_FOR: usize = 4;
const REMEMBER_FOR: usize = 5;
const STATE: usize = 6;
const DEADLINE: usize = 7;
const RUN_UNTIL: usize = 8;
const AFTER_FAILURE: usize = 9;
const DUE: usize = 10;
const REASON: usize = 11;
const STATUS: usize = 12;
const HEADERS: usize = 13;
const BODY: usize = 14;
const STARTER: usize = 15;
const CRASHES: usize = 16;
const LAST_ERROR: usize = 17;
const REDRIVEN: usize = 18;
const WAKE_AT: usize = 19;
const INPUT: usize = 20;
const GROUP: usize = 21;

pub(super) fn record(row: &Row, layout: &Layout) -> Result<Record, Wrong> {
    let rest = Rest { row, at: layout.rest };
    let words = layout.words;
    let state = row.text(rest.at + STATE)?.and_then(StateName::parse);
    Ok(Record {
        operation: operation(row, words)?,
        fingerprint: Fingerprint::new(RecipeId::new(number(row, words + 3)?), row.digest(words + 4)?),
        fence: Fence::new(number(row, layout.fence)?),
        attempt: AttemptId::from_bytes(row.digest(rest.at)?),
        tries: number(row, rest.at + TRIES)?,
        crashes: number(row, rest.at + CRASHES)?,
        created: rest.must_time(CREATED)?,
        since: rest.must_time(SINCE)?,
        retention: Retention {
            replay_for: Duration::from_millis(number(row, rest.at + REPLAY_FOR)?),
            remember_for: Duration::from_millis(number(row, rest.at + REMEMBER_FOR)?),
        },
        input: row.bytes(rest.at + INPUT)?.map(|bytes| Input(bytes.clone())),
        last_error: row.text(rest.at + LAST_ERROR)?.map(LastError::new),
        redriven: rest.time(REDRIVEN)?,
        group: match row.bytes(rest.at + GROUP)? {
            Some(_) => Some(OperationId::from_bytes(row.digest(rest.at + GROUP)?)),
            None => None,
        },
        wake_at: rest.time(WAKE_AT)?,
        state: rest.state(state.ok_or("an unknown state")?)?,
    })
}

fn operation(row: &Row, at: usize) -> Result<Operation, Wrong> {
    let word = |column| row.text(column)?.ok_or("a missing word");
    Ok(Operation::new(
        Scope::new(word(at)?).map_err(|_| "an invalid scope")?,
        Name::new(word(at + 1)?).map_err(|_| "an invalid name")?,
        Key::new(word(at + 2)?).map_err(|_| "an invalid key")?,
    ))
}

fn number<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, Wrong> {
    T::try_from(row.must_int(column)?).map_err(|_| "a number out of range")
}

struct Rest<'a> {
    row: &'a Row,
    at: usize,
}

impl Rest<'_> {
    fn time(&self, column: usize) -> Result<Option<Timestamp>, Wrong> {
        Ok(self.row.int(self.at + column)?.map(Timestamp::from_millis))
    }

    fn must_time(&self, column: usize) -> Result<Timestamp, Wrong> {
        self.time(column)?.ok_or("a missing time")
    }

    fn word<T>(&self, column: usize, parse: fn(&str) -> Option<T>) -> Result<T, Wrong> {
        let text = self.row.text(self.at + column)?;
        text.and_then(parse).ok_or("a word that does not fit its state")
    }

    fn state(&self, name: StateName) -> Result<State, Wrong> {
        Ok(match name {
            StateName::Running => State::Running {
                deadline: self.must_time(DEADLINE)?,
                run_until: self.must_time(RUN_UNTIL)?,
                after_failure: self.word(AFTER_FAILURE, AfterFailure::parse)?,
                starter: self.word(STARTER, Starter::parse)?,
            },
            StateName::Waiting => State::Waiting {
                due: self.must_time(DUE)?,
            },
            StateName::Unknown => State::Unknown {
                cause: self.word(REASON, Cause::parse)?,
                answer: self.answer()?,
            },
            StateName::Done => State::Done(match self.answer()? {
                Some(answer) => Outcome::Answer(answer),
                None => Outcome::NotKept(self.word(REASON, NotKept::parse)?),
            }),
            StateName::Dead => State::Dead {
                reason: self.word(REASON, DeadReason::parse)?,
                answer: self.answer()?,
            },
        })
    }

    fn answer(&self) -> Result<Option<Answer>, Wrong> {
        let Some(status) = self.row.int(self.at + STATUS)? else {
            return Ok(None);
        };
        let status = u16::try_from(status).map_err(|_| "a status out of range")?;
        let bytes = |column| self.row.bytes(self.at + column)?.ok_or("half an answer");
        let answer = Answer::decode(status, bytes(HEADERS)?, bytes(BODY)?.clone());
        answer.map(Some).ok_or("broken headers")
    }
}
