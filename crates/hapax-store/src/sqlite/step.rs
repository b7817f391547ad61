//! Each step of the contract, carried out inside the writer's transaction. What is to happen is decided by
//! `hapax-core`; here the decision is written down, and every statement is guarded by what it was decided on.

use std::time::Duration;

use hapax_core::decide::{Verdict, decide};
use hapax_core::record::{FinishVerdict, RenewVerdict, Tended};
use hapax_core::{
    Amend, Amended, Claim, Claimed, Fence, Finish, Finished, Lease, OperationId, RecipeId, Record, Renewed, Ruling,
    State, StateName, Swept, Timestamp,
};
use rusqlite::params;

use super::failure::{Failure, Outcome};
use super::namespaces::Namespaces;
use super::row::{self, Columns};
use super::statements::Statements;

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
        let Some((position, record)) = self.record(claim.operation.id())? else {
            return Err(Failure::guard("claim_fresh"));
        };
        let ruling = match decide(Some(&record), claim, now) {
            Verdict::Run => Ruling::Won(self.claim_again(position, &record, claim)?),
            Verdict::Resume(lease) => Ruling::Won(lease),
            Verdict::Lapse(lapsed) => {
                self.become_state(position, &record, &lapsed)?;
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
            Record::first_look(claim, self.now).as_millis(),
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
            Record::first_look(claim, self.now).as_millis(),
        ])?;
        self.wrote(updated, "claim_again")?;
        self.last_fence = fence;
        Ok(lease)
    }

    pub(super) fn renew(&mut self, id: OperationId, fence: Fence, lease: Duration) -> Outcome<Renewed> {
        let Some((position, record)) = self.record(id)? else {
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
        // The holder of a first claim, still running, is at the position of its fence: whatever it reports, `finish`
        // lets it become that, so that nothing need be read.
        let first = Guard {
            position: number(fence),
            id,
            fence,
            state: StateName::Running,
        };
        if self.try_become(&first, &finish.state(now), now)? == 1 {
            return Ok(Finished::Applied { now });
        }
        let Some((position, record)) = self.record(id)? else {
            return Ok(Finished::Fenced { now, record: None });
        };
        Ok(match record.finish(fence, finish, now) {
            FinishVerdict::Becomes(next) => {
                self.become_state(position, &record, &next)?;
                Finished::Applied { now }
            }
            FinishVerdict::Already => Finished::Already {
                now,
                record: Box::new(record),
            },
            FinishVerdict::Fenced => Finished::Fenced {
                now,
                record: Some(Box::new(record)),
            },
        })
    }

    pub(super) fn amend(&mut self, id: OperationId, amend: &Amend) -> Outcome<Amended> {
        let Some((position, record)) = self.record(id)? else {
            return Ok(Amended::Absent);
        };
        let amended = record.amend(amend, self.now);
        if amended == Amended::Forgotten {
            self.forget(position, &record)?;
        }
        Ok(amended)
    }

    /// Tends at most `limit` records whose time came at `until`.
    pub(super) fn sweep(&mut self, limit: usize, until: Timestamp) -> Outcome<Swept> {
        let mut swept = Swept::default();
        for (position, record) in self.due(limit, until)? {
            swept.looked_at += 1;
            match record.tend(self.now) {
                Tended::Keep(look) => {
                    let updated = self.sql.look_again.execute(params![position, look.as_millis()])?;
                    self.wrote(updated, "look_again")?;
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

    fn record(&mut self, id: OperationId) -> Outcome<Option<(i64, Record)>> {
        let mut rows = self.sql.record.query([id.as_bytes()])?;
        rows.next()?.map(row::record).transpose()
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

    fn become_state(&mut self, position: i64, before: &Record, next: &Record) -> Outcome<()> {
        let guard = Guard {
            position,
            id: before.operation.id(),
            fence: before.fence,
            state: before.state.name(),
        };
        let updated = self.try_become(&guard, &next.state, next.since)?;
        self.wrote(updated, "become")
    }

    fn try_become(&mut self, guard: &Guard, state: &State, since: Timestamp) -> Outcome<usize> {
        let columns = Columns::of(state);
        let updated = self.sql.become_state.execute(params![
            guard.position,
            guard.id.as_bytes(),
            number(guard.fence),
            guard.state.as_str(),
            state.name().as_str(),
            since.as_millis(),
            columns.due,
            columns.reason,
            columns.status,
            columns.headers.as_deref(),
            columns.body,
        ])?;
        self.changed |= updated > 0;
        Ok(updated)
    }

    fn tend(&mut self, position: i64, before: &Record, next: &Record, look: Timestamp) -> Outcome<()> {
        let updated = self.sql.tend.execute(params![
            position,
            number(before.fence),
            before.state.name().as_str(),
            next.state.name().as_str(),
            next.since.as_millis(),
            Columns::of(&next.state).reason,
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

/// What an update was decided on.
struct Guard {
    position: i64,
    id: OperationId,
    fence: Fence,
    state: StateName,
}

/// A fence as SQLite keeps it. One that no store ever gave out matches nothing.
fn number(fence: Fence) -> i64 {
    i64::try_from(fence.get()).unwrap_or(-1)
}

fn millis(duration: Duration) -> i64 {
    hapax_core::time::millis(duration)
}
