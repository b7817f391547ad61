//! What people and resolvers change, written down with who changed it.

use hapax_core::record::AmendVerdict;
use hapax_core::{Amended, Amendment, Fence, OperationId, Record, StateName};
use rusqlite::params;

use super::{Batch, Outcome, find};

impl Batch<'_, '_> {
    pub(in crate::sqlite) fn amend(&mut self, id: OperationId, amendment: &Amendment) -> Outcome<Amended> {
        let Some((position, record)) = find(&mut self.sql.record, id.as_bytes())? else {
            return Ok(Amended::Absent);
        };
        let fence = self.last_fence + 1;
        Ok(match record.amend(amendment, Fence::new(fence as u64), self.now) {
            AmendVerdict::Forget => {
                self.note(&record, amendment, None)?;
                self.forget(position, &record)?;
                Amended::Forgotten
            }
            AmendVerdict::Becomes(next) => {
                self.last_fence = fence;
                self.note(&record, amendment, Some(next.state.name()))?;
                self.write(position, &record, &next)?;
                self.pass_turn(position, &next)?;
                Amended::Became(next)
            }
            AmendVerdict::Refuse(state) => Amended::Refused(state),
            AmendVerdict::Changed(state) => Amended::Changed(state),
            AmendVerdict::Unsettled(until) => Amended::Unsettled(until),
        })
    }

    /// Adds a line to the audit.
    fn note(&mut self, before: &Record, amendment: &Amendment, after: Option<StateName>) -> Outcome<()> {
        let lapsed = before.lapsed(self.now);
        let state = lapsed.as_ref().unwrap_or(before).state.name();
        let operation = &before.operation;
        let added = self.sql.audit_add.execute(params![
            self.now.as_millis(),
            operation.id().as_bytes(),
            operation.scope().as_str(),
            operation.name().as_str(),
            operation.key().as_str(),
            amendment.amend.as_str(),
            amendment.audit.actor,
            amendment.audit.reason,
            state.as_str(),
            after.map(StateName::as_str),
        ])?;
        self.wrote(added, "audit_add")
    }
}
