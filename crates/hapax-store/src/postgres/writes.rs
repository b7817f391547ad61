//! Decisions of the pure functions, written to the records that they were made on.

use hapax_core::{Amendment, Answer, Fence, NotKept, Outcome, Record, State, StateName, Timestamp};

use super::failure::Failure;
use super::link::Link;
use super::statements::WRITE;

/// A record as it was read, and what it is to become.
pub(super) struct Write<'a> {
    pub(super) before: &'a Record,
    pub(super) after: &'a Record,
    /// Whether it gets a new fence, so that no earlier attempt can finish it.
    pub(super) new_fence: bool,
    /// When the sweeper looks at it; `None` for when it would have anyway.
    pub(super) look_at: Option<Timestamp>,
    pub(super) audit: Option<Audited<'a>>,
}

/// The line that an amendment leaves.
pub(super) struct Audited<'a> {
    pub(super) amendment: &'a Amendment,
    pub(super) at: Timestamp,
    /// The state that the amendment met.
    pub(super) shown: StateName,
}

impl<'a> Write<'a> {
    /// A plain one: same fence, no audit.
    pub(super) fn new(before: &'a Record, after: &'a Record) -> Self {
        Self {
            before,
            after,
            new_fence: false,
            look_at: None,
            audit: None,
        }
    }
}

/// Carries writes out in one statement; each record at most once. Gives the fence of each record that was written;
/// `None` for those that changed since they were read.
pub(super) async fn write(link: &mut Link, writes: &[Write<'_>]) -> Result<Vec<Option<Fence>>, Failure> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    // In the order in which other statements lock their rows.
    let mut order: Vec<usize> = (0..writes.len()).collect();
    order.sort_unstable_by_key(|index| writes[*index].before.operation.id());
    let sorted: Vec<&Write<'_>> = order.iter().map(|index| &writes[*index]).collect();
    let columns = Columns::of(&sorted);
    let rows = send(link, &sorted, &columns).await?;
    let mut fences = vec![None; writes.len()];
    for (n, fence) in rows {
        fences[order[n]] = Some(fence);
    }
    Ok(fences)
}

/// What the columns of several statements are made of, kept while they are sent.
struct Columns {
    ids: Vec<hapax_core::OperationId>,
    headers: Vec<Option<bytes::Bytes>>,
    actors: Vec<Option<String>>,
    reasons: Vec<Option<String>>,
}

impl Columns {
    fn of(writes: &[&Write<'_>]) -> Self {
        let audited = |write: &&Write<'_>, of: fn(&Amendment) -> &str| {
            write.audit.as_ref().map(|audited| storable(of(audited.amendment)))
        };
        Self {
            ids: writes.iter().map(|write| write.before.operation.id()).collect(),
            headers: writes
                .iter()
                .map(|write| answer(&write.after.state).map(Answer::encode_headers))
                .collect(),
            actors: writes.iter().map(|write| audited(write, |a| &a.audit.actor)).collect(),
            reasons: writes.iter().map(|write| audited(write, |a| &a.audit.reason)).collect(),
        }
    }
}

/// A text that PostgreSQL keeps: it refuses a NUL.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn send(link: &mut Link, writes: &[&Write<'_>], columns: &Columns) -> Result<Vec<(usize, Fence)>, Failure> {
    fn column<'a, T>(writes: &[&'a Write<'a>], of: impl Fn(&'a Write<'a>) -> T) -> Vec<T> {
        writes.iter().map(|write| of(write)).collect()
    }
    let time = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
    let ids: Vec<&[u8]> = columns.ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let was_fences = column(writes, |w| w.before.fence.get() as i64);
    let was_states = column(writes, |w| w.before.state.name().as_str());
    let was_since = column(writes, |w| w.before.since.as_millis());
    let was_deadlines = column(writes, |w| time(deadline(&w.before.state)));
    let was_wake_at = column(writes, |w| time(w.before.wake_at));
    let new_fences = column(writes, |w| w.new_fence);
    let attempts = column(writes, |w| w.after.attempt.as_bytes().as_slice());
    let tries = column(writes, |w| i64::from(w.after.tries));
    let crashes = column(writes, |w| i64::from(w.after.crashes));
    let since = column(writes, |w| w.after.since.as_millis());
    let states = column(writes, |w| w.after.state.name().as_str());
    let deadlines = column(writes, |w| time(deadline(&w.after.state)));
    let run_until = column(writes, |w| match w.after.state {
        State::Running { run_until, .. } => Some(run_until.as_millis()),
        _ => None,
    });
    let after_failures = column(writes, |w| match w.after.state {
        State::Running { after_failure, .. } => Some(after_failure.as_str()),
        _ => None,
    });
    let starters = column(writes, |w| match w.after.state {
        State::Running { starter, .. } => Some(starter.as_str()),
        _ => None,
    });
    let dues = column(writes, |w| match w.after.state {
        State::Waiting { due } => Some(due.as_millis()),
        _ => None,
    });
    let reasons = column(writes, |w| reason(&w.after.state));
    let statuses = column(writes, |w| answer(&w.after.state).map(|a| i32::from(a.status)));
    let headers: Vec<Option<&[u8]>> = columns.headers.iter().map(Option::as_deref).collect();
    let bodies = column(writes, |w| answer(&w.after.state).map(|a| a.body.as_ref()));
    let errors = column(writes, |w| w.after.last_error.as_ref().map(|error| error.as_str()));
    let redriven = column(writes, |w| time(w.after.redriven));
    let wake_at = column(writes, |w| time(w.after.wake_at));
    let look_at = column(writes, |w| time(w.look_at));
    let keeps_input = column(writes, |w| w.after.input == w.before.input);
    let inputs = column(writes, |w| match &w.after.input {
        Some(input) if w.before.input.as_ref() != Some(input) => Some(input.0.as_ref()),
        _ => None,
    });
    let at = column(writes, |w| w.audit.as_ref().map(|audited| audited.at.as_millis()));
    let actions = column(writes, |w| w.audit.as_ref().map(|a| a.amendment.amend.as_str()));
    let shown = column(writes, |w| w.audit.as_ref().map(|audited| audited.shown.as_str()));
    let rows = link
        .run(
            &WRITE,
            &[
                &ids,
                &was_fences,
                &was_states,
                &was_since,
                &was_deadlines,
                &was_wake_at,
                &new_fences,
                &attempts,
                &tries,
                &crashes,
                &since,
                &states,
                &deadlines,
                &run_until,
                &after_failures,
                &starters,
                &dues,
                &reasons,
                &statuses,
                &headers,
                &bodies,
                &errors,
                &redriven,
                &wake_at,
                &look_at,
                &keeps_input,
                &inputs,
                &at,
                &actions,
                &columns.actors,
                &columns.reasons,
                &shown,
            ],
        )
        .await?;
    let written = rows.iter().map(|row| {
        let (n, fence): (i64, i64) = (row.get(0), row.get(1));
        (n as usize - 1, Fence::new(fence as u64))
    });
    Ok(written.collect())
}

/// End of the lease.
pub(super) fn deadline(state: &State) -> Option<Timestamp> {
    match state {
        State::Running { deadline, .. } => Some(*deadline),
        _ => None,
    }
}

fn reason(state: &State) -> Option<&'static str> {
    match state {
        State::Unknown { cause, .. } => Some(cause.as_str()),
        State::Done(Outcome::NotKept(why)) => Some(NotKept::as_str(*why)),
        State::Dead { reason, .. } => Some(reason.as_str()),
        State::Running { .. } | State::Waiting { .. } | State::Done(Outcome::Answer(_)) => None,
    }
}

fn answer(state: &State) -> Option<&Answer> {
    match state {
        State::Unknown { answer, .. } | State::Dead { answer, .. } => answer.as_ref(),
        State::Done(Outcome::Answer(answer)) => Some(answer),
        State::Running { .. } | State::Waiting { .. } | State::Done(Outcome::NotKept(_)) => None,
    }
}
