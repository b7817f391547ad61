//! The columns that a state has, for statements of either database.

use bytes::Bytes;
use hapax_core::{Answer, Outcome, State};

pub(super) struct Columns<'a> {
    pub(super) deadline: Option<i64>,
    pub(super) run_until: Option<i64>,
    pub(super) after_failure: Option<&'static str>,
    pub(super) starter: Option<&'static str>,
    pub(super) due: Option<i64>,
    pub(super) reason: Option<&'static str>,
    pub(super) status: Option<i64>,
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
            State::Done(Outcome::Answer(answer)) => Self::ended(None, Some(answer)),
            State::Done(Outcome::NotKept(reason)) => Self::ended(Some(reason.as_str()), None),
            State::Dead { reason, answer } => Self::ended(Some(reason.as_str()), answer.as_ref()),
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
            status: answer.map(|answer| i64::from(answer.status)),
            headers: answer.map(Answer::encode_headers),
            body: answer.map(|answer| &answer.body[..]),
        }
    }
}
