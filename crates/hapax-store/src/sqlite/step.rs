//! Each step of the contract, carried out inside the writer's transaction. What is to happen is decided by
//! `hapax-core`; here the decision is written down, and every statement is guarded by what it was decided on.

mod amending;
mod queue;

use std::time::Duration;

use hapax_core::answer::Outcome as Done;
use hapax_core::decide::{Verdict, decide};
use hapax_core::record::{FinishVerdict, RenewVerdict, Tended};
use hapax_core::{
    Claim, Claimed, Fence, Finish, Finished, Input, Lease, OperationId, RecipeId, Record, Renewed, Ruling, State,
    Swept, Timestamp,
};
use rusqlite::{Statement, ToSql, params};

use super::failure::{Failure, Outcome};
use super::namespaces::Namespaces;
use super::row::{self, Columns};
use super::statements::Statements;
pub(super) use queue::{Portion, Spot};

/// A transaction of the writer.
pub(super) struct Batch<'b, 'c> {
    pub(super) sql: &'b mut Statements<'c>,
    pub(super) namespaces: &'b mut Namespaces,
    /// The store's time, one for the whole batch.
    pub(super) now: Timestamp,
    pub(super) last_fence: i64,
    /// Whether anything was written.
    pub(super) changed: bool,
}

impl Batch<'_, '_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Outcome<Claimed> {
        let now = self.now;
        // Most claims are first ones. Should the row be there, the insertion does nothing and the record decides.
        if let Some(lease) = self.claim_fresh(claim)? {
            return Ok(Claimed {
                now,
                ruling: Ruling::Won(lease),
            });
        }
        let Some((position, record)) = find(&mut self.sql.known, claim.operation.id().as_bytes())? else {
            return Err(Failure::guard("claim_fresh"));
        };
        let ruling = match decide(Some(&record), claim, now) {
            Verdict::Run => Ruling::Won(self.claim_again(position, &record, claim)?),
            Verdict::Resume(lease) => Ruling::Won(lease),
            Verdict::Lapse(lapsed) => {
                self.write(position, &record, &lapsed)?;
                Ruling::Refused(lapsed.refusal(now))
            }
            Verdict::Refuse(refusal) => Ruling::Refused(refusal),
        };
        Ok(Claimed { now, ruling })
    }

    fn claim_fresh(&mut self, claim: &Claim) -> Outcome<Option<Lease>> {
        let fence = self.last_fence + 1;
        let (record, lease) = Record::started(None, claim, Fence::new(fence as u64), self.now);
        let operation = &record.operation;
        let inserted = self.sql.claim_fresh.execute(params![
            fence,
            operation.id().as_bytes(),
            operation.scope().as_str(),
            operation.name().as_str(),
            operation.key().as_str(),
            record.fingerprint.recipe().get(),
            record.fingerprint.digest(),
            record.attempt.as_bytes(),
            record.tries,
            record.created.as_millis(),
            millis(record.retention.replay_for),
            millis(record.retention.remember_for),
            lease.deadline.as_millis(),
            lease.run_until.as_millis(),
            claim.after_failure.as_str(),
            claim.starter.as_str(),
            record.wake_at.map(Timestamp::as_millis),
            Record::first_look(claim, self.now).as_millis(),
            bytes(claim.input.as_ref()),
            claim.group.as_ref().map(OperationId::as_bytes),
        ])?;
        if inserted == 0 {
            return Ok(None);
        }
        self.last_fence = fence;
        self.changed = true;
        self.namespaces.add(&record.operation, self.sql)?;
        Ok(Some(lease))
    }

    fn claim_again(&mut self, position: i64, before: &Record, claim: &Claim) -> Outcome<Lease> {
        let fence = self.last_fence + 1;
        let (record, lease) = Record::started(Some(before), claim, Fence::new(fence as u64), self.now);
        let updated = self.sql.claim_again.execute(params![
            position,
            number(before.fence),
            before.state.name().as_str(),
            fence,
            record.attempt.as_bytes(),
            record.tries,
            record.since.as_millis(),
            millis(record.retention.replay_for),
            millis(record.retention.remember_for),
            lease.deadline.as_millis(),
            lease.run_until.as_millis(),
            claim.after_failure.as_str(),
            claim.starter.as_str(),
            record.wake_at.map(Timestamp::as_millis),
            Record::first_look(claim, self.now).as_millis(),
            bytes(claim.input.as_ref()),
        ])?;
        self.wrote(updated, "claim_again")?;
        self.last_fence = fence;
        Ok(lease)
    }

    pub(super) fn renew(&mut self, id: OperationId, fence: Fence, lease: Duration) -> Outcome<Renewed> {
        let Some((position, record)) = find(&mut self.sql.summary, id.as_bytes())? else {
            return Ok(Renewed::Fenced);
        };
        Ok(match record.renew(fence, lease, self.now) {
            RenewVerdict::Until(until) => {
                let updated = self
                    .sql
                    .renew
                    .execute(params![position, number(fence), until.as_millis()])?;
                self.wrote(updated, "renew")?;
                Renewed::Until(until)
            }
            RenewVerdict::Over => Renewed::Over,
            RenewVerdict::Fenced => Renewed::Fenced,
        })
    }

    pub(super) fn finish(&mut self, id: OperationId, fence: Fence, finish: &Finish) -> Outcome<Finished> {
        let now = self.now;
        if let Finish::Done(outcome) = finish
            && self.finish_first(id, fence, outcome)?
        {
            return Ok(Finished::Applied { now });
        }
        // Without the input, which can be large, as long as nobody has to be told of it.
        let Some((position, record)) = find(&mut self.sql.summary, id.as_bytes())? else {
            return Ok(Finished::Fenced { now, record: None });
        };
        let verdict = record.finish(fence, finish, now);
        if let FinishVerdict::Becomes(next) = verdict {
            self.write(position, &record, &next)?;
            self.pass_turn(position, &next)?;
            return Ok(Finished::Applied { now });
        }
        let Some((_, record)) = find(&mut self.sql.record, id.as_bytes())? else {
            return Err(Failure::guard("record"));
        };
        let record = Box::new(record);
        Ok(match verdict {
            FinishVerdict::Already => Finished::Already { now, record },
            _ => Finished::Fenced {
                now,
                record: Some(record),
            },
        })
    }

    /// Whether the holder of a first claim, still running and of no group, has thereby done it. It is at the position of its fence, and
    /// `finish` lets it become done whatever else the record says, so that nothing need be read.
    fn finish_first(&mut self, id: OperationId, fence: Fence, outcome: &Done) -> Outcome<bool> {
        let columns = Columns::done(outcome);
        let updated = self.sql.finish_first.execute(params![
            number(fence),
            id.as_bytes(),
            number(fence),
            self.now.as_millis(),
            columns.reason,
            columns.status,
            columns.headers.as_deref(),
            columns.body,
        ])?;
        self.changed |= updated > 0;
        Ok(updated > 0)
    }

    /// Wakes the next of the group of a record that is done.
    fn pass_turn(&mut self, position: i64, record: &Record) -> Outcome<()> {
        if let Some(group) = record.group.filter(|_| record.is_done()) {
            let now = self.now.as_millis();
            self.sql.pass_turn.execute(params![group.as_bytes(), position, now])?;
        }
        Ok(())
    }

    /// Makes every later fence higher than this one.
    pub(super) fn raise_fence(&mut self, at_least: Fence) {
        self.last_fence = self.last_fence.max(number(at_least));
        self.changed = true;
    }

    /// Tends at most `limit` records whose time came at `until`.
    pub(super) fn sweep(&mut self, limit: usize, until: Timestamp) -> Outcome<Swept> {
        let mut swept = Swept::default();
        for (position, record) in self.due(limit, until)? {
            swept.looked_at += 1;
            match record.tend(self.now) {
                Tended::Keep(look) => {
                    self.look_again(position, look)?;
                }
                Tended::Becomes(next, look) => {
                    match next.state {
                        State::Unknown { .. } => swept.lapsed += 1,
                        _ => swept.stripped += 1,
                    }
                    self.tend(position, &record, &next, look)?;
                }
                Tended::Forget => {
                    swept.forgotten += 1;
                    self.forget(position, &record)?;
                }
            }
        }
        Ok(swept)
    }

    pub(super) fn recipe(&mut self, text: &str) -> Outcome<RecipeId> {
        let known = self.sql.recipe_find.query_row([text], |row| row.get(0));
        let number = match known {
            Err(rusqlite::Error::QueryReturnedNoRows) => {
                self.changed = true;
                self.sql.recipe_add.query_row([text], |row| row.get(0))
            }
            other => other,
        };
        Ok(RecipeId::new(number?))
    }

    fn due(&mut self, limit: usize, until: Timestamp) -> Outcome<Vec<(i64, Record)>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = self.sql.due.query(params![until.as_millis(), limit])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            due.push(row::record(row)?);
        }
        Ok(due)
    }

    /// Writes a record as it was decided to be. Neither need have its input's bytes, unless the next one's is new.
    fn write(&mut self, position: i64, before: &Record, next: &Record) -> Outcome<()> {
        let columns = Columns::of(&next.state);
        let keeps_input = before.input.is_some() && next.input.is_some();
        let new_input = next.input.as_ref().filter(|_| !keeps_input);
        let updated = self.sql.write.execute(params![
            position,
            number(before.fence),
            before.state.name().as_str(),
            number(next.fence),
            next.attempt.as_bytes(),
            next.state.name().as_str(),
            next.since.as_millis(),
            columns.deadline,
            columns.run_until,
            columns.after_failure,
            columns.starter,
            columns.due,
            columns.reason,
            columns.status,
            columns.headers.as_deref(),
            columns.body,
            next.tries,
            next.crashes,
            next.last_error.as_ref().map(|error| error.as_str()),
            next.redriven.map(Timestamp::as_millis),
            next.wake_at.map(Timestamp::as_millis),
            keeps_input,
            bytes(new_input),
        ])?;
        self.wrote(updated, "write")
    }

    fn look_again(&mut self, position: i64, look: Timestamp) -> Outcome<()> {
        let updated = self.sql.look_again.execute(params![position, look.as_millis()])?;
        self.wrote(updated, "look_again")
    }

    fn tend(&mut self, position: i64, before: &Record, next: &Record, look: Timestamp) -> Outcome<()> {
        let updated = self.sql.tend.execute(params![
            position,
            number(before.fence),
            before.state.name().as_str(),
            next.state.name().as_str(),
            next.since.as_millis(),
            Columns::of(&next.state).reason,
            next.wake_at.map(Timestamp::as_millis),
            look.as_millis(),
        ])?;
        self.wrote(updated, "tend")
    }

    fn forget(&mut self, position: i64, record: &Record) -> Outcome<()> {
        let state = record.state.name().as_str();
        let deleted = self
            .sql
            .forget
            .execute(params![position, number(record.fence), state])?;
        self.wrote(deleted, "forget")
    }

    fn wrote(&mut self, rows: usize, statement: &str) -> Outcome<()> {
        if rows != 1 {
            return Err(Failure::guard(statement));
        }
        self.changed = true;
        Ok(())
    }
}

/// The position and record that a statement finds by one value.
fn find(statement: &mut Statement<'_>, by: impl ToSql) -> Outcome<Option<(i64, Record)>> {
    let mut rows = statement.query([by])?;
    rows.next()?.map(row::record).transpose()
}

/// A fence as SQLite keeps it. One that no store ever gave out matches nothing.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(-1)
}

fn bytes(input: Option<&Input>) -> Option<&[u8]> {
    input.map(|input| &input.0[..])
}

fn millis(duration: Duration) -> i64 {
    hapax_core::time::millis(duration)
}
